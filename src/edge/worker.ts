/**
 * The edge's Worker: routes requests, authenticates them, and pumps bytes between devices and their Tunnels. It has no
 * state: parked requests live in `pumps/`, everything else in Durable Objects.
 *
 * @module
 */

import { Hono } from "hono";
import { getPath } from "hono/utils/url";
import { hasKeys } from "../auth/key-set.ts";
import { ownNames } from "../auth/own-names.ts";
import { owns } from "../auth/scopes.ts";
import { MAX_BODY, parsePoll, parseTarget, RELAY_HEADER, type Target, TWO_HOSTS } from "../encapsulation/index.ts";
import { readBody } from "../lib/runtime/byte-reader.ts";
import { within } from "../lib/runtime/timeout.ts";
import { hearOfDisk, isStorageFull } from "./disk.ts";
import type { Env } from "./env.ts";
import { admin } from "./http/admin.ts";
import { admit } from "./http/authorize.ts";
import { landingPage } from "./http/landing-page.ts";
import { WHOLE_BODY_TIMEOUT } from "./http/limits.ts";
import { answerRule } from "./http/mailbox-rule.ts";
import { answerRoom, answerWithdrawal } from "./http/mailbox-senders.ts";
import { inspectSettings } from "./log.ts";
import { allowedRelay, isOwnName, type RelayRefused } from "./origin/relay-policy.ts";
import { sourceOf } from "./policy/client-network.ts";
import { parseDev } from "./policy/dev-setting.ts";
import { pathUnder, prefixOf, seemingPrefix, withWholeAddress } from "./policy/prefix-setting.ts";
import { answerHeaders, problem } from "./problem.ts";
import { keepAliveGet, keepAlivePost } from "./pumps/keepalive.ts";
import { longLivedGet, longLivedPost } from "./pumps/longlived.ts";
import { type Context, type TunnelStub, tunnelFor } from "./pumps/tunnel-client.ts";
import { REASONS, type Reason } from "./reasons.ts";
import type { Caller } from "./rpc/tunnel-rpc.ts";

export { Meter } from "./admission/meter.ts";
export { Link } from "./link/link.ts";
export { Directory } from "./mailbox/directory.ts";
export { Mailbox } from "./mailbox/mailbox.ts";
export { Tunnel } from "./tunnel/tunnel.ts";

const app = new Hono<{ Bindings: Env }>({
  // `misaddressed` has already refused paths outside the prefix.
  getPath: (request, options) => pathUnder(prefixOf((options?.env ?? {}) as Env), getPath(request)) ?? "/",
});

app.get("/", (c) => {
  const { origin, hostname, pathname } = new URL(c.req.url);
  const prefix = prefixOf(c.env);
  // The page's links are relative, so its URL must end in a slash.
  if (pathname === prefix) return c.redirect(`${prefix}/`, 302);
  return c.html(
    landingPage({
      url: `${origin}${prefix}`,
      name: ownNames(c.env.RELAY_NAME)[0],
      isOwnHost: isOwnName(hostname, c.env),
      entry: hasKeys(c.env) ? "by token" : parseDev(c.env.DEV).open ? "anybody" : "nobody",
    }),
    200,
    { "Cache-Control": "no-store" },
  );
});

app.get("/health", (c) => {
  if (!isStorageFull()) return c.json({ status: "ok", service: "grooveway" });
  const { cause, cure } = REASONS.StorageFull;
  return c.json({ status: "full", service: "grooveway", code: "StorageFull", detail: cause, cure }, 503);
});

app.put("/local/disk", async (c) => (await hearOfDisk(c.req.raw, c.env.LOCAL_SECRET)) ?? problem("NotFound"));

app.route("/admin", admin);

app.post("/", async (c) => {
  const body = await wholeBody(c.req.raw);
  if (typeof body === "string") return problem(body);
  const parsed = parsePoll(body);
  if (parsed.type === "refuse") return problem(parsed.reason, parsed.detail);
  const ends = isOwnName(parsed.poll.relay, c.env);
  const admitted = await admitWhole(c.req.raw, c.env, ends, c.executionCtx);
  if (admitted.type === "refused") return refusal(admitted, ends, c.env);
  const refused = route(parsed.poll.relay, c.env);
  if (refused !== undefined) return refusal(refused, ends, c.env);
  const exchange = await tunnelOf(c.env, parsed.poll.guid, admitted, c.req.raw).poll(body);
  if (!exchange.ok) return problem(exchange.reason, exchange.detail, exchange.retryAfter);
  return new Response(exchange.body, { headers: answerHeaders() });
});

app.on(["GET", "PUT"], "/mailboxes/:address/rule", async (c) => {
  const admitted = await admitWhole(c.req.raw, c.env, false, c.executionCtx);
  if (admitted.type === "refused") return problem(admitted.reason, admitted.detail);
  const { rights } = admitted.principal;
  return answerRule(c.req.raw, c.req.param("address"), c.env, (peer) =>
    owns(rights, peer) ? undefined : "ScopeMissing",
  );
});

app.get("/mailboxes/:address/room", async (c) => {
  const admitted = await admitWhole(c.req.raw, c.env, false, c.executionCtx);
  if (admitted.type === "refused") return problem(admitted.reason, admitted.detail);
  return answerRoom(c.req.raw, c.req.param("address"), admitted.principal, c.env);
});

app.delete("/mailboxes/:address/messages", async (c) => {
  const admitted = await admitWhole(c.req.raw, c.env, false, c.executionCtx);
  if (admitted.type === "refused") return problem(admitted.reason, admitted.detail);
  return answerWithdrawal(c.req.raw, c.req.param("address"), admitted.principal, c.env);
});

