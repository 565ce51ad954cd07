/**
 * Times messages from when they were stored to when their consumer has acknowledged them. What is in flight is bounded by
 * the send window, and so is what is remembered here.
 *
 * @module
 */
import type { Range } from "../../lib/ranges.ts";
import { counters } from "../metrics/counters.ts";

/** Messages in flight that arrived together. */
interface Sent {
  from: number;
  readonly to: number;
  readonly at: number;
}

export class DeliveryTimes {
  readonly #counters: Pick<typeof counters, "delivered">;
  /** In order of number, but for what is sent again. */
  #sent: Sent[] = [];

  /** @param into where the times are counted */
  constructor(into: Pick<typeof counters, "delivered"> = counters) {
    this.#counters = into;
  }

  /** Messages were sent, numbered one by one from `first`. @param at when they were stored, milliseconds since 1970 */
  sent(first: number, count: number, at: number): void {
    const before = this.#sent.at(-1);
    if (before?.to === first - 1 && before.at === at) this.#sent.splice(-1, 1, { ...before, to: first + count - 1 });
    else this.#sent.push({ from: first, to: first + count - 1, at });
  }

  /** Counts the times of messages that were acknowledged. */
  acknowledged(ranges: readonly Range[], now: number): void {
    this.#take(ranges, (at, messages) => this.#counters.delivered(now - at, messages));
  }

  /** Forgets messages that were set aside: they will be sent again. */
  forget(ranges: readonly Range[]): void {
    this.#take(ranges, () => undefined);
  }

  clear(): void {
    this.#sent = [];
  }

  #take(ranges: readonly Range[], each: (at: number, messages: number) => void): void {
    for (const [from, to] of ranges) {
      const [oldest] = this.#sent;
      // Usually the oldest messages are acknowledged first.
      if (oldest !== undefined && from <= oldest.from && to < oldest.to && to >= oldest.from) {
        each(oldest.at, to - oldest.from + 1);
        oldest.from = to + 1;
        continue;
      }
      this.#sent = this.#sent.flatMap((sent) => {
        const [begin, end] = [Math.max(from, sent.from), Math.min(to, sent.to)];
        if (begin > end) return [sent];
        each(sent.at, end - begin + 1);
        const left = [
          { ...sent, to: begin - 1 },
          { ...sent, from: end + 1 },
        ];
        return left.filter((part) => part.from <= part.to);
      });
    }
  }
}
