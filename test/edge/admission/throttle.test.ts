/** A Tunnel's side of the meter, with a clock and a meter driven by the tests. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  CREDIT,
  FIRST_LEASE,
  LATE,
  METER_TIMEOUT,
  SLICE,
  YIELD,
  YIELD_MOST,
} from "../../../src/edge/admission/limits.ts";
import { type Clock, Throttle } from "../../../src/edge/admission/throttle.ts";
import type { Amount, Entrance, Lease, MeterRpc } from "../../../src/edge/rpc/meter-rpc.ts";
import { bucket, charge, giveBack } from "../../../src/lib/token-bucket.ts";

const RATE = { connections: 1, connects: 1, octets: 1_000_000, messages: 1000, recipients: 1, streams: 1 };

/** A clock that advances only while somebody sleeps. */
class TestClock implements Clock {
  time = 1000;
  now(): number {
    return this.time;
  }
  async sleep(milliseconds: number): Promise<void> {
    this.time += milliseconds;
  }
}

/** A meter that grants leases at the rate. */
class TestMeter implements Pick<MeterRpc, "enter" | "leave" | "lease"> {
  readonly asked: Amount[] = [];
  readonly left: string[] = [];
  readonly #clock: TestClock;
  readonly #of = {
    octets: bucket(RATE.octets, RATE.octets / 2, 1000),
    messages: bucket(RATE.messages, RATE.messages / 2, 1000),
  };
  constructor(clock: TestClock) {
    this.#clock = clock;
  }
  async enter(): Promise<Entrance> {
    return { ok: false, retryAfter: 7, limit: "connects" };
  }
  async leave(connection: string): Promise<void> {
    this.left.push(connection);
  }
  async lease(_connection: string, wanted: Amount, unused: Amount): Promise<Lease> {
    this.asked.push(wanted);
    const now = this.#clock.now();
    const [octets = 0, messages = 0] = (["octets", "messages"] as const).map((kind) => {
      giveBack(this.#of[kind], unused[kind], now);
      return Math.min(wanted[kind], (RATE[kind] * SLICE) / 1000);
    });
    const wait = Math.max(charge(this.#of.octets, octets, now), charge(this.#of.messages, messages, now));
    return { octets, messages, wait, holds: 1000 };
  }
}

function started() {
  const clock = new TestClock();
  const meter = new TestMeter(clock);
  return { clock, meter, throttle: new Throttle(meter, "one", RATE, clock) };
}

describe("the throttle", () => {
  for (const [what, octets, messages] of [
    ["octets", 10_000, 1],
    ["messages", 50, 10],
    ["large reads", 262_144, 40],
  ] as const) {
    it(`holds ${what} to the rate, and asks the meter at most once per slice`, async () => {
      const { clock, meter, throttle } = started();
      const began = clock.time;
      const used = { octets: 0, messages: 0 };
      while (clock.time - began < 20_000) {
        await throttle.spend(octets, messages);
        used.octets += octets;
        used.messages += messages;
        clock.time += 1;
      }
      const seconds = (clock.time - began) / 1000;
      const share = Math.max(used.octets / RATE.octets, used.messages / RATE.messages) / seconds;
      assert.ok(share > 0.8 && share < 1.05, `${share} of the rate`);
      assert.ok(
        meter.asked.length <= (1.1 * seconds * 1000) / SLICE,
        `asked ${meter.asked.length} times in ${seconds} s`,
      );
    });
  }

  it("does not slow a sender below its rate, steady or bursty", async () => {
    const { clock, meter, throttle } = started();
    const began = clock.time;
    for (let n = 0; n < 1000; n += 1) {
      await throttle.spend(n % 10 === 0 ? 50_000 : 100, 1);
      clock.time += 10;
    }
    assert.equal(clock.time - began, 10_000, "nothing was delayed");
    assert.ok(meter.asked.length <= 200, `no more than once a slice: ${meter.asked.length} times in 10 s`);
  });

  it("does not ask the meter for a device that only sends keep-alives", () => {
    const { clock, meter, throttle } = started();
    for (let n = 0; n < Math.floor(CREDIT.octets / 7); n += 1) {
      assert.equal(throttle.spend(7, 0), undefined);
      clock.time += 25_000;
    }
    assert.equal(meter.asked.length, 0);
  });

  it("leases what it owes and a little more", async () => {
    const { meter, throttle } = started();
    await throttle.spend(100_000, 20);
    const [first] = meter.asked;
    assert.ok(first && first.octets >= 100_000 + FIRST_LEASE.octets && first.octets <= 100_000 + RATE.octets);
    assert.ok(first.messages >= 20 + FIRST_LEASE.messages);
  });

  it("slows heavy senders further when leases arrive late", async () => {
    const { clock, meter, throttle } = started();
    const late = { lease: 0 };
    const lease = meter.lease.bind(meter);
    meter.lease = async (...asked) => {
      const leased = await lease(...asked);
      clock.time += late.lease;
      return leased;
    };
    const slice = (RATE.octets * SLICE) / 1000;
    const timeOf = async () => {
      const began = clock.time;
      await throttle.spend(slice, 0);
      return clock.time - began;
    };
    for (let n = 0; n < 20; n += 1) await timeOf();
    late.lease = LATE;
    const idle = await timeOf();
    late.lease = LATE + 10;
    assert.ok((await timeOf()) >= idle + 10 * YIELD, "each lease is followed by a pause");
    late.lease = 900;
    assert.ok((await timeOf()) <= idle + 2 * (900 + YIELD_MOST), "which is bounded");
    meter.lease = async () => {
      clock.time += METER_TIMEOUT;
      throw new Error("the meter has not answered in time");
    };
    assert.ok((await timeOf()) >= METER_TIMEOUT + YIELD_MOST, "a lease that does not come is late too");
  });

  it("passes on a refusal of the meter", async () => {
    assert.deepEqual(await started().throttle.enter(), { ok: false, retryAfter: 7, limit: "connects" });
  });

  it("releases waiters when the connection ends, and tells the meter", async () => {
    const { meter } = started();
    const stuck: Clock = { now: () => 0, sleep: () => new Promise(() => undefined) };
    const throttle = new Throttle(meter, "one", RATE, stuck);
    const waiting = throttle.spend(10_000_000, 0);
    assert.ok(waiting);
    await throttle.leave();
    await waiting;
    assert.deepEqual(meter.left, ["one"]);
    assert.equal(throttle.spend(10_000_000, 0), undefined);
  });

  for (const [how, call] of [
    ["fails", () => Promise.reject(new Error("gone"))],
    ["does not answer", () => new Promise<never>(() => undefined)],
  ] as const) {
    it(`admits, and applies the rate on its own, when the meter ${how}`, async () => {
      const clock = new TestClock();
      const throttle = new Throttle({ enter: call, leave: call, lease: call }, "one", RATE, clock);
      assert.deepEqual(await throttle.enter(), { ok: true });
      const began = clock.time;
      for (let n = 0; n < 8; n += 1) await throttle.spend(1_000_000, 0);
      const seconds = (clock.time - began) / 1000;
      assert.ok(seconds > 6.5 && seconds < 10, `8 MB at 1 MB/s took ${seconds} s`);
      await throttle.leave();
    });
  }
});
