/** The text of /metrics, and which format a scraper gets. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { preferred } from "../../../src/edge/metrics/accept.ts";
import { Counters } from "../../../src/edge/metrics/counters.ts";
import { exposition, formatFor, type Reading } from "../../../src/edge/metrics/exposition.ts";
import { COUNTERS, GAUGES, SERIES } from "../../../src/edge/metrics/families.ts";
import { REASONS } from "../../../src/edge/reasons.ts";
import { DROPS } from "../../../src/store-and-forward/drop-reasons.ts";

const NOTHING: Reading = {
  totals: {},
  gauges: {
    connections: {},
    halfOpen: {},
    waitingMailboxes: {},
    waitingMessages: {},
    waitingBytes: {},
    oldestWaiting: {},
    links: {},
    keysFailing: {},
    storageFull: {},
  },
};

/** The value of each series in a text. */
function seriesIn(text: string): Map<string, number> {
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ")))]),
  );
}

describe("the text of /metrics", () => {
  it("has every series from the start, with 0: each reason, each drop, each encapsulation", () => {
    const series = seriesIn(exposition(NOTHING, "prometheus"));
    assert.ok([...series.values()].every((value) => value === 0));
    for (const reason of Object.keys(REASONS)) {
      assert.ok(series.has(`grooveway_requests_refused_total{reason="${reason}"}`), reason);
      assert.ok(series.has(`grooveway_connections_closed_total{reason="${reason}"}`), reason);
    }
    for (const drop of Object.keys(DROPS)) assert.ok(series.has(`grooveway_messages_dropped_total{reason="${drop}"}`));
    const gauges = Object.values(GAUGES).reduce((count, { values }) => count + values.length, 0);
    // A histogram has a count as well.
    assert.equal(series.size, SERIES.size + gauges + 1);
  });

  it("has cumulative buckets, their sum and their count", () => {
    const counted = new Counters();
    for (const milliseconds of [4, 200, 200, 7 * 86_400_000]) counted.delivered(milliseconds, 1);
    const series = seriesIn(exposition({ ...NOTHING, totals: counted.take() }, "prometheus"));
    const bucket = (bound: string) => series.get(`grooveway_delivery_seconds_bucket{le="${bound}"}`);
    assert.deepEqual(["0.01", "0.1", "0.25", "86400.0", "+Inf"].map(bucket), [1, 1, 3, 3, 4]);
    assert.equal(series.get("grooveway_delivery_seconds_count"), 4);
    assert.ok(Math.abs((series.get("grooveway_delivery_seconds_sum") ?? 0) - (7 * 86_400 + 0.404)) < 1e-6);
  });

  it("names families as each format does", () => {
    const { name } = COUNTERS.requestsRefused;
    assert.match(exposition(NOTHING, "prometheus"), new RegExp(`^# TYPE ${name}_total counter$`, "m"));
    const open = exposition(NOTHING, "openmetrics");
    assert.match(open, new RegExp(`^# TYPE ${name} counter$`, "m"));
    assert.ok(open.endsWith("\n# EOF\n"));
  });
});

describe("counters", () => {
  it("count each series by itself, and begin again when taken", () => {
    const counted = new Counters();
    counted.count("messagesDropped", "Expired", 2);
    counted.count("messagesDropped", "Expired");
    counted.count("throttleWaits", "");
    counted.count("bytesReceived", "stored", 0);
    assert.deepEqual(counted.take(), { "messagesDropped Expired": 3, throttleWaits: 1 });
    assert.equal(counted.some, false);
  });

  it("take no series that is not listed, whatever is counted", () => {
    fc.assert(
      fc.property(fc.string(), (value) => {
        const counted = new Counters();
        counted.count("requestsRefused", value as never);
        return Object.keys(counted.take()).every((id) => SERIES.has(id));
      }),
    );
  });
});

describe("the format", () => {
  for (const [accept, format] of [
    [null, "prometheus"],
    ["*/*", "prometheus"],
    ["application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", "openmetrics"],
    ["application/openmetrics-text; version=1.0.0; q=0.4, text/plain;q=0.5", "prometheus"],
    ["text/html,application/xhtml+xml", "prometheus"],
    ["application/openmetrics-text;q=0", "prometheus"],
    ["application/openmetrics-text;q=7,text/*", "prometheus"],
  ] as const) {
    it(`is ${format} for ${accept}`, () => {
      assert.equal(formatFor(accept), format);
    });
  }

  it("is one of those offered, whatever the header", () => {
    const header = fc.oneof(fc.string(), fc.stringMatching(/^[a-z*/;=,.q0-9 ]{0,80}$/));
    fc.assert(fc.property(header, (accept) => [0, 1].includes(preferred(accept, ["text/plain", "a/b"]))));
  });
});
