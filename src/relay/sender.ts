/**
 * A destination of the messages that one connection brings, and its session: what waits for it, in order.
 *
 *   front of the queue ─► page ─► current ─► sent ─► acknowledged
 *
 * A sender holds few messages, and those without their bodies. What is more stays in the store from `behind` on, and is
 * looked up again when the page is empty: no message of a destination passes one that waits in the store for it.
 *
 * @module
 */
import { Queue as List } from "../lib/queue.ts";
import { SessionSlot } from "../store-and-forward/session-pool.ts";
import { SENDER_PAGE } from "./limits.ts";
import type { Destination, Stored } from "./store.ts";
import type { Outgoing } from "./stored-queue.ts";

/** The message that is being sent. */
export interface Current {
  readonly message: Outgoing;
  /** The next part of its body. */
  row: number;
  /** Octets of the parts until now. */
  octets: number;
  /** It takes room in the window: not while its session is suspended. */
  counted: boolean;
}

export class Sender extends SessionSlot {
  readonly destination: Destination;
  /** With flag D. */
  readonly volatile = new List<Outgoing>();
  /** From the store, the next ones. */
  readonly page = new List<Stored>();
  /** The first in the store that may not be in the page; undefined when none waits there. */
  behind: number | undefined;
  current: Current | undefined;
  /** Sent and not acknowledged. */
  outstanding = 0;
  /** How many messages go one at a time, so that it is known which one is refused. */
  probing = 0;
  /** Something was sent on its session since it was opened. */
  used = false;
  /** Sessions that were closed, and messages that were refused, since the last acknowledgement. */
  failures = 0;
  refusals = 0;
  /** Refused for their length: they are offered again at `laterAt`, out of order. */
  readonly later = new Set<number>();
  laterAt = Number.POSITIVE_INFINITY;
  /** Nothing is sent before this time; 0 when there is nothing to wait for. */
  until = 0;
  /** It is among those that take turns. */
  inTurn = false;

  constructor(key: string, { peer, resourceURL, identityURL, deviceURL, sender }: Destination) {
    super(key);
    this.destination = { peer, resourceURL, identityURL, deviceURL, sender };
  }

  /** Whether there is something that could be begun. */
  get hasWaiting(): boolean {
    return this.page.first !== undefined || this.volatile.first !== undefined || this.behind !== undefined;
  }

  /** Whether nothing waits for its session, and nothing for its acknowledgement: one that comes after a Close is lost. */
  get isIdle(): boolean {
    if (this.current !== undefined || this.outstanding > 0 || this.hasWaiting) return false;
    return this.later.size === 0 && this.until === 0;
  }

  /** The next message of the store that was not looked at before. */
  offer(message: Stored): void {
    if (this.behind !== undefined) return;
    if (this.page.size < SENDER_PAGE) this.page.push(message);
    else this.behind = message.seq;
  }

  /** What is in the page, and messages that were sent, are looked up in the store again. */
  goBack(lost: readonly number[]): void {
    const first = Math.min(...lost, this.page.first?.seq ?? Number.POSITIVE_INFINITY);
    this.page.clear();
    if (first < (this.behind ?? Number.POSITIVE_INFINITY)) this.behind = first;
  }

  /** Nothing of the store is for it any more. */
  letGo(): void {
    this.page.clear();
    this.behind = undefined;
    this.later.clear();
    this.laterAt = Number.POSITIVE_INFINITY;
  }
}
