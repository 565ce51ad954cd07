/**
 * The status page: what an operator sees in a browser. Everything is HTML of the server; a script draws plots.
 *
 *   GET  /status/               is all well, who is connected, what waits, what was counted
 *   GET  /status/connections    who is connected by what, searched by ?q=
 *   GET  /status/mailboxes      what waits, or all, searched by ?q=
 *   GET  /status/mailbox        one mailbox, ?peer= its URL or address
 *   POST /status/lock, unlock, rule, purge   change it; GET /status/purge asks first
 *   POST /status/sign-in, sign-out
 *   GET  /status/history.json   what the plots show
 *
 * Invariant: every page but the form to sign in needs a session, and every change a form of that session besides; both are
 * checked in sign-in.ts. Links are relative, because a proxy may serve the edge under a path that it does not know.
 *
 * @module
 */
import { Hono } from "hono";
import { etag } from "hono/etag";
import { secureHeaders } from "hono/secure-headers";
import { getPath } from "hono/utils/url";
import uplotScript from "uplot/dist/uPlot.iife.min.js" with { type: "text" };
import uplotStyle from "uplot/dist/uPlot.min.css" with { type: "text" };
import { promptly, within } from "../../lib/runtime/timeout.ts";
import { isNewerSchema } from "../../store-and-forward/stored-version.ts";
import { readHistory, readMetrics, readObjects } from "../collector/read-metrics.ts";
import { sendMetrics } from "../collector/send-metrics.ts";
import type { Env } from "../env.ts";
import { hasOperators } from "../http/authorize.ts";
import { mailboxAt } from "../http/existing-mailbox.ts";
import { READY_LINKS, STATUS_TIMEOUT } from "../http/limits.ts";
import { peerUrlOfAddress } from "../http/mailbox-rule.ts";
import { emptyMailbox, operateMailbox, statusOf } from "../http/operate-mailbox.ts";
import { readiness } from "../http/ready.ts";
import { logError } from "../log.ts";
import { counters } from "../metrics/counters.ts";
import { SEND_TIMEOUT } from "../metrics/limits.ts";
import { allowedLink } from "../origin/relay-access.ts";
import { browserOrigin } from "../policy/client-network.ts";
import { parseLinks } from "../policy/link-settings.ts";
import { pathUnder, prefixOf } from "../policy/prefix-setting.ts";
import { formatSenderRule, readSenderRule } from "../policy/sender-rule.ts";
import { problem } from "../problem.ts";
import { type EdgeReasonRule, REASONS } from "../reasons.ts";
import type { ObjectQuery, ObjectRow } from "../rpc/collector-rpc.ts";
import { DIRECTORY } from "../rpc/directory-rpc.ts";
import type { MailboxStatus } from "../rpc/mailbox-rpc.ts";
import drawPlots from "./draw-plots.js" with { type: "text" };
import { makeFormToken } from "./form-token.ts";
import { document, type LayoutProps } from "./layout.tsx";
import { OVERVIEW_ROWS, PAGE_ROWS, SEARCH_LENGTH } from "./limits.ts";
import { AllMailboxesPage, ConnectionsPage, WaitingPage } from "./lists.tsx";
import { ACTIONS, type Action, DONE, MailboxPage, PurgePage } from "./mailbox.tsx";
import { type LinkRow, Overview } from "./overview.tsx";
import { plotsOf } from "./plots.ts";
import { type PageContext, type Refusal, sessionOf, signIn, signOut, takeForm } from "./sign-in.ts";
import { RefusedPage, SignInPage } from "./sign-in-page.tsx";
import statusStyle from "./status.css" with { type: "text" };

type Bindings = { Bindings: Env };

/** A square with a groove. */
const ICON =
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="3" fill="#1f6f5c"/>' +
  '<path d="M3 10c3-6 7 2 10-4" fill="none" stroke="#fff" stroke-width="2" stroke-linecap="round"/></svg>';

/** Files that are no secret: the form to sign in needs some of them. */
const FILES: Readonly<Record<string, readonly [type: string, text: string]>> = {
  "plots.js": ["text/javascript", uplotScript],
  "draw-plots.js": ["text/javascript", drawPlots],
  "plots.css": ["text/css", uplotStyle],
  "status.css": ["text/css", statusStyle],
  "icon.svg": ["image/svg+xml", ICON],
};

export const statusPage = new Hono<Bindings>({
  // /status/ is /status.
  getPath: (request, options) =>
    (pathUnder(prefixOf((options?.env ?? {}) as Env), getPath(request)) ?? "").replace(/\/$/, "") || "/",
}).basePath("/status");

