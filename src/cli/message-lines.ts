/**
 * A message as lines for a person. Only the first begins at the margin, with the sender; all others are marked, also those
 * that a terminal would make by itself of a long line: no message looks as if another sender had written a part of it.
 *
 *   alice/pc: line one
 *       | boss/pc: pay now
 *
 * @module
 */
import { columnsOf, visible } from "../lib/printable.ts";

/** Stands before each line of a message but the first. No sender's address begins so. */
const MARK = "    | ";

/** Octets that are made into text at a time. */
const SLICE = 16 * 1024;

/** Columns below which a terminal's lines are no longer cut: each would be mostly mark. */
const NARROW = 20;

const LINE_END = 0x0a;
const CARRIAGE_RETURN = 0x0d;

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * The lines of a message, piece by piece, the last line end included.
 *
 * @param sender who sent it, as it is to be shown
 * @param columns of the terminal; undefined when it is none, and lines are as long as they are
 */
export function* messageLines(sender: string, body: Uint8Array, columns?: number): Generator<string> {
  const line = new Line(columns);
  yield line.put(`${visible(sender)}: `);
  for (let at = 0; at < body.length; ) {
    if (body[at] === LINE_END) {
      at += 1;
      // The end of the last line is there in any case.
      if (at < body.length) yield line.begin();
      continue;
    }
    let end = body.indexOf(LINE_END, at);
    if (end < 0) end = body.length;
    const next = end - at > SLICE ? characterStart(body, at + SLICE) : end;
    const windows = next === end && end < body.length && body[end - 1] === CARRIAGE_RETURN;
    yield line.put(textOf(body.subarray(at, windows ? end - 1 : next)));
    at = next;
  }
  yield "\n";
}

/** Where lines end on a terminal of so many columns. */
class Line {
  readonly #columns: number;
  #used = 0;

  constructor(columns: number | undefined) {
    this.#columns = columns === undefined || columns < NARROW ? Number.POSITIVE_INFINITY : columns;
  }

  begin(): string {
    this.#used = MARK.length;
    return `\n${MARK}`;
  }

  put(text: string): string {
    if (this.#columns === Number.POSITIVE_INFINITY) return text;
    let cut = "";
    let copied = 0;
    let at = 0;
    for (const character of text) {
      const wide = columnsOf(character);
      if (this.#used + wide > this.#columns) {
        cut += text.slice(copied, at) + this.begin();
        copied = at;
      }
      this.#used += wide;
      at += character.length;
    }
    return cut + text.slice(copied);
  }
}

/** UTF-8 in which all can be seen. Octets that are none become `\xff`; tabs stay. */
function textOf(octets: Uint8Array): string {
  const whole = decoded(octets);
  if (whole !== undefined) return withTabs(whole);
  let text = "";
  let run = "";
  for (let at = 0; at < octets.length; ) {
    const length = sequenceLength(octets[at] ?? 0);
    const character = decoded(octets.subarray(at, at + length));
    if (character !== undefined) run += character;
    else {
      text += `${withTabs(run)}\\x${(octets[at] ?? 0).toString(16).padStart(2, "0")}`;
      run = "";
    }
    at += character === undefined ? 1 : length;
  }
  return text + withTabs(run);
}

function withTabs(text: string): string {
  return text.includes("\t") ? text.split("\t").map(visible).join("\t") : visible(text);
}

/** Undefined for what is not UTF-8. */
export function decoded(octets: Uint8Array): string | undefined {
  try {
    return decoder.decode(octets);
  } catch {
    return undefined;
  }
}

/** Octets of a character in UTF-8, by its first. */
function sequenceLength(first: number): number {
  if (first < 0xc0) return 1;
  if (first < 0xe0) return 2;
  return first < 0xf0 ? 3 : 4;
}

/** The start of the character that has an octet at this place, or the place itself where there is none. */
function characterStart(octets: Uint8Array, at: number): number {
  for (let start = at; start > at - 4; start -= 1) {
    if (((octets[start] ?? 0) & 0xc0) !== 0x80) return start;
  }
  return at;
}
