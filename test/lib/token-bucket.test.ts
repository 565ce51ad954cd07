/** The token bucket, with a clock driven by the test. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { bucket, charge, giveBack, levelOf, take, wait } from "../../src/lib/token-bucket.ts";

const rate = fc.integer({ min: 1, max: 1_000_000 });
const burst = fc.integer({ min: 1, max: 1_000_000 });
/** Pauses and amounts, in order. */
const script = fc.array(
  fc.record({ pause: fc.integer({ min: 0, max: 5000 }), amount: fc.integer({ min: 0, max: 2_000_000 }) }),
  {
    minLength: 1,
    maxLength: 50,
  },
);
/** Accumulated floating-point error. */
const EPSILON = 1e-3;

describe("a token bucket", () => {
  it("never grants more than its burst plus what was refilled", () => {
    let given = 0;
    fc.assert(
      fc.property(rate, burst, script, (perSecond, most, steps) => {
        let now = 1_000_000;
        const began = now;
        const of = bucket(perSecond, most, now);
        let taken = 0;
        for (const { pause, amount } of steps) {
          now += pause;
          if (take(of, amount, now)) taken += amount;
          assert.ok(taken <= most + ((now - began) / 1000) * perSecond + EPSILON);
          assert.ok(of.level >= 0 && of.level <= most);
        }
        given += taken;
      }),
      { numRuns: 500 },
    );
    assert.ok(given > 0);
  });

  it("grants the full rate to a caller that takes tokens as they come", () => {
    fc.assert(
      fc.property(rate, burst, script, (perSecond, most, steps) => {
        let now = 5;
        const of = bucket(perSecond, most, now);
        let free = most;
        for (const { pause, amount } of steps) {
          now += pause;
          free = Math.min(most, free + (pause / 1000) * perSecond);
          const may = take(of, amount, now);
          assert.ok(may ? amount <= free + EPSILON : amount > free - EPSILON, `${amount} of ${free}`);
          if (may) free -= amount;
        }
      }),
      { numRuns: 500 },
    );
  });

  it("returns a wait for a charge in advance that keeps the rate", () => {
    fc.assert(
      fc.property(rate, burst, script, (perSecond, most, steps) => {
        let now = 0;
        const of = bucket(perSecond, most, now);
        let taken = 0;
        for (const { pause, amount } of steps) {
          now += pause;
          const waits = charge(of, amount, now);
          taken += amount;
          const ready = now + waits;
          assert.ok(taken <= most + (ready / 1000) * perSecond + EPSILON, "not too early");
          // A millisecond earlier it would not have been available.
          if (waits > 0) assert.ok(of.level + ((waits - 1) / 1000) * perSecond < EPSILON, "not too late");
        }
      }),
      { numRuns: 500 },
    );
  });

  it("returns the shortest sufficient wait", () => {
    fc.assert(
      fc.property(rate, burst, fc.integer({ min: 0, max: 1_000_000 }), (perSecond, most, amount) => {
        const of = bucket(perSecond, most, 0);
        take(of, most, 0);
        const waits = wait(of, amount, 0);
        if (amount > most) assert.equal(waits, Number.POSITIVE_INFINITY);
        else {
          assert.ok(waits === 0 || !take({ ...of }, amount, waits - 1));
          assert.ok(levelOf({ ...of }, waits) >= amount - EPSILON);
        }
      }),
    );
  });

  it("never holds more than its burst after tokens are returned", () => {
    const of = bucket(100, 50, 0);
    charge(of, 70, 0);
    giveBack(of, 30, 0);
    assert.equal(levelOf(of, 0), 10);
    giveBack(of, 1000, 100);
    assert.equal(levelOf(of, 100), 50);
  });

  it("keeps working when the clock is set back, and grants nothing for it", () => {
    const of = bucket(100, 50, 1_000_000);
    assert.ok(take(of, 50, 1_000_000));
    assert.equal(levelOf(of, 0), 0);
    assert.equal(levelOf(of, 250), 25);
    assert.equal(levelOf(of, Number.MAX_SAFE_INTEGER), 50);
  });
});
