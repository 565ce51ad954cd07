/**
 * Who is at the status page: sessions, and forms that come from its own pages.
 *
 *   cookie (id of the session) ─► hash ─► OperatorSessions ─► how the operator signed in ─► the token is judged again
 *
 * The id is in the cookie alone, the token is nowhere. On https the cookie is `__Host-` and Secure, so no other host and
 * no plain request can set or see it; plain http serves only browsers on the machine of the edge, which call it localhost.
 *
 * @module
 */
import type { Context } from "hono";
import { deleteCookie, getCookie, setCookie } from "hono/cookie";
import { base64url } from "jose";
import { current } from "../../auth/verify-token.ts";
import { readBody } from "../../lib/runtime/byte-reader.ts";
import { promptly, within } from "../../lib/runtime/timeout.ts";
import { gate } from "../admission/source-gate.ts";
import type { Env } from "../env.ts";
import { admitOperatorToken } from "../http/authorize.ts";
import { STATUS_TIMEOUT, WHOLE_BODY_TIMEOUT } from "../http/limits.ts";
import { SESSION_LIFE } from "../operator-sessions/limits.ts";
import { browserOrigin, sourceOf } from "../policy/client-network.ts";
import type { Reason } from "../reasons.ts";
import { OPERATOR_SESSIONS, type OperatorSessionsRpc, type SignedIn } from "../rpc/operator-sessions-rpc.ts";
import { isEqual } from "../timing-safe-equal.ts";
import { readFormToken } from "./form-token.ts";
import { FORM_OCTETS } from "./limits.ts";

export type PageContext = Context<{ Bindings: Env }>;

const COOKIE = "grooveway-session";
const SESSION_OCTETS = 32;

/** Why a request is refused. */
export interface Refusal {
  readonly ok: false;
  readonly reason: Reason;
  readonly detail?: string;
  readonly retryAfter?: number;
}

/** A session, by its id. */
export interface SignedInSession {
  readonly ok: true;
  readonly session: string;
}

/** The session of a request. */
export async function sessionOf(c: PageContext): Promise<SignedInSession | Refusal> {
  const place = placeOf(c);
  if (place === undefined) return refused("SignInInClear");
  const session = getCookie(c, COOKIE, ...place.prefix) ?? "";
  if (!/^[\w-]{43}$/.test(session)) return refused("SessionNeeded");
  const signedIn = await soon(sessionsOf(c.env).find(await hashOf(session)));
  if (signedIn === undefined) return refused("SessionNeeded");
  const reason = await ended(session, signedIn, c.env);
  return reason === undefined ? { ok: true, session } : refused(reason);
}

/** Why a session has ended with its token; undefined if it has not. */
async function ended(session: string, signedIn: SignedIn, env: Env): Promise<Reason | undefined> {
  if (signedIn.type === "adminToken") {
    const { ADMIN_TOKEN = "" } = env;
    const isSame = ADMIN_TOKEN !== "" && (await isEqual(signedIn.seal, await sealOf(session, ADMIN_TOKEN)));
    return isSame ? undefined : "SessionNeeded";
  }
  const judged = await current(signedIn.principal, env, Date.now());
  if (judged.type === "ok") return undefined;
  return judged.reason === "KeysUnavailable" ? "KeysUnavailable" : "SessionNeeded";
}

/** Signs in with the token of a form, and sets the cookie. */
export async function signIn(c: PageContext): Promise<Refusal | undefined> {
  const place = placeOf(c);
  if (place === undefined) return refused("SignInInClear");
  if (!isOwnForm(c)) return refused("FormRefused");
  const source = sourceOf(c.req.raw, c.env.TRUSTED_PROXIES);
  const turned = await gate.look(source);
  if (turned !== undefined) return { ...refused("TooManySignIns"), retryAfter: turned.retryAfter };
  const tried = await soon(sessionsOf(c.env).attempt(source));
  if (tried.type === "wait") return { ...refused("TooManySignIns"), retryAfter: tried.retryAfter };
  const token = (await formOf(c))?.get("token")?.trim() ?? "";
  if (token === "") return refused("AdminTokenNeeded", "The form has no token.");
  const admitted = await admitOperatorToken(token, c.env);
  if (admitted.type === "refused") return refused(admitted.reason, admitted.detail);
  gate.found(source);
  const session = base64url.encode(crypto.getRandomValues(new Uint8Array(SESSION_OCTETS)));
  const { principal } = admitted;
  const signedIn: SignedIn =
    principal.key === "" ? { type: "adminToken", seal: await sealOf(session, token) } : { type: "token", principal };
  await soon(sessionsOf(c.env).begin(await hashOf(session), signedIn, source));
  setCookie(c, COOKIE, session, { ...place.attributes, maxAge: SESSION_LIFE / 1000 });
  return undefined;
}

