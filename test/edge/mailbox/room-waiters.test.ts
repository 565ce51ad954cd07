/** Tunnels that wait for room in a mailbox: each is notified despite failures and new suspensions. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ROOM_CALLS, ROOM_RETRY, WAITERS } from "../../../src/edge/mailbox/limits.ts";
import { type Facts, RoomWaiters } from "../../../src/edge/mailbox/room-waiters.ts";

function started() {
  const kept = new Map<string, string>();
  const facts: Facts = {
    facts: (prefix) =>
      [...kept].filter(([name]) => name.startsWith(prefix)).map(([name, value]) => [name.slice(prefix.length), value]),
    setFact: (name, value) => void kept.set(name, value),
    removeFact: (name) => void kept.delete(name),
  };
  return { kept, waiters: new RoomWaiters(facts), woken: () => new RoomWaiters(facts) };
}

const all = () => true;
const nobody = () => false;

describe("tunnels that wait for room", () => {
  it("are notified when their sender may resume, then forgotten", () => {
    const { waiters, kept } = started();
    assert.ok(waiters.add("one", "alice") && waiters.add("two", "bob"));
    assert.deepEqual(waiters.take(nobody, 0), []);
    assert.deepEqual(
      waiters.take((sender) => sender === "bob", 0),
      ["two"],
    );
    waiters.told("two");
    assert.deepEqual([waiters.size, [...kept.keys()]], [1, ["waits one"]]);
  });

  it("are notified again after a failed call, after a delay, and after loss of memory", () => {
    const { waiters, woken } = started();
    waiters.add("one", "alice");
    assert.deepEqual(waiters.take(all, 1000), ["one"]);
    assert.deepEqual(waiters.take(all, 1000), [], "it is being notified");
    waiters.failed("one", 2000);
    assert.equal(waiters.retryAt, 2000 + ROOM_RETRY);
    assert.deepEqual(waiters.take(all, 2000), []);
    assert.deepEqual(woken().take(all, 2000), ["one"]);
    assert.deepEqual(waiters.take(all, 2000 + ROOM_RETRY), ["one"]);
    waiters.told("one");
    assert.deepEqual([waiters.size, woken().size, waiters.retryAt], [0, 0, Number.POSITIVE_INFINITY]);
  });

  it("are notified again without delay when the clock was set back", () => {
    const { waiters } = started();
    waiters.add("one", "alice");
    waiters.take(all, 3600_000);
    waiters.failed("one", 3600_000);
    assert.deepEqual(waiters.take(all, 1000), ["one"]);
  });

  it("stay registered when they are suspended again during the notification", () => {
    const { waiters, woken } = started();
    waiters.add("one", "alice");
    waiters.take(all, 0);
    waiters.add("one", "alice");
    waiters.told("one");
    assert.deepEqual([waiters.size, woken().size], [1, 1]);
    assert.deepEqual(waiters.take(all, 0), ["one"]);
    waiters.told("one");
    assert.equal(waiters.size, 0);
  });

  it("are bounded, and notified a bounded number at a time, longest waiting first", () => {
    const { waiters } = started();
    for (let n = 0; n < WAITERS; n += 1) assert.ok(waiters.add(`${n}`, "alice"));
    assert.ok(!waiters.add("one more", "alice"), "it is not suspended");
    assert.ok(waiters.add("7", "alice"), "it is already waiting");
    const first = waiters.take(all, 0);
    assert.deepEqual(
      first,
      Array.from({ length: ROOM_CALLS }, (_, n) => `${n}`),
    );
    assert.deepEqual(waiters.take(all, 0), []);
    waiters.told("3");
    assert.deepEqual(waiters.take(all, 0), [`${ROOM_CALLS}`]);
  });
});
