/**
 * Which relays may be reached by the settings of this edge, and which is this edge itself.
 *
 * @module
 */
import { ownNames } from "../auth/own-names.ts";
import { AddressError, parseURL, relayURL } from "../sstp/index.ts";
import { tell } from "./findings.ts";
import { forbidden } from "./policy/configuration.ts";
import { judgeRelay, parseRelays, type RelayEndpoint, type Rules } from "./policy/destinations.ts";
import { type Dev, parseDev } from "./policy/dev.ts";
import type { Reason } from "./reasons.ts";
import type { Settings } from "./settings.ts";

/** The settings by which relays are judged. */
export type RelaySettings = Pick<Settings, "ORIGIN_RELAYS" | "DEV" | "RESOLVER">;

/** Why a relay is not dialled. */
export interface RelayRefused {
  readonly type: "refused";
  readonly reason: Reason;
  readonly detail?: string;
}

/**
 * The one URL of an origin relay that the edge may connect to: the name of its mailbox and of the Link to it. Undefined
 * when it may not.
 */
export function remoteRelay(url: string, env: RelaySettings): string | undefined {
  try {
    const named = parseURL(url);
    if (named.kind !== "relay" || allowedRelay(named.relay, env).type === "refused") return undefined;
    return relayURL(named.relay);
  } catch (error) {
    if (error instanceof AddressError) return undefined;
    throw error;
  }
}

/** Whether a Relay-Server-Name is one of this edge's own: then the virtual connection ends here. */
export function isOwnName(name: string, env: { readonly RELAY_NAME?: string }): boolean {
  return ownNames(env.RELAY_NAME).includes(name.toLowerCase());
}

/**
 * Judges a relay by its name, before anything is kept or asked for it.
 *
 * @param name Relay-Server-Name of the request [MS-GRVHENC 2.2.1.1.2]
 */
export function allowedRelay(
  name: string,
  env: RelaySettings,
): { readonly type: "allowed"; readonly endpoint: RelayEndpoint; readonly resolve: boolean } | RelayRefused {
  const policy = policyOf(env);
  if (policy === undefined) return { type: "refused", reason: "EdgeMisconfigured" };
  return judgeRelay(name, policy.rules, policy.dev);
}

/** What the settings come to. */
export interface RelayPolicy {
  readonly rules: Rules;
  readonly dev: Dev;
}

/** The settings of an isolate do not change: they are read once. */
let last: { readonly key: string; readonly policy: RelayPolicy | undefined } | undefined;

/** Undefined when the settings are malformed or insecure: nothing is dialled by them. */
export function policyOf({ ORIGIN_RELAYS = "", DEV = "", RESOLVER = "" }: RelaySettings): RelayPolicy | undefined {
  const key = JSON.stringify([ORIGIN_RELAYS, DEV, RESOLVER]);
  if (last?.key === key) return last.policy;
  const wrong = forbidden({ ORIGIN_RELAYS, DEV, RESOLVER }).filter(({ setting }) => setting !== "KEYS");
  tell(wrong);
  const parsed = parseRelays(ORIGIN_RELAYS);
  const policy =
    wrong.length === 0 && parsed.type === "rules" ? { rules: parsed.rules, dev: parseDev(DEV) } : undefined;
  last = { key, policy };
  return policy;
}
