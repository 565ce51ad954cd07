/**
 * The routes of virtual connections: LongLived, KeepAlive and WebSocket by their request targets, Polling at the root.
 * Each request is parsed, authenticated, and given to its pump. The order of all checks is in
 * ../admission/limits.ts.
 *
 * @module
 */
import { Hono } from "hono";
import { ownNames } from "../../auth/own-names.ts";
import { isSame, NOBODY, type Principal } from "../../auth/principal.ts";
import {
  HELD_BODY,
  type KeepAliveTarget,
  MAX_BODY,
  offeredBody,
  parsePoll,
  parseTarget,
  RELAY_HEADER,
  type Target,
} from "../../encapsulation/index.ts";
import type { Env } from "../env.ts";
import { logError } from "../log.ts";
import { allowedRelay, type RelayRefused, type Route, routeTo } from "../origin/relay-access.ts";
import { sourceOf } from "../policy/client-network.ts";
import { pathUnder, prefixOf } from "../policy/prefix-setting.ts";
import { answerHeaders, problem } from "../problem.ts";
import { keepAliveGet, keepAlivePost, keepAliveStream } from "../pumps/keepalive.ts";
import { longLivedGet, longLivedPost } from "../pumps/longlived.ts";
import { type AdmittedRequest, type Context, goneOf, type TunnelStub, tunnelFor } from "../pumps/tunnel-client.ts";
import type { Reason } from "../reasons.ts";
import { tunnelNamed } from "../volatile/object-named.ts";
import { admitWhole } from "./authorize.ts";
import { BodyPool, senderOfBodies } from "./body-pool.ts";
import { acrossOrigins } from "./cross-origin.ts";
import { GROWN_BODIES_OCTETS } from "./limits.ts";
import { discard, lengthOf, type NoBody, wholeBody } from "./whole-body.ts";

const TARGET = "/:version{[0-9]+\\.[0-9]+}/*";

export const virtualConnections = new Hono<{ Bindings: Env }>()
  .on("OPTIONS", ["/", TARGET], (c, next) => {
    if (c.req.header("Origin") === undefined) return next();
    return acrossOrigins(c.req.raw, c.env, () => problem("MethodNotImplemented"));
  })
  .post("/", (c) => acrossOrigins(c.req.raw, c.env, () => poll(c.req.raw, c.env, c.executionCtx)))
  .on(["GET", "POST"], TARGET, (c) => {
    // Hono routes HEAD to GET handlers too.
    if (c.req.method === "HEAD") return problem("MethodNotImplemented");
    return acrossOrigins(c.req.raw, c.env, () => target(c.req.raw, c.env, c.executionCtx));
  })
  .all(TARGET, () => problem("MethodNotImplemented"));

function target(request: Request, env: Env, context: Context): Response | Promise<Response> {
  // Not Hono's path, which is partly decoded.
  const { pathname, search } = new URL(request.url);
  const parsed = parseTarget(`${pathUnder(prefixOf(env), pathname) ?? "/"}${search}`);
  if (parsed.type === "refuse") return problem(parsed.reason, parsed.detail);
  return connect(parsed.target, request, env, context);
}

async function poll(request: Request, env: Env, context: Context): Promise<Response> {
  const length = lengthOf(request);
  if (length === undefined || length <= MAX_BODY) {
    return pollWith(await wholeBody(request, length ?? MAX_BODY, length), request, env, context);
  }
  return grownPoll(length, request, env, context);
}

async function pollWith(body: Uint8Array | NoBody, request: Request, env: Env, context: Context): Promise<Response> {
  if (typeof body === "string") return problem(body);
  // The Tunnel knows how long its bodies may be.
  const parsed = parsePoll(body, HELD_BODY);
  if (parsed.type === "refuse") return problem(parsed.reason, parsed.detail);
  const { relay, guid } = parsed.poll;
  const found = await admitTo({ relay, guid }, request, env, context);
  if (found.type === "refused") return found.answer;
  const offered = found.mayGrow ? offeredBody(new URL(request.url).search) : undefined;
  const exchange = await found.tunnel.poll(parsed.poll, offered);
  if (!exchange.ok) return problem(exchange.reason, exchange.detail, exchange.retryAfter);
  return new Response(exchange.body, { headers: answerHeaders() });
}

async function connect(wanted: Target, request: Request, env: Env, context: Context): Promise<Response> {
  const found = await admitTo(wanted, request, env, context);
  if (found.type === "refused") return found.answer;
  const { route, tunnel } = found;
  const target = found.mayGrow ? wanted : withoutOffer(wanted);
  if (target.encapsulation === "WebSocket" && route === "origin") return problem("WebSocketNotPassed");
  if (target.encapsulation === "WebSocket" && request.headers.get("Upgrade")?.toLowerCase() !== "websocket") {
    return problem("UpgradeNeeded");
  }
  const answered = serve({ target, route, tunnel, request, context });
  // When a device resets a request, the platform stops its handler, unless waitUntil holds it. Held, the handler sees
  // the reset by its signal or its body, and tells the Tunnel.
  context.waitUntil(answered);
  return answered;
}

