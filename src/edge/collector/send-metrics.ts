/**
 * Sends what this isolate has counted to the collectors, in batches: two seconds after the first count. The timer is held
 * by the request or object that has counted first, so nothing is left of it when an object hibernates, and an isolate in
 * which nothing happens sends nothing.
 *
 *   count ─► counters.ts ─┐
 *   observe ─► object-states.ts ─┴─ sendSoon ─► Collector (one for the counts; by name for the states)
 *
 * Invariant: a batch of counts keeps its number until it has arrived. A collector that has it already ignores it.
 *
 * @module
 */
import { within } from "../../lib/runtime/timeout.ts";
import { noticeStorageFull } from "../disk-full.ts";
import type { Env } from "../env.ts";
import { logError } from "../log.ts";
import { counters, type Increments } from "../metrics/counters.ts";
import { GATHER, SEND_TIMEOUT, SHARDS } from "../metrics/limits.ts";
import { objectStates, type Report } from "../metrics/object-states.ts";
import { collectorName, type MetricsBatch } from "../rpc/collector-rpc.ts";
import { writeDataPoints } from "./analytics.ts";

/** How often a request looks for the end of another one's sending, in milliseconds. */
const LOOK = 10;

type SendingEnv = Pick<Env, "COLLECTOR" | "ANALYTICS">;

/** Names this isolate to the collectors. Made with the first batch: there is no randomness before the first request. */
let isolate: string | undefined;
let batches = 0;
/** Counts that were sent, and of which it is not known whether they have arrived. */
let unsure: { readonly number: number; readonly increments: Increments } | undefined;
/** Until when a sending is under way. It may be lost with the object that holds its timer. */
let dueUntil = Number.NEGATIVE_INFINITY;

/** Calls to collectors that are under way: until when they may take, and what they report. */
interface Sending {
  readonly until: number;
  readonly reports: readonly Report[];
}
let sending: Sending | undefined;
/** Whether the last call to a collector has failed, which the log has. */
let isFailing = false;

/**
 * Sees to it that what was counted is sent soon. Cheap to call: most calls find that there is nothing to send, or that it
 * is seen to.
 *
 * @param context of the request or object that has counted
 */
export function sendSoon(context: Pick<DurableObjectState, "waitUntil">, env: SendingEnv): void {
  if (!counters.some && !objectStates.some) return;
  const now = Date.now();
  if (isAhead(dueUntil, now) && !objectStates.many) return;
  const wait = objectStates.many ? 0 : GATHER;
  dueUntil = now + wait + SEND_TIMEOUT;
  context.waitUntil(scheduler.wait(wait).then(() => sendMetrics(env)));
}

/**
 * Sends what has gathered now. If another sending is under way, waits for its end: it belongs to another request or
 * object, whose promise must not be awaited.
 */
export async function sendMetrics(env: SendingEnv): Promise<void> {
  while (sending !== undefined && isAhead(sending.until, Date.now())) await scheduler.wait(LOOK);
  // The context of an earlier one may be gone, and its answers with it.
  if (sending !== undefined) objectStates.failed(sending.reports);
  const now = Date.now();
  const mine: Sending = { until: now + SEND_TIMEOUT, reports: objectStates.take(nameOfIsolate(), now) };
  sending = mine;
  dueUntil = Number.NEGATIVE_INFINITY;
  await sendAll(env, mine.reports);
  if (sending === mine) sending = undefined;
}

/** Whether a deadline is yet to come. It is further off than any only if the clock was set back. */
function isAhead(deadline: number, now: number): boolean {
  return now < deadline && deadline - now <= GATHER + SEND_TIMEOUT;
}

async function sendAll(env: SendingEnv, reports: readonly Report[]): Promise<void> {
  const name = nameOfIsolate();
  if (unsure === undefined && counters.some) {
    batches += 1;
    unsure = { number: batches, increments: counters.take() };
    writeDataPoints(env.ANALYTICS, unsure.increments);
  }
  const counts = unsure;
  const byShard = Map.groupBy(reports, (report) => shardOf(`${report.kind} ${report.name}`));
  const own = shardOf(name);
  if (counts !== undefined && !byShard.has(own)) byShard.set(own, []);
  const sent = [...byShard].map(async ([shard, some]) => {
    const isOwn = shard === own && counts !== undefined;
    const { number, increments } = isOwn ? counts : { number: 0, increments: {} };
    const arrived = await call(env, shard, { isolate: name, number, increments, reports: some });
    if (arrived) objectStates.arrived(some);
    else objectStates.failed(some);
    if (arrived && isOwn && unsure === counts) unsure = undefined;
  });
  await Promise.all(sent);
}

function nameOfIsolate(): string {
  isolate ??= crypto.randomUUID();
  return isolate;
}

async function call(env: SendingEnv, shard: number, batch: MetricsBatch): Promise<boolean> {
  try {
    const answered = await within(SEND_TIMEOUT, env.COLLECTOR.getByName(collectorName(shard)).add(batch));
    isFailing = false;
    return answered !== undefined;
  } catch (error) {
    // It is sent with the next batch, soon: one line in the log is enough until a call succeeds.
    if (!noticeStorageFull(error) && !isFailing) logError(error);
    isFailing = true;
    return false;
  }
}

/** The collector for a name: FNV-1a, 32 bits. */
export function shardOf(name: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < name.length; at += 1) hash = Math.imul(hash ^ name.charCodeAt(at), 0x01000193) >>> 0;
  return hash % SHARDS;
}
