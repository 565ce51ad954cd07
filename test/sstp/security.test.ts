import assert from "node:assert/strict";
import { test } from "node:test";
import type { Command } from "../../src/sstp/index.ts";
import { CloseReasonId, ConnectCloseReasonId } from "../../src/sstp/index.ts";
import { assertViolation, bytes, connected, entry, feed, only, pump, refusal } from "./support.ts";

const { ProtocolError, TooManyUnknownSessionCmds } = ConnectCloseReasonId;
const none = bytes("");

const attach = (eventId: number): Command => ({
  command: "Attach",
  eventId,
  resourceURL: "",
  accountURL: "grooveAccount://alice",
  authenticationToken: none,
});
const register = (eventId: number): Command => ({ command: "Register", eventId, authenticationToken: none });

test("[3.3.5.14] Attach, AttachResponse and AttachAuthenticate are exchanged", () => {
  const { client, relay } = connected();
  const eventId = client.attach({ accountURL: "grooveAccount://alice", token: bytes("one") });
  assert.deepEqual(pump(client, relay).b, [
    { type: "attach", eventId, accountURL: "grooveAccount://alice", resourceURL: "", token: bytes("one") },
  ]);
  relay.acceptAttach(eventId, bytes("two"));
  assert.deepEqual(pump(client, relay).a, [{ type: "attached", eventId, token: bytes("two") }]);
  client.attachAuthenticate(eventId, bytes("three"));
  assert.deepEqual(pump(client, relay).b, [{ type: "attachAuthenticate", eventId, token: bytes("three") }]);
  client.closeSession(eventId, CloseReasonId.NoReason);
  assert.equal(only(pump(client, relay).b, "sessionClosed").kind, "attach");
});

test("[2.2.9.1] failures on an attach session are reported with Close", () => {
  const { client, relay } = connected();
  const eventId = client.attach({ accountURL: "a", resourceURL: "grooveDNS://relay.example.com" });
  pump(client, relay);
  relay.closeSession(eventId, CloseReasonId.UserAuthenticationFailed);
  const closed = only(pump(client, relay).a, "sessionClosed");
  assert.deepEqual([closed.kind, closed.reasonId], ["attach", CloseReasonId.UserAuthenticationFailed]);
  assert.throws(() => client.attachAuthenticate(eventId, none), refusal("unknown-session"));
});

test("AttachAuthenticate that crosses the relay's Close is ignored", () => {
  const { client, relay } = connected();
  const eventId = client.attach({ accountURL: "a" });
  pump(client, relay);
  client.attachAuthenticate(eventId, none);
  relay.closeSession(eventId, CloseReasonId.StaleAttachAuthenticate);
  const events = pump(client, relay);
  assert.deepEqual(events.b, []);
  assert.equal(relay.state, "established");
});

test("AttachResponse that crosses the client's Close is ignored", () => {
  const { client, relay } = connected();
  const eventId = client.attach({ accountURL: "a" });
  pump(client, relay);
  client.closeSession(eventId, 0);
  relay.acceptAttach(eventId);
  assert.deepEqual(pump(client, relay).a, []);
  assert.equal(client.state, "established");
});

test("Register and RegisterResponse are exchanged", () => {
  const { client, relay } = connected();
  const eventId = client.register(bytes("keys"));
  assert.deepEqual(pump(client, relay).b, [{ type: "register", eventId, token: bytes("keys") }]);
  relay.acceptRegister(eventId, bytes("done"));
  assert.deepEqual(pump(client, relay).a, [{ type: "registered", eventId, responseId: 0, token: bytes("done") }]);
});

test("[3.3.5.14] Attach with an existing EventId closes with TooManyUnknownSessionCmds", () => {
  for (const first of [attach(1), register(1), { command: "Open", sessionId: 1, ...entry } as Command]) {
    for (const second of [attach(1), register(1)]) {
      const { relay } = connected();
      feed(relay, first);
      assertViolation(relay, feed(relay, second), TooManyUnknownSessionCmds);
    }
  }
});

test("Open with the EventId of an attach session closes with TooManyUnknownSessionCmds", () => {
  const { relay } = connected();
  feed(relay, attach(1));
  assertViolation(relay, feed(relay, { command: "Open", sessionId: 1, ...entry }), TooManyUnknownSessionCmds);
});

test("only a relay accepts Attach and Register", () => {
  for (const command of [attach(2), register(2)]) {
    const { client } = connected();
    assertViolation(client, feed(client, command), ProtocolError);
  }
});

test("AttachAuthenticate for an unknown or other session closes the connection", () => {
  const authenticate: Command = { command: "AttachAuthenticate", eventId: 1, authenticationToken: none };
  const unknown = connected().relay;
  assertViolation(unknown, feed(unknown, authenticate), TooManyUnknownSessionCmds);
  const other = connected().relay;
  feed(other, register(1));
  assertViolation(other, feed(other, authenticate), ProtocolError);
});

test("responses for an unknown or other session close the connection", () => {
  for (const command of ["AttachResponse", "RegisterResponse"] as const) {
    const response: Command = { command, eventId: 1, responseId: 0, authenticationToken: none };
    const unknown = connected().client;
    assertViolation(unknown, feed(unknown, response), TooManyUnknownSessionCmds);
    const other = connected().client;
    other.open(entry);
    other.output();
    assertViolation(other, feed(other, response), ProtocolError);
  }
});

test("AttachResponse other than Ok is a refusal", () => {
  const { client } = connected();
  const eventId = client.attach({ accountURL: "a" });
  client.output();
  const response: Command = { command: "AttachResponse", eventId, responseId: 9, authenticationToken: bytes("no") };
  assert.deepEqual(feed(client, response), [{ type: "attachRefused", eventId, responseId: 9, token: bytes("no") }]);
  assert.deepEqual(client.sessions(), []);
});

test("messages on an attach session close with ProtocolError", () => {
  const { relay } = connected();
  feed(relay, attach(1));
  assertViolation(relay, feed(relay, { command: "Data", sessionId: 1, data: none }), ProtocolError);
});

test("only sessions opened by the other side may be answered", () => {
  const { client, relay } = connected();
  const eventId = client.attach({ accountURL: "a" });
  const registerId = client.register(none);
  pump(client, relay);
  assert.throws(() => client.acceptAttach(eventId), refusal("unknown-session"));
  assert.throws(() => relay.attachAuthenticate(eventId, none), refusal("unknown-session"));
  assert.throws(() => relay.acceptAttach(registerId), refusal("unknown-session"));
  assert.throws(() => client.acceptRegister(registerId), refusal("unknown-session"));
});
