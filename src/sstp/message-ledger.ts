/**
 * The OutboundMessageList and InboundMessageList of a connection [MS-GRVSSTP 3.1.1.2], which decide what an
 * acknowledgement covers.
 *
 * An acknowledgement is only a count of the oldest messages, so both sides' lists must agree although they are never
 * compared. When the receiver closes a session, some of its messages may be unprocessed or still in transit. Both sides
 * then remove that session's messages: the receiver when it sends Close (or a refusing OpenResponse), the sender when
 * it receives that. Commands stay in order in each direction, so counts before the Close include the messages and
 * counts after it do not (assumed; the published text does not say).
 */

interface Sent {
  readonly message: number;
  readonly sessionId: number;
}

interface Received {
  readonly message: number;
  readonly sessionId: number;
  /** Flag A of the Message. */
  readonly immediate: boolean;
  readonly complete: boolean;
}

/** A ledger as plain data. `urgent` is not saved: it has already triggered an acknowledgement. */
export interface LedgerSnapshot {
  readonly lastSent: number;
  readonly lastReceived: number;
  readonly due: number;
  readonly outbound: readonly Sent[];
  readonly inbound: readonly Received[];
}

/** Marks of a received message: flag A of its Message; processed. */
const IMMEDIATE = 1;
const COMPLETE = 2;

/** Removed entries are kept until there are this many, and at least as many as remain. */
const SLACK = 1024;

/**
 * Messages, oldest first, by ascending number. A busy connection has thousands in flight, so adding and removing one
 * must not depend on how many there are. An entry is three numbers in columns, not an object.
 */
class MessageList {
  #numbers: number[] = [];
  #sessions: number[] = [];
  #marks: number[] = [];
  /** Index of the oldest entry. */
  #head = 0;

  get length(): number {
    return this.#numbers.length - this.#head;
  }

  add(message: number, sessionId: number, marks: number): void {
    this.#numbers.push(message);
    this.#sessions.push(sessionId);
    this.#marks.push(marks);
  }

  /** Marks of the `at`-th oldest; undefined if there are fewer. */
  marks(at: number): number | undefined {
    return this.#marks[this.#head + at];
  }

  /** Adds marks to a message. False if it is not in the list. */
  mark(message: number, marks: number): boolean {
    const index = this.#find(message);
    if (this.#numbers[index] !== message) return false;
    this.#marks[index] = (this.#marks[index] ?? 0) | marks;
    return true;
  }

  /** Removes the `count` oldest. */
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

  /** Removes the messages of a session and returns their numbers. */
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

  /** Index of a message, or of the next higher one. */
  #find(message: number): number {
    // Numbers are consecutive except for dropped sessions, so the message is at this index or below it.
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

  /** Number of processed inbound messages not yet acknowledged: the next MessageCount [3.1.4.2.1]. */
  get due(): number {
    return this.#due;
  }

  /** Whether a message in `due` asked to be acknowledged at once. */
  get urgent(): boolean {
    return this.#urgent;
  }

  /** Numbers of messages sent and not yet acknowledged, oldest first. */
  get unacknowledged(): number[] {
    return this.#outbound.oldest(this.#outbound.length);
  }

  /** Number of inbound messages that are unprocessed, or behind one that is. */
  get unprocessed(): number {
    return this.#inbound.length;
  }

  /** Records a completely sent message. Returns its number, from 1. */
  sent(sessionId: number): number {
    this.#lastSent += 1;
    this.#outbound.add(this.#lastSent, sessionId, 0);
    return this.#lastSent;
  }

  /** Removes the `count` oldest messages [3.1.5.19]; undefined if there are fewer. */
  acknowledge(count: number): number[] | undefined {
    if (count > this.#outbound.length) return undefined;
    const messages = this.#outbound.oldest(count);
    this.#outbound.drop(count);
    return messages;
  }

  /** Removes the messages sent on a session that the receiver closed. Returns their numbers. */
  dropOutbound(sessionId: number): number[] {
    return this.#outbound.dropSession(sessionId);
  }

  /** Records a completely received message. Returns its number, from 1. */
  received(sessionId: number, immediate: boolean): number {
    this.#lastReceived += 1;
    this.#inbound.add(this.#lastReceived, sessionId, immediate ? IMMEDIATE : 0);
    return this.#lastReceived;
  }

  /**
   * Marks an inbound message as processed. Messages before the first unprocessed one become due [3.1.4.7]. Returns
   * false if it is no longer in the list, undefined if there never was such a message.
   */
  complete(message: number): boolean | undefined {
    if (!Number.isInteger(message) || message < 1 || message > this.#lastReceived) return undefined;
    if (!this.#inbound.mark(message, COMPLETE)) return false;
    this.#advance();
    return true;
  }

  /** Removes the messages of a session that this side closes, except those already due. */
  dropInbound(sessionId: number): void {
    this.#inbound.dropSession(sessionId);
    this.#advance();
  }

  /** Call when the MessageCount has been written: nothing is due any more. */
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
