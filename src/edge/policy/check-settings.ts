/**
 * Finds what is insecure or malformed in an edge's settings. Pure: by its findings the command refuses to start, the
 * edge refuses to dial, and the log warns.
 *
 * @module
 */

import { parseOwnNames } from "../../auth/own-names.ts";
import { parseLinkSecrets } from "../../auth/relay-proof.ts";
import { relayURL } from "../../sstp/index.ts";
import { LEAST_SECONDS, MOST_SECONDS, parseAcknowledgeTime } from "./acknowledge-time.ts";
import { type Dev, parseDev } from "./dev-setting.ts";
import { classify, readAddress } from "./ip-address.ts";
import { judgeLink, linkTerms, parseLinks } from "./link-settings.ts";
import { parseWays } from "./link-ways.ts";
import { parsePrefix } from "./prefix-setting.ts";
import { parseQuota, QuotaError } from "./quota-setting.ts";
import { parseRate, RateError } from "./rate-setting.ts";
import { parseRelays } from "./relay-allow-list.ts";
import { parseProxies } from "./trusted-proxies.ts";

/** The settings to check: variables and secrets of the edge, undefined or empty if unset. */
export interface Settings {
  readonly ORIGIN_RELAYS?: string | undefined;
  readonly RESOLVER?: string | undefined;
  readonly KEYS?: string | undefined;
  readonly JWKS_URL?: string | undefined;
  readonly REVOKED?: string | undefined;
  readonly REVOKED_URL?: string | undefined;
  readonly DEV?: string | undefined;
  readonly RATE?: string | undefined;
  readonly QUOTA?: string | undefined;
  readonly LINKS?: string | undefined;
  readonly LINK_WAYS?: string | undefined;
  readonly LINK_SECRETS?: string | undefined;
  readonly LINK_PLAIN?: string | undefined;
  readonly RELAY_NAME?: string | undefined;
  readonly TRUSTED_PROXIES?: string | undefined;
  readonly PREFIX?: string | undefined;
  readonly ACKNOWLEDGE_TIME?: string | undefined;
  readonly AUTH_ORIGIN?: string | undefined;
}

/** Codes of the findings. */
export type FindingCode =
  | "NoKeys"
  | "InsecureKeys"
  | "WildcardRelays"
  | "MalformedRelays"
  | "InsecureResolver"
  | "DevelopmentSettings"
  | "MalformedDev"
  | "MalformedRate"
  | "MalformedQuota"
  | "MalformedLinks"
  | "ForbiddenLinks"
  | "MalformedWays"
  | "MalformedLinkSecrets"
  | "MalformedLinkPlain"
  | "LinkInClear"
  | "MalformedName"
  | "MalformedProxies"
  | "MalformedPrefix"
  | "MalformedAcknowledgeTime"
  | "MalformedAuthOrigin"
  | "MalformedRevoked";

/** One problem. */
export interface Finding {
  readonly code: FindingCode;
  readonly setting: keyof Settings;
  /** What is wrong, as the end of a sentence that begins with the setting. */
  readonly problem: string;
  /** What to do. */
  readonly cure: string;
  /** Whether DEV permits it; then it is only reported. */
  readonly permitted: boolean;
}

/**
 * The findings for which the command does not start an edge, unless DEV permits them. To enforce a code, add it here:
 * this is the only list.
 */
export const ENFORCED: readonly FindingCode[] = [
  "NoKeys",
  "InsecureKeys",
  "WildcardRelays",
  "MalformedRelays",
  "InsecureResolver",
  "MalformedDev",
  "MalformedRate",
  "MalformedQuota",
  "MalformedLinks",
  "ForbiddenLinks",
  "MalformedWays",
  "MalformedLinkSecrets",
  "MalformedLinkPlain",
  "LinkInClear",
  "MalformedName",
  "MalformedProxies",
  "MalformedPrefix",
  "MalformedAcknowledgeTime",
  "MalformedAuthOrigin",
  "MalformedRevoked",
];

