/** Ranges compared with a plain set. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { type Range, Ranges } from "../../src/lib/ranges.ts";

const LAST = 40;
const number = fc.integer({ min: 0, max: LAST });
const step = fc.record({ do: fc.constantFrom("add", "delete", "clear"), from: number, to: number });

/** The numbers left after some steps, computed both ways. */
function both(steps: readonly { do: string; from: number; to: number }[]): { ranges: Ranges; plain: Set<number> } {
  const ranges = new Ranges();
  const plain = new Set<number>();
  for (const { do: what, from, to } of steps) {
    if (what === "clear") {
      ranges.clear();
      plain.clear();
      continue;
    }
    if (what === "add") ranges.add(from, to);
    else ranges.delete(from, to);
    for (let one = from; one <= to; one += 1) {
      if (what === "add") plain.add(one);
      else plain.delete(one);
    }
  }
  return { ranges, plain };
}

const weighted = fc.array(
  step.filter((one) => one.do !== "clear" || one.from === 0),
  { maxLength: 30 },
);

describe("ranges", () => {
  it("agree with a set", () => {
    fc.assert(
      fc.property(weighted, (steps) => {
        const { ranges, plain } = both(steps);
        const sorted = [...plain].sort((a, b) => a - b);
        assert.equal(ranges.count, plain.size);
        assert.equal(ranges.first, sorted[0]);
        assert.equal(ranges.last, sorted.at(-1));
        for (let one = -1; one <= LAST + 1; one += 1) {
          assert.equal(ranges.has(one), plain.has(one), `has ${one}`);
          assert.equal(
            ranges.next(one),
            sorted.find((each) => each >= one),
            `next ${one}`,
          );
          let missing = one;
          while (plain.has(missing)) missing += 1;
          assert.equal(ranges.nextMissing(one), missing, `nextMissing ${one}`);
        }
      }),
      { numRuns: 2000 },
    );
  });

  it("are sorted, do not touch, and can be rebuilt from their output", () => {
    fc.assert(
      fc.property(weighted, (steps) => {
        const { ranges, plain } = both(steps);
        const given: Range[] = [...ranges];
        let before = Number.NEGATIVE_INFINITY;
        for (const [from, to] of given) {
          assert.ok(from > before + 1 && to >= from, JSON.stringify(given));
          before = to;
        }
        const numbers = given.flatMap(([from, to]) => Array.from({ length: to - from + 1 }, (_, i) => from + i));
        assert.deepEqual(
          numbers,
          [...plain].sort((a, b) => a - b),
        );
        assert.deepEqual([...new Ranges(given)], given);
      }),
    );
  });

  it("use memory per range, not per number", () => {
    const ranges = new Ranges();
    for (let one = 1; one <= 100_000; one += 1) ranges.add(one);
    assert.deepEqual([...ranges], [[1, 100_000]]);
    ranges.delete(500);
    ranges.add(2 ** 52, 2 ** 52 + 7);
    assert.equal(ranges.count, 100_007);
    assert.deepEqual(
      [...ranges],
      [
        [1, 499],
        [501, 100_000],
        [2 ** 52, 2 ** 52 + 7],
      ],
    );
  });
});
