/**
 * A mailbox that a connection consumes: which of its messages are here, which are set aside, and which sender each
 * message goes to. Pure: OutboundMessages drives it.
 *
 *   given ─► queue of its sender ─► sent ─► done
 *     │  session not ready, enough such messages here ► aside with its sender ─┐
 *     │  no sender left for its destination ──────────► crowded out ───────────┤ given again when that has changed
 *     │  session fails repeatedly ────────────────────► aside with its sender ─┤ given again after a while
 *     │  refused for its size ────────────────────────► later, out of order ───┘
 *     └► session refused ─────────────────────────────► declined, on this connection
 *
 * A mailbox gives messages in the order of their numbers, and gives requested ones again in that order. The invariant
 * here: no message passes one of its destination that is aside or crowded out. That keeps the messages of a destination
 * in order.
 *
 * @module
 */
import { Queue } from "../../lib/queue.ts";
import { type Range, Ranges } from "../../lib/ranges.ts";
import type { Mail } from "../../store-and-forward/envelope.ts";
import { SessionSlot } from "../../store-and-forward/session-pool.ts";
import { DeliveryReportDraft } from "../rpc/delivery-report.ts";
import { SUSPENDED_MESSAGES, SUSPENDED_OCTETS } from "./limits.ts";

/** A message waiting to be sent. */
export interface Waiting {
  /** Its number in its mailbox; undefined for a volatile message, which no mailbox keeps. */
  readonly seq: number | undefined;
  readonly mail: Mail;
  readonly size: number;
  /** Whether no other message is in the memory that it came in. */
  readonly alone?: boolean;
}

/** The message being sent, and how much of it has been. */
export interface Current {
  readonly message: Waiting;
  at: number;
}

/** A destination of one mailbox's messages: its queue, in order, and its session. */
export class Sender extends SessionSlot {
  readonly box: MailboxSubscription;
  readonly queue = new Queue<Waiting>();
  /** Size of the queue, without volatile messages. */
  octets = 0;
  messages = 0;
  /** Bytes of volatile messages in the queue. */
  volatile = 0;
  /** Whether they are streamed: their senders wait for room. */
  streams = false;
  /** Since when the session is suspended, in milliseconds since 1970; undefined if it is not. */
  suspendedAt: number | undefined;
  current: Current | undefined;
  /** What its session counts against LINK_ADDRESSING; 0 if that does not apply. */
  addressing = 0;
  /** Messages sent and not acknowledged. */
  outstanding = 0;
  /** Messages in the mailbox that wait for this sender. */
  readonly aside: Ranges;
  /** Whether none of its messages is crowded out. */
  clean = true;
  /** Number of messages to send one at a time, to learn which one is refused. */
  probing = 0;
  /** Whether anything was sent on its session since it was opened. */
  used = false;
  /** Closed sessions, and refused messages, since the last acknowledgement. */
  failures = 0;
  refusals = 0;
  /** Nothing is sent before this time. */
  until = 0;
  /** Whether it is queued for its turn. */
  inTurn = false;

  constructor(key: string, box: MailboxSubscription, aside = new Ranges()) {
    super(key);
    this.box = box;
    this.aside = aside;
  }

  /**
   * Whether nothing waits for its session, here or in the mailbox, and the device has acknowledged everything sent on
   * it. Acknowledgements after the session's Close are ignored.
   */
  get isIdle(): boolean {
    const waits = this.current !== undefined || this.queue.first !== undefined || this.aside.count > 0;
    return !waits && this.outstanding === 0;
  }

  /** Bytes that are streamed to it and wait, or are being sent. */
  get streamed(): number {
    return this.streams ? this.volatile + (this.current?.message.size ?? 0) : 0;
  }

  push(message: Waiting): void {
    this.queue.push(message);
    this.#count(message, 1);
  }

  /** Takes the next message off the queue. */
  next(): Waiting | undefined {
    const message = this.queue.shift();
    if (message !== undefined) this.#count(message, -1);
    return message;
  }

  /**
   * Takes the messages that a mailbox keeps off the queue. Volatile ones stay.
   *
   * @param keep bytes and messages that may stay, from the front
   * @returns numbers, in order
   */
  takeOff(keep = { octets: 0, messages: 0 }): number[] {
    const all = [...this.queue];
    this.queue.clear();
    const off: number[] = [];
    let [octets, messages] = [0, 0];
    for (const message of all) {
      octets += message.size;
      messages += 1;
      if (message.seq === undefined || (off.length === 0 && octets <= keep.octets && messages <= keep.messages)) {
        this.queue.push(message);
      } else {
        off.push(message.seq);
        this.#count(message, -1);
      }
    }
    return off;
  }

  #count({ seq, size }: Waiting, sign: 1 | -1): void {
    if (seq === undefined) {
      this.volatile += sign * size;
      return;
    }
    this.octets += sign * size;
    this.messages += sign;
    this.box.hold(this, sign * size, sign);
  }
}

