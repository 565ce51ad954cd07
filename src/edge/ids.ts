/**
 * Ids: which messages a mailbox has seen. Most senders count, so an id is taken apart into what stays the same and the
 * number in it, and numbers that follow each other are written down as one. A hundred thousand ids of one sender then take
 * some hundred kilobytes of memory instead of eight megabytes, and a batch of them a few dozen octets on disk.
 *
 * @module
 */
import { textOf } from "../sstp/index.ts";
import { type Bundle, type Contents, envelopeAt, ID_AT, idLengthAt } from "./bundle.ts";

/** Ids of one source that differ in nothing but their number: head, number, tail. One without a number is all head. */
export interface Series {
  readonly source: string;
  readonly head: string;
  readonly tail: string;
}

/** The ids of a bundle's messages, by their place in it. */
export interface Ids {
  readonly series: readonly (Series | undefined)[];
  /** {@link NONE} where the id has no number. */
  readonly numbers: readonly number[];
}

/** Ids of a series whose numbers follow each other, both ends included. */
type Run = readonly [head: string, tail: string, from: number, to: number];

/** Ids by source, as they are written down; one that follows no other as it is. */
export type Written = readonly (readonly [source: string, ids: readonly (string | Run)[]])[];

export const NONE = -1;

/** Numbers of more digits may not be exact. */
const MOST_DIGITS = 15;
const [AT, ZERO, NINE] = [0x40, 0x30, 0x39];

/** Where the number of an id begins, and where it ends; both at the id's end when there is none. */
interface Place {
  readonly begin: number;
  readonly end: number;
}

/** Takes the ids of a bundle apart. A message without one has no series. */
export function idsOf({ envelopes, octets }: Bundle, { sizes, starts }: Contents): Ids {
  const series: (Series | undefined)[] = [];
  const numbers: number[] = [];
  // What was found last is often what comes next.
  let last: { readonly series: Series; readonly at: number; readonly place: Place } | undefined;
  for (let index = 0; index < sizes.length; index += 1) {
    const start = starts[index] ?? 0;
    const length = idLengthAt(octets, start);
    if (length === 0) {
      series.push(undefined);
      numbers.push(NONE);
      continue;
    }
    const place = numberIn(octets, start + ID_AT, length);
    if (last === undefined || !isOfSeries(octets, start, length, place, last.at, last.place)) {
      const source = envelopes[envelopeAt(octets, start)]?.source ?? "";
      last = { series: seriesOf(source, octets, start + ID_AT, length, place), at: start, place };
    }
    series.push(last.series);
    numbers.push(numberOf(octets, place));
  }
  return { series, numbers };
}

function seriesOf(source: string, octets: Uint8Array, from: number, length: number, { begin, end }: Place): Series {
  return { source, head: textOf(octets, from, begin), tail: textOf(octets, end, from + length) };
}

/**
 * The digits before the sender's address, or at the end; never with a zero in front, so that the id can be put together
 * from its parts.
 */
function numberIn(octets: Uint8Array, from: number, length: number): Place {
  let end = from + length;
  for (let at = end - 1; at >= from; at -= 1) {
    if (octets[at] !== AT) continue;
    end = at;
    break;
  }
  let begin = end;
  while (begin > from && end - begin < MOST_DIGITS && isDigit(octets[begin - 1] ?? 0)) begin -= 1;
  while (begin < end && octets[begin] === ZERO) begin += 1;
  return begin < end ? { begin, end } : { begin: from + length, end: from + length };
}

function isDigit(octet: number): boolean {
  return octet >= ZERO && octet <= NINE;
}

function numberOf(octets: Uint8Array, { begin, end }: Place): number {
  if (begin === end) return NONE;
  let value = 0;
  for (let at = begin; at < end; at += 1) value = value * 10 + (octets[at] ?? 0) - ZERO;
  return value;
}

/** Whether the id of a message differs from that of another in its number alone. Both have one. */
function isOfSeries(
  octets: Uint8Array,
  start: number,
  length: number,
  { begin, end }: Place,
  otherStart: number,
  other: Place,
): boolean {
  const head = begin - start;
  const tail = start + ID_AT + length - end;
  if (begin === end || other.begin === other.end) return false;
  if (head !== other.begin - otherStart) return false;
  if (tail !== otherStart + ID_AT + idLengthAt(octets, otherStart) - other.end) return false;
  if (envelopeAt(octets, start) !== envelopeAt(octets, otherStart)) return false;
  for (let i = ID_AT; i < head; i += 1) if (octets[start + i] !== octets[otherStart + i]) return false;
  for (let i = 0; i < tail; i += 1) if (octets[end + i] !== octets[other.end + i]) return false;
  return true;
}

