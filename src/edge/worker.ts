/**
 * The edge's Worker: routes requests to the families in `http/`. It has no state: parked requests live in `pumps/`,
 * everything else in Durable Objects.
 *
 * @module
 */

import { Hono } from "hono";
import { getPath } from "hono/utils/url";
import { hasKeys } from "../auth/key-set.ts";
import { ownNames } from "../auth/own-names.ts";
import { owns } from "../auth/scopes.ts";
import { within } from "../lib/runtime/timeout.ts";
import { isNewerSchema } from "../store-and-forward/stored-version.ts";
import { sendMetrics, sendSoon } from "./collector/send-metrics.ts";
import { hearOfDisk, storageProblem } from "./disk-full.ts";
import type { Env } from "./env.ts";
import { admin } from "./http/admin.ts";
import { admitWhole } from "./http/authorize.ts";
import { inboxRoutes, ownerOnly } from "./http/inbox-api.ts";
import { answerPost } from "./http/inbox-posts.ts";
import { landingPage } from "./http/landing-page.ts";
import { answerRule } from "./http/mailbox-rule.ts";
import { answerRoom, answerWithdrawal } from "./http/mailbox-senders.ts";
import { answerCounts, answerMetrics } from "./http/metrics.ts";
import { answerToFailure } from "./http/object-calls.ts";
import { answerPeer, answerSchema, answerSend } from "./http/peer-mailboxes.ts";
import { answerStream, nameIn } from "./http/plain-streams.ts";
import { answerReady } from "./http/ready.ts";
import { answerRest, refusedByStop } from "./http/rest-devices.ts";
import { answerTicket } from "./http/tickets.ts";
import { virtualConnections } from "./http/virtual-connections.ts";
import { inspectSettings, logReason } from "./log.ts";
import { SEND_TIMEOUT } from "./metrics/limits.ts";
import { hearOfFiles } from "./open-files.ts";
import { isOwnName } from "./origin/relay-access.ts";
import { parseDev } from "./policy/dev-setting.ts";
import { pathUnder, prefixOf, seemingPrefix, withWholeAddress } from "./policy/prefix-setting.ts";
import { problem } from "./problem.ts";
import { REASONS } from "./reasons.ts";
import { hearOfStop } from "./stopping.ts";

export { Meter } from "./admission/meter.ts";
export { Collector } from "./collector/collector.ts";
export { Egress } from "./egress/egress.ts";
export { Inboxes } from "./inboxes/inboxes.ts";
export { Link } from "./link/link.ts";
export { Directory } from "./mailbox/directory.ts";
export { Mailbox } from "./mailbox/mailbox.ts";
export { OperatorSessions } from "./operator-sessions/operator-sessions.ts";
export { PlainStream } from "./plain-stream/plain-stream.ts";
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
  // workerd sends no Date by itself, and grooveway doctor compares clocks.
  c.header("Date", new Date().toUTCString());
  const code = storageProblem();
  if (code === undefined) return c.json({ status: "ok", service: "grooveway" });
  const { cause, cure } = REASONS[code];
  const status = code === "StorageFull" ? "full" : "failing";
  return c.json({ status, service: "grooveway", code, detail: cause, cure }, 503);
});

app.put("/local/rest", (c) => answerRest(c.req.raw, c.env));

app.put("/local/disk", async (c) => (await hearOfDisk(c.req.raw, c.env.LOCAL_SECRET)) ?? problem("NotFound"));

app.put("/local/files", async (c) => (await hearOfFiles(c.req.raw, c.env.LOCAL_SECRET)) ?? problem("NotFound"));

app.put("/local/stop", async (c) => {
  const heard = await hearOfStop(c.req.raw, c.env.LOCAL_SECRET);
  if (heard !== undefined) await within(SEND_TIMEOUT, sendMetrics(c.env));
  return heard ?? problem("NotFound");
});

app.get("/ready", (c) => answerReady(c.env));

app.get("/metrics", (c) => answerMetrics(c.req.raw, c.env));

app.use(async (_, next) => refusedByStop() ?? next());

// Most edges are never asked for it, so it is loaded only then.
app.on(["GET", "POST"], ["/status", "/status/*"], async (c) => {
  const { statusPage } = await import("./status-page/status-page.tsx");
  return statusPage.fetch(c.req.raw, c.env, c.executionCtx);
});

// Before those of the operator: the scope metrics suffices.
app.get("/admin/metrics", (c) => answerCounts(c.req.raw, c.env));

app.route("/admin", admin);

app.all("/in/*", (c) => answerPost(c.req.raw, c.env, c.executionCtx));
app.route("/inboxes", inboxRoutes(ownerOnly));

app.route("/", virtualConnections);

