/** Alarms of objects without storage: none is early, none is forgotten, and somebody looks in time. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Alarms } from "../../../src/edge/volatile/alarms.ts";

const LONGEST = 30_000;

describe("alarms by name", () => {
  it("are due at their time or within a second, never before it", () => {
    const alarms = new Alarms();
    alarms.set("one", 10_200, 0);
    alarms.set("other", 12_000, 0);
    assert.deepEqual(alarms.take(10_199), []);
    assert.deepEqual(alarms.take(11_000), ["one"]);
    assert.deepEqual([alarms.of("one"), alarms.of("other")], [undefined, 12_000]);
    assert.deepEqual(alarms.take(12_000), ["other"]);
  });

  it("are replaced and deleted", () => {
    const alarms = new Alarms();
    alarms.set("one", 10_000, 0);
    alarms.set("one", 20_000, 0);
    alarms.set("other", 10_000, 0);
    alarms.delete("other");
    assert.deepEqual(alarms.take(19_999), []);
    assert.deepEqual(alarms.take(20_000), ["one"]);
    assert.equal(alarms.plan(20_000, LONGEST), undefined);
  });

  it("ask for a look only if it is due before the planned one", () => {
    const alarms = new Alarms();
    assert.ok(alarms.set("first", 20_000, 0));
    assert.equal(alarms.plan(0, LONGEST), 20_000);
    assert.ok(!alarms.set("later", 25_000, 0));
    assert.ok(alarms.set("sooner", 5000, 0));
  });

  it("are looked at after a while even if the next one is far off", () => {
    const alarms = new Alarms();
    alarms.set("one", 100_000, 0);
    assert.equal(alarms.plan(0, LONGEST), LONGEST);
  });

  it("ask for a look when the planned one did not happen", () => {
    const alarms = new Alarms();
    alarms.set("one", 10_000, 0);
    alarms.plan(0, LONGEST);
    assert.ok(!alarms.set("other", 60_000, 12_000), "it may only be late");
    assert.ok(alarms.set("other", 60_000, 20_000));
  });
});
