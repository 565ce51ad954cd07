/** Bodies of appends and webhooks that take much memory, or much time, at an edge in workerd. */
import assert from "node:assert/strict";
import { connect, type Socket } from "node:net";
import { after, afterEach, before, describe, it } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import type { Miniflare } from "miniflare";
import { APPEND_OCTETS } from "../../../src/edge/http/limits.ts";
import { startWorker } from "../../support/worker.ts";
import { InboxApi, post } from "../inboxes/support.ts";
import { AUDIENCE, hs256, type Issuer, jwks } from "../issuer.ts";
import { until } from "../mailbox/support.ts";

const MIB = 1024 * 1024;

let issuer: Issuer;
let edge: Miniflare;
let url: URL;
before(async () => {
  issuer = await hs256();
  // Rates are another test's.
  edge = await startWorker({ RELAY_NAME: AUDIENCE, KEYS: jwks(issuer), RATE: "octets=1000000000" });
  url = await edge.ready;
  const made = await call("PUT", "alice", STREAM);
  assert.equal(made.status, 201, await made.text());
});
after(() => edge.dispose());

const STREAM = "/mailboxes/app/long/bodies";
const OCTETS = { "Content-Type": "application/octet-stream" };

/** The header with a token of a subject that may do everything. */
async function tokenOf(sub: string): Promise<string> {
  const scope = "connect receive send:* create:** read:** write:**";
  return `Bearer ${await issuer.issue({ sub, scope, address: `${sub}/pc` })}`;
}

async function call(method: string, sub: string, path: string, body?: BodyInit, headers = {}): Promise<Response> {
  const all = { ...OCTETS, Authorization: await tokenOf(sub), ...headers };
  const init = body === undefined ? {} : { body, duplex: "half" };
  return fetch(new URL(path, url), { method, headers: all, ...init } as RequestInit);
}

async function reasonOf(answer: Response): Promise<string> {
  await answer.arrayBuffer();
  return answer.ok ? "ok" : `${answer.status} ${answer.headers.get("grooveway-reason")}`;
}

const BUSY = "503 EdgeBusy";

const slow: Socket[] = [];
afterEach(async () => {
  for (const socket of slow.splice(0)) socket.resetAndDestroy();
  // The edge has noticed when all of the memory is free again.
  await until("there is room for the longest body", async () => {
    return (await reasonOf(await call("POST", "later", STREAM, new Uint8Array(APPEND_OCTETS)))) === "ok";
  });
});

/**
 * Begins a request, and sends no more of its body than this.
 *
 * @param length its Content-Length; chunked if there is none
 */
async function begin(path: string, authorization: string, sent: number, length?: number): Promise<Socket> {
  const socket = connect(Number(url.port), url.hostname);
  slow.push(socket);
  socket.on("error", () => undefined);
  const framing = length === undefined ? "Transfer-Encoding: chunked" : `Content-Length: ${length}`;
  const head = ["POST ", path, " HTTP/1.1\r\nHost: ", url.host, "\r\nContent-Type: application/octet-stream\r\n"].join(
    "",
  );
  socket.write(`${head}Authorization: ${authorization}\r\n${framing}\r\n\r\n`);
  if (length === undefined) socket.write(`${sent.toString(16)}\r\n`);
  const written = new Promise<void>((resolve) => socket.write(new Uint8Array(sent), () => resolve()));
  await written;
  await turn();
  return socket;
}

/** Many long bodies of one sender, of which hardly anything comes. */
async function occupy(sub: string): Promise<void> {
  const token = await tokenOf(sub);
  await Promise.all(Array.from({ length: 20 }, () => begin(STREAM, token, 1, APPEND_OCTETS)));
  await until(`${sub} has what it may have`, async () => {
    return (await reasonOf(await call("POST", sub, STREAM, new Uint8Array(9 * MIB)))) === BUSY;
  });
}

