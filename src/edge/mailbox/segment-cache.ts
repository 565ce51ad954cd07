/**
 * The segments that a mailbox keeps in memory: what is pushed to its consumer, what is acknowledged, and what is between.
 *
 * @module
 */

import { kept } from "../../store-and-forward/message-body.ts";
import type { Contents, MessageBatch } from "../rpc/message-batch.ts";
import { CACHED_OCTETS, CACHED_SEGMENTS } from "./limits.ts";

/** A row of the log: messages numbered one by one from `first` on. */
export interface Segment extends Contents {
  readonly first: number;
  readonly bundle: MessageBatch;
  /** Octets of its envelopes, where they are stored. */
  readonly shares: readonly number[];
  /** Octets of its messages and of those of its envelopes that stand with it. */
  readonly octets: number;
}

export class SegmentCache {
  /** By the number of their first message, those that came first in front. */
  readonly #kept = new Map<number, Segment>();
  #octets = 0;
  /** What was found last is often what is looked for next. */
  #last: Segment | undefined;

  /** The segment that holds a message, if it is kept. */
  find(seq: number): Segment | undefined {
    if (this.#last !== undefined && holds(this.#last, seq)) return this.#last;
    for (const segment of this.#kept.values()) {
      if (!holds(segment, seq)) continue;
      this.#last = segment;
      return segment;
    }
    return undefined;
  }

  /** Keeps a segment that has just come, if there is room: what is being read must not be pushed out by it. */
  offer(segment: Segment): void {
    if (this.#kept.size < CACHED_SEGMENTS && this.#octets + weightOf(segment) <= CACHED_OCTETS) {
      this.#add(segment);
    }
  }

  /** Keeps a segment that is being read, in the place of others if need be. */
  keep(segment: Segment): void {
    const weight = weightOf(segment);
    for (const { first } of this.#kept.values()) {
      if (this.#kept.size < CACHED_SEGMENTS && this.#octets + weight <= CACHED_OCTETS) break;
      this.drop(first);
    }
    this.#add(segment);
  }

  /** A segment is done with. */
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
    // What is left of a bundle when part of it was refused would keep all of it.
    this.#kept.set(segment.first, own === octets ? segment : { ...segment, bundle: { envelopes, octets: own } });
    this.#octets += weightOf(segment);
  }
}

function holds({ first, sizes }: Segment, seq: number): boolean {
  return seq >= first && seq < first + sizes.length;
}

/** Octets of a segment in memory. */
function weightOf({ bundle, shares }: Segment): number {
  return shares.reduce((sum, share) => sum + share, bundle.octets.length);
}
