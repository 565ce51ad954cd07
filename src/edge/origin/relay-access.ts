/**
 * Decides by the edge's settings which relays it may reach, and which names are its own.
 *
 * @module
 */
import { ownNames } from "../../auth/own-names.ts";
import { relayNamed } from "../../auth/relay-proof.ts";
import { logFindings, logReason } from "../log.ts";
import { forbidden } from "../policy/check-settings.ts";
import { type Dev, parseDev } from "../policy/dev-setting.ts";
import { judgeLink, type NamedWay } from "../policy/link-settings.ts";
import { readWays } from "../policy/link-ways.ts";
import { judgeRelay, type RelayEndpoint, type Rules, readRelays } from "../policy/relay-allow-list.ts";
import type { Settings } from "../policy/settings.ts";
import { REASONS, type Reason } from "../reasons.ts";

/** Settings that decide which relays may be reached. */
export type RelaySettings = Pick<Settings, "ORIGIN_RELAYS" | "DEV" | "RESOLVER">;

/** Settings that decide which relays may be linked. */
export type LinkedRelaySettings = RelaySettings & Pick<Settings, "LINK_WAYS">;

/** Why a relay is not dialled. */
export interface RelayRefused {
  readonly type: "refused";
  readonly reason: Reason;
  /** Explanation for the device. */
  readonly detail?: string;
  /** What the operator should change, as the end of a sentence. */
  readonly cure?: string;
}

/** Text of a refusal for the operator: what is wrong, and what to change. */
export function forOperator({ reason, detail, cure }: RelayRefused): string {
  const cause = detail ?? REASONS[reason].cause;
  return cure === undefined ? `${cause} ${REASONS[reason].cure}` : `${cause.replace(/\.$/, "")}: ${cure}.`;
}

/** Logs why a relay is not dialled, and what to change. */
export function tellRefusal(relay: string, refused: RelayRefused): void {
  logReason("warn", refused.reason, { relay, detail: forOperator(refused) });
}

/**
 * Decides whether the edge may link to an origin relay, by at least one of its ways.
 *
 * @param url the relay's URL
 * @param last the way that worked last: it comes first in the result
 * @returns the relay's canonical URL, which names its mailbox and its Link, and the allowed ways
 */
export function allowedLink(
  url: string,
  env: LinkedRelaySettings,
  last?: string,
): { readonly type: "allowed"; readonly url: string; readonly ways: readonly NamedWay[] } | RelayRefused {
  const named = relayNamed(url);
  if (named === undefined) return { type: "refused", reason: "MalformedRelay" };
  const policy = policyOf(env);
  const ways = readWays(env.LINK_WAYS ?? "");
  if (policy === undefined) return { type: "refused", reason: "EdgeMisconfigured" };
  if (!ways.ok) {
    const [{ setting, problem, cure }] = ways.problems;
    return { type: "refused", reason: "EdgeMisconfigured", detail: `${setting} ${problem}`, cure };
  }
  const relay = named.slice(named.indexOf("//") + 2);
  const verdict = judgeLink(relay, { ways: ways.value, rules: policy.rules, permits: policy.dev }, last);
  return verdict.type === "refused" ? verdict : { ...verdict, url: named };
}

/** Where a virtual connection goes: to the mailboxes of this edge, or through it to an origin relay. */
export type Route = "mailbox" | "origin";

/** The route of a virtual connection that names a relay. Whether the relay is allowed is another question. */
export function routeTo(relay: string, env: Pick<Settings, "RELAY_NAME">): Route {
  return isOwnName(relay, env) ? "mailbox" : "origin";
}

/** Whether a Relay-Server-Name is one of this edge's own, so that the virtual connection ends here. */
export function isOwnName(name: string, env: Pick<Settings, "RELAY_NAME">): boolean {
  return ownNames(env.RELAY_NAME).includes(name.toLowerCase());
}

/**
 * Decides by its name whether a relay may be reached, before anything is stored or resolved for it.
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

/** The parsed settings. */
export interface RelayPolicy {
  readonly rules: Rules;
  readonly dev: Dev;
}

/** The last parsed policy. Settings do not change during an isolate's life. */
let last: { readonly key: string; readonly policy: RelayPolicy | undefined } | undefined;

/** Parses the settings. Returns undefined if they are malformed or insecure; then no relay is dialled. */
export function policyOf({ ORIGIN_RELAYS = "", DEV = "", RESOLVER = "" }: RelaySettings): RelayPolicy | undefined {
  const key = JSON.stringify([ORIGIN_RELAYS, DEV, RESOLVER]);
  if (last?.key === key) return last.policy;
  const wrong = forbidden({ ORIGIN_RELAYS, DEV, RESOLVER }).filter(({ setting }) => setting !== "KEYS");
  logFindings(wrong);
  const rules = readRelays(ORIGIN_RELAYS);
  const policy = wrong.length === 0 && rules.ok ? { rules: rules.value, dev: parseDev(DEV) } : undefined;
  last = { key, policy };
  return policy;
}
