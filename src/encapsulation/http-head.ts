/**
 * HTTP/1.0 heads of a client: requests are written, responses are read, tolerating HTTP/1.1. Bodies are in
 * `http-body.ts`. A server leaves HTTP to its runtime.
 */

import type { Encapsulation, Reason } from "./registry.ts";
import {
  EncapsulationError,
  HEAD_LIMIT,
  HEADERS_LIMIT,
  HTTP_VERSION,
  PROXY_CONNECTION,
  REQUEST_HEADERS,
  USER_AGENT,
} from "./registry.ts";

/** One header. The name is in lower case when read, as given when written. */
export type Header = readonly [name: string, value: string];

export type ResponseHead = {
  readonly status: number;
  readonly phrase: string;
  readonly minor: 0 | 1;
  readonly headers: readonly Header[];
};

/** An invalid head. The rest of the stream cannot be interpreted. */
export type HeadFault = { readonly type: "fault"; readonly reason: Reason; readonly detail: string };

/** "more": the head is incomplete. "head": `rest` is a view of the bytes after it. */
export type HeadRead =
  | { readonly type: "more" }
  | { readonly type: "head"; readonly head: ResponseHead; readonly rest: Uint8Array }
  | HeadFault;

/**
 * Reads the head of one response, fed in arbitrary pieces, and buffers at most 16 KiB. A bare LF ends a line like CRLF, and leading
 * empty lines are skipped. Folded lines, blanks before a colon and control characters are refused, because two parsers
 * may interpret them differently. Unusable after "head" or "fault".
 */
export class ResponseHeadReader {
  #held = new Uint8Array(512);
  #length = 0;
  #line = 0;
  #started = false;

