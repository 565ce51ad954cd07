/**
 * What the plots show: rates and counts over the intervals of the history. Pure.
 *
 * @module
 */
import { HISTORY_INTERVAL, HISTORY_SLOTS } from "../metrics/limits.ts";
import type { HistoryInterval } from "../rpc/collector-rpc.ts";
import { PLOT_LINES, PLOT_SPAN, RATE_AFTER } from "./limits.ts";

/** One line of a plot, with a value for each time. */
export interface PlotLine {
  readonly label: string;
  readonly values: readonly number[];
}

/** What the script of the page draws. */
export interface Plots {
  /** Starts of the intervals, in seconds since 1970. */
  readonly times: readonly number[];
  readonly plots: Readonly<Record<PlotName, { readonly unit: "/s" | "B/s" | ""; readonly lines: readonly PlotLine[] }>>;
}

export const PLOTS = ["messages", "bytes", "drops", "refusals"] as const;
export type PlotName = (typeof PLOTS)[number];

/** Adds up what was counted since a time. @param since milliseconds since 1970 */
export function countedSince(history: readonly HistoryInterval[], since: number): Record<string, number> {
  const first = Math.floor(since / HISTORY_INTERVAL);
  const all: Record<string, number> = {};
  for (const { interval, increments } of history) {
    if (interval < first) continue;
    for (const [id, more] of Object.entries(increments)) all[id] = (all[id] ?? 0) + more;
  }
  return all;
}

/** @param now milliseconds since 1970 */
export function plotsOf(history: readonly HistoryInterval[], now: number): Plots {
  const last = Math.floor(now / HISTORY_INTERVAL);
  const seen = history
    .map(({ interval }) => interval)
    .filter((interval) => interval > last - HISTORY_SLOTS && interval <= last);
  const least = last - Math.ceil((PLOT_SPAN * 1000) / HISTORY_INTERVAL);
  const first = seen.reduce((one, other) => Math.min(one, other), least);
  const intervals = Array.from({ length: last - first + 1 }, (_, at) => first + at);
  const sums = intervals.map(() => ({}) as Record<string, number>);
  for (const { interval, increments } of history) {
    const sum = sums[interval - first];
    if (sum === undefined) continue;
    for (const [id, more] of Object.entries(increments)) sum[id] = (sum[id] ?? 0) + more;
  }
  // The current interval is not over.
  const begun = (now - last * HISTORY_INTERVAL) / 1000;
  const secondsOf = (at: number) => (intervals[at] === last ? Math.max(RATE_AFTER, begun) : HISTORY_INTERVAL / 1000);
  const rate = (label: string, ...ids: readonly string[]): PlotLine => ({
    label,
    values: sums.map((sum, at) => ids.reduce((all, id) => all + (sum[id] ?? 0), 0) / secondsOf(at)),
  });
  const both = (family: string) => [`${family} stored`, `${family} passed`];
  return {
    times: intervals.map((interval) => (interval * HISTORY_INTERVAL) / 1000),
    plots: {
      messages: {
        unit: "/s",
        lines: [rate("received", ...both("messagesReceived")), rate("delivered", ...both("messagesDelivered"))],
      },
      bytes: {
        unit: "B/s",
        lines: [
          rate("received", ...both("bytesReceived")),
          rate("delivered", ...both("bytesDelivered")),
          rate("streams", "streamBytes"),
          rate("passed through", "passedThroughBytes to relay", "passedThroughBytes from relay"),
          rate("plain streams", "plainStreamBytes"),
        ],
      },
      drops: { unit: "", lines: linesOf(sums, "messagesDropped") },
      refusals: { unit: "", lines: linesOf(sums, "requestsRefused") },
    },
  };
}

/** The values of a label that were counted most often, and the rest of them as one line. */
function linesOf(sums: readonly Readonly<Record<string, number>>[], family: string): PlotLine[] {
  const totals = new Map<string, number>();
  for (const sum of sums) {
    for (const [id, count] of Object.entries(sum)) {
      if (id.startsWith(`${family} `)) totals.set(id, (totals.get(id) ?? 0) + count);
    }
  }
  const ids = [...totals].sort(([, one], [, other]) => other - one).map(([id]) => id);
  const shown = ids.length > PLOT_LINES ? ids.slice(0, PLOT_LINES - 1) : ids;
  const rest = ids.slice(shown.length);
  return [
    ...shown.map((id) => ({ label: id.slice(family.length + 1), values: sums.map((sum) => sum[id] ?? 0) })),
    ...(rest.length === 0
      ? []
      : [{ label: "others", values: sums.map((sum) => rest.reduce((all, id) => all + (sum[id] ?? 0), 0)) }]),
  ];
}
