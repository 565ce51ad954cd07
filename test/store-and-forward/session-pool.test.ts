/** The sessions kept open: which slot is reused, and lookup by number. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { SessionPool, SessionSlot } from "../../src/store-and-forward/session-pool.ts";

test("the pool matches a list of slots in order of use", () => {
  const key = fc.nat(7).map(String);
  const step = fc.oneof(
    fc.record({ add: key }),
    fc.record({ use: key }),
    fc.record({ open: key }),
    fc.record({ over: key }),
    fc.record({ delete: key }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const pool = new SessionPool<SessionSlot>(4);
      let model: SessionSlot[] = [];
      let sessions = 0;
      for (const one of steps) {
        const [[action, name]] = Object.entries(one) as [[string, string]];
        const slot = model.find((other) => other.key === name);
        if (action === "add" && slot === undefined && !pool.full) {
          const added = new SessionSlot(name);
          pool.add(added);
          model.push(added);
        }
        if (slot === undefined) continue;
        const others = model.filter((other) => other !== slot);
        if (action === "use") {
          pool.use(slot);
          model = [...others, slot];
        } else if (action === "open" && slot.state === "closed") {
          sessions += 1;
          pool.open(slot, sessions);
          assert.equal(slot.state, "opening");
        } else if (action === "over") {
          const before = slot.sessionId;
          pool.over(slot);
          assert.deepEqual([slot.state, slot.sessionId], ["closed", undefined]);
          if (before !== undefined) assert.equal(pool.of(before), undefined);
        } else if (action === "delete") {
          pool.delete(slot);
          model = others;
        }
        assert.deepEqual([...pool], model);
        assert.equal(pool.full, model.length >= 4);
        assert.equal(
          pool.idlest(({ state }) => state === "closed"),
          model.find(({ state }) => state === "closed"),
        );
        for (const other of model) {
          assert.equal(pool.get(other.key), other);
          if (other.sessionId !== undefined) assert.equal(pool.of(other.sessionId), other);
        }
      }
    }),
    { numRuns: 300 },
  );
});
