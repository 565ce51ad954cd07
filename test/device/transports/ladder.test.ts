import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import {
  ASIDE_FIRST,
  ASIDE_LAST,
  LADDER_WAYS,
  LASTING,
  PROBE_FIRST,
  PROBE_LAST,
  TRIAL_LONGEST,
} from "../../../src/device/limits.ts";
import { Ladder } from "../../../src/device/transports/ladder.ts";

const WAYS = ["tcp", "websocket", "keepalive", "polling"];

/** A ladder without jitter. */
const ladderOf = (known?: string) => new Ladder(known, () => 0);

/** Uses a way from one time to another, when it is cut. */
function cut(ladder: Ladder, id: string, from: number, to: number): void {
  ladder.adopted(id, from);
  ladder.ended(to, true);
}

describe("a ladder", () => {
  it("tries the way first that last worked in this network", () => {
    assert.deepEqual(ladderOf("keepalive").order(WAYS, 0), {
      ids: ["keepalive", "tcp", "websocket", "polling"],
      isFirstKnown: true,
    });
    assert.deepEqual(ladderOf("pigeon").order(WAYS, 0), { ids: WAYS, isFirstKnown: false });
  });

  it("returns to a way that was cut once, and leaves one that was cut twice", () => {
    const ladder = ladderOf();
    cut(ladder, "websocket", 0, 20_000);
    assert.equal(ladder.order(WAYS, 20_000).ids[0], "websocket");
    cut(ladder, "websocket", 20_000, 40_000);
    assert.deepEqual(ladder.order(WAYS, 40_000).ids, ["tcp", "keepalive", "polling", "websocket"]);
    assert.equal(ladder.order(WAYS, 40_000 + ASIDE_FIRST).ids[0], "websocket");
  });

  it("puts a way aside for longer each time", () => {
    const ladder = ladderOf();
    let now = 0;
    const pauses = Array.from({ length: 7 }, () => {
      cut(ladder, "websocket", now, now + 20_000);
      now += 20_000;
      const from = now;
      while (ladder.order(WAYS, now).ids.at(-1) === "websocket") now += 1000;
      return now - from;
    });
    const [first, twice] = [ASIDE_FIRST, 2 * ASIDE_FIRST];
    assert.deepEqual(pauses, [0, first, twice, 2 * twice, ASIDE_LAST, ASIDE_LAST, ASIDE_LAST]);
  });

  it("forgives a way that has stood for two minutes, and one that the relay has ended", () => {
    const ladder = ladderOf();
    cut(ladder, "websocket", 0, 20_000);
    cut(ladder, "websocket", 20_000, 20_000 + LASTING);
    cut(ladder, "websocket", 200_000, 220_000);
    ladder.adopted("websocket", 220_000);
    ladder.ended(221_000, false);
    assert.equal(ladder.order(WAYS, 221_000).ids[0], "websocket");
  });

  it("tries better ways in the background at growing intervals, and none beside the best", () => {
    const ladder = ladderOf();
    assert.equal(ladder.probeAt, Number.POSITIVE_INFINITY);
    ladder.adopted("keepalive", 0);
    const times = Array.from({ length: 6 }, () => {
      const at = ladder.probeAt;
      ladder.probed(at);
      return at;
    });
    assert.equal(times[0], PROBE_FIRST);
    assert.equal(ladder.probeAt - (times.at(-1) ?? 0), PROBE_LAST);
    assert.deepEqual(
      ladder.probes(WAYS, 0).map(({ id }) => id),
      ["tcp", "websocket"],
    );
    ladder.adopted("tcp", 1);
    assert.deepEqual(ladder.probes(WAYS, 1), []);
  });

  it("plans no attempt while nothing is in use, and counts none that ends then", () => {
    const ladder = ladderOf();
    ladder.adopted("keepalive", 0);
    ladder.ended(1000, true);
    ladder.probed(2000);
    assert.equal(ladder.probeAt, Number.POSITIVE_INFINITY);
    ladder.adopted("keepalive", 3000);
    assert.equal(ladder.probeAt, 3000 + PROBE_FIRST);
  });

  it("tries everything in the background once the way in use is no longer listed", () => {
    const ladder = ladderOf();
    ladder.adopted("websocket by a proxy that is gone", 0);
    assert.deepEqual(
      ladder.probes(WAYS, 0).map(({ id }) => id),
      WAYS,
    );
  });

  it("has a way that was cut after 10 s stand for 15 s before it is used again", () => {
    const ladder = ladderOf();
    cut(ladder, "websocket", 0, 10_000);
    ladder.adopted("keepalive", 10_000);
    assert.deepEqual(ladder.probes(WAYS, 10_000), [
      { id: "tcp", trial: 0 },
      { id: "websocket", trial: 15_000 },
    ]);
  });

  it("starts over in another network", () => {
    const ladder = ladderOf("keepalive");
    cut(ladder, "keepalive", 0, 1000);
    cut(ladder, "keepalive", 1000, 2000);
    ladder.moved("polling", 3000);
    assert.deepEqual(ladder.order(WAYS, 3000).ids, ["polling", "tcp", "websocket", "keepalive"]);
  });

  it("remembers a bounded number of ways", () => {
    const ladder = ladderOf();
    const many = Array.from({ length: 2 * LADDER_WAYS }, (_, n) => `way ${n}`);
    for (const id of many) for (const at of [0, 10]) cut(ladder, id, at, at + 5);
    const { ids } = ladder.order(many, 20);
    assert.deepEqual(ids.slice(-LADDER_WAYS), many.slice(-LADDER_WAYS));
    assert.deepEqual(ids.slice(0, LADDER_WAYS), many.slice(0, LADDER_WAYS));
  });
});

