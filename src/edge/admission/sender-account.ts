/**
 * What one sender has waiting in all mailboxes together: a row for each mailbox that has reserved room for it, and the
 * total. A mailbox always says the whole of what it needs, so a call that is repeated changes nothing.
 *
 * A relay is one sender. If it vouches for its devices, each row also says which identities needed how much of it, and
 * there is a sum for each identity: it may have as much as is then left to the relay.
 *
 * @module
 */
import { isSpent } from "../../store-and-forward/sender-share.ts";
import type { Reservation } from "../rpc/meter-rpc.ts";
import { LARGE_PIECE, LEAST_PIECE } from "./limits.ts";

/** The part of a Durable Object's storage in use. */
export interface AccountStorage {
  get<T>(key: string): T | undefined;
  put<T>(key: string, value: T): void;
  delete(key: string): boolean;
}

/** Storage keys: the total, and one per mailbox, this prefix and its URL, and one per identity. */
const TOTAL = "reserved";
const MAILBOX = "reserved:";
const IDENTITY = "identity:";

/** What a mailbox has reserved. */
interface Row {
  readonly octets: number;
  /** The part of it that each identity needed. Rows of earlier releases are only a number. */
  readonly of: Readonly<Record<string, number>>;
}

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
  left(identity?: string): number {
    const left = this.#limit - this.total;
    return identity === undefined ? left : Math.floor((left - this.#of(identity)) / 2);
  }

  /** Whether so much is stored that connected recipients are no longer exempt. */
  isSpent(identity?: string): boolean {
    if (isSpent(this.total, this.#limit)) return true;
    return identity !== undefined && isSpent(this.#of(identity), this.#limit / 2);
  }

  /**
   * Replaces what a mailbox has reserved.
   *
   * @returns what it has reserved now; undefined, and nothing is changed, if there is no room for what it needs
   */
  reserve(mailbox: string, { needed, wanted, stored, identity }: Reservation): number | undefined {
    const row = this.#row(mailbox);
    const free = row.octets + Math.max(this.left(identity), identity === undefined ? Number.NEGATIVE_INFINITY : 0);
    if (!stored && needed > free) return undefined;
    const granted = stored ? wanted : Math.min(wanted, free);
    const more = granted - row.octets;
    if (more === 0) return granted;
    const of = more > 0 ? this.#charge(row.of, identity, more) : this.#giveBack(row.of, -more);
    if (Object.keys(of).length === 0) this.#set(MAILBOX + mailbox, granted);
    else this.#storage.put<Row>(MAILBOX + mailbox, { octets: granted, of });
    this.#set(TOTAL, this.total + more);
    return granted;
  }

  #row(mailbox: string): Row {
    const row = this.#storage.get<Row | number>(MAILBOX + mailbox) ?? 0;
    return typeof row === "number" ? { octets: row, of: {} } : row;
  }

  #of(identity: string): number {
    return this.#storage.get<number>(IDENTITY + identity) ?? 0;
  }

  #charge(of: Row["of"], identity: string | undefined, octets: number): Row["of"] {
    if (identity === undefined) return of;
    this.#set(IDENTITY + identity, this.#of(identity) + octets);
    return { ...of, [identity]: (of[identity] ?? 0) + octets };
  }

  /** Gives back what identities needed, the largest part first: who had little there may still need it. */
  #giveBack(of: Row["of"], octets: number): Row["of"] {
    let left = octets;
    const parts = Object.entries(of).sort(([, one], [, other]) => other - one);
    const rest = parts.map(([identity, part]): [string, number] => {
      const back = Math.min(part, left);
      left -= back;
      if (back > 0) this.#set(IDENTITY + identity, this.#of(identity) - back);
      return [identity, part - back];
    });
    return Object.fromEntries(rest.filter(([, part]) => part > 0));
  }

  #set(key: string, octets: number): void {
    if (octets === 0) this.#storage.delete(key);
    else this.#storage.put(key, octets);
  }
}

/** What to reserve for this many bytes. */
export function pieceFor(octets: number): number {
  if (octets <= 0) return 0;
  if (octets > LARGE_PIECE) return Math.ceil(octets / LARGE_PIECE) * LARGE_PIECE;
  return Math.max(LEAST_PIECE, 2 ** Math.ceil(Math.log2(octets)));
}
