/**
 * Caches a mailbox's segments between their push to the consumer and their acknowledgement.
 *
 * @module
 */

import { kept } from "../../store-and-forward/message-body.ts";
import type { Contents, MessageBatch } from "../rpc/message-batch.ts";
import { CACHED_OCTETS, CACHED_SEGMENTS } from "./limits.ts";

/** A row of the log: messages numbered one by one from `first`. */
export interface Segment extends Contents {
  readonly first: number;
  readonly bundle: MessageBatch;
  /** Bytes of its envelopes as stored. */
  readonly shares: readonly number[];
  /** Bytes of its messages, and of the envelopes stored in its row. */
  readonly octets: number;
}

export class SegmentCache {
  /** By the number of their first message, in order of insertion. */
  readonly #kept = new Map<number, Segment>();
  #octets = 0;
  /** The last hit, which is often the next one too. */
  #last: Segment | undefined;

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
    if (this.#last === segment) this.#last = undefined;
  }

  clear(): void {
    this.#kept.clear();
    this.#octets = 0;
    this.#last = undefined;
  }

  #add(segment: Segment): void {
    const { envelopes, octets } = segment.bundle;
    const own = kept(octets);
    // A bundle that was refused in part is a view of the whole buffer, and would keep all of it alive.
    this.#kept.set(segment.first, own === octets ? segment : { ...segment, bundle: { envelopes, octets: own } });
    this.#octets += weightOf(segment);
  }
}

function holds({ first, sizes }: Segment, seq: number): boolean {
  return seq >= first && seq < first + sizes.length;
}

/** Bytes of a segment in memory. */
function weightOf({ bundle, shares }: Segment): number {
  return shares.reduce((sum, share) => sum + share, bundle.octets.length);
}
