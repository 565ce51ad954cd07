/**
 * The room that a mailbox has reserved in the accounts of its senders, in pieces, so that few messages need a call:
 * QUOTA limits what one sender may have waiting in all mailboxes together, and only the sender's Meter knows the sum.
 *
 *   append ── more than is reserved ─► Meter of the sender: a larger piece, or no room
 *   alarm ── what waits has shrunk or was stored without asking ─► Meter: what is needed now
 *
 * What is reserved is a fact of the mailbox. What of it is used is a cached bound, replaced by the exact figure when it
 * no longer suffices.
 *
 * @module
 */
import { LARGE_PIECE, LEAST_PIECE } from "./limits.ts";
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
  readonly #reserved = new Map<string, number>();
  /** At least what waits of a sender. */
  readonly #used = new Map<string, number>();

  constructor(facts: Facts) {
    this.#facts = facts;
    for (const [sender, octets] of facts.facts(PREFIX)) this.#reserved.set(sender, Number(octets));
  }

  /** Whether anything is reserved. */
  get some(): boolean {
    return this.#reserved.size > 0;
  }

  /** Whether a sender may add this many bytes without asking. If so, they count as used. */
  cover(sender: string, octets: number, inUse: InUse): boolean {
    const reserved = this.#reserved.get(sender) ?? 0;
    let used = Math.min(this.#used.get(sender) ?? Number.POSITIVE_INFINITY, inUse.all);
    if (used + octets > reserved) used = inUse.of(sender);
    const covers = used + octets <= reserved;
    this.#used.set(sender, covers ? used + octets : used);
    if (this.#used.size > KNOWN_SENDERS) this.#used.clear();
    return covers;
  }

  set(sender: string, octets: number): void {
    if (octets === 0) {
      if (this.#reserved.delete(sender)) this.#facts.removeFact(PREFIX + sender);
      this.#used.delete(sender);
    } else if (this.#reserved.get(sender) !== octets) {
      this.#facts.setFact(PREFIX + sender, String(octets));
      this.#reserved.set(sender, octets);
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
    for (const [sender, reserved] of this.#reserved) {
      const needed = pieceFor(waiting.get(sender) ?? 0);
      // A piece is kept until it is much too large: what shrinks by a little may grow again.
      if (needed === 0 || needed * 4 <= reserved || (grow && needed > reserved)) due.push([sender, needed]);
    }
    if (!grow) return due;
    for (const [sender, octets] of waiting) {
      if (!this.#reserved.has(sender) && octets > 0) due.push([sender, pieceFor(octets)]);
    }
    return due;
  }
}

/** Senders whose bound is cached. */
const KNOWN_SENDERS = 1000;

/** What to reserve for this many bytes. */
export function pieceFor(octets: number): number {
  if (octets <= 0) return 0;
  if (octets > LARGE_PIECE) return Math.ceil(octets / LARGE_PIECE) * LARGE_PIECE;
  return Math.max(LEAST_PIECE, 2 ** Math.ceil(Math.log2(octets)));
}
