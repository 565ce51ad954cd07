import assert from "node:assert/strict";
import { test } from "node:test";
import type { Command, ConnectionOptions } from "../../src/sstp/index.ts";
import {
  ConnectCloseReasonId,
  Connection,
  ConnectResponseId,
  VERSION_1_5,
  VERSION_1_6,
  WireError,
} from "../../src/sstp/index.ts";
import {
  assertViolation,
  bytes,
  CLIENT_URL,
  clientOptions,
  connected,
  feed,
  only,
  pump,
  RELAY_URL,
  ready,
  refusal,
  relayOptions,
  sendMessage,
  sent,
} from "./support.ts";

const { ProtocolError, Resting, CrossedConnections, TooManyUnknownSessionCmds } = ConnectCloseReasonId;

function connect(changes: Partial<Extract<Command, { command: "Connect" }>> = {}): Command {
  return {
    command: "Connect",
    majorVersionNumber: 1,
    minorVersionNumber: 6,
    targetDeviceURL: RELAY_URL,
    sourceDeviceURLs: [CLIENT_URL],
    authenticationToken: new Uint8Array(0),
    peerProductVersion: "V P 1 1",
    peerProductCapabilities: "",
    ...changes,
  };
}

function response(responseId: number, minorVersionNumber = 6, majorVersionNumber = 1, retryTime = 0): Command {
  return {
    command: "ConnectResponse",
    responseId,
    majorVersionNumber,
    minorVersionNumber,
    retryTime,
    authenticationToken: new Uint8Array(0),
    peerProductVersion: "",
    peerProductCapabilities: "",
  };
}

/** The relay's automatic answer to a Connect. */
function answer(changes: Parameters<typeof connect>[0], options: Partial<ConnectionOptions> = {}): number | undefined {
  const relay = new Connection({ ...relayOptions, ...options });
  const events = feed(relay, connect(changes));
  const [first] = sent(relay);
  if (first === undefined) return undefined;
  const closed = only(events, "closed");
  assert.equal(first.command, "ConnectResponse");
  assert.deepEqual([closed.by, closed.cause], ["self", "refused"]);
  return (first as Extract<Command, { command: "ConnectResponse" }>).responseId;
}

test("[1.3.2] Connect and ConnectResponse Ok establish both sides and deliver tokens and products", () => {
  const client = new Connection({ ...clientOptions, productVersion: "Groove Client 14.0 4006" });
  const relay = new Connection({ ...relayOptions, productVersion: "Groove Relay 14.0 4006" });
  client.connect(RELAY_URL, bytes("hello"));
  assert.equal(client.state, "connecting");
  const asked = only(pump(client, relay).b, "connect");
  assert.deepEqual(asked, {
    type: "connect",
    targetDeviceURL: RELAY_URL,
    sourceDeviceURLs: [CLIENT_URL],
    version: VERSION_1_6,
    token: bytes("hello"),
    productVersion: "Groove Client 14.0 4006",
    productCapabilities: "",
  });
  relay.acceptConnect({ token: bytes("welcome") });
  assert.deepEqual(pump(client, relay).a, [
    {
      type: "connected",
      version: VERSION_1_6,
      token: bytes("welcome"),
      productVersion: "Groove Relay 14.0 4006",
      productCapabilities: "",
    },
  ]);
  assert.deepEqual([client.state, relay.state], ["established", "established"]);
});

test("[2.2.1.1] MinorVersionNumber is 6 for a 1.6 sender and 5 for a 1.5 sender", () => {
  for (const version of [VERSION_1_5, VERSION_1_6]) {
    const client = new Connection({ ...clientOptions, version });
    client.connect(RELAY_URL);
    const [first] = sent(client);
    assert.ok(first?.command === "Connect");
    assert.deepEqual([first.majorVersionNumber, first.minorVersionNumber], [1, version.minor]);
  }
});

test("[3.1.5.1] Connect to another device is answered with WrongDevice", () => {
  assert.equal(answer({ targetDeviceURL: "grooveDNS://other" }), ConnectResponseId.WrongDevice);
});

test("[3.1.5.1] Connect to any of LocalDeviceURLs is accepted, ignoring the case of a DNS name", () => {
  const localDeviceURLs = [RELAY_URL, "grooveDNS://two.example.com"];
  assert.equal(answer({ targetDeviceURL: "grooveDNS://Two.Example.COM" }, { localDeviceURLs }), undefined);
});

test("[3.1.5.1] a higher major version is answered with WillUpgrade or WontUpgrade", () => {
  assert.equal(answer({ majorVersionNumber: 2, minorVersionNumber: 0 }), ConnectResponseId.WillUpgrade);
  assert.equal(answer({ majorVersionNumber: 2, minorVersionNumber: 9 }), ConnectResponseId.WontUpgrade);
});

