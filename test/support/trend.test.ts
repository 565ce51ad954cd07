/** What is taken for growth, and what for noise. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Chance } from "../torture/support.ts";
import { grows, type Look, trendOf, windowed } from "./trend.ts";

const chance = new Chance(7);

/** A look every two seconds for `seconds`, with noise of up to 10 % both ways. */
function looks(seconds: number, valueAt: (at: number) => number): Look[] {
  return Array.from({ length: seconds / 2 }, (_, n) => {
    return { at: 2 * n, value: valueAt(2 * n) * (0.9 + 0.2 * chance.next()) };
  });
}

const BOUND = { share: 0.1, least: 10 };

describe("a trend", () => {
  it("is the slope of a line", () => {
    const { slope, error, growth, mean } = trendOf([1, 2, 3, 4].map((at) => ({ at, value: 5 + 2 * at })));
    assert.deepEqual([slope, growth, mean], [2, 6, 10]);
    assert.ok(error < 1e-9);
  });

  it("finds growth in noise", () => {
    assert.ok(
      grows(
        windowed(
          looks(600, (at) => 200 + at / 6),
          8,
        ),
        BOUND,
      ),
    );
  });

  it("does not take noise, spikes or less than the bound for growth", () => {
    for (const level of [() => 200, (at: number) => 200 + at / 60, (at: number) => (at % 60 === 0 ? 400 : 200)]) {
      assert.ok(!grows(windowed(looks(600, level), 8), BOUND));
    }
  });

  it("needs three looks", () => {
    assert.throws(() => trendOf([{ at: 0, value: 1 }]), /1 looks/);
  });
});
