import assert from "node:assert/strict";
import { test } from "node:test";
import type { Command } from "../../src/sstp/index.ts";
import { ConnectCloseReasonId, MAX_DATA_OCTETS, MessageFlag, OUTPUT_BLOCK_OCTETS } from "../../src/sstp/index.ts";
import {
  assertViolation,
  bytes,
  connected,
  feed,
  feedAt,
  joined,
  only,
  pump,
  ready,
  refusal,
  sendMessage,
  sent,
} from "./support.ts";

const { ProtocolError, Resting, TooManyUnknownSessionCmds } = ConnectCloseReasonId;

const message = (sessionId: number, messageCount = 0): Command => ({
  command: "Message",
  sessionId,
  messageCount,
  flags: 0,
  userRef: "",
});
const data = (sessionId: number): Command => ({ command: "Data", sessionId, data: bytes("x") });
const end = (sessionId: number): Command => ({ command: "EndMessage", sessionId });

/** A pair with a session in each direction, and the relay's handling of the peer's commands. */
function talking() {
  const { client, relay } = connected();
  const up = ready(client, relay);
  const down = ready(relay, client);
  return { client, relay, up, down };
}

// ------------------------------------------------------------------------------------------------------------ sending

test("[3.1.4.6] data is sent only on an outgoing session in 'ready'", () => {
  const { client, relay, up, down } = talking();
  assert.throws(() => client.beginMessage(down), refusal("unknown-session"));
  assert.throws(() => client.beginMessage(99), refusal("unknown-session"));
  relay.setAvailability(up, "notReady");
  pump(client, relay);
  assert.throws(() => client.beginMessage(up), refusal("not-ready"));
  relay.setAvailability(up, "ready");
  pump(client, relay);
  client.beginMessage(up);
});

test("a message that was announced leaves as one block, as the same octets", () => {
  const { client, relay, up } = talking();
  const pieces = Array.from({ length: 3 }, (_, at) => new Uint8Array(50_000).fill(at));
  const send = (from: typeof client) => {
    from.beginMessage(up, { userRef: "id" });
    for (const piece of pieces) from.data(up, piece);
    from.endMessage(up);
    return from.output();
  };
  const plain = send(client);
  client.expectMessage(150_000);
  const announced = send(client);
  assert.ok(plain.length > 1);
  assert.equal(announced.length, 1);
  assert.deepEqual(joined(announced), joined(plain));
  for (const block of [...plain, ...announced]) relay.receive(block, 0);
  assert.equal(relay.unprocessed, 2);
  // More than a block holds is in several.
  client.expectMessage(10 * OUTPUT_BLOCK_OCTETS);
  for (const block of send(client)) assert.ok(block.length <= OUTPUT_BLOCK_OCTETS);
});

test("[3.1.4.6] a message in progress when its session is suspended may end, without more data", () => {
  const { client, relay, up } = talking();
  client.beginMessage(up);
  client.data(up, bytes("one"));
  relay.setAvailability(up, "notReady");
  pump(client, relay);
  assert.throws(() => client.data(up, bytes("two")), refusal("not-ready"));
  client.endMessage(up);
  assert.equal(only(pump(client, relay).b, "endMessage").message, 1);
});

test("[3.1.4.6] a message is sent as Message, Data of at most 2048 octets each, EndMessage", () => {
  const { client, up } = talking();
  client.beginMessage(up, { userRef: "id" });
  client.data(up, new Uint8Array(2 * MAX_DATA_OCTETS + 1));
  client.endMessage(up);
  const commands = sent(client);
  assert.deepEqual(
    commands.map((command) => (command.command === "Data" ? command.data.length : command.command)),
    ["Message", 2048, 2048, 1, "EndMessage"],
  );
});

test("a message without data is sent as one empty Data, and arrives as an empty message", () => {
  const { client, relay, up } = talking();
  client.beginMessage(up);
  client.data(up, bytes(""));
  client.endMessage(up);
  const octets = joined(client.output());
  assert.deepEqual(
    relay.receive(octets, 0).map((event) => event.type),
    ["message", "endMessage"],
  );
  client.beginMessage(up);
  client.endMessage(up);
  assert.deepEqual(
    sent(client).map((command) => command.command),
    ["Message", "Data", "EndMessage"],
  );
});

test("calls out of order are rejected", () => {
  const { client, up } = talking();
  assert.throws(() => client.data(up, bytes("x")), refusal("no-message"));
  assert.throws(() => client.endMessage(up), refusal("no-message"));
  client.beginMessage(up);
  assert.throws(() => client.beginMessage(up), refusal("message-open"));
});

