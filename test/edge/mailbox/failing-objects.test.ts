/** What a mailbox does when the objects that it calls fail, are slow, or have no room. */
import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { LEAST_PIECE, METER_TIMEOUT } from "../../../src/edge/admission/limits.ts";
import {
  EMPTY_TIME,
  KNOWN_TIME,
  NEW_PAUSE,
  SETTLE_PAUSE,
  SIGN_TIMEOUT,
  UNRESERVED,
  WATCH_INTERVAL,
} from "../../../src/edge/mailbox/limits.ts";
import { CALL_LOOK } from "../../../src/lib/runtime/deadline-pool.ts";
import { FLIGHT } from "../../../src/store-and-forward/sender-share.ts";
import { drive, messageOf } from "./object.ts";

const MIB = 1024 * 1024;

describe("a reservation", () => {
  it("whose answer is lost is given back when the messages have gone", async (t) => {
    const driven = drive(t);
    const meter = driven.meter("alice");
    meter.manner = "loses answers";
    const appended = driven.mailbox.append(messageOf("alice", 1000));
    await driven.letPass(METER_TIMEOUT);
    assert.deepEqual((await appended).refusals, []);
    assert.ok(meter.account.total > 0);
    meter.manner = "answers";
    driven.wake();
    await driven.mailbox.purge();
    await driven.letPass(SETTLE_PAUSE);
    assert.equal(meter.account.total, 0);
  });

  it("wakes the object once to be given back", async (t) => {
    const driven = drive(t);
    await driven.mailbox.append(messageOf("alice", 1000));
    await driven.mailbox.purge();
    await driven.letPass(SETTLE_PAUSE);
    assert.equal(driven.meter("alice").account.total, 0);
    assert.ok((driven.alarmAt ?? 0) > Date.now() + SETTLE_PAUSE);
  });

  it("is made again if a message arrives while it is given back", async (t) => {
    const driven = drive(t);
    const meter = driven.meter("alice");
    await driven.mailbox.append(messageOf("alice", 1000));
    await driven.mailbox.purge();
    const reserve = meter.reserve.bind(meter);
    meter.reserve = async (mailbox, reservation) => {
      meter.reserve = reserve;
      await driven.mailbox.append(messageOf("alice", 1000));
      return reserve(mailbox, reservation);
    };
    await driven.letPass(SETTLE_PAUSE);
    assert.equal(meter.account.total, 0);
    await driven.letPass(SETTLE_PAUSE);
    assert.equal(meter.account.total, LEAST_PIECE);
  });

  it("that is refused does not cover more", async (t) => {
    const driven = drive(t, { sender: MIB });
    const meter = driven.meter("alice");
    meter.account.reserve("another mailbox", { needed: 0, wanted: MIB, stored: true });
    for (let time = 0; time < 2; time += 1) {
      const { refusals } = await driven.mailbox.append(messageOf("alice", 1000));
      assert.deepEqual(refusals, [{ at: 0, outcome: "quota" }]);
    }
    assert.equal(meter.calls, 2);
    assert.equal(meter.account.total, MIB);
  });

  it("for messages that are then refused is given back, and the mailbox goes", async (t) => {
    const driven = drive(t, { quota: "octets=1MiB" });
    const meter = driven.meter("alice");
    const { refusals } = await driven.mailbox.append(messageOf("alice", MIB));
    assert.deepEqual(refusals, [{ at: 0, outcome: "tooLong" }]);
    assert.ok(meter.account.total > 0);
    await driven.letPass(SETTLE_PAUSE);
    assert.equal(meter.account.total, 0);
    await driven.letPass(EMPTY_TIME);
    assert.equal(driven.alarmAt, undefined);
  });

  it("covers no more than what is left of it, after more was stored for a consumer", async (t) => {
    const driven = drive(t, { sender: 2 * MIB });
    const { mailbox } = driven;
    await mailbox.append(messageOf("alice", 1000));
    const { generation } = await mailbox.attach();
    await mailbox.ready("reader", generation);
    for (let n = 0; n < 3; n += 1) await mailbox.append(messageOf("alice", MIB));
    await mailbox.detach(generation);
    await driven.letPass(SETTLE_PAUSE);
    const { refusals } = await mailbox.append(messageOf("alice", MIB));
    assert.deepEqual(refusals, [{ at: 0, outcome: "quota" }]);
  });
});

