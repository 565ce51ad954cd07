/**
 * Tracks what a mailbox has sent to its consumer and the consumer has not acknowledged.
 *
 * @module
 */
import { type Range, Ranges } from "../../lib/ranges.ts";

export class SendWindow {
  /** Sizes of messages by sequence number. */
  readonly #sizes = new Map<number, number>();
  #octets = 0;

  /** Total size in bytes, counted as in `Slice`. */
  get octets(): number {
    return this.#octets;
  }

  get count(): number {
    return this.#sizes.size;
  }

  /** Sequence numbers of the messages in flight. */
  get ranges(): Ranges {
    const ranges = new Ranges();
    for (const seq of [...this.#sizes.keys()].sort((a, b) => a - b)) ranges.add(seq);
    return ranges;
  }

  /** Adds sent messages, numbered one by one from `first`, with their sizes. */
  add(first: number, sizes: readonly number[]): void {
    for (const [at, size] of sizes.entries()) {
      const seq = first + at;
      this.#octets += size - (this.#sizes.get(seq) ?? 0);
      this.#sizes.set(seq, size);
    }
  }

  /** Removes messages that are no longer in flight. */
  landed(ranges: Iterable<Range>): void {
    for (const [from, to] of ranges) {
      if (to - from < this.#sizes.size) for (let seq = from; seq <= to; seq += 1) this.#land(seq);
      else for (const seq of this.#sizes.keys()) if (seq >= from && seq <= to) this.#land(seq);
    }
  }

  clear(): void {
    this.#sizes.clear();
    this.#octets = 0;
  }

  #land(seq: number): void {
    const size = this.#sizes.get(seq);
    if (size === undefined) return;
    this.#sizes.delete(seq);
    this.#octets -= size;
  }
}
