/**
 * The allow list ORIGIN_RELAYS: which origin relays may be dialled. Default deny. Pure.
 *
 * An entry is a host name (`relay.example.com`), a glob (`*.relays.example.com`, `relay?.example.com`: `*` is any text,
 * dots included, `?` one character of a label), an address (`63.209.254.7`, `2001:db8::7`), or a range of them
 * (`63.209.254.0/24`, `63.209.254.*`, `2001:db8::/32`), each with an optional port (`:8443`; `[2001:db8::7]:8443`). An
 * entry without a port stands for 2492, 443 and 80. `!entry` denies, on all ports if it names none, and wins.
 *
 * @module
 */
import { HTTP_PORT, SECURE_TUNNEL_PORT, SSTP_PORT } from "../../encapsulation/registry.ts";
import { type Glob, matchesGlob, parseGlob } from "../../lib/glob.ts";
import {
  bracketed,
  formatHostPort,
  type HostPort,
  isHostName,
  LONGEST_HOST,
  parsePort,
  splitHostPort,
  unbracketed,
  withoutFinalDot,
} from "../../lib/host-port.ts";
import { entriesOf, malformed, type Setting } from "../../lib/setting.ts";
import {
  type Address,
  classify,
  embedded,
  firstOf,
  formatAddress,
  isWithin,
  type Network,
  readAddress,
  readStrictAddress,
} from "./ip-address.ts";

/** Where one origin relay listens. */
export interface RelayEndpoint {
  /** Host name in lower case, IPv4 address, or IPv6 address in brackets. */
  readonly hostname: string;
  readonly port: number;
}

/** One entry of the list. */
export interface Rule {
  /** The entry as written. */
  readonly text: string;
  readonly hosts: Hosts;
  /** Undefined: the usual ports of an allowed relay, all ports of a denied one. */
  readonly port: number | undefined;
}

type Hosts =
  | { readonly type: "everything" }
  | { readonly type: "name"; readonly name: string }
  | { readonly type: "glob"; readonly pattern: string; readonly glob: Glob }
  | { readonly type: "network"; readonly network: Network };

/** The list. */
export interface Rules {
  readonly allow: readonly Rule[];
  readonly deny: readonly Rule[];
  /** Allowing entries that also cover strangers' relays: `*`, `*.com`, `0.0.0.0/0`. */
  readonly wildcards: readonly Rule[];
}

/** Why a relay is not dialled. */
export interface Refusal {
  readonly type: "refused";
  readonly reason: "MalformedRelay" | "RelayNotAllowed" | "RelayPrivate" | "DNSLookupFailed";
  /** For the device; reveals nothing about the list. */
  readonly detail: string;
  /**
   * What the operator must change to allow it, as the end of a sentence. It quotes the list, so devices do not see it.
   */
  readonly cure?: string;
}

/** What is permitted beyond the list. */
export interface Permits {
  /** Non-public addresses, and names that are valid in one network only. */
  readonly private: boolean;
}

/** Ports of an entry that names none [MS-GRVHENC 1.9]. */
const RELAY_PORTS: readonly number[] = [SSTP_PORT, SECURE_TUNNEL_PORT, HTTP_PORT];

/** The largest blocks ever assigned to one holder. A wider range also covers strangers' relays. */
const WIDEST = { 4: 8, 6: 16 } as const;

/** Refuses even characters that IDNA maps to ASCII: full-width digits can spell an address. */
const NOT_ASCII = /[^!-~]/;
const NOT_ASCII_CURE = "it has characters beyond printable ASCII: write the name as DNS has it, with xn--";

/** Names that public DNS does not resolve, or that mean a different machine in each network. */
const PRIVATE_ZONES = ["localhost", "localdomain", "local", "internal", "home.arpa"];

/**
 * Reads the list. Entries are separated by commas or spaces; an empty list allows nothing.
 *
 * @example
 * readRelays("*.relays.example.com, 63.209.254.*, !63.209.254.9"); // { ok: true, value: ... }
 * readRelays("10.0.0.1/8"); // its problem is: has the entry "10.0.0.1/8": ... write 10.0.0.0/8
 */
