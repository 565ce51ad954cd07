/** Bytes of devices that are passed through to an origin relay are counted, each way. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { SHARDS } from "../../../src/edge/metrics/limits.ts";
import { type CollectorReading, collectorName } from "../../../src/edge/rpc/collector-rpc.ts";
import { objectOf } from "../../support/objects.ts";
import { Device, eventually, startDrivenEdge } from "../support.ts";

const [UP, DOWN] = ["passedThroughBytes to relay", "passedThroughBytes from relay"];

describe("what is passed through", () => {
  for (const kind of ["KeepAlive", "LongLived"] as const) {
    it(`is counted each way, ${kind}`, async (t) => {
      const edge = await startDrivenEdge(1);
      t.after(edge.close);
      const relay = edge.relay();
      const device = await new Device(edge, relay, kind).establish();
      const origin = await relay.next();
      await device.up("x".repeat(700));
      await origin.take(700);
      origin.write("y".repeat(30));
      await device.down(30);
      const counted = async (series: string) => {
        const readings = Array.from({ length: SHARDS }, async (_, shard) => {
          const name = collectorName(shard);
          const collector = await objectOf<{ read(): Promise<CollectorReading> }>(
            edge.edge.miniflare,
            "COLLECTOR",
            name,
          );
          return (await collector.read()).totals[series] ?? 0;
        });
        return (await Promise.all(readings)).reduce((sum, total) => sum + total, 0);
      };
      await eventually("both are counted", async () => (await counted(UP)) > 0 && (await counted(DOWN)) > 0);
      assert.deepEqual([await counted(UP), await counted(DOWN)], [700, 30]);
      device.reset();
    });
  }
});
