/**
 * Writes metrics as text: that of Prometheus, version 0.0.4, or OpenMetrics 1.0.0.
 *
 * @module
 */
import { preferred } from "./accept.ts";
import {
  COUNTERS,
  type CounterKey,
  DELIVERY,
  DELIVERY_BUCKETS,
  DELIVERY_SUM,
  type Family,
  GAUGES,
  type GaugeKey,
  seriesId,
} from "./families.ts";

/** The value of every series at one time. */
export interface Reading {
  /** Totals of counters by the ids of their series; what is missing is 0. */
  readonly totals: Readonly<Record<string, number>>;
  /** Values of gauges by the value of their label. */
  readonly gauges: Readonly<Record<GaugeKey, Readonly<Record<string, number>>>>;
}

export type Format = "prometheus" | "openmetrics";

/** Content types by format. */
export const CONTENT_TYPES: Readonly<Record<Format, string>> = {
  prometheus: "text/plain; version=0.0.4; charset=utf-8",
  openmetrics: "application/openmetrics-text; version=1.0.0; charset=utf-8",
};

/** The format that a client prefers by its Accept header [RFC 9110 12.5.1]. */
export function formatFor(accept: string | null): Format {
  return preferred(accept ?? "", ["text/plain", "application/openmetrics-text"]) === 1 ? "openmetrics" : "prometheus";
}

/** Writes a reading. Every series is there, those that never happened with 0. */
export function exposition({ totals, gauges }: Reading, format: Format): string {
  const lines: string[] = [];
  const head = (name: string, type: string, help: string) => {
    lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
  };
  for (const [key, family] of Object.entries(COUNTERS) as [CounterKey, Family][]) {
    // OpenMetrics names the family, Prometheus 0.0.4 the samples.
    head(format === "openmetrics" ? family.name : `${family.name}_total`, "counter", family.help);
    for (const value of family.values) {
      lines.push(sample(`${family.name}_total`, family.label, value, totals[seriesId(key, value)] ?? 0));
    }
  }
  head(DELIVERY.name, "histogram", DELIVERY.help);
  let below = 0;
  for (const [at, id] of DELIVERY_BUCKETS.entries()) {
    below += totals[id] ?? 0;
    const bound = DELIVERY.bounds[at];
    // OpenMetrics asks for bounds as floats.
    const text = bound === undefined ? "+Inf" : Number.isInteger(bound) ? `${bound}.0` : String(bound);
    lines.push(sample(`${DELIVERY.name}_bucket`, "le", text, below));
  }
  lines.push(`${DELIVERY.name}_sum ${totals[DELIVERY_SUM] ?? 0}`, `${DELIVERY.name}_count ${below}`);
  for (const [key, family] of Object.entries(GAUGES) as [GaugeKey, Family][]) {
    head(family.name, "gauge", family.help);
    for (const value of family.values) lines.push(sample(family.name, family.label, value, gauges[key][value] ?? 0));
  }
  if (format === "openmetrics") lines.push("# EOF");
  return `${lines.join("\n")}\n`;
}

function sample(name: string, label: string | undefined, value: string, number: number): string {
  // Values come from enumerations of ours: none needs an escape.
  return label === undefined ? `${name} ${number}` : `${name}{${label}="${value}"} ${number}`;
}
