/**
 * Reads whole bodies of requests, within limits of length, time and memory.
 *
 * @module
 */
import { byteReader, readBody } from "../../lib/runtime/byte-reader.ts";
import { within } from "../../lib/runtime/timeout.ts";
import { problem } from "../problem.ts";
import { type Context, goneOf } from "../pumps/tunnel-client.ts";
import { bodies, type HeldBody } from "./body-pool.ts";
import { BODY_RATE, BUSY_RETRY, DISCARD_READ, WHOLE_BODY_TIMEOUT } from "./limits.ts";

/** Why there is no body. */
export type NoBody = "BodyTooLong" | "ReceiveTimeout" | "DeviceGone";

/** The Content-Length, not exact if it is beyond all limits; undefined if the request has none that is valid. */
export function lengthOf(request: Request): number | undefined {
  const said = request.headers.get("content-length") ?? "";
  return /^\d+$/.test(said) ? Number(said) : undefined;
}

/**
 * Reads a body, or says why it has not come whole in time.
 *
 * @param limit bytes that it may have at most
 * @param length how many it has, if that is known
 */
export async function wholeBody(
  request: Request,
  limit: number,
  length: number | undefined,
): Promise<Uint8Array | NoBody> {
  return received(WHOLE_BODY_TIMEOUT, readBody(request.body, limit, length));
}

/** A request whose body is wanted. */
export interface BodyWanted {
  readonly request: Request;
  readonly context: Context;
  /** Whom its memory counts for; see `senderOfBodies`. */
  readonly sender: string;
  /** With whom that sender has a share, if not only of its own; see `BodyPool`. */
  readonly group?: string;
  /** Bytes that it may have at most. */
  readonly limit: number;
  /** Why a longer one is refused. */
  readonly tooLong: "AppendTooLong" | "RequestTooLong";
}

/**
 * Reads a body, which may be long, and calls with it. Until that call is over, its memory counts in the pool of this
 * isolate. A body that says its length has all of its memory from the start, so that of many at once some come whole;
 * any other counts as it grows. One for which there is no memory is answered with EdgeBusy.
 */
export function withBody(wanted: BodyWanted, use: (body: Uint8Array) => Promise<Response>): Promise<Response> {
  const { request, context, sender, group } = wanted;
  const held = bodies.begin(sender, group);
  const answered = answerWith(wanted, held, use);
  // When a client resets its request, the platform stops the handler, unless waitUntil holds it for a while.
  const freed = Promise.race([answered, goneOf(request)]).finally(held.release);
  context.waitUntil(freed.catch(() => undefined));
  return answered;
}

async function answerWith(
  { request, limit, tooLong }: BodyWanted,
  held: HeldBody,
  use: (body: Uint8Array) => Promise<Response>,
): Promise<Response> {
  const length = lengthOf(request);
  if (length !== undefined && length > limit) {
    // A client that has sent all of it, and is reset, reads no answer. One that has more to send looks for an answer.
    if (length <= 2 * limit && !request.headers.has("Expect")) await discard(request, length);
    return problem(tooLong);
  }
  let isBusy = length !== undefined && !held.hold(length);
  const mayGrow = (octets: number) => {
    isBusy = length === undefined && !held.hold(octets);
    return !isBusy;
  };
  const time = timeFor(length ?? limit);
  const body = isBusy ? "BodyTooLong" : await received(time, readBody(request.body, limit, length, mayGrow));
  if (isBusy) {
    // What it would have held is free for others meanwhile.
    held.release();
    const missing = await discard(request, limit);
    return missing === undefined ? problem("EdgeBusy", undefined, BUSY_RETRY) : withoutBody(missing);
  }
  if (body === "BodyTooLong") return problem(tooLong);
  return typeof body === "string" ? withoutBody(body) : use(body);
}

/**
 * The answer to a request, other than those of virtual connections, whose body has not come whole: a client or proxy that
 * has closed its half of the connection reads it [RFC 9112 8].
 */
export function withoutBody(why: NoBody): Response {
  return problem(why === "DeviceGone" ? "BodyIncomplete" : why);
}

/** Time for a body of this length: that for the shortest, and what the line needs for its bytes. In milliseconds. */
function timeFor(length: number): number {
  return WHOLE_BODY_TIMEOUT + length / BODY_RATE;
}

async function received(time: number, reading: Promise<Uint8Array | undefined>): Promise<Uint8Array | NoBody> {
  try {
    const body = await within(time, reading);
    if (body === undefined) return "ReceiveTimeout";
    return body.value ?? "BodyTooLong";
  } catch {
    return "DeviceGone";
  }
}

/**
 * Reads a body that is not wanted, and forgets it: a client that is still sending it reads no answer. Returns
 * why it has not come whole; undefined if it has.
 *
 * @param limit bytes after which the client gets no answer that it reads
 */
export async function discard({ body }: Request, limit: number): Promise<NoBody | undefined> {
  if (body === null) return undefined;
  const read = byteReader(body, DISCARD_READ);
  const until = Date.now() + WHOLE_BODY_TIMEOUT;
  let came = 0;
  try {
    for (;;) {
      const octets = await read(Math.max(0, until - Date.now()));
      if (octets === "end") return undefined;
      if (octets === "late") return "ReceiveTimeout";
      came += octets.length;
      if (came > limit) return "BodyTooLong";
    }
  } catch {
    return "DeviceGone";
  }
}
