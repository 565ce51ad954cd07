/**
 * The options of `grooveway edge`, read and checked. What the command line says wins over the environment, and that over
 * the file of --config.
 *
 * @module
 */
import { readAcknowledgeTime } from "../../edge/policy/acknowledge-time.ts";
import { readKeepTime } from "../../edge/policy/keep-time.ts";
import { readQuota } from "../../edge/policy/quota-setting.ts";
import { readRate } from "../../edge/policy/rate-setting.ts";
import { readStreamOrigins, readStreamResume } from "../../edge/policy/stream-origins.ts";
import type { Setting } from "../../lib/setting.ts";
import { parse, settingOption, usage } from "../parse-arguments.ts";
import { readEdgeFile } from "./edge-file.ts";
import { EDGE_OPTIONS, type EdgeOption, type EdgeValues } from "./edge-options.ts";

/** What the command is to do. */
export interface EdgeArguments {
  readonly values: EdgeValues;
  readonly positionals: readonly string[];
  /** The option as the operator has given it, for messages. */
  readonly said: (option: EdgeOption) => string;
}

/** Options of which one is enough, and more are a contradiction. */
const EXCLUSIVE: readonly (readonly [EdgeOption, EdgeOption])[] = [
  ["keys", "jwks-url"],
  ["revoked", "revoked-url"],
  ["dev", "dev-private"],
  ["log-level", "verbose"],
];

/** Options that are written like settings, and checked like them. */
const CHECKS: Readonly<Partial<Record<EdgeOption, (text: string) => Setting<unknown>>>> = {
  "acknowledge-time": readAcknowledgeTime,
  "keep-time": readKeepTime,
  rate: readRate,
  quota: readQuota,
  "stream-allow": readStreamOrigins,
  "stream-resume": readStreamResume,
};

/**
 * Reads the command line, and the file that it names.
 *
 * @throws CommandError Usage, CannotRead, ConfigUnusable
 */
export function edgeArguments(
  args: readonly string[],
  env: Readonly<Record<string, string | undefined>> = process.env,
): EdgeArguments {
  const { values, positionals } = parse("edge", args, { ...EDGE_OPTIONS, config: { type: "string" } });
  const { config, ...given } = values;
  if (config === "") throw usage("edge", "--config is empty: name a file");
  const fromFile: EdgeValues = config === undefined ? {} : readEdgeFile(config);
  const fromEnv: EdgeValues = env.GROOVEWAY_ADMIN_TOKEN ? { "admin-token": env.GROOVEWAY_ADMIN_TOKEN } : {};
  const kept = Object.fromEntries(
    Object.entries(fromFile).filter(([name]) => !EXCLUSIVE.some((pair) => isOverruled(name, pair, given))),
  );
  const merged: EdgeValues = { ...kept, ...fromEnv, ...given };
  const said = (option: EdgeOption) => (Object.hasOwn(given, option) ? `--${option}` : `${option} in ${config}`);
  check(merged, Object.keys(kept).length === 0 ? (option) => `--${option}` : said);
  return { values: merged, positionals, said };
}

/** Whether the command line has the other option of a pair. */
function isOverruled(name: string, pair: readonly EdgeOption[], given: object): boolean {
  return pair.some((one) => one === name) && pair.some((one) => one !== name && Object.hasOwn(given, one));
}

/** @throws CommandError Usage for what contradicts itself, or is not understood */
function check(values: EdgeValues, said: (option: EdgeOption) => string): void {
  const has = (option: EdgeOption) => values[option] !== undefined && values[option] !== false;
  for (const [one, other] of EXCLUSIVE) {
    if (has(one) && has(other)) throw usage("edge", `${said(one)} and ${said(other)} exclude each other: give one`);
  }
  for (const [one, other] of [
    ["tls-key", "tls-cert"],
    ["tls-cert", "tls-key"],
  ] as const) {
    if (has(one) && !has(other))
      throw usage("edge", `${said(one)} is alone: --tls-key and --tls-cert must be given together`);
  }
  for (const option of ["revoked", "revoked-url"] as const) {
    if (has(option) && !has("keys") && !has("jwks-url")) {
      throw usage("edge", `${said(option)} needs --keys or --jwks-url: without keys there are no tokens`);
    }
  }
  if (values.state === "") throw usage("edge", `${said("state")} is empty: name a folder`);
  for (const [name, read] of Object.entries(CHECKS)) {
    const option = name as keyof typeof CHECKS;
    const value = values[option];
    if (value === undefined) continue;
    settingOption("edge", said(option), read([value].flat().join(" ")));
  }
}
