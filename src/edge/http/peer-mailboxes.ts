/**
 * Mailboxes of peers over HTTP: the same log that SSTP drains, as a stream of JSON of the Durable Streams protocol.
 *
 *   GET, HEAD /mailboxes/{address}    its owner: what waits or is kept, each message in an envelope; nothing is removed
 *   POST /mailboxes/{address}         send:PATTERN, and the mailbox's rule: each value of JSON is the body of a message;
 *                                     to close it, also its owner or an operator
 *   PUT, DELETE /mailboxes/{address}  its owner or an operator: when it ends and whether it is closed; removes all
 *   POST /send/{address}              send:PATTERN: the whole body, of any content type, is one message
 *
 * A browser's EventSource, which can send no token, reads with a ticket (tickets.ts).
 *
 * A sender is the device that the token's address names, or `from` in the query if that is a pattern. The edge writes
 * id, sender and time of a message.
 *
 * @module
 */
import { NOBODY, type Principal } from "../../auth/principal.ts";
import { owns } from "../../auth/scopes.ts";
import { recipientOf } from "../../sstp/index.ts";
import type { Mail, Recipient } from "../../store-and-forward/envelope.ts";
import { LONGEST_ID, Voucher } from "../../store-and-forward/vouched-id.ts";
import { metadataHeaders } from "../durable-streams/answers.ts";
import { isContentType, isJson } from "../durable-streams/content-type.ts";
import { CACHE, HEADER } from "../durable-streams/headers.ts";
import { sliceMessages, splitMessages } from "../durable-streams/json-mode.ts";
import { CONTENT_TYPE_CHARACTERS } from "../durable-streams/limits.ts";
import { ENVELOPE_SCHEMA, isEnvelope } from "../durable-streams/message-envelope.ts";
import type { ProducerClaim } from "../durable-streams/producer.ts";
import { readAppend, readCreate } from "../durable-streams/requests.ts";
import type { Env } from "../env.ts";
import { pathUnder, prefixOf } from "../policy/prefix-setting.ts";
import { problem } from "../problem.ts";
import type { Context } from "../pumps/tunnel-client.ts";
import type { Reason } from "../reasons.ts";
import type { Outcome, Posted, PostOrder, Refusal } from "../rpc/mailbox-rpc.ts";
import { pack } from "../rpc/message-batch.ts";
import { admitBearer, admitOperator } from "./authorize.ts";
import { mailboxAt } from "./existing-mailbox.ts";
import { APPEND_MESSAGES } from "./limits.ts";
import { peerHere } from "./mailbox-rule.ts";
import { charge, requestCost, type Way, wayOf } from "./mailbox-senders.ts";
import { answered } from "./object-calls.ts";
import { appendedAnswer, createdAnswer, forPages, guessed, hasTokenIn, refusal, withAppend } from "./stream-answers.ts";
import { type Judged, judgedTicket, read, readerOf } from "./stream-reads.ts";

const JSON_TYPE = "application/json";

/** The resource of a message, as that of a device that names none. */
const RESOURCE = "message";

const SEND = "/send/";

/** Why a mailbox refuses a message, as a reason over HTTP. */
const REASON_OF: Readonly<Record<Exclude<Outcome, "stored" | "duplicate">, Reason>> = {
  quota: "MailboxFull",
  tooLong: "AppendTooLong",
  full: "StorageFull",
  locked: "LockedOut",
  notEntered: "InternalError",
  newer: "NewerSchema",
  DNSLookupFailed: "DNSLookupFailed",
  HostNotReachable: "OriginUnreachable",
  ConnectionClosed: "OriginUnreachable",
};

/** A request that may be served. */
interface Served {
  readonly request: Request;
  readonly address: string;
  readonly env: Env;
  readonly context: Context;
  readonly judged: Judged;
  /** Whether it is an operator's, who may change any mailbox, but neither reads nor sends. */
  readonly isOperator: boolean;
}