test("[2.2.10.1] every field and flag of Message reaches the receiver", () => {
  const { client, relay, up } = talking();
  const fields = {
    userRef: "ref",
    track: true,
    acknowledgeImmediately: true,
    doNotDeliverIfOffline: true,
    ephemeral: 7,
    streamSize: [1n, 2n, 3n] as const,
    fragmentation: bytes("part"),
  };
  client.beginMessage(up, fields);
  const [command] = sent(client);
  assert.equal(command?.command === "Message" && command.flags, 0x77);
  client.endMessage(up);
  client.output();
  assert.deepEqual(only(feed(relay, command as Command), "message"), { type: "message", sessionId: up, fields });
});

test("[2.2.10.1] each flag is encoded separately", () => {
  const { client, up } = talking();
  for (const [fields, flag] of [
    [{ track: true }, MessageFlag.Track],
    [{ acknowledgeImmediately: true }, MessageFlag.AcknowledgeImmediately],
    [{ doNotDeliverIfOffline: true }, MessageFlag.DoNotDeliverIfOffline],
    [{ ephemeral: 0 }, MessageFlag.Ephemeral],
    [{ streamSize: [0n, 0n, 0n] as const }, MessageFlag.StreamSize],
    [{ fragmentation: bytes("") }, MessageFlag.Fragmentation],
    [{}, 0],
  ] as const) {
    client.beginMessage(up, fields);
    const [command] = sent(client);
    assert.equal(command?.command === "Message" && command.flags, flag);
    client.endMessage(up);
    client.output();
  }
});

test("a Message that cannot be encoded leaves the session unchanged", () => {
  const { client, up } = talking();
  assert.throws(() => client.beginMessage(up, { userRef: "x".repeat(3000) }), { code: "too-long" });
  client.beginMessage(up);
});

test("output is returned in blocks of whole commands, at most 65536 octets each", () => {
  const { client, relay, up } = talking();
  const body = Uint8Array.from({ length: 1_000_000 }, (_, i) => i * 31);
  client.beginMessage(up);
  client.data(up, body);
  client.endMessage(up);
  const { pendingOctets } = client;
  const blocks = client.output();
  assert.equal(
    blocks.reduce((sum, block) => sum + block.length, 0),
    pendingOctets,
  );
  assert.equal(client.pendingOctets, 0);
  assert.ok(blocks.length <= 18, `${blocks.length} blocks`);
  const received: Uint8Array[] = [];
  for (const block of blocks) {
    assert.ok(block.length <= OUTPUT_BLOCK_OCTETS);
    for (const event of relay.receive(block, 0)) if (event.type === "data") received.push(event.octets);
    assert.deepEqual(relay.snapshot().held, "");
  }
  assert.deepEqual(joined(received), body);
});

test("messages of different sessions interleave", () => {
  const { client, relay, up } = talking();
  const second = ready(client, relay);
  client.beginMessage(up);
  client.beginMessage(second);
  client.data(up, bytes("a"));
  client.data(second, bytes("b"));
  const [first, last] = [client.endMessage(second), client.endMessage(up)];
  assert.deepEqual([first, last], [1, 2]);
  assert.deepEqual(
    pump(client, relay).b.map((event) => [event.type, "sessionId" in event && event.sessionId]),
    [
      ["message", up],
      ["message", second],
      ["data", up],
      ["data", second],
      ["endMessage", second],
      ["endMessage", up],
    ],
  );
});

// ---------------------------------------------------------------------------------------------------------- receiving

test("[3.1.5.10] Message for an unknown session closes with TooManyUnknownSessionCmds", () => {
  const { relay } = connected();
  assertViolation(relay, feed(relay, message(1)), TooManyUnknownSessionCmds);
});

test("[3.1.5.11] Data for an unknown session closes with TooManyUnknownSessionCmds", () => {
  const { relay } = connected();
  assertViolation(relay, feed(relay, data(1)), TooManyUnknownSessionCmds);
});

test("[3.1.5.12] EndMessage for an unknown session closes with TooManyUnknownSessionCmds", () => {
  const { relay } = connected();
  assertViolation(relay, feed(relay, end(1)), TooManyUnknownSessionCmds);
});

test("a session closed by its originator is unknown afterwards", () => {
  const { client, relay } = connected();
  const sessionId = ready(client, relay);
  client.closeSession(sessionId, 0);
  pump(client, relay);
  assertViolation(relay, feed(relay, message(sessionId)), TooManyUnknownSessionCmds);
});

