import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { CreditPool, ReceiveWindow } from "../../src/streams/credit.ts";
import { GRANTED, LEAST_STEP, RESERVE, STEPS, STREAMS, WINDOW } from "../../src/streams/limits.ts";

/** Receives and reads all that is granted, in pieces, for 20 round trips of 50 ms. Returns what was read. */
function drain(window: ReceiveWindow): number {
  let sent = 0;
  for (let round = 0; round < 20; round += 1) {
    const length = window.limit - sent;
    assert.ok(window.receive(length));
    sent += length;
    for (let left = length; left > 0; left -= RESERVE / 4) {
      window.consume(Math.min(left, RESERVE / 4), round * 50, 50);
    }
  }
  return sent;
}

describe("a window", () => {
  it("begins with the reserve, and doubles up to 4 MiB while it limits the peer", () => {
    const pool = new CreditPool();
    pool.enter("alice");
    const window = new ReceiveWindow(pool, "alice", 0);
    assert.equal(window.limit, RESERVE);
    const read = drain(window);
    assert.equal(window.limit - read, WINDOW);
  });

  it("grows no further than its pool lets one stream have", () => {
    const pool = new CreditPool({ granted: 4 * 1024 * 1024, streams: 4, window: 256 * 1024 });
    pool.enter("bob");
    const window = new ReceiveWindow(pool, "bob", 0);
    const read = drain(window);
    assert.equal(window.limit - read, 256 * 1024);
  });

  it("does not grow for a slow reader", () => {
    const pool = new CreditPool();
    pool.enter("alice");
    const window = new ReceiveWindow(pool, "alice", 0);
    for (let second = 1; second < 100; second += 1) {
      assert.ok(window.receive(RESERVE / 4));
      window.consume(RESERVE / 4, second * 1000, 50);
    }
    assert.ok(window.limit - 99 * (RESERVE / 4) <= RESERVE);
  });

  it("is renewed in steps of an eighth, and of 4 KiB at least", () => {
    const pool = new CreditPool();
    pool.enter("alice");
    const window = new ReceiveWindow(pool, "alice", 0);
    assert.ok(window.receive(RESERVE));
    assert.ok(!window.consume(LEAST_STEP - 1, 1000, 1));
    assert.ok(window.consume(1, 1000, 1));
    assert.equal(window.limit, RESERVE + LEAST_STEP);
    const grown = new ReceiveWindow(pool, "alice", 0);
    const read = drain(grown);
    assert.ok(grown.receive(WINDOW));
    assert.ok(!grown.consume(WINDOW / STEPS - 1, 10_000, 1));
    assert.ok(grown.consume(1, 10_000, 1));
    assert.equal(grown.limit, read + WINDOW + WINDOW / STEPS);
  });

  it("refuses what was not granted", () => {
    const pool = new CreditPool();
    pool.enter("alice");
    const window = new ReceiveWindow(pool, "alice", 0);
    assert.ok(window.receive(RESERVE));
    assert.ok(!window.receive(1));
  });
});

describe("the credit of a device", () => {
  it("is never exceeded, and always has a reserve for a new stream", () => {
    const action = fc.tuple(fc.constantFrom("open", "fill", "read", "read", "close"), fc.nat(1000), fc.nat(20));
    fc.assert(
      fc.property(fc.array(action, { maxLength: 400 }), (actions) => {
        const pool = new CreditPool({ granted: 64 * RESERVE, streams: 16 });
        const windows: { readonly window: ReceiveWindow; received: number; read: number }[] = [];
        let now = 0;
        for (const [kind, choice, time] of actions) {
          now += time;
          const one = windows[choice % Math.max(1, windows.length)];
          if (kind === "open") {
            if (pool.enter("alice"))
              windows.push({ window: new ReceiveWindow(pool, "alice", now), received: 0, read: 0 });
            else assert.equal(windows.length, 16);
          } else if (one !== undefined && kind === "fill") {
            one.window.receive(one.window.limit - one.received);
            one.received = one.window.limit;
          } else if (one !== undefined && kind === "read") {
            const length = Math.min(one.received - one.read, (choice + 1) * 100);
            one.read += length;
            one.window.consume(length, now, 30);
          } else if (one !== undefined) {
            one.window.close();
            windows.splice(windows.indexOf(one), 1);
          }
          const granted = windows.reduce((sum, { window, read }) => sum + window.limit - read, 0);
          assert.ok(granted <= (48 + windows.length) * RESERVE);
          assert.ok(pool.free >= 0);
        }
        for (const { window } of windows) window.close();
        assert.equal(pool.free, 48 * RESERVE);
        assert.equal(pool.streams, 0);
      }),
    );
  });

  it("leaves something for later streams, however many fast ones stop reading", () => {
    const pool = new CreditPool();
    for (let count = 0; count < 20; count += 1) {
      assert.ok(pool.enter("alice"));
      const window = new ReceiveWindow(pool, "alice", 0);
      drain(window);
    }
    assert.ok(pool.enter("alice"));
    const later = new ReceiveWindow(pool, "alice", 0);
    drain(later);
    assert.ok(pool.free > 0);
  });

  it("does not go to one peer alone, which can have 1,000 streams", () => {
    const pool = new CreditPool();
    const most = (peer: string) => {
      let count = 0;
      while (pool.enter(peer)) count += 1;
      return count;
    };
    const greedy = most("greedy");
    assert.ok(greedy >= 1000 && greedy < STREAMS, `${greedy}`);
    assert.ok(pool.enter("other"));
    assert.ok(!pool.enter("greedy"));
    pool.leave("other");
    for (let count = 0; count < greedy; count += 1) pool.leave("greedy");
    assert.equal(pool.streams, 0);
    // Two that ask in turn get the same.
    const counts = { one: 0, two: 0 };
    for (let isGiven = true; isGiven; ) {
      isGiven = false;
      for (const peer of ["one", "two"] as const) {
        if (!pool.enter(peer)) continue;
        counts[peer] += 1;
        isGiven = true;
      }
    }
    assert.ok(Math.abs(counts.one - counts.two) <= 1 && pool.streams < STREAMS, JSON.stringify(counts));
    assert.ok(pool.enter("three"));
  });

  it("is half reserve: 1,024 streams", () => {
    assert.equal(STREAMS, 1024);
    const pool = new CreditPool();
    for (let count = 0; count < STREAMS; count += 1) assert.ok(pool.enter(`peer ${count % 20}`));
    assert.ok(!pool.enter("peer 0"));
    assert.ok(!pool.enter("another"));
    pool.leave("peer 0");
    assert.ok(pool.enter("another"));
    assert.equal(pool.free, GRANTED / 2);
    assert.throws(() => new CreditPool({ granted: RESERVE, streams: 2 }), /allow fewer/);
  });
});