describe("an account far from its limit", () => {
  const LIMIT = 1024 * MIB;

  /** A mailbox that has just heard so, and is empty. */
  async function heard(t: TestContext, sender: string) {
    const driven = drive(t, { sender: LIMIT });
    await driven.mailbox.append(messageOf(sender, 1000));
    await driven.mailbox.purge();
    await driven.letPass(SETTLE_PAUSE);
    const meter = driven.meter(sender);
    assert.deepEqual([meter.calls, meter.account.total], [2, 0]);
    return { driven, meter };
  }

  it("is asked after its sender's first messages are stored", async (t) => {
    const { driven, meter } = await heard(t, "dora");
    meter.manner = "hangs";
    assert.deepEqual((await driven.mailbox.append(messageOf("dora", 1000))).refusals, []);
    assert.equal(meter.calls, 2);
    meter.manner = "answers";
    // Only a new mailbox asks sooner.
    await driven.letPass(NEW_PAUSE);
    assert.equal(meter.calls, 2);
    await driven.letPass(SETTLE_PAUSE - NEW_PAUSE);
    assert.deepEqual([meter.calls, meter.account.total], [3, LEAST_PIECE]);
  });

  it("is asked before more is stored than a first piece", async (t) => {
    const { driven, meter } = await heard(t, "emil");
    await driven.mailbox.append(messageOf("emil", 1000));
    await driven.mailbox.append(messageOf("emil", LEAST_PIECE));
    assert.deepEqual([meter.calls, meter.account.total], [3, 2 * LEAST_PIECE]);
  });

  it("is asked first again after ten seconds, or when it has said otherwise", async (t) => {
    const { driven, meter } = await heard(t, "fritz");
    await driven.letPass(KNOWN_TIME);
    await driven.mailbox.append(messageOf("fritz", 1000));
    assert.equal(meter.calls, 3);
    await driven.mailbox.purge();
    meter.account.reserve("another mailbox", { needed: 0, wanted: LIMIT, stored: true });
    await driven.letPass(SETTLE_PAUSE);
    assert.equal(meter.calls, 4);
    const { refusals } = await driven.mailbox.append(messageOf("fritz", 1000));
    assert.deepEqual([meter.calls, refusals], [5, [{ at: 0, outcome: "quota" }]]);
  });
});

describe("the account of a relay that vouches", () => {
  const LIMIT = 1024 * MIB;
  it("has no more room for one identity, and has some for the others", async (t) => {
    const driven = drive(t, { sender: LIMIT });
    const { account } = driven.meter("@relay.example.com");
    account.reserve("another mailbox", {
      needed: 0,
      wanted: LIMIT / 2,
      stored: true,
      identity: "grooveDNS://relay.example.com mallory",
    });
    const append = async (who: string) =>
      (await driven.mailbox.append(messageOf(`${who}@relay.example.com`, 1000))).refusals;
    assert.deepEqual(await append("mallory"), [{ at: 0, outcome: "quota" }]);
    assert.deepEqual(await append("alice"), []);
    // What is reserved for others in this mailbox is not hers.
    assert.deepEqual(await append("mallory"), []);
    assert.equal(account.total, LIMIT / 2 + LEAST_PIECE);
    await driven.mailbox.purge();
    await driven.letPass(SETTLE_PAUSE);
    assert.equal(account.total, LIMIT / 2);
  });

  it("charges what was stored without asking to the identity of which most waits", async (t) => {
    const driven = drive(t, { sender: LIMIT });
    const { account } = driven.meter("@relay.example.com");
    const append = async (who: string, length: number) =>
      (await driven.mailbox.append(messageOf(`${who}@relay.example.com`, length))).refusals;
    for (const who of ["dora", "emil"]) {
      assert.deepEqual(await append(who, 100), []);
      await driven.begin();
    }
    account.reserve("grooveDevice://bob/pc", { needed: 0, wanted: 0, stored: true });
    assert.deepEqual(await append("dora", 100), []);
    assert.deepEqual(await append("emil", 1000), []);
    assert.equal(account.total, 0);
    await driven.letPass(SETTLE_PAUSE);
    assert.equal(account.total, LEAST_PIECE);
    const left = (who: string) => account.left(`grooveDNS://relay.example.com ${who}`);
    assert.equal(left("dora") - left("emil"), LEAST_PIECE / 2);
  });
});

