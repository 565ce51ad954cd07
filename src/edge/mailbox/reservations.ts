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
import { pieceFor } from "../admission/sender-account.ts";
import type { Facts } from "./room-waiters.ts";

const PREFIX = "reserved ";

/** What waits, in bytes. */
export interface InUse {
  /** Of all senders. */
  readonly all: number;
  /** Of a sender; costly to know. */
  of(sender: string): number;
}

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
