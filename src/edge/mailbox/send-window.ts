/**
 * Tracks what a mailbox has sent to its consumer and the consumer has not acknowledged. It waits in the memory of the
 * consumer's Tunnel, so it is bounded: by a window that every mailbox has, and by a pool for the larger windows of quick
 * consumers.
 *
 * @module
 */
import { type Range, Ranges } from "../../lib/ranges.ts";
import { EXTRA_WINDOW, EXTRA_WINDOWS, NEAR, QUICK, SEND_WINDOW } from "./limits.ts";
import { MemoryPool, type MemoryShare } from "./memory-pool.ts";

/** What the mailboxes of this isolate have sent beyond their own windows. */
const isolate = new MemoryPool(EXTRA_WINDOWS);

export class SendWindow {
  readonly #pool: MemoryPool;
  readonly #extra: MemoryShare;
  /** Sizes of messages by sequence number. */
  readonly #sizes = new Map<number, number>();
  #octets = 0;
  /** A message by which the consumer is timed, and when it was sent. One at a time. */
  #timed: { readonly seq: number; readonly at: number } | undefined;
  /** How long the last one took, in milliseconds. */
  #took = Number.POSITIVE_INFINITY;
  /** How long the quickest one of this consumer took: what remains when nothing waits on the way. */
  #least = Number.POSITIVE_INFINITY;

  constructor(pool = isolate) {
    this.#pool = pool;
    this.#extra = pool.join(this);
  }

  /** Total size in bytes, counted as in `Slice`. */
  get octets(): number {
    return this.#octets;
  }

  get count(): number {
    return this.#sizes.size;
  }

  /** How much may be in flight, in bytes. */
  most(now: number): number {
    return this.isQuick(now) ? SEND_WINDOW + Math.min(EXTRA_WINDOW, this.#pool.allowed(this.#extra)) : SEND_WINDOW;
  }

  /** Whether the consumer acknowledges quickly. */
  isQuick(now: number): boolean {
    const { at = now } = this.#timed ?? {};
    return this.#took <= QUICK && now - at <= QUICK;
  }

  /** Whether the way to the consumer and back is short. */
  get isNear(): boolean {
    return this.#least <= NEAR;
  }

  /** Sequence numbers of the messages in flight. */
  get ranges(): Ranges {
    const ranges = new Ranges();
    for (const seq of [...this.#sizes.keys()].sort((a, b) => a - b)) ranges.add(seq);
    return ranges;
  }

  /** Adds sent messages, numbered one by one from `first`, with their sizes. */
  add(first: number, sizes: readonly number[], now: number): void {
    this.#timed ??= { seq: first, at: now };
    for (const [at, size] of sizes.entries()) {
      const seq = first + at;
      this.#octets += size - (this.#sizes.get(seq) ?? 0);
      this.#sizes.set(seq, size);
    }
    this.#resize();
  }

  /** Times the consumer by what it has acknowledged, before that has `landed`. */
  acknowledged(ranges: Iterable<Range>, now: number): void {
    const { seq, at } = this.#timed ?? { seq: 0, at: 0 };
    for (const [from, to] of ranges) {
      if (seq < from || seq > to) continue;
      this.#took = now - at;
      this.#least = Math.min(this.#least, this.#took);
      this.#timed = undefined;
      return;
    }
  }

  /** Removes messages that are no longer in flight. */
  landed(ranges: Iterable<Range>): void {
    for (const [from, to] of ranges) {
      if (to - from < this.#sizes.size) for (let seq = from; seq <= to; seq += 1) this.#land(seq);
      else for (const seq of this.#sizes.keys()) if (seq >= from && seq <= to) this.#land(seq);
    }
    this.#resize();
  }

  clear(): void {
    this.handOver();
    this.#took = Number.POSITIVE_INFINITY;
  }

  /**
   * Begins again for a consumer that takes over. It counts as quick if the last one was: most often it is the same device,
   * on its next connection. If it is slow, that is known after {@link QUICK}.
   */
  handOver(): void {
    this.#sizes.clear();
    this.#octets = 0;
    this.#timed = undefined;
    this.#least = Number.POSITIVE_INFINITY;
    this.#resize();
  }

  #land(seq: number): void {
    const size = this.#sizes.get(seq);
    if (size === undefined) return;
    this.#sizes.delete(seq);
    this.#octets -= size;
    // Set aside, so it says nothing about the consumer.
    if (this.#timed?.seq === seq) this.#timed = undefined;
  }

  #resize(): void {
    this.#pool.resize(this.#extra, Math.max(0, this.#octets - SEND_WINDOW));
  }
}
