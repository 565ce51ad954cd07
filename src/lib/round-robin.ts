/**
 * Round-robin: a list whose owners take turns, one item of each, in the order in which it was put in by its owner. So nobody waits for
 * all that another has put in before.
 *
 * @module
 */
import { Queue } from "./queue.ts";

export class RoundRobin<T extends object | string> {
  /** Those who have items, the next first. */
  readonly #owners = new Map<string, Queue<T>>();

  /** The item whose turn it is. */
  get first(): T | undefined {
    for (const items of this.#owners.values()) return items.first;
    return undefined;
  }

  /** How many have items. */
  get owners(): number {
    return this.#owners.size;
  }

  /** Whether an owner has items. */
  has(owner: string): boolean {
    return this.#owners.has(owner);
  }

  push(owner: string, item: T): void {
    const items = this.#owners.get(owner) ?? new Queue<T>();
    items.push(item);
    this.#owners.set(owner, items);
  }

  /** Takes off the item whose turn it is; its owner comes after all others. */
  shift(): T | undefined {
    for (const [owner, items] of this.#owners) {
      const item = items.shift();
      this.#owners.delete(owner);
      if (items.first !== undefined) this.#owners.set(owner, items);
      return item;
    }
    return undefined;
  }

  /** The owner whose turn it is comes after all others, and keeps what he has. */
  pass(): void {
    for (const [owner, items] of this.#owners) {
      this.#owners.delete(owner);
      this.#owners.set(owner, items);
      return;
    }
  }

  clear(): void {
    this.#owners.clear();
  }
}
