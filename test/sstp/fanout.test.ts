import assert from "node:assert/strict";
import { test } from "node:test";
import type { Command, ConnectionOptions, FanoutDeviceEntry } from "../../src/sstp/index.ts";
import {
  ConnectCloseReasonId,
  encode,
  isMultidrop,
  OpenResponseId,
  SessionStatusId,
  VERSION_1_5,
  VERSION_1_6,
} from "../../src/sstp/index.ts";
import { assertViolation, connected, feed, only, pump, RELAY_URL, refusal, sent } from "./support.ts";

const here: FanoutDeviceEntry = { identityURL: "grooveIdentity://b", deviceURL: "", relayURL: "" };
const local: FanoutDeviceEntry = { identityURL: "grooveIdentity://c", deviceURL: "device:c", relayURL: RELAY_URL };
const far = (n: number): FanoutDeviceEntry => ({
  identityURL: `grooveIdentity://far${n}`,
  deviceURL: `device:${n}`,
  relayURL: "grooveDNS://far.example.com",
});

function fanoutOpen(fanoutDeviceEntries: readonly FanoutDeviceEntry[], resourceURL = "r"): Command {
  return { command: "FanoutOpen", sessionId: 1, resourceURL, fanoutDeviceEntries };
}

/** The relay's automatic ResponseId; undefined when the owner is asked. */
function answer(command: Command, options: Partial<ConnectionOptions> = {}): number | undefined {
  const { relay } = connected({}, options);
  const events = feed(relay, command);
  const [response] = sent(relay);
  assert.equal(events.length, response === undefined ? 1 : 0);
  assert.equal(relay.sessions().length, events.length);
  return response?.command === "OpenResponse" ? response.responseId : undefined;
}

test("[3.3.5.6] a valid FanoutOpen is reported to the owner", () => {
  const { relay } = connected();
  const entries = [here, local, far(1)];
  assert.deepEqual(feed(relay, fanoutOpen(entries)), [{ type: "fanoutOpen", sessionId: 1, resourceURL: "r", entries }]);
  relay.setAvailability(1, "ready");
  assert.deepEqual(sent(relay), [{ command: "OpenResponse", sessionId: 1, responseId: OpenResponseId.Ok }]);
});

test("[3.3.5.6] without entries: Ok, and no session", () => {
  const { relay } = connected();
  assert.deepEqual(feed(relay, fanoutOpen([])), []);
  assert.deepEqual(sent(relay), [{ command: "OpenResponse", sessionId: 1, responseId: OpenResponseId.Ok }]);
  assertViolation(
    relay,
    feed(relay, { command: "Message", sessionId: 1, messageCount: 0, flags: 0, userRef: "" }),
    ConnectCloseReasonId.TooManyUnknownSessionCmds,
  );
});

test("[3.3.5.6] an empty or local RelayURL without multi-drop: NoFanoutEntries", () => {
  const options = { multidropSupported: false };
  assert.equal(answer(fanoutOpen([here]), options), OpenResponseId.NoFanoutEntries);
  assert.equal(answer(fanoutOpen([far(1), local]), options), OpenResponseId.NoFanoutEntries);
  assert.equal(answer(fanoutOpen([far(1)]), options), undefined);
});

test("[3.3.5.6] a remote RelayURL without single-hop: FanoutNotSupported", () => {
  const options = { singleHopSupported: false };
  assert.equal(answer(fanoutOpen([here, far(1)]), options), OpenResponseId.FanoutNotSupported);
  assert.equal(answer(fanoutOpen([here, local]), options), undefined);
});

test("[3.3.5.6] the resource grooveWanDPP: NoResource", () => {
  assert.equal(answer(fanoutOpen([here], "grooveWanDPP")), OpenResponseId.NoResource);
});

test("[3.3.5.6] invalid URLs: Unknown", () => {
  for (const bad of [{ identityURL: "" }, { identityURL: "a b" }, { deviceURL: "%zz" }, { relayURL: "<x>" }]) {
    assert.equal(answer(fanoutOpen([{ ...here, ...bad }])), OpenResponseId.Unknown);
  }
});

test("[3.3.5.6] FanoutOpen of an existing session closes the connection", () => {
  const { relay } = connected();
  feed(relay, fanoutOpen([here]));
  assertViolation(relay, feed(relay, fanoutOpen([here])), ConnectCloseReasonId.TooManyUnknownSessionCmds);
});

test("[3.3.5.6.1] FanoutOpen in the wrong version: ProtocolError", () => {
  const { relay } = connected({ version: VERSION_1_5 });
  const events = relay.receive(encode(fanoutOpen([here]), VERSION_1_6), 0);
  assertViolation(relay, events, ConnectCloseReasonId.ProtocolError);
});

test("a client refuses fanout sessions", () => {
  const { client } = connected();
  feed(client, { ...fanoutOpen([here]), sessionId: 2 } as Command);
  assert.deepEqual(sent(client), [
    { command: "OpenResponse", sessionId: 2, responseId: OpenResponseId.NoFanoutEntries },
  ]);
});

test("a fanout session without entries is not opened", () => {
  const { client } = connected();
  assert.throws(() => client.openFanout({ resourceURL: "r", entries: [] }), refusal("invalid-argument"));
});

test("isMultidrop distinguishes this relay's recipients from those of others", () => {
  assert.deepEqual(
    [here, local, far(1)].map((entry) => isMultidrop(entry, [RELAY_URL])),
    [true, true, false],
  );
});

