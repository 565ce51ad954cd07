/**
 * A FIFO queue. Shifting a long array takes time proportional to its length; this does not.
 *
 * @module
 */

/** Empty slots at the front are kept until there are this many, and as many as items. */
const SLACK = 1024;

export class Queue<T extends object | string> implements Iterable<T> {
  #items: (T | undefined)[] = [];
  /** Index of the first item; slots before it are empty. */
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

  /** Removes and returns the first item. */
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

  /** Inserts items before all others. */
  putBack(items: readonly T[]): void {
    this.#items = [...items, ...this];
    this.#head = 0;
  }

  /** Removes items wherever they are. */
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
