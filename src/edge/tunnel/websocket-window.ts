/**
 * How much a WebSocket device that answers marks has been sent and has not confirmed. What is on the way needs no memory
 * here, but what the device does not read has to wait in the platform's. So the window is what the path carries within
 * its least round trip, as measured by the marks, and {@link WINDOW_SPARE} more: a device that reads slowly has a small
 * one.
 *
 * Pure: numbers of bytes and the time go in.
 *
 * @module
 */
import { HOLD_MESSAGE, MARK_OCTETS, WINDOW_MOST, WINDOW_OCTETS, WINDOW_SPARE, WINDOWS_OCTETS } from "./limits.ts";

/** Bytes that the windows of this isolate have beyond {@link WINDOW_OCTETS} each. */
let beyond = 0;

/** Eviction calls no handler, so a window is uncounted when it is collected. */
const forgotten = new FinalizationRegistry<{ readonly octets: number }>(({ octets }) => {
  beyond -= octets;
});

interface Mark {
  readonly mark: string;
  readonly octets: number;
  /** When it was sent; undefined if that is not known. */
  readonly at: number | undefined;
  /** What was confirmed by then, in all. */
  readonly confirmed: number;
}

export class WebSocketWindow {
  #unanswered: Mark[];
  #unmarked: number;
  /** Bytes not confirmed, including {@link HOLD_MESSAGE} for each message. */
  #ahead: number;
  #confirmed = 0;
  /** The least round trip. It is not forgotten: where data always waits, it would be taken for a longer path. */
  #least = Number.POSITIVE_INFINITY;
  readonly #beyond = { octets: 0 };

  /** @param saved what {@link unanswered} and {@link unmarked} were */
  constructor(unanswered: readonly (readonly [string, number])[] = [], unmarked = 0) {
    this.#unanswered = unanswered.map(([mark, octets]) => ({ mark, octets, at: undefined, confirmed: 0 }));
    this.#unmarked = unmarked;
    this.#ahead = this.#unanswered.reduce((sum, { octets }) => sum + octets, unmarked);
    forgotten.register(this, this.#beyond);
  }

  /** Marks that are not answered, and the bytes before each. */
  get unanswered(): readonly (readonly [string, number])[] {
    return this.#unanswered.map(({ mark, octets }) => [mark, octets]);
  }

  /** Bytes since the last mark. */
  get unmarked(): number {
    return this.#unmarked;
  }

  /** Whether nothing more is to be sent. */
  get isFull(): boolean {
    return this.#ahead >= WINDOW_OCTETS + this.#beyond.octets;
  }

  /** Counts a message. Returns whether a mark is due. */
  sent(octets: number): boolean {
    this.#ahead += octets + HOLD_MESSAGE;
    this.#unmarked += octets + HOLD_MESSAGE;
    return this.#unmarked >= MARK_OCTETS;
  }

  marked(mark: string, now: number): void {
    this.#unanswered.push({ mark, octets: this.#unmarked, at: now, confirmed: this.#confirmed });
    this.#unmarked = 0;
  }

  /** Returns false for a mark that is not there. */
  answered(mark: string, now: number): boolean {
    const index = this.#unanswered.findIndex((one) => one.mark === mark);
    if (index < 0) return false;
    const answered = this.#unanswered.splice(0, index + 1);
    for (const { octets } of answered) {
      this.#ahead -= octets;
      this.#confirmed += octets;
    }
    const last = answered.at(-1);
    if (last?.at !== undefined) this.#resize(Math.max(1, now - last.at), this.#confirmed - last.confirmed);
    return true;
  }

  /** Gives up what it has beyond {@link WINDOW_OCTETS}. */
  close(): void {
    this.#take(0);
  }

  /** @param confirmed bytes confirmed within a round trip */
  #resize(roundTrip: number, confirmed: number): void {
    this.#least = Math.min(this.#least, roundTrip);
    const carried = confirmed * (this.#least / roundTrip);
    const wanted = Math.min(WINDOW_MOST, carried + WINDOW_SPARE) - WINDOW_OCTETS;
    // Half of what is left, so that something is left for the next one.
    const free = Math.max(0, WINDOWS_OCTETS - beyond) / 2;
    this.#take(Math.max(0, Math.min(wanted, this.#beyond.octets + free)));
  }

  #take(octets: number): void {
    beyond += octets - this.#beyond.octets;
    this.#beyond.octets = octets;
  }
}