describe("many slow bodies of one sender", () => {
  it("leave the others room for long ones, on every way in", async () => {
    const { url: hook } = await new InboxApi(url.origin, { Authorization: await tokenOf("bob") }).make("bob/pc", {
      verify: "none",
      largest: 5 * MIB,
    });
    await occupy("mallory");
    const body = new Uint8Array(4 * MIB).fill(0x20);
    assert.equal(await reasonOf(await call("POST", "alice", STREAM, body)), "ok");
    assert.equal(await reasonOf(await call("PUT", "alice", `${STREAM}/new`, body)), "ok");
    assert.equal(await reasonOf(await call("POST", "alice", "/send/bob%2Fpc", body)), "ok");
    const json = { "Content-Type": "application/json" };
    const message = JSON.stringify("x".repeat(MIB));
    assert.equal(await reasonOf(await call("POST", "alice", "/mailboxes/bob%2Fpc", message, json)), "ok");
    assert.equal((await post(hook, body)).status, 202);
  });

  it("keep nobody from sending short ones, nor that sender itself", async () => {
    await Promise.all(["mallory", "mike", "mona", "max"].map(occupy));
    for (const sub of ["alice", "mallory"]) {
      assert.equal(await reasonOf(await call("POST", sub, STREAM, new Uint8Array(64 * 1024))), "ok");
    }
  });

  it("are refused by name, with when to send again", async () => {
    await occupy("mallory");
    const answer = await call("POST", "mallory", STREAM, new Uint8Array(9 * MIB));
    assert.equal(answer.headers.get("retry-after"), "5");
    assert.equal(await reasonOf(answer), BUSY);
  });

  it("that say no length count as they grow", async () => {
    const token = await tokenOf("mallory");
    await Promise.all(Array.from({ length: 8 }, () => begin(STREAM, token, 3 * MIB)));
    const chunked = (size: number) => new Blob([new Uint8Array(size)]).stream();
    await until("the memory is used up", async () => {
      return (await reasonOf(await call("POST", "mallory", STREAM, chunked(9 * MIB)))) === BUSY;
    });
    assert.equal(await reasonOf(await call("POST", "alice", STREAM, chunked(3 * MIB))), "ok");
    assert.equal(await reasonOf(await call("POST", "mallory", STREAM, chunked(60_000))), "ok");
  });

  it("at one inbox leave room at the others", async () => {
    const api = new InboxApi(url.origin, { Authorization: await tokenOf("carol") });
    const largest = 12 * MIB;
    const [busy, other] = [
      await api.make("carol/pc", { name: "busy", verify: "none", largest }),
      await api.make("carol/pc", { name: "other", verify: "none", largest }),
    ];
    const { pathname } = new URL(busy.url);
    await Promise.all(Array.from({ length: 20 }, () => begin(pathname, "", 1, largest)));
    await until(
      "it has what it may have",
      async () => (await post(busy.url, new Uint8Array(9 * MIB))).code === "EdgeBusy",
    );
    assert.equal((await post(other.url, new Uint8Array(4 * MIB))).status, 202);
    assert.equal((await post(busy.url, "short")).status, 202);
  });
});

it("a body that is longer than an append may be is refused, with a length or without one", async () => {
  const long = new Uint8Array(APPEND_OCTETS + 1);
  assert.equal(await reasonOf(await call("POST", "alice", STREAM, long)), "413 AppendTooLong");
  assert.equal(await reasonOf(await call("POST", "alice", STREAM, new Blob([long.subarray(1)]).stream())), "ok");
});

/** Sends a whole request, closes its half of the connection, and only then reads. Returns the answer's status and reason. */
async function answerTo(head: string, body: string | Uint8Array): Promise<string> {
  const socket = connect({ port: Number(url.port), host: url.hostname, allowHalfOpen: true });
  slow.push(socket);
  const start = `POST ${STREAM} HTTP/1.1\r\nHost: ${url.host}\r\nContent-Type: application/octet-stream\r\n`;
  socket.write(`${start}Authorization: ${await tokenOf("alice")}\r\n${head}\r\n\r\n`);
  await new Promise<void>((resolve, reject) => {
    socket.once("error", reject);
    socket.end(body, () => resolve());
  });
  let text = "";
  for await (const octets of socket) text += String(octets);
  const [, status = ""] = /^HTTP\/1.1 (\d+)/.exec(text) ?? [];
  const [, reason = ""] = /^Grooveway-Reason: (.*)\r$/im.exec(text) ?? [];
  return `${status} ${reason}`;
}

it("a body that ends half way, or is malformed, is said to be so, and nothing of it is stored", async () => {
  const before = await call("HEAD", "alice", STREAM);
  assert.equal(await answerTo("Content-Length: 5", "abc"), "400 BodyIncomplete");
  assert.equal(await answerTo("Transfer-Encoding: chunked", "5\r\nabc"), "400 BodyIncomplete");
  assert.equal(await answerTo("Transfer-Encoding: chunked", "3\r\nabc\r\nno length\r\n"), "400 BodyIncomplete");
  const after = await call("HEAD", "alice", STREAM);
  assert.ok(before.ok);
  assert.equal(after.headers.get("stream-next-offset"), before.headers.get("stream-next-offset"));
});

it("a client that sends all of a body that is too long before it reads gets the answer", async () => {
  const long = new Uint8Array(APPEND_OCTETS + 1);
  for (let time = 0; time < 5; time += 1) {
    assert.equal(await answerTo(`Content-Length: ${long.length}`, long), "413 AppendTooLong");
  }
});

it("one that is longer than any number is refused before it comes", async () => {
  assert.equal(await answerTo("Content-Length: 9999999999999999", ""), "413 AppendTooLong");
});
