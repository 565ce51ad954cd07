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
  const engine = {
    session: () => ({}),
    closeSession: (sessionId: number, reasonId: number) => closed.push({ sessionId, reasonId }),
  } as unknown as Connection;
  const flush = async () => {
    flushed += 1;
  };
  const carrier = { engine, flush } as unknown as Parameters<Inbox["on"]>[0];
  const on = (event: object) => inbox.on(carrier, event as ConnectionEvent);
  return {
    closed,
    flushed: () => flushed,
    end: () => inbox.forget(engine),
    finish: (sessionId: number) => on({ type: "endMessage", sessionId, message: sessionId }),
    /** Begins a message on a session of its own. */
    begin(sessionId: number, octets: number): void {
      on({ type: "open", sessionId, resourceURL: "message", identityURL: "grooveIdentity://bob", deviceURL: "" });
      on({ type: "message", sessionId, fields: { userRef: `${sessionId}@alice/pc` } });
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
