/** What devices stream to each other is slowed down by its recipients, and holds up nothing else. */
import assert from "node:assert/strict";
import { afterEach, describe, mock, type TestContext, test } from "node:test";
import {
  RELAY_STREAMS_HELD,
  SEND_WINDOW,
  STREAM_BATCH,
  STREAM_HELD,
  STREAM_LOOK,
  STREAM_PATIENCE,
  STREAM_STALL,
} from "../../src/relay/limits.ts";
import { CloseReasonId } from "../../src/sstp/index.ts";
import { Peer, type PeerOptions, relayFor, texts } from "./support.ts";

const STREAMED = { doNotDeliverIfOffline: true };

async function setting(t: TestContext) {
  const relay = await relayFor(t);
  async function peer(address: string, more: Partial<PeerOptions> = {}): Promise<Peer> {
    const connected = await Peer.connect(relay, { address, attach: false, ...more });
    t.after(() => connected.drop());
    return connected;
  }
  return { relay, peer };
}

/** A device that takes the sessions only that `takes` allows; others are suspended. */
async function taking(
  peer: (address: string, more: Partial<PeerOptions>) => Promise<Peer>,
  address: string,
  takes: (resource: string) => boolean,
) {
  const device = await peer(address, { accept: false });
  const suspended: number[] = [];
  device.onEvent = (event) => {
    if (event.type !== "open") return;
    const isTaken = takes(event.resourceURL);
    if (!isTaken) suspended.push(event.sessionId);
    device.engine.setAvailability(event.sessionId, isTaken ? "ready" : "notReady");
  };
  const resume = () => {
    for (const sessionId of suspended) device.engine.setAvailability(sessionId, "ready");
    device.flush();
  };
  return { device, resume };
}

function numbered(n: number, size: number): Buffer {
  const body = Buffer.alloc(size);
  body.writeUInt32BE(n);
  return body;
}

function numbersOf(device: Peer): number[] {
  return device.messages.map(({ body }) => body.readUInt32BE());
}

const inOrder = (count: number) => Array.from({ length: count }, (_, n) => n);

describe("what a device streams", () => {
  afterEach(() => mock.timers.reset());

  test("waits for its recipient, and the device is not read for that moment; nothing is lost", async (t) => {
    const { peer } = await setting(t);
    const { device: bob, resume } = await taking(peer, "bob/pc", () => false);
    const alice = await peer("alice/pc");
    const session = await alice.open("bob/pc", "stream");
    mock.timers.enable({ apis: ["setTimeout", "Date"], now: Date.now() });
    // More than the sockets between them hold.
    const count = 256;
    const size = STREAM_BATCH / 2;
    const sent = inOrder(count).map((n) => alice.send(session, numbered(n, size), STREAMED));
    // Somebody else's message shows that the relay has had time.
    const carol = await peer("carol/pc");
    const other = await carol.open("bob/pc", "stream");
    carol.send(other, numbered(0, 100), STREAMED);
    await carol.settled();
    assert.deepEqual([alice.acknowledged, bob.messages.length], [[], 0]);
    assert.ok(alice.socket.writableLength > 0, "the rest waits in the device");
    mock.timers.reset();
    resume();
    await alice.untilAcknowledged(...sent);
    await bob.received(count + 1);
    assert.deepEqual(
      numbersOf(bob).filter((_, n) => (bob.messages[n]?.body.length ?? 0) === size),
      inOrder(count),
    );
  });

  test("is sent without acknowledgements of what was streamed before", async (t) => {
    const { peer } = await setting(t);
    const bob = await peer("bob/pc", { acknowledge: false });
    const alice = await peer("alice/pc");
    const session = await alice.open("bob/pc", "stream");
    const count = (8 * SEND_WINDOW) / STREAM_BATCH;
    const sent = inOrder(count).map((n) => alice.send(session, numbered(n, STREAM_BATCH), STREAMED));
    await alice.untilAcknowledged(...sent);
    await bob.received(count);
    assert.deepEqual(numbersOf(bob), inOrder(count));
  });

  /** Lets time pass, in which the relay and its peers go on. */
  async function pass(milliseconds: number, peer: Peer): Promise<void> {
    for (let passed = 0; passed < milliseconds; passed += STREAM_LOOK) {
      mock.timers.tick(STREAM_LOOK);
      await peer.settled();
    }
  }

  test("waits by itself when its recipient takes nothing for a moment, and is dropped in the end", async (t) => {
    const { relay, peer } = await setting(t);
    const { device: bob, resume } = await taking(peer, "bob/pc", (resource) => resource !== "stream");
    const alice = await peer("alice/pc");
    const [session, other] = [await alice.open("bob/pc", "stream"), await alice.open("bob/pc")];
    mock.timers.enable({ apis: ["setTimeout", "Date"], now: Date.now() });
    const sent = inOrder(4).map((n) => alice.send(session, numbered(n, STREAM_BATCH), STREAMED));
    const stored = alice.send(other, "stored");
    await bob.settled();
    assert.deepEqual(alice.acknowledged, []);
    await pass(2 * STREAM_STALL, bob);
    await alice.untilAcknowledged(...sent, stored);
    assert.deepEqual(texts(await bob.received(1)), ["stored"]);
    const states = alice.events.flatMap((event) => (event.type === "sessionState" ? [event.state] : []));
    assert.deepEqual(states, ["ready", "ready", "suspended"]);
    assert.equal(relay.status().dropped.SlowPeer, 0);
    await pass(STREAM_PATIENCE, bob);
    assert.equal(relay.status().dropped.SlowPeer, 4);
    await alice.ready(session);
    mock.timers.reset();
    resume();
    await alice.untilAcknowledged(alice.send(session, "late", STREAMED));
  });

  test("is refused if it is longer than a batch", async (t) => {
    const { peer } = await setting(t);
    await peer("bob/pc");
    const alice = await peer("alice/pc");
    const session = await alice.open("bob/pc", "stream");
    alice.send(session, new Uint8Array(STREAM_BATCH + 1), STREAMED);
    assert.equal((await alice.event("sessionClosed")).reasonId, CloseReasonId.QuotaWouldBeExceeded);
  });

  test("is acknowledged when its recipient goes away, and a device that was not read is read again", async (t) => {
    const { peer } = await setting(t);
    const { device: bob } = await taking(peer, "bob/pc", () => false);
    const alice = await peer("alice/pc");
    const session = await alice.open("bob/pc", "stream");
    const sent = inOrder(16).map((n) => alice.send(session, numbered(n, STREAM_HELD / 4), STREAMED));
    await bob.settled().catch(() => undefined);
    bob.drop();
    await alice.untilAcknowledged(...sent);
  });
});

