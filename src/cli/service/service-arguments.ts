/**
 * The command line of a service: that of `expose` or `connect`, checked, with absolute paths, and without secrets.
 *
 * @module
 */
import { statSync } from "node:fs";
import { dirname, isAbsolute, join, resolve } from "node:path";
import { printable, visible } from "../../lib/printable.ts";
import { CONNECTION_OPTIONS } from "../device-options.ts";
import { HTTP_OPTIONS, httpServicesIn } from "../http/http-services.ts";
import { parse, unexpected, usage } from "../parse-arguments.ts";
import { neededConfigPath } from "../profiles/config-file.ts";
import { readConnections } from "../streams/connect-file.ts";
import { EXPOSE_OPTIONS, exposedIn, exposingOptions } from "../streams/exposing-options.ts";
import { LOG_OPTIONS, StreamLog } from "../streams/stream-log.ts";
import type { Credential } from "./service-files.ts";

export const SERVED = ["expose", "connect", "edge"] as const;

export type Served = (typeof SERVED)[number];

/** Options that name a file. */
const FILES: readonly string[] = ["ca", "proxy-credentials"];

/** Options that take a text, which may be a secret, or `@` and a file. */
const TEXTS_OR_FILES: readonly string[] = ["token", "proxy"];

/**
 * Returns the arguments for the service.
 *
 * @param isSystem whether a user of its own runs it
 * @throws CommandError Usage, CannotRead, ConfigUnusable
 */
export function serviceArguments(
  command: Exclude<Served, "edge">,
  args: readonly string[],
  isSystem: boolean,
  env: Readonly<Record<string, string | undefined>> = process.env,
): readonly (string | Credential)[] {
  const { values, positionals } = parse(command, args, {
    ...CONNECTION_OPTIONS,
    ...EXPOSE_OPTIONS,
    ...HTTP_OPTIONS,
    ...LOG_OPTIONS,
  });
  if (values["accept-new"]) {
    throw usage("service", "--accept-new is not for a service, which would accept strangers for ever: give --trust");
  }
  exposingOptions(command, values, new StreamLog());
  if (isSystem) {
    if (values.profile !== undefined) throw usage("service", "--system has no profiles: give --edge, --as and --token");
    if (values.as === undefined)
      throw usage("service", "--system has no address of its own: give --as IDENTITY/DEVICE");
    if (values.edge === undefined && values.relay === undefined)
      throw usage("service", "--system needs --edge or --relay");
  }
  if (env.GROOVEWAY_TOKEN && values.token === undefined) {
    const cure = isSystem ? "give --token @FILE" : "give --token @FILE, or use a profile of grooveway login";
    throw usage("service", `a service does not get GROOVEWAY_TOKEN: ${cure}`);
  }
  for (const url of values.edge ?? []) withoutPassword("edge", url);
  const profile = values.profile ?? (isSystem ? undefined : env.GROOVEWAY_PROFILE || undefined);
  const given = Object.entries({ ...values, ...(profile !== undefined && { profile }) });
  const parts = given.flatMap(([name, value]) => optionParts(name, value, isSystem));
  if (command === "expose") {
    const isEnough = httpServicesIn(values).servers.size > 0;
    for (const to of exposedIn(positionals, values.socks, isEnough).services.values()) {
      if ("path" in to && !isAbsolute(to.path)) throw usage("service", `unix:${to.path}: write the whole path`);
    }
    return [...parts, "--", ...positionals];
  }
  if (values.socks) throw usage("connect", "--socks is an option of expose: leave it out");
  if (values.http !== undefined || values.allow !== undefined) {
    throw usage("connect", "--http and --allow are options of expose: leave them out");
  }
  const [file = isSystem ? undefined : join(dirname(neededConfigPath()), "connect.toml"), ...more] = positionals;
  if (file === undefined) throw usage("service", "name the file of grooveway connect");
  if (more.length > 0) throw unexpected("connect", more[0]);
  readConnections(file);
  if (isSystem && (statSync(file).mode & 0o004) === 0) {
    throw usage("service", `${visible(file)} cannot be read by the user of the service: run chmod o+r on it`);
  }
  return [...parts, "--", resolve(file)];
}

function optionParts(name: string, value: unknown, isSystem: boolean): readonly (string | Credential)[] {
  const option = `--${name}`;
  if (typeof value === "boolean") return value ? [option] : [];
  const texts = Array.isArray(value) ? value.map(String) : [String(value)];
  return texts.flatMap((text) => {
    const isFile = FILES.includes(name);
    const isText = TEXTS_OR_FILES.includes(name);
    if (isFile || (isText && text.startsWith("@"))) {
      const prefix = isFile ? "" : "@";
      const path = resolve(text.slice(prefix.length));
      return [option, isSystem ? { credential: name, path, prefix } : prefix + path];
    }
    if (name === "token")
      throw usage("service", "others can read a service's command line: put the token in a file, --token @FILE");
    if (name === "proxy") withoutPassword("proxy", text);
    return [`${option}=${text}`];
  });
}

function withoutPassword(name: string, text: string): void {
  if (!text.includes("@")) return;
  const cure = name === "proxy" ? "put it in a file, --proxy @FILE" : "leave it out";
  throw usage(
    "service",
    `--${name} has a user name or a password, and others can read a service's command line: ${cure}`,
  );
}

/** Checks a text that becomes a line of a file. @throws CommandError Usage */
export function oneLine(text: string): string {
  if (/[\p{Cc}]/u.test(text)) throw usage("service", `${printable(text)} has control characters`);
  return text;
}
