/**
 * The room that a mailbox has reserved in the accounts of its senders, in pieces, so that few messages need a call:
 * QUOTA limits what one sender may have waiting in all mailboxes together, and only the sender's Meter knows the sum.
 *
 *   append ── more than is reserved ─► Meter of the sender: a larger piece, or no room
 *   alarm ── what waits has shrunk or was stored without asking ─► Meter: what is needed now
 *
 * The first messages of a sender far from its limit are stored before its account is asked (known-accounts.ts).
 *
 * What is reserved is a fact of the mailbox, recorded before the Meter is asked: if the answer is lost, or this object's
 * memory, what the account may have is still given back. What of it is used is a cached bound, replaced by the exact
 * figure when it no longer suffices.
 *
 * @module
 */
import { Turns } from "../../lib/read-write-lock.ts";
import { within } from "../../lib/runtime/timeout.ts";
import { isRelay } from "../../sstp/index.ts";
import type { Envelope } from "../../store-and-forward/envelope.ts";
import { senderOf } from "../../store-and-forward/sender-share.ts";
import { LEAST_PIECE, METER_TIMEOUT } from "../admission/limits.ts";
import { pieceFor } from "../admission/sender-account.ts";
import { noticeStorageFull } from "../disk-full.ts";
import { logError } from "../log.ts";
import type { MessageBatch } from "../rpc/message-batch.ts";
import type { MeterRpc, Reservation, Reserved } from "../rpc/meter-rpc.ts";
import { KnownAccounts } from "./known-accounts.ts";
import { SETTLE_CALLS, SETTLE_PAUSE, UNRESERVED } from "./limits.ts";
import { type MailboxStore, senderAt } from "./mailbox-store.ts";
import type { Facts } from "./room-waiters.ts";

const PREFIX = "reserved ";

/** What waits, in bytes. */
export interface InUse {
  /** Of all senders. */
  readonly all: number;
  /** Of a sender; costly to know. */
  of(sender: string): number;
}

/** What the reservations of a mailbox need of it. */
export interface ReservingMailbox {
  /** Its URL. */
  readonly peer: string;
  readonly store: MailboxStore;
  /** Whether a consumer is connected. */
  isConsumed(): boolean;
  /** Milliseconds until what was stored without asking is reserved, if it still waits. */
  unaskedTime(): number;
  /** The Meter with the account of a sender. */
  meterOf(sender: string): Pick<MeterRpc, "reserve">;
  /** Sets its alarm to this time or earlier. The alarm calls {@link SenderAccounts.settle}. */
  alarmBy(at: number): void;
}

/** What the mailboxes of this isolate know of accounts. */
const accounts = new KnownAccounts();

/** The accounts of its senders, as one mailbox uses them. */
export class SenderAccounts {
  readonly #mailbox: ReservingMailbox;
  readonly #store: MailboxStore;
  readonly #reservations: Reservations;
  /** Senders of which something was stored before their account was asked. The alarm asks it. */
  readonly #unasked = new Set<string>();
  /** By sender, the calls to its account, one at a time: the last one that it hears must be the newest. */
  readonly #calls = new Map<string, Turns>();
  #settling: Promise<boolean> | undefined;

  constructor(mailbox: ReservingMailbox) {
    this.#mailbox = mailbox;
    this.#store = mailbox.store;
    this.#reservations = new Reservations(mailbox.store);
  }

  /** Whether anything is reserved, or may be. */
  get some(): boolean {
    return this.#reservations.some;
  }

  /** What is left of a sender's reservation, in bytes. */
  left(sender: string): number {
    return this.#reservations.left(sender, this.#inUse);
  }

