/**
 * Splits message ids into a constant part and a number. Most senders number their messages, so the ids of a batch form
 * one range, which is looked up and remembered as one (see `id-store.ts`).
 *
 * @module
 */
import { sha256 } from "../../lib/sha256.ts";
import { textOf } from "../../sstp/index.ts";
import { type Contents, envelopeAt, ID_AT, idLengthAt, type MessageBatch } from "../rpc/message-batch.ts";

/**
 * Ids of one source that differ only in their number: head, number, tail. An id without a number is all head; the head
 * of a long one is a hash, so that a sender with unnumbered ids cannot fill a mailbox with their text.
 */
export interface Series {
  readonly source: string;
  readonly head: string;
  readonly tail: string;
}

/** The ids of a bundle's messages, in the bundle's order. */
export interface Ids {
  readonly series: readonly (Series | undefined)[];
  /** {@link NONE} for an id without a number. */
  readonly numbers: readonly number[];
}

/** Ids by source as the first schema stored them: single ids as text, ranges with both ends. */
export type WrittenIds = readonly (readonly [
  source: string,
  ids: readonly (string | readonly [head: string, tail: string, from: number, to: number])[],
])[];

/**
 * In place of the number of an id without one: in the rows, and in memory too, since a number per message is cheaper
 * than a union on the way of every message. Numbers of ids are not negative.
 */
export const NONE = -1;

/** Longer numbers may not be exact in a double. */
const MOST_DIGITS = 15;
const [AT, PERCENT, ZERO, FOUR, NINE] = [0x40, 0x25, 0x30, 0x34, 0x39];

/** Where the number of an id begins and ends. Both are the id's end if it has none. */
interface Place {
  readonly begin: number;
  readonly end: number;
}

/** Splits the ids of a bundle. A message without an id has no series. */
export function idsOf({ envelopes, octets }: MessageBatch, { sizes, starts }: Contents): Ids {
  const series: (Series | undefined)[] = [];
  const numbers: number[] = [];
  // The last series, which is often the next one too.
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

/** Longest id without a number that is remembered as text. Longer ones are hashed, which takes as much as a UUID. */
const LONGEST_TEXT = 40;

/** Bytes of the hash: collisions are as unlikely as with UUIDs. */
const HASH_OCTETS = 16;

function seriesOf(source: string, octets: Uint8Array, from: number, length: number, { begin, end }: Place): Series {
  if (begin === end && length > LONGEST_TEXT) {
    const hash = sha256(octets.subarray(from, from + length)).subarray(0, HASH_OCTETS);
    return { source, head: `#${btoa(String.fromCharCode(...hash))}`, tail: "" };
  }
  return { source, head: textOf(octets, from, begin), tail: textOf(octets, end, from + length) };
}

/**
 * Finds the digits before the sender's address, which begins with the first @ or an escaped one, or at the end of the
 * id. Leading zeros are excluded, so that the id can be rebuilt from its parts.
 */
function numberIn(octets: Uint8Array, from: number, length: number): Place {
  let end = from;
  while (end < from + length && octets[end] !== AT && !isEscapedAt(octets, end)) end += 1;
  let begin = end;
  while (begin > from && end - begin < MOST_DIGITS && isDigit(octets[begin - 1] ?? 0)) begin -= 1;
  while (begin < end && octets[begin] === ZERO) begin += 1;
  return begin < end ? { begin, end } : { begin: from + length, end: from + length };
}

/** Reports whether `%40` stands there: how an @ is written in an id for which only the relay vouches. */
function isEscapedAt(octets: Uint8Array, at: number): boolean {
  return octets[at] === PERCENT && octets[at + 1] === FOUR && octets[at + 2] === ZERO;
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

/** Whether the ids of two messages both have a number and differ only in it. */
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

const encoder = new TextEncoder();

/** Yields the ids stored by the first schema. */
export function* eachOf(written: WrittenIds): Generator<{ readonly series: Series; readonly number: number }> {
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
