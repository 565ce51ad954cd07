/**
 * The owners' API to their inboxes. It needs a token that may receive for the address, or at /admin/inboxes that of an
 * operator.
 *
 *   GET    /inboxes/{address}                       {"inboxes": [...]}
 *   POST   /inboxes/{address}                       makes one (new-inbox.ts): {"inbox": {...}, "path": "/in/..."}
 *   DELETE /inboxes/{address}/{name}                {"removed": true}
 *   POST   /inboxes/{address}/{name}/secret         {"secret": "...", "keep": 86400}: the former one counts that long
 *   POST   /inboxes/{address}/{name}/url            gives it another URL: {"inbox": {...}, "path": "/in/..."}
 *   GET    /inboxes/{address}/failed?after=N        {"failed": [...]}: requests that were set aside
 *   POST   /inboxes/{address}/failed?inbox=..&id=.. sets the request in the body aside
 *   POST   /inboxes/{address}/failed/replay         {"numbers": [1, 2]}, or all: {"replayed": 2}
 *   DELETE /inboxes/{address}/failed                {"numbers": [1, 2]}, or all: {"removed": 2}
 *
 * The path with the capability is in the answer that makes it and nowhere else.
 *
 * @module
 */
import { type Context, Hono } from "hono";
import { owns, peerOf } from "../../auth/scopes.ts";
import { isInboxName } from "../../sstp/index.ts";
import { gate } from "../admission/source-gate.ts";
import type { Env } from "../env.ts";
import { hashOf, issueCapability, locatorOf } from "../inboxes/capability.ts";
import { FAILED_TEXT, FORMER_SECRET, FORMER_SECRET_MOST, LARGEST_MESSAGE } from "../inboxes/limits.ts";
import { readNewInbox, secretProblemOf } from "../inboxes/new-inbox.ts";
import { parseVerification } from "../inboxes/signature.ts";
import { sourceOf } from "../policy/client-network.ts";
import { problem } from "../problem.ts";
import { DIRECTORY } from "../rpc/directory-rpc.ts";
import type { CapabilityTrace, InboxChange, InboxRefusal, SetAside } from "../rpc/inboxes-rpc.ts";
import { admitWhole } from "./authorize.ts";
import { madeEdgeKey } from "./edge-key.ts";
import { jsonObject } from "./json-body.ts";
import { CHOSEN_REQUESTS, INBOX_REQUEST_OCTETS } from "./limits.ts";
import { peerHere } from "./mailbox-rule.ts";
import { answered } from "./object-calls.ts";
import { withBody } from "./whole-body.ts";

type Bindings = { Bindings: Env };
type Stub = ReturnType<Env["INBOXES"]["getByName"]>;

/** Refuses a request for the inboxes of a peer, given by its URL; undefined if it is admitted. */
type Guard = (c: Context<Bindings>, peer: string) => Promise<Response | undefined>;

/** Bytes of randomness in a capability. */
const RANDOM_OCTETS = 16;

/** Characters at the end of a URL by which its owner tells it from others. */
const LAST = 4;

/** Admits the owner of a peer's mailbox. */
export async function ownerOnly(c: Context<Bindings>, peer: string): Promise<Response | undefined> {
  const admitted = await admitWhole(c.req.raw, c.env, "origin", c.executionCtx);
  if (admitted.type === "refused") return problem(admitted.reason, admitted.detail);
  return owns(admitted.principal.rights, peer) ? undefined : problem("ScopeMissing");
}

