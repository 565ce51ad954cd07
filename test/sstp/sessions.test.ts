import assert from "node:assert/strict";
import { test } from "node:test";
import type { Command } from "../../src/sstp/index.ts";
import { CloseReasonId, ConnectCloseReasonId, ENTRY_COST, OpenResponseId } from "../../src/sstp/index.ts";
import {
  assertViolation,
  bytes,
  connected,
  entry,
  feed,
  only,
  pump,
  ready,
  refusal,
  sendMessage,
  sent,
} from "./support.ts";

const { ProtocolError, TooManyUnknownSessionCmds } = ConnectCloseReasonId;

const open = (sessionId: number, changes = {}): Command => ({ command: "Open", sessionId, ...entry, ...changes });

test("[3.1.4.3.1] session ids are unique, odd on the side that opened the connection and even on the other", () => {
  const { client, relay } = connected();
  assert.deepEqual([client.open(entry), client.open(entry), client.attach({ accountURL: "a" })], [1, 3, 5]);
  assert.deepEqual([relay.open(entry), relay.open(entry)], [2, 4]);
});

test("[3.1.4.3.2] Open carries the addressing entry, and the session is opening", () => {
  const { client, relay } = connected();
  const sessionId = client.open(entry);
  assert.equal((client.session(sessionId) as { state: string }).state, "opening");
  assert.deepEqual(pump(client, relay).b, [{ type: "open", sessionId, ...entry }]);
  assert.throws(() => client.beginMessage(sessionId), refusal("not-ready"));
});

test("[2.2.5.1] IdentityURL MUST NOT be empty except for a WAN DPP session", () => {
  const { client, relay } = connected();
  assert.throws(() => client.open({ ...entry, identityURL: "" }), refusal("invalid-argument"));
  client.open({ resourceURL: "grooveWanDPP", identityURL: "", deviceURL: "" });
  assert.equal(only(pump(client, relay).b, "open").resourceURL, "grooveWanDPP");
  assert.deepEqual(feed(relay, open(9, { identityURL: "" })), []);
  assert.deepEqual(sent(relay), [{ command: "OpenResponse", sessionId: 9, responseId: OpenResponseId.Unknown }]);
});

test("[3.1.5.5] Open of an existing session closes the connection", () => {
  const { client, relay } = connected();
  client.open(entry);
  pump(client, relay);
  assertViolation(relay, feed(relay, open(1)), TooManyUnknownSessionCmds);
});

test("[3.1.5.5] Open with the id of a session this side opened closes the connection", () => {
  const { relay } = connected();
  relay.open(entry);
  relay.output();
  assertViolation(relay, feed(relay, open(2)), TooManyUnknownSessionCmds);
});

test("[3.1.5.5] ready is answered with Ok, notReady with OkStopSending, fault with Unknown", () => {
  for (const [availability, responseId] of [
    ["ready", OpenResponseId.Ok],
    ["notReady", OpenResponseId.OkStopSending],
    ["fault", OpenResponseId.Unknown],
  ] as const) {
    const { relay } = connected();
    feed(relay, open(1));
    relay.setAvailability(1, availability);
    assert.deepEqual(sent(relay), [{ command: "OpenResponse", sessionId: 1, responseId }]);
    assert.equal(relay.session(1) === undefined, availability === "fault");
  }
});

test("[3.1.5.5] the originator learns the state and its later changes", () => {
  const { client, relay } = connected();
  const sessionId = client.open(entry);
  pump(client, relay);
  const states = (["notReady", "ready", "ready", "notReady"] as const).map((availability) => {
    relay.setAvailability(sessionId, availability);
    return pump(client, relay).a;
  });
  assert.deepEqual(states, [
    [{ type: "sessionState", sessionId, state: "suspended" }],
    [{ type: "sessionState", sessionId, state: "ready" }],
    [],
    [{ type: "sessionState", sessionId, state: "suspended" }],
  ]);
  relay.setAvailability(sessionId, "fault");
  assert.deepEqual(pump(client, relay).a, [
    { type: "sessionRefused", sessionId, responseId: OpenResponseId.Unknown, unacknowledged: [] },
  ]);
  assert.deepEqual([client.sessions(), relay.sessions()], [[], []]);
});

