/**
 * Senders whose account was lately far from its limit. The first messages of such a sender in a mailbox, at most
 * LEAST_PIECE (64 KiB), are stored before its account is asked: asking costs as much as storing them. What is still there
 * when the mailbox's alarm fires is then reserved. All mailboxes of an isolate share what they know.
 *
 * @module
 */
import { AMPLE_SENDERS, AMPLE_TIME } from "./limits.ts";

export class AmpleAccounts {
  /** By sender, until when the account counts as ample; those that were heard of last are last. */
  readonly #until = new Map<string, number>();

  /** @param now in milliseconds */
  has(sender: string, now: number): boolean {
    return (this.#until.get(sender) ?? 0) > now;
  }

  /** Notes what an account has answered. */
  heard(sender: string, isAmple: boolean, now: number): void {
    this.#until.delete(sender);
    if (!isAmple) return;
    this.#until.set(sender, now + AMPLE_TIME);
    const [oldest] = this.#until.keys();
    if (this.#until.size > AMPLE_SENDERS && oldest !== undefined) this.#until.delete(oldest);
  }
}