const FOREVER = 1e9;
const MINUTE = 60_000;

/** What a network does to a way: how long it stands, or 0 if it is blocked. */
type Fate = number;

/** A device that follows a ladder through a network in seconds. Returns the ways in the order of their use. */
function live(ladder: Ladder, fateOf: (id: string, now: number) => Fate, until: number) {
  const used: { id: string; from: number }[] = [];
  let [inUse, cutAt]: [string | undefined, number] = [undefined, 0];
  const adopt = (id: string, now: number, stoodFor = 0) => {
    ladder.adopted(id, now);
    used.push({ id, from: now });
    [inUse, cutAt] = [id, now + fateOf(id, now) - stoodFor];
  };
  for (let now = 0; now < until; now += 1000) {
    const isCut = (id: string) => fateOf(id, now) === 0 || (now >= cutAt && fateOf(id, now) < FOREVER);
    if (inUse !== undefined && isCut(inUse)) {
      ladder.ended(now, true);
      inUse = undefined;
    }
    if (inUse === undefined) {
      const id = ladder.order(WAYS, now).ids.find((way) => fateOf(way, now) > 0);
      if (id !== undefined) adopt(id, now);
    } else if (now >= ladder.probeAt) {
      const better = ladder.probes(WAYS, now).find(({ id, trial }) => fateOf(id, now) > trial);
      if (better === undefined) ladder.probed(now);
      else adopt(better.id, now + better.trial, better.trial);
    }
  }
  return { used, inUse };
}

describe("a device on a ladder", () => {
  it("is on the best way that works 5 minutes after the obstacles have gone", () => {
    const fates = fc.array(fc.constantFrom(0, 1000, 10_000, 20_000, 90_000, FOREVER), { minLength: 3, maxLength: 3 });
    fc.assert(
      fc.property(
        fates,
        fc.integer({ min: 1, max: 120 }),
        fc.nat(3),
        fc.infiniteStream(fc.double({ min: 0, max: 1, noNaN: true })),
        (before, minutes, best, random) => {
          const gone = minutes * MINUTE;
          const fateOf = (id: string, now: number) => {
            const rank = WAYS.indexOf(id);
            if (now < gone) return before[rank] ?? FOREVER;
            return rank < best ? 0 : FOREVER;
          };
          const ladder = new Ladder(undefined, () => random.next().value);
          const { inUse } = live(ladder, fateOf, gone + 5 * MINUTE);
          assert.equal(inUse, WAYS[best]);
        },
      ),
      { numRuns: 500 },
    );
  });

  it("uses a way that is cut after 20 s twice in an hour, and then stays on the next", () => {
    const { used, inUse } = live(
      new Ladder(),
      (id) => (id === "tcp" ? 0 : id === "websocket" ? 20_000 : FOREVER),
      60 * MINUTE,
    );
    assert.deepEqual(
      used.map(({ id }) => id),
      ["websocket", "websocket", "keepalive"],
    );
    assert.equal(inUse, "keepalive");
  });

  it("seldom returns to a way that is cut, after whatever time", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1000, max: LASTING - 1000 }),
        fc.constantFrom(...WAYS.slice(0, 3)),
        (stands, bad) => {
          const { used } = live(
            new Ladder(),
            (id) => (id === bad ? stands : id === "polling" ? FOREVER : 0),
            120 * MINUTE,
          );
          // A trial finds what is cut sooner. Else the first pauses are short, and then there is one return in each.
          const returns = (120 * MINUTE) / (ASIDE_LAST / 2 + stands);
          const limit = stands <= TRIAL_LONGEST - 1000 ? 3 : 12 + 2 * returns;
          assert.ok(used.length <= limit, `${used.length} changes`);
        },
      ),
      { numRuns: 200 },
    );
  });
});
