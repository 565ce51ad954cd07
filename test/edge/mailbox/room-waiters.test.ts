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

const ONE = { name: "one", sender: "alice" };

const all = () => true;
const nobody = () => false;

describe("tunnels that wait for room", () => {
  it("are notified when their sender may resume, then forgotten", () => {
    const { waiters, kept } = started();
    assert.ok(waiters.add({ name: "one", sender: "alice" }) && waiters.add({ name: "two", sender: "bob" }));
    assert.deepEqual(waiters.take(nobody, 0), []);
    assert.deepEqual(
      waiters.take((sender) => sender === "bob", 0),
      [{ name: "two", sender: "bob" }],
    );
    waiters.told({ name: "two", sender: "bob" });
    assert.deepEqual([waiters.size, [...kept.keys()]], [1, ["waits one"]]);
  });

  it("are notified again after a failed call, after a delay, and after loss of memory", () => {
    const { waiters, woken } = started();
    waiters.add({ name: "one", sender: "alice" });
    assert.deepEqual(waiters.take(all, 1000), [ONE]);
    assert.deepEqual(waiters.take(all, 1000), [], "it is being notified");
    waiters.failed({ name: "one", sender: "alice" }, 2000);
    assert.equal(waiters.retryAt, 2000 + ROOM_RETRY);
    assert.deepEqual(waiters.take(all, 2000), []);
    assert.deepEqual(woken().take(all, 2000), [ONE]);
    assert.deepEqual(waiters.take(all, 2000 + ROOM_RETRY), [ONE]);
    waiters.told({ name: "one", sender: "alice" });
    assert.deepEqual([waiters.size, woken().size, waiters.retryAt], [0, 0, Number.POSITIVE_INFINITY]);
  });

  it("are notified again without delay when the clock was set back", () => {
    const { waiters } = started();
    waiters.add({ name: "one", sender: "alice" });
    waiters.take(all, 3600_000);
    waiters.failed({ name: "one", sender: "alice" }, 3600_000);
    assert.deepEqual(waiters.take(all, 1000), [ONE]);
  });

  it("stay registered when they are suspended again during the notification", () => {
    const { waiters, woken } = started();
    waiters.add({ name: "one", sender: "alice" });
    waiters.take(all, 0);
    waiters.add({ name: "one", sender: "alice" });
    waiters.told({ name: "one", sender: "alice" });
    assert.deepEqual([waiters.size, woken().size], [1, 1]);
    assert.deepEqual(waiters.take(all, 0), [ONE]);
    waiters.told({ name: "one", sender: "alice" });
    assert.equal(waiters.size, 0);
  });

  it("are notified for each sender that a relay speaks for", () => {
    const { waiters, woken } = started();
    const relay = "grooveDNS://relay.example.com";
    const waits = (who: string) => ({ name: relay, sender: `${relay} ${who}` });
    for (const who of ["alice", "bob", "alice"]) assert.ok(waiters.add(waits(who)));
    assert.ok(waiters.add({ name: relay, sender: relay }));
    assert.equal(waiters.size, 3);
    const bobs = (sender: string) => sender.endsWith(" bob");
    assert.deepEqual(woken().take(bobs, 0), [waits("bob")]);
    assert.deepEqual(waiters.take(bobs, 0), [waits("bob")]);
    waiters.told(waits("bob"));
    assert.deepEqual(woken().take(all, 0), [waits("alice"), { name: relay, sender: relay }]);
  });

  it("leave half of the list to others, however many senders a relay makes up", () => {
    const { waiters, woken } = started();
    const relay = "grooveDNS://relay.example.com";
    const waits = (n: number) => ({ name: relay, sender: `${relay} made-up-${n}` });
    let added = 0;
    while (added < WAITERS && waiters.add(waits(added))) added += 1;
    assert.equal(added, WAITERS / 2);
    for (const list of [waiters, woken()]) {
      assert.ok(!list.add(waits(WAITERS)), "after loss of memory too");
      assert.ok(list.add({ name: "one", sender: "alice" }) && list.add({ name: relay, sender: relay }));
    }
    for (const one of waiters.take(all, 0)) waiters.told(one);
    assert.ok(waiters.add(waits(WAITERS)), "those that may go on make room");
  });

  it("are bounded, and notified a bounded number at a time, longest waiting first", () => {
    const { waiters } = started();
    for (let n = 0; n < WAITERS; n += 1) assert.ok(waiters.add({ name: `${n}`, sender: "alice" }));
    assert.ok(!waiters.add({ name: "one more", sender: "alice" }), "it is not suspended");
    assert.ok(waiters.add({ name: "7", sender: "alice" }), "it is already waiting");
    const first = waiters.take(all, 0);
    assert.deepEqual(
      first,
      Array.from({ length: ROOM_CALLS }, (_, n) => ({ name: `${n}`, sender: "alice" })),
    );
    assert.deepEqual(waiters.take(all, 0), []);
    waiters.told({ name: "3", sender: "alice" });
    assert.deepEqual(waiters.take(all, 0), [{ name: `${ROOM_CALLS}`, sender: "alice" }]);
  });
});
