/**
 * Finds what is insecure or contradictory in the configuration of an edge that is to be deployed to Cloudflare, before
 * anything is uploaded. Pure.
 *
 * The values of secrets are not known here. What depends on one is judged only if the names of the secrets are known.
 *
 * @module
 */
import { type Finding, forbidden } from "../../edge/policy/check-settings.ts";
import { type GivenSettings, SETTINGS } from "../../edge/policy/settings.ts";
import { problemText } from "../../lib/setting.ts";
import { nearest } from "../../lib/spelling.ts";
import type { WranglerConfig } from "../local-edge/wrangler-config.ts";

/** What can be wrong with a deployment beyond its settings. Names are stable, and listed in the README. */
export const DEPLOYMENT_FINDINGS = [
  "SecretInVars",
  "UnknownSetting",
  "SettingNotText",
  "NoName",
  "NameOfThisMachine",
  "DevelopmentInProduction",
  "ProxiesOnCloudflare",
  "ObjectMissing",
  "ObjectNotSqlite",
  "DateTooOld",
  "FlagMissing",
  "SubrequestsTooFew",
] as const;

type FindingCode = Finding["code"];

export type DeploymentCode = (typeof DEPLOYMENT_FINDINGS)[number] | FindingCode;

export interface DeploymentFinding {
  readonly code: DeploymentCode;
  /** A sentence: what is wrong and what to do. */
  readonly text: string;
}

export interface Deployment {
  /** The parsed wrangler.toml. */
  readonly config: unknown;
  /** Which [env.NAME] is deployed; undefined for the top level. */
  readonly environment?: string | undefined;
  /** Names of the secrets that the Worker has; undefined if they are not known. */
  readonly secrets?: readonly string[] | undefined;
  /** The configuration that this release was published with. */
  readonly own: WranglerConfig;
}

/** From this date on the runtime does by itself what the flag asks for. */
const FLAG = "enable_request_signal";
const FLAG_DATE = "2026-11-17";

/** Calls that one request may make; wrangler.toml says why. */
const SUBREQUESTS = 10_000_000;

/** Findings that depend on the value of a secret. */
const NEEDS: Readonly<Partial<Record<FindingCode, keyof typeof SETTINGS>>> = {
  NoKeys: "KEYS",
  LinkInClear: "LINK_SECRETS",
  MalformedLinkPlain: "LINK_SECRETS",
};

/** Returns everything for which the edge should not be deployed. */
export function checkDeployment({ config, environment, secrets, own }: Deployment): DeploymentFinding[] {
  const top = tableOf(config);
  const env = environment === undefined ? undefined : tableOf(tableOf(top.env)[environment]);
  // Variables, bindings and limits of an environment replace those of the top level; its dates are inherited.
  const part = env ?? top;
  const vars = tableOf(part.vars);
  return [
    ...variables(vars),
    ...settings(vars, secrets),
    ...objects(part, tableOf(part.exports ?? top.exports), own),
    ...runtime({ ...top, ...env }, own),
  ];
}

function variables(vars: Table): DeploymentFinding[] {
  return Object.entries(vars).flatMap(([name, value]): DeploymentFinding[] => {
    const rule = Object.hasOwn(SETTINGS, name) ? SETTINGS[name as keyof typeof SETTINGS] : undefined;
    if (rule === undefined) {
      const meant = nearest(name, Object.keys(SETTINGS));
      const cure = meant === undefined ? "remove it" : `did you mean ${meant}?`;
      return [{ code: "UnknownSetting", text: `[vars] has ${name}, which is no setting of an edge: ${cure}` }];
    }
    if (typeof value !== "string") {
      return [{ code: "SettingNotText", text: `${name} is not a text: write it in quotation marks` }];
    }
    if (!("secret" in rule) || value === "") return [];
    const cure = `remove it there, and run npx wrangler secret put ${name}`;
    return [
      { code: "SecretInVars", text: `${name} is a secret, and [vars] shows it to all who see the file: ${cure}` },
    ];
  });
}

