/** How mailboxes enter the directory: those of one moment by one write, and none that has given up. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Env } from "../../../src/edge/env.ts";
// It stands in for the platform, which the directory needs.
import "./object.ts";

const { Directory } = await import("../../../src/edge/mailbox/directory.ts");

/** A directory, and the turns in which it has written. */
function startDirectory() {
  const rows = new Map<string, unknown>();
  const turns = new Set<number>();
  let turn = 0;
  let fails = false;
  const kv = {
    get: (key: string) => rows.get(key),
    put(key: string, value: unknown) {
      if (fails) throw new Error("disk is full");
      rows.set(key, value);
      turns.add(turn);
      setImmediate(() => {
        turn += 1;
      });
    },
    delete: (key: string) => rows.delete(key),
  };
  const context = { storage: { kv } } as unknown as DurableObjectState;
  const directory = new Directory(context, {} as Env);
  return {
    directory,
    rows,
    turns,
    fail(does: boolean) {
      fails = does;
    },
  };
}

describe("mailboxes that enter the directory", () => {
  it("at the same moment are written at once, before any of them is told", async () => {
    const { directory, rows, turns } = startDirectory();
    await Promise.all(Array.from({ length: 50 }, (_, n) => directory.enter(`peer ${n}`, "stamp")));
    assert.deepEqual([rows.size, turns.size], [50, 1]);
    await directory.enter("later", "stamp");
    assert.deepEqual([rows.size, turns.size], [51, 2]);
  });

  it("and give up before it is written are not in it", async () => {
    const { directory, rows } = startDirectory();
    const entering = directory.enter("gone", "first");
    await directory.leave("gone", "first");
    await entering;
    assert.equal(rows.size, 0);
  });

  it("anew are in it, although an earlier try leaves", async () => {
    const { directory, rows } = startDirectory();
    const entering = [directory.enter("again", "first"), directory.enter("again", "second")];
    await directory.leave("again", "first");
    await Promise.all(entering);
    assert.equal(rows.get("mailbox:again"), "second");
  });

  it("are told if the write fails, and are written when they try again", async () => {
    const { directory, rows, fail } = startDirectory();
    fail(true);
    const all = await Promise.allSettled([directory.enter("one", "stamp"), directory.enter("other", "stamp")]);
    assert.deepEqual(
      all.map(({ status }) => status),
      ["rejected", "rejected"],
    );
    fail(false);
    await directory.enter("one", "stamp");
    assert.deepEqual([...rows.keys()], ["mailbox:one"]);
  });
});
