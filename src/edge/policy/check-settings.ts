/**
 * Finds what is insecure or malformed in an edge's settings. Pure: by its findings the command refuses to start, the
 * edge refuses to dial, and the log warns. What each finding prevents is in ../reasons.ts.
 *
 * @module
 */

import { readOwnNames } from "../../auth/own-names.ts";
import { readLinkSecrets } from "../../auth/relay-proof.ts";
import { malformed, type Setting, type SettingProblem } from "../../lib/setting.ts";
import { relayURL } from "../../sstp/index.ts";
import { FINDINGS, type FindingCode } from "../reasons.ts";
import { readAcknowledgeTime } from "./acknowledge-time.ts";
import { type Dev, parseDev, readDev } from "./dev-setting.ts";
import { classify, readAddress } from "./ip-address.ts";
import { readKeepTime } from "./keep-time.ts";
import { judgeLink, linkTerms, parseLinks, readLinks } from "./link-settings.ts";
import { readWays } from "./link-ways.ts";
import { readPrefix } from "./prefix-setting.ts";
import { readQuota } from "./quota-setting.ts";
import { readRate } from "./rate-setting.ts";
import { readRelays } from "./relay-allow-list.ts";
import type { GivenSettings } from "./settings.ts";
import { readStreamOrigins, readStreamResume } from "./stream-origins.ts";
import { readProxies } from "./trusted-proxies.ts";

/** One problem of the settings. */
export interface Finding extends SettingProblem {
  readonly code: FindingCode;
  /** Whether DEV permits it; then it is only reported. */
  readonly permitted: boolean;
}

/**
 * Finds everything insecure or malformed in the settings.
 *
 * @example
 * insecurities({ ORIGIN_RELAYS: "*" }).map(({ code }) => code); // ["NoKeys", "WildcardRelays"]
 */
export function insecurities(settings: GivenSettings): Finding[] {
  const dev = parseDev(settings.DEV);
  return [
    ...keys(settings, dev),
    ...(["JWKS_URL", "REVOKED_URL"] as const).flatMap((name) =>
      found("InsecureKeys", readKeysURL(name, settings[name])),
    ),
    ...relays(settings, dev),
    ...found("InsecureResolver", readResolver(settings.RESOLVER)),
    ...development(settings, dev),
    ...found("MalformedRate", readRate(settings.RATE ?? "")),
    ...found("MalformedQuota", readQuota(settings.QUOTA ?? "")),
    ...links(settings, dev),
    ...found("MalformedWays", readWays(settings.LINK_WAYS ?? "")),
    ...trust(settings, dev),
    ...found("MalformedName", readOwnNames(settings.RELAY_NAME ?? "")),
    ...found("MalformedProxies", readProxies(settings.TRUSTED_PROXIES ?? "")),
    ...found("MalformedPrefix", readPrefix(settings.PREFIX ?? "")),
    ...found("MalformedAcknowledgeTime", readAcknowledgeTime(settings.ACKNOWLEDGE_TIME ?? "")),
    ...found("MalformedKeepTime", readKeepTime(settings.KEEP_TIME ?? "")),
    ...found("MalformedAuthOrigin", readAuthOrigin(settings.AUTH_ORIGIN)),
    ...found("MalformedStreamOrigins", readStreamOrigins(settings.STREAM_ORIGINS ?? "")),
    ...found("MalformedStreamResume", readStreamResume(settings.STREAM_RESUME ?? "")),
    ...found("MalformedRevoked", readRevoked(settings.REVOKED)),
  ];
}

/** The findings for which the command does not start an edge. */
export function forbidden(settings: GivenSettings): Finding[] {
  return insecurities(settings).filter(({ code, permitted }) => !permitted && FINDINGS[code].prevents !== "nothing");
}

/** Whether an edge with this finding serves no request. */
export function preventsService({ code, permitted }: Finding): boolean {
  return !permitted && FINDINGS[code].prevents === "service";
}

/** The problems of one setting, as findings that nothing permits. */
function found(code: FindingCode, setting: Setting<unknown>): Finding[] {
  return setting.ok ? [] : setting.problems.map((problem) => ({ code, ...problem, permitted: false }));
}

function keys({ KEYS, JWKS_URL }: GivenSettings, dev: Dev): Finding[] {
  if (KEYS || JWKS_URL) return [];
  return [
    {
      code: "NoKeys",
      setting: "KEYS",
      problem: "is empty, and so is JWKS_URL, so the edge could not authenticate devices",
      cure: "set one of them (--keys FILE), or DEV=open (--dev) for development",
      permitted: dev.open,
    },
  ];
}

function readKeysURL(name: "JWKS_URL" | "REVOKED_URL", text = ""): Setting<string> {
  if (text === "" || isTrustworthy(text)) return { ok: true, value: text };
  const problem = "is not an https URL, so anyone on the network path could admit themselves";
  return malformed(name, problem, "write https://HOST/PATH; http is only for a server on this machine");
}

function relays({ ORIGIN_RELAYS = "" }: GivenSettings, dev: Dev): Finding[] {
  const read = readRelays(ORIGIN_RELAYS);
  if (!read.ok) return found("MalformedRelays", read);
  const { wildcards } = read.value;
  if (wildcards.length === 0) return [];
  return [
    {
      code: "WildcardRelays",
      setting: "ORIGIN_RELAYS",
      problem: `allows strangers' relays with ${wildcards.map(({ text }) => text).join(", ")}`,
      cure: "name your relays (--relay-allow), or set DEV=wildcard (--dev) for development",
      permitted: dev.wildcard,
    },
  ];
}