statusPage.use(
  secureHeaders({
    contentSecurityPolicy: {
      defaultSrc: ["'none'"],
      scriptSrc: ["'self'"],
      styleSrc: ["'self'"],
      imgSrc: ["'self'"],
      connectSrc: ["'self'"],
      formAction: ["'self'"],
      baseUri: ["'none'"],
      frameAncestors: ["'none'"],
    },
    xFrameOptions: "DENY",
    referrerPolicy: "same-origin",
    // The operator of the host decides on it, not one page.
    strictTransportSecurity: false,
  }),
);

statusPage.use(async (c, next) => {
  if (!hasOperators(c.env)) return problem("NotFound");
  c.header("Cache-Control", "no-store");
  await next();
  return undefined;
});

// All other links are relative to the folder.
statusPage.get("/", async (c, next) => {
  if (new URL(c.req.url).pathname.endsWith("/")) return next();
  return c.body(null, 302, { Location: "status/" });
});

for (const [name, [type, text]] of Object.entries(FILES)) {
  statusPage.get(`/${name}`, etag(), (c) =>
    c.body(text, 200, { "Content-Type": `${type}; charset=utf-8`, "Cache-Control": "no-cache" }),
  );
}

statusPage.post("/sign-in", async (c) => {
  const refusal = await signIn(c);
  if (refusal === undefined) return goTo(c, "./");
  return refuse(c, refusal, { isSignIn: true });
});

statusPage.post("/sign-out", async (c) => {
  const form = await takeForm(c, () => "sign-out");
  if (!form.ok) return refuse(c, form);
  await signOut(c, form.session);
  return goTo(c, "./");
});

statusPage.get("/", async (c) => {
  const signedIn = await sessionOf(c);
  if (!signedIn.ok) return refuse(c, signedIn);
  await within(SEND_TIMEOUT, sendMetrics(c.env));
  const query = { kind: "mailbox", contains: "", order: "count", after: undefined, limit: OVERVIEW_ROWS } as const;
  const [ready, reading, history, mailboxes, links] = await Promise.all([
    readiness(c.env),
    readMetrics(c.env),
    readHistory(c.env),
    readObjects(c.env, query),
    linksOf(c.env),
  ]);
  if (reading === undefined || history === undefined || mailboxes === undefined) return unavailable(c);
  const props = { now: Date.now(), readiness: ready, reading, history, mailboxes: mailboxes.rows, links };
  return show(c, signedIn.session, { title: "Overview", at: ".", children: <Overview {...props} /> });
});

statusPage.get("/history.json", async (c) => {
  const signedIn = await sessionOf(c);
  if (!signedIn.ok) return problem(signedIn.reason);
  const history = await readHistory(c.env);
  return history === undefined ? problem("MetricsUnavailable") : c.json(plotsOf(history, Date.now()));
});

statusPage.get("/connections", async (c) => {
  const signedIn = await sessionOf(c);
  if (!signedIn.ok) return refuse(c, signedIn);
  const page = await pageOf(c, { kind: "connection", order: "age" });
  if (page === undefined) return unavailable(c);
  return show(c, signedIn.session, {
    title: "Connections",
    at: "connections",
    children: <ConnectionsPage {...page} />,
  });
});

statusPage.get("/mailboxes", async (c) => {
  const signedIn = await sessionOf(c);
  if (!signedIn.ok) return refuse(c, signedIn);
  const title = "Mailboxes";
  if (c.req.query("all") !== undefined) {
    const contains = searched(c);
    const after = c.req.query("after");
    const directory = c.env.DIRECTORY.getByName(DIRECTORY);
    const { peers, next } = await promptly(STATUS_TIMEOUT, directory.search(urlText(contains), after, PAGE_ROWS));
    const rows = await Promise.all(peers.map((peer) => statusOf(peer, c.env)));
    const more = next === undefined ? undefined : { ...(contains !== "" && { q: contains }), all: "1", after: next };
    const props = { now: Date.now(), contains, rows, next: more, isFirst: after === undefined };
    return show(c, signedIn.session, { title, at: "mailboxes", children: <AllMailboxesPage {...props} /> });
  }
  const sort = c.req.query("sort");
  const order = sort === "octets" || sort === "age" ? sort : "count";
  const page = await pageOf(c, { kind: "mailbox", order });
  if (page === undefined) return unavailable(c);
  return show(c, signedIn.session, { title, at: "mailboxes", children: <WaitingPage {...page} order={order} /> });
});

statusPage.get("/mailbox", async (c) => {
  const signedIn = await sessionOf(c);
  if (!signedIn.ok) return refuse(c, signedIn);
  const peer = peerUrlOfAddress(c.req.query("peer") ?? "");
  if (peer === undefined) return refuse(c, { ok: false, reason: "MalformedAddress" });
  return showMailbox(c, signedIn.session, peer, { done: c.req.query("done") });
});

