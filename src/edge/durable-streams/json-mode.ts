/**
 * Streams of JSON: a body is one message, or an array whose elements are messages [PROTOCOL 9.1]. A message keeps the
 * very bytes that were sent, but for white space around it: numbers keep their digits, and objects their order.
 *
 * Messages are stored one after another, separated by commas, so that a read only puts brackets around them.
 *
 * @module
 */
import { joinOctets } from "../../lib/octets.ts";
import { isOneValue } from "./json-syntax.ts";

/** Messages, separated by commas, and where each ends. */
export interface Messages {
  readonly octets: Uint8Array;
  /** The end of each message in `octets`, not counting the comma. */
  readonly ends: readonly number[];
}

const [COMMA, QUOTE, BACKSLASH] = [0x2c, 0x22, 0x5c];
const [OPEN_ARRAY, CLOSE_ARRAY, OPEN_OBJECT, CLOSE_OBJECT] = [0x5b, 0x5d, 0x7b, 0x7d];

/** What JSON allows between its tokens [RFC 8259 2]. */
function isSpace(octet: number | undefined): boolean {
  return octet === 0x20 || octet === 0x0a || octet === 0x0d || octet === 0x09;
}

/**
 * Splits a body into messages.
 *
 * @returns undefined if it is not JSON in UTF-8. An empty array has no messages.
 *
 * @example
 * splitMessages(encode('[{"a":1}, [2,3]]')); // octets: {"a":1},[2,3]  ends: 7, 13
 */
export function splitMessages(body: Uint8Array): Messages | undefined {
  if (!isUtf8(body) || !isOneValue(body)) return undefined;
  const [from, to] = trimmed(body, 0, body.length);
  if (body[from] !== OPEN_ARRAY) return { octets: body.subarray(from, to), ends: [to - from] };
  // Copied at once: millions of short messages must not be as many objects.
  const octets = new Uint8Array(to - from);
  const ends: number[] = [];
  let length = 0;
  for (const [start, end] of elementsOf(body, from + 1, to - 1)) {
    if (ends.length > 0) {
      octets[length] = COMMA;
      length += 1;
    }
    if (end - start < SHORT_COPY) for (let at = start; at < end; at += 1) octets[length + at - start] = body[at] ?? 0;
    else octets.set(body.subarray(start, end), length);
    length += end - start;
    ends.push(length);
  }
  return { octets: octets.subarray(0, length), ends };
}

/** The messages from one to before another, as they are stored. */
export function sliceMessages({ octets, ends }: Messages, from: number, to = ends.length): Uint8Array {
  const start = from === 0 ? 0 : (ends[from - 1] ?? octets.length) + 1;
  return octets.subarray(start, to === 0 ? 0 : Math.max(start, ends[to - 1] ?? octets.length));
}

/** The body of a read: stored runs of messages as one array. Empty runs are left out. */
export function asArray(runs: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const pieces: Uint8Array[] = [OPENING];
  for (const run of runs) {
    if (run.length === 0) continue;
    if (pieces.length > 1) pieces.push(SEPARATOR);
    pieces.push(run);
  }
  pieces.push(CLOSING);
  return joinOctets(
    pieces,
    pieces.reduce((sum, { length }) => sum + length, 0),
  );
}

const SEPARATOR = Uint8Array.of(COMMA);
const OPENING = Uint8Array.of(OPEN_ARRAY);
const CLOSING = Uint8Array.of(CLOSE_ARRAY);

/** Bytes of a message that is copied byte by byte, which is faster than a view for each. */
const SHORT_COPY = 64;

function isUtf8(body: Uint8Array): boolean {
  try {
    new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body);
    return true;
  } catch (error) {
    if (error instanceof TypeError) return false;
    throw error;
  }
}

function trimmed(octets: Uint8Array, from: number, to: number): [number, number] {
  let [start, end] = [from, to];
  while (start < end && isSpace(octets[start])) start += 1;
  while (end > start && isSpace(octets[end - 1])) end -= 1;
  return [start, end];
}

/** The elements of an array, given what is between its brackets. It is known to be valid. */
function* elementsOf(octets: Uint8Array, from: number, to: number): Generator<[number, number]> {
  let start = from;
  let depth = 0;
  for (let at = from; at < to; at += 1) {
    const octet = octets[at];
    if (octet === QUOTE) at = endOfString(octets, at);
    else if (octet === OPEN_ARRAY || octet === OPEN_OBJECT) depth += 1;
    else if (octet === CLOSE_ARRAY || octet === CLOSE_OBJECT) depth -= 1;
    else if (octet === COMMA && depth === 0) {
      yield trimmed(octets, start, at);
      start = at + 1;
    }
  }
  const [first, end] = trimmed(octets, start, to);
  if (end > first) yield [first, end];
}

/**
 * Where the names of an object's own members are, with their quotes, in order. A value that is no object has none. It is
 * known to be valid: this makes no value of it, which could take thirty times its bytes.
 */
export function* namesIn(octets: Uint8Array): Generator<[start: number, end: number]> {
  const [from] = trimmed(octets, 0, octets.length);
  if (octets[from] !== OPEN_OBJECT) return;
  let depth = 0;
  let isName = false;
  for (let at = from; at < octets.length; at += 1) {
    const octet = octets[at];
    if (octet === QUOTE) {
      const end = endOfString(octets, at);
      if (isName) yield [at, end + 1];
      isName = false;
      at = end;
    } else if (octet === OPEN_ARRAY || octet === OPEN_OBJECT) {
      depth += 1;
      isName = depth === 1;
    } else if (octet === CLOSE_ARRAY || octet === CLOSE_OBJECT) depth -= 1;
    else if (octet === COMMA) isName = depth === 1;
  }
}

/** The closing quote of a string. No byte of a longer character of UTF-8 looks like a quote or a backslash. */
function endOfString(octets: Uint8Array, opening: number): number {
  for (let at = opening + 1; at < octets.length; at += 1) {
    if (octets[at] === BACKSLASH) at += 1;
    else if (octets[at] === QUOTE) return at;
  }
  return octets.length;
}