test("[3.1.5.10] Message when the receiver is not 'waiting' closes with ProtocolError", () => {
  const before = talking();
  assertViolation(before.relay, feed(before.relay, message(before.up), message(before.up)), ProtocolError);
  const during = talking();
  const commands = [message(during.up), data(during.up), message(during.up)];
  assertViolation(during.relay, feed(during.relay, ...commands), ProtocolError);
  const { client, relay } = connected();
  const sessionId = client.open({ resourceURL: "r", identityURL: "i", deviceURL: "" });
  pump(client, relay);
  assertViolation(relay, feed(relay, message(sessionId)), ProtocolError);
});

test("[3.1.5.11] Data when the receiver is 'waiting' closes with ProtocolError", () => {
  const fresh = talking();
  assertViolation(fresh.relay, feed(fresh.relay, data(fresh.up)), ProtocolError);
  const after = talking();
  const commands = [message(after.up), data(after.up), end(after.up), data(after.up)];
  assertViolation(after.relay, feed(after.relay, ...commands), ProtocolError);
});

test("[3.1.5.12] EndMessage when the receiver is 'waiting' closes with ProtocolError", () => {
  const { relay, up } = talking();
  assertViolation(relay, feed(relay, end(up)), ProtocolError);
});

test("messages on a session this side opened close with ProtocolError", () => {
  for (const make of [message, data, end]) {
    const { relay, down } = talking();
    assertViolation(relay, feed(relay, make(down)), ProtocolError);
  }
});

test("[3.1.5.12] EndMessage directly after Message is an empty message", () => {
  const { relay, up } = talking();
  assert.deepEqual(
    feed(relay, message(up), end(up)).map((event) => event.type),
    ["message", "endMessage"],
  );
});

test("unprocessed messages are bounded: Resting above the limit", () => {
  const { client, relay } = connected({}, { maxUnprocessed: 2 });
  const sessionId = ready(client, relay);
  const numbers = [1, 2, 3].map(() => sendMessage(client, sessionId));
  assert.equal(relay.unprocessed, 0);
  const events = pump(client, relay);
  assert.equal(only(events.b, "closed").cause, "limit");
  const closed = only(events.a, "closed");
  assert.deepEqual([closed.reasonId, closed.returnTime, closed.unacknowledged], [Resting, 5, numbers]);
});

// ---------------------------------------------------------------------------------------------------- acknowledgement

test("[3.1.4.7] only messages before the first incomplete one are acknowledged", () => {
  const { client, relay, up } = talking();
  const numbers = [1, 2, 3, 4].map(() => sendMessage(client, up));
  pump(client, relay);
  relay.complete(2);
  relay.complete(3);
  relay.noop();
  assert.deepEqual(pump(client, relay).a, []);
  relay.complete(1);
  relay.noop();
  assert.deepEqual(pump(client, relay).a, [{ type: "acknowledged", messages: numbers.slice(0, 3) }]);
  assert.deepEqual(client.unacknowledged, [4]);
  assert.equal(relay.unprocessed, 1);
});

test("[3.1.2.1] processed messages are acknowledged after 5 seconds", () => {
  const { client, relay, up } = talking();
  sendMessage(client, up);
  sendMessage(client, up);
  pump(client, relay);
  relay.complete(1, 1000);
  relay.complete(2, 3000);
  assert.equal(relay.deadline, 6000);
  relay.advance(5999);
  assert.deepEqual(sent(relay), []);
  relay.advance(6000);
  assert.equal(relay.pendingOctets, 7);
  assert.deepEqual(sent(relay), [{ command: "Noop", messageCount: 2 }]);
  assert.equal(relay.deadline, Number.POSITIVE_INFINITY);
});

test("[3.1.4.7] flag A is acknowledged at once, with one Noop for many messages", () => {
  const { client, relay, up } = talking();
  for (const acknowledgeImmediately of [false, true, false]) {
    sendMessage(client, up, "body", { acknowledgeImmediately });
  }
  pump(client, relay);
  relay.complete(1);
  assert.equal(relay.pendingOctets, 0);
  relay.complete(2);
  assert.equal(relay.pendingOctets, 7);
  relay.complete(3);
  assert.deepEqual(sent(relay), [{ command: "Noop", messageCount: 3 }]);
  assert.deepEqual(sent(relay), []);
});

test("[3.1.4.7] flag A of a message behind an incomplete one waits for it", () => {
  const { client, relay, up } = talking();
  sendMessage(client, up);
  sendMessage(client, up, "body", { acknowledgeImmediately: true });
  pump(client, relay);
  relay.complete(2);
  assert.equal(relay.pendingOctets, 0);
  relay.complete(1);
  assert.deepEqual(sent(relay), [{ command: "Noop", messageCount: 2 }]);
});

