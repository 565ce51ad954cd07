/** How long a mailbox waits for its consumer while others wait. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { parseAcknowledgeTime } from "../../src/edge/policy/acknowledge-time.ts";
import { BENCH_TIME, Patience, SIGN_OF_LIFE } from "../../src/store-and-forward/patience.ts";

const TIME = 120_000;

describe("a consumer", () => {
  it("that shows no sign of life is waited for 15 s, from when it has messages", () => {
    const patience = new Patience(TIME, undefined);
    patience.begin(1, 1000);
    assert.equal(patience.impatience(1000 + SIGN_OF_LIFE - 1, 0), undefined);
    assert.equal(patience.impatience(1000 + SIGN_OF_LIFE, 0), "NoSignOfLife");
    assert.equal(patience.impatience(1000 + SIGN_OF_LIFE, 1001), undefined);
    assert.equal(patience.impatience(1001 + SIGN_OF_LIFE, 1001), "NoSignOfLife");
  });

  it("that lives and keeps its messages is waited for as long as it may, begun anew by an acknowledgement", () => {
    const patience = new Patience(TIME, undefined);
    patience.begin(1, 0);
    patience.acknowledged(1, 100_000, true);
    assert.equal(patience.impatience(TIME, TIME), undefined);
    assert.equal(patience.impatience(100_000 + TIME, 100_000 + TIME), "NotAcknowledged");
  });

  it("whose time is over is looked at again after a while, and not at once, when nobody came instead", () => {
    const patience = new Patience(TIME, undefined);
    patience.begin(1, 0);
    assert.equal(patience.due(TIME - 1), TIME);
    assert.equal(patience.due(TIME), TIME + SIGN_OF_LIFE);
  });

  it("that has acknowledged all is waited for without end", () => {
    const patience = new Patience(TIME, undefined);
    patience.begin(1, 0);
    patience.acknowledged(1, 1, false);
    assert.equal(patience.impatience(10 * TIME, 0), undefined);
  });

  it("is waited for no longer since memory was lost", () => {
    const before = new Patience(TIME, undefined);
    assert.equal(before.begin(1, 0), true, "it is written down");
    const woken = new Patience(TIME, before.held);
    assert.equal(woken.begin(1, 60_000), false);
    assert.equal(woken.impatience(TIME, TIME), "NotAcknowledged");
    assert.equal(woken.begin(2, TIME), true, "of another consumer it begins anew");
    assert.equal(woken.impatience(TIME + 1, TIME), undefined);
  });

  it("that acknowledges often is not written down each time", () => {
    const patience = new Patience(TIME, undefined);
    patience.begin(1, 0);
    const written = Array.from({ length: 60 }, (_, second) => patience.acknowledged(1, second * 1000, true));
    assert.equal(written.filter(Boolean).length, 3);
  });

  it("that others were asked instead of is not asked instead of them for a while", () => {
    const patience = new Patience(TIME, undefined);
    patience.bench("a", 0);
    const woken = new Patience(TIME, undefined, patience.benched);
    assert.equal(woken.isBenched("a", BENCH_TIME - 1), true);
    assert.equal(woken.isBenched("a", BENCH_TIME), false);
    assert.equal(woken.isBenched("b", 0), false);
  });
});

it("the time is a number of seconds in a range", () => {
  assert.deepEqual(["", " 30 ", "15", "14", "86401", "-20", "1e3", "2 minutes"].map(parseAcknowledgeTime), [
    120_000,
    30_000,
    15_000,
    undefined,
    undefined,
    undefined,
    undefined,
    undefined,
  ]);
});
