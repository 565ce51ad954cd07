/**
 * How many TCP connections to destinations each channel of one principal may have: a Meter's part of it. Kept in storage,
 * since a connection may be silent for days; a channel reserves in steps, so little is written.
 *
 * @module
 */

/** Storage key: this prefix, and the holder's name. */
const HOLDER = "holder:";

export class StreamHolders {
  readonly #kv: SyncKvStorage;
  readonly #limit: number;
  readonly #held = new Map<string, number>();

  constructor(kv: SyncKvStorage, limit: number) {
    this.#kv = kv;
    this.#limit = limit;
    for (const [key, count] of kv.list<unknown>({ prefix: HOLDER })) {
      if (typeof count === "number") this.#held.set(key.slice(HOLDER.length), count);
    }
  }

  /** Connections that are reserved by all holders. */
  get total(): number {
    let sum = 0;
    for (const count of this.#held.values()) sum += count;
    return sum;
  }

  get names(): string[] {
    return [...this.#held.keys()];
  }

  /** Replaces what a holder has reserved. Returns false, and changes nothing, if that would be too many. */
  hold(holder: string, streams: number): boolean {
    const before = this.#held.get(holder) ?? 0;
    if (streams > before && this.total - before + streams > this.#limit) return false;
    if (streams === before) return true;
    if (streams === 0) {
      this.#held.delete(holder);
      this.#kv.delete(HOLDER + holder);
    } else {
      this.#held.set(holder, streams);
      this.#kv.put(HOLDER + holder, streams);
    }
    return true;
  }
}
