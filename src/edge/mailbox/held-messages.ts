/**
 * Long messages that a mailbox has not written yet, because their recipient will most likely have them before that would
 * be worth it. Their senders have no answer, and wait for one until a message has been acknowledged or written.
 *
 * They are the last ones of the log: whatever comes and is not held has them written first.
 *
 * @module
 */

import { HELD_OCTETS } from "./limits.ts";
import type { MemoryPool, MemoryShare } from "./memory-pool.ts";
import type { Series } from "./seen-ids.ts";
import { longBodies, type Segment } from "./segment-cache.ts";

/** A segment of one message, as it came. */
export interface HeldMessage {
  readonly segment: Segment;
  readonly id: { readonly series: Series; readonly number: number };
}

export class HeldMessages {
  readonly #pool: MemoryPool;
  readonly #share: MemoryShare;
  /** By number, in order. */
  readonly #held = new Map<number, HeldMessage>();

  constructor(pool = longBodies) {
    this.#pool = pool;
    this.#share = pool.join(this);
  }

  get count(): number {
    return this.#held.size;
  }

  get first(): Segment | undefined {
    return this.#held.values().next().value?.segment;
  }

  hasRoom(octets: number): boolean {
    return this.#share.octets + octets <= Math.min(HELD_OCTETS, this.#pool.allowed(this.#share));
  }

  add(message: HeldMessage): void {
    this.#held.set(message.segment.first, message);
    this.#resize(message.segment.bundle.octets.length);
  }

  get(number: number): HeldMessage | undefined {
    return this.#held.get(number);
  }

  /** The message with this number, or else the next one. */
  segmentFrom(number: number): Segment | undefined {
    const exact = this.#held.get(number);
    if (exact !== undefined) return exact.segment;
    for (const { segment } of this.#held.values()) if (segment.first > number) return segment;
    return undefined;
  }

  /** Whether a message with this id is held. */
  knows({ source, head, tail }: Series, number: number): boolean {
    for (const { id } of this.#held.values()) {
      const { series } = id;
      const isSame = series.head === head && series.tail === tail && series.source === source;
      if (isSame && id.number === number) return true;
    }
    return false;
  }

  delete(number: number): void {
    const message = this.#held.get(number);
    if (message === undefined) return;
    this.#held.delete(number);
    this.#resize(-message.segment.bundle.octets.length);
  }

  clear(): void {
    this.#held.clear();
    this.#resize(-this.#share.octets);
  }

  [Symbol.iterator](): IterableIterator<HeldMessage> {
    return this.#held.values();
  }

  #resize(by: number): void {
    this.#pool.resize(this.#share, this.#share.octets + by);
  }
}
