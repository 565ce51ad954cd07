/**
 * The senders' API to the mailbox of a recipient. It needs a token that may send there.
 *
 *   GET    /mailboxes/{address}/room?from=alice/pc                  {"octets": 134217728, "messages": 50000, "attached": false,
 *                                                                    "all": {"octets": 65536, "most": 4294967296}}
 *   DELETE /mailboxes/{address}/messages?from=alice/pc&id=TEXT      {"removed": 12}
 *
 * `room` is how much the sender, with all devices of its identity, may add before it is suspended or refused, and
 * whether a device consumes the mailbox; `all` is what is reserved for it in all mailboxes, and how much may be.
 * DELETE withdraws the waiting messages of one device whose ids begin with a text; the mailbox remembers their ids, so
 * it does not store a message that is sent again. A withdrawal is charged for what it reads. Messages for a recipient
 * at another relay wait in that relay's mailbox.
 *
 * @module
 */
import { ANYBODY, isSame, type Principal } from "../../auth/principal.ts";
import { maySend, mayUse } from "../../auth/scopes.ts";
import { within } from "../../lib/runtime/timeout.ts";
import { deviceURL, identityURL, parseAddress, relayURL } from "../../sstp/index.ts";
import type { Recipient } from "../../store-and-forward/envelope.ts";
import { type Amount, isSpent, roomFor, senderOf } from "../../store-and-forward/sender-share.ts";
import { escaped, LONGEST_ID } from "../../store-and-forward/vouched-id.ts";
import { METER_TIMEOUT, WAKES } from "../admission/limits.ts";
import type { Env } from "../env.ts";
import { allowedLink, isOwnName } from "../origin/relay-access.ts";
import { mayLink } from "../policy/link-settings.ts";
import { parseQuota } from "../policy/quota-setting.ts";
import { meteredName, parseRate } from "../policy/rate-setting.ts";
import { problem } from "../problem.ts";
import type { Reason } from "../reasons.ts";
import type { Room } from "../rpc/mailbox-rpc.ts";
import { accountName } from "../rpc/meter-rpc.ts";
import { meterNamed } from "../volatile/object-named.ts";
import { lookAt } from "./mailbox-rule.ts";
import { answered } from "./object-calls.ts";

/** A sender and a recipient, and the mailbox in which messages between them wait. */
export interface Way {
  /** The sender's device URL. */
  readonly source: string;
  readonly mailbox: string;
  /** The recipient, if it is at another relay. */
  readonly to?: Recipient;
}

/** Answers a GET of a sender's room. */
export async function answerRoom(request: Request, address: string, who: Principal, env: Env): Promise<Response> {
  const way = wayOf(address, new URL(request.url).searchParams, who, env);
  if (typeof way === "string") return problem(way);
  await charge(way, who, env, requestCost(env));
  return lookAt(request, env, way.mailbox, async (mailbox) => {
    const quota = parseQuota(env.QUOTA ?? "");
    const empty: Room = { type: "room", ...roomFor(NOTHING, NOTHING, quota), reserved: 0, attached: false };
    const [room, all] = await Promise.all([
      mailbox === undefined ? empty : answered(mailbox.room(way.source)),
      reservedFor(way, env),
    ]);
    if (room.type === "locked") return problem("LockedOut");
    const { messages, reserved, attached } = room;
    // A recipient that is there is about to fetch what comes, which needs no reservation until the account is spent.
    const isLimited = all !== undefined && (!attached || isSpent(all, quota.sender));
    const octets = isLimited ? Math.min(room.octets, reserved + Math.max(0, quota.sender - all)) : room.octets;
    const known = all !== undefined && { all: { octets: all, most: quota.sender } };
    return Response.json({ octets, messages, attached, ...known });
  });
}

/** What all mailboxes have reserved for a sender, in bytes; undefined if its Meter does not answer. */
async function reservedFor({ source }: Way, env: Env): Promise<number | undefined> {
  const status = env.METER.getByName(accountName(senderOf(source))).status();
  return (await within(METER_TIMEOUT, status).catch(() => undefined))?.value.reserved;
}

