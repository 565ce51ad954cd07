/**
 * Caches what accounts of senders have answered to the mailboxes of an isolate, so that few messages need a call.
 *
 * - An account is ample if it is far from its limit. The first messages of such a sender in a mailbox, at most LEAST_PIECE
 *   (64 KiB), are stored before the account is asked: asking costs as much as storing them. What is still there when the
 *   mailbox's alarm fires is then reserved. Until then all such mailboxes together count as much as an ample account has
 *   left, and no more: also for a relay, whose account is that of all senders that it speaks for and may make up.
 * - An account is spent if twice its limit is stored. What waits for connected recipients is then reserved too, or
 *   refused: they may be the sender's own, and take nothing.
 *
 * @module
 */
import { relayOfSender } from "../../store-and-forward/sender-share.ts";
import { AMPLE_OCTETS, LEAST_PIECE } from "../admission/limits.ts";
import type { Reserved } from "../rpc/meter-rpc.ts";
import { KNOWN_SENDERS, KNOWN_TIME, SETTLE_PAUSE } from "./limits.ts";

interface Known {
  readonly isAmple: boolean;
  readonly isSpent: boolean;
  /** When the account said so, in milliseconds. */
  readonly at: number;
}

/** Mailboxes that have stored something without asking in a period of SETTLE_PAUSE, and in the one before. */
interface Unasked {
  since: number;
  now: number;
  before: number;
}

export class KnownAccounts {
  /** By sender; the most recent answer is last. */
  readonly #known = new Map<string, Known>();
  /** By account. */
  readonly #unasked = new Map<string, Unasked>();

  /** Whether a mailbox may store a little before it asks. */
  isAmple(sender: string, now: number): boolean {
    const known = this.#lately(sender, now);
    if (known?.isAmple !== true) return false;
    const { since, now: these, before } = this.#unasked.get(accountOf(sender)) ?? { since: now, now: 0, before: 0 };
    const mailboxes = now - since < SETTLE_PAUSE ? these + before : now - since < 2 * SETTLE_PAUSE ? these : 0;
    return mailboxes * LEAST_PIECE < AMPLE_OCTETS;
  }

  isSpent(sender: string, now: number): boolean {
    return this.#lately(sender, now)?.isSpent === true;
  }

  /** Whether the account was lately asked. */
  has(sender: string, now: number): boolean {
    return this.#lately(sender, now) !== undefined;
  }

  /** Notes what an account has answered. */
  heard(sender: string, { isAmple, isSpent }: Pick<Reserved, "isAmple" | "isSpent">, now: number): void {
    this.#known.delete(sender);
    // An object of another release does not say whether it is spent.
    this.#known.set(sender, { isAmple, isSpent: isSpent === true, at: now });
    const [oldest] = this.#known.keys();
    if (this.#known.size > KNOWN_SENDERS && oldest !== undefined) this.#known.delete(oldest);
  }

  /** Notes that an account has refused a reservation, which does not say whether it is spent. */
  refused(sender: string): void {
    const known = this.#known.get(sender);
    if (known !== undefined) this.#known.set(sender, { ...known, isAmple: false });
  }

  /** Notes that one more mailbox has stored something of a sender before it has asked. */
  storedUnasked(sender: string, now: number): void {
    const account = accountOf(sender);
    const unasked = this.#unasked.get(account) ?? { since: now, now: 0, before: 0 };
    this.#unasked.delete(account);
    this.#unasked.set(account, unasked);
    const [oldest] = this.#unasked.keys();
    if (this.#unasked.size > KNOWN_SENDERS && oldest !== undefined) this.#unasked.delete(oldest);
    const passed = now - unasked.since;
    // A clock may be set back.
    if (passed < 0 || passed >= SETTLE_PAUSE) {
      unasked.before = passed < 2 * SETTLE_PAUSE ? unasked.now : 0;
      unasked.now = 0;
      unasked.since = now;
    }
    unasked.now += 1;
  }

  #lately(sender: string, now: number): Known | undefined {
    const known = this.#known.get(sender);
    return known !== undefined && now >= known.at && now - known.at < KNOWN_TIME ? known : undefined;
  }
}

/** The sender that has the account. */
function accountOf(sender: string): string {
  return relayOfSender(sender) ?? sender;
}