/** What a subscription needs from its connection. */
export interface Senders {
  /** Returns a destination's sender, if it has one. */
  find(key: string): Sender | undefined;
  /** Creates a sender; undefined if there is no room. */
  make(key: string): Sender | undefined;
  /** Whether the device has refused the destination on this connection. */
  isDeclined(key: string): boolean;
}

/** A pass: the mailbox gives the messages that were crowded out again, in order, to senders that now have room. */
interface Pass {
  /** The last message that has come, and the last one to come. */
  at: number;
  end: number;
  /** One message found no room. Later ones must not take room that becomes free meanwhile. */
  closed: boolean;
}

/** MailboxSubscription as plain data, after the mailbox has received every report. */
export interface SubscriptionSnapshot {
  readonly generation: number;
  readonly delivered: number;
  readonly declined: readonly (readonly [number, number])[];
  readonly later: readonly (readonly [number, number])[];
  readonly crowded: readonly (readonly [number, number])[];
}

export class MailboxSubscription {
  readonly peer: string;
  /** A promise until the mailbox has assigned the generation. */
  generation: number | Promise<number>;
  /** The last message that the mailbox has given. */
  #delivered = 0;
  readonly #declined: Ranges;
  readonly #later: Ranges;
  readonly #crowded: Ranges;
  #pass: Pass | undefined;
  /** What is here for sessions that are not ready. */
  #heldOctets = 0;
  #heldMessages = 0;
  #draft = new DeliveryReportDraft();
  /** A report is under way. */
  telling = false;

  constructor(peer: string, generation: number | Promise<number>, snapshot?: SubscriptionSnapshot) {
    this.peer = peer;
    this.generation = generation;
    this.#delivered = snapshot?.delivered ?? 0;
    this.#declined = new Ranges(snapshot?.declined);
    this.#later = new Ranges(snapshot?.later);
    this.#crowded = new Ranges(snapshot?.crowded);
  }

