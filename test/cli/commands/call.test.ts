/** `grooveway call` and `grooveway expose --http`. */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { buffer } from "node:stream/consumers";
import { before, describe, it, type TestContext } from "node:test";
import type { LocalEdge } from "../../../src/cli/local-edge/local-edge.ts";
import { afterAll, connect, fresh, startEdge } from "../../edge/mailbox/support.ts";
import { type Running, run, runHere, start } from "../support.ts";

let edge: LocalEdge;
const all = afterAll();
before(async () => {
  edge = await startEdge(all);
});

const call = (t: TestContext, ...args: string[]) => run(t, ["call", "--edge", edge.url, ...args], "from stdin");

/** A local server that tells what has come, exposed by a device. */
async function exposed(t: TestContext, address: string, ...allow: string[]): Promise<{ readonly command: Running }> {
  const server = createServer(async (request, response) => {
    const body = (await buffer(request)).toString();
    const { "idempotency-key": key, "grooveway-from": from } = request.headers;
    response.writeHead(request.url === "/v1/gone" ? 404 : 200, { "Content-Type": "application/json" });
    response.end(JSON.stringify({ method: request.method, url: request.url, body, from, key: typeof key }));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  const found = server.address();
  assert.ok(found !== null && typeof found === "object");
  const http = `api=http://127.0.0.1:${found.port}/v1`;
  const rules = allow.flatMap((pattern) => ["--allow", pattern]);
  const command = start(t, ["expose", "--edge", edge.url, "--as", address, "--http", http, ...rules]);
  await command.line(/api may be called, and is http:/);
  return { command };
}

describe("grooveway call", () => {
  it("prints the answer of an HTTP server behind another device", async (t) => {
    const [bob, alice] = [fresh("bob"), fresh("alice")];
    await exposed(t, `${bob}/pc`, alice);
    const got = await call(t, "--as", `${alice}/cli`, `${bob}:api`, "GET", "/status?x=1");
    assert.equal(got.code, 0, got.stderr);
    const expected = { method: "GET", url: "/v1/status?x=1", body: "", from: `${alice}/cli`, key: "string" };
    assert.deepEqual(JSON.parse(got.stdout), expected);
    const posted = await call(t, "--as", `${alice}/cli`, `${bob}/pc:api`, "/x", "--data", "-", "--json");
    const { status, from, text } = JSON.parse(posted.stdout);
    assert.deepEqual([status, from], [200, `${bob}/pc`]);
    assert.deepEqual([JSON.parse(text).method, JSON.parse(text).body], ["POST", "from stdin"]);
    const missing = await call(t, "--as", `${alice}/cli`, `${bob}:api`, "/gone");
    assert.equal(missing.code, 1);
    assert.match(missing.stderr, new RegExp(`${bob}:api answered 404 \\[AnsweredOther\\]`));
    assert.match(missing.stdout, /"\/v1\/gone"/);
  });

  it("is refused for callers that are not allowed, and for paths that leave the prefix", async (t) => {
    const [bob, alice] = [fresh("bob"), fresh("alice")];
    await exposed(t, `${bob}/pc`, alice);
    const other = await call(t, "--as", `${fresh("eve")}/pc`, `${bob}:api`, "/status");
    assert.match(other.stderr, /answered 403 /);
    assert.match(other.stdout, /\[CallerNotAllowed\]/);
    const out = await call(t, "--as", `${alice}/pc`, `${bob}:api`, "/../secret");
    assert.match(out.stderr, /answered 400 /);
    assert.match(out.stdout, /\[UnsafePath\]/);
  });

  it("waits for a device that comes later, up to the deadline", async (t) => {
    const bob = `${fresh("bob")}/pc`;
    const waiting = call(t, "--as", `${fresh("alice")}/pc`, `${bob}:api`, "/later", "--deadline", "1m");
    const late = await call(t, "--as", `${fresh("carol")}/pc`, `${bob}:api`, "/late", "--deadline", "1s");
    assert.equal(late.code, 3);
    assert.match(late.stderr, /has not answered within 1 s: .* \[NoAnswer\]/);
    const device = await connect(edge, bob, "websocket");
    const served: string[] = [];
    device.respond("api", ({ path }) => {
      served.push(path);
      return { body: "at last" };
    });
    assert.equal((await waiting).stdout, "at last");
    assert.deepEqual(served, ["/later"], "what is late is not run");
    await device.close();
  });

  for (const [what, args] of [
    ["no service", ["bob", "/x"]],
    ["no path", ["bob:api"]],
    ["a path without a slash", ["bob:api", "status"]],
    ["too much", ["bob:api", "GET", "/x", "y"]],
    ["a deadline that is none", ["bob:api", "/x", "--deadline", "0s"]],
    ["a header that is none", ["bob:api", "/x", "--header", "a b: c"]],
  ] as const) {
    it(`with ${what} says what to write`, async () => {
      const { code, stderr } = await runHere(["call", "--edge", edge.url, "--as", "alice/pc", ...args]);
      assert.equal(code, 2, stderr);
    });
  }
});

describe("grooveway expose --http", () => {
  for (const [what, args, expected] of [
    ["nobody who may call", ["--http", "api=http://localhost"], /--http needs --allow PATTERN/],
    ["callers and nothing to call", ["--allow", "alice", "ssh=127.0.0.1:22"], /--allow needs --http/],
    ["no name", ["--http", "http://localhost", "--allow", "*"], /write NAME=URL/],
    ["a name twice", ["--http", "a=http://x", "--http", "a=http://y", "--allow", "*"], /given twice/],
    ["a URL that is none", ["--http", "a=localhost:1", "--allow", "*"], /not a URL such as/],
    ["a pattern that is none", ["--http", "a=http://x", "--allow", "a/b/c"], /more than one \//],
  ] as const) {
    it(`with ${what} says what to write`, async () => {
      const { code, stderr } = await runHere(["expose", "--edge", edge.url, "--as", "bob/pc", ...args]);
      assert.equal(code, 2);
      assert.match(stderr, expected);
    });
  }

  it("answers 502 without details while its server is away", async (t) => {
    const bob = fresh("bob");
    const http = "api=http://127.0.0.1:1";
    const command = start(t, ["expose", "--edge", edge.url, "--as", `${bob}/pc`, "--http", http, "--allow", "*"]);
    await command.line(/may be called/);
    const { stdout, stderr } = await call(t, "--as", `${fresh("alice")}/pc`, `${bob}:api`, "/");
    assert.match(stderr, /answered 502 /);
    assert.equal(stdout, "the server behind this service cannot be reached [ServerUnreachable]\n");
  });
});
