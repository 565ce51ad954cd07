/** What a device holds of messages that arrive from several relays. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Inbox } from "../../src/device/inbox.ts";
import { INBOX_OCTETS } from "../../src/device/limits.ts";
import { CloseReasonId, type Connection, type ConnectionEvent } from "../../src/sstp/index.ts";

const MIB = 1024 * 1024;

/** A connection to a relay, of which the test plays the engine. */
function connectionOf(inbox: Inbox) {
  const closed: { readonly sessionId: number; readonly reasonId: number }[] = [];
  let flushed = 0;
  const ready: number[] = [];
  const completed: number[] = [];
  const engine = {
    session: () => ({}),
    closeSession: (sessionId: number, reasonId: number) => closed.push({ sessionId, reasonId }),
    setAvailability: (sessionId: number) => ready.push(sessionId),
    complete: (message: number) => completed.push(message),
  } as unknown as Connection;
  const flush = async () => {
    flushed += 1;
  };
  const carrier = { engine, flush } as unknown as Parameters<Inbox["on"]>[0];
  const on = (event: object) => inbox.on(carrier, event as ConnectionEvent);
  return {
    closed,
    ready,
    completed,
    flushed: () => flushed,
    end: () => inbox.forget(engine),
    finish: (sessionId: number) => on({ type: "endMessage", sessionId, message: sessionId }),
    /** Begins a message on a session of its own. */
    begin(sessionId: number, octets: number, { resource = "message", id = sessionId } = {}): void {
      on({ type: "open", sessionId, resourceURL: resource, identityURL: "grooveIdentity://bob", deviceURL: "" });
      on({ type: "message", sessionId, fields: { userRef: `${id}@alice/pc` } });
      on({ type: "data", sessionId, octets: new Uint8Array(octets) });
    },
  };
}

test("messages in part share one limit among all relays, and the relay that has begun most yields", () => {
  const inbox = new Inbox(8 * MIB);
  const [greedy, modest] = [connectionOf(inbox), connectionOf(inbox)];
  for (const session of [2, 4, 6, 8]) greedy.begin(session, 7 * MIB);
  modest.begin(2, INBOX_OCTETS - 28 * MIB);
  assert.deepEqual([greedy.closed, modest.closed], [[], []]);
  modest.begin(4, 1);
  assert.deepEqual(modest.closed, []);
  assert.deepEqual(greedy.closed, [{ sessionId: 8, reasonId: CloseReasonId.NoReason }]);
  assert.equal(greedy.flushed(), 1);
  // The message that is growing yields where its relay has begun most.
  greedy.begin(10, 7 * MIB);
  assert.deepEqual(
    greedy.closed.map(({ sessionId }) => sessionId),
    [8, 10],
  );
});

test("messages that are complete, or lost with their connection, no longer count as arriving in part", () => {
  const inbox = new Inbox(8 * MIB);
  const [one, other] = [connectionOf(inbox), connectionOf(inbox)];
  for (let round = 0; round < 5; round += 1) {
    for (const session of [2, 4]) one.begin(session, 8 * MIB);
    for (const session of [2, 4]) other.begin(session, 8 * MIB);
    for (const session of [2, 4]) other.finish(session);
    one.end();
  }
  assert.deepEqual([one.closed, other.closed], [[], []]);
});

test("a resource that is suspended waits: its sessions end, new ones are let in later, and others go on", () => {
  const inbox = new Inbox(8 * MIB);
  const [one, other] = [connectionOf(inbox), connectionOf(inbox)];
  one.begin(2, 1, { resource: "orders" });
  one.begin(4, 1);
  other.begin(2, 1, { resource: "orders" });
  const [resume, resumeAgain] = [inbox.suspend("orders"), inbox.suspend("orders")];
  assert.deepEqual(
    [one.closed, other.closed].flat(),
    Array(2).fill({ sessionId: 2, reasonId: CloseReasonId.NoReason }),
  );
  assert.deepEqual([one.flushed(), other.flushed()], [1, 1]);
  assert.deepEqual(
    ["orders", "message"].map((resource) => inbox.availabilityOf(resource, true)),
    ["notReady", "ready"],
  );
  other.begin(6, 1, { resource: "orders" });
  resume();
  resume();
  assert.equal(inbox.availabilityOf("orders", true), "notReady", "it was suspended twice");
  resumeAgain();
  assert.deepEqual([one.ready, other.ready], [[], [6]]);
  assert.equal(inbox.availabilityOf("orders", true), "ready");
  // A message that was arriving does not count as such any more.
  assert.equal(one.closed.length, 1);
});

test("a message that was not done when its resource was suspended is given once, and acknowledged when it comes again", async () => {
  const inbox = new Inbox(8 * MIB);
  const relay = connectionOf(inbox);
  const messages = inbox.messages();
  for (const id of [2, 4]) {
    relay.begin(id, 1, { resource: "orders" });
    relay.finish(id);
  }
  const [first, second] = [(await messages.next()).value, (await messages.next()).value];
  const resume = inbox.suspend("orders");
  first.done();
  resume();
  for (const id of [2, 4]) {
    relay.begin(10 + id, 1, { resource: "orders", id });
    relay.finish(10 + id);
  }
  // The first is done, and what is told of a closed session is ignored.
  assert.deepEqual(relay.completed, [2, 12]);
  second.done();
  assert.deepEqual(relay.completed, [2, 12, 4, 14]);
  relay.begin(20, 1);
  relay.finish(20);
  assert.equal((await messages.next()).value.id, "20@alice/pc", "neither is given out again");
});