/** The ids of some messages of a bundle, as they are written down. */
export function writtenOf({ series, numbers }: Ids, indexes: readonly number[]): Written {
  const found = new Map<string, { readonly of: Series; readonly from: number; to: number }[]>();
  let last: { readonly of: Series; readonly from: number; to: number } | undefined;
  for (const index of indexes) {
    const of = series[index];
    if (of === undefined) continue;
    const number = numbers[index] ?? NONE;
    if (of === last?.of && number === last.to + 1 && number > 0) {
      last.to = number;
      continue;
    }
    last = { of, from: number, to: number };
    const others = found.get(of.source);
    if (others === undefined) found.set(of.source, [last]);
    else others.push(last);
  }
  return [...found].map(([source, runs]) => [
    source,
    runs.map(({ of: { head, tail }, from, to }) => {
      if (from === NONE) return head;
      return from === to ? `${head}${from}${tail}` : ([head, tail, from, to] as const);
    }),
  ]);
}

/** How many ids are written down. */
export function countOf(written: Written): number {
  let count = 0;
  for (const [, ids] of written) for (const id of ids) count += typeof id === "string" ? 1 : id[3] - id[2] + 1;
  return count;
}

/** Numbers, thirty to a page: the platform keeps whole numbers up to 31 bits without memory of their own. */
type Pages = Map<number, number>;
const PAGE = 30;

interface Source {
  readonly plain: Set<string>;
  /** By tail, which most have in common, and head. Who does not count has a series for each, and no page for its number. */
  readonly counted: Map<string, Map<string, number | Pages>>;
}

/** Ids that are known. */
export class KnownIds {
  readonly #sources = new Map<string, Source>();
  /** What was asked for last is often what is asked for next. */
  #last: Series | undefined;
  #lastPages: Pages | undefined;

  has(series: Series, number: number): boolean {
    const source = this.#sources.get(series.source);
    if (number === NONE) return source?.plain.has(series.head) === true;
    const known = source?.counted.get(series.tail)?.get(series.head);
    return typeof known === "number" ? known === number : known !== undefined && isOn(known, number);
  }

  /** From now on it is known. False when it was before. */
  add(series: Series, number: number): boolean {
    if (series === this.#last && this.#lastPages !== undefined) return put(this.#lastPages, number);
    const { plain, counted } = this.#sourceOf(series.source);
    if (number === NONE) {
      const before = plain.size;
      return plain.add(series.head).size > before;
    }
    const { head, tail } = series;
    let heads = counted.get(tail);
    if (heads === undefined) {
      heads = new Map();
      counted.set(tail, heads);
    }
    const known = heads.get(head);
    if (known === undefined) {
      heads.set(head, number);
      return true;
    }
    if (known === number) return false;
    const pages: Pages = typeof known === "number" ? new Map() : known;
    if (typeof known === "number") {
      put(pages, known);
      heads.set(head, pages);
    }
    this.#last = series;
    this.#lastPages = pages;
    return put(pages, number);
  }

  /** From now on those that were written down are known, too. */
  learn(written: Written): void {
    for (const { series, number } of eachOf(written)) this.add(series, number);
  }

  /** Those that were written down are not known any more. */
  forget(written: Written): void {
    for (const { series, number } of eachOf(written)) this.#delete(series, number);
    this.#last = undefined;
    this.#lastPages = undefined;
  }

  #delete({ source: name, head, tail }: Series, number: number): void {
    const source = this.#sources.get(name);
    if (source === undefined) return;
    const { plain, counted } = source;
    const heads = counted.get(tail);
    const known = heads?.get(head);
    if (number === NONE) plain.delete(head);
    else if (known === number) heads?.delete(head);
    else if (typeof known === "object") {
      remove(known, number);
      if (known.size === 0) heads?.delete(head);
    }
    if (heads?.size === 0) counted.delete(tail);
    if (plain.size === 0 && counted.size === 0) this.#sources.delete(name);
  }

  #sourceOf(name: string): Source {
    let source = this.#sources.get(name);
    if (source === undefined) {
      source = { plain: new Set(), counted: new Map() };
      this.#sources.set(name, source);
    }
    return source;
  }
}

function isOn(pages: Pages, number: number): boolean {
  return ((pages.get(Math.floor(number / PAGE)) ?? 0) & (1 << (number % PAGE))) !== 0;
}

/** False when it was there. */
function put(pages: Pages, number: number): boolean {
  const page = Math.floor(number / PAGE);
  const bits = pages.get(page) ?? 0;
  const bit = 1 << (number % PAGE);
  if ((bits & bit) !== 0) return false;
  pages.set(page, bits | bit);
  return true;
}

function remove(pages: Pages, number: number): void {
  const page = Math.floor(number / PAGE);
  const left = (pages.get(page) ?? 0) & ~(1 << (number % PAGE));
  if (left === 0) pages.delete(page);
  else pages.set(page, left);
}

const encoder = new TextEncoder();

function* eachOf(written: Written): Generator<{ readonly series: Series; readonly number: number }> {
  for (const [source, ids] of written) {
    for (const id of ids) {
      if (typeof id === "string") {
        const octets = encoder.encode(id);
        const place = numberIn(octets, 0, octets.length);
        yield { series: seriesOf(source, octets, 0, octets.length, place), number: numberOf(octets, place) };
        continue;
      }
      const [head, tail, from, to] = id;
      const series = { source, head, tail };
      for (let number = from; number <= to; number += 1) yield { series, number };
    }
  }
}
