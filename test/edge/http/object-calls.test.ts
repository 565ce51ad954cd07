/** Requests to an edge whose objects never answer. */
import assert from "node:assert/strict";
import { timingSafeEqual } from "node:crypto";
import { describe, it, type TestContext } from "node:test";
import { hearOfDisk } from "../../../src/edge/disk-full.ts";
import type { Env } from "../../../src/edge/env.ts";
import { lookAt } from "../../../src/edge/http/mailbox-rule.ts";
import { answered, answerToFailure } from "../../../src/edge/http/object-calls.ts";
import { answerPeer, answerSend } from "../../../src/edge/http/peer-mailboxes.ts";
import { answerStream, nameIn } from "../../../src/edge/http/plain-streams.ts";
import { answerTicket } from "../../../src/edge/http/tickets.ts";

// As on the platform: an answer may be a WebSocket, and texts are compared in constant time.
Object.assign(crypto.subtle, { timingSafeEqual });
Object.assign(Response.prototype, { webSocket: null });

const context = { waitUntil: () => undefined };

/** An object that is called, and never answers. */
const hanging = new Proxy({}, { get: () => () => new Promise(() => undefined) });
const hangs = { getByName: () => hanging };

const env = { DEV: "open", PLAIN_STREAM: hangs, MAILBOX: hangs, METER: hangs, DIRECTORY: hangs } as unknown as Env;

/** What comes of a request for which no object answers, and after how long, in milliseconds. */
async function unanswered(t: TestContext, answering: Promise<Response>): Promise<Response> {
  let answer: Response | undefined;
  const done = answering.then((one) => {
    answer = one;
  });
  for (let seconds = 0; seconds < 60 && answer === undefined; seconds += 1) {
    for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
    t.mock.timers.tick(1000);
  }
  for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
  if (answer === undefined) assert.fail("there is no answer after a minute");
  await done;
  return answer;
}

function request(method: string, path: string, body?: string): Request {
  const headers = { ...(body !== undefined && { "Content-Type": "application/json" }), Origin: "http://localhost" };
  return new Request(`http://edge${path}`, { method, headers, ...(body !== undefined && { body }) });
}

const REQUESTS: readonly (readonly [method: string, path: string, body?: string])[] = [
  ["PUT", "/mailboxes/app/logs/today"],
  ["POST", "/mailboxes/app/logs/today", "[1]"],
  ["HEAD", "/mailboxes/app/logs/today"],
  ["DELETE", "/mailboxes/app/logs/today"],
  ["HEAD", "/mailboxes/app/logs/today?ticket=x"],
  ["PUT", "/mailboxes/bob"],
  ["POST", "/mailboxes/bob?from=alice/pc", "[1]"],
  ["HEAD", "/mailboxes/bob"],
  ["DELETE", "/mailboxes/bob"],
  ["GET", "/mailboxes/bob?ticket=x"],
  ["POST", "/send/bob?from=alice/pc", "1"],
  ["POST", "/tickets", '{"mailbox": "app/logs/today"}'],
  ["POST", "/tickets", '{"mailbox": "bob"}'],
];

function serve(asked: Request): Promise<Response> {
  const { pathname } = new URL(asked.url);
  if (pathname === "/tickets") return answerTicket(asked, env, context);
  if (pathname.startsWith("/send/")) return answerSend(asked, env, context);
  const name = nameIn(asked, env);
  if (name?.type === "stream") return answerStream(asked, name, env, context);
  assert.ok(name?.type === "peer");
  return answerPeer(asked, name.address, env, context);
}

describe("an object that never answers", () => {
  for (const [method, path, body] of REQUESTS) {
    it(`is answered for by name: ${method} ${path}`, async (t) => {
      t.mock.timers.enable({ apis: ["setTimeout", "Date"] });
      const asked = request(method, path, body);
      const answer = await unanswered(t, serve(asked));
      assert.deepEqual([answer.status, answer.headers.get("Grooveway-Reason")], [504, "StorageTimeout"]);
      assert.equal(answer.headers.get("Retry-After"), "5");
      assert.equal(answer.headers.get("Access-Control-Allow-Origin"), "*", "pages can read it");
    });
  }

  it("does not keep a request about a mailbox", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout", "Date"] });
    const look = lookAt(request("GET", "/mailboxes/bob/rule"), env, "grooveIdentity://bob", async () => new Response());
    const answer = await unanswered(
      t,
      look.catch(async (error) => (await answerToFailure(error)) ?? assert.fail(String(error))),
    );
    assert.equal(answer.headers.get("Grooveway-Reason"), "StorageTimeout");
  });
});

it("an object that answers or fails in time is not late", async () => {
  assert.equal(await answered(Promise.resolve(7)), 7);
  const failure = new Error("the object was reset");
  await assert.rejects(answered(Promise.reject(failure)), failure);
  assert.equal(await answerToFailure(failure), undefined);
});

it("an object whose own file cannot be written, on a disk that takes writes, is answered for by name", async (t) => {
  const log = t.mock.method(console, "error", () => undefined);
  const failure = new Error("disk I/O error: SQLITE_IOERR (extended: SQLITE_IOERR_WRITE)");
  assert.equal(await answerToFailure(failure), undefined, "the platform has no disk");
  const headers = { Authorization: "Bearer s" };
  await hearOfDisk(new Request("http://e/local/disk", { method: "PUT", headers, body: "free" }), "s");
  const answer = await answerToFailure(failure);
  assert.deepEqual([answer?.status, answer?.headers.get("Grooveway-Reason")], [507, "StorageFailed"]);
  assert.match(String(log.mock.calls[0]?.arguments[0]), /SQLITE_IOERR_WRITE/);
});
