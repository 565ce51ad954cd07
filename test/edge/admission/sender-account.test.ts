/** What mailboxes reserve in the account of a sender. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { SenderAccount } from "../../../src/edge/admission/sender-account.ts";

function started(limit: number) {
  const kept = new Map<string, unknown>();
  const storage = {
    get: <T>(key: string) => kept.get(key) as T | undefined,
    put: (key: string, value: unknown) => void kept.set(key, value),
    delete: (key: string) => kept.delete(key),
  };
  return { account: new SenderAccount(storage, limit), kept };
}

const ask = (needed: number, wanted = needed) => ({ needed, wanted, stored: false });
const tell = (wanted: number) => ({ needed: 0, wanted, stored: true });

describe("the account of a sender", () => {
  it("grants what is free, if that is enough, and otherwise nothing", () => {
    const { account } = started(100);
    assert.equal(account.reserve("one", ask(50, 64)), 64);
    assert.equal(account.reserve("two", ask(20, 64)), 36);
    assert.equal(account.reserve("three", ask(1)), undefined);
    assert.equal(account.reserve("one", ask(65, 128)), undefined);
    assert.equal(account.total, 100);
  });

  it("counts what is stored beyond the limit, and grants nothing until there is room", () => {
    const { account } = started(100);
    assert.equal(account.reserve("one", tell(150)), 150);
    assert.equal(account.reserve("two", ask(1)), undefined);
    assert.equal(account.reserve("one", tell(64)), 64);
    assert.equal(account.reserve("two", ask(1, 16)), 16);
  });

  it("of a relay leaves each identity as much as one has taken", () => {
    const { account, kept } = started(1024);
    const fill = (identity: string) => {
      let n = 0;
      while (account.reserve(`${identity}'s ${n}`, { ...ask(1), identity }) !== undefined) n += 1;
      return n;
    };
    assert.deepEqual(["mallory", "alice", "bob"].map(fill), [512, 256, 128]);
    assert.equal(account.reserve("mallory's 0", { ...ask(1, 2), identity: "mallory" }), 1, "what it has stays");
    assert.ok(!account.isSpent("alice"));
    account.reserve("more of mallory's", { ...tell(600), identity: "mallory" });
    assert.ok(account.isSpent("mallory") && !account.isSpent("alice"), "it has twice what it may have");
    for (const key of [...kept.keys()]) if (key.startsWith("reserved:")) account.reserve(key.slice(9), tell(0));
    assert.equal(kept.size, 0);
  });

  it("keeps the sum of its mailboxes, never grants beyond the limit, and leaves nothing behind", () => {
    const call = fc.record({
      mailbox: fc.constantFrom("one", "two", "three"),
      needed: fc.nat(80),
      more: fc.nat(80),
      stored: fc.boolean(),
      identity: fc.constantFrom(undefined, "alice", "bob"),
    });
    fc.assert(
      fc.property(fc.array(call), (calls) => {
        const { account, kept } = started(100);
        const reserved = new Map<string, number>();
        const sum = () => [...reserved.values()].reduce((one, other) => one + other, 0);
        for (const { mailbox, needed, more, stored, identity } of calls) {
          const before = sum();
          const granted = account.reserve(mailbox, { needed, wanted: needed + more, stored, identity });
          if (granted !== undefined) reserved.set(mailbox, granted);
          if (stored) assert.equal(granted, needed + more);
          else if (granted !== undefined) assert.ok(granted >= needed && (sum() <= 100 || sum() <= before));
          assert.equal(account.total, sum());
        }
        for (const mailbox of reserved.keys()) account.reserve(mailbox, tell(0));
        assert.equal(kept.size, 0);
      }),
    );
  });
});
