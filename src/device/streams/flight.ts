/**
 * How much of its streams a device has on its way to the edge or relay: enough to keep the way full, and little that
 * waits on it, because all other output of the device waits behind.
 *
 * The window follows the delay, as TCP Vegas does (Brakmo and Peterson, 1995). Of what is on its way, the part beyond
 * `window * least round trip / round trip` waits somewhere. Once per round trip the window grows if less than
 * QUEUE_LEAST waits, and shrinks if more than QUEUE_MOST does. It doubles until it has filled the way for the first time.
 * The least round trip is measured again from time to time, on a way that is empty: otherwise a path that has become
 * longer would not be noticed, or what always waits be taken for one.
 *
 * Pure: numbers of messages and the time go in. All channels of a device share one, since they share its connection and
 * the relay acknowledges their messages in order.
 *
 * @module
 */
import {
  BATCH,
  FLIGHT_EMPTY,
  FLIGHT_FIRST,
  FLIGHT_LEAST,
  FLIGHT_MOST,
  QUEUE_LEAST,
  QUEUE_MOST,
  ROUND_TRIP_TIME,
  SLOW,
  URGENT_SHARE,
} from "./limits.ts";

interface Message {
  readonly octets: number;
  /** When it was sent; undefined if its acknowledgement may come late, and says nothing about the way. */
  readonly at: number | undefined;
}

export class Flight {
  readonly #messages = new Map<number, Message>();
  #octets = 0;
  #window = FLIGHT_FIRST;
  #most: number;
  /** The least round trip, and when it was last measured. */
  #least = Number.POSITIVE_INFINITY;
  #leastAt = 0;
  /** While it is measured anew: whether the way is still emptied, and the window before. */
  #measuring: { isEmpty: boolean; readonly window: number } | undefined;
  /** The window doubles each round trip, as long as nothing waits. */
  #isStarting = true;
  /** The round trip that is measured ends with the acknowledgement of this message or a later one. */
  #roundEnd = 0;
  #fastest = Number.POSITIVE_INFINITY;
  /** The last message that is timed. */
  #lastSent = 0;
  /** Bytes on their way that were sent since the last urgent message. */
  #sinceUrgent = 0;
  /** Whether the window was full since the last round trip: otherwise nothing shows that it is too small. */
  #wasFull = false;

  /** @param most bytes that may be on their way */
  constructor(most = FLIGHT_MOST) {
    this.#most = most;
  }

  /** Bytes on their way. */
  get octets(): number {
    return this.#octets;
  }

  /** Bytes that may be on their way before the last message. */
  get window(): number {
    return this.#window;
  }

  /**
   * Whether no further message should be sent, until acknowledgements come that were asked for. What was sent since the
   * last urgent message counts only for the limit: however small the window has become meanwhile, the next one must go,
   * and is urgent.
   */
  get isFull(): boolean {
    return this.#octets - this.#sinceUrgent >= this.#window || this.#octets >= this.#most;
  }

  /**
   * Whether the relay should acknowledge a message of so many bytes at once. Otherwise its acknowledgement may wait for
   * what it can travel with: while little is on its way nobody waits for it, and for a keystroke it would cost as much
   * as the keystroke. Of bulk data, several acknowledgements in a window are enough to know what the way carries.
   */
  isUrgent(octets: number): boolean {
    return this.#octets + octets >= this.#window / 2 && this.#sinceUrgent + octets >= this.#window / URGENT_SHARE;
  }

  /**
   * A message is sent. Numbers grow.
   *
   * @param isUrgent whether the relay is asked to acknowledge it at once
   */
  sent(number: number, octets: number, now: number, isUrgent = true): void {
    this.#messages.set(number, { octets, at: isUrgent ? now : undefined });
    this.#octets += octets;
    if (isUrgent) this.#lastSent = number;
    this.#sinceUrgent = isUrgent ? 0 : this.#sinceUrgent + octets;
    this.#wasFull ||= this.isFull;
  }

  /** The relay has acknowledged a message. Others are ignored. */
  acknowledged(number: number, now: number): void {
    const message = this.#messages.get(number);
    if (message === undefined) return;
    this.lost(number);
    if (message.at === undefined) return;
    this.#fastest = Math.min(this.#fastest, now - message.at);
    if (number < this.#roundEnd) return;
    this.#endRound(this.#fastest, now);
    this.#fastest = Number.POSITIVE_INFINITY;
    this.#roundEnd = this.#lastSent;
    this.#wasFull = false;
  }

  #endRound(roundTrip: number, now: number): void {
    if (this.#measuring !== undefined) {
      const { isEmpty, window } = this.#measuring;
      this.#measuring.isEmpty = true;
      if (!isEmpty) return;
      this.#measuring = undefined;
      this.#window = window;
      this.#least = roundTrip;
      this.#leastAt = now;
      return;
    }
    if (roundTrip <= this.#least) {
      this.#least = roundTrip;
      this.#leastAt = now;
    }
    this.#adjust(roundTrip);
    if (now - this.#leastAt < ROUND_TRIP_TIME) return;
    this.#measuring = { isEmpty: false, window: this.#window };
    this.#window = FLIGHT_EMPTY;
  }

  /** A message is not on its way any more. */
  lost(number: number): void {
    const message = this.#messages.get(number);
    if (message === undefined) return;
    this.#messages.delete(number);
    this.#octets -= message.octets;
    if (number > this.#lastSent) this.#sinceUrgent -= message.octets;
  }

  /** There is a new connection, of which nothing is known. */
  restart(most = FLIGHT_MOST): void {
    this.#messages.clear();
    this.#octets = 0;
    this.#most = most;
    this.#window = Math.min(FLIGHT_FIRST, most);
    this.#least = Number.POSITIVE_INFINITY;
    this.#leastAt = 0;
    this.#measuring = undefined;
    this.#isStarting = true;
    this.#roundEnd = 0;
    this.#lastSent = 0;
    this.#sinceUrgent = 0;
    this.#fastest = Number.POSITIVE_INFINITY;
    this.#wasFull = false;
  }

  #adjust(roundTrip: number): void {
    const delay = roundTrip - this.#least;
    if (delay > SLOW) {
      this.#isStarting = false;
      this.#window = Math.max(FLIGHT_LEAST, this.#window * (SLOW / delay));
      return;
    }
    const waiting = roundTrip > 0 ? this.#window * (delay / roundTrip) : 0;
    if (waiting > QUEUE_LEAST) this.#isStarting = false;
    if (waiting > QUEUE_MOST) {
      const less = this.#window - (waiting - QUEUE_MOST);
      this.#window = Math.max(less, Math.min(this.#window, FLIGHT_FIRST));
    } else if (waiting < QUEUE_LEAST && delay < SLOW / 2 && this.#wasFull) {
      const more = this.#isStarting ? this.#window : Math.min(BATCH, this.#window / 2);
      this.#window = Math.min(this.#most, this.#window + more);
    }
  }
}
