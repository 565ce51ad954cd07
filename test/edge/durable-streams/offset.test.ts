/** Offsets of streams and of their forks. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import {
  forkedLineage,
  formatOffset,
  inheritedAt,
  type Lineage,
  newIncarnation,
  type Offset,
  ownFrom,
  parseOffset,
  positionOf,
} from "../../../src/edge/durable-streams/offset.ts";

/** A stream that was forked at these positions, each from the one before. */
function chain(positions: readonly number[]): Lineage[] {
  const first: Lineage = [{ name: "s0", incarnation: 1_000, from: 0 }];
  const all = [first];
  for (const [at, position] of positions.entries()) {
    const source = all[all.length - 1] ?? first;
    const own = { name: `s${at + 1}`, incarnation: newIncarnation(0, 0, source) };
    all.push(forkedLineage(source, position, own));
  }
  return all;
}

const positions = fc.array(fc.nat({ max: 100 }), { maxLength: 6 });

function offsetOf(text: string): Offset {
  return parseOffset(text) ?? assert.fail(`${text} is malformed`);
}

describe("offsets", () => {
  it("are two numbers of sixteen digits", () => {
    const [lineage = assert.fail()] = chain([]);
    assert.equal(formatOffset(lineage, 42), "0000000000001000_0000000000000042");
  });

  it("sort as the positions do, in forks too", () => {
    fc.assert(
      fc.property(positions, fc.nat({ max: 200 }), fc.nat({ max: 200 }), (at, one, other) => {
        for (const lineage of chain(at)) {
          const [a, b] = [formatOffset(lineage, one), formatOffset(lineage, other)];
          assert.equal(Math.sign(one - other), a < b ? -1 : a > b ? 1 : 0);
        }
      }),
    );
  });

  it("name the position that they were made of", () => {
    fc.assert(
      fc.property(positions, fc.nat({ max: 200 }), (at, position) => {
        for (const lineage of chain(at)) {
          assert.equal(positionOf(lineage, offsetOf(formatOffset(lineage, position)), 200), position);
        }
      }),
    );
  });

  it("of a source are those of its fork, up to where it begins, and no further", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 100 }), fc.nat({ max: 200 }), (begins, position) => {
        const [source = assert.fail(), fork = assert.fail()] = chain([begins]);
        const there = positionOf(fork, offsetOf(formatOffset(source, position)), 200);
        assert.equal(there, position <= begins ? position : undefined);
      }),
    );
  });

  it("of an earlier stream of the name, or beyond the tail, are gone", () => {
    const earlier: Lineage = [{ name: "s", incarnation: 1000, from: 0 }];
    const later: Lineage = [{ name: "s", incarnation: newIncarnation(1, 0.5, earlier), from: 0 }];
    assert.equal(positionOf(later, offsetOf(formatOffset(earlier, 5)), 10), undefined);
    assert.equal(positionOf(later, offsetOf(formatOffset(later, 11)), 10), undefined);
    assert.equal(positionOf(later, offsetOf(formatOffset(later, 10)), 10), 10);
  });

  it("may be the beginning or the tail of any stream", () => {
    const [lineage = assert.fail()] = chain([]);
    for (const text of ["-1", "0000000000000000_0000000000000000"])
      assert.equal(positionOf(lineage, offsetOf(text), 7), 0);
    assert.equal(positionOf(lineage, offsetOf("now"), 7), 7);
  });

  it("are refused unless an edge may have given them", () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        const isOffset = /^(-1|now|\d{16}_\d{16})$/.test(text);
        assert.equal(parseOffset(text) !== undefined, isOffset);
      }),
    );
    for (const text of [
      "",
      "0",
      "1_2",
      "0000000000000000-0000000000000000",
      " now",
      "00000000000000000_0000000000000000",
    ]) {
      assert.equal(parseOffset(text), undefined, text);
    }
  });
});

describe("a lineage", () => {
  it("covers every position once: what is inherited, then what is the stream's own", () => {
    fc.assert(
      fc.property(positions, (at) => {
        for (const lineage of chain(at)) {
          let position = 0;
          for (let stretch = inheritedAt(lineage, 0); stretch !== undefined; stretch = inheritedAt(lineage, position)) {
            assert.equal(stretch.from, position);
            assert.ok(stretch.end > position);
            position = stretch.end;
          }
          assert.equal(position, ownFrom(lineage));
        }
      }),
    );
  });

  it("has incarnations that grow, though a clock is set back", () => {
    fc.assert(
      fc.property(positions, (at) => {
        for (const lineage of chain(at)) {
          const incarnations = lineage.map(({ incarnation }) => incarnation);
          assert.deepEqual(
            incarnations,
            [...new Set(incarnations)].sort((one, other) => one - other),
          );
        }
      }),
    );
  });

  it("leaves out streams of which a fork has inherited nothing", () => {
    const [, , third = assert.fail()] = chain([10, 4]);
    assert.deepEqual(
      third.map(({ name, from }) => [name, from]),
      [
        ["s0", 0],
        ["s2", 4],
      ],
    );
    const [, second = assert.fail()] = chain([0]);
    assert.deepEqual(
      second.map(({ name }) => name),
      ["s1"],
    );
  });
});
