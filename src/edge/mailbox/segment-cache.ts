/**
 * Caches a mailbox's segments between their push to the consumer and their acknowledgement.
 *
 * @module
 */

import { kept } from "../../store-and-forward/message-body.ts";
import type { Contents, MessageBatch } from "../rpc/message-batch.ts";
import { CACHED_OCTETS, CACHED_SEGMENTS, UNSENT_IN_ISOLATE, UNSENT_OCTETS } from "./limits.ts";
import { MemoryPool, type MemoryShare } from "./memory-pool.ts";

/** A row of the log: messages numbered one by one from `first`. */
export interface Segment extends Contents {
  readonly first: number;
  /** When its messages arrived, in milliseconds since 1970. */
  readonly at: number;
  readonly bundle: MessageBatch;
  /** Bytes of its envelopes as stored. */
  readonly shares: readonly number[];
  /** Bytes of its messages, and of the envelopes stored in its row. */
  readonly octets: number;
  /** Its messages with the bodies that are stored elsewhere, as they came, until they are sent. */
  readonly unsent?: Uint8Array | undefined;
}

/** What the mailboxes of this isolate keep of messages with long bodies. */
export const longBodies = new MemoryPool(UNSENT_IN_ISOLATE);

export class SegmentCache {
  readonly #pool: MemoryPool;
  readonly #unsent: MemoryShare;
  /** By the number of their first message, in order of insertion. */
  readonly #kept = new Map<number, Segment>();
  #octets = 0;
  /** The last hit, which is often the next one too. */
  #last: Segment | undefined;

  constructor(pool = longBodies) {
    this.#pool = pool;
    this.#unsent = pool.join(this);
  }

  /** Returns the cached segment that contains a message. */
  find(seq: number): Segment | undefined {
    if (this.#last !== undefined && holds(this.#last, seq)) return this.#last;
    for (const segment of this.#kept.values()) {
      if (!holds(segment, seq)) continue;
      this.#last = segment;
      return segment;
    }
    return undefined;
  }

  /** Caches a new segment if there is room. It must not evict segments that are being read. */
  offer(segment: Segment): void {
    if (this.#kept.size < CACHED_SEGMENTS && this.#octets + weightOf(segment) <= CACHED_OCTETS) {
      this.#add(segment);
    }
  }

  /** Forgets the long bodies of a segment. */
  sent(first: number): void {
    const segment = this.#kept.get(first);
    if (segment?.unsent === undefined) return;
    this.#resize(-segment.unsent.length);
    this.#kept.set(first, { ...segment, unsent: undefined });
    if (this.#last === segment) this.#last = undefined;
  }

  /** Caches a segment that is being read, and evicts the oldest ones if necessary. */
  keep(segment: Segment): void {
    const weight = weightOf(segment);
    for (const { first } of this.#kept.values()) {
      if (this.#kept.size < CACHED_SEGMENTS && this.#octets + weight <= CACHED_OCTETS) break;
      this.drop(first);
    }
    this.#add(segment);
  }

  /** Removes a segment. */
  drop(first: number): void {
    const segment = this.#kept.get(first);
    if (segment === undefined) return;
    this.#kept.delete(first);
    this.#octets -= weightOf(segment);
    this.#resize(-(segment.unsent?.length ?? 0));
    if (this.#last === segment) this.#last = undefined;
  }

  clear(): void {
    this.#kept.clear();
    this.#octets = 0;
    this.#resize(-this.#unsent.octets);
    this.#last = undefined;
  }

  #add(segment: Segment): void {
    const { envelopes, octets } = segment.bundle;
    // A bundle that was refused in part is a view of the whole buffer, and would keep all of it alive.
    const bundle = { envelopes, octets: kept(octets) };
    const { length = 0 } = segment.unsent ?? {};
    const fits = this.#unsent.octets + length <= Math.min(UNSENT_OCTETS, this.#pool.allowed(this.#unsent));
    this.#kept.set(segment.first, { ...segment, bundle, unsent: fits ? segment.unsent : undefined });
    this.#octets += weightOf(segment);
    if (fits) this.#resize(length);
  }

  #resize(by: number): void {
    this.#pool.resize(this.#unsent, this.#unsent.octets + by);
  }
}

function holds({ first, sizes }: Segment, seq: number): boolean {
  return seq >= first && seq < first + sizes.length;
}

/** Bytes of a segment in memory. */
function weightOf({ bundle, shares }: Segment): number {
  return shares.reduce((sum, share) => sum + share, bundle.octets.length);
}
