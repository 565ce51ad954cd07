/**
 * Sets of integers, stored as ranges. For what a peer has acknowledged of a sequentially numbered log: nearly always a
 * few long ranges, whatever the count.
 *
 * @module
 */

/** A range, both ends included. */
export type Range = readonly [from: number, to: number];

export class Ranges implements Iterable<Range> {
  /** Sorted bounds of the ranges. Ranges neither overlap nor touch: at least one integer is missing between two. */
  readonly #froms: number[] = [];
  readonly #tos: number[] = [];
  #count = 0;

  constructor(ranges: Iterable<Range> = []) {
    for (const [from, to] of ranges) this.add(from, to);
  }

  /** Number of integers in the set. */
  get count(): number {
    return this.#count;
  }

  /** Number of ranges. */
  get length(): number {
    return this.#froms.length;
  }

  /** The smallest integer; undefined if the set is empty. */
  get first(): number | undefined {
    return this.#froms[0];
  }

  /** The largest integer; undefined if the set is empty. */
  get last(): number | undefined {
    return this.#tos.at(-1);
  }

  /** Iterates over the ranges, smallest first. The set must not change meanwhile. */
  *[Symbol.iterator](): Iterator<Range> {
    for (let at = 0; at < this.#froms.length; at += 1) yield [this.#froms[at] as number, this.#tos[at] as number];
  }

  has(number: number): boolean {
    const at = this.#endingFrom(number);
    return (this.#froms[at] ?? Number.POSITIVE_INFINITY) <= number;
  }

  /** Adds all integers from one to another, both included; none if `to` is less than `from`. */
  add(from: number, to = from): void {
    if (to < from) return;
    // Fast path: extend the last range.
    const last = this.#tos.length - 1;
    const end = this.#tos[last];
    if (end !== undefined && from === end + 1) {
      this.#tos[last] = to;
      this.#count += to - end;
      return;
    }
    // Merge with ranges that overlap the new one or touch it.
    const begin = this.#endingFrom(from - 1);
    let low = from;
    let high = to;
    let stop = begin;
    for (; stop < this.#froms.length && (this.#froms[stop] as number) <= to + 1; stop += 1) {
      low = Math.min(low, this.#froms[stop] as number);
      high = Math.max(high, this.#tos[stop] as number);
      this.#count -= size(this.#froms[stop] as number, this.#tos[stop] as number);
    }
    this.#froms.splice(begin, stop - begin, low);
    this.#tos.splice(begin, stop - begin, high);
    this.#count += size(low, high);
  }

  /** Removes all integers from one to another, both included. */
  delete(from: number, to = from): void {
    if (to < from) return;
    const begin = this.#endingFrom(from);
    const froms: number[] = [];
    const tos: number[] = [];
    let stop = begin;
    for (; stop < this.#froms.length && (this.#froms[stop] as number) <= to; stop += 1) {
      const low = this.#froms[stop] as number;
      const high = this.#tos[stop] as number;
      this.#count -= size(Math.max(low, from), Math.min(high, to));
      if (low < from) {
        froms.push(low);
        tos.push(from - 1);
      }
      if (high > to) {
        froms.push(to + 1);
        tos.push(high);
      }
    }
    if (stop === begin) return;
    this.#froms.splice(begin, stop - begin, ...froms);
    this.#tos.splice(begin, stop - begin, ...tos);
  }

  clear(): void {
    this.#froms.length = 0;
    this.#tos.length = 0;
    this.#count = 0;
  }

  /** Returns the smallest integer from here on that is not in the set. */
  nextMissing(from: number): number {
    const at = this.#endingFrom(from);
    return (this.#froms[at] ?? Number.POSITIVE_INFINITY) <= from ? (this.#tos[at] as number) + 1 : from;
  }

  /** Returns the smallest integer from here on that is in the set, or undefined if there is none. */
  next(from: number): number | undefined {
    const at = this.#endingFrom(from);
    const low = this.#froms[at];
    return low === undefined ? undefined : Math.max(low, from);
  }

  /** Returns the index of the first range that ends at or after a number. */
  #endingFrom(number: number): number {
    let low = 0;
    let high = this.#tos.length;
    // Fast path: the number is nearly always in the last range or after it.
    if (high > 1 && (this.#tos[high - 2] as number) < number) low = high - 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#tos[middle] as number) < number) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function size(from: number, to: number): number {
  return to - from + 1;
}