/** Whether a request changes a mailbox otherwise than by a message. */
function mayChange({ method, headers }: Request): boolean {
  return method === "PUT" || method === "DELETE" || (method === "POST" && headers.has(HEADER.closed));
}

/** Answers a request for a peer's mailbox. */
export function answerPeer(request: Request, address: string, env: Env, context: Context): Promise<Response> {
  return forPages(request, env, async () => {
    const { searchParams } = new URL(request.url);
    if (hasTokenIn(searchParams)) return problem("TokenInQuery");
    const ticket = searchParams.get("ticket");
    if (ticket !== null && request.headers.get("Authorization") === null) {
      return byTicket(ticket, { request, address, env, context });
    }
    const bearer = await admitBearer(request, env, context);
    const isOperator = mayChange(request) && (await admitOperator(request, env)).type === "ok";
    // An operator's token that is no device's is for changes only.
    const judged =
      bearer.type === "refused" && isOperator ? ({ type: "ok", principal: NOBODY, asOf: Date.now() } as const) : bearer;
    if (judged.type === "refused") return problem(judged.reason, judged.detail);
    const served = { request, address, env, context, judged, isOperator };
    return methods[request.method]?.(served) ?? problem("MethodNotImplemented");
  });
}

/** Serves a reader with a ticket. */
async function byTicket(ticket: string, asked: Omit<Served, "judged" | "isOperator">): Promise<Response> {
  const { request, address, env } = asked;
  const serve = request.method === "GET" ? readOf : request.method === "HEAD" ? head : undefined;
  if (serve === undefined) return problem("TokenNeeded");
  const peer = peerHere(address, env);
  if (peer instanceof Response) return peer;
  return guessed(request, env, async (found) => {
    const judged = await judgedTicket(ticket, await mailboxAt(env, peer), env);
    if (judged.type === "refused") return problem(judged.reason, judged.detail);
    found();
    return serve({ ...asked, judged, isOperator: false });
  });
}

/** Answers `POST /send/{address}`. */
export function answerSend(request: Request, env: Env, context: Context): Promise<Response> {
  return forPages(request, env, async () => {
    const path = pathUnder(prefixOf(env), new URL(request.url).pathname) ?? "";
    const address = decoded(path.slice(SEND.length));
    if (address === undefined) return problem("MalformedAddress");
    if (hasTokenIn(new URL(request.url).searchParams)) return problem("TokenInQuery");
    const judged = await admitBearer(request, env, context);
    if (judged.type === "refused") return problem(judged.reason, judged.detail);
    const contentType = request.headers.get("Content-Type")?.trim() || undefined;
    if (contentType !== undefined && !isContentType(contentType)) return problem("MalformedContentType", LEGIBLE_TYPE);
    const served = { request, address, env, context, judged, isOperator: false };
    return withAppend(served, judged.principal, async (body) => {
      const sending = { bodies: [body], contentType, producer: undefined, sequence: undefined, closes: false };
      const sent = await send(served, sending);
      if (sent instanceof Response) return sent;
      const answer = posted(sent.posted, 0);
      if (!sent.posted.ok) return answer;
      return Response.json({ id: sent.ids[0], offset: sent.posted.next }, { headers: answer.headers });
    });
  });
}

const LEGIBLE_TYPE = `Write the Content-Type as type/subtype, with up to ${CONTENT_TYPE_CHARACTERS} characters.`;

/** Answers a request for the schema of envelopes. */
export function answerSchema(): Response {
  return Response.json(ENVELOPE_SCHEMA, { headers: { "Content-Type": "application/schema+json" } });
}

const methods: Readonly<Record<string, (served: Served) => Promise<Response>>> = {
  GET: readOf,
  HEAD: head,
  POST: append,
  PUT: create,
  DELETE: remove,
};

type MailboxStub = ReturnType<Env["MAILBOX"]["getByName"]>;