/** The routes below a path. */
export function inboxRoutes(guard: Guard): Hono<Bindings> {
  return new Hono<Bindings>()
    .get("/:address", (c) =>
      existing(c, guard, async (inboxes) =>
        Response.json({ inboxes: (inboxes && (await answered(inboxes.list()))) ?? [] }),
      ),
    )
    .post("/:address", (c) => withPeer(c, guard, (peer) => create(c, peer)))
    .get("/:address/failed", (c) =>
      existing(c, guard, async (inboxes) => {
        const after = c.req.query("after") ?? "0";
        if (!/^[0-9]{1,15}$/.test(after)) return problem("MalformedInbox", "after is not a number.");
        return Response.json({ failed: (inboxes && (await answered(inboxes.failed(Number(after))))) ?? [] });
      }),
    )
    .post("/:address/failed", (c) => withPeer(c, guard, (peer) => setAside(c, peer)))
    .delete("/:address/failed", (c) =>
      chosen(c, guard, async (inboxes, numbers) =>
        Response.json({ removed: (inboxes && (await answered(inboxes.discard(numbers)))) ?? 0 }),
      ),
    )
    .post("/:address/failed/replay", (c) =>
      chosen(c, guard, async (inboxes, numbers) => {
        const { replayed, refusal } = (inboxes && (await answered(inboxes.replay(numbers)))) ?? { replayed: 0 };
        if (refusal !== undefined && replayed === 0) return refused(refusal);
        return Response.json({ replayed, ...(refusal !== undefined && { refused: refusal.reason }) });
      }),
    )
    .delete("/:address/:name", (c) =>
      existing(c, guard, async (inboxes) => {
        const removed = (inboxes && (await answered(inboxes.remove(c.req.param("name"))))) ?? false;
        return removed ? Response.json({ removed }) : problem("UnknownInbox", NO_SUCH_NAME);
      }),
    )
    .post("/:address/:name/secret", (c) => existing(c, guard, (inboxes) => setSecret(c, inboxes)))
    .post("/:address/:name/url", (c) =>
      withPeer(c, guard, (peer) =>
        existingOf(c, peer, async (inboxes) => {
          if (inboxes === undefined) return problem("UnknownInbox", NO_SUCH_NAME);
          const { trace, path } = await newCapability(c.env, peer);
          return changed(await answered(inboxes.setCapability(c.req.param("name"), trace)), path);
        }),
      ),
    );
}

const NO_SUCH_NAME = "There is no inbox of this name.";

async function create(c: Context<Bindings>, peer: string): Promise<Response> {
  const fields = await jsonObject(c.req.raw, INBOX_REQUEST_OCTETS, "MalformedInbox");
  if (!fields.ok) return fields.problems;
  const inbox = readNewInbox(fields.value);
  if (!inbox.ok) return problem("MalformedInbox", inbox.problems);
  const { trace, path } = await newCapability(c.env, peer);
  return changed(await answered((await inboxesOf(c.env, peer)).create(peer, inbox.value, trace)), path);
}

async function setSecret(c: Context<Bindings>, inboxes: Stub | undefined): Promise<Response> {
  const fields = await jsonObject(c.req.raw, INBOX_REQUEST_OCTETS, "MalformedInbox");
  if (!fields.ok) return fields.problems;
  const { secret, keep = FORMER_SECRET / 1000 } = fields.value;
  const name = c.req.param("name") ?? "";
  const inbox = (inboxes && (await answered(inboxes.list())))?.find((one) => one.name === name);
  const verification = inbox && parseVerification(inbox.verify);
  if (inboxes === undefined || verification?.ok !== true) return problem("UnknownInbox", NO_SUCH_NAME);
  const wrong = secretProblemOf(verification.value, secret);
  if (wrong !== undefined) return problem("MalformedInbox", wrong);
  if (typeof keep !== "number" || !(keep >= 0 && keep * 1000 <= FORMER_SECRET_MOST)) {
    return problem("MalformedInbox", `keep is not a number of seconds up to ${FORMER_SECRET_MOST / 1000}.`);
  }
  return changed(await answered(inboxes.setSecret(name, String(secret), Date.now() + keep * 1000)));
}

