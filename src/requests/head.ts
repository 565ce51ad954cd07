/**
 * Heads of HTTP messages as RFC 9112 writes them: a first line, headers, an empty line. Each character stands for one
 * octet, so that what is not ASCII survives. Lines end with CRLF and nothing else, since two parsers may disagree about
 * all other ends.
 *
 * @module
 */
import type { Result } from "../lib/result.ts";
import { HEAD_OCTETS, HEADERS } from "./limits.ts";

/** One header, its name in any case. Its value has no blanks at its ends. */
export type Header = readonly [name: string, value: string];

export interface Head {
  readonly first: string;
  readonly headers: readonly Header[];
}

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const VALUE = /^[\t -~\x80-\xff]*$/;
const BLANKS_AT_ENDS = /^[\t ]+|[\t ]+$/g;
const END = "\r\n\r\n";

/** Whether a text can be a method or the name of a header [RFC 9110 5.6.2]. */
export function isToken(text: string): boolean {
  return TOKEN.test(text);
}

/** Whether a text can be the value of a header. */
export function isHeaderValue(text: string): boolean {
  return VALUE.test(text);
}

/**
 * Writes a head and what follows it.
 *
 * @throws RangeError if a header cannot be written, or the head is too long
 */
export function formatMessage({ first, headers }: Head, body: Uint8Array): Uint8Array<ArrayBuffer> {
  if (headers.length > HEADERS) throw new RangeError(`there are ${headers.length} headers: send at most ${HEADERS}`);
  let text = `${first}\r\n`;
  for (const [name, value] of headers) {
    if (!isToken(name)) throw new RangeError(`the name of a header is not a token: ${JSON.stringify(name)}`);
    if (!isHeaderValue(value)) throw new RangeError(`the header ${name} has a control character, or one beyond U+00FF`);
    text += `${name}: ${value.replace(BLANKS_AT_ENDS, "")}\r\n`;
  }
  text += "\r\n";
  if (text.length > HEAD_OCTETS) throw new RangeError(`the head has ${text.length} bytes: send at most ${HEAD_OCTETS}`);
  const whole = new Uint8Array(text.length + body.length);
  for (let at = 0; at < text.length; at += 1) whole[at] = text.charCodeAt(at);
  whole.set(body, text.length);
  return whole;
}

/** Reads a head. The body is a view of what follows it. */
export function parseMessage(octets: Uint8Array): Result<Head & { readonly body: Uint8Array }, string> {
  const text = latin1(octets.subarray(0, HEAD_OCTETS));
  const end = text.indexOf(END);
  if (end < 0) return wrong("it has no head, or a longer one than is allowed");
  const [first = "", ...lines] = text.slice(0, end).split("\r\n");
  if (lines.length > HEADERS) return wrong(`it has ${lines.length} headers; at most ${HEADERS} are allowed`);
  const headers: Header[] = [];
  for (const line of lines) {
    const colon = line.indexOf(":");
    const name = line.slice(0, Math.max(colon, 0));
    const value = line.slice(colon + 1).replace(BLANKS_AT_ENDS, "");
    if (!isToken(name) || !isHeaderValue(value)) return wrong("one of its lines is not a header");
    headers.push([name, value]);
  }
  return { ok: true, value: { first, headers, body: octets.subarray(end + END.length) } };
}

/** The first header of a name, in any case; undefined if there is none. */
export function headerIn(headers: readonly Header[], name: string): string | undefined {
  const wanted = name.toLowerCase();
  return headers.find(([found]) => found.toLowerCase() === wanted)?.[1];
}

function latin1(octets: Uint8Array): string {
  let text = "";
  for (let at = 0; at < octets.length; at += 4096) text += String.fromCharCode(...octets.subarray(at, at + 4096));
  return text;
}

function wrong(problems: string): Result<never, string> {
  return { ok: false, problems };
}
