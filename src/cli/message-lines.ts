/**
 * Formats a message as lines for a terminal. Only the first line starts at the margin, with the sender. All others get
 * a mark, including those that the terminal would create by wrapping. So no message can fake a line from another
 * sender.
 *
 *   alice/pc: line one
 *       | boss/pc: pay now
 *
 * @module
 */
import { columnsOf, visible } from "../lib/printable.ts";

/** Precedes each line of a message but the first. No sender's address begins like this. */
const MARK = "    | ";

/** Bytes decoded at a time. */
const SLICE = 16 * 1024;

/** Terminals with fewer columns than this are not wrapped for: each line would be mostly mark. */
const NARROW = 20;

const LINE_END = 0x0a;
const CARRIAGE_RETURN = 0x0d;

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Yields the lines of a message piece by piece, including the final line end.
 *
 * @param sender the sender, as displayed
 * @param columns width of the terminal; undefined if the output is not a terminal, and lines are not wrapped
 */
export function* messageLines(sender: string, body: Uint8Array, columns?: number): Generator<string> {
  const line = new Line(columns);
  yield line.put(`${visible(sender)}: `);
  for (let at = 0; at < body.length; ) {
    if (body[at] === LINE_END) {
      at += 1;
      // The final line end is yielded below.
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

/** Breaks lines at the width of the terminal. */
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

/** Decodes UTF-8 with control characters escaped. Invalid bytes become `\xff`; tabs stay. */
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

/** Decodes UTF-8; returns undefined if the bytes are not valid UTF-8. */
export function decoded(octets: Uint8Array): string | undefined {
  try {
    return decoder.decode(octets);
  } catch {
    return undefined;
  }
}

/** Returns the length in bytes of a UTF-8 character, from its first byte. */
function sequenceLength(first: number): number {
  if (first < 0xc0) return 1;
  if (first < 0xe0) return 2;
  return first < 0xf0 ? 3 : 4;
}

/** Returns where the character that covers this position starts, or the position itself if none does. */
function characterStart(octets: Uint8Array, at: number): number {
  for (let start = at; start > at - 4; start -= 1) {
    if (((octets[start] ?? 0) & 0xc0) !== 0x80) return start;
  }
  return at;
}
