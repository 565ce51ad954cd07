/**
 * A round-robin queue: owners take turns, one item at a time, each in FIFO order. So no owner waits for all items that
 * another has queued before.
 *
 * @module
 */
import { Queue } from "./queue.ts";

export class RoundRobin<T extends object | string> {
  /** Owners with items, the next first. */
  readonly #owners = new Map<string, Queue<T>>();

  /** The next item. */
  get first(): T | undefined {
    for (const items of this.#owners.values()) return items.first;
    return undefined;
  }

  /** Number of owners with items. */
  get owners(): number {
    return this.#owners.size;
  }

  /** Reports whether an owner has items. */
  has(owner: string): boolean {
    return this.#owners.has(owner);
  }

  push(owner: string, item: T): void {
    const items = this.#owners.get(owner) ?? new Queue<T>();
    items.push(item);
    this.#owners.set(owner, items);
  }

  /** Removes and returns the next item; its owner goes to the back. */
  shift(): T | undefined {
    for (const [owner, items] of this.#owners) {
      const item = items.shift();
      this.#owners.delete(owner);
      if (items.first !== undefined) this.#owners.set(owner, items);
      return item;
    }
    return undefined;
  }

  /** Moves the next owner to the back, with its items. */
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