app.on(["GET", "POST"], "/:version{[0-9]+\\.[0-9]+}/*", async (c) => {
  // Hono routes HEAD to GET handlers too.
  if (c.req.method === "HEAD") return problem("MethodNotImplemented");
  // Not c.req.path, which is partly decoded.
  const parsed = parseTarget(pathUnder(prefixOf(c.env), new URL(c.req.url).pathname) ?? "/");
  if (parsed.type === "refuse") return problem(parsed.reason, parsed.detail);
  const { target } = parsed;
  const ends = isOwnName(target.relay, c.env);
  // Authenticate first, so that strangers do not learn which relays are allowed.
  const admitted = await admitWhole(c.req.raw, c.env, ends, c.executionCtx);
  if (admitted.type === "refused") return refusal(admitted, ends, c.env);
  const refused = route(target.relay, c.env);
  if (refused !== undefined) return refusal(refused, ends, c.env);
  if (target.encapsulation === "WebSocket" && !ends) return problem("WebSocketNotPassed");
  if (target.encapsulation === "WebSocket" && c.req.header("Upgrade")?.toLowerCase() !== "websocket") {
    return problem("UpgradeNeeded");
  }
  const tunnel = tunnelOf(c.env, target.guid, admitted, c.req.raw);
  const answered = serve(target, ends, tunnel, c.req.raw, c.executionCtx);
  // When a device resets a request, the platform stops its handler, unless waitUntil holds it. Held, the handler sees
  // the reset by its signal or its body, and tells the Tunnel.
  c.executionCtx.waitUntil(answered);
  return answered;
});

app.all("/:version{[0-9]+\\.[0-9]+}/*", () => problem("MethodNotImplemented"));
app.notFound((c) => {
  // Not c.req.path, which is partly decoded.
  const own = prefixOf(c.env);
  const path = pathUnder(own, new URL(c.req.url).pathname) ?? "/";
  const whole = withWholeAddress(path);
  if (whole !== undefined) {
    return problem("MalformedAddress", `Write the slash of an address as %2F: ${own}${whole}`);
  }
  const prefix = seemingPrefix(c.req.method, path);
  if (prefix === undefined) return problem("NotFound");
  const place = own === "" ? "at the root of its host" : `under ${own}/`;
  return problem("WrongPrefix", `The request is for ${own}${prefix}/, but this edge is ${place}.`);
});
app.onError((error) => {
  // RPC passes on only the message of an object's error.
  const reason = error.message.startsWith("NewerSchema") ? "NewerSchema" : "InternalError";
  console.error(JSON.stringify({ reason, message: error.message }));
  return problem(reason);
});

/** Refuses a request with two Host headers, or outside the prefix; undefined if there is nothing to refuse. */
function misaddressed(request: Request, env: Env): Response | undefined {
  // The runtime joins headers of one name; no name of a host has a comma.
  if (request.headers.get("host")?.includes(",")) return problem("MalformedHead", TWO_HOSTS);
  const prefix = prefixOf(env);
  if (prefix === "" || pathUnder(prefix, new URL(request.url).pathname) !== undefined) return undefined;
  const cure = "If a proxy removes that path, leave PREFIX (--prefix) empty.";
  return problem("WrongPrefix", `This edge is under ${prefix}/, but the request came without that path. ${cure}`);
}

/** @param ends whether the virtual connection ends at this edge, or is passed through */
async function serve(
  target: Target,
  ends: boolean,
  tunnel: TunnelStub,
  request: Request,
  context: Context,
): Promise<Response> {
  const down = request.method === "GET";
  switch (target.encapsulation) {
    case "LongLived":
      return down ? longLivedGet(target, tunnel, request, context, ends) : longLivedPost(target, tunnel, request, ends);
    case "KeepAlive":
      return down ? keepAliveGet(target, tunnel, request) : keepAlivePost(target, tunnel, await wholeBody(request));
    case "WebSocket":
      // The Tunnel holds the device's own socket: nothing is parked here.
      return tunnel.get(target);
  }
}

/**
 * Authenticates to the end even if the device resets its request, because others may wait for the keys that it fetches.
 */
function admitWhole(request: Request, env: Env, ends: boolean, context: Context): ReturnType<typeof admit> {
  const admitted = admit(request, env, ends);
  context.waitUntil(admitted);
  return admitted;
}

function tunnelOf(env: Env, guid: string, { principal, asOf }: Omit<Caller, "source">, request: Request): TunnelStub {
  const source = sourceOf(request, env.TRUSTED_PROXIES);
  return tunnelFor(env.TUNNEL.getByName(guid), guid, { principal, asOf, source });
}

/** Why this edge refuses a virtual connection to a relay; undefined if it does not. */
function route(relay: string, env: Env): RelayRefused | undefined {
  if (isOwnName(relay, env)) return undefined;
  const verdict = allowedRelay(relay, env);
  return verdict.type === "refused" ? verdict : undefined;
}

/**
 * The answer of a refusal. A device that names another relay may mean this edge, so the answer gives the edge's name.
 */
function refusal(refused: { readonly reason: Reason; readonly detail?: string }, ends: boolean, env: Env): Response {
  const { reason, detail = "" } = refused;
  if (ends || (reason !== "RelayNotAllowed" && reason !== "TokenNeeded")) return problem(reason, detail);
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

export default {
  fetch(request, env, context) {
    // The first request of any kind logs what is wrong with the settings, for an operator who has just deployed.
    const unserved = inspectSettings(env);
    if (unserved !== undefined) return problem("EdgeMisconfigured", `The setting ${unserved.setting} is malformed.`);
    return misaddressed(request, env) ?? app.fetch(request, env, context);
  },
} satisfies ExportedHandler<Env>;
