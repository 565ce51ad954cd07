/**
 * Sets of whole numbers, kept as ranges: what a peer has acknowledged of a log whose messages are numbered one by one.
 * Such a set is nearly always a few long ranges, whatever the count.
 *
 * @module
 */

/** A range, both ends included. */
export type Range = readonly [from: number, to: number];

export class Ranges implements Iterable<Range> {
  /** The ends of the ranges, sorted. Ranges neither overlap nor touch: at least one number is missing between two. */
  readonly #froms: number[] = [];
  readonly #tos: number[] = [];
  #count = 0;

  constructor(ranges: Iterable<Range> = []) {
    for (const [from, to] of ranges) this.add(from, to);
  }

  /** How many numbers are in it. */
  get count(): number {
    return this.#count;
  }

  /** How many ranges it is made of. */
  get length(): number {
    return this.#froms.length;
  }

  /** The smallest number; undefined when there is none. */
  get first(): number | undefined {
    return this.#froms[0];
  }

  /** The largest number; undefined when there is none. */
  get last(): number | undefined {
    return this.#tos.at(-1);
  }

  /** The ranges, smallest first. Do not change the set meanwhile. */
  *[Symbol.iterator](): Iterator<Range> {
    for (let at = 0; at < this.#froms.length; at += 1) yield [this.#froms[at] as number, this.#tos[at] as number];
  }

  has(number: number): boolean {
    const at = this.#endingFrom(number);
    return (this.#froms[at] ?? Number.POSITIVE_INFINITY) <= number;
  }

  /** Adds all numbers from one to another, both included; none when they are in the wrong order. */
  add(from: number, to = from): void {
    if (to < from) return;
    // Nearly always it continues the last range.
    const last = this.#tos.length - 1;
    const end = this.#tos[last];
    if (end !== undefined && from === end + 1) {
      this.#tos[last] = to;
      this.#count += to - end;
      return;
    }
    // Ranges that overlap the new one or touch it become one with it.
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

  /** Takes out all numbers from one to another, both included. */
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

  /** The smallest number that is not in it, from one on. */
  nextMissing(from: number): number {
    const at = this.#endingFrom(from);
    return (this.#froms[at] ?? Number.POSITIVE_INFINITY) <= from ? (this.#tos[at] as number) + 1 : from;
  }

  /** The smallest number that is in it, from one on; undefined when there is none. */
  next(from: number): number | undefined {
    const at = this.#endingFrom(from);
    const low = this.#froms[at];
    return low === undefined ? undefined : Math.max(low, from);
  }

  /** The index of the first range that ends at a number or behind it. */
  #endingFrom(number: number): number {
    let low = 0;
    let high = this.#tos.length;
    // What is asked for is nearly always in the last range or behind it.
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