/**
 * Those of them for which a deployed edge, which has started anyway, serves no request: it cannot guess the setting.
 */
export const UNSERVED: readonly FindingCode[] = [
  "MalformedRate",
  "MalformedQuota",
  "MalformedAcknowledgeTime",
  "MalformedRevoked",
];

/**
 * Finds everything insecure or malformed in the settings.
 *
 * @example
 * insecurities({ ORIGIN_RELAYS: "*" }).map(({ code }) => code); // ["NoKeys", "WildcardRelays"]
 */
export function insecurities(settings: Settings): Finding[] {
  const dev = parseDev(settings.DEV);
  return [
    ...keys(settings, dev),
    ...fetched(settings),
    ...relays(settings, dev),
    ...resolver(settings),
    ...development(settings, dev),
    ...rate(settings),
    ...quota(settings),
    ...links(settings, dev),
    ...ways(settings),
    ...trust(settings, dev),
    ...names(settings),
    ...proxies(settings),
    ...prefix(settings),
    ...acknowledgeTime(settings),
    ...authOrigin(settings),
    ...revoked(settings),
  ];
}

/** The findings for which an edge does not start. */
export function forbidden(settings: Settings): Finding[] {
  return insecurities(settings).filter(({ code, permitted }) => !permitted && ENFORCED.includes(code));
}

function keys({ KEYS, JWKS_URL }: Settings, dev: Dev): Finding[] {
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

function fetched(settings: Settings): Finding[] {
  return (["JWKS_URL", "REVOKED_URL"] as const)
    .filter((setting) => settings[setting] && !isTrustworthy(settings[setting]))
    .map((setting) => ({
      code: "InsecureKeys",
      setting,
      problem: "is not an https URL, so anyone on the network path could admit themselves",
      cure: "write https://HOST/PATH; http is only for a server on this machine",
      permitted: false,
    }));
}

function relays({ ORIGIN_RELAYS = "" }: Settings, dev: Dev): Finding[] {
  const parsed = parseRelays(ORIGIN_RELAYS);
  const setting = "ORIGIN_RELAYS";
  if (parsed.type === "malformed") {
    const problem = `has the entry ${JSON.stringify(parsed.entry)}: ${parsed.detail}`;
    return [{ code: "MalformedRelays", setting, problem, cure: "correct the entry (--relay-allow)", permitted: false }];
  }
  const { wildcards } = parsed.rules;
  if (wildcards.length === 0) return [];
  return [
    {
      code: "WildcardRelays",
      setting,
      problem: `allows strangers' relays with ${wildcards.map(({ text }) => text).join(", ")}`,
      cure: "name your relays (--relay-allow), or set DEV=wildcard (--dev) for development",
      permitted: dev.wildcard,
    },
  ];
}

function resolver({ RESOLVER = "" }: Settings): Finding[] {
  if (RESOLVER === "" || isTrustworthy(RESOLVER)) return [];
  return [
    {
      code: "InsecureResolver",
      setting: "RESOLVER",
      problem: "is not an https URL, so anyone on the network path could forge its answers",
      cure: "write https://HOST/PATH; http is only for a resolver on this machine",
      permitted: false,
    },
  ];
}

/** Whether a URL's answers are safe from tampering on the way. */
function isTrustworthy(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, hostname } = new URL(text);
  const reading = readAddress(hostname);
  const here = reading.type === "address" && classify(reading.address) === "loopback";
  return protocol === "https:" || (protocol === "http:" && here);
}

function development({ DEV = "" }: Settings, dev: Dev): Finding[] {
  if (DEV.trim() === "") return [];
  const permits = [dev.private && "private relays", dev.open && "no keys", dev.wildcard && "any relay"].filter(Boolean);
  const found: Finding[] = [];
  if (permits.length > 0) {
    found.push({
      code: "DevelopmentSettings",
      setting: "DEV",
      problem: `permits what production must not: ${permits.join(", ")}`,
      cure: "leave it empty in production",
      permitted: true,
    });
  }
  if (dev.unknown.length > 0) {
    found.push({
      code: "MalformedDev",
      setting: "DEV",
      problem: `has ${dev.unknown.map((word) => JSON.stringify(word)).join(", ")}, which is unknown`,
      cure: "write 1 (--dev), or some of private, open and wildcard",
      permitted: false,
    });
  }
  return found;
}