statusPage.get("/purge", async (c) => {
  const signedIn = await sessionOf(c);
  if (!signedIn.ok) return refuse(c, signedIn);
  const peer = peerUrlOfAddress(c.req.query("peer") ?? "");
  if (peer === undefined) return refuse(c, { ok: false, reason: "MalformedAddress" });
  const [mailbox, token] = await Promise.all([lookedAt(c, peer), tokenFor(signedIn.session, "purge", peer)]);
  const children = <PurgePage status={mailbox.status} token={token} />;
  return show(c, signedIn.session, { title: "Remove what waits?", at: "mailboxes", children });
});

statusPage.post("/lock", (c) =>
  change(c, "lock", async (peer) => {
    await operateMailbox(peer, c.env, (mailbox) => mailbox.setLocked(true));
    return "locked";
  }),
);

statusPage.post("/unlock", (c) =>
  change(c, "unlock", async (peer, exists) => {
    if (exists) await operateMailbox(peer, c.env, (mailbox) => mailbox.setLocked(false));
    return "unlocked";
  }),
);

statusPage.post("/purge", (c) =>
  change(c, "purge", async (peer, exists) => {
    if (exists) await operateMailbox(peer, c.env, (mailbox) => mailbox.purge());
    return "purged";
  }),
);

statusPage.post("/rule", (c) =>
  change(c, "rule", async (peer, _exists, fields) => {
    const rule = fields.get("senders") ?? "";
    const read = readSenderRule(rule);
    if (!read.ok) return { rule, detail: `The rule is not set: ${read.problems}.` };
    await operateMailbox(peer, c.env, (mailbox) => mailbox.setSenders(formatSenderRule(read.value)));
    return "rule";
  }),
);

statusPage.notFound(() => problem("NotFound", "There is no such page under /status/."));

statusPage.onError((error, c) => {
  if (isNewerSchema(error)) return refuse(c, { ok: false, reason: "NewerSchema" });
  throw error;
});

/** What a change has come to: what was done, or why the rule was not set. */
type Changed = keyof typeof DONE | { readonly rule: string; readonly detail: string };

/** Changes a mailbox by a form, and goes back to its page. */
async function change(
  c: PageContext,
  action: Action,
  act: (peer: string, exists: boolean, fields: URLSearchParams) => Promise<Changed>,
): Promise<Response> {
  const peerOf = (fields: URLSearchParams) => fields.get("peer") ?? "";
  const form = await takeForm(c, (fields) => formName(action, peerOf(fields)));
  if (!form.ok) return refuse(c, form);
  const peer = peerUrlOfAddress(peerOf(form.fields));
  if (peer === undefined) return refuse(c, { ok: false, reason: "MalformedAddress" });
  const exists = (await mailboxAt(c.env, peer)) !== undefined;
  const changed = await act(peer, exists, form.fields);
  if (typeof changed !== "string") return showMailbox(c, form.session, peer, { wrong: changed });
  return goTo(c, `mailbox?${new URLSearchParams({ peer, done: changed })}`);
}

async function showMailbox(
  c: PageContext,
  session: string,
  peer: string,
  { done, wrong }: { readonly done?: string | undefined; readonly wrong?: Exclude<Changed, string> },
): Promise<Response> {
  const { exists, status } = await lookedAt(c, peer);
  const tokens = await Promise.all(ACTIONS.map(async (action) => [action, await tokenFor(session, action, peer)]));
  const props = {
    now: Date.now(),
    status,
    exists,
    done: done !== undefined && Object.hasOwn(DONE, done) ? (done as keyof typeof DONE) : undefined,
    wrong,
    tokens: Object.fromEntries(tokens) as Record<Action, string>,
  };
  const children = <MailboxPage {...props} />;
  return show(c, session, { title: "Mailbox", at: "mailboxes", children }, wrong === undefined ? 200 : 400);
}

/** The status of a mailbox, which is not created by that. */
async function lookedAt(
  c: PageContext,
  peer: string,
): Promise<{ readonly exists: boolean; readonly status: MailboxStatus }> {
  const there = await mailboxAt(c.env, peer);
  return {
    exists: there !== undefined,
    status: there === undefined ? emptyMailbox(peer) : await statusOf(peer, c.env),
  };
}

/** A form does one thing to one mailbox. */
function formName(action: Action, peer: string): string {
  return `${action} ${peer}`;
}

function tokenFor(session: string, action: Action, peer: string): Promise<string> {
  return makeFormToken(session, formName(action, peer), Date.now());
}

