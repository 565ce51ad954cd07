/**
 * What an operator may ask and do, behind the admin token or a token with the scope admin. When neither is configured there
 * is no such surface at all.
 *
 *   GET    /admin/mailboxes?after=URL      a page of mailboxes, with what waits in each
 *   GET    /admin/mailboxes/{address}      one
 *   DELETE /admin/mailboxes/{address}      removes what waits
 *   PUT    /admin/mailboxes/{address}/lock, DELETE the same: shuts senders out, lets them in
 *   GET    /admin/mailboxes/{address}/rule, PUT: who may send to it
 *   GET    /admin/links/{relay}            the link to an origin relay
 *   POST   /admin/links/{relay}/renew      replaces its connection by a new one
 *
 * @module
 */
import { type Context, Hono, type Next } from "hono";
import { noDrops } from "../../store-and-forward/drop-reasons.ts";
import type { Env } from "../env.ts";
import { allowedLink, forOperator } from "../origin/relay-policy.ts";
import { parseLinks } from "../policy/link-settings.ts";
import { problem } from "../problem.ts";
import { REASONS } from "../reasons.ts";
import { DIRECTORY } from "../rpc/directory-rpc.ts";
import type { LinkStatus } from "../rpc/link-rpc.ts";
import type { MailboxStatus } from "../rpc/mailbox-rpc.ts";
import { admitOperator } from "./authorize.ts";
import { ADMIN_PAGE } from "./limits.ts";
import { answerRule, lookAt, peerUrlOfAddress } from "./mailbox-rule.ts";

type Bindings = { Bindings: Env };

export const admin = new Hono<Bindings>()
  .use(requireOperator)
  .get("/mailboxes", async (c) => {
    const peers = await c.env.DIRECTORY.getByName(DIRECTORY).list(c.req.query("after"), ADMIN_PAGE);
    return c.json(await Promise.all(peers.map((peer) => c.env.MAILBOX.getByName(peer).status())));
  })
  .put("/mailboxes/:address/lock", (c) => withMailbox(c, (mailbox) => mailbox.setLocked(true), true))
  .delete("/mailboxes/:address/lock", (c) => withMailbox(c, (mailbox) => mailbox.setLocked(false)))
  // Whoever has the admin token may, whoever's mailbox it is.
  .on(["GET", "PUT"], "/mailboxes/:address/rule", (c) =>
    answerRule(c.req.raw, c.req.param("address"), c.env, () => undefined),
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
 * Asks something of the link to a relay. One that may not be reached has none.
 *
 * @param onlyUsed leaves a link alone that was never used, since to ask it would make it
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
 * Does something to a mailbox, and shows how it is then.
 *
 * @param makes whether it is to be made for that
 */
async function withMailbox(
  c: Context<Bindings>,
  act: (mailbox: ReturnType<Env["MAILBOX"]["getByName"]>) => Promise<unknown>,
  makes = false,
): Promise<Response> {
  const peer = peerUrlOfAddress(c.req.param("address") ?? "");
  if (peer === undefined) return problem("MalformedAddress");
  return lookAt(c.req.raw, c.env, peer, async (there) => {
    const mailbox = there ?? (makes ? c.env.MAILBOX.getByName(peer) : undefined);
    if (mailbox === undefined) return c.json(emptyMailbox(peer));
    await act(mailbox);
    return c.json(await mailbox.status());
  });
}

/** What is shown of a mailbox that is not there: it would be like this. */
function emptyMailbox(peer: string): MailboxStatus {
  return {
    peer,
    messages: 0,
    octets: 0,
    oldest: undefined,
    consumer: undefined,
    generation: 0,
    locked: false,
    senders: "everyone",
    dropped: noDrops(),
    aside: 0,
    suspended: 0,
    rowsWritten: 0,
    failedDeliveries: 0,
  };
}

async function requireOperator(c: Context<Bindings>, next: Next): Promise<Response | undefined> {
  const answer = await admitOperator(c.req.raw, c.env);
  if (answer.type === "refused") return problem(answer.reason, answer.detail);
  await next();
  return undefined;
}