test("[3.1.5.1] a lower major version is answered with NewVersionRequired", () => {
  assert.equal(answer({ majorVersionNumber: 0 }), ConnectResponseId.NewVersionRequired);
  assert.equal(answer({ minorVersionNumber: 4 }), ConnectResponseId.NewVersionRequired);
});

test("[4.1.1] the same major and a higher minor version is accepted at the lower one", () => {
  const relay = new Connection(relayOptions);
  assert.deepEqual(only(feed(relay, connect({ minorVersionNumber: 9 })), "connect").version, VERSION_1_6);
});

test("[4.1.1] 1.6 and 1.5 negotiate 1.5 on both sides, whichever side is older", () => {
  for (const [a, b] of [
    [VERSION_1_6, VERSION_1_5],
    [VERSION_1_5, VERSION_1_6],
    [VERSION_1_5, VERSION_1_5],
  ] as const) {
    const { client, relay } = connected({ version: a }, { version: b });
    assert.deepEqual([client.version, relay.version], [VERSION_1_5, VERSION_1_5]);
    client.openFanout({ resourceURL: "r", entries: [{ identityURL: "i", deviceURL: "", relayURL: "" }] });
    assert.equal(pump(client, relay).b[0]?.type, "fanoutOpen");
  }
});

test("[3.1.5.1] Connect in any state but 'transport layer connected' closes the connection", () => {
  const connecting = new Connection(relayOptions);
  feed(connecting, connect());
  assertViolation(connecting, feed(connecting, connect()), ProtocolError);

  const { relay } = connected();
  assertViolation(relay, feed(relay, connect()), ProtocolError);

  const client = new Connection(clientOptions);
  assertViolation(client, feed(client, connect({ targetDeviceURL: CLIENT_URL })), ProtocolError);
});

test("[3.1.5.1] too many connections: Ok is followed by ConnectClose CrossedConnections", () => {
  const relay = new Connection(relayOptions);
  const client = new Connection(clientOptions);
  client.connect(RELAY_URL);
  pump(client, relay);
  relay.acceptConnect({ tooMany: true });
  assert.equal(relay.closed?.reasonId, CrossedConnections);
  const events = pump(client, relay).a;
  assert.deepEqual(
    events.map((event) => event.type),
    ["connected", "closed"],
  );
  assert.deepEqual([client.closed?.by, client.closed?.reasonId], ["peer", CrossedConnections]);
});

test("[3.1.5.1] TryLater MUST have a RetryTime, which reaches the originator", () => {
  const relay = new Connection(relayOptions);
  const client = new Connection(clientOptions);
  client.connect(RELAY_URL);
  pump(client, relay);
  assert.throws(() => relay.refuseConnect(ConnectResponseId.TryLater), refusal("invalid-argument"));
  assert.throws(() => relay.refuseConnect(ConnectResponseId.Ok), refusal("invalid-argument"));
  relay.refuseConnect(ConnectResponseId.TryLater, 30);
  assert.deepEqual([relay.closed?.cause, relay.closed?.returnTime], ["refused", 30]);
  const events = pump(client, relay).a;
  const refused = only(events, "refused");
  assert.deepEqual(
    [refused.responseId, refused.retryTime, refused.peerVersion],
    [ConnectResponseId.TryLater, 30, { major: 1, minor: 6 }],
  );
  const closed = only(events, "closed");
  assert.deepEqual([closed.by, closed.cause, closed.returnTime], ["peer", "refused", 30]);
});

test("[3.3.5.1] AuthenticationFailed carries the security reply", () => {
  const relay = new Connection(relayOptions);
  const client = new Connection(clientOptions);
  client.connect(RELAY_URL);
  pump(client, relay);
  relay.refuseConnect(ConnectResponseId.AuthenticationFailed, 0, bytes("no"));
  assert.deepEqual(only(pump(client, relay).a, "refused").token, bytes("no"));
});

test("an unsolicited ConnectResponse closes the connection", () => {
  const client = new Connection(clientOptions);
  assertViolation(client, feed(client, response(0)), ProtocolError);
  const { relay } = connected();
  assertViolation(relay, feed(relay, response(0)), ProtocolError);
});

test("ConnectResponse Ok with an unknown version closes the connection", () => {
  for (const [minor, major] of [
    [4, 1],
    [6, 2],
    [6, 0],
  ] as const) {
    const client = new Connection(clientOptions);
    client.connect(RELAY_URL);
    client.output();
    assertViolation(client, feed(client, response(0, minor, major)), ProtocolError);
  }
});