// Like pass-through, these routes need a token in the header: no Connect follows that could show one.
app.on(["GET", "PUT"], "/mailboxes/:address/rule", async (c) => {
  const admitted = await admitWhole(c.req.raw, c.env, "origin", c.executionCtx);
  if (admitted.type === "refused") return problem(admitted.reason, admitted.detail);
  const { rights } = admitted.principal;
  return answerRule(c.req.raw, c.req.param("address"), c.env, (peer) =>
    owns(rights, peer) ? undefined : "ScopeMissing",
  );
});

app.get("/mailboxes/:address/room", async (c) => {
  const admitted = await admitWhole(c.req.raw, c.env, "origin", c.executionCtx);
  if (admitted.type === "refused") return problem(admitted.reason, admitted.detail);
  return answerRoom(c.req.raw, c.req.param("address"), admitted.principal, c.env);
});

app.delete("/mailboxes/:address/messages", async (c) => {
  const admitted = await admitWhole(c.req.raw, c.env, "origin", c.executionCtx);
  if (admitted.type === "refused") return problem(admitted.reason, admitted.detail);
  return answerWithdrawal(c.req.raw, c.req.param("address"), admitted.principal, c.env);
});

app.all("/mailboxes/*", (c, next) => {
  const name = nameIn(c.req.raw, c.env);
  if (name?.type === "malformed") return problem("MalformedStreamName", name.detail);
  if (name?.type === "stream") return answerStream(c.req.raw, name, c.env, c.executionCtx);
  // Two slashes: see readName.
  if (name === undefined || name.address.split("/").length > 2) return next();
  return answerPeer(c.req.raw, name.address, c.env, c.executionCtx);
});

app.on(["POST", "OPTIONS"], "/send/*", (c) => answerSend(c.req.raw, c.env, c.executionCtx));

app.get("/envelope.schema.json", () => answerSchema());

app.on(["POST", "OPTIONS"], "/tickets", (c) => answerTicket(c.req.raw, c.env, c.executionCtx));

// Most edges are never asked for it, so it is loaded only then.
app.get("/openapi.json", async (c) => {
  const { answerDocument } = await import("./http/openapi/document.ts");
  return answerDocument(app.routes, prefixOf(c.env) || "/");
});

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
app.onError(async (error, c) => {
  // The mailbox has logged it.
  if (isNewerSchema(error)) return problem("NewerSchema");
  const failure = await answerToFailure(error);
  if (failure !== undefined) return failure;
  // By this the operator finds the line of the log that belongs to a report.
  const request = c.req.header("CF-Ray") ?? crypto.randomUUID();
  logReason("error", "InternalError", { message: error.message, request, method: c.req.method });
  const answer = problem("InternalError");
  answer.headers.set("Grooveway-Request", request.replace(/[^\w-]/g, "").slice(0, 64));
  return answer;
});

/**
 * Refuses a request with two Host headers, with one that names no host, or outside the prefix; undefined if there is
 * nothing to refuse.
 */
function misaddressed(request: Request, env: Env): Response | undefined {
  // The runtime joins headers of one name; no name of a host has a comma.
  // Two parsers may disagree about which Host counts [RFC 9112 3.2].
  if (request.headers.get("host")?.includes(","))
    return problem("MalformedHead", "There is more than one Host header.");
  // The runtime makes the URL of the header as it is.
  if (!URL.canParse(request.url)) return problem("MalformedHead", "The Host header names no host.");
  const prefix = prefixOf(env);
  if (prefix === "" || pathUnder(prefix, new URL(request.url).pathname) !== undefined) return undefined;
  const cure = "If a proxy removes that path, leave PREFIX (--prefix) empty.";
  return problem("WrongPrefix", `This edge is under ${prefix}/, but the request came without that path. ${cure}`);
}

/** Whether a request asks if the edge is ready, which an edge that serves nothing answers too. */
function asksWhether(request: Request, env: Env): boolean {
  return URL.canParse(request.url) && pathUnder(prefixOf(env), new URL(request.url).pathname) === "/ready";
}

/** Sends what a request has counted, once it is answered. */
async function counted(answered: Response | Promise<Response>, env: Env, context: ExecutionContext): Promise<void> {
  await answered;
  sendSoon(context, env);
}

export default {
  fetch(request, env, context) {
    // The first request of any kind logs what is wrong with the settings, for an operator who has just deployed.
    const unserved = inspectSettings(env);
    if (unserved !== undefined && !asksWhether(request, env))
      return problem("EdgeMisconfigured", `The setting ${unserved.setting} is malformed.`);
    const answered = misaddressed(request, env) ?? app.fetch(request, env, context);
    context.waitUntil(counted(answered, env, context));
    return answered;
  },
} satisfies ExportedHandler<Env>;
