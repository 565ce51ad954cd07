/**
 * A mailbox that a connection consumes: which of its messages are here, which are set aside, and on which sender a message
 * goes. Pure: the Outlet drives it.
 *
 *   given ─► queue of its sender ─► sent ─► done
 *     │  its session is not ready, and enough of such is here ─► aside with its sender ─┐
 *     │  there is no sender left for its destination ─────────► crowded out ────────────┤ given again when that has changed
 *     │  its session fails again and again ───────────────────► aside with its sender ──┤ given again after a while
 *     │  refused for its size ────────────────────────────────► later, out of order ────┘
 *     └► its session is refused ──────────────────────────────► declined, on this connection
 *
 * A mailbox gives messages in the order of their numbers, and again in that order what it is asked for. So the messages of
 * one destination keep their order as long as none passes one that is aside or crowded out: that is the invariant here.
 *
 * @module
 */
import { Queue } from "../../lib/queue.ts";
import { type Range, Ranges } from "../../lib/ranges.ts";
import type { Mail } from "../../store-and-forward/envelope.ts";
import { SessionSlot } from "../../store-and-forward/session-pool.ts";
import { DeliveryReportDraft } from "../rpc/delivery-report.ts";
import { SUSPENDED_MESSAGES, SUSPENDED_OCTETS } from "./limits.ts";

/** A message that waits to be sent; number 0 is one that nobody keeps. */
export interface Waiting {
  readonly seq: number;
  readonly mail: Mail;
  readonly size: number;
}

/** The message that is being sent, and how much of it is. */
export interface Current {
  readonly message: Waiting;
  at: number;
}

/** A destination of one mailbox's messages: what waits for it, in order, and its session. */
export class Sender extends SessionSlot {
  readonly box: MailboxSubscription;
  readonly queue = new Queue<Waiting>();
  /** What is in the queue of those that a mailbox keeps. */
  octets = 0;
  messages = 0;
  /** Octets in the queue that nobody keeps. */
  volatile = 0;
  current: Current | undefined;
  /** Sent and not acknowledged. */
  outstanding = 0;
  /** In the mailbox, waiting for this sender. */
  readonly aside: Ranges;
  /** None of its messages is crowded out. */
  clean = true;
  /** How many messages go one at a time, so that it is known which one is refused. */
  probing = 0;
  /** Something was sent on its session since it was opened. */
  used = false;
  /** Sessions that were closed, and messages that were refused, since the last acknowledgement. */
  failures = 0;
  refusals = 0;
  /** Nothing is sent before this time. */
  until = 0;
  /** It waits for its turn. */
  inTurn = false;

  constructor(key: string, box: MailboxSubscription, aside = new Ranges()) {
    super(key);
    this.box = box;
    this.aside = aside;
  }

  /**
   * Whether nothing waits for its session, here or in the mailbox, and the device has acknowledged all that was sent on it:
   * what it acknowledges after the Close of the session is not heard.
   */
  get isIdle(): boolean {
    const waits = this.current !== undefined || this.queue.first !== undefined || this.aside.count > 0;
    return !waits && this.outstanding === 0;
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
   * Takes off the queue what a mailbox keeps; the rest stays.
   *
   * @param keep octets and messages that may stay, from the front
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
      if (message.seq === 0 || (off.length === 0 && octets <= keep.octets && messages <= keep.messages)) {
        this.queue.push(message);
      } else {
        off.push(message.seq);
        this.#count(message, -1);
      }
    }
    return off;
  }

  #count({ seq, size }: Waiting, sign: 1 | -1): void {
    if (seq === 0) {
      this.volatile += sign * size;
      return;
    }
    this.octets += sign * size;
    this.messages += sign;
    this.box.hold(this, sign * size, sign);
  }
}

/** What a subscription asks of the connection that it is one of. */
export interface Senders {
  /** The sender of a destination, if there is one. */
  find(key: string): Sender | undefined;
  /** A new one; undefined when there is no room. */
  make(key: string): Sender | undefined;
  /** Whether the device has refused the destination on this connection. */
  isDeclined(key: string): boolean;
}

/** Messages that are crowded out are being given again, in order, to those senders for which there is room now. */
interface Pass {
  /** The last that has come, and the last that will. */
  at: number;
  end: number;
  /** There was no room for one of them: those behind it must not get what becomes free meanwhile. */
  closed: boolean;
}

/** MailboxSubscription as plain data, once the mailbox has been told everything. */
export interface SubscriptionSnapshot {
  readonly generation: number;
  readonly delivered: number;
  readonly declined: readonly (readonly [number, number])[];
  readonly later: readonly (readonly [number, number])[];
  readonly crowded: readonly (readonly [number, number])[];
}

export class MailboxSubscription {
  readonly peer: string;
  /** Settled once the mailbox has said by which number it knows us. */
  generation: number | Promise<number>;
  /** The last message that the mailbox has given us. */
  #delivered = 0;
  readonly #declined: Ranges;
  readonly #later: Ranges;
  readonly #crowded: Ranges;
  #pass: Pass | undefined;
  /** What is here of sessions that are not ready. */
  #heldOctets = 0;
  #heldMessages = 0;
  #draft = new DeliveryReportDraft();
  /** The mailbox is being told. */
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

