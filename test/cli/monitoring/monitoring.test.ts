/** The alert rules and the dashboard, judged by promtool and by a Prometheus that scrapes an edge. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { ALERTS, alertRules } from "../../../src/cli/monitoring/alert-rules.ts";
import { dashboard, PANELS } from "../../../src/cli/monitoring/dashboard.ts";
import { COUNTERS, DELIVERY, GAUGES } from "../../../src/edge/metrics/families.ts";
import { REASONS } from "../../../src/edge/reasons.ts";
import { DROPS } from "../../../src/store-and-forward/drop-reasons.ts";
import { connect, receive, startEdge, until } from "../../edge/mailbox/support.ts";
import { NO_PROMETHEUS, promtool, startPrometheus } from "../../support/prometheus.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { runHere } from "../support.ts";

const EDGE = 'job="grooveway", instance="edge:443"';

/** For each alert, a series that makes it fire, one that does not, when to look, and the labels of the alert. */
const CASES: Readonly<
  Record<string, { readonly series: string; readonly fires: string; readonly not: string; readonly at: string }>
> = {
  GroovewayDown: { series: `up{${EDGE}}`, fires: "1 0x10", not: "1 0 1x10", at: "5m" },
  GroovewayStorageFull: { series: `grooveway_storage_full{${EDGE}}`, fires: "0 1x10", not: "0x10", at: "5m" },
  GroovewayKeysFailing: { series: `grooveway_keys_failing{${EDGE}}`, fires: "1x10", not: "1 1 1 0x10", at: "8m" },
  GroovewayLinkDown: {
    series: `grooveway_links{${EDGE}, state="failed"}`,
    fires: "0 2x10",
    not: "2 2 0 2 2 0 0 0 0 0",
    at: "8m",
  },
  GroovewayMessagesLost: {
    series: `grooveway_messages_dropped_total{${EDGE}, reason="Expired"}`,
    fires: "0 0 3x10",
    not: "7x10",
    at: "5m",
  },
  GroovewayFaults: {
    series: `grooveway_requests_refused_total{${EDGE}, reason="InternalError"}`,
    fires: "0 0 1x10",
    not: "1x10",
    at: "5m",
  },
};

/** A test of promtool: the alert fires for one series, and not for the other. */
function ruleTests(rules: string): string {
  const tests = ALERTS.flatMap(({ name, severity, summary, cure }) => {
    const { series, fires, not, at } = CASES[name] ?? assert.fail(`${name} has no case`);
    const others =
      name === "GroovewayFaults"
        ? [{ series: series.replace("requests_refused", "connections_closed"), values: "0x10" }]
        : [];
    return [fires, not].map((values) => ({
      interval: "1m",
      input_series: [{ series, values }, ...others],
      alert_rule_test: [
        {
          eval_time: at,
          alertname: name,
          ...(values === fires && {
            exp_alerts: [
              {
                exp_labels: labelsOf(name, severity),
                exp_annotations: { summary: filled(summary, labelsOf(name, severity)), description: cure },
              },
            ],
          }),
        },
      ],
    }));
  });
  // JSON is YAML.
  return JSON.stringify({ rule_files: [rules], evaluation_interval: "1m", tests });
}

/** A text whose placeholders are filled in. */
function filled(text: string, labels: Readonly<Record<string, string>>): string {
  return text.replace(/\{\{ \$(?:labels\.(\w+)|value) \}\}/g, (_, label) =>
    label === undefined ? "2" : (labels[label] ?? ""),
  );
}

function labelsOf(name: string, severity: string): Record<string, string> {
  if (name === "GroovewayMessagesLost") return { severity, instance: "edge:443", reason: "Expired" };
  if (name === "GroovewayFaults") return { severity, instance: "edge:443", reason: "InternalError" };
  const labels = { severity, instance: "edge:443", job: "grooveway" };
  return name === "GroovewayLinkDown" ? { ...labels, state: "failed" } : labels;
}