async function setAside(c: Context<Bindings>, peer: string): Promise<Response> {
  const { inbox = "", id = "", reason = "", detail = "", tries = "0" } = c.req.query();
  const isWord = /^[A-Z][A-Za-z]{0,63}$/.test(reason);
  if (!isInboxName(inbox) || id === "" || id.length > FAILED_ID || !isWord || !/^[0-9]{1,6}$/.test(tries)) {
    return problem("MalformedInbox", "The query does not say inbox, id, reason and tries.");
  }
  const why: SetAside = { inbox, id, reason, detail: detail.slice(0, FAILED_TEXT), tries: Number(tries) };
  const { raw: request } = c.req;
  const sender = `owner:${peer}`;
  const wanted = {
    request,
    context: c.executionCtx,
    sender,
    limit: LARGEST_MESSAGE,
    tooLong: "RequestTooLong",
  } as const;
  return withBody(wanted, async (body) => {
    const refusal = await answered((await inboxesOf(c.env, peer)).setAside(peer, why, body));
    return refusal === undefined ? Response.json({ setAside: id }) : refused(refusal);
  });
}

/** Characters of the id of a message, with the address of its inbox. */
const FAILED_ID = 2048;

/** Makes a capability for the inboxes of a peer. */
async function newCapability(
  env: Env,
  peer: string,
): Promise<{ readonly trace: CapabilityTrace; readonly path: string }> {
  const key = await madeEdgeKey(env);
  const random = crypto.getRandomValues(new Uint8Array(RANDOM_OCTETS));
  const capability = await issueCapability(key, await locatorOf(key, peer), random);
  return { trace: { hash: await hashOf(random), last: capability.slice(-LAST) }, path: `/in/${capability}` };
}

async function inboxesOf(env: Env, peer: string): Promise<Stub> {
  return env.INBOXES.getByName(await locatorOf(await madeEdgeKey(env), peer));
}

/** Calls with the peer whose inboxes a path names, if the guard admits that. */
async function withPeer(
  c: Context<Bindings>,
  guard: Guard,
  answer: (peer: string) => Promise<Response>,
): Promise<Response> {
  const peer = peerHere(c.req.param("address") ?? "", c.env);
  if (peer instanceof Response) return peer;
  // A relay has a mailbox, but no inboxes.
  if (peerOf(peer) === undefined) return problem("MalformedAddress");
  return (await guard(c, peer)) ?? answer(peer);
}

/** Calls with the object of the inboxes, if it exists: a look must not create it. */
function existing(
  c: Context<Bindings>,
  guard: Guard,
  answer: (inboxes: Stub | undefined) => Promise<Response>,
): Promise<Response> {
  return withPeer(c, guard, (peer) => existingOf(c, peer, answer));
}

async function existingOf(
  c: Context<Bindings>,
  peer: string,
  answer: (inboxes: Stub | undefined) => Promise<Response>,
): Promise<Response> {
  const source = sourceOf(c.req.raw, c.env.TRUSTED_PROXIES);
  const turned = await gate.look(source);
  if (turned !== undefined) return problem(turned.reason, undefined, turned.retryAfter);
  const isThere = await answered(c.env.DIRECTORY.getByName(DIRECTORY).hasInboxes(peer));
  if (isThere) gate.found(source);
  return answer(isThere ? await inboxesOf(c.env, peer) : undefined);
}

/** Calls with the numbers in the body; undefined for all. */
function chosen(
  c: Context<Bindings>,
  guard: Guard,
  answer: (inboxes: Stub | undefined, numbers: readonly number[] | undefined) => Promise<Response>,
): Promise<Response> {
  return existing(c, guard, async (inboxes) => {
    const fields = await jsonObject(c.req.raw, INBOX_REQUEST_OCTETS, "MalformedInbox");
    if (!fields.ok) return fields.problems;
    const { numbers } = fields.value;
    if (numbers === undefined) return answer(inboxes, undefined);
    const isList = Array.isArray(numbers) && numbers.length <= CHOSEN_REQUESTS && numbers.every(Number.isSafeInteger);
    return isList ? answer(inboxes, numbers) : problem("MalformedInbox", "numbers is not a list of numbers.");
  });
}

function changed(change: InboxChange, path?: string): Response {
  if (change.type === "refused") return refused(change);
  return Response.json({ inbox: change.inbox, ...(path !== undefined && { path }) });
}

function refused({ reason, detail, retryAfter }: InboxRefusal): Response {
  return problem(reason, reason === "UnknownInbox" ? NO_SUCH_NAME : detail, retryAfter);
}
