/** What is outstanding at a consumer: totals that match a model, in any order of sends and acknowledgements. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
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
          flying.add(next, one.sizes);
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
