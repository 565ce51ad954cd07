/** How far everything is done with, whatever is done with first. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Progress } from "../../src/edge/progress.ts";

test("everything up to the first that is not done with is", () => {
  fc.assert(
    fc.property(
      fc.nat(100),
      fc.array(fc.record({ gap: fc.integer({ min: 1, max: 3 }), rank: fc.nat() }), { maxLength: 60 }),
      fc.nat(60),
      (upTo, messages, left) => {
        const progress = new Progress(upTo);
        let seq = upTo;
        const begun = messages.map(({ gap, rank }) => {
          seq += gap;
          progress.begin(seq);
          return { seq, rank };
        });
        const finished = new Set<number>();
        for (const one of [...begun].sort((a, b) => a.rank - b.rank).slice(left)) {
          finished.add(one.seq);
          progress.done(one.seq);
          const first = begun.findIndex((other) => !finished.has(other.seq));
          const expected = (first < 0 ? begun.at(-1) : begun[first - 1])?.seq ?? upTo;
          assert.equal(progress.upTo, expected);
        }
      },
    ),
    { numRuns: 500 },
  );
});

test("what is done with a second time, or was before, changes nothing; thousands leave nothing behind", () => {
  const progress = new Progress(5);
  progress.done(3);
  for (let seq = 6; seq < 10_000; seq += 1) progress.begin(seq);
  for (let seq = 9999; seq > 6; seq -= 1) progress.done(seq);
  assert.equal(progress.upTo, 5);
  progress.done(6);
  progress.done(6);
  assert.equal(progress.upTo, 9999);
});
