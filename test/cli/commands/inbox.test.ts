/** `grooveway inbox` and `grooveway recv --forward`: a webhook that reaches a laptop. */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { before, describe, it } from "node:test";
import { FORWARD_FAILURES } from "../../../src/cli/http/request-forwarder.ts";
import type { LocalEdge } from "../../../src/cli/local-edge/local-edge.ts";
import { post, signedByGitHub } from "../../edge/inboxes/support.ts";
import { afterAll, fresh, startEdge } from "../../edge/mailbox/support.ts";
import { eventually } from "../../support/watch.ts";
import { folder, runHere, start } from "../support.ts";

let edge: LocalEdge;
const all = afterAll();
before(async () => {
  edge = await startEdge(all);
});

const inbox = (...args: string[]) => runHere(["inbox", ...args, "--edge", edge.url]);

describe("grooveway inbox", () => {
  it("makes an inbox, shows its URL and a secret once, and lists it without them", async () => {
    const bob = `${fresh("bob")}/pc`;
    const made = await inbox("create", bob, "--verify", "github");
    assert.equal(made.code, 0, made.stderr);
    const [url = ""] = /^http\S+\/in\/\S{64}$/m.exec(made.stdout) ?? [];
    const [secret = ""] = /^[0-9a-f]{64}$/m.exec(made.stdout) ?? [];
    assert.ok(url !== "" && secret !== "", made.stdout);
    assert.equal((await post(url, "{}", signedByGitHub(secret, "{}", "1"))).status, 202);
    const listed = await inbox("ls", bob);
    assert.match(listed.stdout, /^github {2}github, URL \.\.\.\S{4}, 1 stored, the last 20\d\d-/);
    assert.ok(!listed.stdout.includes(secret) && !listed.stdout.includes(url.slice(-10)));
    const json = await inbox("ls", bob, "--json");
    assert.equal(JSON.parse(json.stdout).stored, 1);
  });

  it("rotates the secret and the URL, and removes the inbox", async (t) => {
    const bob = fresh("bob");
    const file = join(await folder(t), "secret");
    await writeFile(file, "a secret in a file\n");
    const made = await inbox("create", bob, "hooks", "--verify", "stripe", "--json");
    const { url, secrets } = JSON.parse(made.stdout);
    assert.equal(secrets, 0);
    assert.match(
      (await inbox("rotate", bob, "hooks")).stderr,
      /the provider makes the secret of stripe: .* \[Usage\]$/m,
    );
    const rotated = await inbox("rotate", bob, "hooks", "--secret", `@${file}`, "--keep", "0s");
    assert.match(rotated.stdout, /has another secret; the former one ends at once/);
    const moved = JSON.parse((await inbox("rotate", bob, "hooks", "--url", "--json")).stdout);
    assert.notEqual(moved.url, url);
    assert.equal((await post(url, "x")).code, "UnknownInbox");
    assert.equal((await post(moved.url, "x")).code, "SignatureMissing");
    assert.match((await inbox("ls", bob)).stdout, /1 refused, the last for SignatureMissing/);
    assert.equal((await inbox("rm", bob, "hooks")).code, 0);
    assert.match((await inbox("rm", bob, "hooks")).stderr, /There is no inbox of this name\. .* \[UnknownInbox\]$/m);
    assert.equal((await post(moved.url, "x")).code, "UnknownInbox");
  });

  it("answers as it is told", async () => {
    const bob = fresh("bob");
    for (const [options, status, body] of [
      [["--answer", "ok"], 200, "ok"],
      [["--answer", '{"ok":true}', "--answer-status", "201"], 201, '{"ok":true}'],
      [["--answer-status", "204"], 204, ""],
    ] as const) {
      const made = await inbox("create", bob, `n${status}`, "--verify", "none", ...options, "--json");
      const { url } = JSON.parse(made.stdout);
      const answer = await post(url, "x");
      assert.deepEqual([answer.status, answer.text], [status, body]);
    }
  });

  for (const [what, args] of [
    ["nothing", []],
    ["an unknown word", ["make", "bob"]],
    ["no address", ["create"]],
    ["no verification", ["create", "bob"]],
    ["an address that is none", ["ls", "a/b/c"]],
    ["a size that is no number", ["create", "bob", "--verify", "none", "--max-size", "big"]],
    ["two secrets at once", ["rotate", "bob", "x", "--url", "--secret", "12345678"]],
    ["a time that is none", ["rotate", "bob", "x", "--keep", "soon"]],
    ["no name", ["rm", "bob"]],
    ["no numbers", ["replay", "bob"]],
    ["numbers and all", ["replay", "bob", "1", "--all"]],
    ["a number that is none", ["rm", "bob", "--failed", "x"]],
    ["all inboxes", ["rm", "bob", "--all"]],
  ] as const) {
    it(`with ${what} says what to write`, async () => {
      const { code, stderr } = await inbox(...args);
      assert.deepEqual([code, /see grooveway inbox --help \[Usage\]$/m.test(stderr)], [2, true], stderr);
    });
  }
});

