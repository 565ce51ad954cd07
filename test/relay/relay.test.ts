import assert from "node:assert/strict";
import { connect } from "node:net";
import { join } from "node:path";
import { describe, mock, type TestContext, test } from "node:test";
import type { Relay } from "../../src/relay/index.ts";
import {
  QUEUES,
  SEND_WINDOW,
  SEND_WINDOW_MESSAGES,
  SOCKET_QUEUE,
  VOLATILE_OCTETS,
  WORK_BURST,
  WORK_RATE,
} from "../../src/relay/limits.ts";
import { Store } from "../../src/relay/store.ts";
import {
  CloseReasonId,
  ConnectCloseReasonId,
  Connection,
  type ConnectionEvent,
  ConnectResponseId,
  deviceURL,
  OpenResponseId,
  relayURL,
  SessionStatusId,
  VERSION_1_5,
  VERSION_1_6,
} from "../../src/sstp/index.ts";
import { PATIENCE } from "../support/sockets.ts";
import { eventually, pattern } from "../support/watch.ts";
import { destination, folderFor, Peer, type PeerOptions, relayFor, texts, waiting } from "./support.ts";

/** A relay, and peers that are dropped at the end of the test. */
async function setting(t: TestContext, options: Parameters<typeof relayFor>[1] = {}) {
  const relay = await relayFor(t, options);
  async function peer(address: string, more: Partial<PeerOptions> = {}): Promise<Peer> {
    const connected = await Peer.connect(relay, { address, ...more });
    t.after(() => connected.drop());
    return connected;
  }
  async function dial(address = "nobody/pc"): Promise<Peer> {
    const dialled = await Peer.dial(relay.port, { address });
    t.after(() => dialled.drop());
    return dialled;
  }
  return { relay, peer, dial };
}

/** Asserts that the relay still works: a bad connection must not take it down. */
async function assertServes(relay: Relay): Promise<void> {
  const peer = await Peer.connect(relay, { address: "witness/pc" });
  const number = peer.send(await peer.open("witness"), "still here");
  await peer.untilAcknowledged(number);
  assert.deepEqual(texts(await peer.received(1)), ["still here"]);
  peer.drop();
}

function closeOf(peer: Peer): Promise<Extract<ConnectionEvent, { type: "closed" }>> {
  return peer.event("closed");
}