describe("an account of which twice its limit is stored", () => {
  const LIMIT = 4 * MIB;

  /** A mailbox whose consumer takes messages and acknowledges none. */
  async function attached(t: TestContext, sender: string, elsewhere: number) {
    const driven = drive(t, { sender: LIMIT });
    const meter = driven.meter(sender);
    meter.account.reserve("other mailboxes", { needed: 0, wanted: elsewhere, stored: true });
    const { generation } = await driven.mailbox.attach();
    await driven.mailbox.ready("reader", generation);
    return { driven, meter, generation };
  }

  it("has no more stored for connected recipients, until some of it is gone", async (t) => {
    const { driven, meter } = await attached(t, "gerd", 2 * LIMIT);
    const append = async (length: number) => (await driven.mailbox.append(messageOf("gerd", length))).refusals;
    const refused = [{ at: 0, outcome: "quota" }];
    assert.deepEqual(await append(2 * LEAST_PIECE), refused);
    assert.deepEqual(await append(1000), refused);
    const { calls } = meter;
    await driven.letPass(KNOWN_TIME);
    meter.account.reserve("other mailboxes", { needed: 0, wanted: 2 * LIMIT - 1, stored: true });
    assert.deepEqual(await append(2 * LEAST_PIECE), []);
    assert.deepEqual(await append(MIB), []);
    assert.equal(meter.calls, calls + 1);
  });

  it("counts what connected recipients do not take", async (t) => {
    const { driven, meter, generation } = await attached(t, "heinz", 2 * LIMIT - MIB);
    assert.deepEqual((await driven.mailbox.append(messageOf("heinz", MIB))).refusals, []);
    assert.equal(meter.account.isSpent(), false);
    await driven.letPass(WATCH_INTERVAL);
    assert.equal(meter.account.isSpent(), true);
    assert.deepEqual((await driven.mailbox.append(messageOf("heinz", 2 * MIB))).refusals, [
      { at: 0, outcome: "quota" },
    ]);
    const { first } = driven.tunnel("reader");
    await driven.mailbox.acknowledge(generation, { done: [[first, first]] });
    await driven.letPass(SETTLE_PAUSE + 1000);
    assert.equal(meter.account.total, 2 * LIMIT - MIB);
  });

  it("is not called for connected recipients that take their messages", async (t) => {
    const { driven, meter, generation } = await attached(t, "ida", 0);
    const reader = driven.tunnel("reader");
    for (let second = 0; second < 2 * WATCH_INTERVAL; second += 1000) {
      reader.first = 0;
      await driven.mailbox.append(messageOf("ida", 2 * LEAST_PIECE));
      await driven.letPass(1000);
      await driven.mailbox.acknowledge(generation, { done: [[reader.first, reader.first]] });
    }
    assert.deepEqual([meter.calls, meter.account.total], [(2 * WATCH_INTERVAL) / KNOWN_TIME, 0]);
  });
});

describe("a Meter that does not answer", () => {
  it("holds up no other sender", async (t) => {
    const driven = drive(t);
    driven.meter("alice").manner = "hangs";
    const slow = driven.mailbox.append(messageOf("alice", 1000));
    assert.deepEqual((await driven.mailbox.append(messageOf("carol", 1000))).refusals, []);
    await driven.letPass(METER_TIMEOUT);
    assert.deepEqual((await slow).refusals, []);
  });

  it("holds up neither the look after the consumer nor its messages", async (t) => {
    const driven = drive(t);
    const { mailbox } = driven;
    for (const sender of ["alice", "carol"]) await mailbox.append(messageOf(sender, 1000));
    const { generation } = await mailbox.attach();
    await mailbox.ready("reader", generation);
    const reader = driven.tunnel("reader");
    await driven.letPass(1000);
    await mailbox.acknowledge(generation, { done: [[reader.first, reader.first]] });
    driven.meter("alice").manner = "hangs";
    const { asked } = reader;
    await driven.letPass(WATCH_INTERVAL);
    assert.deepEqual([driven.meter("alice").calls, reader.asked - asked], [2, 1]);
  });
});

