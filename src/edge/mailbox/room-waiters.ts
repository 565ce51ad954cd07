/**
 * Tracks connections whose sessions are suspended because their sender has used up its share of the mailbox. Each is
 * kept, across eviction too, until it has been told that there is room again.
 *
 * A room notification may cross the answer that suspends the connection. Both therefore name the mailbox's last message
 * at the time, and a connection ignores a suspension older than a notification it has received.
 *
 * @module
 */
import { ROOM_CALLS, ROOM_RETRY, WAITERS } from "./limits.ts";

/** The facts of a mailbox, where waiters are stored. */
export interface Facts {
  facts(prefix: string): [name: string, value: string][];
  setFact(name: string, value: string): void;
  removeFact(name: string): void;
}

interface Waiter {
  /** The sender whose share counts. */
  sender: string;
  /** Not notified before this time, because a call failed. */
  notBefore: number;
  /** A notification is under way. */
  telling: boolean;
  /** The connection was suspended again during the notification. */
  again: boolean;
}

const PREFIX = "waits ";

export class RoomWaiters {
  readonly #facts: Facts;
  /** By object name, longest wait first. */
  readonly #waiters = new Map<string, Waiter>();
  #telling = 0;

  constructor(facts: Facts) {
    this.#facts = facts;
    for (const [name, sender] of facts.facts(PREFIX)) this.#waiters.set(name, waiterOf(sender));
  }

  get size(): number {
    return this.#waiters.size;
  }

  /**
   * Adds a connection that is to be suspended. Returns false if the list is full; the connection is then not suspended.
   */
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
   * Takes waiters to notify, up to the limit of concurrent calls. End each with `told` or `failed`.
   *
   * @param mayGoOn whether a sender has room again
   */
  take(mayGoOn: (sender: string) => boolean, now: number): string[] {
    const taken: string[] = [];
    const known = new Map<string, boolean>();
    for (const [name, waiter] of this.#waiters) {
      if (this.#telling >= ROOM_CALLS) break;
      const { sender, telling, notBefore } = waiter;
      // It is further off only if the clock was set back.
      if (telling || (notBefore > now && notBefore - now <= ROOM_RETRY)) continue;
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

  /** Removes a connection that was notified, or has ended. */
  told(name: string): void {
    const waiter = this.#end(name);
    if (waiter === undefined) return;
    if (waiter.again) waiter.again = false;
    else {
      this.#waiters.delete(name);
      this.#facts.removeFact(PREFIX + name);
    }
  }

  /** The notification may have been lost; schedules a retry. */
  failed(name: string, now: number): void {
    const waiter = this.#end(name);
    if (waiter !== undefined) waiter.notBefore = now + ROOM_RETRY;
  }

  /** When the next failed notification is due; infinity if none is. */
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
