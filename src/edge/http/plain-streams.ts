/**
 * Plain streams over HTTP, by the Durable Streams protocol: `/mailboxes/{name}` with a name of three or more segments.
 *
 *   PUT     create, or fork        create:PATTERN; a fork also needs read:PATTERN for its source
 *   POST    append, close          write:PATTERN
 *   GET     read, long-poll, SSE   read:PATTERN
 *   HEAD    metadata               read:PATTERN
 *   DELETE                         create:PATTERN
 *
 * Streams under `public/` are read by anybody, and caches may keep what they hold. Everything else is private.
 *
 * @module
 */
import { ANYBODY, isSame, ownerOf, type Principal } from "../../auth/principal.ts";
import { mayOnStream, type StreamRight } from "../../auth/scopes.ts";
import { metadataHeaders } from "../durable-streams/answers.ts";
import { CACHE } from "../durable-streams/headers.ts";
import { readAppend, readCreate } from "../durable-streams/requests.ts";
import { isPublic, type Named, readName } from "../durable-streams/stream-name.ts";
import type { Env } from "../env.ts";
import { pathUnder, prefixOf } from "../policy/prefix-setting.ts";
import { problem } from "../problem.ts";
import type { Reader } from "../pumps/live-reads.ts";
import type { Context } from "../pumps/tunnel-client.ts";
import { admitBearer } from "./authorize.ts";
import { charge } from "./mailbox-senders.ts";
import { answered } from "./object-calls.ts";
import { appendedAnswer, createdAnswer, forPages, guessed, hasTokenIn, refusal, withAppend } from "./stream-answers.ts";
import { judgedTicket, read, readerOf, unquestioned } from "./stream-reads.ts";

type StreamName = Extract<Named, { type: "stream" }>;

const ROOT = "/mailboxes/";

const RIGHTS: Readonly<Record<string, StreamRight>> = {
  PUT: "create",
  DELETE: "create",
  POST: "write",
  GET: "read",
  HEAD: "read",
};

/** The name that a request's path gives; undefined if the path is not under `/mailboxes/`. */
export function nameIn(request: Request, env: Env): Named | undefined {
  const path = pathUnder(prefixOf(env), new URL(request.url).pathname);
  return path?.startsWith(ROOT) ? readName(path.slice(ROOT.length)) : undefined;
}

/** Answers a request for a plain stream. */
export function answerStream(request: Request, name: StreamName, env: Env, context: Context): Promise<Response> {
  return forPages(request, env, () => serveStream(request, name, env, context));
}

/** A request that may be served. */
interface Served {
  readonly request: Request;
  readonly name: StreamName;
  readonly env: Env;
  readonly context: Context;
  readonly reader: Reader;
  readonly who: Principal;
}

/** A read that may be served. A reader of a public stream needs no token, and then has no principal. */
type ServedRead = Omit<Served, "who"> & { readonly who: Principal | undefined };

async function serveStream(request: Request, name: StreamName, env: Env, context: Context): Promise<Response> {
  const right = RIGHTS[request.method];
  if (right === undefined) return problem("MethodNotImplemented");
  const { searchParams } = new URL(request.url);
  if (hasTokenIn(searchParams)) return problem("TokenInQuery");
  const ticket = searchParams.get("ticket");
  if (ticket !== null && request.headers.get("Authorization") === null) {
    return right === "read" ? byTicket(ticket, { request, name, env, context }) : problem("TokenNeeded");
  }
  if (right === "read" && isPublic(name.segments) && request.headers.get("Authorization") === null) {
    return forAnybody({ request, name, env, context, who: undefined, reader: unquestioned(request) });
  }
  const admitted = await admitBearer(request, env, context);
  if (admitted.type === "refused") return problem(admitted.reason, admitted.detail);
  const { principal } = admitted;
  if (!mayOnStream(principal.rights, right, name.segments)) {
    return problem("ScopeMissing", `The token lacks the scope ${right}: for this stream.`);
  }
  const reader = readerOf({ request, env, context }, admitted);
  return methods[request.method]?.({ request, name, env, context, who: principal, reader }) ?? problem("NotFound");
}

