/** Round-robin: no owner waits for all items of another. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { RoundRobin } from "../../src/lib/round-robin.ts";

describe("round-robin", () => {
  it("alternates between owners, and keeps each owner's order", () => {
    const turns = new RoundRobin<string>();
    for (const item of ["a1", "a2", "a3", "b1", "c1", "b2"]) turns.push(item[0] ?? "", item);
    const taken = Array.from({ length: 6 }, () => turns.shift());
    assert.deepEqual(taken, ["a1", "b1", "c1", "a2", "b2", "a3"]);
    assert.equal(turns.shift(), undefined);
  });

  it("moves to the next owner when one passes", () => {
    const turns = new RoundRobin<string>();
    for (const item of ["a1", "a2", "b1"]) turns.push(item[0] ?? "", item);
    turns.pass();
    assert.equal(turns.owners, 2);
    assert.deepEqual([turns.shift(), turns.shift(), turns.shift()], ["b1", "a1", "a2"]);
    turns.pass();
    assert.equal(turns.owners, 0);
  });

  it("delays an item by at most one item of each other owner and its own earlier ones", () => {
    const step = fc.oneof(fc.nat(3), fc.constant("shift" as const));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const turns = new RoundRobin<{ readonly owner: number; readonly n: number }>();
        const waiting = Array.from({ length: 4 }, () => [] as number[]);
        let others = [0, 0, 0, 0];
        for (const [n, what] of steps.entries()) {
          if (what !== "shift") {
            turns.push(String(what), { owner: what, n });
            if (waiting[what]?.push(n) === 1) others[what] = 0;
            assert.ok(turns.has(String(what)));
            continue;
          }
          const { first } = turns;
          const item = turns.shift();
          assert.equal(item, first);
          if (item === undefined) {
            assert.ok(waiting.every((items) => items.length === 0));
            continue;
          }
          assert.equal(item.n, waiting[item.owner]?.shift());
          others = others.map((count, owner) => (owner === item.owner ? 0 : count + 1));
          for (const [owner, items] of waiting.entries()) if (items.length > 0) assert.ok((others[owner] ?? 0) <= 3);
        }
      }),
    );
  });
});
