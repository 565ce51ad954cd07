/** The alarm of a Tunnel: one for all deadlines, and one while anything is stored. */
import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { Alarm } from "../../../src/edge/tunnel/alarm.ts";
import { LOST_LOOK } from "../../../src/edge/tunnel/limits.ts";
import { Kept } from "../../../src/edge/tunnel/tunnel-storage.ts";

const NONE = Number.POSITIVE_INFINITY;

/** An alarm at the time 0, with its storage, and what was asked of the platform. */
function alarmAt0(t: TestContext, stored: Readonly<Record<string, unknown>> = {}, look = () => {}) {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"] });
  const rows = new Map(Object.entries(stored));
  const set: number[] = [];
  const storage = {
    kv: { list: () => rows, put: (key: string, value: unknown) => rows.set(key, value) },
    setAlarm: async (at: number) => set.push(at),
    deleteAll: async () => rows.clear(),
  };
  const context = { storage, waitUntil: () => undefined } as unknown as DurableObjectState;
  const kept = new Kept(context);
  const looks: number[] = [];
  const alarm = new Alarm(context, kept, () => {
    looks.push(Date.now());
    look();
  });
  return { alarm, kept, set, looks };
}

describe("while nothing is stored, the alarm is a timer", () => {
  it("for the earliest deadline, whichever was set last", (t) => {
    const { alarm, looks, set } = alarmAt0(t);
    alarm.set("connect", 100);
    alarm.set("device", 300);
    t.mock.timers.tick(99);
    assert.deepEqual(looks, []);
    t.mock.timers.tick(1);
    assert.deepEqual(looks, [100]);
    assert.ok(alarm.isDue("connect") && !alarm.isDue("device"));
    assert.deepEqual(set, []);
  });

  it("for the other deadline, when one is met", (t) => {
    const { alarm, looks } = alarmAt0(t);
    alarm.set("connect", 100);
    alarm.set("device", 300);
    alarm.set("connect", NONE);
    t.mock.timers.tick(299);
    assert.ok(!alarm.isDue("connect"));
    t.mock.timers.tick(1);
    assert.deepEqual(looks, [300]);
  });

  it("which one that is only to be ensured does not replace", (t) => {
    const { alarm, looks } = alarmAt0(t);
    alarm.ensureBy("device", 100);
    alarm.ensureBy("device", 300);
    t.mock.timers.tick(100);
    assert.deepEqual(looks, [100]);
  });

  it("and there is none without a deadline, nor after the end", (t) => {
    const { alarm, looks } = alarmAt0(t);
    alarm.set("connect", 100);
    alarm.set("connect", NONE);
    alarm.set("device", 200);
    alarm.end();
    t.mock.timers.tick(1000);
    assert.deepEqual(looks, []);
  });
});

describe("while something is stored, the alarm is the platform's", () => {
  it("for the earliest deadline, in place of the timer", (t) => {
    const { alarm, kept, looks, set } = alarmAt0(t);
    alarm.set("device", 300);
    kept.keepRest("state");
    alarm.set("connect", 500);
    t.mock.timers.tick(1000);
    assert.deepEqual(set, [300]);
    assert.deepEqual(looks, []);
  });

  it("also without a deadline, and is not set twice", (t) => {
    const { alarm, kept, set } = alarmAt0(t);
    alarm.ensure();
    assert.deepEqual(set, [], "nothing is stored yet");
    for (let time = 0; time < 2; time += 1) {
      kept.keepRest("state");
      alarm.ensure();
    }
    assert.deepEqual(set, [LOST_LOOK]);
  });

  it("and one from before the object woke stays", (t) => {
    const { alarm, kept, set } = alarmAt0(t, { owned: "somebody" });
    kept.keepRest("state");
    alarm.ensure();
    assert.deepEqual(set, []);
  });

  it("is set again after it has fired, until the storage is cleared", (t) => {
    const { alarm, kept, looks, set } = alarmAt0(t, { owned: "somebody" });
    alarm.fired();
    assert.deepEqual([looks.length, set], [1, [LOST_LOOK]]);
    alarm.end();
    kept.clear();
    alarm.fired();
    assert.deepEqual([looks.length, set], [2, [LOST_LOOK]]);
  });
});

it("an alarm that fires is set for the deadline that its look has found", (t) => {
  const { alarm, set } = alarmAt0(t, { owned: "somebody" }, () => alarm.set("device", 400));
  alarm.fired();
  assert.deepEqual(set, [400]);
});
