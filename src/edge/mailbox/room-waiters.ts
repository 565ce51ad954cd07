/**
 * Tracks connections whose sessions are suspended because their sender has used up its share of the mailbox. Each is
 * kept, across eviction too, until it has been told that there is room again. A relay's connection is kept once for each
 * sender that the relay speaks for.
 *
 * A room notification may cross the answer that suspends the connection. Both therefore name the mailbox's last message
 * at the time, and a connection ignores a suspension older than a notification it has received.
 *
 * @module
 */
import { isWithinShare, relayOfSender } from "../../store-and-forward/sender-share.ts";
import { ROOM_CALLS, ROOM_RETRY, WAITERS } from "./limits.ts";

/** The facts of a mailbox, where waiters are stored. */
export interface Facts {
  facts(prefix: string): [name: string, value: string][];
  setFact(name: string, value: string): void;
  removeFact(name: string): void;
}

/** A connection, and the sender whose share counts. */
export interface Waits {
  /** Name of the connection's object. */
  readonly name: string;
  readonly sender: string;
}

interface Waiter {
  readonly name: string;
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
  /** By `keyOf`, longest wait first. */
  readonly #waiters = new Map<string, Waiter>();
  /** By relay, how often its connections wait for its senders. */
  readonly #ofRelays = new Map<string, number>();
  #telling = 0;

  constructor(facts: Facts) {
    this.#facts = facts;
    for (const [key, sender] of facts.facts(PREFIX)) {
      const name = key.split(" ", 1)[0] ?? "";
      this.#waiters.set(key, waiterOf({ name, sender }));
      this.#count(sender, 1);
    }
  }

  get size(): number {
    return this.#waiters.size;
  }

  /**
   * Adds a connection that is to be suspended. Returns false if the list is full; the connection is then not suspended. A
   * relay with all its senders has a share of the list, since it may make them up.
   */
  add({ name, sender }: Waits): boolean {
    const key = keyOf({ name, sender });
    const known = this.#waiters.get(key);
    if (known === undefined && !this.#hasRoom(sender)) return false;
    if (known?.sender !== sender) this.#facts.setFact(PREFIX + key, sender);
    if (known === undefined) {
      this.#waiters.set(key, waiterOf({ name, sender }));
      this.#count(sender, 1);
    } else {
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
  take(mayGoOn: (sender: string) => boolean, now: number): Waits[] {
    const taken: Waits[] = [];
    const known = new Map<string, boolean>();
    for (const waiter of this.#waiters.values()) {
      if (this.#telling >= ROOM_CALLS) break;
      const { name, sender, telling, notBefore } = waiter;
      // It is further off only if the clock was set back.
      if (telling || (notBefore > now && notBefore - now <= ROOM_RETRY)) continue;
      const may = known.get(sender) ?? mayGoOn(sender);
      known.set(sender, may);
      if (!may) continue;
      waiter.telling = true;
      waiter.notBefore = 0;
      this.#telling += 1;
      taken.push({ name, sender });
    }
    return taken;
  }

  /** Removes a connection that was notified, or has ended. */
  told(waits: Waits): void {
    const key = keyOf(waits);
    const waiter = this.#end(key);
    if (waiter === undefined) return;
    if (waiter.again) waiter.again = false;
    else {
      this.#waiters.delete(key);
      this.#count(waits.sender, -1);
      this.#facts.removeFact(PREFIX + key);
    }
  }

  /** The notification may have been lost; schedules a retry. */
  failed(waits: Waits, now: number): void {
    const waiter = this.#end(keyOf(waits));
    if (waiter !== undefined) waiter.notBefore = now + ROOM_RETRY;
  }

  /** When the next failed notification is due; infinity if none is. */
  get retryAt(): number {
    let at = Number.POSITIVE_INFINITY;
    for (const { notBefore } of this.#waiters.values()) if (notBefore > 0) at = Math.min(at, notBefore);
    return at;
  }

  #hasRoom(sender: string): boolean {
    const all = this.#waiters.size + 1;
    const relay = relayOfSender(sender);
    if (relay === undefined) return all <= WAITERS;
    return isWithinShare((this.#ofRelays.get(relay) ?? 0) + 1, all, WAITERS);
  }

  #count(sender: string, by: 1 | -1): void {
    const relay = relayOfSender(sender);
    if (relay === undefined) return;
    const count = (this.#ofRelays.get(relay) ?? 0) + by;
    if (count === 0) this.#ofRelays.delete(relay);
    else this.#ofRelays.set(relay, count);
  }

  #end(key: string): Waiter | undefined {
    const waiter = this.#waiters.get(key);
    if (waiter?.telling !== true) return undefined;
    waiter.telling = false;
    this.#telling -= 1;
    return waiter;
  }
}

function waiterOf(waits: Waits): Waiter {
  return { ...waits, notBefore: 0, telling: false, again: false };
}

/** A connection waits once, but a relay's once for each sender that it speaks for. No name of an object has a blank. */
function keyOf({ name, sender }: Waits): string {
  return relayOfSender(sender) === undefined ? name : `${name} ${sender}`;
}