describe("store and forward", () => {
  test("a message for an absent device waits, and is acknowledged to its sender first", async (t) => {
    const { relay, peer } = await setting(t);
    const alice = await peer("alice/laptop");
    const number = alice.send(await alice.open("bob/pc"), "hello");
    await alice.untilAcknowledged(number);
    assert.equal(waiting(relay, "bob/pc").messages, 1);
    const bob = await peer("bob/pc");
    const [message] = await bob.received(1);
    assert.equal(message?.body.toString(), "hello");
    assert.deepEqual(message?.addressing, { resourceURL: "message", ...destination("bob/pc") });
    await eventually(() => waiting(relay, "bob/pc").messages === 0, "the message to be removed");
  });

  test("an identity-targeted message is delivered to the device that attached the account, and waits for one", async (t) => {
    const { relay, peer } = await setting(t);
    const alice = await peer("alice/laptop");
    await peer("bob/other", { attach: false });
    await alice.untilAcknowledged(alice.send(await alice.open("bob"), "hello"));
    assert.equal(waiting(relay, "bob").messages, 1);
    const bob = await peer("bob/pc");
    const [message] = await bob.received(1);
    assert.equal(message?.body.toString(), "hello");
    assert.equal(message?.addressing.deviceURL, "");
  });

  test("the newest device to attach an account gets its messages; when it leaves, the previous one does", async (t) => {
    const { peer } = await setting(t);
    const alice = await peer("alice/laptop");
    const session = await alice.open("bob");
    const pc = await peer("bob/pc");
    const phone = await peer("bob/phone");
    await alice.untilAcknowledged(alice.send(session, "to the phone"));
    assert.deepEqual(texts(await phone.received(1)), ["to the phone"]);
    phone.drop();
    await phone.closed();
    alice.send(session, "to the pc");
    assert.deepEqual(texts(await pc.received(1)), ["to the pc"]);
    assert.equal(phone.messages.length, 1);
  });

  test("a message that another device has acknowledged meanwhile is not sent as an empty one", async (t) => {
    const { relay, peer } = await setting(t);
    const alice = await peer("alice/laptop");
    const pc = await peer("bob/pc", { acknowledge: false });
    const session = await alice.open("bob");
    for (const text of ["one", "two", "three"]) alice.send(session, text);
    const received = await pc.received(3);
    // The phone has read the waiting messages into its page when the pc acknowledges two of them.
    const phone = await Peer.connect(relay, { address: "bob/phone", accept: false });
    t.after(() => phone.drop());
    const open = await phone.event("open");
    for (const message of received.slice(0, 2)) pc.complete(message);
    await eventually(() => waiting(relay, "bob").messages === 1, "two messages to be removed");
    phone.engine.setAvailability(open.sessionId, "ready");
    phone.flush();
    assert.deepEqual(texts(await phone.received(1)), ["three"]);
    await phone.settled();
    assert.equal(phone.messages.length, 1);
  });

  test("a message removed while it is being sent is aborted, never truncated", async (t) => {
    const { relay, peer } = await setting(t);
    const alice = await peer("alice/laptop");
    const pc = await peer("bob/pc", { acknowledge: false });
    const session = await alice.open("bob");
    const long = pattern(8 * 1024 * 1024, 5);
    alice.send(session, long);
    const [message] = await pc.received(1);
    assert.ok(message !== undefined);
    const phone = await peer("bob/phone", { attach: false });
    phone.engine.attach({ accountURL: "grooveAccount://bob" });
    phone.flush();
    await phone.event("data");
    phone.socket.pause();
    pc.complete(message);
    await eventually(() => waiting(relay, "bob").messages === 0, "the message to be removed");
    await alice.untilAcknowledged(alice.send(session, "next"));
    phone.socket.resume();
    await phone.received(1);
    // Enough of it may have been in the sockets already for it to arrive whole.
    for (const { body } of phone.messages) assert.ok(body.equals(long) || body.toString() === "next");
    await phone.watch.until(() => texts(phone.messages).includes("next"), "the next message");
  });

  test("messages to one recipient arrive in the order they were sent, long and short", async (t) => {
    const { peer } = await setting(t);
    const alice = await peer("alice/laptop");
    const session = await alice.open("bob/pc");
    const bodies = Array.from({ length: 60 }, (_, n) => pattern(n % 7 === 0 ? 700_000 : n * 10, n));
    for (const body of bodies) alice.send(session, body);
    const bob = await peer("bob/pc");
    const received = await bob.received(bodies.length);
    for (const [n, { body }] of received.entries()) assert.ok(body.equals(bodies[n] as Uint8Array), `message ${n}`);
  });

  test("the fields of a message are passed on unchanged, with the sender after the id and flag A set", async (t) => {
    const { peer } = await setting(t);
    const alice = await peer("alice/laptop");
    const bob = await peer("bob/pc");
    const session = await alice.open("bob/pc");
    const fields = {
      userRef: "some reference",
      track: true,
      ephemeral: 0xdeadbeef,
      streamSize: [1n, 0xffff_ffff_ffff_ffffn, 3n] as const,
      fragmentation: new Uint8Array([0, 255, 1]),
    };
    alice.send(session, "with", { ...fields, acknowledgeImmediately: false });
    alice.send(session, "without", {});
    const [whole, bare] = await bob.received(2);
    assert.deepEqual(
      { ...whole?.fields, fragmentation: new Uint8Array(whole?.fields.fragmentation ?? []) },
      {
        ...fields,
        userRef: "some reference@alice/laptop",
        acknowledgeImmediately: true,
        doNotDeliverIfOffline: false,
      },
    );
    assert.match(bare?.fields.userRef ?? "", /^%n[\w-]+-1@alice\/laptop$/);
    assert.deepEqual(bare?.fields, {
      userRef: bare?.fields.userRef,
      track: false,
      acknowledgeImmediately: true,
      doNotDeliverIfOffline: false,
    });
  });

  test("text from a peer is quoted in the log as one short line", async (t) => {
    const lines: string[] = [];
    const { relay } = await setting(t, { log: (line) => lines.push(line) });
    const stranger = await Peer.dial(relay.port, { address: "nobody/pc" });
    t.after(() => stranger.drop());
    const target = `grooveDNS://127.0.0.1:${relay.port}`;
    const source = `dev://\u001b[2Jx\nconnected "grooveDevice://alice/laptop"\u007f${"y".repeat(5000)}`;
    const rest = { majorVersionNumber: 1, minorVersionNumber: 6, authenticationToken: new Uint8Array(0) };
    const product = { peerProductVersion: "", peerProductCapabilities: "" };
    stranger.say({ command: "Connect", targetDeviceURL: target, sourceDeviceURLs: [source], ...rest, ...product });
    await eventually(() => lines.length > 0, "a line of the log");
    assert.match(
      lines[0] ?? "",
      /^connected "dev:\/\/\\u001b\[2Jx\\nconnected \\"grooveDevice:\/\/alice\/laptop\\"\\u007fy+\.\.\."$/,
    );
    assert.ok((lines[0]?.length ?? 0) < 500);
  });

  test("a fanout to several peers of another relay is one message for each", async (t) => {
    const { relay, peer } = await setting(t);
    const edge = "grooveDNS://edge.example.com";
    const other = new Connection({ role: "relay", outbound: true, localDeviceURLs: [edge], now: 0 });
    const socket = (await Peer.dial(relay.port, { address: "edge/pc" })).socket;
    t.after(() => socket.destroy());
    other.connect(`grooveDNS://127.0.0.1:${relay.port}`);
    for (const block of other.output()) socket.write(block);
    const alice = await peer("alice/laptop");
    await alice.settled();
    const entries = ["bob", "carol"].map((name) => ({ ...destination(`${name}/pc`), relayURL: edge }));
    const session = alice.engine.openFanout({ resourceURL: "message", entries });
    alice.flush();
    await alice.ready(session);
    for (const userRef of ["1", "", "1"]) await alice.untilAcknowledged(alice.send(session, "x", { userRef }));
    assert.equal(relay.waiting(edge).messages, 4);
    assert.equal(relay.status().dropped.DuplicateMessage, 2);
  });

  test("a repeated id is acknowledged and dropped", async (t) => {
    const { relay, peer } = await setting(t);
    const alice = await peer("alice/laptop");
    const session = await alice.open("bob/pc");
    const numbers = ["first", "again", "other"].map((text) =>
      alice.send(session, text, { userRef: text === "other" ? "2" : "1" }),
    );
    await alice.untilAcknowledged(...numbers);
    const eve = await peer("eve/laptop");
    await eve.untilAcknowledged(eve.send(await eve.open("bob/pc"), "of another sender", { userRef: "1" }));
    const bob = await peer("bob/pc");
    assert.deepEqual(texts(await bob.received(3)), ["first", "other", "of another sender"]);
    assert.equal(relay.status().dropped.DuplicateMessage, 1);
  });

  test("acknowledged messages are not redelivered after a restart, the others are", async (t) => {
    const store = join(folderFor(t), "relay.db");
    const { relay, peer } = await setting(t, { store });
    const alice = await peer("alice/laptop");
    const session = await alice.open("bob/pc");
    await alice.untilAcknowledged(...["one", "two", "three"].map((text) => alice.send(session, text)));
    const bob = await peer("bob/pc", { acknowledge: false });
    const [one] = await bob.received(3);
    assert.ok(one !== undefined);
    bob.complete(one);
    await eventually(() => waiting(relay, "bob/pc").messages === 2, "the first message to be removed");
    await relay.close();

    const again = await setting(t, { store });
    assert.equal(waiting(again.relay, "bob/pc").messages, 2);
    const later = await again.peer("bob/pc");
    assert.deepEqual(texts(await later.received(2)), ["two", "three"]);
  });

  test("an acknowledgement is on disk soon, even without further traffic", async (t) => {
    const store = join(folderFor(t), "relay.db");
    const { relay, peer } = await setting(t, { store });
    const alice = await peer("alice/laptop");
    await alice.untilAcknowledged(alice.send(await alice.open("bob/pc"), "one"));
    await (await peer("bob/pc")).received(1);
    await eventually(() => waiting(relay, "bob/pc").messages === 0, "the message to be removed");
    const { DatabaseSync } = await import("node:sqlite");
    // A second connection to the database sees what would survive if the process were killed now.
    const other = new DatabaseSync(store, { readOnly: true });
    const count = other.prepare("SELECT count(*) AS n FROM messages");
    await eventually(() => count.get()?.n === 0, "the removal to be committed");
    other.close();
  });
});

