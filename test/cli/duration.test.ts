/** Durations in options. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { durationText, secondsIn } from "../../src/cli/duration.ts";

test("a number with s, m, h or d is a duration, anything else is not", () => {
  for (const [text, seconds] of [
    ["0s", 0],
    ["90s", 90],
    ["15m", 900],
    ["12h", 43_200],
    ["30d", 2_592_000],
    ["", undefined],
    ["15", undefined],
    ["m", undefined],
    ["-1s", undefined],
    ["1.5h", undefined],
    ["015m", undefined],
    ["12345678s", undefined],
    ["1m30s", undefined],
    ["1 h", undefined],
    ["1toString", undefined],
  ] as const) {
    assert.equal(secondsIn(text), seconds, text);
  }
});

test("seconds are formatted in the largest unit that fits", () => {
  assert.deepEqual([0, 59, 60, 90, 3600, 86_400, 90_000].map(durationText), [
    "0s",
    "59s",
    "1m",
    "90s",
    "1h",
    "1d",
    "25h",
  ]);
});
