/**
 * Parses proxies as people and systems write them: `http://user:password@proxy.example.com:3128`, `socks5://127.0.0.1`,
 * `proxy.example.com:8080`; several in a row for a chain.
 *
 * @module
 */
import { parseHostPort, unbracketed } from "../../../lib/host-port.ts";
import { DeviceError } from "../../device-error.ts";
import type { ProxyChain, ProxyKind, ProxyServer } from "../transport.ts";
import type { Credentials, ProxyAccount } from "./credentials.ts";

/** Schemes, and the port of each where none is written. */
const SCHEMES: Readonly<Record<string, { readonly kind: ProxyKind; readonly port: number }>> = {
  http: { kind: "http", port: 80 },
  https: { kind: "https", port: 443 },
  socks: { kind: "socks5", port: 1080 },
  socks5: { kind: "socks5", port: 1080 },
  socks5h: { kind: "socks5", port: 1080 },
  socks4: { kind: "socks4", port: 1080 },
  socks4a: { kind: "socks4", port: 1080 },
};

/** Proxies in a chain. Two are usual where a local proxy logs in to that of the company. */
const LONGEST_CHAIN = 4;

/** A chain, and the credentials that were written with it. */
export interface ParsedProxies {
  readonly chain: ProxyChain;
  readonly accounts: readonly ProxyAccount[];
}

/**
 * Parses a chain of proxies, separated by commas or blanks, the nearest first.
 *
 * @param source names the setting in errors, which contain nothing else of it: it may have a password
 * @throws DeviceError InvalidOption
 */
export function parseProxies(text: string, source: string): ParsedProxies {
  const words = text.split(/[\s,]+/).filter((word) => word !== "");
  if (words.length === 0 || words.length > LONGEST_CHAIN) throw invalid(source, `give one to ${LONGEST_CHAIN} proxies`);
  // Otherwise the first part of the password would be a port, and the second a user name.
  if (words.slice(1).some((word) => word.includes("@") && !word.includes("://"))) {
    throw invalid(source, "write a comma or blank in a password as %2C or %20, and each proxy of a chain with http://");
  }
  const parsed = words.map((word) => parseProxy(word, source));
  return {
    chain: parsed.map(({ proxy }) => proxy),
    accounts: parsed.flatMap(({ proxy, credentials }) =>
      credentials === undefined ? [] : [accountFor(proxy, credentials)],
    ),
  };
}

/** @throws DeviceError InvalidOption */
export function parseProxy(
  text: string,
  source: string,
): { readonly proxy: ProxyServer; readonly credentials: Credentials | undefined } {
  const [, scheme = "http", rest = ""] = /^(?:([a-z0-9+.-]+):\/\/)?(.*)$/is.exec(text) ?? [];
  const known = Object.hasOwn(SCHEMES, scheme.toLowerCase()) ? SCHEMES[scheme.toLowerCase()] : undefined;
  if (known === undefined) throw invalid(source, "a proxy begins with http://, https://, socks5:// or socks4://");
  const [authority = "", ...path] = rest.split(/[/?#]/);
  if (path.some((part) => part !== ""))
    throw invalid(source, "a proxy has no path; write @, /, ? and # in a password as %40, %2F, %3F, %23");
  // A password may contain an unescaped @.
  const at = authority.lastIndexOf("@");
  const hostPort = parseHostPort(authority.slice(at + 1));
  if (typeof hostPort === "string") throw invalid(source, "write it as http://host:port, an IPv6 address in brackets");
  return {
    proxy: { kind: known.kind, host: unbracketed(hostPort.host), port: hostPort.port ?? known.port },
    credentials: at < 0 ? undefined : credentialsOf(authority.slice(0, at), source),
  };
}

/**
 * Parses a file of credentials: one URL a line, with user and password, for the proxy that it names. Empty lines and
 * lines that begin with # are skipped.
 *
 * @throws DeviceError InvalidOption, which names the line
 */
export function parseAccounts(text: string, source: string): ProxyAccount[] {
  return text.split(/\r?\n/).flatMap((raw, index) => {
    const line = raw.trim();
    if (line === "" || line.startsWith("#")) return [];
    const where = `line ${index + 1} of ${source}`;
    const { proxy, credentials } = parseProxy(line, where);
    if (credentials === undefined) throw invalid(where, "write http://user:password@host:port");
    return [accountFor(proxy, credentials)];
  });
}

/** Credentials for a proxy as it is written. */
export function accountFor({ kind, host, port }: ProxyServer, credentials: Credentials): ProxyAccount {
  return { host, port, credentials, ...(kind === "https" && { secure: true }) };
}

function credentialsOf(text: string, source: string): Credentials {
  const colon = text.indexOf(":");
  const [user, password] = colon < 0 ? [text, ""] : [text.slice(0, colon), text.slice(colon + 1)];
  try {
    return { user: decodeURIComponent(user), password: decodeURIComponent(password) };
  } catch {
    throw invalid(source, "user and password are percent-encoded, so write % as %25");
  }
}

function invalid(source: string, cure: string): DeviceError {
  return new DeviceError("InvalidOption", `${source} names no proxy that can be used: ${cure}`);
}
