/**
 * RPC interface of a Collector: one of the objects that keep what the others have counted.
 *
 * @module
 */
import type { Increments } from "../metrics/counters.ts";
import type { Kind, Report } from "../metrics/object-states.ts";

/** What an isolate sends to one collector. */
export interface MetricsBatch {
  /** The sender and the number of its batch: a batch that comes twice counts once. */
  readonly isolate: string;
  readonly number: number;
  readonly increments: Increments;
  readonly reports: readonly Report[];
}

/** The sum of what the objects of one kind and label have reported. */
export interface KindTotal {
  readonly kind: Kind;
  readonly label: string;
  readonly objects: number;
  readonly count: number;
  readonly octets: number;
  /** Milliseconds since 1970; null if nothing waits. */
  readonly oldest: number | null;
}

/** What one collector knows. */
export interface CollectorReading {
  readonly totals: Increments;
  readonly kinds: readonly KindTotal[];
}

/** What was counted in one interval; see HISTORY_INTERVAL. */
export interface HistoryInterval {
  /** The number of the interval since 1970. */
  readonly interval: number;
  readonly increments: Increments;
}

/** A question for one page of the objects of a kind. */
export interface ObjectQuery {
  readonly kind: Kind;
  /** Only objects in whose name, label or peer this text is, in upper or lower case; empty: all. */
  readonly contains: string;
  /** `count` and `octets`: the most first; `age`: the oldest first. Then by name. */
  readonly order: "count" | "octets" | "age";
  /** The last object of the page before. */
  readonly after: Pick<ObjectRow, "value" | "name"> | undefined;
  readonly limit: number;
}

/** What is known of one object. */
export interface ObjectRow {
  readonly name: string;
  readonly label: string;
  readonly count: number;
  readonly octets: number;
  /** Milliseconds since 1970; null if nothing waits, or if it is not known. */
  readonly oldest: number | null;
  readonly who: string;
  /** What it was ordered by: descending. */
  readonly value: number;
}

export interface CollectorRpc extends Rpc.DurableObjectBranded {
  /** Resolves when the batch is on disk. */
  add(batch: MetricsBatch): Promise<void>;
  read(): Promise<CollectorReading>;
  /** What was counted in the last HISTORY_SLOTS intervals, in no order. Intervals without counts are missing. */
  history(): Promise<HistoryInterval[]>;
  objects(query: ObjectQuery): Promise<ObjectRow[]>;
  /** Names of open virtual connections. */
  connections(limit: number): Promise<string[]>;
}

/** Name of a collector. @param shard from 0 to SHARDS - 1 */
export function collectorName(shard: number): string {
  return `shard-${shard}`;
}
