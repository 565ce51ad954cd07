/**
 * A list that is taken from at its beginning. An array that is long does that in time that grows with its length.
 *
 * @module
 */

/** Empty places at the beginning are kept until there are so many, and as many as items. */
const SLACK = 1024;

export class Queue<T extends object | string> implements Iterable<T> {
  #items: (T | undefined)[] = [];
  /** Index of the first item; what was before it is gone. */
  #head = 0;

  get first(): T | undefined {
    return this.#items[this.#head];
  }

  get size(): number {
    return this.#items.length - this.#head;
  }

  push(item: T): void {
    this.#items.push(item);
  }

  /** Takes the first item off. */
  shift(): T | undefined {
    const item = this.#items[this.#head];
    if (item === undefined) return undefined;
    this.#items[this.#head] = undefined;
    this.#head += 1;
    if (this.#head === this.#items.length) {
      this.clear();
    } else if (this.#head >= SLACK && this.#head * 2 >= this.#items.length) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
    return item;
  }

  /** Puts items before all others. */
  putBack(items: readonly T[]): void {
    this.#items = [...items, ...this];
    this.#head = 0;
  }

  /** Takes some items out, wherever they are. */
  remove(items: ReadonlySet<T>): void {
    this.#items = [...this].filter((item) => !items.has(item));
    this.#head = 0;
  }

  clear(): void {
    this.#items = [];
    this.#head = 0;
  }

  *[Symbol.iterator](): Iterator<T> {
    for (let index = this.#head; index < this.#items.length; index += 1) {
      const item = this.#items[index];
      if (item !== undefined) yield item;
    }
  }
}