/** Serves a reader without a token. */
async function forAnybody(served: ServedRead): Promise<Response> {
  const { request, env, reader } = served;
  return guessed(request, env, (found) =>
    request.method === "HEAD" ? head(served) : readOf({ ...served, reader: { ...reader, found } }),
  );
}

/** Serves a reader for whom a ticket stands, as long as the token that got it is valid. */
async function byTicket(
  ticket: string,
  { request, name, env, context }: Omit<Served, "who" | "reader">,
): Promise<Response> {
  return guessed(request, env, async (found) => {
    const judged = await judgedTicket(ticket, env.PLAIN_STREAM.getByName(name.name), env);
    if (judged.type === "refused") return problem(judged.reason, judged.detail);
    found();
    const who = judged.principal;
    if (!mayOnStream(who.rights, "read", name.segments)) return problem("ScopeMissing");
    const served = { request, name, env, context, who, reader: readerOf({ request, env, context }, judged) };
    return request.method === "HEAD" ? head(served) : readOf(served);
  });
}

const methods: Readonly<Record<string, (served: Served) => Promise<Response>>> = {
  PUT: create,
  POST: append,
  GET: readOf,
  HEAD: head,
  DELETE: remove,
};

function readOf({ request, name, env, context, reader, who }: ServedRead): Promise<Response> {
  const stream = env.PLAIN_STREAM.getByName(name.name);
  return read(request, stream, { reader, context, isPublic: who === undefined });
}

async function create(served: Served): Promise<Response> {
  const { request, name, env, who } = served;
  const wanted = readCreate(request.headers);
  if (!wanted.ok) return problem(wanted.problems.reason, wanted.problems.detail);
  const { fork, ...rest } = wanted.value;
  const source = fork === undefined ? undefined : sourceNamed(fork.from, env);
  if (source?.type === "malformed") return problem("MalformedStreamName", source.detail);
  if (source?.type === "peer") return problem("ForkOfMailbox");
  if (source !== undefined && !mayOnStream(who.rights, "read", source.segments)) {
    return problem("ScopeMissing", "The token lacks the scope read: for the stream to fork.");
  }
  const order = {
    ...rest,
    fork: fork && source && { name: source.name, offset: fork.offset, beyond: fork.beyond },
    owner: isSame(who, ANYBODY) ? undefined : ownerOf(who),
  };
  return withAppend(served, who, async (body) => {
    await pay(who, env, body);
    const created = await answered(env.PLAIN_STREAM.getByName(name.name).create({ ...order, body }));
    return created.ok ? createdAnswer(created, request) : refusal(created);
  });
}

/** The stream that a header names: by the path of its URL, or by its name. */
function sourceNamed(text: string, env: Env): Named {
  const path = pathUnder(prefixOf(env), text) ?? text;
  const name = path.startsWith(ROOT) ? path.slice(ROOT.length) : path.replace(/^\//, "");
  return readName(name);
}

function append(served: Served): Promise<Response> {
  return withAppend(served, served.who, (body) => appendBody(served, body));
}

async function appendBody({ request, name, env, who }: Served, body: Uint8Array): Promise<Response> {
  await pay(who, env, body);
  const wanted = readAppend(request.headers, body.length);
  if (!wanted.ok) return problem(wanted.problems.reason, wanted.problems.detail);
  const order = { ...wanted.value, body, source: ownerOf(who) };
  const stored = await answered(env.PLAIN_STREAM.getByName(name.name).append(order));
  return stored.ok ? appendedAnswer(stored, body.length) : refusal(stored);
}

async function head({ name, env }: ServedRead): Promise<Response> {
  const found = await answered(env.PLAIN_STREAM.getByName(name.name).metadata());
  if (!found.ok) return refusal(found);
  return new Response(null, { headers: { ...metadataHeaders(found.state), "Cache-Control": CACHE.tail } });
}

async function remove({ name, env }: Served): Promise<Response> {
  const removed = await answered(env.PLAIN_STREAM.getByName(name.name).remove());
  return removed.ok ? new Response(null, { status: 204, headers: { "Cache-Control": CACHE.tail } }) : refusal(removed);
}

/** Charges a writer as a sender of one message. A writer over its rate waits. */
async function pay(who: Principal, env: Env, { length }: Uint8Array): Promise<void> {
  await charge({ source: "" }, who, env, { octets: length, messages: 1 });
}
