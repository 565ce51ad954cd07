/**
 * Writes counts to Workers Analytics Engine as well, if the edge has a binding ANALYTICS: one data point for each series
 * that has moved, with the family as index, the value of its label as blob1, and the increment as double1.
 *
 * @module
 */
import type { Increments } from "../metrics/counters.ts";

/** Data points that the platform takes from one request. */
const DATA_POINTS = 250;

/** @param dataset undefined without the binding */
export function writeDataPoints(dataset: AnalyticsEngineDataset | undefined, increments: Increments): void {
  if (dataset === undefined) return;
  for (const [id, more] of Object.entries(increments).slice(0, DATA_POINTS)) {
    const at = id.indexOf(" ");
    const [family, value] = at < 0 ? [id, ""] : [id.slice(0, at), id.slice(at + 1)];
    dataset.writeDataPoint({ indexes: [family], blobs: [value], doubles: [more] });
  }
}