  /**
   * Whether messages may be stored without asking the account of their sender: they are within what is reserved, or a
   * connected consumer is about to read them.
   */
  covers(bundle: MessageBatch): boolean {
    const { envelopes, octets } = bundle;
    const sender = onlySourceIn(bundle);
    const known = senderAt(bundle, 0);
    const now = Date.now();
    if (this.#isExempt(octets) && !accounts.isSpent(known, now)) {
      // The account of a sender that sends more than a little is asked now and then whether it is spent.
      if (this.#store.octets + octets.length > LEAST_PIECE && !accounts.has(known, now)) return false;
      this.#reservations.forgetUse(sender);
      return true;
    }
    const unasked = accounts.isAmple(known, now) || this.#unasked.has(sender) ? LEAST_PIECE : 0;
    const covers = this.#reservations.cover(sender, storedLength(envelopes, octets), this.#inUse, unasked);
    // What nobody has taken by then is reserved.
    if (covers && this.#reservations.of(sender) < unasked) {
      if (!this.#unasked.has(sender)) accounts.storedUnasked(known, now);
      this.#unasked.add(sender);
      this.#mailbox.alarmBy(now + this.#mailbox.unaskedTime());
    }
    return covers;
  }

  /** Reserves room for messages in the account of their sender. Returns false if there is none. */
  reserve(bundle: MessageBatch): Promise<boolean> {
    const { envelopes, octets } = bundle;
    const sender = onlySourceIn(bundle);
    const identity = senderAt(bundle, 0);
    return this.#inTurn(sender, async () => {
      // A call before this one may have reserved enough.
      if (this.covers(bundle)) return true;
      if (this.#isExempt(octets) && !accounts.has(identity, Date.now())) {
        const wanted = this.#reservations.of(sender);
        await this.#ask(sender, { needed: 0, wanted, stored: true, identity });
        if (this.covers(bundle)) return true;
      }
      const before = this.#reservations.of(sender);
      const needed = this.#store.octetsOf(sender) + storedLength(envelopes, octets);
      const wanted = pieceFor(needed);
      try {
        this.#reservations.ask(sender, wanted);
        const asked = await this.#ask(sender, { needed, wanted, stored: false, identity });
        if (asked === undefined) {
          this.#reservations.presume(sender);
          this.settleSoon();
          return true;
        }
        this.#reservations.set(sender, asked.value?.octets ?? before);
        return asked.value !== undefined;
      } catch (error) {
        // The messages will be refused for the same reason.
        if (!noticeStorageFull(error)) throw error;
        return true;
      }
    });
  }

  /** Whether messages without a reservation are accepted all the same, as fast as the consumer takes them. */
  drains(bundle: MessageBatch): boolean {
    if (!this.#mailbox.isConsumed() || this.#store.octets + bundle.octets.length > 2 * UNRESERVED) return false;
    return !accounts.isSpent(senderAt(bundle, 0), Date.now());
  }

  /** Adjusts what is reserved to what waits. Resolves to whether there was anything to adjust. */
  settle(): Promise<boolean> {
    this.#settling ??= this.#settleAll().finally(() => {
      this.#settling = undefined;
    });
    return this.#settling;
  }

  /** Has the alarm adjust what is reserved. */
  settleSoon(): void {
    this.#mailbox.alarmBy(Date.now() + SETTLE_PAUSE);
  }

  async #settleAll(): Promise<boolean> {
    const isUnread = this.#store.waitsSince(Date.now() - SETTLE_PAUSE);
    const grow = !this.#mailbox.isConsumed() || this.#store.octets > UNRESERVED || isUnread;
    if (grow) this.#unasked.clear();
    if (!this.some && (!grow || this.#store.messages === 0)) return false;
    const due = this.#reservations.due(this.#store.octetsBySender(), grow);
    for (let at = 0; at < due.length; at += SETTLE_CALLS) {
      await Promise.all(due.slice(at, at + SETTLE_CALLS).map(([sender]) => this.#settleOne(sender)));
    }
    return true;
  }

  async #settleOne(sender: string): Promise<void> {
    try {
      const settled = await this.#inTurn(sender, async () => {
        const wanted = pieceFor(this.#store.octetsOf(sender));
        this.#reservations.ask(sender, wanted);
        const identity = isRelay(sender) ? this.#store.mainIdentityOf(sender) : undefined;
        const asked = await this.#ask(sender, { needed: 0, wanted, stored: true, identity });
        if (asked?.value === undefined) return false;
        const { octets } = asked.value;
        this.#reservations.set(sender, octets);
        // Messages that arrived during the call were covered by the larger piece.
        return this.#store.octetsOf(sender) <= octets;
      });
      if (!settled) this.settleSoon();
    } catch (error) {
      if (!noticeStorageFull(error)) logError(error);
      this.settleSoon();
    }
  }

  /** Whether a connected consumer is about to read messages, so that they need not be reserved. */
  #isExempt(octets: Uint8Array): boolean {
    return this.#mailbox.isConsumed() && this.#store.octets + octets.length <= UNRESERVED;
  }

  get #inUse(): InUse {
    return { all: this.#store.octets, of: (sender) => this.#store.octetsOf(sender) };
  }

  /** Runs a call to the account of a sender after all earlier ones. */
  #inTurn<T>(sender: string, call: () => Promise<T>): Promise<T> {
    const turns = this.#calls.get(sender) ?? new Turns();
    this.#calls.set(sender, turns);
    return turns.alone(call).finally(() => {
      if (turns.count === 0) this.#calls.delete(sender);
    });
  }

  /** Asks the account of a sender. Returns undefined if it does not answer. */
  async #ask(
    sender: string,
    { identity = sender, ...needs }: Reservation,
  ): Promise<{ readonly value: Reserved | undefined } | undefined> {
    const reservation = { ...needs, ...(identity !== sender && { identity }) };
    const { peer } = this.#mailbox;
    const reserved = this.#mailbox.meterOf(sender).reserve(peer, reservation);
    const asked = await within(METER_TIMEOUT, reserved).catch(() => undefined);
    if (asked !== undefined && asked.value === undefined) accounts.refused(identity);
    // An outage of the Meter must not become an outage of the edge.
    else accounts.heard(identity, asked?.value ?? { isAmple: false, isSpent: false }, Date.now());
    return asked;
  }
}