describe("what another relay streams", () => {
  afterEach(() => mock.timers.reset());

  test("is held back by its own session alone, and acknowledged when it arrives", async (t) => {
    const { peer } = await setting(t);
    const { device: bob, resume } = await taking(peer, "bob/pc", () => false);
    const carol = await peer("carol/pc");
    const edge = await peer("edge.example.com");
    const [slow, quick] = [await edge.open("bob/pc", "stream"), await edge.open("carol/pc", "stream")];
    // Nothing waits for too long.
    mock.timers.enable({ apis: ["setTimeout", "Date"], now: Date.now() });
    const size = STREAM_BATCH / 2;
    const sent = inOrder(5).map((n) => edge.send(slow, numbered(n, size), STREAMED));
    await edge.watch.until(
      () => edge.events.some((event) => event.type === "sessionState" && event.state === "suspended"),
      "the session to be suspended",
    );
    // As many as were in flight.
    await edge.untilAcknowledged(...sent);
    for (const n of inOrder(100)) {
      // It may be suspended for a moment too.
      await edge.ready(quick);
      await edge.untilAcknowledged(edge.send(quick, numbered(n, size), STREAMED));
    }
    await carol.received(100);
    assert.deepEqual([numbersOf(carol), bob.messages.length], [inOrder(100), 0]);
    resume();
    await bob.received(5);
    await edge.ready(slow);
    assert.deepEqual(numbersOf(bob), inOrder(5));
  });

  test("is dropped beyond a limit if it ignores that", async (t) => {
    const { relay, peer } = await setting(t);
    const { device: bob, resume } = await taking(peer, "bob/pc", () => false);
    const edge = await peer("edge.example.com");
    const slow = await edge.open("bob/pc", "stream");
    const most = RELAY_STREAMS_HELD / STREAM_BATCH;
    const sent: number[] = [];
    // Its engine would obey: all of it is written before the suspension is read.
    for (const n of inOrder(2 * most)) sent.push(edge.send(slow, numbered(n, STREAM_BATCH), STREAMED));
    await edge.untilAcknowledged(...sent);
    resume();
    await bob.received(1);
    assert.ok(relay.status().dropped.SlowPeer >= most, `${relay.status().dropped.SlowPeer} are dropped`);
  });
});