  feed(octets: Uint8Array): HeadRead {
    for (let at = 0; at < octets.length; at++) {
      const octet = octets[at] ?? 0;
      if (this.#length === HEAD_LIMIT) return fault("HeadTooLong", `The head is longer than ${HEAD_LIMIT} bytes.`);
      if (this.#length === this.#held.length) {
        const larger = new Uint8Array(this.#held.length * 2);
        larger.set(this.#held);
        this.#held = larger;
      }
      this.#held[this.#length++] = octet;
      if (octet !== 0x0a) {
        if (octet !== 0x0d) this.#line += 1;
        continue;
      }
      if (this.#line > 0) {
        this.#started = true;
        this.#line = 0;
      } else if (this.#started) {
        const head = parseResponse(linesOf(this.#held.subarray(0, this.#length)));
        return "type" in head ? head : { type: "head", head, rest: octets.subarray(at + 1) };
      }
    }
    return { type: "more" };
  }

  /** Whether any byte of the head has arrived. */
  get begun(): boolean {
    return this.#length > 0;
  }
}

/** The first header with that name, in any case; undefined if there is none. */
export function headerOf(headers: readonly Header[], name: string): string | undefined {
  const wanted = name.toLowerCase();
  return headers.find(([found]) => found.toLowerCase() === wanted)?.[1];
}

/** Whether a comma-separated header, possibly repeated, contains the member, in any case. */
export function hasMember(headers: readonly Header[], name: string, member: string): boolean {
  const wanted = name.toLowerCase();
  return headers.some(
    ([found, value]) =>
      found.toLowerCase() === wanted && value.split(",").some((part) => part.trim().toLowerCase() === member),
  );
}

/** Whether the sender of this head keeps the TCP connection open after the body. */
export function keepsConnection(head: ResponseHead): boolean {
  for (const name of ["connection", "proxy-connection"]) {
    if (hasMember(head.headers, name, "close")) return false;
    if (hasMember(head.headers, name, "keep-alive")) return true;
  }
  return head.minor === 1;
}

/** The parts of a request head. */
export type RequestFields = {
  readonly method: "GET" | "POST";
  readonly encapsulation: Exclude<Encapsulation, "WebSocket">;
  readonly target: string;
  /** Value of `Host`: the server's name or address, with the port unless it is the default. */
  readonly host: string;
  /** Octets of the body; POST only. */
  readonly contentLength?: number;
  readonly userAgent?: string;
  /** Whether the request goes to a proxy; KeepAlive then adds `Proxy-Connection` [MS-GRVHENC 2.2.3.1]. */
  readonly proxy?: boolean;
  /** Whether to ask for a connection that is kept open, as KeepAlive always does. */
  readonly keepAlive?: boolean;
  /** Whether the response may be chunked, which needs HTTP/1.1. Default: HTTP/1.0, as [MS-GRVHENC] has it. */
  readonly chunks?: boolean;
  /** Extra headers after those of the specification, such as credentials. */
  readonly headers?: readonly Header[];
};

/**
 * Formats a request head in the order of the example [MS-GRVHENC 4.2], with both Cache-Control headers [2.2.1.2.8]. A
 * KeepAlive GET equals the example octet for octet. The POST differs in the line `Host:`, where the example has an
 * error (see REQUEST_HEADERS).
 *
 * @throws EncapsulationError if a part would break the head
 */
export function formatRequest(fields: RequestFields): Uint8Array {
  const { method, encapsulation, target, host, contentLength, userAgent = USER_AGENT, proxy, headers = [] } = fields;
  const keepAlive = fields.keepAlive ?? encapsulation === "KeepAlive";
  if (!/^[!-~]+$/.test(target)) throw new EncapsulationError("target must be visible US-ASCII without blanks");
  const filled: ReadonlyMap<string, string> = new Map([
    ["Host", host],
    ["User-Agent", userAgent],
    ["Content-Length", String(contentLength ?? 0)],
  ]);
  const lines: Header[] = [];
  for (const { name, value } of REQUEST_HEADERS[method]) {
    if (name === "Connection" && !keepAlive) continue;
    lines.push([name, value ?? filled.get(name) ?? ""]);
  }
  if (proxy && keepAlive) lines.push([PROXY_CONNECTION.name, PROXY_CONNECTION.value ?? ""]);
  const version = fields.chunks ? "HTTP/1.1" : HTTP_VERSION;
  return formatHead(`${method} ${target} ${version}`, [...lines, ...headers]);
}

const encoder = new TextEncoder();

function formatHead(first: string, headers: readonly Header[]): Uint8Array {
  let text = `${first}\r\n`;
  for (const [name, value] of headers) {
    if (!TOKEN.test(name) || !VALUE.test(value)) {
      throw new EncapsulationError(`header ${JSON.stringify(name)} must have a token as name and a US-ASCII value`);
    }
    text += `${name}: ${value}\r\n`;
  }
  return encoder.encode(`${text}\r\n`);
}

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const VALUE = /^[\t -~]*$/;
const CONTROL = /[^\t -~\x80-\xff]/;
const STATUS_LINE = /^HTTP\/(\d)\.(\d) (\d{3})(?: (.*))?$/;

function parseResponse(lines: readonly string[]): ResponseHead | HeadFault {
  const parts = STATUS_LINE.exec(lines[0] ?? "");
  if (parts === null) return fault("MalformedHead", "The first line is not a status line.");
  const [, major, minor, status = "", phrase = ""] = parts;
  if (major !== "1" || (minor !== "0" && minor !== "1") || status < "100") {
    return fault("MalformedHead", "The status line is not one of HTTP/1.0 or HTTP/1.1.");
  }
  const headers = parseHeaders(lines);
  if ("type" in headers) return headers;
  return { status: Number(status), phrase, minor: minor === "1" ? 1 : 0, headers };
}

function parseHeaders(lines: readonly string[]): Header[] | HeadFault {
  if (lines.length - 1 > HEADERS_LIMIT) return fault("HeadTooLong", `There are more than ${HEADERS_LIMIT} headers.`);
  if (CONTROL.test(lines[0] ?? "")) return fault("MalformedHead", "There is a control character in the first line.");
  const headers: Header[] = [];
  for (const line of lines.slice(1)) {
    if (line.startsWith(" ") || line.startsWith("\t")) return fault("MalformedHead", "A header is folded.");
    const colon = line.indexOf(":");
    const name = line.slice(0, Math.max(colon, 0));
    if (!TOKEN.test(name)) return fault("MalformedHead", "A header name is not a token.");
    const value = line.slice(colon + 1).replace(/^[\t ]+|[\t ]+$/g, "");
    if (CONTROL.test(value)) return fault("MalformedHead", `There is a control character in the header ${name}.`);
    headers.push([name.toLowerCase(), value]);
  }
  return headers;
}

function linesOf(octets: Uint8Array): string[] {
  let text = "";
  for (let at = 0; at < octets.length; at += 4096) text += String.fromCharCode(...octets.subarray(at, at + 4096));
  return text.split(/\r?\n/).filter((line) => line !== "");
}

function fault(reason: Reason, detail: string): HeadFault {
  return { type: "fault", reason, detail };
}