/** The mailbox, for its owner only. */
function owned({ address, env, judged }: Served): MailboxStub | Response {
  const peer = peerHere(address, env);
  if (peer instanceof Response) return peer;
  const { rights } = judged.principal;
  if (!owns(rights, peer)) return problem("ScopeMissing", "Only its owner, with the scope receive, reads a mailbox.");
  return env.MAILBOX.getByName(peer);
}

/** The mailbox, for its owner or an operator. */
function changeable(served: Served): MailboxStub | Response {
  const { address, env, judged, isOperator } = served;
  const peer = peerHere(address, env);
  if (peer instanceof Response) return peer;
  if (isOperator || owns(judged.principal.rights, peer)) return env.MAILBOX.getByName(peer);
  return problem("ScopeMissing", "Only its owner, with the scope receive, or an operator changes a mailbox.");
}

async function readOf(served: Served): Promise<Response> {
  const mailbox = owned(served);
  if (mailbox instanceof Response) return mailbox;
  const { request, context, judged } = served;
  return read(request, mailbox, { reader: readerOf(served, judged), context, isPublic: false });
}

async function head(served: Served): Promise<Response> {
  const mailbox = owned(served);
  if (mailbox instanceof Response) return mailbox;
  const found = await answered(mailbox.metadata());
  if (!found.ok) return refusal(found);
  return new Response(null, { headers: { ...metadataHeaders(found.state), "Cache-Control": CACHE.tail } });
}

/** Answers a PUT: makes sure that there is a mailbox, and sets when it ends and whether it is closed. */
async function create(served: Served): Promise<Response> {
  const mailbox = changeable(served);
  if (mailbox instanceof Response) return mailbox;
  const { request, env, judged } = served;
  const wanted = readCreate(request.headers);
  if (!wanted.ok) return problem(wanted.problems.reason, wanted.problems.detail);
  const { contentType, lifetime, closed, fork } = wanted.value;
  if (fork !== undefined) return problem("ForkOfMailbox");
  if (request.headers.has("Content-Type") && contentType !== undefined && !isJson(contentType)) {
    return problem("StreamDiffers", `A mailbox is ${JSON_TYPE}.`);
  }
  return withAppend(served, judged.principal, async (body) => {
    if (body.length > 0) return problem("MailboxNeedsSender");
    // It may be a new one.
    await charge({ source: "" }, judged.principal, env, requestCost(env));
    const created = await answered(mailbox.create({ lifetime, closed }));
    return created.ok ? createdAnswer(created, request) : refusal(created);
  });
}

async function remove(served: Served): Promise<Response> {
  const mailbox = changeable(served);
  if (mailbox instanceof Response) return mailbox;
  await answered(mailbox.remove());
  return new Response(null, { status: 204, headers: { "Cache-Control": CACHE.tail } });
}

function append(served: Served): Promise<Response> {
  return withAppend(served, served.judged.principal, (body) => appendBody(served, body));
}

async function appendBody(served: Served, body: Uint8Array): Promise<Response> {
  const { request } = served;
  const wanted = readAppend(request.headers, body.length);
  if (!wanted.ok) return problem(wanted.problems.reason, wanted.problems.detail);
  const { contentType, closes, producer, sequence } = wanted.value;
  if (contentType !== undefined && !isJson(contentType)) {
    return problem("ContentTypeDiffers", "Use /send for other types.");
  }
  if (closes) {
    const mailbox = changeable(served);
    if (mailbox instanceof Response) return mailbox;
    if (body.length === 0) {
      // The producer is that of the appends before, if the same token may send.
      const way = wayIn(served);
      const source = typeof way === "string" ? "" : way.source;
      return posted(await answered(mailbox.post({ bundle: undefined, source, producer, sequence, closes })), 0);
    }
  }
  const messages = splitMessages(body);
  if (messages === undefined) return problem("MalformedJson");
  if (messages.ends.length === 0) return problem("EmptyAppend");
  if (messages.ends.length > APPEND_MESSAGES) {
    return problem("AppendTooLong", `The body has more than ${APPEND_MESSAGES} messages.`);
  }
  const bodies = messages.ends.map((_, at) => sliceMessages(messages, at, at + 1));
  if (bodies.some(isEnvelope)) return problem("EnvelopeRefused");
  const sent = await send(served, { bodies, contentType: JSON_TYPE, producer, sequence, closes });
  return sent instanceof Response ? sent : posted(sent.posted, body.length);
}