describe("do not deliver if offline", () => {
  test("the message is dropped for an absent device and acknowledged", async (t) => {
    const { relay, peer } = await setting(t);
    const alice = await peer("alice/laptop");
    const number = alice.send(await alice.open("bob/pc"), "now or never", { doNotDeliverIfOffline: true });
    await alice.untilAcknowledged(number);
    assert.deepEqual(waiting(relay, "bob/pc"), { octets: 0, messages: 0 });
    assert.equal(relay.status().dropped.PeerOffline, 1);
    const bob = await peer("bob/pc");
    await bob.settled();
    assert.equal(bob.messages.length, 0);
  });

  test("the message passes to a connected device without the store", async (t) => {
    const { relay, peer } = await setting(t, { quota: { octets: 100_000_000, messages: 0 } });
    const alice = await peer("alice/laptop");
    const bob = await peer("bob/pc", { acknowledge: false });
    const session = await alice.open("bob/pc");
    const bodies = [Buffer.alloc(0), Buffer.from("now"), Buffer.from(pattern(3_000_000, 3))];
    for (const body of bodies) alice.send(session, body, { doNotDeliverIfOffline: true, userRef: "same" });
    const received = await bob.received(3);
    assert.ok(received.every(({ body }, n) => body.equals(bodies[n] as Buffer)));
    assert.ok(received.every(({ fields }) => fields.doNotDeliverIfOffline));
    assert.deepEqual(waiting(relay, "bob/pc"), { octets: 0, messages: 0 });
    // With a quota of zero, a message that uses the store is refused.
    alice.send(session, "later");
    assert.equal((await alice.event("sessionClosed")).reasonId, CloseReasonId.QuotaWouldBeExceeded);
  });

  test("one message of any length may wait for a connected device", async (t) => {
    const { peer } = await setting(t);
    const alice = await peer("alice/laptop");
    const bob = await peer("bob/pc");
    const body = pattern(VOLATILE_OCTETS + 1, 1);
    alice.send(await alice.open("bob/pc"), body, { doNotDeliverIfOffline: true });
    assert.ok((await bob.received(1))[0]?.body.equals(body));
  });

  test("a device that does not acknowledge holds at most a window of messages in the relay", async (t) => {
    const { relay, peer } = await setting(t);
    const alice = await peer("alice/laptop");
    const bob = await peer("bob/pc", { acknowledge: false });
    const session = await alice.open("bob/pc");
    const size = 128 * 1024;
    const count = (SEND_WINDOW + VOLATILE_OCTETS) / size + 20;
    const numbers = Array.from({ length: count }, (_, n) =>
      alice.send(session, pattern(size, n), { doNotDeliverIfOffline: true }),
    );
    await alice.untilAcknowledged(...numbers);
    assert.ok(relay.status().dropped.SlowPeer >= 12, `${relay.status().dropped.SlowPeer} were dropped`);
    await bob.received(SEND_WINDOW / size);
    await bob.settled();
    assert.equal(bob.messages.length, SEND_WINDOW / size);
    // Those that waited arrive in order when there is room again.
    for (let n = 0; n < bob.messages.length; n += 1) {
      const message = bob.messages[n];
      if (message !== undefined) bob.complete(message);
      if (n + 1 === bob.messages.length && n + 1 < count - relay.status().dropped.SlowPeer) await bob.received(n + 2);
    }
    assert.equal(bob.messages.length, count - relay.status().dropped.SlowPeer);
    // Which of them were dropped depends on timing; those that arrived are whole and in order.
    let next = 0;
    for (const [n, { body }] of bob.messages.entries()) {
      while (next < count && !body.equals(pattern(size, next))) next += 1;
      assert.ok(next < count, `message ${n} was sent, and is in order`);
      assert.ok(n >= SEND_WINDOW / size || next === n, "nothing is dropped while the window has room");
      next += 1;
    }
  });
});

