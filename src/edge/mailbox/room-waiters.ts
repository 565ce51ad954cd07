/**
 * Who waits for room in a mailbox: connections whose sessions are suspended since their sender has used up its share. Each
 * is kept until it was told that there is room again, also when the mailbox is thrown out of memory meanwhile.
 *
 * A call that tells a connection of room may cross the answer that suspends it. So an answer and a call both name the last
 * message of the mailbox when it was made, and a connection is suspended by no answer that is older than such a call.
 *
 * @module
 */
import { ROOM_CALLS, ROOM_RETRY, WAITERS } from "./limits.ts";

/** Where they are kept: the facts of a mailbox. */
export interface Facts {
  facts(prefix: string): [name: string, value: string][];
  setFact(name: string, value: string): void;
  removeFact(name: string): void;
}

interface Waiter {
  /** Who counts as its sender. */
  sender: string;
  /** Nothing is said to it before this time: a call has failed. */
  notBefore: number;
  /** It is being told. */
  telling: boolean;
  /** It was suspended once more while it was being told. */
  again: boolean;
}

const PREFIX = "waits ";

export class RoomWaiters {
  readonly #facts: Facts;
  /** By the name of their object, those who wait for longest first. */
  readonly #waiters = new Map<string, Waiter>();
  #telling = 0;

  constructor(facts: Facts) {
    this.#facts = facts;
    for (const [name, sender] of facts.facts(PREFIX)) this.#waiters.set(name, waiterOf(sender));
  }

  get size(): number {
    return this.#waiters.size;
  }

  /** A connection is to be suspended. False when no more can wait: it is not, then. */
  add(name: string, sender: string): boolean {
    const known = this.#waiters.get(name);
    if (known === undefined && this.#waiters.size >= WAITERS) return false;
    if (known?.sender !== sender) this.#facts.setFact(PREFIX + name, sender);
    if (known === undefined) this.#waiters.set(name, waiterOf(sender));
    else {
      known.sender = sender;
      known.again ||= known.telling;
    }
    return true;
  }

  /**
   * Takes those who may be told, as many as there may be calls at a time. Each is `told` in the end, or `failed`.
   *
   * @param mayGoOn whether a sender may
   */
  take(mayGoOn: (sender: string) => boolean, now: number): string[] {
    const taken: string[] = [];
    const known = new Map<string, boolean>();
    for (const [name, waiter] of this.#waiters) {
      if (this.#telling >= ROOM_CALLS) break;
      const { sender, telling, notBefore } = waiter;
      if (telling || notBefore > now) continue;
      const may = known.get(sender) ?? mayGoOn(sender);
      known.set(sender, may);
      if (!may) continue;
      waiter.telling = true;
      waiter.notBefore = 0;
      this.#telling += 1;
      taken.push(name);
    }
    return taken;
  }

  /** A connection knows that there is room, or is over. */
  told(name: string): void {
    const waiter = this.#end(name);
    if (waiter === undefined) return;
    if (waiter.again) waiter.again = false;
    else {
      this.#waiters.delete(name);
      this.#facts.removeFact(PREFIX + name);
    }
  }

  /** Nobody knows whether it has heard of it: it is told again. */
  failed(name: string, now: number): void {
    const waiter = this.#end(name);
    if (waiter !== undefined) waiter.notBefore = now + ROOM_RETRY;
  }

  /** When one that could not be told is to be told again; never when there is none. */
  get retryAt(): number {
    let at = Number.POSITIVE_INFINITY;
    for (const { notBefore } of this.#waiters.values()) if (notBefore > 0) at = Math.min(at, notBefore);
    return at;
  }

  #end(name: string): Waiter | undefined {
    const waiter = this.#waiters.get(name);
    if (waiter?.telling !== true) return undefined;
    waiter.telling = false;
    this.#telling -= 1;
    return waiter;
  }
}

function waiterOf(sender: string): Waiter {
  return { sender, notBefore: 0, telling: false, again: false };
}