test("OpenResponse for a session that never existed closes the connection", () => {
  const { client } = connected();
  const response: Command = { command: "OpenResponse", sessionId: 1, responseId: 0 };
  assertViolation(client, feed(client, response), TooManyUnknownSessionCmds);
});

test("OpenResponse that crosses this side's Close is ignored", () => {
  const { client } = connected();
  const sessionId = client.open(entry);
  client.closeSession(sessionId, CloseReasonId.Idle);
  for (const responseId of [OpenResponseId.Ok, OpenResponseId.Unknown]) {
    assert.deepEqual(feed(client, { command: "OpenResponse", sessionId, responseId }), []);
  }
  assert.equal(client.state, "established");
});

test("OpenResponse for a session of the peer closes the connection", () => {
  const { relay } = connected();
  feed(relay, open(1));
  assertViolation(relay, feed(relay, { command: "OpenResponse", sessionId: 1, responseId: 0 }), ProtocolError);
});

test("[3.1.5.9] Close of an unknown session is ignored", () => {
  const { client, relay } = connected();
  for (const side of [client, relay]) {
    for (const sessionId of [1, 2, 77]) {
      assert.deepEqual(feed(side, { command: "Close", sessionId, reasonId: 0 }), []);
    }
    assert.equal(side.state, "established");
    assert.equal(side.pendingOctets, 0);
  }
});

test("[3.1.5.9] Close from either side drops the session's state", () => {
  for (const closer of ["client", "relay"] as const) {
    const sides = connected();
    const sessionId = ready(sides.client, sides.relay);
    sides[closer].closeSession(sessionId, CloseReasonId.Idle);
    const events = pump(sides.client, sides.relay);
    assert.deepEqual(only([...events.a, ...events.b], "sessionClosed"), {
      type: "sessionClosed",
      sessionId,
      kind: closer === "client" ? "inbound" : "outbound",
      by: "peer",
      reasonId: CloseReasonId.Idle,
      unacknowledged: [],
      unfinished: false,
    });
    assert.deepEqual([sides.client.sessions(), sides.relay.sessions()], [[], []]);
    assert.throws(() => sides[closer].closeSession(sessionId, 0), refusal("unknown-session"));
  }
});

test("closing in the middle of a message tells the receiver to discard it", () => {
  const { client, relay } = connected();
  const sessionId = ready(client, relay);
  client.beginMessage(sessionId);
  client.data(sessionId, bytes("half"));
  client.closeSession(sessionId, 0);
  assert.equal(only(pump(client, relay).b, "sessionClosed").unfinished, true);
  assert.throws(() => client.data(sessionId, bytes("x")), refusal("unknown-session"));
  assert.deepEqual(client.unacknowledged, []);
});

test("data in flight when the receiver closes the session does not end the connection", () => {
  const { client, relay } = connected();
  const sessionId = ready(client, relay);
  const other = ready(client, relay);
  client.beginMessage(sessionId);
  client.data(sessionId, bytes("one"));
  pump(client, relay);
  relay.closeSession(sessionId, CloseReasonId.QuotaWouldBeExceeded);
  // The client does not know yet.
  client.data(sessionId, bytes("two"));
  const lost = client.endMessage(sessionId);
  const alsoLost = sendMessage(client, sessionId);
  const kept = sendMessage(client, other);
  const events = pump(client, relay);
  assert.deepEqual(
    events.b.map((event) => event.type),
    ["message", "data", "endMessage"],
  );
  const closed = only(events.a, "sessionClosed");
  assert.deepEqual([closed.reasonId, closed.unacknowledged], [CloseReasonId.QuotaWouldBeExceeded, [lost, alsoLost]]);
  relay.complete(only(events.b, "endMessage").message);
  relay.noop();
  assert.deepEqual(pump(client, relay).a, [{ type: "acknowledged", messages: [kept] }]);
});