function rate({ RATE = "" }: Settings): Finding[] {
  try {
    parseRate(RATE);
    return [];
  } catch (error) {
    if (!(error instanceof RateError)) throw error;
    const { problem, cure } = error;
    return [{ code: "MalformedRate", setting: "RATE", problem, cure, permitted: false }];
  }
}

function quota({ QUOTA = "" }: Settings): Finding[] {
  try {
    parseQuota(QUOTA);
    return [];
  } catch (error) {
    if (!(error instanceof QuotaError)) throw error;
    const { problem, cure } = error;
    return [{ code: "MalformedQuota", setting: "QUOTA", problem, cure, permitted: false }];
  }
}

function links({ LINKS = "", ORIGIN_RELAYS = "", LINK_WAYS = "" }: Settings, dev: Dev): Finding[] {
  const { names, malformed } = parseLinks(LINKS);
  const wrong = (code: "MalformedLinks" | "ForbiddenLinks", problem: string, cure: string): Finding => ({
    code,
    setting: "LINKS",
    problem,
    cure,
    permitted: false,
  });
  const parsed = parseRelays(ORIGIN_RELAYS);
  const ways = parseWays(LINK_WAYS);
  const refused = names.flatMap((name) => {
    if (parsed.type !== "rules" || "problem" in ways) return [];
    const verdict = judgeLink(name, { ways, rules: parsed.rules, permits: dev });
    return verdict.type === "refused" ? [{ name, ...verdict }] : [];
  });
  return [
    ...malformed.map((entry) =>
      wrong(
        "MalformedLinks",
        `has ${JSON.stringify(entry)}, which is not the name of a relay`,
        "write HOST or HOST:PORT, separated by commas (--link)",
      ),
    ),
    ...refused.map(({ name, detail, cure = "correct its name" }) =>
      wrong(
        "ForbiddenLinks",
        `has ${JSON.stringify(name)}, to which this edge may not connect (${detail.replace(/\.$/, "")})`,
        `${cure}; or leave it out`,
      ),
    ),
  ];
}

function ways({ LINK_WAYS = "" }: Settings): Finding[] {
  const parsed = parseWays(LINK_WAYS);
  if (!("problem" in parsed)) return [];
  return [{ code: "MalformedWays", setting: "LINK_WAYS", ...parsed, permitted: false }];
}

/** Checks that the operator's trust settings allow each link. */
function trust(settings: Settings, dev: Dev): Finding[] {
  const { LINK_SECRETS = "", LINK_PLAIN = "" } = settings;
  const secrets = parseLinkSecrets(LINK_SECRETS);
  if ("problem" in secrets) {
    const entry = secrets.entry === "" ? "" : ` ${JSON.stringify(secrets.entry)}, which`;
    const problem = entry === "" ? secrets.problem : `has${entry} ${secrets.problem}`;
    const cure = "write NAME=SECRET, with a secret from grooveway token secret, or NAME=none (--link-secret)";
    return [{ code: "MalformedLinkSecrets", setting: "LINK_SECRETS", problem, cure, permitted: false }];
  }
  const [malformed] = parseLinks(LINK_PLAIN).malformed;
  if (malformed !== undefined) {
    const problem = `has ${JSON.stringify(malformed)}, which is not the name of a relay`;
    const cure = "write HOST or HOST:PORT, separated by commas (--link-plain)";
    return [{ code: "MalformedLinkPlain", setting: "LINK_PLAIN", problem, cure, permitted: false }];
  }
  // Non-public addresses are judged when they are dialled.
  return dev.private ? [] : inClear(settings, [...secrets.keys()]);
}

