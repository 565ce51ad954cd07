/**
 * Reads HTTP bodies by Content-Length, chunked (some proxies answer so, in HTTP/1.1), or to the end of the TCP
 * connection; and whole responses. Output is views of the input.
 */

import type { HeadFault, ResponseHead } from "./http-head.ts";
import { hasMember, ResponseHeadReader } from "./http-head.ts";
import type { Reason } from "./registry.ts";
import { HEAD_LIMIT } from "./registry.ts";

/** How the end of a body is found. */
export type Framing =
  | { readonly type: "length"; readonly length: number }
  | { readonly type: "chunked" }
  | { readonly type: "close" };

/**
 * Determines the framing of the body after this head. Without a Content-Length it ends with the connection. Conflicting
 * lengths are refused, because two parsers may interpret them differently; chunks overrule a length [RFC 9112 6.3].
 */
export function framingOf(head: ResponseHead): Framing | HeadFault {
  if (head.status < 200 || head.status === 204 || head.status === 304) {
    return { type: "length", length: 0 };
  }
  const lengths = head.headers.filter(([name]) => name === "content-length").map(([, value]) => value);
  const codings = head.headers.filter(([name]) => name === "transfer-encoding");
  if (codings.length > 0) {
    const chunked = codings.length === 1 && hasMember(head.headers, "transfer-encoding", "chunked");
    if (!chunked || codings[0]?.[1].includes(","))
      return fault("The Transfer-Encoding is something other than chunked.");
    return { type: "chunked" };
  }
  const [first] = lengths;
  if (first === undefined) return { type: "close" };
  if (!/^\d{1,15}$/.test(first) || lengths.some((other) => other !== first)) {
    return fault("The Content-Length is not a single number.");
  }
  return { type: "length", length: Number(first) };
}

/** `data` are views; once `done`, `rest` is a view of what follows the body. */
export type BodyRead =
  | { readonly type: "body"; readonly data: readonly Uint8Array[]; readonly done: boolean; readonly rest: Uint8Array }
  | HeadFault;

/** Longest chunk-size line, with extensions. */
const LINE_LIMIT = 1024;

type Part = "body" | "size" | "chunk" | "afterChunk" | "trailer" | "done";

/** Reads one body, fed in arbitrary pieces. Copies and keeps no data. */
export class BodyReader {
  #part: Part;
  readonly #framing: Framing["type"];
  #left: number;
  #size = "";
  #line = 0;
  #trailers = 0;
  #afterCr = false;

  constructor(framing: Framing) {
    this.#framing = framing.type;
    this.#left = framing.type === "length" ? framing.length : Number.POSITIVE_INFINITY;
    this.#part = framing.type === "chunked" ? "size" : this.#left === 0 ? "done" : "body";
  }

  get done(): boolean {
    return this.#part === "done";
  }

  /** Handles the end of the TCP connection. True if the body is complete, false if it is cut off. */
  ended(): boolean {
    if (this.#framing === "close") this.#part = "done";
    return this.done;
  }

  read(octets: Uint8Array): BodyRead {
    const data: Uint8Array[] = [];
    let at = 0;
    while (at < octets.length && this.#part !== "done") {
      if (this.#part === "body" || this.#part === "chunk") {
        const end = Math.min(octets.length, at + this.#left);
        data.push(octets.subarray(at, end));
        this.#left -= end - at;
        at = end;
        if (this.#left === 0) this.#part = this.#part === "chunk" ? "afterChunk" : "done";
        continue;
      }
      const problem = this.#control(octets[at] ?? 0);
      if (problem !== undefined) return fault(problem, "MalformedBody");
      at += 1;
    }
    return { type: "body", data, done: this.done, rest: octets.subarray(at) };
  }

  /** Handles one byte of the lines around chunks. Returns a message if it is invalid. */
  #control(octet: number): string | undefined {
    if (this.#afterCr && octet !== 0x0a) return "A CR is not followed by LF.";
    this.#afterCr = octet === 0x0d;
    if (this.#afterCr) return undefined;
    if (this.#part === "afterChunk") {
      if (octet !== 0x0a) return "A chunk is longer than its size.";
      this.#part = "size";
      return undefined;
    }
    if (this.#part === "trailer") {
      this.#trailers += 1;
      if (this.#trailers > HEAD_LIMIT) return "The trailers are too long.";
      if (octet !== 0x0a) this.#line += 1;
      else if (this.#line === 0) this.#part = "done";
      else this.#line = 0;
      return undefined;
    }
    if (octet === 0x0a) {
      const digits = /^([0-9A-Fa-f]{1,12})[\t ]*(?:;|$)/.exec(this.#size)?.[1];
      if (digits === undefined) return "A chunk size is not a hexadecimal number.";
      this.#left = Number.parseInt(digits, 16);
      this.#part = this.#left === 0 ? "trailer" : "chunk";
      this.#size = "";
      this.#line = 0;
      return undefined;
    }
    if (this.#size.length === LINE_LIMIT) return "A chunk size line is too long.";
    this.#size += String.fromCharCode(octet);
    return undefined;
  }
}

/** An event of a response. */
export type ResponseEvent =
  | { readonly type: "head"; readonly head: ResponseHead }
  | { readonly type: "data"; readonly data: Uint8Array }
  | { readonly type: "end" }
  | HeadFault;

/**
 * Reads successive responses from one stream and skips interim ones (1xx). Call {@link expect} before each; bytes
 * without a request are a fault.
 */
export class ResponseReader {
  #heads = new ResponseHeadReader();
  #body: BodyReader | undefined;
  #expected = false;

  /** Call when a request is sent: one response may follow. */
  expect(): void {
    this.#heads = new ResponseHeadReader();
    this.#body = undefined;
    this.#expected = true;
  }

  /** Whether a response is due and incomplete. */
  get outstanding(): boolean {
    return this.#expected;
  }

  feed(octets: Uint8Array): ResponseEvent[] {
    const events: ResponseEvent[] = [];
    let rest = octets;
    while (rest.length > 0) {
      if (!this.#expected) return [...events, fault("Data arrived that no request asked for.")];
      if (this.#body === undefined) {
        const read = this.#heads.feed(rest);
        if (read.type === "more") return events;
        if (read.type === "fault") return [...events, read];
        rest = read.rest;
        if (read.head.status < 200 && read.head.status !== 101) {
          this.#heads = new ResponseHeadReader();
          continue;
        }
        const framing = framingOf(read.head);
        if (framing.type === "fault") return [...events, framing];
        events.push({ type: "head", head: read.head });
        this.#body = new BodyReader(framing);
      } else {
        const read = this.#body.read(rest);
        if (read.type === "fault") return [...events, read];
        for (const data of read.data) events.push({ type: "data", data });
        rest = read.rest;
      }
      if (this.#body.done) {
        this.#expected = false;
        this.#body = undefined;
        events.push({ type: "end" });
      }
    }
    return events;
  }

  /**
   * Handles the end of the TCP connection. Returns "end" if that completes the response; otherwise nothing, and it is
   * cut off if outstanding.
   */
  ended(): ResponseEvent[] {
    if (this.#body?.ended() !== true) return [];
    this.#expected = false;
    this.#body = undefined;
    return [{ type: "end" }];
  }
}

function fault(detail: string, reason: Reason = "MalformedHead"): HeadFault {
  return { type: "fault", reason, detail };
}
