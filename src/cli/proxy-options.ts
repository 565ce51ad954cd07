/**
 * Command-line options about proxies, shared by the commands that connect to an edge or relay.
 *
 * @module
 */
import { statSync } from "node:fs";
import { DeviceError, Proxies, type ProxyAccount } from "../device/index.ts";
import { accountFor, type ParsedProxies, parseAccounts, parseProxies } from "../device/transports/proxy/proxy-url.ts";
import type { ProxyChain } from "../device/transports/transport.ts";
import { readText, unreadable, usage } from "./parse-arguments.ts";
import { refusedPasswordsIn } from "./refused-passwords.ts";
import { likelyStateFolder } from "./state-folder.ts";

export const PROXY_OPTIONS = {
  proxy: { type: "string" },
  "proxy-credentials": { type: "string" },
} as const;

export interface ProxyValues {
  readonly proxy?: string | undefined;
  readonly "proxy-credentials"?: string | undefined;
  /** The value of --state, where the command has that option. */
  readonly state?: string | undefined;
}

/** What the command line and the environment give. */
export interface ProxySources {
  /** Default: `process.env`. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Prints a line for the user. Default: to standard error. */
  readonly tell?: (line: string) => void;
  /** Told the proxies for a destination, and where they were found. Default: prints them with `tell`. */
  readonly onChoice?: (text: string) => void;
}

/**
 * Converts command-line values to where proxies come from.
 *
 * @throws CommandError Usage, CannotRead
 */
export function proxiesOf(command: string, values: ProxyValues, sources: ProxySources = {}): Proxies {
  const { env = process.env, tell = (line) => console.error(`grooveway: ${line}`) } = sources;
  try {
    const proxy = optionOf(command, values.proxy, tell);
    if (env.GROOVEWAY_PROXY_USER && !env.GROOVEWAY_PROXY_FOR && (proxy === undefined || !isChain(proxy))) {
      tell("GROOVEWAY_PROXY_USER is not used: name the proxy that it is for with GROOVEWAY_PROXY_FOR or --proxy");
    }
    return new Proxies({
      env,
      proxy,
      optionName: "--proxy",
      accounts: [...fromFile(command, values["proxy-credentials"]), ...fromEnvironment(proxy, env)],
      refused: refusedPasswordsIn(likelyStateFolder({ state: values.state, env })),
      onChoice: sources.onChoice ?? ((text) => tell(`connecting to ${text}`)),
    });
  } catch (error) {
    if (error instanceof DeviceError) throw usage(command, error.message);
    throw error;
  }
}

/** The value of --proxy, or of the file that it names. */
function optionOf(command: string, text: string | undefined, tell: (line: string) => void): string | undefined {
  if (text?.startsWith("@")) return secretText(command, "--proxy", text.slice(1)).trim();
  if (text !== undefined && hasPassword(text)) {
    tell("other users of this machine can see the password on the command line: write --proxy @FILE instead");
  }
  return text;
}

function hasPassword(text: string): boolean {
  if (isChain(text)) return parseProxies(text, "--proxy").accounts.length > 0;
  const url = URL.parse(text.replace(/^pac\+/i, ""));
  return url !== null && `${url.username}${url.password}` !== "";
}

/** Whether --proxy names proxies, not a PAC file or none. */
function isChain(proxy: string): boolean {
  return proxy !== "direct" && !/^pac\+/i.test(proxy);
}

function fromFile(command: string, path: string | undefined): ProxyAccount[] {
  if (path === undefined) return [];
  return parseAccounts(secretText(command, "--proxy-credentials", path), path);
}

/** Reads a file with passwords, which only its owner may be able to read. */
function secretText(command: string, option: string, path: string): string {
  const text = readText(path);
  if (process.platform !== "win32" && (modeOf(path) & 0o077) !== 0) {
    throw usage(command, `${option} ${path} has passwords and can be read by others: chmod 600 ${path}`);
  }
  return text;
}

function modeOf(path: string): number {
  try {
    return statSync(path).mode;
  } catch (error) {
    throw unreadable(path, error);
  }
}

/**
 * GROOVEWAY_PROXY_USER and _PASSWORD, for the proxies that --proxy or GROOVEWAY_PROXY_FOR name. Whatever else names a
 * proxy does not get them.
 */
function fromEnvironment(proxy: string | undefined, env: Readonly<Record<string, string | undefined>>): ProxyAccount[] {
  const user = env.GROOVEWAY_PROXY_USER ?? "";
  if (user === "") return [];
  const credentials = { user, password: env.GROOVEWAY_PROXY_PASSWORD ?? "" };
  const named = [
    ...(proxy !== undefined && isChain(proxy) ? withoutCredentials(parseProxies(proxy, "--proxy")) : []),
    ...(env.GROOVEWAY_PROXY_FOR ? parseProxies(env.GROOVEWAY_PROXY_FOR, "GROOVEWAY_PROXY_FOR").chain : []),
  ];
  return named.map((server) => accountFor(server, credentials));
}

function withoutCredentials({ chain, accounts }: ParsedProxies): ProxyChain {
  return chain.filter(({ host, port }) => !accounts.some((account) => account.host === host && account.port === port));
}
