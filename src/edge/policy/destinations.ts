/**
 * TCP destinations that a list allows, and no others: those of `expose --socks`, and those of the edge's STREAM_ORIGINS.
 * Pure.
 *
 *   db.example.com:5432         a host, or an address: [2001:db8::7]:443
 *   *.example.com:80,443        the names under a domain of at least two labels, but not the domain itself
 *   10.1.0.0/16:8000-8099       a range of addresses of at most /16; of IPv6 at most /48: [2001:db8::]/48:443
 *
 * A name is looked up only if it is listed, and then only the addresses that were judged here may be dialed. Addresses of
 * this machine, of its link, and of the metadata services of clouds must be listed themselves, in whatever spelling they
 * are asked for, and also where a listed name leads to them.
 *
 * @module
 */

import {
  bracketed,
  formatHostPort,
  isHostName,
  parsePort,
  splitHostPort,
  unbracketed,
  withoutFinalDot,
} from "../../lib/host-port.ts";
import { printable } from "../../lib/printable.ts";
import type { Result } from "../../lib/result.ts";
import {
  type Address,
  type AddressKind,
  classify,
  embedded,
  firstOf,
  formatAddress,
  isWithin,
  type Network,
  readAddress,
  readStrictAddress,
} from "./ip-address.ts";

/** One entry of the list. */
export interface Destination {
  /** The entry as written. */
  readonly text: string;
  readonly hosts: Hosts;
  /** Ranges of ports, with both ends. */
  readonly ports: readonly (readonly [first: number, last: number])[];
}

type Hosts =
  | { readonly type: "name"; readonly name: string }
  /** The end of each name, with its first dot. */
  | { readonly type: "under"; readonly end: string }
  | { readonly type: "network"; readonly network: Network };

/** What a program asks for: a host in any spelling, as it came. */
export interface Target {
  readonly host: string;
  readonly port: number;
}

/** What to do for a program. */
export type Judgement =
  | { readonly type: "dial"; readonly addresses: readonly string[] }
  /** Look the name up, and have its addresses judged. */
  | { readonly type: "look-up"; readonly name: string }
  /** `why` is for who has made the list. */
  | { readonly type: "refused"; readonly why: string };

/** The widest ranges, in bits: the 65,536 addresses or subnets that one site has. Wider ones are other people's. */
const WIDEST = { 4: 16, 6: 48 } as const;

/** Addresses that only this machine or link means, or that give out the credentials of this machine. */
const OWN: readonly AddressKind[] = [
  "loopback",
  "link-local",
  "metadata",
  // Systems connect 0.0.0.0 and :: to this machine.
  "unspecified",
  "multicast",
  "broadcast",
  // A translator's own prefix may lead to any of these.
  "translation",
];

/** Characters beyond visible ASCII: lower-casing makes ASCII letters of some, and IDNA digits of others. */
const NOT_ASCII = /[^!-~]/;

/** The name of the machine itself [RFC 6761 6.3]: who lists it means loopback addresses. */
const LOCALHOST = "localhost";

const FORMS = "write HOST:PORT, *.DOMAIN:PORT or ADDRESS/BITS:PORT, with several ports as 80,443 or 8000-8099";

/**
 * Parses an entry of the list.
 *
 * @example
 * parseDestination("*.example.com:443"); // { ok: true, value: ... }
 * parseDestination("0.0.0.0/1:443"); // its problem: it is wider than /16
 */
export function parseDestination(text: string): Result<Destination, string> {
  const written = text.toLowerCase();
  if (NOT_ASCII.test(text)) return wrong(text, "has characters beyond ASCII: write the name as DNS has it, with xn--");
  const { host, ports: list } = split(written);
  const hosts = host.includes("/") ? rangeIn(host) : hostsIn(host);
  if (typeof hosts === "string") return wrong(text, hosts);
  if (list === undefined) return wrong(text, `has no port: ${FORMS}`);
  const ports = list.split(",").map(portsIn);
  if (!ports.every((range) => range !== undefined)) {
    return wrong(text, "has a port that is not from 1 to 65535: write ports as 443, 80,443 or 8000-8099");
  }
  return { ok: true, value: { text, hosts, ports } };
}

/** Splits an entry at the colon before its ports, which in a range follow the bits. */
function split(text: string): { readonly host: string; readonly ports: string | undefined } {
  const slash = text.indexOf("/");
  const { host, digits } = splitHostPort(text.slice(slash + 1));
  return slash < 0 ? { host, ports: digits } : { host: text.slice(0, slash + 1) + host, ports: digits };
}

function hostsIn(host: string): Hosts | string {
  if (/^\*+$/.test(host)) return "covers every host: list hosts, or names under a domain such as *.example.com";
  if (host.startsWith("*.")) {
    const domain = host.slice(2);
    if (!isHostName(domain) || readAddress(domain).type !== "name") return `is no domain: ${FORMS}`;
    if (!domain.includes(".")) {
      return `covers all names under ${domain}: a star needs at least two labels after it, as in *.example.${domain}`;
    }
    return { type: "under", end: `.${domain}` };
  }
  if (host.includes("*")) return "has a star that is not the first label: write it as in *.example.com";
  const reading = readAddress(host);
  if (reading.type === "malformed") return `is no destination: ${reading.detail}`;
  if (reading.type === "address") {
    const { address } = reading;
    if (readStrictAddress(unbracketed(host)) === undefined) {
      return `spells an address in an unusual way: write ${bracketed(formatAddress(address))}`;
    }
    return { type: "network", network: { base: address, bits: address.family === 4 ? 32 : 128 } };
  }
  return isHostName(host) ? { type: "name", name: host } : `is no destination: ${FORMS}`;
}

