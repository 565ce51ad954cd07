/**
 * GET /ready: whether the edge can be used, for load balancers and supervisors. If not, it says which part fails, by the
 * name of a reason, and what to do about it:
 *
 *   settings   a setting is insecure or malformed
 *   keys       tokens cannot be verified: there are no keys, or they cannot be fetched
 *   storage    the disk is full or takes no writes, few more files can be opened, or the objects do not answer
 *   resolver   names of relays cannot be resolved
 *   links      a relay of LINKS is not connected
 *
 * It needs no token, so it names no relay and no file; the log does. An edge that can be used for now, and not for long,
 * is ready with a warning. /health says only that the Worker runs, and is cheaper.
 *
 * @module
 */
import { areKeysFailing, hasKeys, verificationKeys } from "../../auth/key-set.ts";
import { isRevoked } from "../../auth/revocation-list.ts";
import { sleep, within } from "../../lib/runtime/timeout.ts";
import { storageProblem } from "../disk-full.ts";
import type { Env } from "../env.ts";
import { areFilesShort } from "../open-files.ts";
import { allowedLink, policyOf } from "../origin/relay-access.ts";
import { isResolving } from "../origin/resolve-name.ts";
import { forbidden } from "../policy/check-settings.ts";
import { parseDev } from "../policy/dev-setting.ts";
import { parseLinks } from "../policy/link-settings.ts";
import { REASONS, type Reason } from "../reasons.ts";
import { DIRECTORY } from "../rpc/directory-rpc.ts";
import { READY_AGE, READY_LINKS, READY_TIMEOUT } from "./limits.ts";

export const PARTS = ["settings", "keys", "storage", "resolver", "links"] as const;
export type Part = (typeof PARTS)[number];

/** What is wrong with one part. */
export interface Unready {
  readonly part: Part;
  readonly code: Reason;
  readonly detail: string;
  readonly cure: string;
}

/** The answer of /ready. */
export interface Readiness {
  readonly ready: boolean;
  readonly problems: readonly Unready[];
  readonly warnings: readonly Unready[];
}

/** The last look of this isolate, and when one began that is still under way. */
let last: { readonly at: number; readonly readiness: Readiness } | undefined;
let begun: number | undefined;

export async function answerReady(env: Env): Promise<Response> {
  const now = await readiness(env);
  const headers = { "Cache-Control": "no-store", Date: new Date().toUTCString() };
  return Response.json(now, { status: now.ready ? 200 : 503, headers });
}

/** Looks at most every {@link READY_AGE}, however many ask. */
export async function readiness(env: Env): Promise<Readiness> {
  const isFresh = (time: number, age: number) => Math.abs(Date.now() - time) < age;
  // A look dies with the request that makes it, and another request must not await its promise.
  while (begun !== undefined && isFresh(begun, READY_TIMEOUT)) await sleep(25);
  if (last !== undefined && isFresh(last.at, READY_AGE)) return last.readiness;
  const now = Date.now();
  begun = now;
  try {
    const found = await readinessOf(env, now);
    last = { at: Date.now(), readiness: found };
    return found;
  } finally {
    if (begun === now) begun = undefined;
  }
}

async function readinessOf(env: Env, now: number): Promise<Readiness> {
  const found = await Promise.all([settings(env), keys(env, now), storage(env), resolver(env), links(env)]);
  const problems = found.flat();
  const warnings =
    problems.length === 0 && hasKeys(env) && areKeysFailing(env) ? [unready("keys", "KeysUnavailable")] : [];
  return { ready: problems.length === 0, problems, warnings };
}

function unready(part: Part, code: Reason, detail: string = REASONS[code].cause): Unready {
  return { part, code, detail, cure: REASONS[code].cure };
}

async function settings(env: Env): Promise<Unready[]> {
  // What is wrong with a value quotes it, and is for the operator's log.
  return forbidden(env)
    .filter(({ code }) => code !== "NoKeys")
    .map(({ code, setting }) =>
      unready("settings", "EdgeMisconfigured", `${setting} is malformed or insecure (${code}).`),
    );
}

async function keys(env: Env, now: number): Promise<Unready[]> {
  if (!hasKeys(env)) return parseDev(env.DEV).open ? [] : [unready("keys", "NoKeys")];
  // The list is asked about no token in particular.
  const had = await answered(Promise.all([verificationKeys(env, now), isRevoked("", env, now)]));
  return had?.every((one) => one !== undefined) ? [] : [unready("keys", "KeysUnavailable")];
}

async function storage(env: Env): Promise<Unready[]> {
  const code = storageProblem() ?? (areFilesShort() ? "TooManyOpenFiles" : undefined);
  if (code !== undefined) return [unready("storage", code)];
  const has = await answered(env.DIRECTORY.getByName(DIRECTORY).has(""));
  return has === undefined ? [unready("storage", "InternalError", "The objects of the edge do not answer.")] : [];
}

async function resolver(env: Env): Promise<Unready[]> {
  const rules = policyOf(env)?.rules.allow ?? [];
  if (!rules.some(({ hosts }) => hosts.type !== "network")) return [];
  const resolves = await answered(isResolving(env.RESOLVER));
  return resolves === true ? [] : [unready("resolver", "DNSLookupFailed", "The resolver does not answer.")];
}

async function links(env: Env): Promise<Unready[]> {
  const relays = parseLinks(env.LINKS ?? "").urls.slice(0, READY_LINKS);
  const looked = await Promise.all(relays.map((relay) => link(relay, env)));
  return looked.flatMap((code) => (code === undefined ? [] : [unready("links", code)]));
}

/** Why a link is not there; undefined if it is. */
async function link(relay: string, env: Env): Promise<Reason | undefined> {
  const allowed = allowedLink(relay, env);
  if (allowed.type === "refused") return allowed.reason;
  const status = await answered(env.LINK.getByName(allowed.url).look());
  if (status === undefined) return "InternalError";
  if (status.connected) return undefined;
  if (status.reason !== undefined) return status.reason;
  return status.why === "DNSLookupFailed" || status.why === "ConnectionClosed" ? status.why : "OriginUnreachable";
}

/** The value of a promise; undefined if it fails, or takes too long. */
async function answered<T>(promise: Promise<T>): Promise<T | undefined> {
  return (await within(READY_TIMEOUT, promise).catch(() => undefined))?.value;
}
