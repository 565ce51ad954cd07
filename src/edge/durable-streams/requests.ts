/**
 * Requests of the Durable Streams protocol, read from their headers and query. Bodies are read elsewhere.
 *
 * @module
 */
import { DEFAULT_CONTENT_TYPE, isContentType } from "./content-type.ts";
import { type Lifetime, readLifetime } from "./expiry.ts";
import { HEADER } from "./headers.ts";
import { SEQUENCE_CHARACTERS } from "./limits.ts";
import { type Offset, parseOffset } from "./offset.ts";
import type { ProducerClaim } from "./producer.ts";

/** A PUT [5.1]. */
export interface CreateRequest {
  /** Undefined if the request has none: the default, or that of a fork's source. */
  readonly contentType: string | undefined;
  readonly lifetime: Lifetime;
  /** Whether the stream is created closed. */
  readonly closed: boolean;
  readonly fork: ForkRequest | undefined;
}

/** What a PUT forks [4.2]. */
export interface ForkRequest {
  /** Path or name of the source, as written. */
  readonly from: string;
  /** Undefined for the tail. */
  readonly offset: string | undefined;
  /** Bytes or messages beyond the offset. */
  readonly beyond: number;
}

/** A POST [5.2]. */
export interface AppendRequest {
  readonly contentType: string | undefined;
  /** Whether the stream is closed after the append. */
  readonly closes: boolean;
  readonly producer: ProducerClaim | undefined;
  /** Stream-Seq. */
  readonly sequence: string | undefined;
}

/** A GET [5.6, 5.7, 5.8]. */
export interface ReadRequest {
  /** As written. */
  readonly offset: string;
  readonly live: "long-poll" | "sse" | undefined;
  readonly cursor: string | undefined;
  /** Whether the offset is what a browser has kept of an earlier answer. */
  readonly resumes: boolean;
}

/** The reasons for which a request is refused before the stream is asked. */
export type RequestProblem =
  | "MalformedStreamHeader"
  | "MalformedContentType"
  | "MalformedOffset"
  | "MalformedQuery"
  | "EmptyAppend";

export type ReadResult<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly problems: { readonly reason: RequestProblem; readonly detail: string } };

export function readCreate(headers: Headers): ReadResult<CreateRequest> {
  const contentType = contentTypeOf(headers);
  if (contentType === null) return malformedType();
  const lifetime = readLifetime(headers.get(HEADER.ttl), headers.get(HEADER.expiresAt));
  if (!lifetime.ok) return malformed("MalformedStreamHeader", lifetime.problems);
  const fork = readFork(headers);
  if (!fork.ok) return fork;
  const value = {
    contentType: contentType ?? (fork.value === undefined ? DEFAULT_CONTENT_TYPE : undefined),
    lifetime: lifetime.value,
    closed: isClosed(headers),
    fork: fork.value,
  };
  return { ok: true, value };
}

function readFork(headers: Headers): ReadResult<ForkRequest | undefined> {
  const from = headers.get(HEADER.forkedFrom);
  const offset = headers.get(HEADER.forkOffset);
  const beyond = headers.get(HEADER.forkSubOffset);
  if (from === null || from === "") {
    if (from === null && offset === null && beyond === null) return { ok: true, value: undefined };
    return malformed("MalformedStreamHeader", "A fork needs Stream-Forked-From with the path of its source.");
  }
  const parsed = offset === null ? "now" : parseOffset(offset);
  if (parsed === undefined) return malformed("MalformedOffset", "Stream-Fork-Offset is no offset of this edge.");
  const count = beyond === null ? 0 : wholeNumber(beyond);
  if (count === undefined) {
    return malformed("MalformedStreamHeader", "Write Stream-Fork-Sub-Offset as a whole number, without leading zeros.");
  }
  return { ok: true, value: { from, offset: offset ?? undefined, beyond: count } };
}