describe("grooveway recv --forward", () => {
  it("sends requests to a local server, sets aside what fails, and forwards it again when it is replayed", async (t) => {
    const bob = `${fresh("bob")}/laptop`;
    const { url } = JSON.parse((await inbox("create", bob, "--verify", "none", "--json")).stdout);
    await post(`${url}/good?x=1`, "good body");
    await post(`${url}/bad`, "bad body");
    const came: string[] = [];
    let isBroken = true;
    const server = createServer(async (request, response) => {
      const body = (await buffer(request)).toString();
      came.push(`${request.method} ${request.url} ${body}`);
      response.writeHead(isBroken && request.url === "/hooks/bad" ? 500 : 200).end();
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    t.after(() => server.close());
    const address = server.address();
    assert.ok(address !== null && typeof address === "object");
    const to = `http://127.0.0.1:${address.port}/hooks`;
    const recv = start(t, ["recv", "--edge", edge.url, "--as", bob, "--forward", to, "--tries", "2", "--json"]);
    const forwarded = JSON.parse((await recv.line(/^\{"event":"forwarded".*$/m))[0]);
    assert.deepEqual([forwarded.inbox, forwarded.target, forwarded.status], ["none", "POST /good?x=1", 200]);
    const aside = JSON.parse((await recv.line(/^\{"event":"setAside".*$/m))[0]);
    assert.deepEqual([aside.reason, aside.tries], ["AnsweredOther", 2]);
    assert.deepEqual(came, ["POST /hooks/good?x=1 good body", "POST /hooks/bad bad body", "POST /hooks/bad bad body"]);
    const failed = await inbox("ls", bob, "--failed");
    const [, number = ""] =
      /^(\d+) {2}none {2}POST \/bad, .* after 2 tries, .* \[AnsweredOther\]$/m.exec(failed.stdout) ?? [];
    assert.notEqual(number, "", failed.stdout);
    isBroken = false;
    assert.equal((await inbox("replay", bob, number)).stdout, "put back 1 of the requests that were set aside\n");
    await eventually(() => came.length === 4, "the replayed request");
    assert.equal((await inbox("ls", bob, "--failed")).stdout, "");
    recv.process.kill("SIGINT");
    const { code } = await recv.finished;
    assert.equal(code, 0);
  });

  it("goes on while the server is not there, and other messages arrive meanwhile", async (t) => {
    const bob = `${fresh("bob")}/laptop`;
    const { url } = JSON.parse((await inbox("create", bob, "--verify", "none", "--json")).stdout);
    await post(url, "x");
    const out = await folder(t);
    const forward = ["--forward", "http://127.0.0.1:1/"];
    const recv = start(t, ["recv", "--edge", edge.url, "--as", bob, ...forward, "--out", out]);
    const sent = await start(t, ["send", "--edge", edge.url, "--as", "alice/pc", bob, "-", "--name", "a.txt"], "hello")
      .finished;
    assert.equal(sent.code, 0, sent.stderr);
    await recv.line(/^received .*\/a\.txt from alice\/pc/m);
    recv.process.kill("SIGTERM");
    const { stderr } = await recv.finished;
    assert.match(stderr, /none: POST \/: the server cannot be reached .*; trying again/);
  });

  for (const [what, args] of [
    ["a URL that is none", ["--forward", "localhost:3000"]],
    ["a URL with a query", ["--forward", "http://localhost:3000/?a"]],
    ["no URL", ["--strict-order"]],
    ["tries without a URL", ["--tries", "3"]],
    ["tries in strict order", ["--forward", "http://localhost:3000", "--strict-order", "--tries", "3"]],
    ["too many tries", ["--forward", "http://localhost:3000", "--tries", "1001"]],
    ["raw output", ["--forward", "http://localhost:3000", "--raw"]],
    ["two edges", ["--forward", "http://localhost:3000", "--edge", "http://127.0.0.2:1"]],
  ] as const) {
    it(`with ${what} says what to write`, async () => {
      const { code, stderr } = await runHere(["recv", "--edge", edge.url, "--as", "bob/pc", ...args]);
      assert.deepEqual([code, /see grooveway recv --help \[Usage\]$/m.test(stderr)], [2, true], stderr);
    });
  }
});

it("README lists why requests are set aside", async () => {
  const { readFile } = await import("node:fs/promises");
  const text = await readFile(new URL("../../../README.md", import.meta.url), "utf8");
  for (const [name, why] of Object.entries(FORWARD_FAILURES))
    assert.ok(text.includes(`| \`${name}\` | ${why} |`), name);
});