describe("alert rules", () => {
  it("name metrics, reasons and drops that exist", () => {
    const metrics = new Set([
      "up",
      ...Object.values(COUNTERS).map(({ name }) => `${name}_total`),
      ...Object.values(GAUGES).map(({ name }) => name),
    ]);
    for (const { expression } of ALERTS) {
      for (const [name] of expression.matchAll(/\b(?:up|grooveway_\w+)/g)) assert.ok(metrics.has(name), name);
      for (const [, reasons = ""] of expression.matchAll(/reason=~"([^"]*)"/g)) {
        for (const reason of reasons.split("|")) {
          assert.ok(Object.hasOwn(REASONS, reason) || Object.hasOwn(DROPS, reason), reason);
        }
      }
    }
  });

  it("fire when they should, and only then", { skip: NO_PROMETHEUS }, () => {
    assert.equal(ALERTS.length, 6);
    const folder = temporaryFolder();
    const rules = join(folder, "grooveway.rules.yml");
    writeFileSync(rules, alertRules());
    assert.equal(promtool(["check", "rules", rules]).code, 0);
    const tests = ruleTests(rules);
    writeFileSync(join(folder, "tests.yml"), tests);
    const { code, said } = promtool(["test", "rules", join(folder, "tests.yml")]);
    assert.equal(code, 0, said);
  });

  it("are printed by grooveway edge rules", async () => {
    const { stdout, code } = await runHere(["edge", "rules"]);
    assert.deepEqual([code, stdout], [0, alertRules()]);
  });
});

describe("the dashboard", () => {
  it("is printed by grooveway edge dashboard, as JSON whose panels do not overlap", async () => {
    const { stdout, code } = await runHere(["edge", "dashboard"]);
    assert.deepEqual([code, stdout], [0, dashboard()]);
    const { panels } = JSON.parse(stdout) as { panels: { gridPos: { x: number; y: number; w: number; h: number } }[] };
    const taken = new Set<string>();
    for (const { gridPos } of panels) {
      assert.ok(gridPos.x + gridPos.w <= 24);
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x += 1) {
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y += 1) {
          assert.ok(!taken.has(`${x} ${y}`));
          taken.add(`${x} ${y}`);
        }
      }
    }
  });

  it("shows each metric", () => {
    const shown = PANELS.flatMap(({ targets }) => targets.map(([expression]) => expression)).join("\n");
    for (const { name } of [...Object.values(COUNTERS), ...Object.values(GAUGES), DELIVERY]) {
      assert.ok(shown.includes(name), name);
    }
  });

  it("has data of a scraped edge in each panel", { skip: NO_PROMETHEUS, timeout: 120_000 }, async (t) => {
    const edge = await startEdge(t, { adminToken: "admin" });
    const prometheus = await startPrometheus(edge.url, "admin");
    t.after(() => prometheus.close());
    const alice = await connect(edge, "alice/laptop", "websocket");
    const bob = await connect(edge, "bob/phone", "keepalive");
    await until("scraped", async () => (await prometheus.query("grooveway_connections")).length > 0);
    await alice.send("bob/phone", "hello");
    await receive(bob, 1);
    await until(
      "a rate of deliveries",
      async () => (await prometheus.query("rate(grooveway_delivery_seconds_count[1m]) > 0")).length > 0,
    );
    const model = JSON.parse(dashboard()) as { panels: { title: string; targets: { expr: string }[] }[] };
    for (const { title, targets } of model.panels) {
      for (const { expr } of targets) {
        const asked = expr.replaceAll("$__rate_interval", "1m").replaceAll("$instance", ".*");
        const found = await prometheus.query(asked);
        assert.ok(found.length > 0, `${title}: ${asked}`);
        assert.ok(
          found.every(({ value: [, text] }) => !Number.isNaN(Number(text))),
          `${title}: ${asked}: ${JSON.stringify(found)}`,
        );
      }
    }
    await Promise.all([alice.close(), bob.close()]);
  });
});