function settings(vars: Table, secrets: readonly string[] | undefined): DeploymentFinding[] {
  const texts = Object.entries(vars).filter(
    ([name, value]) => typeof value === "string" && Object.hasOwn(SETTINGS, name),
  );
  const given = Object.fromEntries(texts) as GivenSettings;
  const found = forbidden(given)
    .filter(({ code }) => isDecided(code, secrets))
    .map((finding): DeploymentFinding => ({ code: finding.code, text: problemText(finding) }));
  return [...found, ...onCloudflare(given)];
}

/** Whether a finding stands, whatever the values of secrets are. */
function isDecided(code: FindingCode, secrets: readonly string[] | undefined): boolean {
  const secret = NEEDS[code];
  return secret === undefined || (secrets !== undefined && !secrets.includes(secret));
}

/** What is right on another machine, and wrong on Cloudflare. */
function onCloudflare({ RELAY_NAME = "", DEV = "", TRUSTED_PROXIES = "" }: GivenSettings): DeploymentFinding[] {
  const found: DeploymentFinding[] = [];
  const names = RELAY_NAME.split(/[\s,]+/).filter((name) => name !== "");
  if (names.length === 0) {
    found.push({
      code: "NoName",
      text: "RELAY_NAME is empty, so no device can have its mailbox here: write the host name by which devices reach the edge",
    });
  }
  for (const name of names.filter((name) => LOCAL.test(name))) {
    found.push({
      code: "NameOfThisMachine",
      text: `RELAY_NAME has ${JSON.stringify(name)}, which is another machine for each device: write a public name`,
    });
  }
  if (DEV.trim() !== "") {
    found.push({
      code: "DevelopmentInProduction",
      text: `DEV is ${JSON.stringify(DEV)}: leave it empty in production`,
    });
  }
  if (TRUSTED_PROXIES !== "" && TRUSTED_PROXIES.trim() !== "none") {
    const text = "TRUSTED_PROXIES is set, but Cloudflare itself says where requests come from: leave it empty";
    found.push({ code: "ProxiesOnCloudflare", text });
  }
  return found;
}

/** Names that mean a different machine for each that uses them. */
const LOCAL = /^(?:localhost|127(?:\.\d+){3}|\[?::1\]?|0\.0\.0\.0)$/i;

function objects(part: Table, exported: Table, own: WranglerConfig): DeploymentFinding[] {
  const bindings = listOf(tableOf(part.durable_objects).bindings).map(tableOf);
  return Object.entries(own.objects).flatMap(([name, className]): DeploymentFinding[] => {
    const binding = bindings.find((one) => one.name === name);
    if (binding?.class_name !== className) {
      const text = `the Durable Object ${name} (${className}) is not bound: copy it from the wrangler.toml of this release`;
      return [{ code: "ObjectMissing", text }];
    }
    const made = tableOf(exported[className]);
    if (made.type === "durable-object" && made.storage === "sqlite") return [];
    const text = `[exports.${className}] is not a durable-object with storage = "sqlite": copy it from this release`;
    return [{ code: "ObjectNotSqlite", text }];
  });
}

function runtime(config: Table, own: WranglerConfig): DeploymentFinding[] {
  const found: DeploymentFinding[] = [];
  const { compatibility_date: date, compatibility_flags: flags, limits } = config;
  const written = date instanceof Date ? date.toISOString().slice(0, 10) : String(date ?? "");
  if (written < own.compatibilityDate) {
    const text = `compatibility_date is ${written || "missing"}: write ${own.compatibilityDate} or later`;
    found.push({ code: "DateTooOld", text });
  }
  if (written < FLAG_DATE && !listOf(flags).includes(FLAG)) {
    const text = `compatibility_flags lacks ${FLAG}, without which a device that is gone is noticed late: add it`;
    found.push({ code: "FlagMissing", text });
  }
  const { subrequests } = tableOf(limits);
  if (typeof subrequests !== "number" || subrequests < SUBREQUESTS) {
    const text = `[limits] subrequests is ${subrequests ?? "missing"}: write ${SUBREQUESTS}, or LongLived connections break off`;
    found.push({ code: "SubrequestsTooFew", text });
  }
  return found;
}

type Table = Readonly<Record<string, unknown>>;

function tableOf(value: unknown): Table {
  const isTable = typeof value === "object" && value !== null && !Array.isArray(value);
  return isTable ? (value as Table) : {};
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}
