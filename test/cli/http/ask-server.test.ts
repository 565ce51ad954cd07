/** Requests to a server near this machine: what arrives there, and what is made of its answers. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { createServer, type IncomingMessage, type RequestListener } from "node:http";
import { createServer as createTcpServer } from "node:net";
import { buffer } from "node:stream/consumers";
import { describe, it, type TestContext } from "node:test";
import { type Asked, type AskOptions, askServer } from "../../../src/cli/http/ask-server.ts";
import { type HttpRequest, parseServer, type ServerAddress } from "../../../src/requests/index.ts";
import { listen } from "../../support/sockets.ts";

const request: HttpRequest = { method: "POST", path: "/a", query: "b=1", headers: [], body: new Uint8Array([1, 2, 3]) };

async function serving(t: TestContext, listener: RequestListener): Promise<ServerAddress> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  const address = server.address();
  assert.ok(address !== null && typeof address === "object");
  return at(address.port);
}

function at(port: number): ServerAddress {
  const server = parseServer(`http://127.0.0.1:${port}/hooks`);
  assert.ok(server.ok);
  return server.value;
}

const ask = (
  server: ServerAddress,
  part: Partial<HttpRequest> = {},
  options: Partial<AskOptions> = {},
): Promise<Asked> => askServer(server, { ...request, ...part }, { timeout: 10_000, ...options });

describe("a request to a server", () => {
  it("arrives with its path below the prefix, its headers and its body octet for octet", async (t) => {
    const body = randomBytes(300_000);
    let came: { message: IncomingMessage; body: Buffer } | undefined;
    const server = await serving(t, async (message, response) => {
      came = { message, body: await buffer(message) };
      response.writeHead(202).end();
    });
    const headers = [
      ["host", "hooks.example.com"],
      ["content-length", "7"],
      ["content-type", "application/json"],
      ["x-name", "Zo\u00eb"],
      ["transfer-encoding", "chunked"],
    ] as const;
    const asked = await ask(server, { body, headers }, { headers: [["Idempotency-Key", "k"]] });
    assert.equal(asked.type === "answered" && asked.answer.status, 202);
    assert.ok(came);
    const { message } = came;
    assert.deepEqual([message.method, message.url], ["POST", "/hooks/a?b=1"]);
    assert.deepEqual(came.body, body);
    const expected = { host: new URL(server.origin).host, "content-length": String(body.length) };
    assert.deepEqual({ host: message.headers.host, "content-length": message.headers["content-length"] }, expected);
    assert.equal(message.headers["transfer-encoding"], undefined);
    assert.deepEqual(
      [message.headers["x-name"], message.headers["idempotency-key"], message.headers["content-type"]],
      ["Zo\u00eb", "k", "application/json"],
    );
  });

  it("has its answer read whole, but no longer than it may be", async (t) => {
    const server = await serving(t, (_, response) => {
      response.writeHead(201, { "X-Answer": "yes", "Set-Cookie": ["a=1", "b=2"] }).end("a body");
    });
    const asked = await ask(server, {}, { longest: 6 });
    assert.ok(asked.type === "answered");
    const { status, headers, body } = asked.answer;
    assert.deepEqual([status, Buffer.from(body).toString()], [201, "a body"]);
    assert.deepEqual(
      headers.filter(([name]) => /x-answer|set-cookie/i.test(name)),
      [
        ["X-Answer", "yes"],
        ["Set-Cookie", "a=1"],
        ["Set-Cookie", "b=2"],
      ],
    );
    const tooLong = await ask(server, {}, { longest: 5 });
    assert.equal(tooLong.type === "failed" && tooLong.reason, "AnswerTooLong");
  });

  it("follows no redirect", async (t) => {
    const asked = await ask(await serving(t, (_, response) => response.writeHead(302, { Location: "/b" }).end()));
    assert.equal(asked.type === "answered" && asked.answer.status, 302);
  });

  it("fails in time if the server hangs, before its answer or in the middle of it", async (t) => {
    const silent = await serving(t, () => undefined);
    const asked = await ask(silent, {}, { timeout: 100 });
    assert.equal(asked.type === "failed" && asked.reason, "TimedOut");
    const halting = await serving(
      t,
      (_, response) => void response.writeHead(200, { "Content-Length": "9" }).write("x"),
    );
    const half = await ask(halting, {}, { timeout: 100 });
    assert.equal(half.type === "failed" && half.reason, "TimedOut");
  });

  it("fails if the server breaks the connection, before its answer or in the middle of it", async (t) => {
    const broken = await serving(t, (message) => message.socket.destroy());
    const asked = await ask(broken);
    assert.equal(asked.type === "failed" && asked.reason, "ConnectionBroken");
    const halved = await serving(t, (_, response) => {
      response.writeHead(200, { "Content-Length": "9" }).write("x", () => response.destroy());
    });
    const half = await ask(halved);
    assert.equal(half.type === "failed" && half.reason, "ConnectionBroken");
  });

  it("knows a server that is not there from one that fails", async (t) => {
    const closed = await listen(() => undefined);
    await closed.close();
    assert.equal((await ask(at(closed.port))).type, "unreachable");
    const other = createTcpServer((socket) => socket.end("SSH-2.0-x\r\n"));
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    t.after(() => other.close());
    const address = other.address();
    assert.ok(address !== null && typeof address === "object");
    const asked = await ask(at(address.port));
    assert.equal(asked.type === "failed" && asked.reason, "ConnectionBroken");
  });

  it("is not sent if its path could leave the prefix, or its method makes a tunnel", async (t) => {
    let count = 0;
    const server = await serving(t, (_, response) => {
      count += 1;
      response.end();
    });
    for (const path of ["/../x", "/%2e%2e/x", "/a/..%2f..%2fx"]) {
      const asked = await ask(server, { path });
      assert.equal(asked.type === "unsafe" && asked.reason, "UnsafePath", path);
    }
    for (const method of ["CONNECT", "trace"]) {
      const asked = await ask(server, { method });
      assert.equal(asked.type === "unsafe" && asked.reason, "UnsafeMethod", method);
    }
    assert.equal(count, 0);
  });

  it("ends with its signal", async (t) => {
    const ending = new AbortController();
    const server = await serving(t, () => ending.abort());
    assert.equal((await ask(server, {}, { signal: ending.signal })).type, "failed");
  });
});
