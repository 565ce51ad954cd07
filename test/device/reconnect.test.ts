import assert from "node:assert/strict";
import { test } from "node:test";
import { RECONNECT_FIRST, RECONNECT_LAST, STOOD } from "../../src/device/limits.ts";
import { ReconnectPause } from "../../src/device/reconnect.ts";
import { eventually } from "../support/watch.ts";
import { deviceFor, ScriptedRelay } from "./support.ts";

test("the reconnect delay grows while connections succeed and then fail", () => {
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
  // Jitter halves them on average. Without growth there were 140 in 40 s.
  let [time, within40s] = [0, 0];
  for (const limit of limits) {
    time += limit / 2;
    if (time < 40_000) within40s += 1;
  }
  assert.ok(within40s <= 10, `${within40s} reconnects in 40 s`);
});

test("the reconnect delay is reset by a connection that carried data or lasted a minute", () => {
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

test("a device whose connections all end soon after the handshake waits longer each time", async (t) => {
  // The maximum of each pause, which shows its limit.
  t.mock.method(Math, "random", () => 1);
  const relay = await ScriptedRelay.start(t);
  const lost: number[] = [];
  await deviceFor(t, relay, "alice/laptop", { onReconnect: () => lost.push(performance.now()) });
  for (let n = 0; n < 3; n += 1) (await relay.link(n)).socket.destroy();
  await eventually(() => lost.length === 3, "three losses");
  const [first = 0, second = 0, third = 0] = lost;
  assert.ok(third - second > 1.5 * (second - first), `${second - first} ms, then ${third - second} ms`);
});
