/**
 * What one sender has waiting in all mailboxes together: a row for each mailbox that has reserved room for it, and the
 * total. A mailbox always says the whole of what it needs, so a call that is repeated changes nothing.
 *
 * @module
 */
import { isSpent } from "../../store-and-forward/sender-share.ts";
import type { Reservation } from "../rpc/meter-rpc.ts";

/** The part of a Durable Object's storage in use. */
export interface AccountStorage {
  get<T>(key: string): T | undefined;
  put<T>(key: string, value: T): void;
  delete(key: string): boolean;
}

/** Storage keys: the total, and one per mailbox, this prefix and its URL. */
const TOTAL = "reserved";
const MAILBOX = "reserved:";

export class SenderAccount {
  readonly #storage: AccountStorage;
  readonly #limit: number;

  /** @param limit what the sender may have waiting, in bytes */
  constructor(storage: AccountStorage, limit: number) {
    this.#storage = storage;
    this.#limit = limit;
  }

  /** What all mailboxes have reserved, in bytes. */
  get total(): number {
    return this.#storage.get<number>(TOTAL) ?? 0;
  }

  /** What may still be reserved, in bytes; negative if more is stored than is allowed. */
  get left(): number {
    return this.#limit - this.total;
  }

  /** Whether so much is stored that connected recipients are no longer exempt. */
  get isSpent(): boolean {
    return isSpent(this.total, this.#limit);
  }

  /**
   * Replaces what a mailbox has reserved.
   *
   * @returns what it has reserved now; undefined, and nothing is changed, if there is no room for what it needs
   */
  reserve(mailbox: string, { needed, wanted, stored }: Reservation): number | undefined {
    const before = this.#storage.get<number>(MAILBOX + mailbox) ?? 0;
    const others = this.total - before;
    const free = this.#limit - others;
    if (!stored && needed > free) return undefined;
    const granted = stored ? wanted : Math.min(wanted, free);
    if (granted === before) return granted;
    this.#set(MAILBOX + mailbox, granted);
    this.#set(TOTAL, others + granted);
    return granted;
  }

  #set(key: string, octets: number): void {
    if (octets === 0) this.#storage.delete(key);
    else this.#storage.put(key, octets);
  }
}