  snapshot(): SubscriptionSnapshot {
    return {
      generation: Number(this.generation),
      delivered: this.#delivered,
      declined: [...this.#declined],
      later: [...this.#later],
      crowded: [...this.#crowded],
    };
  }

  get draft(): DeliveryReportDraft {
    return this.#draft;
  }

  /** Whether messages wait for a sender. */
  get isCrowded(): boolean {
    return this.#crowded.count > 0 && this.#pass === undefined;
  }

  /** Bytes of messages here for sessions that are not ready. */
  get heldOctets(): number {
    return this.#heldOctets;
  }

  /** Takes the pending report, and starts a new one. */
  takeReport(): DeliveryReportDraft {
    const draft = this.#draft;
    this.#draft = new DeliveryReportDraft();
    return draft;
  }

  /**
   * Returns the sender that a given message goes to; undefined if it goes to none now.
   *
   * @param isHere whether a message waits here, or is sent and not acknowledged
   */
  place(
    seq: number,
    size: number,
    key: string,
    senders: Senders,
    isHere: (seq: number) => boolean,
  ): Sender | undefined {
    const isNew = seq > this.#delivered;
    if (isNew) this.#delivered = seq;
    else if (isHere(seq)) return undefined;
    const sender = senders.find(key);
    if (!isNew && !this.#isAside(seq, sender)) {
      // The mailbox has lost the report.
      this.#draft.done(seq);
      return undefined;
    }
    if (senders.isDeclined(key)) {
      this.#later.delete(seq);
      this.#crowded.delete(seq);
      this.decline(seq);
      return undefined;
    }
    if (!isNew) this.#declined.delete(seq);
    if (this.#later.count > 0 && this.#later.has(seq)) {
      // It has lost its place: later messages did not wait. It is sent by itself, to see whether it is accepted now.
      const again = sender ?? this.#make(key, senders);
      if (again === undefined) {
        this.#draft.putOff(seq);
        return undefined;
      }
      this.#later.delete(seq);
      again.probing = Math.max(again.probing, 1);
      return again;
    }
    if (sender?.clean) return this.#admit(seq, size, sender);
    return this.#enter(seq, size, key, sender, senders);
  }

  /** Updates the counts when a session becomes ready or stops being ready. */
  changed(sender: Sender, before: boolean, now: boolean): void {
    if (before === now) return;
    const sign = now ? -1 : 1;
    this.#heldOctets += sign * sender.octets;
    this.#heldMessages += sign * sender.messages;
    if (now) this.askFor(sender);
  }

  /** Counts a change of a sender's queue. */
  hold(sender: Sender, octets: number, messages: number): void {
    if (sender.state === "ready") return;
    this.#heldOctets += octets;
    this.#heldMessages += messages;
  }

  /** How much of a sender's queue may stay here while its session is not ready. */
  allowance({ octets, messages }: Sender): { readonly octets: number; readonly messages: number } {
    return {
      octets: Math.max(0, SUSPENDED_OCTETS - (this.#heldOctets - octets)),
      messages: Math.max(0, SUSPENDED_MESSAGES - (this.#heldMessages - messages)),
    };
  }

  /** Leaves a message in the mailbox until its sender is ready. */
  setAside(seq: number, sender: Sender): void {
    sender.aside.add(seq);
    this.#draft.setAside(seq);
  }

  /** Asks for all messages that wait in the mailbox for a sender. */
  askFor({ aside }: Sender): void {
    for (const [from, to] of aside) this.#draft.askAgain(from, to);
  }

  decline(seq: number): void {
    this.#declined.add(seq);
    this.#draft.decline(seq);
  }

  /** Leaves a message in the mailbox, to be offered again after a while. */
  putOff(seq: number, sender: Sender): void {
    sender.aside.add(seq);
    this.#draft.putOff(seq);
  }

  /** Records that the device refuses a message for its size. */
  refuse(seq: number): void {
    this.#later.add(seq);
    this.#draft.refuse(seq);
  }

  /** Asks for crowded-out messages, when there may be room for more senders. */
  askForCrowded(): void {
    const end = this.#crowded.last;
    if (this.#pass !== undefined || end === undefined) return;
    this.#pass = { at: 0, end, closed: false };
    for (const [from, to] of this.#crowded) this.#draft.askAgain(from, to);
  }

  /** Forgets all messages up to `position`, which have left the mailbox, acknowledged here or not. */
  prune(position: number, senders: Iterable<Sender>): void {
    for (const ranges of [this.#declined, this.#later, this.#crowded]) dropUpTo(ranges, position);
    for (const { box, aside } of senders) if (box === this) dropUpTo(aside, position);
    this.endPass(senders);
  }

  /** Forgets requested messages that their sender has withdrawn. */
  forget(gone: readonly Range[], senders: Iterable<Sender>): void {
    if (gone.length === 0) return;
    const sets = [this.#declined, this.#later, this.#crowded];
    for (const { box, aside } of senders) if (box === this) sets.push(aside);
    for (const ranges of sets) for (const [from, to] of gone) ranges.delete(from, to);
    this.endPass(senders);
  }

  /** Ends the pass when all of it has come. */
  endPass(senders: Iterable<Sender>): void {
    const pass = this.#pass;
    if (pass === undefined || (this.#crowded.next(pass.at + 1) ?? Number.POSITIVE_INFINITY) <= pass.end) return;
    this.#pass = undefined;
    for (const sender of senders) if (sender.box === this) sender.clean = true;
  }

  #isAside(seq: number, sender: Sender | undefined): boolean {
    return sender?.aside.has(seq) === true || this.#later.has(seq) || this.#crowded.has(seq) || this.#declined.has(seq);
  }

  /** Places a message whose destination has no sender, or may have crowded-out messages. */
  #enter(seq: number, size: number, key: string, sender: Sender | undefined, senders: Senders): Sender | undefined {
    const pass = this.#pass;
    const before = this.#crowded.next((pass?.at ?? 0) + 1);
    if (before !== undefined && before < seq) {
      this.#crowded.add(seq);
      if (pass === undefined) this.#draft.setAside(seq);
      else {
        pass.end = Math.max(pass.end, seq);
        this.#draft.askAgain(seq);
      }
      return undefined;
    }
    if (pass !== undefined) pass.at = Math.max(pass.at, seq);
    const found = sender ?? (pass?.closed ? undefined : this.#make(key, senders));
    if (found === undefined) {
      this.#crowded.add(seq);
      this.#draft.setAside(seq);
      if (pass !== undefined) pass.closed = true;
    } else {
      this.#crowded.delete(seq);
    }
    return found && this.#admit(seq, size, found);
  }

  #make(key: string, senders: Senders): Sender | undefined {
    const sender = senders.make(key);
    if (sender !== undefined) sender.clean = this.#crowded.count === 0;
    return sender;
  }

  /** Places a message of a sender whose other messages are all here, settled, or aside with it. */
  #admit(seq: number, size: number, sender: Sender): Sender | undefined {
    if (sender.until > Date.now()) {
      this.putOff(seq, sender);
      return undefined;
    }
    const first = sender.aside.first;
    if (first !== undefined && first < seq) {
      // Too early. A ready session has asked for the messages before it; this one follows them.
      sender.aside.add(seq);
      if (sender.state === "ready") this.#draft.askAgain(seq);
      else this.#draft.setAside(seq);
      return undefined;
    }
    if (sender.state !== "ready" && !this.#hasRoom(size)) {
      this.setAside(seq, sender);
      return undefined;
    }
    if (first !== undefined) sender.aside.delete(seq);
    return sender;
  }

  #hasRoom(size: number): boolean {
    return this.#heldOctets + size <= SUSPENDED_OCTETS && this.#heldMessages < SUSPENDED_MESSAGES;
  }
}

function dropUpTo(ranges: Ranges, position: number): void {
  if (ranges.count > 0) ranges.delete(0, position);
}
