/**
 * One destination of a connection's outgoing messages: its session and its queue, in order.
 *
 *   front of the queue ─► page ─► current ─► sent ─► acknowledged
 *
 * A sender holds a few messages without their bodies. The rest stays in the store from `behind` on and is read when the
 * page is empty. While `behind` is set, new messages must not enter the page, or they would overtake those in the
 * store.
 *
 * @module
 */
import { Queue as List } from "../lib/queue.ts";
import { SessionSlot } from "../store-and-forward/session-pool.ts";
import { SENDER_PAGE } from "./limits.ts";
import type { Destination, Stored } from "./store.ts";
import type { Outgoing, Volatile } from "./stored-queue.ts";

/** The message being sent. */
export interface Current {
  readonly message: Outgoing;
  /** Next row of its body. */
  row: number;
  /** Bytes sent so far. */
  octets: number;
  /** Whether it counts against the window; not while its session is suspended. */
  counted: boolean;
}

export class Sender extends SessionSlot {
  readonly destination: Destination;
  /** Messages with flag D. */
  readonly volatile = new List<Volatile>();
  /** The next stored messages. */
  readonly page = new List<Stored>();
  /** Sequence number of the first stored message not in the page; undefined if all are. */
  behind: number | undefined;
  current: Current | undefined;
  /** Number sent and not yet acknowledged. */
  outstanding = 0;
  /** How many messages must go one at a time, to find out which is refused. */
  probing = 0;
  /** Whether anything was sent on the current session. */
  used = false;
  /** Closed sessions and refused messages since the last acknowledgement. */
  failures = 0;
  refusals = 0;
  /** Messages refused for length, offered again at `laterAt`, out of order. */
  readonly later = new Set<number>();
  laterAt = Number.POSITIVE_INFINITY;
  /** Nothing is sent before this time; 0 if not paused. */
  until = 0;
  /** What is streamed to it is dropped until this time, in milliseconds since 1970: the last had to wait too long. */
  stalledUntil = 0;
  /** Whether it is in the turns. */
  inTurn = false;

  constructor(key: string, { peer, resourceURL, identityURL, deviceURL, sender }: Destination) {
    super(key);
    this.destination = { peer, resourceURL, identityURL, deviceURL, sender };
  }

  /** Whether there is a message to begin. */
  get hasWaiting(): boolean {
    return this.page.first !== undefined || this.volatile.first !== undefined || this.behind !== undefined;
  }

  /** Whether the next message is one that is streamed between devices. */
  get isStreamNext(): boolean {
    const { first } = this.volatile;
    return first?.stream !== undefined;
  }

  /**
   * Whether the session may be closed. Acknowledgements must not be pending: one that arrives after a Close is lost.
   */
  get isIdle(): boolean {
    if (this.current !== undefined || this.outstanding > 0 || this.hasWaiting) return false;
    return this.later.size === 0 && this.until === 0;
  }

  /** Adds the next newly scanned message. */
  offer(message: Stored): void {
    if (this.behind !== undefined) return;
    if (this.page.size < SENDER_PAGE) this.page.push(message);
    else this.behind = message.seq;
  }

  /** Returns the page and the lost messages to the store, to be read again in order. */
  goBack(lost: readonly number[]): void {
    const first = Math.min(...lost, this.page.first?.seq ?? Number.POSITIVE_INFINITY);
    this.page.clear();
    if (first < (this.behind ?? Number.POSITIVE_INFINITY)) this.behind = first;
  }

  /** Forgets everything from the store. */
  letGo(): void {
    this.page.clear();
    this.behind = undefined;
    this.later.clear();
    this.laterAt = Number.POSITIVE_INFINITY;
  }
}
