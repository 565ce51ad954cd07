/**
 * The OutboundMessageList and InboundMessageList of a connection [MS-GRVSSTP 3.1.1.2]: what counts as acknowledged.
 *
 * An acknowledgement is a bare count of the oldest messages, so the two lists of a connection must agree without ever
 * being compared. When the receiver of a session closes it, messages on it may be unprocessed, or still under way. Both
 * sides then take that session's messages off their lists: the receiver when it sends Close (or a refusing
 * OpenResponse), the sender when it receives that. Commands keep their order in each direction, so every count before
 * the Close covers the messages and every count after it does not (assumed; the published text does not say).
 */

interface Sent {
  readonly message: number;
  readonly sessionId: number;
}

interface Received {
  readonly message: number;
  readonly sessionId: number;
  /** Flag A of its Message. */
  readonly immediate: boolean;
  complete: boolean;
}

/** A ledger as plain data; what was urgent has set off its acknowledgement by then. */
export interface LedgerSnapshot {
  readonly lastSent: number;
  readonly lastReceived: number;
  readonly due: number;
  readonly outbound: readonly Sent[];
  readonly inbound: readonly Received[];
}

export class Ledger {
  #lastSent = 0;
  #lastReceived = 0;
  #due = 0;
  #urgent = false;
  #outbound: Sent[] = [];
  #inbound: Received[] = [];

  /** Processed inbound messages that have not been acknowledged: the MessageCount to send [3.1.4.2.1]. */
  get due(): number {
    return this.#due;
  }

  /** Whether a message among `due` asked for its acknowledgement at once. */
  get urgent(): boolean {
    return this.#urgent;
  }

  /** Numbers of messages sent and not acknowledged, oldest first. */
  get unacknowledged(): number[] {
    return this.#outbound.map((sent) => sent.message);
  }

  /** How many inbound messages wait to be processed, or for one before them. */
  get unprocessed(): number {
    return this.#inbound.length;
  }

  /** Enters a message that was sent whole; returns its number, from 1 on. */
  sent(sessionId: number): number {
    this.#lastSent += 1;
    this.#outbound.push({ message: this.#lastSent, sessionId });
    return this.#lastSent;
  }

  /** Takes the `count` oldest messages off [3.1.5.19]; undefined when there are not that many. */
  acknowledge(count: number): number[] | undefined {
    if (count > this.#outbound.length) return undefined;
    return this.#outbound.splice(0, count).map((sent) => sent.message);
  }

  /** The receiver closed the session: takes off the messages sent on it and returns their numbers. */
  dropOutbound(sessionId: number): number[] {
    const dropped = this.#outbound.filter((sent) => sent.sessionId === sessionId).map((sent) => sent.message);
    if (dropped.length > 0) this.#outbound = this.#outbound.filter((sent) => sent.sessionId !== sessionId);
    return dropped;
  }

  /** Enters a message that was received whole; returns its number, from 1 on. */
  received(sessionId: number, immediate: boolean): number {
    this.#lastReceived += 1;
    this.#inbound.push({ message: this.#lastReceived, sessionId, immediate, complete: false });
    return this.#lastReceived;
  }

  /**
   * Marks an inbound message as processed; those before the first unprocessed one become due [3.1.4.7].
   * Returns false when it is not on the list (any more); undefined when there never was such a message.
   */
  complete(message: number): boolean | undefined {
    if (!Number.isInteger(message) || message < 1 || message > this.#lastReceived) return undefined;
    let low = 0;
    let high = this.#inbound.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#inbound[middle] as Received).message < message) low = middle + 1;
      else high = middle;
    }
    const found = this.#inbound[low];
    if (found?.message !== message) return false;
    found.complete = true;
    this.#advance();
    return true;
  }

  /** This side closes the session: takes off the messages received on it that are not due yet. */
  dropInbound(sessionId: number): void {
    this.#inbound = this.#inbound.filter((received) => received.sessionId !== sessionId);
    this.#advance();
  }

  /** The MessageCount has been written: nothing is due any more. */
  acknowledgementSent(): void {
    this.#due = 0;
    this.#urgent = false;
  }

  snapshot(): LedgerSnapshot {
    return {
      lastSent: this.#lastSent,
      lastReceived: this.#lastReceived,
      due: this.#due,
      outbound: this.#outbound.map((sent) => ({ ...sent })),
      inbound: this.#inbound.map((received) => ({ ...received })),
    };
  }

  static restore(snapshot: LedgerSnapshot): Ledger {
    const ledger = new Ledger();
    ledger.#lastSent = snapshot.lastSent;
    ledger.#lastReceived = snapshot.lastReceived;
    ledger.#due = snapshot.due;
    ledger.#outbound = snapshot.outbound.map((sent) => ({ ...sent }));
    ledger.#inbound = snapshot.inbound.map((received) => ({ ...received }));
    return ledger;
  }

  #advance(): void {
    let count = 0;
    for (; this.#inbound[count]?.complete; count++) this.#urgent ||= (this.#inbound[count] as Received).immediate;
    this.#inbound.splice(0, count);
    this.#due += count;
  }
}
