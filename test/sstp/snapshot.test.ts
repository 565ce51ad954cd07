import assert from "node:assert/strict";
import { test } from "node:test";
import type { ConnectionOptions, ConnectionSnapshot } from "../../src/sstp/index.ts";
import { Connection, SessionStatusId, VERSION_1_5 } from "../../src/sstp/index.ts";
import {
  bytes,
  clientOptions,
  connected,
  joined,
  only,
  pump,
  RELAY_URL,
  ready,
  refusal,
  relayOptions,
  sendMessage,
  sent,
} from "./support.ts";

function revived(connection: Connection, options: ConnectionOptions): Connection {
  return Connection.restore(JSON.parse(JSON.stringify(connection.snapshot())) as ConnectionSnapshot, options);
}

test("a snapshot is rejected while output is pending", () => {
  const client = new Connection(clientOptions);
  client.connect(RELAY_URL);
  assert.throws(() => client.snapshot(), refusal("unsent-output"));
  client.output();
  client.snapshot();
});

test("a snapshot of another format is rejected", () => {
  const snapshot = { ...new Connection(clientOptions).snapshot(), format: 0 };
  assert.throws(() => Connection.restore(snapshot, clientOptions), refusal("snapshot-format"));
});

test("a snapshot between Connect and its answer works on both sides, in a version below the highest", () => {
  const options = { ...clientOptions, version: VERSION_1_5 };
  const client = new Connection(options);
  client.connect(RELAY_URL);
  const connect = joined(client.output());
  const relay = new Connection(relayOptions);
  relay.receive(connect, 0);
  const sides = [revived(client, options), revived(relay, relayOptions)] as const;
  sides[1].acceptConnect();
  only(pump(...sides).a, "connected");
  assert.deepEqual([sides[0].version, sides[1].version], [VERSION_1_5, VERSION_1_5]);
  sides[0].openFanout({ resourceURL: "r", entries: [{ identityURL: "i", deviceURL: "", relayURL: "" }] });
  only(pump(...sides).b, "fanoutOpen");
});

test("a snapshot in the middle of a command works at every octet", () => {
  const { client, relay } = connected();
  const sessionId = ready(client, relay);
  sendMessage(client, sessionId, "body", { userRef: "ref", acknowledgeImmediately: true });
  const octets = joined(client.output());
  const saved = relay.snapshot();
  for (let at = 0; at <= octets.length; at++) {
    const first = Connection.restore(saved, relayOptions);
    const events = first.receive(octets.subarray(0, at), 0);
    const second = revived(first, relayOptions);
    events.push(...second.receive(octets.subarray(at), 0));
    assert.deepEqual(
      events.map((event) => event.type),
      ["message", "data", "endMessage"],
    );
    second.complete(1);
    assert.deepEqual(sent(second), [{ command: "Noop", messageCount: 1 }]);
  }
});

test("timers, outstanding and unprocessed messages and an urgent acknowledgement survive a snapshot", () => {
  const options = { ...relayOptions, keepAlive: 9000, receiveTimeout: 90_000 };
  const { client, relay } = connected({}, options);
  const sessionId = ready(client, relay);
  const down = ready(relay, client);
  sendMessage(client, sessionId);
  sendMessage(client, sessionId, "body", { acknowledgeImmediately: true });
  sendMessage(relay, down);
  pump(client, relay);
  relay.complete(1, 1000);
  const first = revived(relay, options);
  assert.deepEqual([first.deadline, first.unacknowledged, first.unprocessed], [6000, [1], 1]);
  first.complete(2);
  const second = revived(first, options);
  assert.equal(second.pendingOctets, 7);
  assert.deepEqual(sent(second), [{ command: "Noop", messageCount: 2 }]);
  assert.deepEqual(second.sessions(), relay.sessions());
});

test("ids, closed sessions and lost fanout entries survive a snapshot", () => {
  const { client, relay } = connected();
  const sessionId = ready(client, relay);
  const fanout = client.openFanout({
    resourceURL: "r",
    entries: [0, 1].map((n) => ({ identityURL: `i${n}`, deviceURL: "", relayURL: "" })),
  });
  pump(client, relay);
  relay.sessionStatus(fanout, SessionStatusId.LockedOut, [0]);
  pump(client, relay);
  relay.closeSession(sessionId, 0);
  relay.output();
  sendMessage(client, sessionId);
  const sides = [client, revived(relay, relayOptions)] as const;
  assert.deepEqual(pump(...sides).b, []);
  const again = sides[1].sessionStatus(fanout, SessionStatusId.LockedOut, [0, 1]);
  assert.deepEqual(again, { indexes: [1], remaining: 0 });
  const awake = revived(client, clientOptions);
  assert.equal(awake.open({ resourceURL: "r", identityURL: "i", deviceURL: "" }), 5);
});

test("session ids are used once; when they run out, a new connection is needed", () => {
  const { client } = connected();
  const snapshot = client.snapshot();
  const late = Connection.restore(
    { ...snapshot, sessions: { ...snapshot.sessions, nextId: 0xffffffff } },
    clientOptions,
  );
  const entry = { resourceURL: "r", identityURL: "i", deviceURL: "" };
  assert.equal(late.open(entry), 0xffffffff);
  assert.throws(() => late.open(entry), refusal("too-many-sessions"));
});

test("a closed connection stays closed", () => {
  const { client } = connected();
  client.close(1, 30);
  client.output();
  const again = revived(client, clientOptions);
  assert.deepEqual(again.closed, client.closed);
  assert.deepEqual(again.receive(bytes("anything"), 0), []);
});
