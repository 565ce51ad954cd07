/**
 * The operators' API. It needs ADMIN_TOKEN or a token with the scope admin; if neither is configured, its paths do not
 * exist.
 *
 *   GET    /admin/mailboxes?after=URL      one page of the status of mailboxes
 *   GET    /admin/mailboxes/{address}      status of one mailbox
 *   DELETE /admin/mailboxes/{address}      removes its waiting messages
 *   PUT    /admin/mailboxes/{address}/lock shuts out all senders; DELETE admits them again
 *   GET    /admin/mailboxes/{address}/rule who may send to it; PUT sets that
 *   GET    /admin/links/{relay}            status of the link to an origin relay
 *   POST   /admin/links/{relay}/renew      replaces its connection with a new one
 *   ...    /admin/inboxes/{address}        as its owner at /inboxes/{address}; see inbox-api.ts
 *
 * @module
 */
import { type Context, Hono, type Next } from "hono";
import type { Env } from "../env.ts";
import { allowedLink, forOperator } from "../origin/relay-access.ts";
import { parseLinks } from "../policy/link-settings.ts";
import { problem } from "../problem.ts";
import { REASONS } from "../reasons.ts";
import { DIRECTORY } from "../rpc/directory-rpc.ts";
import type { LinkStatus } from "../rpc/link-rpc.ts";
import { admitOperator } from "./authorize.ts";
import { inboxRoutes } from "./inbox-api.ts";
import { ADMIN_PAGE } from "./limits.ts";
import { answerRule, lookAt, peerHere } from "./mailbox-rule.ts";
import { emptyMailbox, operateMailbox, statusOf } from "./operate-mailbox.ts";

type Bindings = { Bindings: Env };

export const admin = new Hono<Bindings>()
  .use(requireOperator)
  .get("/mailboxes", async (c) => {
    const peers = await c.env.DIRECTORY.getByName(DIRECTORY).list(c.req.query("after"), ADMIN_PAGE);
    return c.json(await Promise.all(peers.map((peer) => statusOf(peer, c.env))));
  })
  .put("/mailboxes/:address/lock", (c) => withMailbox(c, (mailbox) => mailbox.setLocked(true), true))
  .delete("/mailboxes/:address/lock", (c) => withMailbox(c, (mailbox) => mailbox.setLocked(false)))
  // An operator may set the rule of any mailbox.
  .on(["GET", "PUT"], "/mailboxes/:address/rule", (c) =>
    answerRule(c.req.raw, c.req.param("address"), c.env, () => undefined),
  )
  .route(
    "/inboxes",
    inboxRoutes(async () => undefined),
  )
  .get("/links/:relay", (c) => withLink(c, (link) => link.status(), true))
  .post("/links/:relay/renew", (c) =>
    withLink(c, async (link) => {
      await link.renew();
      return link.status();
    }),
  )
  .get("/mailboxes/:address", (c) => withMailbox(c, () => Promise.resolve()))
  .delete("/mailboxes/:address", (c) => withMailbox(c, (mailbox) => mailbox.purge()));

/**
 * Answers with the status of the link to a relay. A relay that is not allowed has no link.
 *
 * @param onlyUsed does not ask a link that was never used, because asking would create its object
 */
async function withLink(
  c: Context<Bindings>,
  ask: (link: ReturnType<Env["LINK"]["getByName"]>) => Promise<LinkStatus>,
  onlyUsed = false,
): Promise<Response> {
  const allowed = allowedLink(`grooveDNS://${c.req.param("relay") ?? ""}`, c.env);
  if (allowed.type === "refused") return problem(allowed.reason, forOperator(allowed));
  const { url: relay } = allowed;
  const kept = parseLinks(c.env.LINKS ?? "").urls.includes(relay);
  if (onlyUsed && !kept && !(await c.env.DIRECTORY.getByName(DIRECTORY).has(relay))) {
    return c.json({ relay, connected: false, failures: 0 });
  }
  const status = await ask(c.env.LINK.getByName(relay));
  return c.json({ ...status, ...(status.reason !== undefined && { cure: REASONS[status.reason].cure }) });
}

/**
 * Does something to a mailbox, and answers with its status afterwards.
 *
 * @param makes whether to create the mailbox if it does not exist
 */
async function withMailbox(
  c: Context<Bindings>,
  act: (mailbox: ReturnType<Env["MAILBOX"]["getByName"]>) => Promise<unknown>,
  makes = false,
): Promise<Response> {
  const peer = peerHere(c.req.param("address") ?? "", c.env);
  if (peer instanceof Response) return peer;
  return lookAt(c.req.raw, c.env, peer, async (there) => {
    const exists = there !== undefined || makes;
    return c.json(exists ? await operateMailbox(peer, c.env, act) : emptyMailbox(peer));
  });
}

async function requireOperator(c: Context<Bindings>, next: Next): Promise<Response | undefined> {
  const answer = await admitOperator(c.req.raw, c.env);
  if (answer.type === "refused") return problem(answer.reason, answer.detail);
  await next();
  return undefined;
}