test("connect may be called once, on the side that opened the transport connection", () => {
  const client = new Connection(clientOptions);
  client.connect(RELAY_URL);
  assert.throws(() => client.connect(RELAY_URL), refusal("cannot-connect"));
  assert.throws(() => new Connection(relayOptions).connect(RELAY_URL), refusal("cannot-connect"));
});

test("calls made too early are rejected and change nothing", () => {
  const relay = new Connection(relayOptions);
  assert.throws(() => relay.acceptConnect(), refusal("no-connect"));
  assert.throws(() => relay.refuseConnect(1), refusal("no-connect"));
  assert.throws(() => relay.open({ resourceURL: "r", identityURL: "i", deviceURL: "" }), refusal("not-established"));
  assert.throws(() => relay.noop(), refusal("not-established"));
  assert.equal(relay.pendingOctets, 0);
  assert.equal(relay.state, "transport layer connected");
});

test("an argument that cannot be encoded changes nothing", () => {
  const client = new Connection(clientOptions);
  assert.throws(() => client.connect("grooveDNS://é"), WireError);
  assert.equal(client.state, "transport layer connected");
  client.connect(RELAY_URL);
});

test("[3.1.1.1] a client MUST support neither multi-drop nor single-hop", () => {
  for (const name of ["multidropSupported", "singleHopSupported"]) {
    assert.throws(() => new Connection({ ...clientOptions, [name]: true }), refusal("invalid-argument"));
  }
  assert.throws(() => new Connection({ ...clientOptions, localDeviceURLs: [] }), refusal("invalid-argument"));
  assert.throws(() => new Connection({ ...clientOptions, keepAlive: Number.NaN }), refusal("invalid-argument"));
});

test("[2.2.3] ConnectAuthenticate reaches the relay, and is a violation when sent to a client", () => {
  const { client, relay } = connected();
  client.connectAuthenticate(bytes("answer"));
  assert.deepEqual(pump(client, relay).b, [{ type: "connectAuthenticate", token: bytes("answer") }]);
  assert.throws(() => relay.connectAuthenticate(bytes("x")), refusal("invalid-argument"));
  const authenticate: Command = { command: "ConnectAuthenticate", authenticationToken: bytes("x") };
  assertViolation(client, feed(client, authenticate), ProtocolError);
  const early = new Connection(relayOptions);
  assertViolation(early, feed(early, authenticate), ProtocolError);
});

test("[3.1.4.2] ConnectClose carries the MessageCount of processed messages", () => {
  const { client, relay } = connected();
  const sessionId = ready(client, relay);
  const first = sendMessage(client, sessionId);
  const second = sendMessage(client, sessionId);
  pump(client, relay);
  relay.complete(1);
  relay.close(Resting, 60);
  assert.equal(relay.state, "aborting");
  const events = pump(client, relay).a;
  assert.deepEqual(only(events, "acknowledged").messages, [first]);
  const closed = only(events, "closed");
  assert.deepEqual([closed.by, closed.reasonId, closed.returnTime], ["peer", Resting, 60]);
  assert.deepEqual(closed.unacknowledged, [second]);
  assert.deepEqual(client.unacknowledged, [second]);
});

test("[3.1.5.4] ReturnTime is present only with Resting", () => {
  const { client } = connected();
  const close: Command = { command: "ConnectClose", messageCount: 0, reasonId: 3, returnTime: 60 };
  assert.equal(only(feed(client, close), "closed").returnTime, undefined);
});

test("[3.1.5.4] ConnectClose removes the connection and all sessions, in any state", () => {
  const { client, relay } = connected();
  ready(client, relay);
  client.close(Resting);
  assert.deepEqual(client.sessions(), []);
  pump(client, relay);
  assert.deepEqual(relay.sessions(), []);
  const fresh = new Connection(relayOptions);
  const close: Command = { command: "ConnectClose", messageCount: 5, reasonId: 1, returnTime: 0 };
  assert.equal(only(feed(fresh, close), "closed").by, "peer");
});

test("after the end receive and advance return nothing and other calls are rejected", () => {
  const { client } = connected({ keepAlive: 10, receiveTimeout: 10 });
  client.close(Resting, 1);
  client.close(Resting, 1);
  assert.deepEqual(feed(client, { command: "Noop", messageCount: 0 }), []);
  assert.deepEqual(client.advance(1_000_000), []);
  assert.deepEqual(client.transportLost(), []);
  assert.equal(client.deadline, Number.POSITIVE_INFINITY);
  assert.equal(sent(client).length, 1);
  assert.throws(() => client.noop(), refusal("closed"));
  assert.throws(() => client.connect(RELAY_URL), refusal("closed"));
  assert.throws(() => client.open({ resourceURL: "r", identityURL: "i", deviceURL: "" }), refusal("closed"));
});