describe("quota and limits", () => {
  test("a full mailbox closes the session, earlier messages are acknowledged, and a new session works", async (t) => {
    // One sender fills half of it, including overhead, and has a reserve for what is in flight.
    const { relay, peer } = await setting(t, { quota: { octets: 4000, messages: 100 } });
    const alice = await peer("alice/laptop");
    const session = await alice.open("bob/pc");
    const numbers = ["12345", "6".repeat(2000), "7".repeat(2000), ""].map((text) => alice.send(session, text));
    const closed = await alice.event("sessionClosed");
    assert.equal(closed.reasonId, CloseReasonId.QuotaWouldBeExceeded);
    // The empty one would fit, but must not be stored when its sender is told that it was not.
    assert.deepEqual(closed.unacknowledged, numbers.slice(2));
    assert.deepEqual(alice.acknowledged, numbers.slice(0, 2));
    assert.equal(relay.status().dropped.QuotaWouldBeExceeded, 1);

    const bob = await peer("bob/pc");
    const [first, second] = texts(await bob.received(2));
    assert.deepEqual([first, second], ["12345", "6".repeat(2000)]);
    await eventually(() => waiting(relay, "bob/pc").messages === 0, "room");
    const again = await alice.open("bob/pc");
    await alice.untilAcknowledged(alice.send(again, "6"));
    assert.equal(texts(await bob.received(3))[2], "6");
  });

  test("a message over the size limit closes its session and leaves nothing in the store", async (t) => {
    const { relay, peer } = await setting(t, { messageLimit: 300_000 });
    const alice = await peer("alice/laptop");
    const session = await alice.open("bob/pc");
    const fits = alice.send(session, pattern(300_000, 1));
    const tooLong = alice.send(session, pattern(300_001, 2));
    const closed = await alice.event("sessionClosed");
    assert.equal(closed.reasonId, CloseReasonId.QuotaWouldBeExceeded);
    assert.deepEqual(closed.unacknowledged, [tooLong]);
    assert.deepEqual(alice.acknowledged, [fits]);
    assert.equal(relay.status().dropped.MessageTooLong, 1);
    assert.equal(waiting(relay, "bob/pc").messages, 1);
  });

  test("a sender that closes its session after a refused message is not left waiting", async (t) => {
    const { relay, peer } = await setting(t, { quota: { octets: 3, messages: 100 } });
    const alice = await peer("alice/laptop");
    const session = await alice.open("bob/pc");
    alice.engine.beginMessage(session);
    alice.engine.data(session, Buffer.from("too long"));
    const number = alice.engine.endMessage(session);
    alice.engine.closeSession(session, CloseReasonId.Idle);
    alice.flush();
    // Only the end of the connection can still refuse the message.
    const closed = await closeOf(alice);
    assert.equal(closed.reasonId, ConnectCloseReasonId.Resting);
    assert.deepEqual(closed.unacknowledged, [number]);
    await assertServes(await relayFor(t));
    assert.deepEqual(waiting(relay, "bob/pc"), { octets: 0, messages: 0 });
  });
});

describe("fanout", () => {
  const entry = (to: string) => ({ ...destination(to), relayURL: "" });

  for (const version of [VERSION_1_5, VERSION_1_6]) {
    test(`all recipients but the one over quota get the message, and it is acknowledged once [1.${version.minor}]`, async (t) => {
      const { relay, peer } = await setting(t, { quota: { octets: 100_000, messages: 4 } });
      const alice = await peer("alice/laptop", { version });
      const carol = await alice.open("carol/pc");
      await alice.untilAcknowledged(alice.send(carol, "one"), alice.send(carol, "two"));
      const bob = await peer("bob/pc");
      const to = ["bob/pc", "carol/pc", "dave"];
      const session = alice.engine.openFanout({ resourceURL: "message", entries: to.map(entry) });
      alice.flush();
      await alice.ready(session);
      const [one, two] = ["hello", "again"].map((text) => alice.send(session, text)) as [number, number];
      await alice.untilAcknowledged(one, two);
      assert.deepEqual(texts(await bob.received(2)), ["hello", "again"]);
      assert.equal(waiting(relay, "carol/pc").messages, 2);
      assert.equal(waiting(relay, "dave").messages, 2);

      const status = await alice.event("sessionStatus");
      assert.deepEqual([status.statusId, status.indexes], [SessionStatusId.QuotaWouldBeExceeded, [1]]);
      assert.equal(alice.events.filter(({ type }) => type === "sessionStatus").length, 1);
      const wire = alice.commands.filter((command) => command.command === "SessionStatus");
      assert.equal(wire.length, 1);
      assert.deepEqual(
        { ...wire[0] },
        {
          command: "SessionStatus",
          sessionId: session,
          statusId: 0x04,
          deviceURL: deviceURL({ identity: "carol", device: "pc" }),
          identityURL: "grooveIdentity://carol",
        },
      );
    });

    test(`several recipients over quota are reported in the form of 1.${version.minor}`, async (t) => {
      const { peer } = await setting(t, { quota: { octets: 100_000, messages: 2 } });
      const alice = await peer("alice/laptop", { version });
      const to = ["bob/pc", "carol/pc", "dave"];
      for (const full of ["bob/pc", "dave"]) {
        await alice.untilAcknowledged(alice.send(await alice.open(full), "xyz"));
      }
      const session = alice.engine.openFanout({ resourceURL: "message", entries: to.map(entry) });
      alice.flush();
      await alice.ready(session);
      await alice.untilAcknowledged(alice.send(session, "!"));
      const wire = alice.commands.filter((command) => command.command === "SessionStatus");
      // 1.5 has no indexes, so it names each recipient; 1.6 names the first, and counts all.
      assert.deepEqual(
        wire.map((command) => [command.deviceURL, command.fanoutDeviceIndexes]),
        version.minor === 5
          ? [
              [destination("bob/pc").deviceURL, undefined],
              ["", undefined],
            ]
          : [[destination("bob/pc").deviceURL, [0, 2]]],
      );
      const lost = alice.events.flatMap((event) => (event.type === "sessionStatus" ? event.indexes : []));
      assert.deepEqual(lost, [0, 2]);
    });
  }

  test("a recipient at this relay's own name is local", async (t) => {
    const { relay, peer } = await setting(t);
    const alice = await peer("alice/laptop");
    const entries = [{ ...destination("bob/pc"), relayURL: relayURL(`127.0.0.1:${relay.port}`) }];
    const session = alice.engine.openFanout({ resourceURL: "message", entries });
    alice.flush();
    await alice.ready(session);
    await alice.untilAcknowledged(alice.send(session, "hello"));
    assert.equal(waiting(relay, "bob/pc").messages, 1);
  });

  test("a recipient at another relay that has never connected is reported as HostNotReachable", async (t) => {
    const { peer } = await setting(t);
    const alice = await peer("alice/laptop");
    const entries = [{ ...destination("bob/pc"), relayURL: relayURL("elsewhere.example.com") }];
    alice.engine.openFanout({ resourceURL: "message", entries });
    alice.flush();
    const { statusId, remaining } = await alice.event("sessionStatus");
    assert.deepEqual([statusId, remaining], [SessionStatusId.HostNotReachable, 0]);
  });

  test("a recipient whose URLs do not fit an Open is refused", async (t) => {
    const { relay, peer } = await setting(t);
    const alice = await peer("alice/laptop");
    const bob = await peer("bob/pc");
    const long = "x".repeat(1900);
    const entries = [
      { identityURL: `grooveIdentity://${long}`, deviceURL: `grooveDevice://${long}/pc`, relayURL: "" },
      { identityURL: `grooveIdentity://${long}`, deviceURL: destination("bob/pc").deviceURL, relayURL: "" },
    ];
    alice.engine.openFanout({ resourceURL: "message", entries });
    alice.flush();
    assert.equal((await alice.event("sessionRefused")).responseId, OpenResponseId.Unknown);

    // An entry that just fits is delivered.
    const fits = 2055 - 13 - "message".length - destination("bob/pc").deviceURL.length;
    const identityURL = `grooveIdentity://${"x".repeat(fits - "grooveIdentity://".length)}`;
    const session = alice.engine.openFanout({
      resourceURL: "message",
      entries: [{ identityURL, deviceURL: destination("bob/pc").deviceURL, relayURL: "" }],
    });
    alice.flush();
    await alice.ready(session);
    alice.send(session, "just");
    assert.equal((await bob.received(1))[0]?.addressing.identityURL, identityURL);
    await assertServes(relay);
  });

  test("with flag D only connected recipients are reached", async (t) => {
    const { relay, peer } = await setting(t);
    const alice = await peer("alice/laptop");
    const bob = await peer("bob/pc");
    const entries = ["bob/pc", "carol/pc"].map(entry);
    const session = alice.engine.openFanout({ resourceURL: "message", entries });
    alice.flush();
    await alice.ready(session);
    await alice.untilAcknowledged(alice.send(session, "now", { doNotDeliverIfOffline: true }));
    assert.deepEqual(texts(await bob.received(1)), ["now"]);
    assert.deepEqual(waiting(relay, "carol/pc"), { octets: 0, messages: 0 });
    assert.equal(relay.status().dropped.PeerOffline, 1);
  });
});

