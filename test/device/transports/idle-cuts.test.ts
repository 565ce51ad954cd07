import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { IDLE_CUT_LEAST, IDLE_CUT_MOST, IDLE_CUT_SPREAD } from "../../../src/device/limits.ts";
import { IdleCuts, keptAlive } from "../../../src/device/transports/idle-cuts.ts";

const NEVER = Number.POSITIVE_INFINITY;

describe("cuts of idle connections", () => {
  it("count when two in a row come after the same time", () => {
    const cuts = new IdleCuts(undefined);
    assert.deepEqual([cuts.cut(10_000), cuts.limit], [false, NEVER]);
    assert.deepEqual([cuts.cut(10_000 - IDLE_CUT_SPREAD), cuts.limit], [true, 9000]);
    assert.deepEqual([cuts.cut(9000), cuts.limit], [false, 9000]);
  });

  it("are accidents when they come after different times, or when the connection was in use", () => {
    const cuts = new IdleCuts(undefined);
    for (const idle of [5000, 10_000, 20_000, 3000, IDLE_CUT_LEAST - 1, IDLE_CUT_LEAST - 1, IDLE_CUT_MOST + 1]) {
      assert.equal(cuts.cut(idle), false, `${idle}`);
    }
    assert.equal(cuts.limit, NEVER);
  });

  it("lower what was known, and do not raise it", () => {
    const cuts = new IdleCuts(10_000);
    for (const idle of [20_000, 20_000]) assert.equal(cuts.cut(idle), false);
    assert.equal(cuts.cut(5000), false);
    assert.deepEqual([cuts.cut(5000), cuts.limit], [true, 5000]);
  });

  it("are not believed from a file that says nonsense", () => {
    for (const known of [0, -1, Number.NaN, IDLE_CUT_LEAST - 1]) assert.equal(new IdleCuts(known).limit, NEVER);
  });

  it("are prevented by heartbeats in half the time", () => {
    assert.deepEqual([keptAlive(25_000), keptAlive(25_000, 10_000), keptAlive(2000, 10_000)], [25_000, 5000, 2000]);
  });
});
