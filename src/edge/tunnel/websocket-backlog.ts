/**
 * Backlogs of WebSockets: messages that have arrived and are not processed yet. The platform reads a WebSocket without
 * backpressure, so they wait in the isolate's memory, which all of its objects share. One pool bounds them together.
 *
 * Above {@link HOLD_ALL_OCTETS} the pool drops backlogs whose devices ignore "hold". Above {@link HOLD_MOST_OCTETS} it
 * drops the largest backlog of the principal with the most bytes, until the sum is below it. So many connections with
 * one token cannot crowd out others, and a principal with less than an equal share loses nothing.
 *
 * An object may not close another object's WebSocket. The pool only empties a dropped backlog; its connection notices
 * later, and ends itself.
 *
 * @module
 */
import { release } from "../../lib/octets.ts";
import {
  GO_ON_OCTETS,
  HOLD_ALL_OCTETS,
  HOLD_FLIGHT_OCTETS,
  HOLD_MESSAGE,
  HOLD_MOST_OCTETS,
  HOLD_OCTETS,
} from "./limits.ts";

/** The backlog of one WebSocket. */
export class WebSocketBacklog {
  readonly #pool: BacklogPool;
  /** Id of the connection's principal. */
  #principal = "";
  /** Messages behind the one in progress, in order. */
  #waiting: Uint8Array[] = [];
  #waitingOctets = 0;
  #octets = 0;
  #sinceHold: number | undefined;
  #dropped = false;

  constructor(pool: BacklogPool) {
    this.#pool = pool;
  }

  get principal(): string {
    return this.#principal;
  }

  /** Bytes that wait or are in progress, including {@link HOLD_MESSAGE} for each message. */
  get octets(): number {
    return this.#octets;
  }

  /** The part of {@link octets} that waits. */
  get waitingOctets(): number {
    return this.#waitingOctets;
  }

  /** Whether the device was told "hold", and not "go on" since. */
  get held(): boolean {
    return this.#sinceHold !== undefined;
  }

  /** Whether the backlog was dropped, by its connection or by the pool. It takes nothing any more. */
  get dropped(): boolean {
    return this.#dropped;
  }

  /** Whether to tell the device "hold": earlier while the pool is more than half full. */
  get mustHold(): boolean {
    const limit = this.#pool.octets > HOLD_ALL_OCTETS / 2 ? GO_ON_OCTETS : HOLD_OCTETS;
    return !this.held && this.#waitingOctets > limit;
  }

  /** Whether to tell the device "go on". */
  get mayGoOn(): boolean {
    return this.held && this.#waitingOctets <= GO_ON_OCTETS;
  }

  /** Whether the device has sent more since "hold" than can have been in flight. */
  get ignoresHold(): boolean {
    return this.#sinceHold !== undefined && this.#sinceHold > HOLD_FLIGHT_OCTETS;
  }

  /** Counts a message that has arrived. This may drop the backlog. */
  came(octets: number, principal: string): void {
    if (this.#dropped) return;
    this.#principal = principal;
    if (this.#sinceHold !== undefined) this.#sinceHold += octets + HOLD_MESSAGE;
    this.#resize(this.#octets + octets + HOLD_MESSAGE);
    this.#pool.bound(this);
  }

  /** Queues a message that {@link came} has counted. */
  push(message: Uint8Array): void {
    this.#waiting.push(message);
    this.#waitingOctets += message.length + HOLD_MESSAGE;
  }

  /** Takes the next message off the queue. It counts until {@link taken}. */
  shift(): Uint8Array | undefined {
    const message = this.#waiting.shift();
    if (message !== undefined) this.#waitingOctets -= message.length + HOLD_MESSAGE;
    return message;
  }

  /** Uncounts a message that is processed. */
  taken(octets: number): void {
    if (!this.#dropped) this.#resize(this.#octets - octets - HOLD_MESSAGE);
  }

  hold(): void {
    this.#sinceHold = 0;
  }

  goOn(): void {
    this.#sinceHold = undefined;
  }

  /** Discards everything, for good. */
  drop(): void {
    this.#dropped = true;
    for (const message of this.#waiting) release(message);
    this.#waiting = [];
    this.#waitingOctets = 0;
    this.#resize(0);
  }

  #resize(octets: number): void {
    const before = this.#octets;
    this.#octets = octets;
    this.#pool.resized(this, octets - before);
  }
}

/** All backlogs of an isolate. */
export class BacklogPool {
  /** The backlogs that are not empty. */
  readonly #backlogs = new Set<WebSocketBacklog>();
  #octets = 0;

  /** Bytes of all backlogs. */
  get octets(): number {
    return this.#octets;
  }

  resized(backlog: WebSocketBacklog, by: number): void {
    this.#octets += by;
    if (backlog.octets > 0) this.#backlogs.add(backlog);
    else this.#backlogs.delete(backlog);
  }

  /** Enforces the limits after a message has arrived in `backlog`. */
  bound(backlog: WebSocketBacklog): void {
    if (this.#octets <= HOLD_ALL_OCTETS) return;
    // No share is smaller than what a device that obeys "hold" may have waiting.
    const share = Math.max(HOLD_OCTETS, HOLD_ALL_OCTETS / this.#backlogs.size);
    if (backlog.ignoresHold && backlog.octets > share) backlog.drop();
    while (this.#octets > HOLD_MOST_OCTETS && this.#backlogs.size > 0) this.#largest()?.drop();
  }

  /** The largest backlog of the principal whose backlogs sum to the most. */
  #largest(): WebSocketBacklog | undefined {
    const sums = new Map<string, number>();
    for (const { principal, octets } of this.#backlogs) sums.set(principal, (sums.get(principal) ?? 0) + octets);
    const most = Math.max(...sums.values());
    let largest: WebSocketBacklog | undefined;
    for (const backlog of this.#backlogs) {
      if (sums.get(backlog.principal) === most && backlog.octets > (largest?.octets ?? 0)) largest = backlog;
    }
    return largest;
  }
}