/** @param length of the body, in bytes */
export function readAppend(headers: Headers, length: number): ReadResult<AppendRequest> {
  const closes = isClosed(headers);
  const producer = readProducer(headers);
  if (!producer.ok) return producer;
  const sequence = headers.get(HEADER.sequence) ?? undefined;
  if (sequence !== undefined && (sequence === "" || sequence.length > SEQUENCE_CHARACTERS)) {
    return malformed("MalformedStreamHeader", `Write Stream-Seq with 1 to ${SEQUENCE_CHARACTERS} characters.`);
  }
  const rest = { closes, producer: producer.value, sequence };
  if (length === 0) {
    // Libraries send a Content-Type with an empty body too.
    if (closes) return { ok: true, value: { contentType: undefined, ...rest } };
    return malformed("EmptyAppend", "The body is empty, and Stream-Closed: true is not there either.");
  }
  const contentType = contentTypeOf(headers);
  if (contentType === undefined || contentType === null) return malformedType();
  return { ok: true, value: { contentType, ...rest } };
}

function readProducer(headers: Headers): ReadResult<ProducerClaim | undefined> {
  const texts = [headers.get(HEADER.producerId), headers.get(HEADER.producerEpoch), headers.get(HEADER.producerSeq)];
  if (texts.every((text) => text === null)) return { ok: true, value: undefined };
  const [id, epoch, seq] = texts.map((text) => text ?? "");
  if (id === undefined || id === "" || id.length > SEQUENCE_CHARACTERS) {
    return malformed("MalformedStreamHeader", `Write Producer-Id with 1 to ${SEQUENCE_CHARACTERS} characters.`);
  }
  const [inEpoch, number] = [wholeNumber(epoch ?? ""), wholeNumber(seq ?? "")];
  if (inEpoch === undefined || number === undefined) {
    return malformed(
      "MalformedStreamHeader",
      "Send Producer-Id, Producer-Epoch and Producer-Seq together, the last two as whole numbers up to 2^53 - 1.",
    );
  }
  return { ok: true, value: { id, epoch: inEpoch, seq: number } };
}

/** @param query of the URL */
export function readRead(query: URLSearchParams, headers: Headers): ReadResult<ReadRequest> {
  for (const name of ["offset", "live", "cursor"]) {
    if (query.getAll(name).length > 1) return malformed("MalformedQuery", `The query has ${name} more than once.`);
  }
  const live = query.get("live") ?? undefined;
  if (live !== undefined && live !== "long-poll" && live !== "sse") {
    return malformed("MalformedQuery", "Write live=long-poll or live=sse, or leave it out.");
  }
  const kept = live === "sse" ? headers.get(HEADER.lastEventId) : null;
  const written = query.get("offset");
  if (live !== undefined && written === null && !kept) {
    return malformed("MalformedOffset", `A read with live=${live} needs an offset: -1 for the beginning, or now.`);
  }
  const offset = kept || (written ?? "-1");
  if (parseOffset(offset) === undefined) {
    return malformed("MalformedOffset", "The offset is not -1, now, or one that this edge has given.");
  }
  return { ok: true, value: { offset, live, cursor: query.get("cursor") ?? undefined, resumes: Boolean(kept) } };
}

/** The offset of a request, which {@link readRead} or {@link readCreate} has checked. */
export function offsetOf(text: string): Offset {
  const offset = parseOffset(text);
  if (offset === undefined) throw new Error("the offset was not checked");
  return offset;
}

/** Any other value than `true` counts as none [4.1]. */
function isClosed(headers: Headers): boolean {
  return headers.get(HEADER.closed)?.toLowerCase() === "true";
}

/** The content type; undefined if there is none, null if it is malformed. */
function contentTypeOf(headers: Headers): string | undefined | null {
  const text = headers.get("Content-Type")?.trim() ?? "";
  if (text === "") return undefined;
  return isContentType(text) ? text : null;
}

function wholeNumber(text: string): number | undefined {
  const number = /^(?:0|[1-9]\d{0,15})$/.test(text) ? Number(text) : Number.NaN;
  return Number.isSafeInteger(number) ? number : undefined;
}

function malformed(reason: RequestProblem, detail: string): Extract<ReadResult<never>, { ok: false }> {
  return { ok: false, problems: { reason, detail } };
}

function malformedType(): Extract<ReadResult<never>, { ok: false }> {
  return malformed("MalformedContentType", "Write the Content-Type as type/subtype, with parameters if need be.");
}