describe("connections", () => {
  test("a Connect to another name is refused with WrongDevice", async (t) => {
    const { dial } = await setting(t);
    const peer = await dial();
    peer.engine.connect(relayURL("another.example.com"));
    peer.flush();
    assert.equal((await peer.event("refused")).responseId, ConnectResponseId.WrongDevice);
    await peer.closed();
  });

  test("a Connect to any of the relay's names is accepted, with or without the port, in any case", async (t) => {
    const { relay, dial } = await setting(t, { names: ["relay.example.com", "other.example.com:443"] });
    const names = ["relay.example.com", `Relay.Example.Com:${relay.port}`, "other.example.com:443"];
    for (const name of names) {
      const peer = await dial();
      peer.engine.connect(relayURL(name));
      peer.flush();
      await peer.event("connected");
    }
  });

  test("a second connection of a device closes the first, and gets its unacknowledged messages in order", async (t) => {
    const { relay, peer } = await setting(t);
    const alice = await peer("alice/laptop");
    const session = await alice.open("bob/pc");
    for (const text of ["one", "two", "three"]) alice.send(session, text);
    const first = await peer("bob/pc", { acknowledge: false });
    const [one] = await first.received(3);
    assert.ok(one !== undefined);
    first.complete(one);
    await eventually(() => waiting(relay, "bob/pc").messages === 2, "the acknowledgement");
    const second = await peer("bob/pc");
    const closed = await closeOf(first);
    assert.deepEqual([closed.by, closed.reasonId], ["peer", ConnectCloseReasonId.CrossedConnections]);
    await first.closed();
    alice.send(session, "four");
    assert.deepEqual(texts(await second.received(3)), ["two", "three", "four"]);
  });

  test("a device that does not read is still closed when its second connection arrives", async (t) => {
    const { relay, peer } = await setting(t);
    const alice = await peer("alice/laptop");
    const stuck = await peer("bob/pc", { paused: true });
    const session = await alice.open("bob/pc");
    const bodies = Array.from({ length: 12 }, (_, n) => pattern(1_000_000, n));
    for (const body of bodies) alice.send(session, body);
    await eventually(() => waiting(relay, "bob/pc").messages === 12, "the messages to be stored");
    const second = await peer("bob/pc");
    const received = await second.received(12);
    received.forEach(({ body }, n) => {
      assert.ok(body.equals(bodies[n] as Uint8Array), `message ${n}`);
    });
    await eventually(() => relay.status().connections === 2, "the stuck connection to go");
    stuck.drop();
  });

  test("close tells every peer that the relay is resting, even one that has sent nothing", async (t) => {
    const { relay, peer, dial } = await setting(t);
    const alice = await peer("alice/laptop");
    const silent = await dial();
    await relay.close();
    const closed = await closeOf(alice);
    assert.deepEqual([closed.by, closed.reasonId], ["peer", ConnectCloseReasonId.Resting]);
    await alice.closed();
    await silent.closed();
    await assert.rejects(Peer.dial(relay.port, { address: "alice/laptop" }), /ECONNREFUSED/);
  });

  test("close does not wait for a peer that neither reads nor closes", async (t) => {
    const { relay, peer } = await setting(t);
    const alice = await peer("alice/laptop");
    const stuck = await peer("bob/pc", { paused: true });
    const session = await alice.open("bob/pc");
    await alice.untilAcknowledged(...Array.from({ length: 12 }, (_, n) => alice.send(session, pattern(1_000_000, n))));
    const began = performance.now();
    await relay.close();
    assert.ok(performance.now() - began < PATIENCE / 2);
    stuck.drop();
  });

  test("a client that never sends Connect is disconnected", async (t) => {
    const { relay } = await setting(t);
    mock.timers.enable({ apis: ["setTimeout", "Date"] });
    t.after(() => mock.timers.reset());
    const socket = connect({ port: relay.port, host: "127.0.0.1" });
    await eventually(() => relay.status().connections === 1, "the connection");
    let ended = false;
    socket.on("end", () => {
      ended = true;
    });
    socket.resume();
    mock.timers.tick(29_999);
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(ended, false);
    mock.timers.tick(2);
    mock.timers.reset();
    await eventually(() => ended, "the end");
    socket.destroy();
    // A mocked timer that the connection clears later would be mistaken for one of the next test.
    await eventually(() => relay.status().connections === 0, "the connection to go");
  });

  test("a silent peer is dropped after a while, and gets Noops until then", async (t) => {
    const { relay, peer } = await setting(t);
    mock.timers.enable({ apis: ["setTimeout", "Date"] });
    t.after(() => mock.timers.reset());
    const alice = await peer("alice/laptop");
    // The answer to alice's last message may still be on its way.
    const told = () => alice.commands.at(-1)?.command === "Noop";
    // The relay may still be processing it: its silence starts then.
    for (let step = 0; step < 4 && !told(); step += 1) {
      mock.timers.tick(step === 0 ? 45_001 : 15_000);
      // The clock stands still, but sockets run in real time.
      const until = performance.now() + 3000;
      while (performance.now() < until && !told()) await new Promise((resolve) => setImmediate(resolve));
    }
    assert.deepEqual({ ...alice.commands.at(-1) }, { command: "Noop", messageCount: 0 });
    mock.timers.tick(120_001);
    mock.timers.reset();
    await alice.closed();
    await eventually(() => relay.status().connections === 0, "the connection to go");
  });
});