export function readRelays(text: string): Setting<Rules> {
  const rules = { allow: [] as Rule[], deny: [] as Rule[], wildcards: [] as Rule[] };
  for (const entry of entriesOf(text)) {
    const denies = entry.startsWith("!");
    const rule = parseEntry(entry, denies ? entry.slice(1) : entry);
    if (typeof rule === "string") {
      return malformed(
        "ORIGIN_RELAYS",
        `has the entry ${JSON.stringify(entry)}: ${rule}`,
        "correct the entry (--relay-allow)",
      );
    }
    rules[denies ? "deny" : "allow"].push(rule);
    if (!denies && isWildcard(rule)) rules.wildcards.push(rule);
  }
  return { ok: true, value: rules };
}

/**
 * Judges a relay by its name alone. An allowed name must still be resolved, and its addresses judged by
 * {@link judgeAddresses}. Only those addresses may be dialled.
 *
 * @param name Relay-Server-Name of the request [MS-GRVHENC 2.2.1.1.2]; without a port it means 2492
 *
 * @example
 * judgeRelay("relay.example.com", rules, { private: false });
 * // { type: "allowed", endpoint: { hostname: "relay.example.com", port: 2492 }, resolve: true }
 */
export function judgeRelay(
  name: string,
  rules: Rules,
  permits: Permits,
): { readonly type: "allowed"; readonly endpoint: RelayEndpoint; readonly resolve: boolean } | Refusal {
  // Check before lower-casing, which turns a Kelvin sign into an ASCII k.
  if (NOT_ASCII.test(name)) return refused("MalformedRelay", `The host cannot be used: ${NOT_ASCII_CURE}.`);
  const parts = splitPort(name.toLowerCase());
  if (parts === undefined) return refused("MalformedRelay", "The relay's port is not a number from 1 to 65535.");
  const { host, port = SSTP_PORT } = parts;
  if (host.includes(":") && !host.startsWith("["))
    return refused("MalformedRelay", "An IPv6 address needs brackets: [2001:db8::7].");
  const reading = readAddress(host);
  if (reading.type === "malformed") return refused("MalformedRelay", `The host cannot be used: ${reading.detail}.`);
  if (reading.type === "address") {
    const { address } = reading;
    const refusal = !permits.private && classify(address) !== "public" ? isPrivate(address) : undefined;
    const wrong = listRefusal(rules, address, { port, also: refusal }) ?? refusal;
    return wrong ?? { type: "allowed", endpoint: { hostname: dialled(address), port }, resolve: false };
  }
  const hostname = withoutFinalDot(host);
  const wrong = nameError(hostname);
  if (wrong !== undefined) return refused("MalformedRelay", `The host cannot be used: ${wrong}.`);
  const refusal = !permits.private && isPrivateName(hostname) ? isPrivate(hostname) : undefined;
  return (
    listRefusal(rules, hostname, { port, also: refusal }) ??
    refusal ?? { type: "allowed", endpoint: { hostname, port }, resolve: true }
  );
}

/**
 * Judges the addresses that an allowed name resolved to. If one of them may not be dialled, none may: the name is not
 * what the operator believed it to be.
 *
 * @returns hosts to dial, in the same order, IPv6 in brackets
 */
export function judgeAddresses(
  addresses: readonly string[],
  rules: Rules,
  permits: Permits & { readonly port: number },
): { readonly type: "allowed"; readonly hosts: readonly string[] } | Refusal {
  if (addresses.length === 0) return refused("DNSLookupFailed", "The relay's name has no address.");
  const hosts: string[] = [];
  for (const text of addresses) {
    const address = readStrictAddress(text);
    if (address === undefined)
      return refused("DNSLookupFailed", "DNS has something for the relay's name that is not an address.");
    const denied = denialOf(rules, address, permits.port);
    if (denied !== undefined) {
      const detail = "The relay's name has an address that this edge's allow list does not allow.";
      return refused("RelayNotAllowed", detail, removalOf(denied));
    }
    if (!permits.private && classify(address) !== "public") return isPrivate(address);
    hosts.push(dialled(address));
  }
  return { type: "allowed", hosts };
}