/** The sender of a batch: everything that one object brings has one source. */
function onlySourceIn({ envelopes }: MessageBatch): string {
  return senderOf(envelopes[0]?.source ?? "");
}

/** About what messages take in the store. */
function storedLength(envelopes: readonly Envelope[], octets: Uint8Array): number {
  return envelopes.reduce((sum, envelope) => sum + JSON.stringify(envelope).length, octets.length);
}

/** What is reserved and what of it is used, in bytes by sender. */
export class Reservations {
  readonly #facts: Facts;
  /** By sender, the most that its account may have. */
  readonly #recorded = new Map<string, number>();
  /** By sender, what its account has granted. */
  readonly #reserved = new Map<string, number>();
  /** Senders whose account has not answered the last call. */
  readonly #asked = new Set<string>();
  /** At least what waits of a sender. */
  readonly #used = new Map<string, number>();

  constructor(facts: Facts) {
    this.#facts = facts;
    for (const [sender, octets] of facts.facts(PREFIX)) {
      this.#recorded.set(sender, Number(octets));
      this.#reserved.set(sender, Number(octets));
    }
  }

  /** Whether anything is reserved, or may be. */
  get some(): boolean {
    return this.#recorded.size > 0;
  }

  /** What is reserved for a sender. */
  of(sender: string): number {
    return this.#reserved.get(sender) ?? 0;
  }

  /** What is left of a sender's reservation. */
  left(sender: string, inUse: InUse): number {
    return Math.max(0, this.of(sender) - inUse.of(sender));
  }

  /**
   * Whether a sender may add this many bytes without asking. If so, they count as used.
   *
   * @param unasked what it may have waiting without a reservation, in bytes
   */
  cover(sender: string, octets: number, inUse: InUse, unasked = 0): boolean {
    const reserved = Math.max(this.of(sender), unasked);
    let used = Math.min(this.#used.get(sender) ?? Number.POSITIVE_INFINITY, inUse.all);
    if (used + octets > reserved) used = inUse.of(sender);
    const covers = used + octets <= reserved;
    if (this.#used.size > CACHED_SENDERS) this.#used.clear();
    if (covers) this.#used.set(sender, used + octets);
    else this.forgetUse(sender);
    return covers;
  }

  /** Call when messages of a sender are stored that {@link cover} has not counted. */
  forgetUse(sender: string): void {
    this.#used.delete(sender);
  }

  /** Records what the account of a sender is about to be asked for. */
  ask(sender: string, octets: number): void {
    this.#record(sender, Math.max(octets, this.#recorded.get(sender) ?? 0));
    this.#asked.add(sender);
  }

  /** Takes what was asked for as granted, since the account has not answered. It is asked again. */
  presume(sender: string): void {
    this.#reserved.set(sender, this.#recorded.get(sender) ?? 0);
    this.forgetUse(sender);
  }

  /** Sets what the account of a sender has. */
  set(sender: string, octets: number): void {
    this.#record(sender, octets);
    if (octets === 0) this.#reserved.delete(sender);
    else this.#reserved.set(sender, octets);
    this.#asked.delete(sender);
    this.forgetUse(sender);
  }

  #record(sender: string, octets: number): void {
    if ((this.#recorded.get(sender) ?? 0) === octets) return;
    if (octets === 0) {
      this.#facts.removeFact(PREFIX + sender);
      this.#recorded.delete(sender);
    } else {
      this.#facts.setFact(PREFIX + sender, String(octets));
      this.#recorded.set(sender, octets);
    }
  }

  /**
   * The reservations that no longer fit.
   *
   * @param waiting what waits of each sender, in bytes
   * @param grow whether what was stored without asking is to be reserved too
   * @returns senders, and what to reserve for each
   */
  due(waiting: ReadonlyMap<string, number>, grow: boolean): [sender: string, octets: number][] {
    const due: [string, number][] = [];
    for (const sender of this.#recorded.keys()) {
      const reserved = this.of(sender);
      const needed = pieceFor(waiting.get(sender) ?? 0);
      // A piece is kept until it is much too large: what shrinks by a little may grow again.
      const isWrong = needed === 0 || needed * 4 <= reserved || (grow && needed > reserved);
      if (isWrong || this.#asked.has(sender)) due.push([sender, needed]);
    }
    if (!grow) return due;
    for (const [sender, octets] of waiting) {
      if (!this.#recorded.has(sender) && octets > 0) due.push([sender, pieceFor(octets)]);
    }
    return due;
  }
}

/** Senders whose bound is cached. */
const CACHED_SENDERS = 1000;