async function serve(admitted: AdmittedRequest<Target>): Promise<Response> {
  const { target, tunnel, request } = admitted;
  const isDown = request.method === "GET";
  switch (target.encapsulation) {
    case "LongLived":
      return isDown ? longLivedGet({ ...admitted, target }) : longLivedPost({ ...admitted, target });
    case "KeepAlive":
      return isDown ? keepAliveGet({ ...admitted, target }) : keepAliveUp({ ...admitted, target });
    case "WebSocket":
      // The Tunnel holds the device's own socket: nothing is parked here.
      return tunnel.get(target);
  }
}

async function keepAliveUp(admitted: AdmittedRequest<KeepAliveTarget>): Promise<Response> {
  const { request } = admitted;
  const length = lengthOf(request);
  return length === undefined || length <= MAX_BODY
    ? keepAlivePost(admitted, await wholeBody(request, length ?? MAX_BODY, length))
    : keepAliveStream(admitted, length);
}

/** A target that offers no bodies over 32768 bytes. */
function withoutOffer(target: Target): Target {
  if (target.encapsulation !== "KeepAlive") return target;
  const { bodyLimit: _, ...rest } = target;
  return rest;
}

type Found =
  | { readonly type: "found"; readonly route: Route; readonly tunnel: TunnelStub; readonly mayGrow: boolean }
  | { readonly type: "refused"; readonly answer: Response };

/** Admits a request to the Tunnel of a virtual connection, or answers why not. */
async function admitTo(
  { relay, guid }: { readonly relay: string; readonly guid: string },
  request: Request,
  env: Env,
  context: Context,
): Promise<Found> {
  const route = routeTo(relay, env);
  // Authenticate first, so that strangers do not learn which relays are allowed.
  const admitted = await admitWhole(request, env, route, context);
  if (admitted.type === "refused") {
    // Its peers need not wait for a device that does not come back. If this fails, it ends later, for want of requests.
    if (admitted.reason === "TokenRevoked") context.waitUntil(tunnelNamed(env, guid).judge().catch(logError));
    return { type: "refused", answer: refusal(admitted, route, env) };
  }
  const refused = refusedRelay(relay, route, env);
  if (refused !== undefined) return { type: "refused", answer: refusal(refused, route, env) };
  const { principal, asOf } = admitted;
  const source = sourceOf(request, env.TRUSTED_PROXIES);
  const tunnel = tunnelFor(tunnelNamed(env, guid), guid, { principal, asOf, source });
  return { type: "found", route, tunnel, mayGrow: mayGrow(principal) };
}

/** Whether a device may have bodies over 32768 bytes. A stranger must not use up the memory for them. */
function mayGrow(principal: Principal): boolean {
  return !isSame(principal, NOBODY);
}

/** Why this edge passes no virtual connection through to a relay; undefined if it does. */
function refusedRelay(relay: string, route: Route, env: Env): RelayRefused | undefined {
  if (route === "mailbox") return undefined;
  const verdict = allowedRelay(relay, env);
  return verdict.type === "refused" ? verdict : undefined;
}

/**
 * The answer of a refusal. A device that names another relay may mean this edge, so the answer gives the edge's name.
 */
function refusal(refused: { readonly reason: Reason; readonly detail?: string }, route: Route, env: Env): Response {
  const { reason, detail = "" } = refused;
  const mayMeanEdge = reason === "RelayNotAllowed" || reason === "RelayPrivate" || reason === "TokenNeeded";
  if (route === "mailbox" || !mayMeanEdge) return problem(reason, detail);
  const [name] = ownNames(env.RELAY_NAME);
  if (name === undefined)
    return problem(reason, `${detail} This edge has no name of its own: the operator sets RELAY_NAME (--name).`);
  const response = problem(reason, `${detail} To use this edge itself, name it ${name} (--relay ${name}).`.trim());
  response.headers.set(RELAY_HEADER, name);
  return response;
}

/** A pool of their own: no append to a stream can keep a device from polling at its full rate. */
const grownBodies = new BodyPool(GROWN_BODIES_OCTETS);

/** Handles a poll of 32769 bytes [MS-GRVHENC 3.5.4.3.1] up to 1 MiB of our own clients, which give its length. */
async function grownPoll(length: number, request: Request, env: Env, context: Context): Promise<Response> {
  if (length > HELD_BODY) return problem("BodyTooLong");
  // The relay is known from the body only, and Connect may still show a token if it is this edge.
  const admitted =
    length > GROWN_BODIES_OCTETS - grownBodies.held ? undefined : await admitWhole(request, env, "mailbox", context);
  if (admitted?.type === "refused") {
    await discard(request, HELD_BODY);
    return problem(admitted.reason, admitted.detail);
  }
  const sender = admitted && senderOfBodies(admitted.principal, sourceOf(request, env.TRUSTED_PROXIES));
  const held = sender === undefined ? undefined : grownBodies.begin(sender);
  if (admitted === undefined || held === undefined || !mayGrow(admitted.principal) || !held.hold(length)) {
    return problem((await discard(request, HELD_BODY)) ?? "GrownBodyRefused");
  }
  const used = (async () => pollWith(await wholeBody(request, length, length), request, env, context))();
  // When a device resets its request, the platform stops the handler, unless waitUntil holds it for a while.
  const freed = Promise.race([used, goneOf(request)]).finally(held.release);
  context.waitUntil(freed.catch(() => undefined));
  return used;
}
