/**
 * Which relays may be reached by the settings of this edge, and which is this edge itself.
 *
 * @module
 */
import { ownNames } from "../../auth/own-names.ts";
import { relayNamed } from "../../auth/relay-proof.ts";
import { logFindings } from "../log.ts";
import { forbidden } from "../policy/check-settings.ts";
import { type Dev, parseDev } from "../policy/dev-setting.ts";
import { judgeLink, type NamedWay } from "../policy/link-settings.ts";
import { parseWays } from "../policy/link-ways.ts";
import { judgeRelay, parseRelays, type RelayEndpoint, type Rules } from "../policy/relay-allow-list.ts";
import type { Settings } from "../policy/settings.ts";
import { REASONS, type Reason } from "../reasons.ts";

/** The settings by which relays are judged. */
export type RelaySettings = Pick<Settings, "ORIGIN_RELAYS" | "DEV" | "RESOLVER">;

/** The settings by which it is judged whether a relay may be linked. */
export type LinkedRelaySettings = RelaySettings & Pick<Settings, "LINK_WAYS">;

/** Why a relay is not dialled. */
export interface RelayRefused {
  readonly type: "refused";
  readonly reason: Reason;
  /** For the device. */
  readonly detail?: string;
  /** What the operator changes, as the end of a sentence. */
  readonly cure?: string;
}

/** A refusal as its operator reads it: what is wrong, and what to change. */
export function forOperator({ reason, detail, cure }: RelayRefused): string {
  const cause = detail ?? REASONS[reason].cause;
  return cure === undefined ? `${cause} ${REASONS[reason].cure}` : `${cause.replace(/\.$/, "")}: ${cure}.`;
}

/** Writes into the log why a relay is not dialled, and what to change. */
export function tellRefusal(relay: string, refused: RelayRefused): void {
  console.warn(JSON.stringify({ reason: refused.reason, relay, detail: forOperator(refused) }));
}

/**
 * Judges whether the edge may link to an origin relay, by one of its ways at least.
 *
 * @param url of the relay
 * @param last the name that worked last: it comes first among the ways
 * @returns the relay's one URL, which is the name of its mailbox and of the Link to it, and the ways that are allowed
 */
export function allowedLink(
  url: string,
  env: LinkedRelaySettings,
  last?: string,
): { readonly type: "allowed"; readonly url: string; readonly ways: readonly NamedWay[] } | RelayRefused {
  const named = relayNamed(url);
  if (named === undefined) return { type: "refused", reason: "MalformedRelay" };
  const policy = policyOf(env);
  const ways = parseWays(env.LINK_WAYS ?? "");
  if (policy === undefined) return { type: "refused", reason: "EdgeMisconfigured" };
  if ("problem" in ways) {
    return { type: "refused", reason: "EdgeMisconfigured", detail: `LINK_WAYS ${ways.problem}`, cure: ways.cure };
  }
  const relay = named.slice(named.indexOf("//") + 2);
  const verdict = judgeLink(relay, { ways, rules: policy.rules, permits: policy.dev }, last);
  return verdict.type === "refused" ? verdict : { ...verdict, url: named };
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
  logFindings(wrong);
  const parsed = parseRelays(ORIGIN_RELAYS);
  const policy =
    wrong.length === 0 && parsed.type === "rules" ? { rules: parsed.rules, dev: parseDev(DEV) } : undefined;
  last = { key, policy };
  return policy;
}
