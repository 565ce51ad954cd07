/**
 * Credit: how much a peer may send on a stream. What a device has granted and its applications have not read never
 * exceeds the size of its pool, since that is the memory that a peer can fill.
 *
 * @module
 */
import { GRANTED, LEAST_ROUND_TRIP, LEAST_STEP, RESERVE, STEPS, STREAMS, TIMES_LEFT, WINDOW } from "./limits.ts";

/**
 * The credit of a device, shared by all its channels. Each stream has its reserve; beyond it a stream gets at most half
 * of what is left, so that something is left for every later one.
 */
export class CreditPool {
  /** The largest window of a stream, in octets. */
  readonly window: number;
  /** In how many steps a window is renewed. */
  readonly steps: number;
  readonly #streams: number;
  readonly #ofPeers = new Map<string, number>();
  #entered = 0;
  #free: number;

  /**
   * @param options.granted octets in all
   * @param options.streams how many streams get their reserve, which is part of `granted`
   * @param options.window octets of one stream at most
   * @param options.steps in how many steps a window is renewed: each costs an announcement
   */
  constructor({
    granted = GRANTED,
    streams = STREAMS,
    window = WINDOW,
    steps = STEPS,
  }: { granted?: number; streams?: number; window?: number; steps?: number } = {}) {
    this.window = window;
    this.steps = steps;
    this.#streams = streams;
    this.#free = granted - streams * RESERVE;
    if (this.#free < 0) throw new RangeError(`${granted} octets are no reserve for ${streams} streams: allow fewer`);
  }

  /** Number of streams. */
  get streams(): number {
    return this.#entered;
  }

  /** Octets beyond the reserves that are left. */
  get free(): number {
    return this.#free;
  }

  /** Reserves the credit of a new stream. Returns false if there are too many, or too many of the same peer. */
  enter(peer: string): boolean {
    const ofPeer = this.#ofPeers.get(peer) ?? 0;
    if (ofPeer >= TIMES_LEFT * (this.#streams - this.#entered)) return false;
    this.#ofPeers.set(peer, ofPeer + 1);
    this.#entered += 1;
    return true;
  }

  /** Releases the reserve of a stream. */
  leave(peer: string): void {
    const left = (this.#ofPeers.get(peer) ?? 0) - 1;
    if (left > 0) this.#ofPeers.set(peer, left);
    else this.#ofPeers.delete(peer);
    this.#entered -= 1;
  }

  /** How much of `wanted` a stream may take beyond what it has. */
  share(wanted: number): number {
    return Math.min(wanted, Math.floor(this.#free / 2));
  }

  /** Takes octets, or with a negative number releases them. */
  take(octets: number): void {
    this.#free -= octets;
  }
}

/** What this side grants on one stream. */
export class ReceiveWindow {
  readonly #pool: CreditPool;
  readonly #peer: string;
  #limit = RESERVE;
  #received = 0;
  #consumed = 0;
  #window = RESERVE;
  /** Credit beyond the reserve, which was taken from the pool. */
  #extra = 0;
  /** Since when, and from which octet on, the peer's use of the window is measured. */
  #measuredAt: number;
  #measuredFrom = 0;

  /** For a stream with which the peer has entered the pool. */
  constructor(pool: CreditPool, peer: string, now: number) {
    this.#pool = pool;
    this.#peer = peer;
    this.#measuredAt = now;
  }

  /** How many octets the peer may send in all. */
  get limit(): number {
    return this.#limit;
  }

  /** Counts octets from the peer. Returns false if they exceed the limit. */
  receive(octets: number): boolean {
    this.#received += octets;
    return this.#received <= this.#limit;
  }

  /**
   * Counts octets that the application has read. Returns whether the limit was raised, which it is in small steps: with
   * large ones the peer would stand still between them.
   *
   * A peer that uses half of a window within two round trips is held back by it, so the window doubles.
   */
  consume(octets: number, now: number, roundTrip: number): boolean {
    this.#consumed += octets;
    this.#settle();
    if (this.#consumed - this.#measuredFrom >= this.#window / 2) {
      const soon = 2 * Math.max(roundTrip, LEAST_ROUND_TRIP);
      if (now - this.#measuredAt < soon) this.#window = Math.min(2 * this.#window, this.#pool.window);
      this.#measuredFrom = this.#consumed;
      this.#measuredAt = now;
    }
    const share = this.#pool.share(this.#window - RESERVE - this.#extra);
    const limit = this.#consumed + RESERVE + this.#extra + share;
    if (limit - this.#limit < Math.max((limit - this.#consumed) / this.#pool.steps, LEAST_STEP)) return false;
    this.#limit = limit;
    this.#settle();
    return true;
  }

  /** Releases the credit: nothing more is kept of what the peer sends. */
  close(): void {
    this.#pool.take(-this.#extra);
    this.#extra = 0;
    this.#pool.leave(this.#peer);
  }

  #settle(): void {
    const extra = Math.max(0, this.#limit - this.#consumed - RESERVE);
    this.#pool.take(extra - this.#extra);
    this.#extra = extra;
  }
}