function readResolver(text = ""): Setting<string> {
  if (text === "" || isTrustworthy(text)) return { ok: true, value: text };
  const problem = "is not an https URL, so anyone on the network path could forge its answers";
  return malformed("RESOLVER", problem, "write https://HOST/PATH; http is only for a resolver on this machine");
}

/** Whether a URL's answers are safe from tampering on the way. */
function isTrustworthy(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, hostname } = new URL(text);
  const reading = readAddress(hostname);
  const here = reading.type === "address" && classify(reading.address) === "loopback";
  return protocol === "https:" || (protocol === "http:" && here);
}

function development({ DEV = "" }: GivenSettings, dev: Dev): Finding[] {
  const permits = [dev.private && "private relays", dev.open && "no keys", dev.wildcard && "any relay"].filter(Boolean);
  const insecure: Finding = {
    code: "DevelopmentSettings",
    setting: "DEV",
    problem: `permits what production must not: ${permits.join(", ")}`,
    cure: "leave it empty in production",
    permitted: true,
  };
  return [...(permits.length > 0 ? [insecure] : []), ...found("MalformedDev", readDev(DEV))];
}

function links({ LINKS = "", ORIGIN_RELAYS = "", LINK_WAYS = "" }: GivenSettings, dev: Dev): Finding[] {
  const rules = readRelays(ORIGIN_RELAYS);
  const ways = readWays(LINK_WAYS);
  const refused = parseLinks(LINKS).names.flatMap((name): Finding[] => {
    if (!rules.ok || !ways.ok) return [];
    const verdict = judgeLink(name, { ways: ways.value, rules: rules.value, permits: dev });
    if (verdict.type === "allowed") return [];
    const { detail, cure = "correct its name" } = verdict;
    return [
      {
        code: "ForbiddenLinks",
        setting: "LINKS",
        problem: `has ${JSON.stringify(name)}, to which this edge may not connect (${detail.replace(/\.$/, "")})`,
        cure: `${cure}; or leave it out`,
        permitted: false,
      },
    ];
  });
  return [...found("MalformedLinks", readLinks("LINKS", LINKS)), ...refused];
}

/** Checks that the operator's trust settings allow each link. */
function trust(settings: GivenSettings, dev: Dev): Finding[] {
  const { LINK_SECRETS = "", LINK_PLAIN = "" } = settings;
  const secrets = readLinkSecrets(LINK_SECRETS);
  if (!secrets.ok) return found("MalformedLinkSecrets", secrets);
  const plain = readLinks("LINK_PLAIN", LINK_PLAIN);
  if (!plain.ok) return found("MalformedLinkPlain", plain);
  // Non-public addresses are judged when they are dialled.
  return dev.private ? [] : inClear(settings, [...secrets.value.keys()]);
}

/** Finds configured links that would cross the public internet without TLS, which the edge refuses. */
function inClear(settings: GivenSettings, known: readonly string[]): Finding[] {
  const { ORIGIN_RELAYS = "", LINKS = "", LINK_WAYS = "", LINK_SECRETS = "", LINK_PLAIN = "" } = settings;
  const rules = readRelays(ORIGIN_RELAYS);
  const ways = readWays(LINK_WAYS);
  if (!rules.ok || !ways.ok || ways.value.every(({ kind }) => kind === "tls")) return [];
  const kept = parseLinks(LINKS).names.map((name) => relayURL(name));
  return [...new Set([...kept, ...known])].flatMap((url): Finding[] => {
    const name = url.slice("grooveDNS://".length);
    const terms = linkTerms(url, { LINK_SECRETS, LINK_PLAIN });
    const verdict = judgeLink(name, { ways: ways.value, rules: rules.value, permits: { private: false } });
    if (verdict.type !== "allowed" || terms?.clear !== false) return [];
    const secret = terms.secrets !== undefined;
    const otherwise = secret ? `${name} in LINK_PLAIN (--link-plain)` : `${name}=none in LINK_SECRETS (--link-secret)`;
    return [
      {
        code: "LinkInClear",
        setting: secret || !kept.includes(url) ? "LINK_SECRETS" : "LINKS",
        problem: `has ${JSON.stringify(name)}, to which LINK_WAYS connects without TLS`,
        cure: `write LINK_WAYS=tls:443 (--link-ways), or ${otherwise} to send messages unencrypted over the internet`,
        permitted: false,
      },
    ];
  });
}

function readAuthOrigin(text = ""): Setting<string> {
  if (text === "" || text === "origin") return { ok: true, value: text };
  const problem = `is ${JSON.stringify(text)}, which is unknown`;
  return malformed("AUTH_ORIGIN", problem, "write origin (--auth-origin), or leave it empty");
}

/**
 * Reads the revocation list. In another format it would be read as ids that no token has, and would revoke nothing.
 */
function readRevoked(text = ""): Setting<readonly string[]> {
  const ids = text.split(",").map((entry) => entry.trim());
  const wrong = ids.find((id) => /[\s"'[\]]/.test(id));
  if (wrong === undefined) return { ok: true, value: ids };
  const problem = `has ${JSON.stringify(wrong)}, which is not the id of a token`;
  const cure =
    "write the ids (jti) separated by commas, without quotes; a JSON array belongs at REVOKED_URL (--revoked FILE)";
  return malformed("REVOKED", problem, cure);
}