/** A page of objects, as the query of a request asks for it; undefined if a collector does not answer. */
async function pageOf(c: PageContext, { kind, order }: Pick<ObjectQuery, "kind" | "order">) {
  await within(SEND_TIMEOUT, sendMetrics(c.env));
  const contains = searched(c);
  const [value, name] = [Number(c.req.query("value") ?? Number.NaN), c.req.query("after")];
  const after = Number.isFinite(value) && name !== undefined ? { value, name } : undefined;
  const found = await readObjects(c.env, { kind, contains: urlText(contains), order, after, limit: PAGE_ROWS });
  if (found === undefined) return undefined;
  const last = found.more ? found.rows.at(-1) : undefined;
  const base = { ...(contains !== "" && { q: contains }), ...(kind === "mailbox" && { sort: order }) };
  const next = last === undefined ? undefined : { ...base, after: last.name, value: String(last.value) };
  return { now: Date.now(), contains, rows: found.rows, next, isFirst: after === undefined };
}

function searched(c: PageContext): string {
  return (c.req.query("q") ?? "").trim().slice(0, SEARCH_LENGTH);
}

/** What is searched for, as it is written in URLs: people may write names as they are, or as they are in a URL. */
function urlText(text: string): string {
  const encoded = text.replace(/[^\w\-.~:/%@]+/gu, (part) => encodeURIComponent(part.toWellFormed()));
  return encoded.replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16)}`);
}

/** Links that are or were wanted of late, the failed ones first. */
async function linksOf(env: Env): Promise<LinkRow[]> {
  const query = { kind: "link", contains: "", order: "count", after: undefined, limit: READY_LINKS } as const;
  const known = (await readObjects(env, query))?.rows.map(({ name }: ObjectRow) => name) ?? [];
  const kept = parseLinks(env.LINKS ?? "").urls;
  const relays = [...new Set([...kept, ...known])].slice(0, READY_LINKS);
  const rows = await Promise.all(
    relays.map(async (relay): Promise<LinkRow> => {
      const allowed = allowedLink(relay, env);
      if (allowed.type === "refused") return { relay, status: undefined, cure: REASONS[allowed.reason].cure };
      const asked = env.LINK.getByName(allowed.url).status();
      const answered = await within(STATUS_TIMEOUT, asked).catch(logError);
      const status = answered === undefined ? undefined : answered.value;
      return { relay, status, cure: status?.reason === undefined ? undefined : REASONS[status.reason].cure };
    }),
  );
  return rows.sort((one, other) => (other.status?.failures ?? 1) - (one.status?.failures ?? 1));
}

/** Shows a page to who is signed in. */
async function show(
  c: PageContext,
  session: string,
  page: Pick<LayoutProps, "title" | "at" | "children">,
  status: 200 | 400 = 200,
): Promise<Response> {
  const signOutToken = await makeFormToken(session, "sign-out", Date.now());
  return c.html(document({ ...page, host: hostOf(c), signOut: signOutToken }), status);
}

/** Refuses a request. Where it helps to sign in, the answer has the form for that. */
async function refuse(
  c: PageContext,
  { reason, detail, retryAfter }: Refusal,
  { isSignIn = false }: { readonly isSignIn?: boolean } = {},
): Promise<Response> {
  const rule: EdgeReasonRule = REASONS[reason];
  // An operator who has yet to sign in is refused nothing.
  if (isSignIn || reason !== "SessionNeeded" || c.req.method !== "GET") counters.count("requestsRefused", reason);
  if (retryAfter !== undefined) c.header("Retry-After", String(retryAfter));
  const wrong = { reason, detail: detail || rule.cause };
  const helps = isSignIn || reason === "SessionNeeded";
  const children = helps ? (
    <SignInPage wrong={isSignIn || c.req.method !== "GET" ? wrong : undefined} />
  ) : (
    <RefusedPage {...wrong} />
  );
  if (rule.status === 401) c.header("WWW-Authenticate", "Bearer");
  const page = { title: helps ? "Sign in" : "Refused", host: hostOf(c), scripts: false, children };
  return c.html(document(page), (rule.status ?? 404) as 400);
}

function unavailable(c: PageContext): Promise<Response> {
  return refuse(c, { ok: false, reason: "MetricsUnavailable" });
}

/** Sends the browser to another page, by a GET. */
function goTo(c: PageContext, path: string): Response {
  return c.body(null, 303, { Location: path });
}

function hostOf(c: PageContext): string {
  return browserOrigin(c.req.raw, c.env.TRUSTED_PROXIES)?.host ?? "edge";
}
