/**
 * A dashboard for Grafana (schema 39 of its JSON model, Grafana 11 and later): what a person looks at first at the top, one row
 * for each question after that.
 *
 * @module
 */

type Unit = "short" | "bytes" | "Bps" | "s" | "ops" | "percentunit";

interface Panel {
  readonly title: string;
  readonly kind: "stat" | "timeseries";
  readonly unit: Unit;
  /** Expressions and the legends of their series. */
  readonly targets: readonly (readonly [expression: string, legend: string])[];
}

/** What is scraped by the chosen edges. */
const CHOSEN = 'instance=~"$instance"';

/** How many of the reasons are shown: the others stay at 0 most of the time. */
const MOST = 8;

function rate(counter: string, by: string): string {
  return `sum by (${by}) (rate(${counter}{${CHOSEN}}[$__rate_interval]))`;
}

function quantile(share: number): string {
  return `histogram_quantile(${share}, sum by (le) (rate(grooveway_delivery_seconds_bucket{${CHOSEN}}[$__rate_interval])))`;
}

/** One number for each target. */
function stat(title: string, unit: Unit, ...targets: Panel["targets"]): Panel {
  return { title, kind: "stat", unit, targets };
}

/** Lines over time. */
function series(title: string, unit: Unit, ...targets: Panel["targets"]): Panel {
  return { title, kind: "timeseries", unit, targets };
}

export const PANELS: readonly Panel[] = [
  stat("Edges up", "short", [`sum(up{job="grooveway", ${CHOSEN}})`, "up"]),
  stat("Connected devices", "short", [`sum(grooveway_connections{${CHOSEN}})`, "connections"]),
  stat("Messages that wait", "short", [`sum(grooveway_waiting_messages{${CHOSEN}})`, "messages"]),
  stat("Oldest waits", "s", [`max(grooveway_oldest_waiting_seconds{${CHOSEN}})`, "oldest"]),
  stat("Links that failed", "short", [`sum(grooveway_links{${CHOSEN}, state="failed"})`, "failed"]),
  stat(
    "Disk full, keys failing",
    "short",
    [`max(grooveway_storage_full{${CHOSEN}})`, "disk"],
    [`max(grooveway_keys_failing{${CHOSEN}})`, "keys"],
  ),
  series(
    "Connections by encapsulation",
    "short",
    [`sum by (encapsulation) (grooveway_connections{${CHOSEN}})`, "{{encapsulation}}"],
    [`sum(grooveway_half_open_connections{${CHOSEN}})`, "half-open"],
  ),
  series(
    "Connections opened and closed",
    "ops",
    [rate("grooveway_connections_opened_total", "encapsulation"), "opened by {{encapsulation}}"],
    [`topk(${MOST}, ${rate("grooveway_connections_closed_total", "reason")})`, "closed: {{reason}}"],
  ),
  series(
    "Messages in and out",
    "ops",
    [rate("grooveway_messages_received_total", "class"), "received, {{class}}"],
    [rate("grooveway_messages_delivered_total", "class"), "delivered, {{class}}"],
    [rate("grooveway_plain_stream_appends_total", "instance"), "appends to plain streams, {{instance}}"],
  ),
  series(
    "Throughput",
    "Bps",
    [rate("grooveway_message_received_bytes_total", "class"), "received, {{class}}"],
    [rate("grooveway_message_delivered_bytes_total", "class"), "delivered, {{class}}"],
    [rate("grooveway_stream_bytes_total", "instance"), "streams, {{instance}}"],
    [rate("grooveway_passed_through_bytes_total", "direction"), "passed through {{direction}}"],
    [rate("grooveway_plain_stream_appended_bytes_total", "instance"), "plain streams, {{instance}}"],
  ),
  series("Time to delivery", "s", [quantile(0.5), "half"], [quantile(0.95), "95 %"], [quantile(0.99), "99 %"]),
  series("What waits", "bytes", [`sum by (instance) (grooveway_waiting_bytes{${CHOSEN}})`, "{{instance}}"]),
  series("Mailboxes in which something waits", "short", [
    `sum by (instance) (grooveway_waiting_mailboxes{${CHOSEN}})`,
    "{{instance}}",
  ]),
  series("Drops", "ops", [`topk(${MOST}, ${rate("grooveway_messages_dropped_total", "reason")})`, "{{reason}}"]),
  series("Refused requests", "ops", [
    `topk(${MOST}, ${rate("grooveway_requests_refused_total", "reason")})`,
    "{{reason}}",
  ]),
  series(
    "Links",
    "short",
    [`sum by (state) (grooveway_links{${CHOSEN}})`, "{{state}}"],
    [rate("grooveway_link_tries_total", "result"), "tries a second: {{result}}"],
  ),
  series(
    "Devices that are slowed down",
    "percentunit",
    [rate("grooveway_throttled_seconds_total", "instance"), "time, {{instance}}"],
    [rate("grooveway_throttle_waits_total", "instance"), "waits a second, {{instance}}"],
  ),
];

/** Columns of Grafana's grid, panels beside each other, and their heights. */
const COLUMNS = 24;
const BESIDE = { stat: 6, timeseries: 2 } as const;
const HEIGHT = { stat: 4, timeseries: 8 } as const;

const SOURCE = { type: "prometheus", uid: "$datasource" };

/** Writes the dashboard, for Grafana's import. */
export function dashboard(): string {
  let [x, y] = [0, 0];
  let before: Panel["kind"] = "stat";
  const panels = PANELS.map(({ title, kind, unit, targets }, at) => {
    const [w, h] = [COLUMNS / BESIDE[kind], HEIGHT[kind]];
    if (kind !== before || x + w > COLUMNS) [x, y] = [0, at === 0 ? 0 : y + HEIGHT[before]];
    before = kind;
    const gridPos = { x, y, w, h };
    x += w;
    return {
      id: at + 1,
      title,
      type: kind,
      datasource: SOURCE,
      gridPos,
      fieldConfig: { defaults: { unit, min: 0 }, overrides: [] },
      targets: targets.map(([expr, legendFormat], index) => ({
        refId: String.fromCharCode(65 + index),
        datasource: SOURCE,
        expr,
        legendFormat,
      })),
    };
  });
  const variables = [
    { name: "datasource", label: "Prometheus", type: "datasource", query: "prometheus" },
    {
      name: "instance",
      label: "Edge",
      type: "query",
      datasource: SOURCE,
      query: { query: "label_values(grooveway_connections, instance)", refId: "instances" },
      refresh: 2,
      includeAll: true,
      multi: true,
      allValue: ".*",
      current: { text: "All", value: "$__all" },
    },
  ];
  const model = {
    title: "Grooveway",
    uid: "grooveway",
    tags: ["grooveway"],
    schemaVersion: 39,
    editable: true,
    refresh: "30s",
    time: { from: "now-6h", to: "now" },
    templating: { list: variables },
    panels,
  };
  return `${JSON.stringify(model, undefined, 2)}\n`;
}
