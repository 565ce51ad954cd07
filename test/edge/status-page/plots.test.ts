/** What the plots show of a history. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { HISTORY_INTERVAL, HISTORY_SLOTS } from "../../../src/edge/metrics/limits.ts";
import { PLOT_LINES, PLOT_SPAN } from "../../../src/edge/status-page/limits.ts";
import { countedSince, plotsOf } from "../../../src/edge/status-page/plots.ts";

const LAST = 15_000_000;
/** A minute into the current interval, which lasts two. */
const NOW = LAST * HISTORY_INTERVAL + 60_000;

describe("plots", () => {
  it("show rates, that of the current interval for the time since it began", () => {
    const { times, plots } = plotsOf(
      [
        { interval: LAST - 1, increments: { "messagesReceived stored": 120, "messagesReceived passed": 120 } },
        { interval: LAST, increments: { "messagesReceived stored": 60 } },
        // Another collector has counts of the same interval.
        { interval: LAST, increments: { "messagesReceived stored": 60, streamBytes: 600 } },
      ],
      NOW,
    );
    assert.equal(times.length, PLOT_SPAN / 120 + 1);
    assert.equal(times.at(-1), (LAST * HISTORY_INTERVAL) / 1000);
    assert.deepEqual(plots.messages.lines[0]?.values.slice(-3), [0, 2, 2]);
    assert.deepEqual(plots.bytes.lines.find(({ label }) => label === "streams")?.values.slice(-2), [0, 10]);
  });

  it("show the most frequent reasons, and the others as one line", () => {
    const reasons = Array.from({ length: PLOT_LINES + 3 }, (_, at) => [`messagesDropped R${at}`, at + 1] as const);
    const { plots } = plotsOf([{ interval: LAST, increments: Object.fromEntries(reasons) }], NOW);
    const { lines } = plots.drops;
    assert.equal(lines.length, PLOT_LINES);
    assert.deepEqual([lines[0]?.label, lines.at(-1)?.label], [`R${PLOT_LINES + 2}`, "others"]);
    const sum = lines.reduce((all, { values }) => all + (values.at(-1) ?? 0), 0);
    assert.equal(
      sum,
      reasons.reduce((all, [, count]) => all + count, 0),
    );
    assert.deepEqual(plots.refusals.lines, []);
  });

  it("reach back a day and not further, whatever the history has", () => {
    const { times } = plotsOf([{ interval: LAST - HISTORY_SLOTS + 1, increments: {} }], NOW);
    assert.equal(times.length, HISTORY_SLOTS);
    for (const interval of [LAST - HISTORY_SLOTS, 0, LAST + 1]) {
      assert.equal(plotsOf([{ interval, increments: {} }], NOW).times.length, PLOT_SPAN / 120 + 1);
    }
  });

  it("count what is not older than a time", () => {
    const history = [LAST - 40, LAST - 30, LAST].map((interval) => ({ interval, increments: { throttleWaits: 1 } }));
    assert.deepEqual(countedSince(history, NOW - 3_600_000), { throttleWaits: 2 });
  });
});
