/**
 * What `grooveway doctor` shows, as texts: the rows of its table and of its page, and its JSON.
 *
 * @module
 */
import type { DiagnosedWay, Diagnosis } from "../../device/diagnosis/index.ts";
import { proxyText } from "../../device/transports/candidates.ts";
import type { Way } from "../../device/transports/transport.ts";
import { formatHostPort } from "../../lib/host-port.ts";
import { rate } from "../device-options.ts";

/** A way as a row of texts. */
export interface Row {
  readonly isUsable: boolean;
  readonly transport: string;
  readonly to: string;
  readonly through: string;
  readonly status: string;
  readonly roundTrip: string;
  readonly rate: string;
  /** What happens, and what to change: a sentence each. Empty if all is well. */
  readonly remark: readonly string[];
}

/** Shown where there is nothing to show. */
const NOTHING = "-";

/** The ways as rows, by path: what a firewall does, it mostly does to all ways over one path. */
export function pathsOf({ ways }: Diagnosis): Row[][] {
  const rows = ways.map(rowOf);
  return [...Map.groupBy(rows, ({ to, through }) => JSON.stringify([to, through])).values()];
}

/** Rows that follow each other with the same remark, which is to be shown once. */
export function runsOf(rows: readonly Row[]): Row[][] {
  const runs: Row[][] = [];
  for (const row of rows) {
    const run = runs.at(-1);
    if (run?.[0]?.remark.join() === row.remark.join()) run?.push(row);
    else runs.push([row]);
  }
  return runs;
}

function rowOf({ way, verdict, roundTrip, rate: octets }: DiagnosedWay): Row {
  const { status, isUsable, why, need } = verdict;
  return {
    isUsable,
    transport: way.transport,
    to: `${formatHostPort(way)}${way.secure ? "" : " (plain)"}`,
    through: throughOf(way),
    // The other words say by themselves whether a way can be used.
    status: status === "inspected" && isUsable ? "inspected, works" : status,
    roundTrip: roundTrip === undefined ? NOTHING : `${Math.max(1, Math.round(roundTrip))} ms`,
    rate: octets === undefined ? NOTHING : rate(octets, 1000),
    remark: [...(why === undefined ? [] : [why]), ...(need === undefined ? [] : [`To change it: ${need}.`])],
  };
}

/** Stands for no proxy. */
export const DIRECT = "direct";

/** {@link DIRECT}, or the proxies and where they were found. */
function throughOf(way: Way): string {
  const { proxies, source } = way;
  if (proxies.length === 0) return DIRECT;
  return `${proxies.map(proxyText).join(" then ")}${source === undefined ? "" : ` (${source})`}`;
}

/** What is the subject: the edge, or a relay without one. */
export function subjectOf({ edge, relay, host }: Diagnosis): string {
  return edge === undefined ? (relay ?? host) : edge;
}

/** One sentence with the way to use, or that there is none. */
export function recommendation({ recommended }: Diagnosis): string {
  if (recommended === undefined) return "No way works.";
  const { way } = recommended;
  const how = way.proxies.length === 0 ? "directly" : `through ${throughOf(way)}`;
  return `Recommended: ${way.transport} to ${formatHostPort(way)}, ${how}.`;
}

/** What would have to be opened, each once, in the order of the ways. Empty if the best way works already. */
export function needsOf({ ways }: Diagnosis): string[] {
  return [...new Set(ways.flatMap(({ verdict: { need } }) => (need === undefined ? [] : [need])))];
}

/** The diagnosis for machines. */
export function jsonOf(diagnosis: Diagnosis): unknown {
  const { edge = null, relay = null, host, addresses, at, ways, findings, recommended } = diagnosis;
  return {
    edge,
    relay,
    host,
    addresses,
    at: at.toISOString(),
    recommended: recommended === undefined ? null : jsonOfWay(recommended.way),
    ways: ways.map(({ way, verdict, established, roundTrip, rate: octets }) => ({
      ...jsonOfWay(way),
      status: verdict.status,
      usable: verdict.isUsable,
      why: verdict.why ?? null,
      need: verdict.need ?? null,
      establishedMs: whole(established),
      roundTripMs: whole(roundTrip),
      bytesPerSecond: whole(octets),
    })),
    checks: findings.map(({ check, outcome, text }) => ({ check, outcome, text })),
  };
}

function jsonOfWay(way: Way) {
  const { transport, host, port, secure, proxies, source } = way;
  return { transport, host, port, secure, through: proxies.map(proxyText), source: source ?? null };
}

function whole(value: number | undefined): number | null {
  return value === undefined ? null : Math.round(value);
}