function rangeIn(text: string): Hosts | string {
  const [host = "", digits = ""] = text.split("/");
  const address = readStrictAddress(unbracketed(host));
  const bits = Number(digits);
  if (address === undefined || !/^(?:0|[1-9][0-9]{0,2})$/.test(digits) || bits > (host.includes(":") ? 128 : 32)) {
    return `is no range of addresses: ${FORMS}`;
  }
  const listThese = "is a range of IPv4 addresses within IPv6: list these as IPv4";
  if (host.includes(":") && address.family === 4) return listThese;
  const base = firstOf(address, bits);
  // Behind a narrow range of IPv6 may be all of IPv4.
  if (embedded(base).length > 0 || classify(base) === "translation") return listThese;
  const widest = WIDEST[address.family];
  if (bits < widest) return `is wider than /${widest}: list narrower ranges, or hosts`;
  if (base.value !== address.value) {
    return `begins within its range: write ${bracketed(formatAddress(base))}/${bits}`;
  }
  return { type: "network", network: { base, bits } };
}

function portsIn(text: string): readonly [number, number] | undefined {
  const [first = "", last = first, more] = text.split("-");
  const [from, to] = [parsePort(first), parsePort(last)];
  return from === undefined || to === undefined || to < from || more !== undefined ? undefined : [from, to];
}

/**
 * Judges what a program asks for.
 *
 * @example
 * judgeTarget(list, { host: "0x7f.1", port: 80 }); // { type: "refused", ... }
 */
export function judgeTarget(list: readonly Destination[], { host, port }: Target): Judgement {
  const shown = `${printable(host)} port ${port}`;
  if (NOT_ASCII.test(host)) return refused(`${shown} is no host name`);
  const reading = readAddress(host);
  if (reading.type === "malformed") return refused(`${shown} is no host: ${reading.detail}`);
  if (reading.type === "address") {
    const { address } = reading;
    const dialed = formatAddress(address);
    if (isListed(list, address, port)) return { type: "dial", addresses: [dialed] };
    return refused(notListed(dialed, port));
  }
  const name = withoutFinalDot(host.toLowerCase());
  if (!isHostName(name)) return refused(`${shown} is no host name`);
  const isNamed = list.some(({ hosts, ports }) => covers(ports, port) && hasName(hosts, name));
  return isNamed ? { type: "look-up", name } : refused(notListed(name, port));
}

/**
 * Judges the addresses of a name that `judgeTarget` has let pass. If one may not be dialed, none may: the name is not
 * what its lister believed it to be.
 *
 * @param addresses as the system's resolver gives them
 */
export function judgeAddresses(
  list: readonly Destination[],
  { name, port }: { readonly name: string; readonly port: number },
  addresses: readonly string[],
): Exclude<Judgement, { type: "look-up" }> {
  const dialed: string[] = [];
  for (const text of addresses) {
    const address = readStrictAddress(text);
    if (address === undefined) return refused(`${name} has the address ${printable(text)}, which cannot be judged`);
    const kind = classify(address);
    const isMeant = !OWN.includes(kind) || (name === LOCALHOST && kind === "loopback");
    const shown = formatAddress(address);
    if (!isMeant && !isListed(list, address, port)) return refused(`${name} has the address ${notListed(shown, port)}`);
    dialed.push(shown);
  }
  return { type: "dial", addresses: dialed };
}

/** Whether a connection that was made before may go on: to what was asked for, at the address that was dialed. */
export function mayGoOn(list: readonly Destination[], target: Target, address: string): boolean {
  const judged = judgeTarget(list, target);
  if (judged.type !== "look-up") return judged.type === "dial";
  return judgeAddresses(list, { name: judged.name, port: target.port }, [address]).type === "dial";
}

/** Whether an address is listed by itself or in a range. A range has no addresses of {@link OWN} unless it begins so. */
function isListed(list: readonly Destination[], address: Address, port: number): boolean {
  const kind = classify(address);
  return list.some(({ hosts, ports }) => {
    if (hosts.type !== "network" || !covers(ports, port) || !isWithin(address, hosts.network)) return false;
    return !OWN.includes(kind) || classify(hosts.network.base) === kind;
  });
}

function hasName(hosts: Hosts, name: string): boolean {
  if (hosts.type === "under") return name.endsWith(hosts.end) && name.length > hosts.end.length;
  return hosts.type === "name" && hosts.name === name;
}

function covers(ports: Destination["ports"], port: number): boolean {
  return ports.some(([first, last]) => first <= port && port <= last);
}

function notListed(host: string, port: number): string {
  return `${formatHostPort({ host, port })}, which is not listed`;
}

function refused(why: string): { readonly type: "refused"; readonly why: string } {
  return { type: "refused", why };
}

function wrong(text: string, problem: string): Result<never, string> {
  return { ok: false, problems: `${printable(text)} ${problem}` };
}
