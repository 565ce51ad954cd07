/** An identity's queue with several devices connected: one that never acknowledges does not starve the others. */
import assert from "node:assert/strict";
import { describe, mock, type TestContext, test } from "node:test";
import { ACKNOWLEDGE_TIME } from "../../src/relay/limits.ts";
import { BENCH_TIME, SIGN_OF_LIFE } from "../../src/store-and-forward/consumer-timeout.ts";
import { Peer, type PeerOptions, relayFor, texts, waiting } from "./support.ts";

async function setting(t: TestContext) {
  // Only the relay's timers are mocked: sockets run in real time.
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: Date.now() });
  const log: string[] = [];
  const relay = await relayFor(t, { log: (line) => log.push(line) });
  const peers: Peer[] = [];
  async function peer(address: string, more: Partial<PeerOptions> = {}): Promise<Peer> {
    const connected = await Peer.connect(relay, { address, ...more });
    peers.push(connected);
    return connected;
  }
  const alice = await peer("alice/laptop");
  const session = await alice.open("bob");
  async function send(...bodies: (string | Uint8Array)[]): Promise<void> {
    await alice.untilAcknowledged(...bodies.map((body) => alice.send(session, body)));
  }
  /** Advances time in steps; the given devices send a sign of life before each. */
  async function pass(milliseconds: number, ...living: Peer[]): Promise<void> {
    for (let passed = 0; passed < milliseconds; passed += STEP) {
      for (const one of [alice, ...living]) await one.settled();
      mock.timers.tick(Math.min(STEP, milliseconds - passed));
    }
    for (const one of [alice, ...living]) await one.settled();
  }
  t.after(async () => {
    for (const one of peers) one.drop();
    // Timers that a connection clears later must belong to the same mock.
    while (relay.status().connections > 0) await new Promise((resolve) => setImmediate(resolve));
    mock.timers.reset();
  });
  const given = () => log.filter((line) => line.includes("goes to another device"));
  return { relay, peer, send, pass, given };
}

/** A third of the time allowed without a sign of life. */
const STEP = SIGN_OF_LIFE / 3;

/** Waits for a number of messages; with mocked time nothing else ends this wait. */
async function got(peer: Peer, count: number): Promise<string[]> {
  for (let turn = 0; turn < 20 && peer.messages.length < count; turn += 1) await peer.settled();
  return texts(peer.messages);
}

describe("with another device of the identity connected, a device that holds messages", () => {
  test("loses the queue after 15 s of silence, and the other gets all messages in order", async (t) => {
    const { relay, peer, send, pass, given } = await setting(t);
    const pc = await peer("bob/pc");
    const phone = await peer("bob/phone", { acknowledge: false });
    await send("one", "two");
    await phone.received(2);
    await pass(SIGN_OF_LIFE - STEP, pc);
    assert.equal(pc.messages.length, 0);
    await pass(2 * STEP, pc);
    assert.deepEqual(await got(pc, 2), ["one", "two"]);
    assert.match(given().join(), /bob.*phone.*NoSignOfLife/);
    await send("three");
    assert.deepEqual(await got(pc, 3), ["one", "two", "three"]);
    await pc.settled();
    assert.deepEqual(waiting(relay, "bob").messages, 0);
    assert.equal(phone.ended, false);
    assert.equal(phone.messages.length, 2);
  });

  test("loses the queue two minutes after its last acknowledgement, even if it shows signs of life", async (t) => {
    const { peer, send, pass, given } = await setting(t);
    const pc = await peer("bob/pc");
    const phone = await peer("bob/phone", { acknowledge: false });
    await send("one", "two");
    const [one] = await phone.received(2);
    await pass(ACKNOWLEDGE_TIME - 2 * SIGN_OF_LIFE, phone, pc);
    phone.complete(one ?? assert.fail("no message"));
    await pass(ACKNOWLEDGE_TIME - STEP, phone, pc);
    assert.equal(pc.messages.length, 0);
    await pass(SIGN_OF_LIFE + STEP, phone, pc);
    assert.deepEqual(await got(pc, 1), ["two"]);
    assert.match(given().join(), /NotAcknowledged/);
  });

  test("loses the queue if it does not answer the session", async (t) => {
    const { peer, send, pass } = await setting(t);
    const pc = await peer("bob/pc");
    await peer("bob/phone", { accept: false });
    await send("one");
    await pass(SIGN_OF_LIFE + STEP, pc);
    assert.deepEqual(await got(pc, 1), ["one"]);
  });

  test("gets the queue back only after ten minutes, without the messages it already holds", async (t) => {
    const { relay, peer, send, pass, given } = await setting(t);
    const pc = await peer("bob/pc", { acknowledge: false });
    const phone = await peer("bob/phone", { acknowledge: false });
    await send("one");
    await pass(SIGN_OF_LIFE + STEP, pc);
    assert.deepEqual(await got(pc, 1), ["one"]);
    const [one] = pc.messages;
    assert.equal(given().length, 1);
    await pass(BENCH_TIME - 2 * SIGN_OF_LIFE, pc, phone);
    assert.equal(given().length, 1);
    await pass(2 * SIGN_OF_LIFE, pc, phone);
    assert.equal(given().length, 2);
    await send("two");
    assert.deepEqual(await got(phone, 2), ["one", "two"]);
    // The first may be handled twice, and is removed once one of them has acknowledged it.
    pc.complete(one ?? assert.fail("no message"));
    await pc.settled();
    assert.equal(waiting(relay, "bob").messages, 1);
  });
});

describe("the queue of an identity stays with", () => {
  test("its only device, however long that is silent", async (t) => {
    const { peer, send, pass, given } = await setting(t);
    const phone = await peer("bob/phone", { acknowledge: false });
    await send("one");
    await phone.received(1);
    await pass(ACKNOWLEDGE_TIME - STEP);
    assert.equal(phone.ended, false);
    assert.deepEqual(given(), []);
  });

  test("a device that fell silent while nothing waited: its 15 s begin with the next message", async (t) => {
    const { peer, send, pass, given } = await setting(t);
    const pc = await peer("bob/pc");
    const phone = await peer("bob/phone", { acknowledge: false });
    await send("one");
    const [one] = await phone.received(1);
    phone.complete(one ?? assert.fail("no message"));
    await phone.settled();
    await pass(2 * STEP, pc);
    await send("two");
    await phone.received(2);
    await pass(2 * STEP, pc);
    assert.deepEqual(given(), []);
    await pass(2 * STEP, pc);
    assert.deepEqual(await got(pc, 1), ["two"]);
  });

  test("a device that shows signs of life and has suspended the session", async (t) => {
    const { peer, send, pass, given } = await setting(t);
    const pc = await peer("bob/pc");
    const phone = await peer("bob/phone", { accept: false });
    await send("one");
    const { sessionId } = await phone.event("open");
    phone.engine.setAvailability(sessionId, "notReady");
    phone.flush();
    await pass(ACKNOWLEDGE_TIME + 2 * SIGN_OF_LIFE, pc, phone);
    assert.deepEqual(given(), []);
    phone.engine.setAvailability(sessionId, "ready");
    phone.flush();
    assert.deepEqual(texts(await phone.received(1)), ["one"]);
  });
});
