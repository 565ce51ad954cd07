/**
 * Reads all collectors, and makes one reading of what they know.
 *
 * @module
 */
import { areKeysFailing } from "../../auth/key-set.ts";
import { within } from "../../lib/runtime/timeout.ts";
import { isStorageFull } from "../disk-full.ts";
import type { Env } from "../env.ts";
import { logError } from "../log.ts";
import type { Reading } from "../metrics/exposition.ts";
import { GAUGES, SERIES } from "../metrics/families.ts";
import { SHARDS } from "../metrics/limits.ts";
import {
  type CollectorReading,
  type CollectorRpc,
  collectorName,
  type HistoryInterval,
  type KindTotal,
  type ObjectQuery,
  type ObjectRow,
} from "../rpc/collector-rpc.ts";

/** Time for all collectors to answer, in milliseconds: Prometheus gives up a scrape after 10 s. */
const READ_TIMEOUT = 8_000;

/**
 * @returns undefined if a collector has not answered: with a part of the counts, counters would seem to fall
 */
export async function readMetrics(env: Pick<Env, "COLLECTOR" | "JWKS_URL">): Promise<Reading | undefined> {
  const answered = await askAll(env, (collector) => collector.read());
  return answered === undefined
    ? undefined
    : readingOf(answered, Date.now(), { keysFailing: areKeysFailing(env), storageFull: isStorageFull() });
}

/** What was counted in the last hours, in no order; several collectors may have counts of the same interval. */
export async function readHistory(env: Pick<Env, "COLLECTOR">): Promise<HistoryInterval[] | undefined> {
  return (await askAll(env, (collector) => collector.history()))?.flat();
}

/** One page of the objects of a kind, out of all collectors, and whether there are more. */
export interface ObjectPage {
  readonly rows: readonly ObjectRow[];
  readonly more: boolean;
}

/** @returns undefined if a collector has not answered */
export async function readObjects(env: Pick<Env, "COLLECTOR">, query: ObjectQuery): Promise<ObjectPage | undefined> {
  const asked = { ...query, limit: query.limit + 1 };
  const pages = await askAll(env, (collector) => collector.objects(asked));
  const rows = pages?.flat().sort((one, other) => other.value - one.value || (one.name < other.name ? -1 : 1));
  return rows && { rows: rows.slice(0, query.limit), more: rows.length > query.limit };
}

async function askAll<T>(
  env: Pick<Env, "COLLECTOR">,
  ask: (collector: Pick<CollectorRpc, "read" | "history" | "objects">) => Promise<T>,
): Promise<T[] | undefined> {
  const asked = Array.from({ length: SHARDS }, (_, shard) => ask(env.COLLECTOR.getByName(collectorName(shard))));
  const answered = await within(READ_TIMEOUT, Promise.all(asked)).catch(logError);
  return answered === undefined ? undefined : answered.value;
}

/** What this isolate knows by itself. */
export interface Own {
  readonly keysFailing: boolean;
  readonly storageFull: boolean;
}

/** Adds up what collectors know. @param now milliseconds since 1970 */
export function readingOf(collectors: readonly CollectorReading[], now: number, own: Own): Reading {
  const totals: Record<string, number> = {};
  for (const collector of collectors) {
    for (const [id, total] of Object.entries(collector.totals)) {
      if (SERIES.has(id)) totals[id] = (totals[id] ?? 0) + total;
    }
  }
  const kinds = collectors.flatMap((collector) => collector.kinds);
  const sum = (kind: KindTotal["kind"], label: string, of: (total: KindTotal) => number) =>
    kinds.filter((total) => total.kind === kind && total.label === label).reduce((all, total) => all + of(total), 0);
  const by = (kind: KindTotal["kind"], labels: readonly string[]) =>
    Object.fromEntries(labels.map((label) => [label, sum(kind, label, ({ objects }) => objects)]));
  const oldest = kinds.flatMap(({ kind, oldest }) => (kind !== "mailbox" || oldest === null ? [] : [oldest]));
  return {
    totals,
    gauges: {
      connections: by("connection", GAUGES.connections.values),
      halfOpen: { "": sum("isolate", "", ({ count }) => count) },
      waitingMailboxes: { "": sum("mailbox", "", ({ objects }) => objects) },
      waitingMessages: { "": sum("mailbox", "", ({ count }) => count) },
      waitingBytes: { "": sum("mailbox", "", ({ octets }) => octets) },
      oldestWaiting: { "": oldest.length === 0 ? 0 : Math.max(0, now - Math.min(...oldest)) / 1000 },
      links: by("link", GAUGES.links.values),
      keysFailing: { "": own.keysFailing ? 1 : 0 },
      storageFull: { "": own.storageFull ? 1 : 0 },
    },
  };
}