/** Answers a DELETE of waiting messages. */
export async function answerWithdrawal(request: Request, address: string, who: Principal, env: Env): Promise<Response> {
  const query = new URL(request.url).searchParams;
  const way = wayOf(address, query, who, env);
  if (typeof way === "string") return problem(way);
  const id = query.get("id") ?? "";
  if (id === "" || id.length > LONGEST_ID) return problem("MalformedSender");
  await charge(way, who, env, requestCost(env));
  const { source, to, mailbox: peer } = way;
  return lookAt(request, env, peer, async (mailbox) => {
    const wanted = { source, idPrefix: escaped(id), ...(to !== undefined && { to }) };
    const done = mailbox && (await answered(mailbox.withdraw(wanted)));
    await charge(way, who, env, readingCost(done?.read ?? NOTHING, env));
    return Response.json({ removed: done?.removed ?? 0 });
  });
}

/**
 * Resolves the addresses of a request, or returns why it is refused.
 *
 * @param query `from` is the sending device
 */
export function wayOf(text: string, query: URLSearchParams, { rights }: Principal, env: Env): Way | Reason {
  const recipient = parseAddress(text);
  if (!recipient.ok) return "MalformedAddress";
  const address = recipient.value;
  const sender = parseAddress(query.get("from") ?? "");
  if (!sender.ok) return "MalformedSender";
  const from = sender.value;
  if (from.device === undefined || from.relay !== undefined) return "MalformedSender";
  if (!maySend(rights, address) || !mayUse(rights, from)) return "ScopeMissing";
  const source = deviceURL(from);
  const to = { identityURL: identityURL(address), deviceURL: address.device === undefined ? "" : deviceURL(address) };
  const { relay } = address;
  if (relay === undefined || isOwnName(relay, env)) return { source, mailbox: to.deviceURL || to.identityURL };
  const allowed = allowedLink(relayURL(relay), env);
  if (allowed.type === "refused") return allowed.reason;
  return mayLink(allowed.url, env) ? { source, mailbox: allowed.url, to } : "LinkInClear";
}

/**
 * Charges a principal. One that is over its rate waits here; if the meter is unreachable, the request is free.
 */
export async function charge({ source }: Pick<Way, "source">, who: Principal, env: Env, cost: Amount): Promise<void> {
  const name = meteredName(source, isSame(who, ANYBODY) ? undefined : who.id, env);
  if (name === undefined) return;
  let { octets, messages } = cost;
  while (octets > 0 || messages > 0) {
    const asked = meterNamed(env, name).lease("http", { octets, messages }, NOTHING);
    const lease = await within(METER_TIMEOUT, asked).catch(() => undefined);
    if (lease === undefined) return;
    if (lease.value.wait > 0) await scheduler.wait(lease.value.wait);
    octets = Math.max(0, octets - Math.max(1, lease.value.octets));
    messages = Math.max(0, messages - Math.max(1, lease.value.messages));
  }
}

/** A request costs as much as waking a mailbox. */
export function requestCost(env: Env): Amount {
  return { octets: 0, messages: Math.ceil(parseRate(env.RATE ?? "").messages / WAKES) };
}

/** What a withdrawal costs for what it has read. */
function readingCost(read: Amount, env: Env): Amount {
  const rate = parseRate(env.RATE ?? "");
  const costOf = (kind: keyof Amount) => Math.ceil(Math.min(read[kind] / READ_PER_SENT, rate[kind] * MOST_SECONDS));
  return { octets: costOf("octets"), messages: costOf("messages") };
}

const NOTHING = { octets: 0, messages: 0 };

/** Reading is at least this many times as fast as storing: a full mailbox is read in a tenth of a second. */
const READ_PER_SENT = 8;

/** The most that one withdrawal costs, in seconds of the rate: the sender waits for the answer. */
const MOST_SECONDS = 2;
