/** What an object without storage keeps: as in storage, for the next instance of the same name, until it is deleted. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { nameOf, objectNamed } from "../../../src/edge/volatile/object-named.ts";
import {
  alarms,
  LARGE_ROWS,
  ownerOf,
  SMALL_ROW,
  storageOf,
  type VolatileKind,
} from "../../../src/edge/volatile/object-storage.ts";

/** The storage of a new instance of an object without storage. */
function open(name: string, kind: VolatileKind = "TUNNEL") {
  const context = { id: name, waitUntil: () => undefined } as unknown as DurableObjectState;
  return storageOf(context, {}, kind);
}

describe("an object without storage", () => {
  it("finds what an earlier instance has kept, and no other's", () => {
    open("a").kv.put("key", { value: 1 });
    assert.deepEqual(open("a").kv.get("key"), { value: 1 });
    assert.equal(open("b").kv.get("key"), undefined);
    assert.equal(open("a", "CONNECTION_METER").kv.get("key"), undefined);
  });

  it("keeps a copy, and gives copies: their memory may be given away", () => {
    const whole = { octets: new Uint8Array([1]) };
    const state = structuredClone(whole);
    const { kv } = open("copied");
    kv.put("key", state);
    state.octets[0] = 2;
    for (const read of [() => kv.get<typeof whole>("key"), () => new Map(kv.list<typeof whole>()).get("key")]) {
      const got = read();
      assert.deepEqual(got, whole);
      got?.octets.buffer.transfer();
    }
    assert.deepEqual(open("copied").kv.get("key"), whole);
  });

  it("is refused a long row when all of them would take too much, and keeps what it has", async () => {
    const row = "x".repeat(1024 * 1024);
    const names = Array.from({ length: LARGE_ROWS / row.length }, (_, n) => `large ${n}`);
    for (const name of names.slice(1)) open(name).kv.put("rest", row);
    const { kv } = open("too much");
    kv.put("rest", "before");
    assert.throws(() => kv.put("rest", row), /no room for a row/);
    assert.equal(kv.get("rest"), "before");
    kv.put("owner", "x".repeat(SMALL_ROW / 2));
    open(names[1] ?? "").kv.delete("rest");
    await open(names[2] ?? "").deleteAll();
    // A row takes the room of the one that it replaces.
    for (let time = 0; time < 3; time += 1) kv.put("rest", row);
    for (const name of [...names, "too much"]) await open(name).deleteAll();
  });

  it("lists its rows in order, by prefix", () => {
    const { kv } = open("listed");
    for (const key of ["b:2", "a", "b:1"]) kv.put(key, key);
    assert.deepEqual(
      [...kv.list()].map(([key]) => key),
      ["a", "b:1", "b:2"],
    );
    assert.deepEqual(
      [...kv.list({ prefix: "b:" })].map(([key]) => key),
      ["b:1", "b:2"],
    );
    assert.ok(kv.delete("a") && !kv.delete("a"));
  });

  it("leaves nothing behind", async () => {
    const storage = open("gone with spaces");
    storage.kv.put("key", 1);
    await storage.setAlarm(Date.now() + 1000);
    assert.equal(typeof (await storage.getAlarm()), "number");
    assert.deepEqual(ownerOf("TUNNEL gone with spaces"), { kind: "TUNNEL", name: "gone with spaces" });
    await storage.deleteAll();
    assert.deepEqual([...storage.kv.list()], []);
    assert.equal(await storage.getAlarm(), null);
    assert.deepEqual(alarms.take(Number.MAX_SAFE_INTEGER), []);
  });

  it("wakes the clock for the earliest alarm only", async () => {
    const looks: string[] = [];
    const clock = { look: async () => looks.push("look") } as unknown as DurableObjectStub<never>;
    const context = { id: "timed", waitUntil: () => undefined } as unknown as DurableObjectState;
    const storage = storageOf(context, { CLOCK: { get: () => clock } }, "TUNNEL");
    await storage.setAlarm(Date.now() + 10_000);
    alarms.plan(Date.now(), 30_000);
    await storage.setAlarm(Date.now() + 20_000);
    assert.equal(looks.length, 1);
    await storage.deleteAll();
  });
});

it("an object with storage uses that", () => {
  const storage = {} as DurableObjectStorage;
  const context = { id: { name: "a" }, storage, waitUntil: () => undefined } as unknown as DurableObjectState;
  assert.equal(storageOf(context, {}, "TUNNEL"), storage);
  assert.equal(nameOf(context), "a");
});

it("objects are called by name in either kind of namespace", () => {
  const stub = (name: string) => ({ name }) as unknown as DurableObjectStub<never>;
  assert.deepEqual(objectNamed({ get: stub }, "a"), { name: "a" });
  const stored = { get: () => assert.fail(), getByName: stub } as unknown as DurableObjectNamespace<never>;
  assert.deepEqual(objectNamed(stored, "b"), { name: "b" });
});
