/**
 * Reads of streams and mailboxes over HTTP: catch-up, long-poll and server-sent events [PROTOCOL 5.6, 5.7, 5.8].
 *
 * @module
 */
import { hasToken } from "../../auth/principal.ts";
import { Standing } from "../../auth/token-recheck.ts";
import { type Authentication, current } from "../../auth/verify-token.ts";
import { readHeaders } from "../durable-streams/answers.ts";
import { nextCursor } from "../durable-streams/cursor.ts";
import { CACHE, HEADER, UNBUFFERED } from "../durable-streams/headers.ts";
import { type ReadRequest, readRead } from "../durable-streams/requests.ts";
import type { Env } from "../env.ts";
import { problem } from "../problem.ts";
import { ask, longPoll, openEvents, type Readable, type Reader } from "../pumps/live-reads.ts";
import type { Context } from "../pumps/tunnel-client.ts";
import type { Reason } from "../reasons.ts";
import type { TicketRpc } from "../rpc/plain-stream-rpc.ts";
import { answered } from "./object-calls.ts";
import { refusal } from "./stream-answers.ts";

/** A principal, and the judgement about its token. */
export type Judged = Extract<Authentication, { type: "ok" }>;

/** How a stream is read. */
export interface Reading {
  readonly reader: Reader;
  readonly context: Context;
  /** Whether caches may keep what is read, for anybody. */
  readonly isPublic: boolean;
}

/** Answers a GET of a stream: at once, when something is appended, or with events. */
export async function read(request: Request, stream: Readable, reading: Reading): Promise<Response> {
  const wanted = readRead(new URL(request.url).searchParams, request.headers);
  if (!wanted.ok) return problem(wanted.problems.reason, wanted.problems.detail);
  switch (wanted.value.live) {
    case "sse":
      return events(stream, wanted.value, reading);
    case "long-poll":
      return poll(stream, wanted.value, reading);
    default:
      return catchUp(request, stream, wanted.value, reading);
  }
}

async function catchUp(
  request: Request,
  stream: Readable,
  { offset }: ReadRequest,
  { isPublic }: Reading,
): Promise<Response> {
  const etag = request.headers.get("If-None-Match") ?? undefined;
  const order = { offset, resumes: false, live: false, events: false, etag };
  const { answer, body } = await ask(stream, order);
  if (!answer.ok) return refusal(answer);
  const { state, isEmpty, notModified } = answer;
  const headers = readHeaders(state, { cursor: undefined, isPublic, isEmpty });
  if (notModified) {
    const { ETag = "", "Cache-Control": cache = "" } = headers;
    return new Response(null, { status: 304, headers: { ETag, "Cache-Control": cache } });
  }
  return new Response(body, { headers });
}

async function poll(
  stream: Readable,
  { offset, cursor }: ReadRequest,
  { reader, isPublic }: Reading,
): Promise<Response> {
  const polled = await longPoll(stream, offset, reader);
  if (polled.type === "refused") return refusal(polled.answer);
  const isEmpty = polled.type === "nothing";
  const next = nextCursor(cursor, Date.now(), Math.random());
  const headers = readHeaders(polled.state, { cursor: next, isPublic, isEmpty });
  if (polled.type === "data") return new Response(polled.body, { headers });
  const { "Content-Type": _, ETag: __, ...rest } = headers;
  return new Response(null, { status: 204, headers: rest });
}

async function events(stream: Readable, wanted: ReadRequest, { reader, context }: Reading): Promise<Response> {
  const opened = await openEvents(stream, wanted, reader);
  if (opened.type === "refused") return refusal(opened.answer);
  context.waitUntil(opened.done);
  const headers = {
    "Content-Type": "text/event-stream",
    "Cache-Control": CACHE.events,
    ...UNBUFFERED,
    ...(opened.encoding === "base64" && { [HEADER.encoding]: "base64" }),
  };
  return new Response(opened.body, { headers });
}

/** A reader that needs no token. */
export function unquestioned({ signal }: Request): Reader {
  return { gone: signal, refusal: async () => undefined };
}

/** The judgement about the token for which a ticket stands: a ticket is good only as long as its token. */
export async function judgedTicket(
  ticket: string,
  book: Pick<TicketRpc, "redeemTicket"> | undefined,
  env: Env,
): Promise<Judged | { readonly type: "refused"; readonly reason: Reason; readonly detail?: string }> {
  const bearer = book && (await answered(book.redeemTicket(ticket)));
  if (bearer === undefined) return { type: "refused", reason: "TicketInvalid" };
  const now = Date.now();
  return hasToken(bearer) ? current(bearer, env, now) : { type: "ok", principal: bearer, asOf: now };
}

/** A request, and what serves it. */
interface Asked {
  readonly request: Request;
  readonly env: Env;
  readonly context: Context;
}

/** A reader whose token is judged again when it has waited for long. */
export function readerOf({ request, env, context }: Asked, { principal, asOf }: Judged): Reader {
  if (!hasToken(principal)) return unquestioned(request);
  let why: Reason = "TokenInvalid";
  const standing = new Standing(
    env,
    (promise) => context.waitUntil(promise),
    (reason) => {
      why = reason;
    },
  );
  standing.show(principal, asOf);
  standing.connected();
  return {
    gone: request.signal,
    refusal: async () => (standing.fresh() || (await standing.judge()) ? undefined : why),
  };
}
