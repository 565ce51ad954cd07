/** What is outstanding at a consumer: totals that match a model, in any order of sends and acknowledgements. */
import assert from "node:assert/strict";
import { describe, it, test } from "node:test";
import fc from "fast-check";
import { EXTRA_WINDOW, EXTRA_WINDOWS, QUICK, SEND_WINDOW } from "../../../src/edge/mailbox/limits.ts";
import { MemoryPool } from "../../../src/edge/mailbox/memory-pool.ts";
import { SendWindow } from "../../../src/edge/mailbox/send-window.ts";

test("the send window counts what is sent but not acknowledged", () => {
  const step = fc.oneof(
    {
      weight: 3,
      arbitrary: fc.record({ sizes: fc.array(fc.nat(1000), { minLength: 1, maxLength: 6 }), gap: fc.nat(2) }),
    },
    { weight: 3, arbitrary: fc.record({ from: fc.nat(40), length: fc.nat(12) }) },
    { weight: 1, arbitrary: fc.constant("clear" as const) },
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const flying = new SendWindow();
      let model: { seq: number; size: number }[] = [];
      let next = 1;
      for (const one of steps) {
        if (one === "clear") {
          flying.clear();
          model = [];
        } else if ("sizes" in one) {
          next += one.gap;
          flying.add(next, one.sizes, 0);
          for (const size of one.sizes) {
            model.push({ seq: next, size });
            next += 1;
          }
        } else {
          const from = next - one.from;
          const to = from + one.length;
          flying.landed([[from, to]]);
          model = model.filter(({ seq }) => seq < from || seq > to);
        }
        const octets = model.reduce((sum, { size }) => sum + size, 0);
        assert.deepEqual(
          [...flying.ranges].flatMap(([from, to]) => Array.from({ length: to - from + 1 }, (_, n) => from + n)),
          model.map(({ seq }) => seq),
        );
        assert.deepEqual([flying.count, flying.octets], [model.length, octets]);
      }
    }),
    { numRuns: 500 },
  );
});

describe("the send window of a consumer", () => {
  /** Sends a message and, unless it takes longer than forever, acknowledges it. */
  function exchange(flying: SendWindow, seq: number, took: number): void {
    flying.add(seq, [10], 0);
    flying.acknowledged([[seq, seq]], took);
    flying.landed([[seq, seq]]);
  }

  it("grows when it has acknowledged a message within the time, and shrinks when it no longer does", () => {
    const flying = new SendWindow(new MemoryPool(EXTRA_WINDOWS));
    assert.equal(flying.most(0), SEND_WINDOW);
    exchange(flying, 1, QUICK + 1);
    assert.equal(flying.most(QUICK + 1), SEND_WINDOW);
    exchange(flying, 2, QUICK);
    assert.equal(flying.most(QUICK), SEND_WINDOW + EXTRA_WINDOW);
    flying.add(3, [10], 5000);
    assert.equal(flying.most(5000 + QUICK), SEND_WINDOW + EXTRA_WINDOW);
    assert.equal(flying.most(5001 + QUICK), SEND_WINDOW);
  });

  it("stays large for a consumer that takes over from a quick one, until that one shows that it is slow", () => {
    const flying = new SendWindow(new MemoryPool(EXTRA_WINDOWS));
    exchange(flying, 1, QUICK);
    flying.handOver();
    assert.equal(flying.most(QUICK), SEND_WINDOW + EXTRA_WINDOW);
    flying.add(1, [10], 5000);
    assert.equal(flying.most(5001 + QUICK), SEND_WINDOW);
    flying.clear();
    assert.equal(flying.most(5001 + QUICK), SEND_WINDOW);
  });

  it("does not grow by messages that were set aside", () => {
    const flying = new SendWindow(new MemoryPool(EXTRA_WINDOWS));
    flying.add(1, [10], 0);
    flying.landed([[1, 1]]);
    assert.equal(flying.most(0), SEND_WINDOW);
  });

  it("leaves some of the isolate's memory when many were quick and stop", () => {
    const pool = new MemoryPool(EXTRA_WINDOWS);
    const size = 64 * 1024;
    const stopped = Array.from({ length: 100 }, () => {
      const flying = new SendWindow(pool);
      exchange(flying, 1, 0);
      for (let seq = 2; flying.octets + size <= flying.most(0); seq += 1) flying.add(seq, [size], 0);
      return flying;
    });
    assert.equal(stopped[0]?.octets, SEND_WINDOW + Math.floor(EXTRA_WINDOW / size) * size);
    assert.equal(stopped[99]?.octets, SEND_WINDOW);
    assert.ok(pool.free > 0, `${pool.free} bytes are free`);
    for (const flying of stopped) flying.clear();
    assert.equal(pool.free, EXTRA_WINDOWS);
  });
});
