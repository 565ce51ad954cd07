/**
 * The routes of virtual connections: LongLived, KeepAlive and WebSocket by their request targets, Polling at the root.
 * Each request is parsed, authenticated, and given to its pump. The order of all checks is in
 * ../admission/limits.ts.
 *
 * @module
 */
import { Hono } from "hono";
import { ownNames } from "../../auth/own-names.ts";
import { MAX_BODY, parsePoll, parseTarget, RELAY_HEADER, type Target } from "../../encapsulation/index.ts";
import { readBody } from "../../lib/runtime/byte-reader.ts";
import { within } from "../../lib/runtime/timeout.ts";
import type { Env } from "../env.ts";
import { allowedRelay, type RelayRefused, type Route, routeTo } from "../origin/relay-access.ts";
import { sourceOf } from "../policy/client-network.ts";
import { pathUnder, prefixOf } from "../policy/prefix-setting.ts";
import { answerHeaders, problem } from "../problem.ts";
import { keepAliveGet, keepAlivePost } from "../pumps/keepalive.ts";
import { longLivedGet, longLivedPost } from "../pumps/longlived.ts";
import { type AdmittedRequest, type Context, type TunnelStub, tunnelFor } from "../pumps/tunnel-client.ts";
import type { Reason } from "../reasons.ts";
import { admitWhole } from "./authorize.ts";
import { WHOLE_BODY_TIMEOUT } from "./limits.ts";

const TARGET = "/:version{[0-9]+\\.[0-9]+}/*";

export const virtualConnections = new Hono<{ Bindings: Env }>()
  .post("/", (c) => poll(c.req.raw, c.env, c.executionCtx))
  .on(["GET", "POST"], TARGET, (c) => {
    // Hono routes HEAD to GET handlers too.
    if (c.req.method === "HEAD") return problem("MethodNotImplemented");
    // Not c.req.path, which is partly decoded.
    const parsed = parseTarget(pathUnder(prefixOf(c.env), new URL(c.req.url).pathname) ?? "/");
    if (parsed.type === "refuse") return problem(parsed.reason, parsed.detail);
    return connect(parsed.target, c.req.raw, c.env, c.executionCtx);
  })
  .all(TARGET, () => problem("MethodNotImplemented"));

async function poll(request: Request, env: Env, context: Context): Promise<Response> {
  const body = await wholeBody(request);
  if (typeof body === "string") return problem(body);
  const parsed = parsePoll(body);
  if (parsed.type === "refuse") return problem(parsed.reason, parsed.detail);
  const { relay, guid } = parsed.poll;
  const found = await admitTo({ relay, guid }, request, env, context);
  if (found.type === "refused") return found.answer;
  const exchange = await found.tunnel.poll(parsed.poll);
  if (!exchange.ok) return problem(exchange.reason, exchange.detail, exchange.retryAfter);
  return new Response(exchange.body, { headers: answerHeaders() });
}

async function connect(target: Target, request: Request, env: Env, context: Context): Promise<Response> {
  const found = await admitTo(target, request, env, context);
  if (found.type === "refused") return found.answer;
  const { route, tunnel } = found;
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
      return isDown
        ? keepAliveGet({ ...admitted, target })
        : keepAlivePost({ ...admitted, target }, await wholeBody(request));
    case "WebSocket":
      // The Tunnel holds the device's own socket: nothing is parked here.
      return tunnel.get(target);
  }
}

type Found =
  | { readonly type: "found"; readonly route: Route; readonly tunnel: TunnelStub }
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
  if (admitted.type === "refused") return { type: "refused", answer: refusal(admitted, route, env) };
  const refused = refusedRelay(relay, route, env);
  if (refused !== undefined) return { type: "refused", answer: refusal(refused, route, env) };
  const { principal, asOf } = admitted;
  const source = sourceOf(request, env.TRUSTED_PROXIES);
  return { type: "found", route, tunnel: tunnelFor(env.TUNNEL.getByName(guid), guid, { principal, asOf, source }) };
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

/** Reads a whole body of up to 32768 bytes [MS-GRVHENC 3.4.4.3, 3.5.4.3.1], or returns why it cannot. */
async function wholeBody(request: Request): Promise<Uint8Array | "BodyTooLong" | "ReceiveTimeout" | "DeviceGone"> {
  const said = request.headers.get("content-length") ?? "";
  const length = /^\d+$/.test(said) ? Number(said) : undefined;
  if (length !== undefined && length > MAX_BODY) return "BodyTooLong";
  try {
    const body = await within(WHOLE_BODY_TIMEOUT, readBody(request.body, MAX_BODY, length));
    if (body === undefined) return "ReceiveTimeout";
    return body.value ?? "BodyTooLong";
  } catch {
    return "DeviceGone";
  }
}
