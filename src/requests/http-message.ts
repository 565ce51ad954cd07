/**
 * HTTP requests and answers as the bodies of messages, in the form of RFC 9112. The body is kept octet for octet,
 * whatever its length: it ends with the message.
 *
 *     POST /github?from=hook HTTP/1.1          HTTP/1.1 200 OK
 *     content-type: application/json           content-type: text/plain
 *
 *     {"zen": "..."}                           done
 *
 * @module
 */
import type { Result } from "../lib/result.ts";
import { formatMessage, type Header, isToken, parseMessage } from "./head.ts";

/** A request. */
export interface HttpRequest {
  readonly method: string;
  /** Begins with a slash; percent-encoded, as it came. */
  readonly path: string;
  /** What follows the question mark, as it came; undefined without one. */
  readonly query: string | undefined;
  readonly headers: readonly Header[];
  readonly body: Uint8Array;
}

/** An answer. */
export interface HttpAnswer {
  /** 200 to 599. */
  readonly status: number;
  readonly headers: readonly Header[];
  readonly body: Uint8Array;
}

const VERSION = "HTTP/1.1";

/** Visible ASCII but `?` and `#`, beginning with a slash. */
const PATH = /^\/[!"$->@-~]*$/;

/** Visible ASCII but `#`. */
const QUERY = /^[!"$-~]*$/;

/**
 * Whether path and query can be sent in a request line [RFC 9112 3]. That says nothing about where they lead.
 */
export function isTarget(path: string, query: string | undefined): boolean {
  return PATH.test(path) && (query === undefined || QUERY.test(query));
}

/** @throws RangeError if a part cannot be written; its message says which */
export function encodeRequest({ method, path, query, headers, body }: HttpRequest): Uint8Array<ArrayBuffer> {
  if (!isToken(method)) throw new RangeError(`${JSON.stringify(method)} is not a method: write GET, POST or another`);
  if (!isTarget(path, query)) {
    throw new RangeError("the path does not begin with a slash, or has characters that must be percent-encoded");
  }
  return formatMessage({ first: `${method} ${targetText(path, query)} ${VERSION}`, headers }, body);
}

/** Path and query as in a request line. */
export function targetText(path: string, query: string | undefined): string {
  return query === undefined ? path : `${path}?${query}`;
}

/** Reads a request; the problem says why it is none. The body shares the memory of `octets`. */
export function decodeRequest(octets: Uint8Array): Result<HttpRequest, string> {
  const read = parseMessage(octets);
  if (!read.ok) return read;
  const { first, headers, body } = read.value;
  const [method = "", target = "", version, ...more] = first.split(" ");
  const mark = target.indexOf("?");
  const path = mark < 0 ? target : target.slice(0, mark);
  const query = mark < 0 ? undefined : target.slice(mark + 1);
  if (version !== VERSION || more.length > 0 || !isToken(method) || !isTarget(path, query)) {
    return { ok: false, problems: "its first line is not METHOD /PATH HTTP/1.1" };
  }
  return { ok: true, value: { method, path, query, headers, body } };
}

/** Reason phrases are left out: no program reads them. @throws RangeError if a part cannot be written */
export function encodeAnswer({ status, headers, body }: HttpAnswer): Uint8Array<ArrayBuffer> {
  if (!isStatus(status)) throw new RangeError(`${status} is not the status of an answer: use 200 to 599`);
  return formatMessage({ first: `${VERSION} ${status} `, headers }, body);
}

/** Reads an answer; the problem says why it is none. The body shares the memory of `octets`. */
export function decodeAnswer(octets: Uint8Array): Result<HttpAnswer, string> {
  const read = parseMessage(octets);
  if (!read.ok) return read;
  const { first, headers, body } = read.value;
  const [, digits] = /^HTTP\/1\.1 ([0-9]{3}) [\t -~]*$/.exec(first) ?? [];
  const status = Number(digits);
  if (!isStatus(status)) return { ok: false, problems: "its first line is not HTTP/1.1 STATUS" };
  return { ok: true, value: { status, headers, body } };
}

function isStatus(status: number): boolean {
  return Number.isInteger(status) && status >= 200 && status <= 599;
}
