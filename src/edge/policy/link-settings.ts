/**
 * Links to origin relays: which ones an edge keeps open, and how it trusts the other end. The settings LINKS,
 * LINK_SECRETS and LINK_PLAIN. Pure.
 *
 * @module
 */
import { type LinkSecrets, type LinkTrust, readLinkSecrets } from "../../auth/relay-proof.ts";
import { parseRelay, SSTP_PORT } from "../../encapsulation/index.ts";
import { entriesOf, type Setting, settled } from "../../lib/setting.ts";
import { parseRelayName, relayURL } from "../../sstp/index.ts";
import { parseDev } from "./dev-setting.ts";
import { readWays, type Way, waysTo } from "./link-ways.ts";
import { judgeRelay, type Permits, type Refusal, type Rules } from "./relay-allow-list.ts";
import type { Settings } from "./settings.ts";

/** Requirements of the link to one relay. */
export interface LinkTerms {
  /** The pair's secrets, of which the relay must prove to know one; undefined if there are none. */
  readonly secrets: readonly Uint8Array[] | undefined;
  /** Whether it may cross the public internet without TLS. */
  readonly clear: boolean;
}

/**
 * Returns the requirements of the link to a relay; undefined if the settings are malformed. Only the operator can allow
 * a link across the public internet without TLS: by `NAME=none` in LINK_SECRETS, which waives the proof too, or by
 * LINK_PLAIN for a link with a proof.
 */
export function linkTerms(
  url: string,
  { LINK_SECRETS = "", LINK_PLAIN = "" }: Pick<Settings, "LINK_SECRETS" | "LINK_PLAIN">,
): LinkTerms | undefined {
  const all = linkSecrets(LINK_SECRETS);
  if (all === undefined) return undefined;
  const trust = all.get(url);
  if (trust?.type !== "secrets") return { secrets: undefined, clear: trust?.type === "none" };
  return { secrets: trust.secrets, clear: parseLinks(LINK_PLAIN).urls.includes(url) };
}

/** A way to a relay, with the name to dial. */
export interface NamedWay {
  readonly way: Way;
  readonly name: string;
}

/**
 * Returns the ways to a relay that the allow list allows. One is enough for a link, so an entry with the port of one
 * way needs no second entry for the default port.
 *
 * @param relay Relay-Server-Name
 * @param last the name that worked last, which is tried first
 * @returns if there is none, the refusal that is closest to being allowed
 */
export function judgeLink(
  relay: string,
  { ways, rules, permits }: { readonly ways: readonly Way[]; readonly rules: Rules; readonly permits: Permits },
  last?: string,
): { readonly type: "allowed"; readonly ways: readonly NamedWay[] } | Refusal {
  const allowed: NamedWay[] = [];
  const refusals: Refusal[] = [];
  for (const named of waysTo(relay, ways, last)) {
    const verdict = judgeRelay(named.name, rules, permits);
    if (verdict.type === "allowed") allowed.push(named);
    else refusals.push(verdict);
  }
  if (allowed.length > 0) return { type: "allowed", ways: allowed };
  const listed = refusals.find(({ reason }) => reason === "RelayPrivate");
  if (listed !== undefined) return listed;
  const [refusal] = refusals;
  const port = refusal?.reason === "RelayNotAllowed" ? otherPort(relay, rules, permits) : undefined;
  if (refusal !== undefined && port !== undefined) {
    const cure = `${refusal.cure}, or set LINK_WAYS (--link-ways) to sstp:${port} or tls:${port}, which the list allows`;
    return { ...refusal, cure };
  }
  return refusal ?? { type: "refused", reason: "MalformedRelay", detail: "That is not the name of a relay." };
}

/** A port on which the list allows a relay, although LINK_WAYS does not use it; undefined if there is none. */
function otherPort(relay: string, rules: Rules, permits: Permits): number | undefined {
  const { host, port: own = SSTP_PORT } = parseRelay(relay) ?? {};
  // LINK_WAYS does not apply to a name with a port of its own.
  if (host === undefined || own !== SSTP_PORT) return undefined;
  const ports = rules.allow.map(({ port }) => port).filter((port) => port !== undefined);
  return ports.find((port) => judgeRelay(`${host}:${port}`, rules, permits).type === "allowed");
}

/**
 * Whether a link to a relay is possible; if not, messages to it would wait in vain. A relay with a secret may also
 * connect to the edge, and a private network's addresses are known only when dialled.
 */
export function mayLink(
  url: string,
  settings: Pick<Settings, "LINK_SECRETS" | "LINK_PLAIN" | "LINK_WAYS" | "DEV">,
): boolean {
  const terms = linkTerms(url, settings);
  if (terms === undefined) return false;
  if (terms.clear || terms.secrets !== undefined || parseDev(settings.DEV).private) return true;
  const ways = readWays(settings.LINK_WAYS ?? "");
  return ways.ok && ways.value.every(({ kind }) => kind === "tls");
}

/** How to trust a relay that connects. If the setting is malformed, every proof is refused. */
export function trustIn(url: string, text = ""): LinkTrust | undefined {
  const secrets = linkSecrets(text);
  return secrets === undefined ? { type: "secrets", secrets: [] } : secrets.get(url);
}

/** Cached: an isolate's settings do not change. */
let last: { readonly text: string; readonly secrets: LinkSecrets | undefined } | undefined;

function linkSecrets(text: string): LinkSecrets | undefined {
  if (last?.text !== text) {
    const read = readLinkSecrets(text);
    last = { text, secrets: read.ok ? read.value : undefined };
  }
  return last.secrets;
}

export interface Links {
  /** Relay-Server-Names as written. */
  readonly names: readonly string[];
  /** The URLs of these relays, which are the names of their Links. */
  readonly urls: readonly string[];
}

/** Reads LINKS or LINK_PLAIN: entries separated by commas or spaces. */
export function readLinks(setting: "LINKS" | "LINK_PLAIN", text: string): Setting<Links> {
  const option = setting === "LINKS" ? "--link" : "--link-plain";
  const cure = `write HOST or HOST:PORT, separated by commas (${option})`;
  const wrong = entriesOf(text).filter((entry) => !parseRelayName(entry).ok);
  const problems = wrong.map((entry) => `has ${JSON.stringify(entry)}, which is not the name of a relay`);
  return settled(
    parseLinks(text),
    problems.map((problem) => ({ setting, problem, cure })),
  );
}

/** The entries that are relays' names. An edge with a malformed entry keeps its other links. */
export function parseLinks(text: string): Links {
  const names = entriesOf(text).filter((entry) => parseRelayName(entry).ok);
  return { names, urls: names.map(relayURL) };
}