describe("hostile or unusual peers", () => {
  test("octets that are not SSTP close the connection with ProtocolError", async (t) => {
    const { relay, peer, dial } = await setting(t);
    const stranger = await dial();
    stranger.socket.write("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n");
    await stranger.closed();
    assert.deepEqual(
      stranger.commands.map((command) => command.command === "ConnectClose" && command.reasonId),
      [ConnectCloseReasonId.ProtocolError],
    );

    const alice = await peer("alice/laptop");
    alice.socket.write(Buffer.from([0xff, 0x03, 0x00]));
    const closed = await closeOf(alice);
    assert.deepEqual([closed.by, closed.reasonId], ["peer", ConnectCloseReasonId.ProtocolError]);
    await assertServes(relay);
  });

  const connectTo = (port: number) => ({
    command: "Connect" as const,
    majorVersionNumber: 1,
    minorVersionNumber: 6,
    targetDeviceURL: relayURL(`127.0.0.1:${port}`),
    sourceDeviceURLs: ["grooveDevice://mallory/pc"],
    authenticationToken: new Uint8Array(0),
    peerProductVersion: "",
    peerProductCapabilities: "",
  });
  const open = { command: "Open" as const, sessionId: 1, resourceURL: "message", ...destination("bob/pc") };

  test("commands in the same segment as the Connect, before its answer, end only that connection", async (t) => {
    const { relay, dial } = await setting(t);
    for (const behind of [
      connectTo(relay.port),
      open,
      { command: "Noop" as const, messageCount: 7 },
      { command: "Close" as const, sessionId: 1, reasonId: 0 },
    ]) {
      const mallory = await dial("mallory/pc");
      mallory.say(connectTo(relay.port), behind);
      await mallory.closed();
    }
    await assertServes(relay);
  });

  test("sessions closed in the same segment as their Open, Attach or Register do no harm", async (t) => {
    const { relay, peer } = await setting(t);
    const mallory = await peer("mallory/pc", { attach: false });
    const close = (sessionId: number) => ({ command: "Close" as const, sessionId, reasonId: 0 });
    const token = { authenticationToken: new Uint8Array(0) };
    const fanoutDeviceEntries = [{ ...destination("bob/pc"), relayURL: "" }];
    const message = { command: "Message" as const, messageCount: 0, flags: 0, userRef: "" };
    mallory.say(open, close(1));
    mallory.say({ command: "FanoutOpen", sessionId: 3, resourceURL: "message", fanoutDeviceEntries }, close(3));
    mallory.say(
      { command: "Attach", eventId: 5, resourceURL: "", accountURL: "grooveAccount://mallory", ...token },
      close(5),
    );
    mallory.say({ command: "Register", eventId: 7, ...token }, close(7));
    mallory.say({ command: "Open", sessionId: 9, resourceURL: "message", ...destination("bob/pc") });
    await mallory.watch.until(
      () => mallory.commands.some((command) => command.command === "OpenResponse" && command.sessionId === 9),
      "the answer to the last Open",
    );
    mallory.say({ ...message, sessionId: 9 }, { command: "EndMessage", sessionId: 9 }, close(9));
    await assertServes(relay);
    // And the same followed by a protocol violation.
    mallory.say({ ...open, sessionId: 11 }, { ...open, sessionId: 11 });
    await mallory.closed();
    await assertServes(relay);
  });

  test("a session suspended in the middle of a message resumes where it stopped", async (t) => {
    const { relay, peer } = await setting(t);
    const alice = await peer("alice/laptop");
    const bob = await peer("bob/pc");
    const body = pattern(12_000_000, 9);
    let suspended: number | undefined;
    bob.onEvent = (event) => {
      if (event.type !== "data" || suspended !== undefined) return;
      suspended = event.sessionId;
      bob.engine.setAvailability(suspended, "notReady");
    };
    alice.send(await alice.open("bob/pc"), body);
    const { sessionId } = await bob.event("data");
    // The relay still acknowledges and answers while the message waits.
    await bob.settled();
    assert.equal(bob.messages.length, 0, "all of it was already in flight");
    await assertServes(relay);
    bob.engine.setAvailability(sessionId, "ready");
    bob.flush();
    assert.ok((await bob.received(1))[0]?.body.equals(body));
  });

  test("a device that refuses sessions gets its messages on its next connection", async (t) => {
    const { relay, peer } = await setting(t);
    const alice = await peer("alice/laptop");
    const session = await alice.open("bob/pc");
    const numbers = ["one", "two"].map((text) => alice.send(session, text));
    await alice.untilAcknowledged(...numbers);
    const refusing = await peer("bob/pc", { accept: false });
    const { sessionId } = await refusing.event("open");
    refusing.engine.setAvailability(sessionId, "fault");
    refusing.flush();
    await refusing.settled();
    assert.equal(waiting(relay, "bob/pc").messages, 2);
    refusing.drop();
    assert.deepEqual(texts(await (await peer("bob/pc")).received(2)), ["one", "two"]);
  });

  test("an idle session closed by its device is reopened", async (t) => {
    const { peer } = await setting(t);
    const alice = await peer("alice/laptop");
    const bob = await peer("bob/pc");
    const session = await alice.open("bob/pc");
    alice.send(session, "one");
    const [one] = await bob.received(1);
    await bob.settled();
    bob.engine.closeSession(one?.sessionId ?? 0, CloseReasonId.Idle);
    bob.flush();
    await bob.settled();
    alice.send(session, "two");
    assert.deepEqual(texts(await bob.received(2)), ["one", "two"]);
  });

  test("a device with many queues that does not answer gets a bounded number of sessions", async (t) => {
    const { relay, peer } = await setting(t);
    const alice = await peer("alice/laptop");
    for (let n = 0; n < 100; n += 1) alice.send(await alice.open(`group-${n}`), `${n}`);
    const bob = await peer("bob/pc", { accept: false });
    for (let n = 0; n < 100; n += 1) bob.engine.attach({ accountURL: `grooveAccount://group-${n}` });
    bob.flush();
    await bob.settled();
    const opened = () => bob.events.flatMap((event) => (event.type === "open" ? [event.sessionId] : []));
    assert.equal(opened().length, 64);
    // They arrive one after another as it answers.
    const answered = new Set<number>();
    await bob.watch.until(() => {
      for (const sessionId of opened()) {
        if (answered.has(sessionId)) continue;
        answered.add(sessionId);
        if (bob.engine.session(sessionId) !== undefined) bob.engine.setAvailability(sessionId, "ready");
      }
      bob.flush();
      return bob.messages.length === 100;
    }, "the messages of all groups");
    assert.equal(new Set(texts(bob.messages)).size, 100);
    await assertServes(relay);
  });

  test("malformed address URLs are refused", async (t) => {
    const { peer } = await setting(t);
    const alice = await peer("alice/laptop");
    alice.engine.open({ resourceURL: "message", identityURL: "not a url", deviceURL: "" });
    alice.flush();
    assert.equal((await alice.event("sessionRefused")).responseId, OpenResponseId.Unknown);
    alice.engine.attach({ accountURL: "grooveIdentity://alice" });
    alice.flush();
    const closed = await alice.event("sessionClosed");
    assert.deepEqual([closed.kind, closed.reasonId], ["attach", CloseReasonId.UserAuthenticationFailed]);
  });
});