/** Finds configured links that would cross the public internet without TLS, which the edge refuses. */
function inClear(settings: Settings, known: readonly string[]): Finding[] {
  const { ORIGIN_RELAYS = "", LINKS = "", LINK_WAYS = "" } = settings;
  const rules = parseRelays(ORIGIN_RELAYS);
  const ways = parseWays(LINK_WAYS);
  if (rules.type !== "rules" || "problem" in ways || ways.every(({ kind }) => kind === "tls")) return [];
  const kept = parseLinks(LINKS).names.map((name) => relayURL(name));
  return [...new Set([...kept, ...known])].flatMap((url) => {
    const name = url.slice("grooveDNS://".length);
    const terms = linkTerms(url, { LINK_SECRETS: settings.LINK_SECRETS ?? "", LINK_PLAIN: settings.LINK_PLAIN ?? "" });
    const allowed = judgeLink(name, { ways, rules: rules.rules, permits: { private: false } }).type === "allowed";
    if (!allowed || terms?.clear !== false) return [];
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

function names({ RELAY_NAME = "" }: Settings): Finding[] {
  return parseOwnNames(RELAY_NAME).malformed.map((entry) => ({
    code: "MalformedName",
    setting: "RELAY_NAME",
    problem: `has ${JSON.stringify(entry)}, which is not a name that a device could use`,
    cure: "write host names (--name NAME), with a port only if devices use the port too",
    permitted: false,
  }));
}

function proxies({ TRUSTED_PROXIES = "" }: Settings): Finding[] {
  const { malformed } = parseProxies(TRUSTED_PROXIES);
  if (malformed === undefined) return [];
  return [
    {
      code: "MalformedProxies",
      setting: "TRUSTED_PROXIES",
      problem: `has ${JSON.stringify(malformed)}, which is neither an address nor the first address of a network`,
      cure: "write 10.0.0.7 or 10.0.0.0/24 (--trusted-proxy), or none",
      permitted: false,
    },
  ];
}

function prefix({ PREFIX = "" }: Settings): Finding[] {
  if (parsePrefix(PREFIX) !== undefined) return [];
  return [
    {
      code: "MalformedPrefix",
      setting: "PREFIX",
      problem: `is ${JSON.stringify(PREFIX)}, which is not a path that an edge can have`,
      cure: "write a path of letters, digits and - . _ ~, such as /groove (--prefix)",
      permitted: false,
    },
  ];
}

function acknowledgeTime({ ACKNOWLEDGE_TIME = "" }: Settings): Finding[] {
  if (parseAcknowledgeTime(ACKNOWLEDGE_TIME) !== undefined) return [];
  return [
    {
      code: "MalformedAcknowledgeTime",
      setting: "ACKNOWLEDGE_TIME",
      problem: `is ${JSON.stringify(ACKNOWLEDGE_TIME)}, which is not a number of seconds in range`,
      cure: `write a number from ${LEAST_SECONDS} to ${MOST_SECONDS} (--acknowledge-time)`,
      permitted: false,
    },
  ];
}

function authOrigin({ AUTH_ORIGIN = "" }: Settings): Finding[] {
  if (AUTH_ORIGIN === "" || AUTH_ORIGIN === "origin") return [];
  return [
    {
      code: "MalformedAuthOrigin",
      setting: "AUTH_ORIGIN",
      problem: `is ${JSON.stringify(AUTH_ORIGIN)}, which is unknown`,
      cure: "write origin (--auth-origin), or leave it empty",
      permitted: false,
    },
  ];
}

/**
 * Checks the revocation list. In another format it would be read as ids that no token has, and would revoke nothing.
 */
function revoked({ REVOKED = "" }: Settings): Finding[] {
  const malformed = REVOKED.split(",").find((entry) => /[\s"'[\]]/.test(entry.trim()));
  if (malformed === undefined) return [];
  return [
    {
      code: "MalformedRevoked",
      setting: "REVOKED",
      problem: `has ${JSON.stringify(malformed.trim())}, which is not the id of a token`,
      cure: "write the ids (jti) separated by commas, without quotes; a JSON array belongs at REVOKED_URL (--revoked FILE)",
      permitted: false,
    },
  ];
}