/** Parses an entry. Returns a rule, or what is wrong and how to write it. */
function parseEntry(text: string, written: string): Rule | string {
  if (NOT_ASCII.test(written)) return NOT_ASCII_CURE;
  const entry = written.toLowerCase();
  const slash = entry.indexOf("/");
  // In a range, the port follows the number of bits.
  const parts = slash < 0 || entry.startsWith("[") ? splitPort(entry) : splitRange(entry, slash);
  if (parts === undefined)
    return "its port is not a number from 1 to 65535: write HOST:PORT, and [ADDRESS]:PORT for IPv6";
  const { host, port } = parts;
  const hosts = parseHosts(unbracketed(host), host.startsWith("["));
  return typeof hosts === "string" ? hosts : { text, hosts, port };
}

function parseHosts(host: string, hadBrackets: boolean): Hosts | string {
  if (host === "")
    return "it has no host: write a name, an address or a range before the port, and nothing but ! before that";
  if (host === "*") return { type: "everything" };
  const [first = "", bits, more] = host.split("/");
  if (more !== undefined) return "it has two slashes: write ADDRESS/BITS";
  if (bits !== undefined) return parseRange(first, bits);
  if (/^[0-9.*?]+$/.test(host) && /[*?]/.test(host)) return parseStars(host);
  const reading = readAddress(host);
  if (reading.type === "malformed") return `${reading.detail}; write 63.209.254.7 or [2001:db8::7]:443`;
  if (reading.type === "address") {
    const { address } = reading;
    if (readStrictAddress(host) === undefined)
      return `it can be read in more than one way: write ${formatAddress(address)}`;
    return { type: "network", network: { base: address, bits: address.family === 4 ? 32 : 128 } };
  }
  if (hadBrackets) return "only IPv6 addresses have brackets: write the name without them";
  const name = withoutFinalDot(host);
  if (!/[*?]/.test(name)) return nameError(name) ?? { type: "name", name };
  const wrong = nameError(name.replace(/[*?]/g, "x"));
  if (wrong !== undefined) return wrong;
  if (/[*?]/.test(name.slice(name.lastIndexOf(".") + 1))) {
    return "its last label has a wildcard, so strangers' names would match: write the end out, as in *.example.com";
  }
  return { type: "glob", pattern: name, glob: parseGlob(name) };
}

function parseRange(first: string, digits: string): Hosts | string {
  const address = readStrictAddress(first);
  if (address === undefined)
    return "the part before the slash is not an address: write 63.209.254.0/24 or 2001:db8::/32";
  // An IPv4-mapped range is an IPv4 range.
  const mapped = address.family === 4 && first.includes(":");
  const most = address.family === 4 && !mapped ? 32 : 128;
  const written = Number(digits);
  if (!/^(?:0|[1-9][0-9]{0,2})$/.test(digits) || written > most) return `its bits are not a number from 0 to ${most}`;
  if (mapped && written < 96) return "it is wider than all of IPv4: write 0.0.0.0/0 for that";
  const bits = mapped ? written - 96 : written;
  const base = firstOf(address, bits);
  if (base.value !== address.value) {
    return `it is not the first address of its range: write ${formatAddress(base)}/${bits}, or leave /${digits} out`;
  }
  return { type: "network", network: { base, bits } };
}

/** Parses `63.209.254.*`. */
function parseStars(host: string): Hosts | string {
  const fixed = /^((?:[0-9]+\.)*)\*(?:\.\*)*$/.exec(host)?.[1];
  const base =
    fixed === undefined || host.split(".").length !== 4 ? undefined : readStrictAddress(host.replaceAll("*", "0"));
  if (fixed === undefined || base === undefined) return "write a range of addresses as 63.209.254.* or 63.209.254.0/24";
  return { type: "network", network: { base, bits: 8 * (fixed.split(".").length - 1) } };
}

/** Splits a host from its port. The host is judged later: here it may be a glob, a range or any spelling of an address. */
function splitPort(text: string): HostPort | undefined {
  const { host, digits } = splitHostPort(text);
  return digits === undefined ? { host } : withPort(host, digits);
}

/** Splits `range/bits`, `range/bits:port`. */
function splitRange(text: string, slash: number): HostPort | undefined {
  const colon = text.indexOf(":", slash);
  return colon < 0 ? { host: text } : withPort(text.slice(0, colon), text.slice(colon + 1));
}

