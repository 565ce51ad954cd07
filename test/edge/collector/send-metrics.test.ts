/** Sending what an isolate has counted: nothing is lost or sent twice when collectors do not answer. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { writeDataPoints } from "../../../src/edge/collector/analytics.ts";
import { sendMetrics } from "../../../src/edge/collector/send-metrics.ts";
import type { Env } from "../../../src/edge/env.ts";
import { counters } from "../../../src/edge/metrics/counters.ts";
import { SEND_TIMEOUT } from "../../../src/edge/metrics/limits.ts";
import { objectStates, present } from "../../../src/edge/metrics/object-states.ts";
import type { MetricsBatch } from "../../../src/edge/rpc/collector-rpc.ts";

it("a collector that never answers gets the same batch again, and holds up no other", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"] });
  const came: MetricsBatch[] = [];
  let hangs = true;
  const COLLECTOR = {
    getByName: () => ({
      add(batch: MetricsBatch) {
        came.push(batch);
        return hangs ? new Promise<void>(() => undefined) : Promise.resolve();
      },
    }),
  };
  const env = { COLLECTOR } as object as Pick<Env, "COLLECTOR">;
  const counts = () => came.filter(({ number }) => number > 0).map(({ number, increments }) => [number, increments]);
  const states = () => came.flatMap(({ reports }) => reports.map(({ name, count }) => [name, count]));

  counters.count("throttleWaits", "", 3);
  objectStates.observe("connection", "one", present("WebSocket"));
  const first = sendMetrics(env);
  t.mock.timers.tick(SEND_TIMEOUT);
  await first;
  assert.deepEqual(counts(), [[1, { throttleWaits: 3 }]]);

  came.length = 0;
  hangs = false;
  counters.count("throttleWaits", "");
  await sendMetrics(env);
  assert.deepEqual(counts(), [[1, { throttleWaits: 3 }]], "as it was, for a collector that has it");
  assert.deepEqual(states(), [["one", 1]]);

  came.length = 0;
  await sendMetrics(env);
  assert.deepEqual(counts(), [[2, { throttleWaits: 1 }]]);
  assert.deepEqual(states(), []);
  came.length = 0;
  await sendMetrics(env);
  assert.deepEqual(came, [], "nothing to send, no call");
});

it("counts go to Workers Analytics Engine too, at most 250 data points at a time", () => {
  const points: AnalyticsEngineDataPoint[] = [];
  const dataset = { writeDataPoint: (point: AnalyticsEngineDataPoint) => void points.push(point) };
  writeDataPoints(dataset, { "messagesDropped Expired": 2, throttleWaits: 1 });
  assert.deepEqual(points, [
    { indexes: ["messagesDropped"], blobs: ["Expired"], doubles: [2] },
    { indexes: ["throttleWaits"], blobs: [""], doubles: [1] },
  ]);
  points.length = 0;
  writeDataPoints(dataset, Object.fromEntries(Array.from({ length: 400 }, (_, at) => [`a ${at}`, 1])));
  assert.equal(points.length, 250);
  writeDataPoints(undefined, { throttleWaits: 1 });
});
