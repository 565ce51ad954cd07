/** `grooveway expose --socks` and `grooveway forward --socks`: programs that use SOCKS reach what is listed. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import { connect } from "node:net";
import { before, describe, it, type TestContext } from "node:test";
import type { LocalEdge } from "../../../src/cli/local-edge/local-edge.ts";
import { REPLIES } from "../../../src/cli/streams/socks-server.ts";
import { afterAll, startEdge } from "../../edge/mailbox/support.ts";
import { folder, run, start } from "../support.ts";

const MIB = 1024 * 1024;

/** A web server with one page, on loopback. */
async function web(t: TestContext, page: Uint8Array): Promise<number> {
  const server = createServer((_, response) => response.end(page));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  return (server.address() as { port: number }).port;
}

let count = 0;

/** Exposes `list`, and resolves with the port of the proxy that another user has. */
async function proxy(t: TestContext, edge: string, list: readonly string[]) {
  const [mine, theirs] = await Promise.all([folder(t), folder(t)]);
  const env = { XDG_CONFIG_HOME: mine };
  const fingerprint = (await run(t, ["id"], undefined, env)).stdout.trim();
  count += 1;
  const office = `office/socks${count}`;
  const expose = start(
    t,
    ["expose", "--edge", edge, "--as", office, "--transport", "websocket", "--trust", `alice=${fingerprint}`, ...list],
    undefined,
    { XDG_CONFIG_HOME: theirs },
  );
  await expose.line(/office\/socks/);
  const forward = start(
    t,
    ["forward", "--edge", edge, "--as", `alice/socks${count}`, "--transport", "websocket", "--socks", "0", office],
    undefined,
    env,
  );
  const [, port = ""] = await forward.line(/127\.0\.0\.1:([0-9]+) is SOCKS at office/);
  return { port: Number(port), expose, forward, office, env };
}

/** Asks a proxy for a host; resolves with its reply. */
async function replyTo(t: TestContext, proxyPort: number, host: string, port: number): Promise<number | undefined> {
  const socket = connect({ port: proxyPort, host: "127.0.0.1" });
  t.after(() => socket.destroy());
  socket.write(Uint8Array.of(5, 1, 0, 5, 1, 0, 3, host.length, ...Buffer.from(host), port >> 8, port & 0xff));
  let got = Buffer.alloc(0);
  for await (const piece of socket) {
    got = Buffer.concat([got, piece as Buffer]);
    if (got.length >= 12) break;
  }
  return got[3];
}

describe("a SOCKS proxy at another device", () => {
  let edge: LocalEdge;
  const context = afterAll();
  before(async () => {
    edge = await startEdge(context);
  });

  it("connects curl to what is listed, by a name that the exposing device resolves", async (t) => {
    if (spawnSync("curl", ["--version"]).status !== 0) return t.skip("SKIPPED: curl is not installed");
    const page = randomBytes(MIB);
    const port = await web(t, page);
    const { port: proxyPort } = await proxy(t, edge.url, ["--socks", `localhost:${port}`]);
    const curl = spawn(
      "curl",
      [
        "--silent",
        "--show-error",
        "--noproxy",
        "",
        "--socks5-hostname",
        `127.0.0.1:${proxyPort}`,
        `http://localhost:${port}/`,
      ],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    const digest = createHash("sha256");
    for await (const piece of curl.stdout) digest.update(piece as Buffer);
    if (curl.exitCode === null) await once(curl, "exit");
    assert.equal(curl.exitCode, 0);
    assert.equal(digest.digest("hex"), createHash("sha256").update(page).digest("hex"));
  });

  it("is listed by ls, after the services", async (t) => {
    const list = ["--socks", "git.example.com:22,443", "web=127.0.0.1:80", "*.corp.example.com:443"];
    const { office, env, forward } = await proxy(t, edge.url, list);
    forward.process.kill("SIGTERM");
    await forward.finished;
    const listed = await run(t, ["ls", "--edge", edge.url, "--as", "alice/lists", office], undefined, env);
    assert.deepEqual(
      [listed.code, listed.stdout],
      [0, "web\n--socks git.example.com:22,443\n--socks *.corp.example.com:443\n"],
    );
  });

  it("refuses what is not listed, and says why at the exposing side", async (t) => {
    const port = await web(t, Buffer.from("page"));
    // Beside a service; nobody listens at the second address.
    const list = ["--socks", `127.0.0.1:${port}`, `web=127.0.0.1:${port}`, `127.0.0.2:${port}`];
    const { port: proxyPort, expose } = await proxy(t, edge.url, list);
    assert.equal(await replyTo(t, proxyPort, "127.0.0.1", port), REPLIES.Succeeded);
    assert.equal(await replyTo(t, proxyPort, "127.0.0.3", port), REPLIES.NotAllowed);
    assert.equal(await replyTo(t, proxyPort, "localhost", port), REPLIES.NotAllowed);
    assert.equal(await replyTo(t, proxyPort, "127.0.0.2", port), REPLIES.ConnectionRefused);
    expose.process.kill("SIGTERM");
    assert.match(
      (await expose.finished).stderr,
      /SOCKS: refused alice\/socks.*: 127\.0\.0\.3:[0-9]+, which is not listed/,
    );
  });

  it("is not there without --socks at the exposing side", async (t) => {
    const port = await web(t, Buffer.from("page"));
    const { port: proxyPort, forward } = await proxy(t, edge.url, [`web=127.0.0.1:${port}`]);
    await assert.rejects(replyTo(t, proxyPort, "127.0.0.1", port), { code: "ECONNRESET" });
    forward.process.kill("SIGTERM");
    assert.match((await forward.finished).stderr, /\[ServiceUnknown\]/);
  });

  it("is refused by name for what is too wide", async (t) => {
    for (const wide of ["*", "*.com", "0.0.0.0/1"]) {
      const { code, stderr } = await run(t, ["expose", "--socks", "--edge", edge.url, "--as", "office", wide]);
      assert.equal(code, 2);
      assert.ok(stderr.includes(JSON.stringify(wide)), stderr);
    }
    const nothing = await run(t, ["expose", "--socks", "--edge", edge.url, "--as", "office", "web=127.0.0.1:80"]);
    assert.match(nothing.stderr, /--socks lists no destination/);
  });
});
