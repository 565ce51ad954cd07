/**
 * What the Worker and the objects of this isolate have counted since it was last sent. Counting is an addition in
 * memory: it costs no row, no call and no timer. ../collector/send-metrics.ts sends what has gathered.
 *
 * @module
 */
import {
  type CounterKey,
  DELIVERY,
  DELIVERY_BUCKETS,
  DELIVERY_SUM,
  SERIES,
  seriesId,
  type ValueOf,
} from "./families.ts";

/** Increments by the ids of their series. */
export type Increments = Readonly<Record<string, number>>;

export class Counters {
  #counts = new Map<string, number>();

  /** Counts `number` more. A value that its family does not list is a fault of the caller, and is not counted. */
  count<K extends CounterKey>(key: K, value: ValueOf<K>, number = 1): void {
    if (number > 0) this.#add(seriesId(key, value), number);
  }

  /** Counts messages that were acknowledged so many milliseconds after they were stored. */
  delivered(milliseconds: number, messages: number): void {
    // A clock that was set back must not take from the sum.
    const seconds = Math.max(0, milliseconds) / 1000;
    const bucket = DELIVERY.bounds.findIndex((bound) => seconds <= bound);
    this.#add(DELIVERY_BUCKETS.at(bucket) ?? "", messages);
    if (seconds > 0) this.#add(DELIVERY_SUM, seconds * messages);
  }

  get some(): boolean {
    return this.#counts.size > 0;
  }

  /** Returns all that was counted, and begins again. */
  take(): Increments {
    const taken = Object.fromEntries(this.#counts);
    this.#counts = new Map();
    return taken;
  }

  #add(id: string, number: number): void {
    if (SERIES.has(id)) this.#counts.set(id, (this.#counts.get(id) ?? 0) + number);
  }
}

/** The counters of this isolate. */
export const counters = new Counters();
