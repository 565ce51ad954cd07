/**
 * `host`, `host:port`, `[IPv6]` and `[IPv6]:port`: one grammar for names of relays, targets of requests, allow lists
 * and options. What one place takes for a host, another must not take for something else.
 *
 * @module
 */
import { parseIPv6 } from "./ip-literal.ts";

/** A host, and a port if one is given. IPv6 addresses are in brackets. */
export interface HostPort {
  readonly host: string;
  readonly port?: number;
}

/** The same before the port is checked: the text behind the colon, perhaps empty. */
export interface SplitHostPort {
  readonly host: string;
  readonly digits?: string;
}

/** What is wrong: neither host name nor IPv4 address, brackets without an IPv6 address, or not a port. */
export type HostPortProblem = "host" | "address" | "port";

/** Where grammars differ on purpose. */
export interface HostPortGrammar {
  /**
   * Whether a name may end with a dot, as DNS writes a full name. Allowed where another machine's text is only passed
   * on or judged; not in names that are compared, where the same host would have two. Default false.
   */
  readonly finalDot?: boolean;
}

/** The longest host name in DNS, in characters, without a final dot [RFC 1035 2.3.4: 255 octets on the wire]. */
export const LONGEST_HOST = 253;

const LARGEST_PORT = 65535;

/** A host, a final dot, a colon and five digits. Longer texts are not parsed. */
const LONGEST_TEXT = LONGEST_HOST + 7;

/** Characters beyond printable ASCII are refused first: lower-casing turns some of them into ASCII letters. */
const NOT_ASCII = /[^!-~]/;

const LABEL = /^(?!-)[a-z0-9_-]{1,63}(?<!-)$/;

/**
 * Parses a host and its port. The host is returned in lower case, with brackets, and with its final dot.
 *
 * @example
 * parseHostPort("Relay.example.com:443"); // { host: "relay.example.com", port: 443 }
 * parseHostPort("2001:db8::7"); // "host": IPv6 needs brackets
 */
export function parseHostPort(text: string, { finalDot = false }: HostPortGrammar = {}): HostPort | HostPortProblem {
  if (text.length > LONGEST_TEXT || NOT_ASCII.test(text)) return "host";
  const { host, digits } = splitHostPort(text.toLowerCase());
  if (host.startsWith("[")) {
    if (!host.endsWith("]") || parseIPv6(host.slice(1, -1)) === undefined) return "address";
  } else if (!isHostName(finalDot ? withoutFinalDot(host) : host)) return "host";
  if (digits === undefined) return { host };
  const port = parsePort(digits);
  return port === undefined ? "port" : { host, port };
}

/** Splits at the colon before the port. Two colons outside brackets are an IPv6 address without a port. */
export function splitHostPort(text: string): SplitHostPort {
  const bracket = text.startsWith("[") ? text.lastIndexOf("]") : -1;
  const colon = text.indexOf(":", bracket + 1);
  if (colon < 0 || (bracket < 0 && text.includes(":", colon + 1))) return { host: text };
  return { host: text.slice(0, colon), digits: text.slice(colon + 1) };
}

/**
 * Parses a port: decimal, without leading zeros.
 *
 * @param least 0 where that stands for any free port to listen on
 */
export function parsePort(digits: string, least: 0 | 1 = 1): number | undefined {
  const port = Number(digits);
  return /^(?:0|[1-9]\d{0,4})$/.test(digits) && port >= least && port <= LARGEST_PORT ? port : undefined;
}

/** Whether a text in lower case is a host name, or an IPv4 address: labels of letters, digits, - and _. */
export function isHostName(text: string): boolean {
  return text.length <= LONGEST_HOST && text.split(".").every((label) => LABEL.test(label));
}

export function withoutFinalDot(host: string): string {
  return host.endsWith(".") ? host.slice(0, -1) : host;
}

/** Removes the brackets around a host. */
export function unbracketed(host: string): string {
  return host.startsWith("[") && host.endsWith("]") ? host.slice(1, -1) : host;
}

/** Puts an IPv6 address in brackets. Other hosts are returned unchanged. */
export function bracketed(host: string): string {
  return host.includes(":") && !host.startsWith("[") ? `[${host}]` : host;
}

/** `192.0.2.1:443`, `[2001:db8::1]:443`; the host may be in brackets or not. */
export function formatHostPort({ host, port }: { readonly host: string; readonly port: number }): string {
  return `${bracketed(host)}:${port}`;
}