describe("resource limits", () => {
  /** Memory used by the relay's end of a peer's connection. */
  function memory(): number {
    return process.memoryUsage().arrayBuffers;
  }

  test("a device that does not read holds a bounded part of its mailbox in memory", async (t) => {
    const { relay, peer } = await setting(t, { store: join(folderFor(t), "relay.db") });
    const alice = await peer("alice/laptop");
    const session = await alice.open("bob/pc");
    const body = pattern(1_000_000, 1);
    for (let n = 0; n < 64; n += 1) await alice.untilAcknowledged(alice.send(session, body));
    const before = memory();
    const bob = await peer("bob/pc", { paused: true });
    bob.socket.resume();
    await bob.event("connected");
    bob.socket.pause();
    // The relay still serves others, and its sockets hold much less than what waits.
    for (let n = 0; n < 3; n += 1) await assertServes(relay);
    const held = memory() - before;
    // Uncollected garbage counts too; without a bound all 64 MB would be held.
    assert.ok(held < 64 * SOCKET_QUEUE, `${held} octets are buffered`);
    assert.equal(waiting(relay, "bob/pc").messages, 64);
    bob.socket.resume();
    assert.ok((await bob.received(64)).every((message) => message.body.equals(body)));
  });

  test("at most a window is sent to a device that does not acknowledge", async (t) => {
    const { peer } = await setting(t);
    const alice = await peer("alice/laptop");
    const session = await alice.open("bob/pc");
    for (let n = 0; n < 30; n += 1) alice.send(session, pattern(100_000, n));
    const bob = await peer("bob/pc", { acknowledge: false });
    const allowed = Math.ceil(SEND_WINDOW / 100_000);
    const received = await bob.received(allowed);
    await bob.settled();
    assert.equal(bob.messages.length, allowed);
    for (const message of received.slice(0, 3)) bob.complete(message);
    await bob.received(allowed + 3);
    await bob.settled();
    assert.equal(bob.messages.length, allowed + 3);
  });

  test("at most a fixed number of messages is outstanding, however short", async (t) => {
    const { peer } = await setting(t);
    const alice = await peer("alice/laptop");
    const session = await alice.open("bob/pc");
    const count = SEND_WINDOW_MESSAGES + 100;
    await alice.untilAcknowledged(...Array.from({ length: count }, (_, n) => alice.send(session, `${n}`)));
    const bob = await peer("bob/pc", { acknowledge: false });
    await bob.received(SEND_WINDOW_MESSAGES);
    await bob.settled();
    assert.equal(bob.messages.length, SEND_WINDOW_MESSAGES);
    for (const message of [...bob.messages]) bob.complete(message);
    const all = await bob.received(count);
    assert.deepEqual(
      texts(all),
      all.map((_, n) => `${n}`),
    );
  });

  test("the relay stops reading a peer that sends without reading", async (t) => {
    const { relay, peer } = await setting(t);
    const mallory = await peer("mallory/pc");
    mallory.socket.pause();
    // An Open without an identity is refused at once: 14 octets cost 8. Without a bound all answers would be kept.
    const open = [0x05, 14, 0, 99, 0, 0, 0, 0x6d, 0, 0, 0, 0, 0, 0];
    const opens = Buffer.from(Array.from({ length: 1000 }, () => open).flat());
    let taken = 0;
    let stuck = false;
    while (taken < 100_000_000 && !stuck) {
      const written = mallory.socket.write(opens);
      taken += opens.length;
      if (written) continue;
      stuck = await Promise.race([
        new Promise<false>((resolve) => mallory.socket.once("drain", () => resolve(false))),
        // While the relay reads, a drain arrives within milliseconds.
        new Promise<true>((resolve) => setTimeout(() => resolve(true), 1500)),
      ]);
    }
    assert.equal(mallory.ended, false);
    assert.ok(stuck, `the relay read ${taken} octets from a peer that reads nothing`);
    await assertServes(relay);
    mallory.socket.resume();
    await new Promise<void>((resolve) => mallory.socket.once("drain", () => resolve()));
  });

  test("a peer that sends to a thousand recipients is throttled, and others are served meanwhile", async (t) => {
    const { relay, peer } = await setting(t);
    const mallory = await peer("mallory/pc");
    const entries = Array.from({ length: 1000 }, (_, n) => ({
      identityURL: `grooveIdentity://u${n}`,
      deviceURL: "",
      relayURL: relayURL(`127.0.0.1:${relay.port}`),
    }));
    const session = mallory.engine.openFanout({ resourceURL: "message", entries });
    mallory.flush();
    await mallory.ready(session);
    const numbers = Array.from({ length: 40 }, (_, n) => mallory.send(session, `${n}`));
    await mallory.untilAcknowledged(numbers[4] ?? 0);
    await assertServes(relay);
    const { messages } = relay.waiting("grooveIdentity://u999");
    assert.ok(messages >= 5 && messages < 20, `${messages} were stored for each at once`);
  });

  test("a peer may attach a limited number of accounts", async (t) => {
    const { relay, peer } = await setting(t);
    const mallory = await peer("mallory/pc");
    for (let n = 0; n < QUEUES; n += 1) mallory.engine.attach({ accountURL: `grooveAccount://a${n}` });
    mallory.flush();
    await mallory.event("sessionClosed");
    await mallory.settled();
    assert.equal(mallory.events.filter(({ type }) => type === "attached").length, QUEUES - 1);
    await assertServes(relay);
  });

  test("a flood of Attach and Register is read no faster than the work that a peer may cause", async (t) => {
    const beyond = WORK_RATE / 5;
    for (const flood of ["attach", "register"] as const) {
      const { peer, relay } = await setting(t);
      const began = performance.now();
      const mallory = await peer("mallory/pc");
      for (let n = 0; n < WORK_BURST + beyond; n += 1) {
        if (flood === "register") mallory.engine.closeSession(mallory.engine.register(new Uint8Array()), 0);
        else mallory.engine.closeSession(mallory.engine.attach({ accountURL: "grooveAccount://a" }), 0);
      }
      mallory.flush();
      await mallory.settled();
      const took = performance.now() - began;
      assert.ok(took >= (beyond / WORK_RATE) * 1000, `${flood}: ${took} ms`);
      await assertServes(relay);
    }
  });

  test("an exception on one connection ends only that connection, with InternalError", async (t) => {
    const lines: string[] = [];
    const { relay, peer } = await setting(t, { log: (line) => lines.push(line) });
    const [alice, bob] = [await peer("alice/pc"), await peer("bob/pc")];
    const { finish } = Store.prototype;
    const broken = mock.method(Store.prototype, "finish", function (this: Store, ...args: Parameters<typeof finish>) {
      if (args[0].size === 13) throw new Error("a mistake");
      return finish.apply(this, args);
    });
    t.after(() => broken.mock.restore());
    alice.send(await alice.open("carol"), "thirteen here");
    assert.equal((await closeOf(alice)).reasonId, ConnectCloseReasonId.Resting);
    assert.ok(lines.some((line) => line.includes("InternalError") && line.includes("a mistake")));
    assert.deepEqual(waiting(relay, "carol"), { octets: 0, messages: 0 });
    await bob.untilAcknowledged(bob.send(await bob.open("carol"), "and here"));
    await assertServes(relay);
  });
});