test("commands after ConnectClose in the same chunk are ignored", () => {
  const { client } = connected();
  const events = feed(
    client,
    { command: "ConnectClose", messageCount: 0, reasonId: 1, returnTime: 0 },
    { command: "Data", sessionId: 99, data: bytes("x") },
  );
  assert.deepEqual(
    events.map((event) => event.type),
    ["closed"],
  );
});

test("close before Connect sends nothing", () => {
  const client = new Connection(clientOptions);
  client.close(Resting);
  assert.deepEqual(client.output(), []);
  assert.equal(client.closed?.by, "self");
});

test("malformed octets close the connection with ProtocolError and the error's name", () => {
  const { client } = connected();
  const events = client.receive(Uint8Array.of(0xff, 7, 0), 0);
  assert.equal(only(events, "closed").wireError, "unknown-command");
  assertViolation(client, events, ProtocolError);
});

test("loss of the transport closes the connection and lists unacknowledged messages", () => {
  const { client, relay } = connected();
  const message = sendMessage(client, ready(client, relay));
  const closed = only(client.transportLost(), "closed");
  assert.deepEqual([closed.cause, closed.unacknowledged], ["transport", [message]]);
});

test("keep-alive: a Noop is sent whenever nothing was sent for the interval", () => {
  const { client } = connected({ keepAlive: 25_000 });
  assert.equal(client.deadline, 25_000);
  assert.deepEqual(client.advance(24_999), []);
  assert.equal(client.pendingOctets, 0);
  client.advance(25_000);
  assert.deepEqual(sent(client), [{ command: "Noop", messageCount: 0 }]);
  assert.equal(client.deadline, 50_000);
  client.noop();
  client.output(40_000);
  assert.equal(client.deadline, 65_000);
});

test("keep-alive: the interval is shorter while messages are unprocessed", () => {
  const { client, relay } = connected({ keepAlive: 25_000, busyKeepAlive: 5000 });
  assert.equal(client.deadline, 25_000);
  sendMessage(relay, ready(relay, client));
  const { message } = only(pump(relay, client).b, "endMessage");
  assert.equal(client.deadline, 5000);
  client.advance(5000);
  assert.deepEqual(sent(client), [{ command: "Noop", messageCount: 0 }]);
  client.complete(message);
  client.output(5000);
  client.advance(10_000);
  client.output(10_000);
  assert.equal(client.deadline, 35_000);
});

test("keep-alive: nothing is added while output is pending", () => {
  const { client } = connected({ keepAlive: 10 });
  client.noop();
  const { pendingOctets } = client;
  for (let now = 10; now < 100; now += 10) client.advance(now);
  assert.equal(client.pendingOctets, pendingOctets);
});

test("keep-alive does not start before the connection is established", () => {
  const client = new Connection({ ...clientOptions, keepAlive: 10 });
  client.connect(RELAY_URL);
  assert.equal(client.deadline, Number.POSITIVE_INFINITY);
});

test("receive timeout: the connection closes when nothing was received for the interval", () => {
  const { client } = connected({ receiveTimeout: 60_000 });
  client.receive(new Uint8Array(0), 30_000);
  assert.equal(client.deadline, 60_000);
  feedNoop(client, 50_000);
  assert.equal(client.deadline, 110_000);
  assert.deepEqual(client.advance(109_999), []);
  const closed = only(client.advance(110_000), "closed");
  assert.deepEqual([closed.by, closed.cause], ["self", "timeout"]);
  assert.deepEqual(client.output(), []);
});

function feedNoop(connection: Connection, now: number): void {
  connection.receive(Uint8Array.of(0x10, 7, 0, 0, 0, 0, 0), now);
}

test("session commands before the connection is established close it", () => {
  const commands: Command[] = [
    { command: "Open", sessionId: 1, resourceURL: "r", identityURL: "i", deviceURL: "" },
    { command: "FanoutOpen", sessionId: 1, resourceURL: "r", fanoutDeviceEntries: [] },
    { command: "Close", sessionId: 1, reasonId: 0 },
    { command: "Message", sessionId: 1, messageCount: 0, flags: 0, userRef: "" },
    { command: "Data", sessionId: 1, data: bytes("x") },
    { command: "EndMessage", sessionId: 1 },
    { command: "Attach", eventId: 1, resourceURL: "", accountURL: "a", authenticationToken: bytes("") },
    { command: "Register", eventId: 1, authenticationToken: bytes("") },
  ];
  for (const command of commands) {
    const fresh = new Connection(relayOptions);
    assertViolation(fresh, feed(fresh, command), TooManyUnknownSessionCmds);
    const connecting = new Connection(relayOptions);
    feed(connecting, connect());
    assertViolation(connecting, feed(connecting, command), TooManyUnknownSessionCmds);
  }
});
