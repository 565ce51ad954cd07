/** The storage of a Tunnel: read only when it is needed, and empty after the end. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Kept } from "../../../src/edge/tunnel/tunnel-storage.ts";

function keptOn(stored: Readonly<Record<string, unknown>>) {
  const rows = new Map(Object.entries(stored));
  const calls: string[] = [];
  const storage = {
    kv: {
      list() {
        calls.push("list");
        return rows;
      },
      put(key: string, value: unknown) {
        calls.push(`put ${key}`);
        rows.set(key, value);
      },
      delete(key: string) {
        calls.push(`delete ${key}`);
        rows.delete(key);
      },
    },
    deleteAll: async () => rows.clear(),
  };
  const context = { storage, waitUntil: () => undefined } as unknown as DurableObjectState;
  return { kept: new Kept(context), rows, calls };
}

describe("the storage of a Tunnel", () => {
  it("is not touched by an object whose socket has carried its state", () => {
    const { kept, calls } = keptOn({ owned: "somebody" });
    kept.dropRest();
    assert.deepEqual(calls, []);
    assert.ok(kept.some);
  });

  it("gives back the state that it has kept, once", () => {
    const { kept, rows, calls } = keptOn({ owned: "somebody", rest: "state" });
    assert.deepEqual([kept.owned, kept.rest], ["somebody", "state"]);
    kept.dropRest();
    kept.dropRest();
    assert.deepEqual([[...rows.keys()], calls], [["owned"], ["list", "delete rest"]]);
  });

  it("drops what it has kept itself, each time", () => {
    const { kept, rows } = keptOn({});
    for (let time = 0; time < 2; time += 1) {
      kept.keepRest(`state ${time}`);
      assert.deepEqual([...rows.values()], [`state ${time}`]);
      kept.dropRest();
      assert.equal(rows.size, 0);
    }
    assert.deepEqual([kept.some, kept.foundSome], [true, false]);
    kept.clear();
    assert.equal(kept.some, false);
  });
});