it("an alarm that is set sooner while another call looks up the alarm stays so", async (t) => {
  const driven = drive(t, { sender: 1024 * MIB });
  await driven.mailbox.append(messageOf("jan", 1000));
  await driven.begin();
  // Both wait for the directory. The first then sets the alarm for an empty mailbox.
  const attached = driven.mailbox.attach();
  await driven.mailbox.append(messageOf("jan", 1000));
  await attached;
  assert.equal(driven.alarmAt, Date.now() + NEW_PAUSE);
});

it("where nothing waits, one call attaches a consumer, and nothing wakes the mailbox soon", async (t) => {
  const driven = drive(t);
  const { generation, isReady } = await driven.mailbox.attach("reader");
  assert.equal(isReady, true);
  assert.ok((driven.alarmAt ?? 0) > Date.now() + 100 * EMPTY_TIME, "it is not taken for unused");
  assert.equal((await driven.mailbox.status()).consumer, "reader");
  await driven.mailbox.detach(generation);
  await driven.letPass(EMPTY_TIME);
  assert.equal(driven.alarmAt, undefined, "it goes without a consumer");
});

it("where messages wait, or another consumes, a consumer must call twice", async (t) => {
  const { mailbox } = drive(t);
  await mailbox.append(messageOf("alice", 1000));
  const first = await mailbox.attach("reader");
  assert.equal(first.isReady, false);
  assert.equal((await mailbox.status()).consumer, undefined);
  await mailbox.ready("reader", first.generation);
  await mailbox.purge();
  assert.equal((await mailbox.attach("another")).isReady, false);
  assert.equal((await mailbox.status()).consumer, "reader");
});

it("a sender that was suspended while a consumer drained is told of room when the consumer leaves", async (t) => {
  const driven = drive(t, { sender: MIB });
  const { mailbox } = driven;
  const { generation } = await mailbox.attach();
  await mailbox.ready("reader", generation);
  const half = messageOf("carol", UNRESERVED - FLIGHT.octets);
  assert.deepEqual((await mailbox.append(half)).refusals, []);
  const { refusals, suspend } = await mailbox.append(messageOf("alice", 8 * MIB), "writer");
  assert.deepEqual([refusals, suspend !== undefined], [[], true]);
  const writer = driven.tunnel("writer");
  assert.equal(writer.rooms, 0);
  await mailbox.detach(generation);
  await driven.letPass(1000);
  assert.equal(writer.rooms, 1);
});

it("a former consumer that does not answer does not keep the mailbox from the others", async (t) => {
  const driven = drive(t);
  const { mailbox } = driven;
  const generations: number[] = [];
  for (const name of ["first", "second", "third"]) {
    const { generation } = await mailbox.attach();
    await mailbox.ready(name, generation);
    generations.push(generation);
    await driven.letPass(1000);
  }
  driven.tunnel("second").hangs = true;
  await mailbox.detach(generations.at(-1) ?? 0);
  await driven.letPass(SIGN_TIMEOUT + 2 * CALL_LOOK);
  assert.deepEqual([driven.tunnel("second").recalls, driven.tunnel("first").recalls], [1, 1]);
});

describe("messages with flag D", () => {
  it("leave nothing in the memory of the mailbox while their reader hangs, or when there is none", async (t) => {
    const { mailbox, tunnel } = drive(t);
    const toNobody = messageOf("alice", 1000);
    assert.deepEqual(await mailbox.pass(toNobody), []);
    assert.equal(toNobody.octets.length, 0);

    const { generation } = await mailbox.attach();
    await mailbox.ready("reader", generation);
    tunnel("reader").deliver = () => new Promise(() => undefined);
    const toSomebody = messageOf("alice", 1000);
    void mailbox.pass(toSomebody);
    await new Promise(setImmediate);
    assert.equal(toSomebody.octets.length, 0);
  });
});
