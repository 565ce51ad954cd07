import assert from "node:assert/strict";
import { test } from "node:test";
import { RECONNECT_FIRST, RECONNECT_LAST, STOOD } from "../../src/device/limits.ts";
import { ReconnectPause } from "../../src/device/reconnect.ts";
import { eventually } from "../support/watch.ts";
import { deviceFor, ScriptedRelay } from "./support.ts";

test("the pause before a reconnect grows while each connection begins well and then fails", () => {
  const pause = new ReconnectPause();
  const limits = Array.from({ length: 140 }, () => {
    pause.lost(false, 200);
    return pause.next();
  });
  assert.deepEqual(
    limits.slice(0, 4),
    [1, 2, 4, 8].map((factor) => factor * RECONNECT_FIRST),
  );
  assert.equal(limits.at(-1), RECONNECT_LAST);
  // Jitter halves them on average: it was 140 in 40 s.
  let [time, within40s] = [0, 0];
  for (const limit of limits) {
    time += limit / 2;
    if (time < 40_000) within40s += 1;
  }
  assert.ok(within40s <= 10, `${within40s} reconnects in 40 s`);
});

test("the pause is short again after a connection that carried something, or stood for a minute", () => {
  const pause = new ReconnectPause();
  for (const [carried, stood] of [
    [true, 1],
    [false, STOOD],
  ] as const) {
    for (let n = 0; n < 5; n += 1) pause.next();
    pause.lost(false, STOOD - 1);
    assert.ok(pause.next() > RECONNECT_FIRST);
    pause.lost(carried, stood);
    assert.equal(pause.next(), RECONNECT_FIRST);
  }
});

test("a device whose connections all end after they have begun well waits longer each time", async (t) => {
  // The longest of each pause: then it says what its limit was.
  t.mock.method(Math, "random", () => 1);
  const relay = await ScriptedRelay.start(t);
  const lost: number[] = [];
  await deviceFor(t, relay, "alice/laptop", { onReconnect: () => lost.push(performance.now()) });
  for (let n = 0; n < 3; n += 1) (await relay.link(n)).socket.destroy();
  await eventually(() => lost.length === 3, "three losses");
  const [first = 0, second = 0, third = 0] = lost;
  assert.ok(third - second > 1.5 * (second - first), `${second - first} ms, then ${third - second} ms`);
});