function withPort(host: string, digits: string): HostPort | undefined {
  const port = parsePort(digits);
  return port === undefined ? undefined : { host, port };
}

/** What is wrong with a host name; undefined if nothing is. */
function nameError(name: string): string | undefined {
  if (name.length > LONGEST_HOST) return `it is longer than ${LONGEST_HOST} characters`;
  if (isHostName(name)) return undefined;
  return "it is not a host name: labels of up to 63 letters, digits, - and _, separated by single dots";
}

function isPrivateName(name: string): boolean {
  return !name.includes(".") || PRIVATE_ZONES.some((zone) => name === zone || name.endsWith(`.${zone}`));
}

function isWildcard({ hosts }: Rule): boolean {
  switch (hosts.type) {
    case "everything":
      return true;
    case "glob":
      // Anyone can register a name that ends like this.
      return !/\.[^*?.]+\.[^*?.]+$/.test(`.${hosts.pattern}`);
    case "network":
      return hosts.network.bits < WIDEST[hosts.network.base.family];
    case "name":
      return false;
  }
}

function allows(rules: Rules, host: string | Address, port: number): boolean {
  return rules.allow.some(
    (rule) => (rule.port === undefined ? RELAY_PORTS.includes(port) : rule.port === port) && covers(rule.hosts, host),
  );
}

/** The entry that denies a host. An address is denied if an IPv4 address embedded in it is. */
function denialOf(rules: Rules, host: string | Address, port: number): Rule | undefined {
  const all = typeof host === "string" ? [host] : [host, ...embedded(host)];
  return rules.deny.find(
    (rule) => (rule.port === undefined || rule.port === port) && all.some((one) => covers(rule.hosts, one)),
  );
}

/**
 * Why the list refuses a host; undefined if it allows it.
 *
 * @param also why the host would be refused even if the list allowed it
 */
function listRefusal(
  rules: Rules,
  host: string | Address,
  { port, also }: { readonly port: number; readonly also: Refusal | undefined },
): Refusal | undefined {
  const denied = denialOf(rules, host, port);
  if (denied === undefined && allows(rules, host, port)) return undefined;
  const cure = denied === undefined ? `add ${entryFor(host, port)} to ${LIST}` : removalOf(denied);
  const hostname = typeof host === "string" ? host : formatAddress(host);
  const detail = `This edge's allow list does not allow ${hostname} on port ${port}.`;
  if (also === undefined) return refused("RelayNotAllowed", detail, cure);
  return refused("RelayNotAllowed", `${detail} ${also.detail}`, `${cure}, and ${also.cure}`);
}

function covers(hosts: Hosts, host: string | Address): boolean {
  switch (hosts.type) {
    case "everything":
      return true;
    case "name":
      return host === hosts.name;
    case "glob":
      return typeof host === "string" && matchesGlob(hosts.glob, host, { questionMarks: true });
    case "network":
      return typeof host !== "string" && isWithin(host, hosts.network);
  }
}

function dialled(address: Address): string {
  return bracketed(formatAddress(address));
}

/** The setting, and the command's option that sets it. */
const LIST = "ORIGIN_RELAYS (--relay-allow)";
const PRIVATE_CURE = "give the relay a public address, or set DEV=private (--dev-private) for development";

/** The entry that would allow one host on one port. */
function entryFor(host: string | Address, port: number): string {
  const hostname = typeof host === "string" ? host : dialled(host);
  return RELAY_PORTS.includes(port) ? unbracketed(hostname) : formatHostPort({ host: hostname, port });
}

function removalOf(denied: Rule): string {
  return `remove ${denied.text} from ${LIST}`;
}

function refused(reason: Refusal["reason"], detail: string, cure?: string): Refusal {
  return { type: "refused", reason, detail, ...(cure !== undefined && { cure }) };
}

function isPrivate(host: string | Address): Refusal {
  const detail =
    typeof host === "string"
      ? "The relay's name is valid on one network only."
      : `The relay's address is not public (${classify(host)}).`;
  return refused("RelayPrivate", detail, PRIVATE_CURE);
}