  /** Whether messages wait for a sender of theirs. */
  get isCrowded(): boolean {
    return this.#crowded.count > 0 && this.#pass === undefined;
  }

  /** Octets of messages for sessions that are not ready. */
  get heldOctets(): number {
    return this.#heldOctets;
  }

  /** What the mailbox is to be told; nothing of it is told again. */
  takeReport(): DeliveryReportDraft {
    const draft = this.#draft;
    this.#draft = new DeliveryReportDraft();
    return draft;
  }

  /**
   * Where a message goes that the mailbox gives; undefined when not to a sender now.
   *
   * @param isHere whether a message waits here or is sent and not acknowledged
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
      // The mailbox has forgotten that it was told.
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
      // It has lost its place, and what was behind it did not wait. It goes by itself, to see whether it is taken now.
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

  /** A session may be sent on, or may not any more: what waits for it is counted in another way. */
  changed(sender: Sender, before: boolean, now: boolean): void {
    if (before === now) return;
    const sign = now ? -1 : 1;
    this.#heldOctets += sign * sender.octets;
    this.#heldMessages += sign * sender.messages;
    if (now) this.askFor(sender);
  }

  /** What is here for a sender becomes more or less. */
  hold(sender: Sender, octets: number, messages: number): void {
    if (sender.state === "ready") return;
    this.#heldOctets += octets;
    this.#heldMessages += messages;
  }

  /** How much of a sender's queue may stay here, when its session is not ready. */
  allowance({ octets, messages }: Sender): { readonly octets: number; readonly messages: number } {
    return {
      octets: Math.max(0, SUSPENDED_OCTETS - (this.#heldOctets - octets)),
      messages: Math.max(0, SUSPENDED_MESSAGES - (this.#heldMessages - messages)),
    };
  }

  /** A message waits in the mailbox for its sender. */
  setAside(seq: number, sender: Sender): void {
    sender.aside.add(seq);
    this.#draft.setAside(seq);
  }

  /** All that waits in the mailbox for a sender is given again. */
  askFor({ aside }: Sender): void {
    for (const [from, to] of aside) this.#draft.askAgain(from, to);
  }

  decline(seq: number): void {
    this.#declined.add(seq);
    this.#draft.decline(seq);
  }

  /** A message waits in the mailbox for its sender, which is to be asked after a while. */
  putOff(seq: number, sender: Sender): void {
    sender.aside.add(seq);
    this.#draft.putOff(seq);
  }

  /** The device refuses a message for its size. */
  refuse(seq: number): void {
    this.#later.add(seq);
    this.#draft.refuse(seq);
  }

  /** There may be room for more senders. */
  askForCrowded(): void {
    const end = this.#crowded.last;
    if (this.#pass !== undefined || end === undefined) return;
    this.#pass = { at: 0, end, closed: false };
    for (const [from, to] of this.#crowded) this.#draft.askAgain(from, to);
  }

  /** Everything up to a message has left the mailbox, also what was never acknowledged here: it is not waited for. */
  prune(position: number, senders: Iterable<Sender>): void {
    for (const ranges of [this.#declined, this.#later, this.#crowded]) dropUpTo(ranges, position);
    for (const { box, aside } of senders) if (box === this) dropUpTo(aside, position);
    this.endPass(senders);
  }

  /** Messages that were asked for again have left the mailbox, since their sender has taken them back. */
  forget(gone: readonly Range[], senders: Iterable<Sender>): void {
    if (gone.length === 0) return;
    const sets = [this.#declined, this.#later, this.#crowded];
    for (const { box, aside } of senders) if (box === this) sets.push(aside);
    for (const ranges of sets) for (const [from, to] of gone) ranges.delete(from, to);
    this.endPass(senders);
  }

  /** A pass is over when all of it has come. */
  endPass(senders: Iterable<Sender>): void {
    const pass = this.#pass;
    if (pass === undefined || (this.#crowded.next(pass.at + 1) ?? Number.POSITIVE_INFINITY) <= pass.end) return;
    this.#pass = undefined;
    for (const sender of senders) if (sender.box === this) sender.clean = true;
  }

  #isAside(seq: number, sender: Sender | undefined): boolean {
    return sender?.aside.has(seq) === true || this.#later.has(seq) || this.#crowded.has(seq) || this.#declined.has(seq);
  }

  /** A message of a destination of which some may be crowded out, or that has no sender. */
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

  /** A message of a sender all of whose messages are here, done with, or aside with it. */
  #admit(seq: number, size: number, sender: Sender): Sender | undefined {
    if (sender.until > Date.now()) {
      this.putOff(seq, sender);
      return undefined;
    }
    const first = sender.aside.first;
    if (first !== undefined && first < seq) {
      // Too early. A session that is ready has been asked for those before it, and this one comes behind them.
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