/** The answer to a POST. @param length of its body */
function posted(stored: Posted, length: number): Response {
  if (stored.ok) return appendedAnswer(stored, length);
  return stored.reason === "refused" ? refusedMessage(stored.refused) : refusal(stored);
}

function refusedMessage({ outcome, at }: Refusal): Response {
  const some = at === 0 ? undefined : `The first ${at} messages are stored; send the others with other keys.`;
  return problem(REASON_OF[outcome], some);
}

/** What to send: bodies of messages, and what the request says of its producer. */
interface Sending extends Pick<PostOrder, "producer" | "sequence" | "closes"> {
  readonly bodies: readonly Uint8Array[];
  readonly contentType: string | undefined;
}

/** Stores messages, and resolves when they are durable. */
async function send(
  { request, address, env, judged }: Served,
  { bodies, contentType, producer, sequence, closes }: Sending,
): Promise<Response | { readonly posted: Posted; readonly ids: readonly string[] }> {
  const { principal } = judged;
  const key = request.headers.get(HEADER.idempotencyKey);
  if (key !== null && (key === "" || key.length > LONGEST_ID)) {
    return problem("MalformedStreamHeader", `Write Idempotency-Key with 1 to ${LONGEST_ID} characters.`);
  }
  const way = wayIn({ request, address, env, judged });
  if (typeof way === "string") return problem(way);
  const octets = bodies.reduce((sum, { length }) => sum + length, 0);
  await charge(way, principal, env, { octets, messages: bodies.length });
  const voucher = new Voucher(way.source, false);
  const ids = bodies.map((_, at) => voucher.id(idOf(key, producer, bodies.length === 1 ? undefined : at)));
  const recipient = recipientOf(address);
  if (!recipient.ok) return problem("MalformedAddress");
  const envelope = envelopeOf(way, recipient.value, contentType);
  const mails = bodies.map((body, at): Mail => ({ envelope, fields: { userRef: ids[at] ?? "", track: false }, body }));
  const order = { bundle: pack(mails), source: way.source, producer, sequence, closes };
  return { posted: await answered(env.MAILBOX.getByName(way.mailbox).post(order)), ids };
}

/**
 * What the sender calls a message. What a producer repeats has the same ids, even if the mailbox has forgotten it.
 *
 * @param at index of the message, if the request has several
 */
function idOf(key: string | null, producer: ProducerClaim | undefined, at: number | undefined): string {
  if (key !== null) return at === undefined ? key : `${key}.${at}`;
  if (producer === undefined) return "";
  const { id, epoch, seq } = producer;
  return `${id}#${epoch}#${seq}${at === undefined ? "" : `-${at}`}`;
}

function wayIn({
  request,
  address,
  env,
  judged,
}: Pick<Served, "request" | "address" | "env" | "judged">): Way | Reason {
  const { principal } = judged;
  return wayOf(address, withSender(new URL(request.url).searchParams, principal), principal, env);
}

function envelopeOf(
  { source, to }: Way,
  { identityURL, deviceURL }: Recipient,
  contentType: string | undefined,
): Mail["envelope"] {
  const typed = contentType === undefined ? {} : { contentType };
  // In the mailbox of a relay, the recipient is at that relay.
  const recipient = to === undefined ? { identityURL, deviceURL } : { identityURL: "", deviceURL: "", entries: [to] };
  return { source, resourceURL: RESOURCE, ...recipient, ...typed };
}

/** The query with the sender in it: the device that the token names, if the query names none. */
function withSender(query: URLSearchParams, { rights }: Principal): URLSearchParams {
  const { address = "" } = rights;
  if (!query.has("from") && !address.includes("*")) query.set("from", address);
  return query;
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