test("[3.1.4.6] a Message carries the acknowledgement and MUST stop the timer", () => {
  const { client, relay, up, down } = talking();
  sendMessage(client, up, "body", { acknowledgeImmediately: true });
  pump(client, relay);
  relay.complete(1);
  sendMessage(relay, down);
  const commands = sent(relay);
  assert.deepEqual(
    commands.map((command) => command.command),
    ["Message", "Data", "EndMessage"],
  );
  assert.equal((commands[0] as { messageCount: number }).messageCount, 1);
  assert.equal(relay.deadline, Number.POSITIVE_INFINITY);
  assert.deepEqual(sent(relay), []);
});

test("[3.1.5.13] Noop with MessageCount 0 has no effect", () => {
  const { client } = connected();
  assert.deepEqual(feed(client, { command: "Noop", messageCount: 0 }), []);
});

test("[3.1.5.19] a MessageCount removes the oldest messages of any session", () => {
  const { client, relay, up } = talking();
  const second = ready(client, relay);
  const numbers = [sendMessage(client, second), sendMessage(client, up), sendMessage(client, second)];
  client.output();
  assert.deepEqual(feed(client, { command: "Noop", messageCount: 2 }), [
    { type: "acknowledged", messages: numbers.slice(0, 2) },
  ]);
  assert.deepEqual(client.unacknowledged, numbers.slice(2));
});

test("[3.1.5.10] a MessageCount in Message acknowledges before the message begins", () => {
  const { client, up, down } = talking();
  const number = sendMessage(client, up);
  client.output();
  const events = feed(client, message(down, 1));
  assert.deepEqual(events[0], { type: "acknowledged", messages: [number] });
  assert.equal(events[1]?.type, "message");
});

test("a MessageCount above the number outstanding closes with ProtocolError", () => {
  const noop = talking();
  sendMessage(noop.client, noop.up);
  noop.client.output();
  assertViolation(noop.client, feed(noop.client, { command: "Noop", messageCount: 2 }), ProtocolError);
  const { client, down } = talking();
  assertViolation(client, feed(client, message(down, 1)), ProtocolError);
});

test("complete returns false the second time, and rejects an unknown message", () => {
  const { client, relay, up } = talking();
  sendMessage(client, up);
  pump(client, relay);
  assert.throws(() => relay.complete(2), refusal("invalid-argument"));
  assert.throws(() => relay.complete(0), refusal("invalid-argument"));
  assert.equal(relay.complete(1), true);
  assert.equal(relay.complete(1), false);
  relay.noop();
  assert.deepEqual(sent(relay), [{ command: "Noop", messageCount: 1 }]);
  relay.close(Resting);
  assert.equal(relay.complete(1), false);
});

test("messages of a session closed by its originator are still acknowledged", () => {
  const { client, relay } = connected();
  const sessionId = ready(client, relay);
  const number = sendMessage(client, sessionId);
  client.closeSession(sessionId, 0);
  pump(client, relay);
  relay.complete(1);
  relay.noop();
  assert.deepEqual(pump(client, relay).a, [{ type: "acknowledged", messages: [number] }]);
});

test("closing a session of the peer first acknowledges processed messages", () => {
  const { client, relay, up } = talking();
  const [first, second] = [sendMessage(client, up), sendMessage(client, up)];
  pump(client, relay);
  relay.complete(1);
  relay.closeSession(up, 0);
  const events = pump(client, relay).a;
  assert.deepEqual(events[0], { type: "acknowledged", messages: [first] });
  assert.deepEqual(only(events, "sessionClosed").unacknowledged, [second]);
});

test("dropping a session releases the messages behind its own", () => {
  const { client, relay, up } = talking();
  const other = ready(client, relay);
  sendMessage(client, up);
  const kept = sendMessage(client, other);
  pump(client, relay);
  relay.complete(2);
  relay.setAvailability(up, "fault");
  assert.equal(relay.deadline, 5000);
  relay.advance(5000);
  assert.deepEqual(only(pump(client, relay).a, "acknowledged").messages, [kept]);
});

test("the keep-alive Noop carries due acknowledgements", () => {
  const { client, relay } = connected({}, { keepAlive: 1000 });
  const sessionId = ready(client, relay);
  sendMessage(client, sessionId);
  pump(client, relay);
  relay.complete(1);
  relay.advance(1000);
  assert.deepEqual(sent(relay), [{ command: "Noop", messageCount: 1 }]);
  feedAt(2000, relay, { command: "Noop", messageCount: 0 });
  relay.advance(2000);
  assert.deepEqual(sent(relay), [{ command: "Noop", messageCount: 0 }]);
});
