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
  readonly complete: boolean;
}

/** A ledger as plain data; what was urgent has set off its acknowledgement by then. */
export interface LedgerSnapshot {
  readonly lastSent: number;
  readonly lastReceived: number;
  readonly due: number;
  readonly outbound: readonly Sent[];
  readonly inbound: readonly Received[];
}

/** Of a message received: flag A of its Message, and that it has been processed. */
const IMMEDIATE = 1;
const COMPLETE = 2;

/** Entries that were taken off are kept until there are so many, and as many as those that are left. */
const SLACK = 1024;

/**
 * Messages, oldest first; numbers ascend. There are thousands under way on a busy connection and each is entered and
 * taken off once, so neither may depend on how many there are; an entry is three numbers in columns, not an object.
 */
class MessageList {
  #numbers: number[] = [];
  #sessions: number[] = [];
  #marks: number[] = [];
  /** Index of the oldest. */
  #head = 0;

  get length(): number {
    return this.#numbers.length - this.#head;
  }

  add(message: number, sessionId: number, marks: number): void {
    this.#numbers.push(message);
    this.#sessions.push(sessionId);
    this.#marks.push(marks);
  }

  /** Marks of the `at`-th oldest; undefined when there are not that many. */
  marks(at: number): number | undefined {
    return this.#marks[this.#head + at];
  }

  /** Adds marks to a message. False when it is not on the list. */
  mark(message: number, marks: number): boolean {
    const index = this.#find(message);
    if (this.#numbers[index] !== message) return false;
    this.#marks[index] = (this.#marks[index] ?? 0) | marks;
    return true;
  }

  /** Takes the `count` oldest off. */
  drop(count: number): void {
    this.#head += count;
    const left = this.length;
    if (left > 0 && (this.#head < SLACK || this.#head < left)) return;
    this.#numbers = this.#numbers.slice(this.#head);
    this.#sessions = this.#sessions.slice(this.#head);
    this.#marks = this.#marks.slice(this.#head);
    this.#head = 0;
  }

  /** Numbers of the `count` oldest. */
  oldest(count: number): number[] {
    return this.#numbers.slice(this.#head, this.#head + count);
  }

  /** Takes the messages of a session off; returns their numbers. */
  dropSession(sessionId: number): number[] {
    const dropped: number[] = [];
    if (!this.#sessions.includes(sessionId, this.#head)) return dropped;
    const kept = new MessageList();
    this.each((message, session, marks) => {
      if (session === sessionId) dropped.push(message);
      else kept.add(message, session, marks);
    });
    this.#numbers = kept.#numbers;
    this.#sessions = kept.#sessions;
    this.#marks = kept.#marks;
    this.#head = 0;
    return dropped;
  }

  each(tell: (message: number, sessionId: number, marks: number) => void): void {
    for (let index = this.#head; index < this.#numbers.length; index++) {
      tell(this.#numbers[index] ?? 0, this.#sessions[index] ?? 0, this.#marks[index] ?? 0);
    }
  }

  /** Index of a message, or of the first above it. */
  #find(message: number): number {
    // Numbers follow each other but for those of sessions that were dropped: it is here, or between the oldest and here.
    const oldest = this.#numbers[this.#head] ?? message;
    let high = Math.min(this.#numbers.length, this.#head + Math.max(0, message - oldest));
    if (this.#numbers[high] === message) return high;
    let low = this.#head;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#numbers[middle] ?? 0) < message) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

export class Ledger {
  #lastSent = 0;
  #lastReceived = 0;
  #due = 0;
  #urgent = false;
  readonly #outbound = new MessageList();
  readonly #inbound = new MessageList();

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
    return this.#outbound.oldest(this.#outbound.length);
  }

  /** How many inbound messages wait to be processed, or for one before them. */
  get unprocessed(): number {
    return this.#inbound.length;
  }

  /** Enters a message that was sent whole; returns its number, from 1 on. */
  sent(sessionId: number): number {
    this.#lastSent += 1;
    this.#outbound.add(this.#lastSent, sessionId, 0);
    return this.#lastSent;
  }

  /** Takes the `count` oldest messages off [3.1.5.19]; undefined when there are not that many. */
  acknowledge(count: number): number[] | undefined {
    if (count > this.#outbound.length) return undefined;
    const messages = this.#outbound.oldest(count);
    this.#outbound.drop(count);
    return messages;
  }

  /** The receiver closed the session: takes off the messages sent on it and returns their numbers. */
  dropOutbound(sessionId: number): number[] {
    return this.#outbound.dropSession(sessionId);
  }

  /** Enters a message that was received whole; returns its number, from 1 on. */
  received(sessionId: number, immediate: boolean): number {
    this.#lastReceived += 1;
    this.#inbound.add(this.#lastReceived, sessionId, immediate ? IMMEDIATE : 0);
    return this.#lastReceived;
  }

  /**
   * Marks an inbound message as processed; those before the first unprocessed one become due [3.1.4.7].
   * Returns false when it is not on the list (any more); undefined when there never was such a message.
   */
  complete(message: number): boolean | undefined {
    if (!Number.isInteger(message) || message < 1 || message > this.#lastReceived) return undefined;
    if (!this.#inbound.mark(message, COMPLETE)) return false;
    this.#advance();
    return true;
  }

  /** This side closes the session: takes off the messages received on it that are not due yet. */
  dropInbound(sessionId: number): void {
    this.#inbound.dropSession(sessionId);
    this.#advance();
  }

  /** The MessageCount has been written: nothing is due any more. */
  acknowledgementSent(): void {
    this.#due = 0;
    this.#urgent = false;
  }

  snapshot(): LedgerSnapshot {
    const outbound: Sent[] = [];
    this.#outbound.each((message, sessionId) => outbound.push({ message, sessionId }));
    const inbound: Received[] = [];
    this.#inbound.each((message, sessionId, marks) => {
      inbound.push({
        message,
        sessionId,
        immediate: (marks & IMMEDIATE) !== 0,
        complete: (marks & COMPLETE) !== 0,
      });
    });
    return { lastSent: this.#lastSent, lastReceived: this.#lastReceived, due: this.#due, outbound, inbound };
  }

  static restore(snapshot: LedgerSnapshot): Ledger {
    const ledger = new Ledger();
    ledger.#lastSent = snapshot.lastSent;
    ledger.#lastReceived = snapshot.lastReceived;
    ledger.#due = snapshot.due;
    for (const { message, sessionId } of snapshot.outbound) ledger.#outbound.add(message, sessionId, 0);
    for (const { message, sessionId, immediate, complete } of snapshot.inbound) {
      ledger.#inbound.add(message, sessionId, (immediate ? IMMEDIATE : 0) | (complete ? COMPLETE : 0));
    }
    return ledger;
  }

  #advance(): void {
    let count = 0;
    for (;;) {
      const marks = this.#inbound.marks(count);
      if (marks === undefined || (marks & COMPLETE) === 0) break;
      this.#urgent ||= (marks & IMMEDIATE) !== 0;
      count += 1;
    }
    if (count === 0) return;
    this.#inbound.drop(count);
    this.#due += count;
  }
}
