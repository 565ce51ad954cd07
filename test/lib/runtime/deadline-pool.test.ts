/** Timeouts, and how many timers they use. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { CALL_LOOK, DeadlinePool } from "../../../src/lib/runtime/deadline-pool.ts";

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));
const never = new Promise<never>(() => undefined);

/** Advances time in steps, so that timers set by timers run on time. */
async function pass(milliseconds: number): Promise<void> {
  for (let passed = 0; passed < milliseconds; passed += 10) {
    mock.timers.tick(Math.min(10, milliseconds - passed));
    await turn();
  }
}

beforeEach(() => mock.timers.enable({ apis: ["setTimeout", "Date"] }));
afterEach(() => mock.timers.reset());

test("a call returns its result or its error", async () => {
  const calls = new DeadlinePool(30_000);
  assert.equal(await calls.keep(Promise.resolve("done")), "done");
  assert.deepEqual(await calls.within(Promise.resolve(undefined)), { value: undefined });
  await assert.rejects(calls.keep(Promise.reject(new Error("refused"))), /refused/);
});

test("each unanswered call fails after its own timeout", async () => {
  const calls = new DeadlinePool(5_000);
  const failed: string[] = [];
  const call = (name: string) => calls.keep(never).catch((error: Error) => failed.push(`${name}: ${error.message}`));
  void call("first");
  await pass(2_500);
  void call("second");
  await pass(2_400);
  assert.deepEqual(failed, []);
  await pass(100 + CALL_LOOK);
  assert.deepEqual(failed, ["first: no answer within 5000 ms"]);
  await pass(2_500);
  assert.deepEqual(failed.slice(1), ["second: no answer within 5000 ms"]);
});

test("a call fails on time also after the clock was set back", async (t) => {
  let back = 0;
  const clock = Date.now;
  t.mock.method(Date, "now", () => clock() - back);
  const calls = new DeadlinePool(5_000);
  let failed = false;
  void calls.keep(never).catch(() => {
    failed = true;
  });
  await pass(2_000);
  back = 3600_000;
  await pass(3_000 + CALL_LOOK);
  assert.ok(failed);
});

test("a short wait ends on time even if earlier ones ended early", async () => {
  const holds = new DeadlinePool(20);
  assert.deepEqual(await holds.within(Promise.resolve(1)), { value: 1 });
  await pass(10);
  let ended = false;
  void holds.within(never).then((got) => {
    assert.equal(got, undefined);
    ended = true;
  });
  await pass(10);
  assert.equal(ended, false);
  await pass(10);
  assert.equal(ended, true);
});

test("a thousand calls share one timer, which stops after the last call", async (t) => {
  const set = t.mock.method(globalThis, "setTimeout");
  const calls = new DeadlinePool(30_000);
  for (let n = 0; n < 1000; n += 1) await calls.keep(Promise.resolve(n));
  assert.equal(set.mock.callCount(), 1);
  await pass(10 * CALL_LOOK);
  assert.equal(set.mock.callCount(), 1);
});