for (const version of [VERSION_1_5, VERSION_1_6]) {
  const minor = `1.${version.minor}`;
  const begin = (entries: readonly FanoutDeviceEntry[]) => {
    const { client, relay } = connected({ version });
    const sessionId = client.openFanout({ resourceURL: "r", entries });
    pump(client, relay);
    relay.setAvailability(sessionId, "ready");
    pump(client, relay);
    return { client, relay, sessionId };
  };

  test(`[2.2.8.1] ${minor}: SessionStatus about recipients reaches the originator by index`, () => {
    const { client, relay, sessionId } = begin([here, local, far(1), far(2)]);
    const status = relay.sessionStatus(sessionId, SessionStatusId.QuotaWouldBeExceeded, [3, 1]);
    assert.deepEqual(status, { indexes: [1, 3], remaining: 2 });
    const events = pump(client, relay).a.filter((event) => event.type === "sessionStatus");
    assert.equal(events.length, version.minor < 6 ? 2 : 1);
    assert.deepEqual(
      events.flatMap((event) => event.indexes),
      [1, 3],
    );
    assert.equal(events.at(-1)?.remaining, 2);
  });

  test(`[3.3.5.9] ${minor}: SessionStatus about a relay removes all entries at it`, () => {
    const { client, relay, sessionId } = begin([here, far(1), far(2), local]);
    const status = relay.sessionStatus(sessionId, SessionStatusId.HostNotReachable, [1]);
    assert.deepEqual(status, { indexes: [1, 2], remaining: 2 });
    const event = only(pump(client, relay).a, "sessionStatus");
    assert.deepEqual([event.deviceURL, event.indexes, event.remaining], [far(1).relayURL, [1, 2], 2]);
  });

  test(`[3.1.1.3] ${minor}: indexes stay valid after entries are removed, and each is reported once`, () => {
    const { client, relay, sessionId } = begin([here, local, far(1)]);
    relay.sessionStatus(sessionId, SessionStatusId.LockedOut, [0]);
    pump(client, relay);
    relay.sessionStatus(sessionId, SessionStatusId.LockedOut, [0, 2]);
    assert.deepEqual(only(pump(client, relay).a, "sessionStatus").indexes, [2]);
    assert.deepEqual(relay.sessionStatus(sessionId, SessionStatusId.LockedOut, [0]), { indexes: [], remaining: 1 });
    assert.equal(relay.pendingOctets, 0);
  });

  test(`[3.2.5.8] ${minor}: when no entry remains the client closes the session`, () => {
    const { client, relay, sessionId } = begin([here, local]);
    relay.sessionStatus(sessionId, SessionStatusId.LockedOut, [0, 1]);
    const events = pump(client, relay);
    const closed = only(events.a, "sessionClosed");
    assert.deepEqual([closed.by, closed.kind], ["self", "outbound"]);
    assert.equal(only(events.b, "sessionClosed").by, "peer");
    assert.deepEqual([client.sessions(), relay.sessions()], [[], []]);
  });
}

test("[2.2.8.1] 1.6 reports a single entry as 1.5 does, and several by index", () => {
  const { client, relay } = connected();
  const sessionId = client.openFanout({ resourceURL: "r", entries: [here, local, far(1)] });
  pump(client, relay);
  relay.sessionStatus(sessionId, SessionStatusId.LockedOut, [1]);
  relay.sessionStatus(sessionId, SessionStatusId.QuotaWouldBeExceeded, [0, 2]);
  const common = { command: "SessionStatus" as const, sessionId };
  assert.deepEqual(sent(relay), [
    { ...common, statusId: 5, deviceURL: local.deviceURL, identityURL: local.identityURL },
    { ...common, statusId: 4, deviceURL: "", identityURL: here.identityURL, fanoutDeviceIndexes: [0, 2] },
  ]);
});

test("SessionStatus is valid only for fanout sessions and their entries", () => {
  const { client, relay } = connected();
  const single = client.open({ resourceURL: "r", identityURL: "i", deviceURL: "" });
  const fanout = client.openFanout({ resourceURL: "r", entries: [here] });
  pump(client, relay);
  assert.throws(() => relay.sessionStatus(single, 5, [0]), refusal("invalid-argument"));
  assert.throws(() => relay.sessionStatus(fanout, 5, [1]), refusal("invalid-argument"));
  assert.throws(() => relay.sessionStatus(99, 5, [0]), refusal("unknown-session"));

  const status = (sessionId: number, extra = {}): Command => ({
    command: "SessionStatus",
    sessionId,
    statusId: 5,
    deviceURL: "",
    identityURL: "",
    ...extra,
  });
  // Matches none of the entries: it is reported, and nothing is lost.
  assert.deepEqual(only(feed(client, status(fanout)), "sessionStatus").indexes, []);
  client.closeSession(fanout, 0);
  client.output();
  assert.deepEqual(feed(client, status(fanout)), []);
  assertViolation(client, feed(client, status(single)), ConnectCloseReasonId.ProtocolError);

  const second = connected().client;
  second.openFanout({ resourceURL: "r", entries: [here] });
  second.output();
  const beyond = feed(second, status(1, { fanoutDeviceIndexes: [0, 1] }));
  assertViolation(second, beyond, ConnectCloseReasonId.ProtocolError);

  const third = connected().client;
  assertViolation(third, feed(third, status(1)), ConnectCloseReasonId.TooManyUnknownSessionCmds);
});