test("an acknowledgement is valid on a session closed meanwhile", () => {
  const { client, relay } = connected();
  const up = ready(client, relay);
  const down = ready(relay, client);
  const message = sendMessage(relay, down);
  pump(client, relay);
  relay.closeSession(up, 0);
  client.complete(1);
  sendMessage(client, up);
  const octets = client.output();
  assert.deepEqual(
    octets.flatMap((block) => relay.receive(block, 0)),
    [{ type: "acknowledged", messages: [message] }],
  );
});

test("messages sent before both sides closed their session at once are not taken for acknowledged", () => {
  const { client, relay } = connected();
  const sessionId = ready(client, relay);
  const other = ready(client, relay);
  const lost = sendMessage(client, sessionId);
  const kept = sendMessage(client, other);
  pump(client, relay);
  client.closeSession(sessionId, 0);
  relay.closeSession(sessionId, 0);
  const closed = only(pump(client, relay).a, "sessionClosed");
  assert.deepEqual([closed.by, closed.unacknowledged], ["peer", [lost]]);
  assert.equal(relay.complete(1), false);
  relay.complete(2);
  relay.noop();
  assert.deepEqual(pump(client, relay).a, [{ type: "acknowledged", messages: [kept] }]);
});

test("only the most recently closed sessions are remembered", () => {
  const { client, relay } = connected();
  const first = ready(client, relay);
  relay.closeSession(first, 0);
  for (let i = 0; i < 1023; i++) relay.closeSession(ready(client, relay), 0);
  relay.output();
  const data = (sessionId: number): Command => ({ command: "Data", sessionId, data: bytes("x") });
  assert.deepEqual(feed(relay, data(first)), []);
  const last = ready(client, relay);
  relay.closeSession(last, 0);
  assert.deepEqual(feed(relay, data(last)), []);
  assertViolation(relay, feed(relay, data(first)), TooManyUnknownSessionCmds);
});

test("sessions of the peer above the limit are refused individually", () => {
  const { client, relay } = connected({}, { maxSessions: 2 });
  for (let i = 0; i < 3; i++) client.open(entry);
  client.attach({ accountURL: "a" });
  const events = pump(client, relay);
  assert.equal(events.b.length, 2);
  assert.deepEqual(only(events.a, "sessionRefused").sessionId, 5);
  assert.deepEqual(only(events.a, "sessionClosed").reasonId, CloseReasonId.InternalError);
  assert.equal(relay.state, "established");
  relay.closeSession(1, 0);
  client.open(entry);
  assert.equal(only(pump(client, relay).b, "open").sessionId, 9);
});

test("memory for URLs of the peer's sessions is bounded", () => {
  const { client, relay } = connected({}, { maxAddressing: 1000 });
  client.open({ ...entry, deviceURL: "d".repeat(900) });
  client.open({ ...entry, deviceURL: "d".repeat(900) });
  assert.equal(only(pump(client, relay).a, "sessionRefused").sessionId, 3);
});

test("each entry of a fanout counts, however short its URLs are", () => {
  const one = { identityURL: "i", deviceURL: "", relayURL: "" };
  const { client, relay } = connected({}, { maxAddressing: 10 * (ENTRY_COST + 1) });
  client.openFanout({ resourceURL: "r", entries: Array.from({ length: 9 }, () => one) });
  client.openFanout({ resourceURL: "r", entries: [one] });
  assert.equal(only(pump(client, relay).a, "sessionRefused").sessionId, 3);
});

test("sessions of this side above the limit are rejected with a StateError", () => {
  const { client } = connected({ maxSessions: 1 });
  client.open(entry);
  assert.throws(() => client.open(entry), refusal("too-many-sessions"));
  client.closeSession(1, 0);
  assert.equal(client.open(entry), 3);
});

test("a session that cannot be encoded takes no id", () => {
  const { client } = connected();
  assert.throws(() => client.open({ ...entry, deviceURL: "d".repeat(3000) }), { code: "too-long" });
  assert.deepEqual(client.sessions(), []);
  assert.equal(client.open(entry), 1);
});
