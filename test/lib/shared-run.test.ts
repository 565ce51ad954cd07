import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { coalesced } from "../../src/lib/shared-run.ts";

describe("coalesced work", () => {
  it("runs once for all callers that wait while it runs, and includes what they added before", async () => {
    const done: string[][] = [];
    let pending: string[] = [];
    const flush = coalesced(async () => {
      const taken = pending;
      pending = [];
      await undefined;
      if (taken.includes("bad")) throw new Error("bad");
      done.push(taken);
    });
    const ask = (what: string) => {
      pending.push(what);
      return flush();
    };
    await Promise.all([ask("a"), ask("b"), ask("c")]);
    assert.deepEqual(done, [["a"], ["b", "c"]]);
  });

  it("never reports success to a caller whose work was not included", async () => {
    for (let seed = 0; seed < 200; seed += 1) {
      const safe = new Set<number>();
      let pending: number[] = [];
      let runs = 0;
      let state = seed;
      const random = (below: number) => {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
        return Math.floor((state / 2 ** 32) * below);
      };
      const flush = coalesced(async () => {
        assert.equal(runs, 0, "one at a time");
        runs += 1;
        const taken = pending;
        pending = [];
        for (let ticks = random(4); ticks > 0; ticks -= 1) await undefined;
        runs -= 1;
        if (random(3) === 0) throw new Error("failed");
        for (const one of taken) safe.add(one);
      });
      const asking = Array.from({ length: 20 }, async (_, number) => {
        for (let ticks = random(20); ticks > 0; ticks -= 1) await undefined;
        pending.push(number);
        const kept = await flush().then(
          () => true,
          () => false,
        );
        assert.equal(kept, safe.has(number));
      });
      await Promise.all(asking);
    }
  });
});
