/**
 * The environment of an endpoint in a Tunnel: mailboxes, other relays, authentication and metering.
 *
 * @module
 */
import { tokenAuthenticator } from "../../auth/permissions.ts";
import { ANYBODY, hasToken, isSame, NOBODY, type Principal } from "../../auth/principal.ts";
import { bucket, take } from "../../lib/token-bucket.ts";
import { type Throttle, throttleOf } from "../admission/throttle.ts";
import { consumerIn } from "../endpoint/consumer-path.ts";
import type { EndpointContext } from "../endpoint/endpoint-context.ts";
import type { Env } from "../env.ts";
import { streamOrigins } from "../origin/dial-origin.ts";
import { allowedLink, tellRefusal } from "../origin/relay-access.ts";
import { mayLink, parseLinks, trustIn } from "../policy/link-settings.ts";
import { messageLimit } from "../policy/quota-setting.ts";
import { meteredName, parseRate } from "../policy/rate-setting.ts";
import type { BatchSender } from "../rpc/batch-socket.ts";
import type { DevicePath } from "../rpc/egress-rpc.ts";
import { nameOf } from "../volatile/object-named.ts";
import type { Owner } from "./owner.ts";

/** Limits log lines about refused relays to a burst of 10, then one a second: devices choose the names. */
const lines = bucket(1, 10, 0);

/**
 * @param ownership the owner of the virtual connection
 * @param arrived called when its device is admitted
 * @param egressSocket returns the WebSocket of the device's Egress, while there is one
 */
export function tunnelContext(
  ctx: DurableObjectState,
  env: Env,
  ownership: Owner,
  arrived: () => void,
  egressSocket: () => BatchSender<DevicePath> | undefined,
): EndpointContext {
  const name = nameOf(ctx);
  return {
    name,
    owner: ownership.owner ?? NOBODY,
    standing: ownership.standing,
    authenticator: tokenAuthenticator(env, (principal, asOf) => ownership.standing.show(principal, asOf)),
    mailbox: (peer) => env.MAILBOX.getByName(peer),
    consumer: (other) => consumerIn(env, other),
    ...(streamOrigins(env).length > 0 && {
      egress: {
        object: (device) => env.EGRESS.getByName(device),
        socket: egressSocket,
        bearer: () => ownership.standing.bearer ?? ownership.owner ?? NOBODY,
      },
    }),
    remote(relay) {
      const allowed = allowedLink(relay, env);
      const verdict =
        allowed.type === "allowed" && !mayLink(allowed.url, env)
          ? ({ type: "refused", reason: "LinkInClear" } as const)
          : allowed;
      if (verdict.type === "allowed") return verdict.url;
      if (take(lines, 1, Date.now())) tellRefusal(relay, verdict);
      return undefined;
    },
    recipients: parseRate(env.RATE ?? "").recipients,
    messageLimit: messageLimit(env.QUOTA ?? ""),
    trust: (relay) => trustIn(relay, env.LINK_SECRETS),
    throttle(source, who) {
      const token = isSame(who, ANYBODY) ? undefined : who.id;
      return throttleOf(meteredName(source, token, env), name, env);
    },
    arrived() {
      arrived();
      for (const relay of parseLinks(env.LINKS ?? "").urls) {
        // A relay that may not be dialled has no Link.
        if (allowedLink(relay, env).type === "refused") continue;
        const woken = env.LINK.getByName(relay).wake();
        // A failed wake is harmless: the Link has an alarm, and the next device to arrive wakes it again.
        ctx.waitUntil(woken.catch(() => undefined));
      }
    },
    waitUntil: (promise) => ctx.waitUntil(promise),
  };
}

/**
 * The throttle of a lost virtual connection of which only the bearer is known; undefined if that does not determine
 * one.
 */
export function throttleOfBearer(bearer: Principal | undefined, name: string, env: Env): Throttle | undefined {
  if (bearer === undefined || !hasToken(bearer)) return undefined;
  return throttleOf(meteredName("", bearer.id, env), name, env);
}
