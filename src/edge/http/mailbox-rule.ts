/**
 * Reads and sets over HTTP who may send to a mailbox.
 *
 *   GET  {"peer": "grooveDevice://bob/laptop", "senders": "alice carol/phone"}
 *   PUT  {"senders": "everyone"}, answered like GET
 *
 * @module
 */

import { deviceURL, identityURL, isPeer, isRelay, parseAddress } from "../../sstp/index.ts";
import { gate } from "../admission/source-gate.ts";
import type { Env } from "../env.ts";
import { isOwnName } from "../origin/relay-access.ts";
import { sourceOf } from "../policy/client-network.ts";
import { EVERYONE, formatSenderRule, readSenderRule } from "../policy/sender-rule.ts";
import { problem } from "../problem.ts";
import type { Reason } from "../reasons.ts";
import { mailboxAt } from "./existing-mailbox.ts";
import { jsonObject } from "./json-body.ts";
import { RULE_OCTETS } from "./limits.ts";
import { answered } from "./object-calls.ts";

/**
 * Answers a GET or PUT of a mailbox's rule.
 *
 * @param address address of the mailbox's peer, as written in the path
 * @param forbidden why the caller may not access the mailbox of a peer (its URL); undefined if it may
 */
export async function answerRule(
  request: Request,
  address: string,
  env: Pick<Env, "DIRECTORY" | "MAILBOX" | "RELAY_NAME" | "TRUSTED_PROXIES">,
  forbidden: (peer: string) => Reason | undefined | Promise<Reason | undefined>,
): Promise<Response> {
  const peer = peerHere(address, env);
  if (peer instanceof Response) return peer;
  const refused = await forbidden(peer);
  if (refused !== undefined) return problem(refused);
  const wanted = request.method === "PUT" ? await sendersOf(request) : undefined;
  if (wanted instanceof Response) return wanted;
  return lookAt(request, env, peer, async (there) => {
    // A mailbox that does not exist has the default rule, and setting that does not create it.
    const isNew = wanted !== undefined && wanted !== EVERYONE_TEXT;
    const mailbox = there ?? (isNew ? env.MAILBOX.getByName(peer) : undefined);
    if (mailbox === undefined) return Response.json({ peer, senders: EVERYONE_TEXT });
    if (wanted !== undefined) await answered(mailbox.setSenders(wanted));
    const { senders } = await answered(mailbox.status());
    return Response.json({ peer, senders });
  });
}

/**
 * Answers a request about a mailbox without creating it. A source that asks for mailboxes that do not exist is limited
 * like one that asks for virtual connections that do not exist.
 */
export async function lookAt(
  request: Request,
  env: Pick<Env, "DIRECTORY" | "MAILBOX" | "TRUSTED_PROXIES">,
  peer: string,
  answer: (mailbox: MailboxStub | undefined) => Promise<Response>,
): Promise<Response> {
  const source = sourceOf(request, env.TRUSTED_PROXIES);
  const turned = await gate.look(source);
  if (turned !== undefined) return problem(turned.reason, undefined, turned.retryAfter);
  const mailbox = await mailboxAt(env, peer);
  if (mailbox !== undefined) gate.found(source);
  return answer(mailbox);
}

type MailboxStub = NonNullable<Awaited<ReturnType<typeof mailboxAt>>>;

const EVERYONE_TEXT = formatSenderRule(EVERYONE);

/**
 * The URL of the peer that a text names: an address, or the URL itself, as lists of mailboxes show it. Undefined if it
 * is neither.
 */
export function peerUrlOfAddress(text: string): string | undefined {
  if (text.includes("://")) return isPeer(text) || isRelay(text) ? text : undefined;
  const address = parseAddress(text);
  if (!address.ok) return undefined;
  return address.value.device === undefined ? identityURL(address.value) : deviceURL(address.value);
}

/** The URL of the peer that a text names, if its mailbox is at this edge; otherwise the answer that says why not. */
export function peerHere(text: string, env: Pick<Env, "RELAY_NAME">): string | Response {
  const peer = peerUrlOfAddress(text);
  if (peer === undefined) return problem("MalformedAddress");
  const address = parseAddress(text);
  const relay = address.ok ? address.value.relay : undefined;
  if (relay === undefined || isOwnName(relay, env)) return peer;
  return problem(
    "MalformedAddress",
    "The mailbox is at another relay. For one of this edge, leave out @ and the relay.",
  );
}

/** The rule that a request sets, in its canonical form; or why there is none. */
async function sendersOf(request: Request): Promise<string | Response> {
  const fields = await jsonObject(request, RULE_OCTETS, "MalformedRule");
  if (!fields.ok) return fields.problems;
  const { senders } = fields.value;
  if (typeof senders !== "string") return problem("MalformedRule");
  const rule = readSenderRule(senders);
  return rule.ok ? formatSenderRule(rule.value) : problem("MalformedRule", rule.problems);
}
