/** How long a mailbox waits for its consumer while others wait. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { readAcknowledgeTime } from "../../src/edge/policy/acknowledge-time.ts";
import { BENCH_TIME, Patience, SIGN_OF_LIFE } from "../../src/store-and-forward/consumer-timeout.ts";

const TIME = 120_000;

describe("a consumer", () => {
  it("without a sign of life is waited for 15 s once it has messages", () => {
    const patience = new Patience(TIME, undefined);
    patience.begin(1, 1000);
    assert.equal(patience.impatience(1000 + SIGN_OF_LIFE - 1, 0), undefined);
    assert.equal(patience.impatience(1000 + SIGN_OF_LIFE, 0), "NoSignOfLife");
    assert.equal(patience.impatience(1000 + SIGN_OF_LIFE, 1001), undefined);
    assert.equal(patience.impatience(1001 + SIGN_OF_LIFE, 1001), "NoSignOfLife");
  });

  it("that shows signs of life but holds messages has a fixed time, restarted by an acknowledgement", () => {
    const patience = new Patience(TIME, undefined);
    patience.begin(1, 0);
    patience.acknowledged(1, 100_000, true);
    assert.equal(patience.impatience(TIME, TIME), undefined);
    assert.equal(patience.impatience(100_000 + TIME, 100_000 + TIME), "NotAcknowledged");
  });

  it("is waited for no longer because the clock was set back", () => {
    const patience = new Patience(TIME, undefined);
    patience.begin(1, 3600_000);
    patience.bench("old", 3600_000);
    assert.ok(patience.begin(1, 1000), "it is stored");
    assert.equal(patience.impatience(1000 + SIGN_OF_LIFE, 0), "NoSignOfLife");
    assert.equal(patience.isBenched("old", 1000), false);
  });

  it("is judged when it can have been silent for 15 s, not at regular times", () => {
    const patience = new Patience(TIME, undefined);
    patience.begin(1, 1000);
    assert.equal(patience.due(1000), 1000 + SIGN_OF_LIFE);
    // It gave a sign 10 s before it was judged.
    patience.impatience(16_000, 6000);
    assert.equal(patience.due(16_000), 6000 + SIGN_OF_LIFE);
    assert.equal(patience.impatience(6000 + SIGN_OF_LIFE, 6000), "NoSignOfLife");
    // No other device has come.
    assert.equal(patience.due(21_000), 21_000 + SIGN_OF_LIFE);
    patience.begin(2, 30_000);
    assert.equal(patience.due(30_000), 30_000 + SIGN_OF_LIFE);
  });

  it("whose time is over without a replacement is checked again later, not at once", () => {
    const patience = new Patience(TIME, undefined);
    patience.begin(1, 0);
    assert.equal(patience.due(TIME - 1), TIME);
    assert.equal(patience.due(TIME), TIME + SIGN_OF_LIFE);
  });

  it("that has acknowledged everything is waited for indefinitely", () => {
    const patience = new Patience(TIME, undefined);
    patience.begin(1, 0);
    patience.acknowledged(1, 1, false);
    assert.equal(patience.impatience(10 * TIME, 0), undefined);
  });

  it("keeps its deadline after loss of memory", () => {
    const before = new Patience(TIME, undefined);
    assert.equal(before.begin(1, 0), true, "it is stored");
    const woken = new Patience(TIME, before.held);
    assert.equal(woken.begin(1, 60_000), false);
    assert.equal(woken.impatience(TIME, TIME), "NotAcknowledged");
    assert.equal(woken.begin(2, TIME), true, "it restarts for another consumer");
    assert.equal(woken.impatience(TIME + 1, TIME), undefined);
  });

  it("that acknowledges often is not stored each time", () => {
    const patience = new Patience(TIME, undefined);
    patience.begin(1, 0);
    const written = Array.from({ length: 60 }, (_, second) => patience.acknowledged(1, second * 1000, true));
    assert.equal(written.filter(Boolean).length, 3);
  });

  it("that lost its messages to another is benched for a while", () => {
    const patience = new Patience(TIME, undefined);
    patience.bench("a", 0);
    const woken = new Patience(TIME, undefined, patience.benched);
    assert.equal(woken.isBenched("a", BENCH_TIME - 1), true);
    assert.equal(woken.isBenched("a", BENCH_TIME), false);
    assert.equal(woken.isBenched("b", 0), false);
  });
});

it("the acknowledge time is a number of seconds within a range", () => {
  const times = ["", " 30 ", "15", "14", "86401", "-20", "1e3", "2 minutes"].map((text) => {
    const read = readAcknowledgeTime(text);
    return read.ok ? read.value : undefined;
  });
  assert.deepEqual(times, [120_000, 30_000, 15_000, undefined, undefined, undefined, undefined, undefined]);
});
