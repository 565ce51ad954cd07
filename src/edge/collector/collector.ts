/**
 * Collector: keeps what isolates have counted, and what objects have reported of themselves. There are SHARDS of these
 * Durable Objects. An isolate sends its counts to one of them, and the state of an object to the one of its name, so that
 * a newer state replaces an older one. A batch costs one row for the counts, and one for each state that has changed. A
 * scrape wakes these objects and no others.
 *
 * Counts, the number of their batch and what was counted in the current interval are one row: a batch that is sent again,
 * because its answer was lost, counts once. When an interval is over, the next batch moves its counts into the history.
 *
 * @module
 */
import { DurableObject } from "cloudflare:workers";
import type { Env } from "../env.ts";
import { SERIES } from "../metrics/families.ts";
import { HISTORY_INTERVAL, HISTORY_SLOTS, REMEMBERED_SENDERS } from "../metrics/limits.ts";
import type {
  CollectorReading,
  CollectorRpc,
  HistoryInterval,
  MetricsBatch,
  ObjectQuery,
  ObjectRow,
} from "../rpc/collector-rpc.ts";
import { HistoryStore, sum } from "./history-store.ts";
import { ObjectStore } from "./object-store.ts";

/** Storage keys: the counts, and the run of the command to which rows of connections belong. */
const COUNTS = "counts";
const RUN = "run";

interface Counts {
  readonly totals: Readonly<Record<string, number>>;
  /** Numbers of the last batches by isolate, oldest first. */
  readonly last: readonly (readonly [isolate: string, number: number])[];
  /** What was counted in the last interval in which something was. Not from earlier releases. */
  readonly recent?: HistoryInterval;
}

const NONE: Counts = { totals: {}, last: [] };

export class Collector extends DurableObject<Env> implements CollectorRpc {
  readonly #objects: ObjectStore;
  readonly #history: HistoryStore;
  #counts: Counts;
  #made: boolean;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#objects = new ObjectStore(ctx.storage.sql);
    this.#history = new HistoryStore(ctx.storage.sql);
    this.#counts = ctx.storage.kv.get<Counts>(COUNTS) ?? NONE;
    this.#made = ctx.storage.kv.get(RUN) !== undefined;
    if (this.#made) {
      this.#objects.migrate();
      this.#forgetEarlierRun();
    }
  }

  async add({ isolate, number, increments, reports }: MetricsBatch): Promise<void> {
    if (!this.#made) this.#make();
    this.#addCounts(isolate, number, increments);
    for (const report of reports) this.#objects.set(report);
    this.#objects.removeEnded(Date.now());
  }

  async read(): Promise<CollectorReading> {
    const kinds = this.#made ? this.#objects.sums(Date.now()) : [];
    return { totals: this.#counts.totals, kinds };
  }

  async history(): Promise<HistoryInterval[]> {
    if (!this.#made) return [];
    const { recent } = this.#counts;
    const now = intervalAt(Date.now());
    const [kept, current] = [this.#history.intervals(now), recent === undefined ? [] : [recent]];
    return [...kept, ...current.filter(({ interval }) => interval > now - HISTORY_SLOTS && interval <= now)];
  }

  async objects(query: ObjectQuery): Promise<ObjectRow[]> {
    return this.#made ? this.#objects.page(query) : [];
  }

  async connections(limit: number): Promise<string[]> {
    return this.#made ? this.#objects.connections(limit) : [];
  }

  #addCounts(isolate: string, number: number, increments: Readonly<Record<string, number>>): void {
    const last = new Map(this.#counts.last);
    const known = Object.entries(increments).filter(([id, more]) => SERIES.has(id) && more > 0);
    if (known.length === 0 || number <= (last.get(isolate) ?? 0)) return;
    const counted = Object.fromEntries(known);
    const totals = sum(this.#counts.totals, counted);
    last.delete(isolate);
    last.set(isolate, number);
    const recent = this.#recent(counted);
    const counts = { totals, last: [...last].slice(-REMEMBERED_SENDERS), recent };
    this.ctx.storage.kv.put(COUNTS, counts);
    this.#counts = counts;
  }

  /** Adds to what was counted in the current interval. The one before goes into the history. */
  #recent(increments: Readonly<Record<string, number>>): HistoryInterval {
    const interval = intervalAt(Date.now());
    const { recent } = this.#counts;
    if (recent?.interval === interval) return { interval, increments: sum(recent.increments, increments) };
    if (recent !== undefined) this.#history.keep(recent);
    return { interval, increments };
  }

  #make(): void {
    this.#objects.make();
    this.ctx.storage.kv.put(RUN, this.#run);
    this.#made = true;
  }

  /** Connections and links end with the workerd of the command that has them, however it ends. */
  #forgetEarlierRun(): void {
    if (this.ctx.storage.kv.get(RUN) === this.#run) return;
    this.ctx.storage.kv.put(RUN, this.#run);
    this.#objects.removeRun();
  }

  /** The run of the command; empty where no command runs the edge: there the end of an object is noticed by its alarm. */
  get #run(): string {
    return this.env.LOCAL_RUN ?? "";
  }
}

/** The number of the interval of the history that has a time. */
function intervalAt(time: number): number {
  return Math.floor(time / HISTORY_INTERVAL);
}