/** Ends a session, and removes the cookie. */
export async function signOut(c: PageContext, session: string): Promise<void> {
  await soon(sessionsOf(c.env).end(await hashOf(session)));
  const place = placeOf(c);
  if (place !== undefined) deleteCookie(c, COOKIE, place.attributes);
}

/** A form of an operator: its fields, and the id of the session. */
export interface OwnForm {
  readonly ok: true;
  readonly session: string;
  readonly fields: URLSearchParams;
}

/**
 * Takes a form that one of the pages of this edge has made for this session, and that was not taken before.
 *
 * @param name what it does, by its fields
 */
export async function takeForm(c: PageContext, name: (fields: URLSearchParams) => string): Promise<OwnForm | Refusal> {
  if (!isOwnForm(c)) return refused("FormRefused");
  const signedIn = await sessionOf(c);
  if (!signedIn.ok) return signedIn;
  const { session } = signedIn;
  const fields = await formOf(c);
  if (fields === undefined)
    return refused("FormRefused", `The form is longer than ${FORM_OCTETS} bytes, or came too slowly.`);
  const number = await readFormToken(session, name(fields), fields.get("form") ?? "", Date.now());
  const isNew = number !== undefined && (await soon(sessionsOf(c.env).take(await hashOf(session), number)));
  return isNew ? { ok: true, session, fields } : refused("FormRefused");
}

/** Whether a form was sent by a page of this edge: browsers name the origin of every form, and no page can change it. */
function isOwnForm(c: PageContext): boolean {
  const origin = browserOrigin(c.req.raw, c.env.TRUSTED_PROXIES);
  return origin !== undefined && c.req.header("Origin") === origin.origin;
}

async function formOf(c: PageContext): Promise<URLSearchParams | undefined> {
  const read = readBody(c.req.raw.body, FORM_OCTETS).catch(() => undefined);
  const octets = (await within(WHOLE_BODY_TIMEOUT, read))?.value;
  return octets === undefined ? undefined : new URLSearchParams(new TextDecoder().decode(octets));
}

/** The cookie as it may be set where the browser is; undefined if others could see it on its way. */
function placeOf(c: PageContext) {
  const origin = browserOrigin(c.req.raw, c.env.TRUSTED_PROXIES);
  const strict = { path: "/", httpOnly: true, sameSite: "Strict" } as const;
  if (origin?.protocol === "https:") {
    return { prefix: ["host"] as ["host"], attributes: { ...strict, secure: true, prefix: "host" as const } };
  }
  // Not every browser takes a Secure cookie from localhost.
  const isHere =
    origin !== undefined && /^(?:(?:[a-z0-9-]+\.)*localhost|127(?:\.\d{1,3}){3}|\[::1\])$/.test(origin.hostname);
  return isHere ? { prefix: [] as [], attributes: strict } : undefined;
}

/** The answer of the object with the sessions. An object that has to be moved is back by then. */
function soon<T>(answer: Promise<T>): Promise<T> {
  return promptly(STATUS_TIMEOUT, answer);
}

function sessionsOf(env: Env): Pick<OperatorSessionsRpc, "attempt" | "begin" | "find" | "take" | "end"> {
  return env.OPERATOR_SESSIONS.getByName(OPERATOR_SESSIONS);
}

/** What is kept of ADMIN_TOKEN: without the id of the session nobody can try tokens against it. */
function sealOf(session: string, token: string): Promise<string> {
  return hashOf(`${session}\n${token}`);
}

async function hashOf(text: string): Promise<string> {
  const octets = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return base64url.encode(new Uint8Array(octets));
}

function refused(reason: Reason, detail?: string): Refusal {
  return { ok: false, reason, ...(detail !== undefined && { detail }) };
}
