/**
 * What all answers of streams and mailboxes have in common.
 *
 * @module
 */
import type { Principal } from "../../auth/principal.ts";
import { gate } from "../admission/source-gate.ts";
import { appendedHeaders, createdHeaders } from "../durable-streams/answers.ts";
import { CACHE, EXPOSED, METHODS, PROTECTION, SENT } from "../durable-streams/headers.ts";
import type { Env } from "../env.ts";
import { sourceOf } from "../policy/client-network.ts";
import { problem } from "../problem.ts";
import type { Context } from "../pumps/tunnel-client.ts";
import type { Created, Stored, StreamRefusal } from "../rpc/plain-stream-rpc.ts";
import { senderOfBodies } from "./body-pool.ts";
import { acrossOrigins, type PageRights, preflight } from "./cross-origin.ts";
import { APPEND_OCTETS } from "./limits.ts";
import { answerToFailure } from "./object-calls.ts";
import { type BodyWanted, withBody } from "./whole-body.ts";

/** What pages of other origins may do with streams. */
const PAGES: PageRights = { methods: METHODS, sent: SENT, exposed: EXPOSED, isCached: true };

/** Query parameters by which tokens are passed elsewhere, in lower case. */
const TOKEN_PARAMETERS = ["token", "access_token", "authorization"];

/** Serves a request from wherever its page comes, with what protects browsers on every answer, refusals too. */
export async function forPages(request: Request, env: Env, serve: () => Promise<Response>): Promise<Response> {
  // Also one that names no origin, which asks what it may do.
  if (request.method === "OPTIONS" && request.headers.get("Origin") === null) return guarded(preflight(PAGES));
  return guarded(await acrossOrigins(request, env, () => serve().catch(failed), PAGES));
}

/** An answer that pages can read too. */
async function failed(error: unknown): Promise<Response> {
  const answer = await answerToFailure(error);
  if (answer === undefined) throw error;
  return answer;
}

function guarded(answer: Response): Response {
  const { status, statusText, body, headers } = answer;
  const all = new Headers(headers);
  for (const [name, value] of Object.entries(PROTECTION)) all.set(name, value);
  return new Response(body, { status, statusText, headers: all });
}

/** Whether a query has a token, which does not belong there. */
export function hasTokenIn(query: URLSearchParams): boolean {
  return [...query.keys()].some((name) => TOKEN_PARAMETERS.includes(name.toLowerCase()));
}

/** The answer to a PUT. */
export function createdAnswer({ state, isNew }: Extract<Created, { ok: true }>, request: Request): Response {
  const headers = { ...createdHeaders(state), "Cache-Control": CACHE.tail };
  if (!isNew) return new Response(null, { status: 200, headers });
  const { origin, pathname } = new URL(request.url);
  return new Response(null, { status: 201, headers: { ...headers, Location: `${origin}${pathname}` } });
}

/** The answer to a POST. @param length of its body */
export function appendedAnswer(stored: Extract<Stored, { ok: true }>, length: number): Response {
  const { producer, next, closed, isDuplicate } = stored;
  // A producer learns by the status whether it has sent something for the first time [PROTOCOL 5.2.1].
  const status = producer !== undefined && !isDuplicate && length > 0 ? 200 : 204;
  const headers = { ...appendedHeaders(next, closed, producer), "Cache-Control": CACHE.tail };
  return new Response(null, { status, headers });
}

/** The answer to a request that a stream has refused. */
export function refusal({ reason, detail, headers = {} }: StreamRefusal): Response {
  const answer = problem(reason, detail);
  for (const [name, value] of Object.entries(headers)) answer.headers.set(name, value);
  return answer;
}

/**
 * Limits a client that may be guessing names or tickets, like anybody who asks for what may not exist.
 *
 * @param serve calls `found` when it knows that nothing was guessed, at the latest before it waits: many who read a
 *   stream behind one address would otherwise count as guessing while they wait
 */
export async function guessed(
  request: Request,
  env: Env,
  serve: (found: () => void) => Promise<Response>,
): Promise<Response> {
  const source = sourceOf(request, env.TRUSTED_PROXIES);
  const turned = await gate.look(source);
  if (turned !== undefined) return problem(turned.reason, undefined, turned.retryAfter);
  let isFound = false;
  const found = () => {
    if (!isFound) gate.found(source);
    isFound = true;
  };
  const answer = await serve(found);
  if (answer.status !== 404 && answer.status !== 401) found();
  return answer;
}

/** A request with a body for a stream or mailbox, and who sends it. */
interface Appending {
  readonly request: Request;
  readonly env: Env;
  readonly context: Context;
}

/** Reads the body of an append, and calls with it. */
export function withAppend(
  { request, env, context }: Appending,
  who: Principal,
  use: (body: Uint8Array) => Promise<Response>,
): Promise<Response> {
  const sender = senderOfBodies(who, sourceOf(request, env.TRUSTED_PROXIES));
  const wanted: BodyWanted = { request, context, sender, limit: APPEND_OCTETS, tooLong: "AppendTooLong" };
  return withBody(wanted, use);
}
