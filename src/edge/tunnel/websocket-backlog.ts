/**
 * What WebSockets have sent and nobody has taken. The platform reads a WebSocket whether its messages are taken or not,
 * so they wait in the memory of the isolate, which all of its objects share: one pool bounds them together.
 *
 * Above {@link HOLD_ALL_OCTETS} those are dropped that go on after they were told to hold. At {@link HOLD_MOST_OCTETS}
 * nobody is asked any more: the largest backlog of the principal that has most goes, so that many connections with one
 * token cannot take the room of others, and nobody who has less than an equal share is touched.
 *
 * An object may not end the WebSocket of another. A backlog that is dropped is emptied here, and its owner ends its
 * connection when next it looks.
 *
 * @module
 */
import {
  GO_ON_OCTETS,
  HOLD_ALL_OCTETS,
  HOLD_FLIGHT_OCTETS,
  HOLD_MESSAGE,
  HOLD_MOST_OCTETS,
  HOLD_OCTETS,
} from "./limits.ts";

/** Of one WebSocket. */
export class WebSocketBacklog {
  readonly #pool: BacklogPool;
  /** The id of the principal whose connection it is. */
  #principal = "";
  /** What has come behind the message that is being taken, in order. */
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

  /** Octets that wait or are being taken, with what each message costs beside. */
  get octets(): number {
    return this.#octets;
  }

  /** Of these what waits. */
  get waitingOctets(): number {
    return this.#waitingOctets;
  }

  /** Whether its device was told to hold, and not to go on since. */
  get held(): boolean {
    return this.#sinceHold !== undefined;
  }

  /** Whether too much waited here, or in all: nothing is taken any more. */
  get dropped(): boolean {
    return this.#dropped;
  }

  /** Whether its device is to be told to hold: earlier while there is little room in all. */
  get mustHold(): boolean {
    const limit = this.#pool.octets > HOLD_ALL_OCTETS / 2 ? GO_ON_OCTETS : HOLD_OCTETS;
    return !this.held && this.#waitingOctets > limit;
  }

  /** Whether its device may be told to go on. */
  get mayGoOn(): boolean {
    return this.held && this.#waitingOctets <= GO_ON_OCTETS;
  }

  /** Whether its device has sent more since it was told to hold than can have been on the way. */
  get ignoresHold(): boolean {
    return this.#sinceHold !== undefined && this.#sinceHold > HOLD_FLIGHT_OCTETS;
  }

  /** A message has come. */
  came(octets: number, principal: string): void {
    if (this.#dropped) return;
    this.#principal = principal;
    if (this.#sinceHold !== undefined) this.#sinceHold += octets + HOLD_MESSAGE;
    this.#resize(this.#octets + octets + HOLD_MESSAGE);
    this.#pool.bound(this);
  }

  /** It waits for those before it. */
  push(message: Uint8Array): void {
    this.#waiting.push(message);
    this.#waitingOctets += message.length + HOLD_MESSAGE;
  }

  /** The next to be taken. */
  shift(): Uint8Array | undefined {
    const message = this.#waiting.shift();
    if (message !== undefined) this.#waitingOctets -= message.length + HOLD_MESSAGE;
    return message;
  }

  /** A message was taken. */
  taken(octets: number): void {
    if (!this.#dropped) this.#resize(this.#octets - octets - HOLD_MESSAGE);
  }

  hold(): void {
    this.#sinceHold = 0;
  }

  goOn(): void {
    this.#sinceHold = undefined;
  }

  /** Lets go of all that is here, for good. */
  drop(): void {
    this.#dropped = true;
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

/** The backlogs of an isolate. */
export class BacklogPool {
  /** Those that have something. */
  readonly #backlogs = new Set<WebSocketBacklog>();
  #octets = 0;

  /** Octets of all. */
  get octets(): number {
    return this.#octets;
  }

  resized(backlog: WebSocketBacklog, by: number): void {
    this.#octets += by;
    if (backlog.octets > 0) this.#backlogs.add(backlog);
    else this.#backlogs.delete(backlog);
  }

  /** Drops what is too much, after a message has come. */
  bound(backlog: WebSocketBacklog): void {
    if (this.#octets <= HOLD_ALL_OCTETS) return;
    // No share is below what whoever holds when told may have waiting.
    const share = Math.max(HOLD_OCTETS, HOLD_ALL_OCTETS / this.#backlogs.size);
    if (backlog.ignoresHold && backlog.octets > share) backlog.drop();
    while (this.#octets > HOLD_MOST_OCTETS && this.#backlogs.size > 0) this.#largest()?.drop();
  }

  /** The largest of the principal that has most in all. */
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
