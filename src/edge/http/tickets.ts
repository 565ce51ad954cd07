/**
 * Tickets: what a browser shows instead of a token, where it can send no headers.
 *
 * @module
 */
import type { Principal } from "../../auth/principal.ts";
import { mayOnStream, owns } from "../../auth/scopes.ts";
import { CACHE } from "../durable-streams/headers.ts";
import { type Named, readName } from "../durable-streams/stream-name.ts";
import type { Env } from "../env.ts";
import { problem } from "../problem.ts";
import type { Context } from "../pumps/tunnel-client.ts";
import type { TicketRpc } from "../rpc/plain-stream-rpc.ts";
import { admitBearer } from "./authorize.ts";
import { jsonObject } from "./json-body.ts";
import { TICKET_REQUEST_OCTETS } from "./limits.ts";
import { peerHere } from "./mailbox-rule.ts";
import { answered } from "./object-calls.ts";
import { forPages, refusal } from "./stream-answers.ts";

/**
 * Answers `POST /tickets`: a ticket for a browser's EventSource, which can send no token [WHATWG HTML 9.2].
 *
 *   {"mailbox": "app/logs/today"} → 201 {"ticket": "…", "expires": "2026-01-31T12:00:00.000Z"}
 *
 * The ticket is a query parameter of the URL to read from: it stands for the token for an hour, for reading that stream,
 * or that peer's mailbox.
 */
export function answerTicket(request: Request, env: Env, context: Context): Promise<Response> {
  return forPages(request, env, async () => {
    const admitted = await admitBearer(request, env, context);
    if (admitted.type === "refused") return problem(admitted.reason, admitted.detail);
    const fields = await jsonObject(request, TICKET_REQUEST_OCTETS, "MalformedTicketRequest");
    if (!fields.ok) return fields.problems;
    const { mailbox } = fields.value;
    if (typeof mailbox !== "string") return problem("MalformedTicketRequest");
    const name = readName(mailbox);
    if (name.type === "malformed") return problem("MalformedTicketRequest", name.detail);
    const { principal } = admitted;
    const from = bookOf(name, principal, env);
    if (from instanceof Response) return from;
    const issued = await answered(from.issueTicket(principal));
    if (!issued.ok) return refusal(issued);
    const { ticket, expires } = issued;
    const headers = { "Cache-Control": CACHE.private };
    return Response.json({ ticket, expires: new Date(expires).toISOString() }, { status: 201, headers });
  });
}

/** What keeps the tickets of a name, if the principal may read it; or why not. */
function bookOf(
  name: Exclude<Named, { type: "malformed" }>,
  { rights }: Principal,
  env: Env,
): Pick<TicketRpc, "issueTicket"> | Response {
  if (name.type === "stream") {
    if (mayOnStream(rights, "read", name.segments)) return env.PLAIN_STREAM.getByName(name.name);
    return problem("ScopeMissing", "The token lacks the scope read: for this stream.");
  }
  const peer = peerHere(name.address, env);
  if (peer instanceof Response) return peer;
  if (owns(rights, peer)) return env.MAILBOX.getByName(peer);
  return problem("ScopeMissing", "Only its owner, with the scope receive, reads a mailbox.");
}
