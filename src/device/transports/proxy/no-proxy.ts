/**
 * Matches destinations against lists of exceptions: `NO_PROXY` and the bypass lists of operating systems.
 *
 * Entries are separated by commas, semicolons or blanks:
 *
 *   *                           everything
 *   example.com                 that host and all below it
 *   .example.com, *.example.com the same
 *   192.0.2.1, 2001:db8::1      that address, also as [2001:db8::1], in any spelling of it
 *   192.0.2.0/24, 2001:db8::/32 the addresses of a network, also as macOS shortens it (169.254/16)
 *   192.168.*                   hosts that fit the pattern
 *   example.com:8443, [::1]:80  the same, with that port only
 *   <local>                     names without a dot
 *
 * @module
 */

import { matchesGlob, parseGlob } from "../../../lib/glob.ts";
import { parsePort, splitHostPort, unbracketed, withoutFinalDot } from "../../../lib/host-port.ts";
import { parseIPv4, parseIPv6 } from "../../../lib/ip-literal.ts";
import type { Endpoint } from "../endpoint.ts";

/** The longest list that is read, in characters. */
const LONGEST_LIST = 64 * 1024;

/** Whether a list of exceptions names the destination. Entries that cannot be read match nothing. */
export function matchesNoProxy(list: string, to: Endpoint): boolean {
  const host = withoutFinalDot(to.host.toLowerCase());
  return list
    .slice(0, LONGEST_LIST)
    .toLowerCase()
    .split(/[\s,;]+/)
    .some((entry) => entry !== "" && matchesEntry(entry, { host, port: to.port }));
}

function matchesEntry(entry: string, to: Endpoint): boolean {
  if (entry === "*") return true;
  if (entry === "<local>") return !to.host.includes(".") && !to.host.includes(":");
  const network = /^(.*)\/(\d{1,3})$/.exec(entry);
  if (network !== null) return isWithin(to.host, unbracketed(network[1] ?? ""), Number(network[2]));
  const { host: text, digits } = splitHostPort(entry);
  if (digits !== undefined && parsePort(digits) !== to.port) return false;
  const host = withoutFinalDot(unbracketed(text));
  const address = addressOf(host);
  if (address !== undefined) return sameAddress(address, addressOf(to.host));
  const domain = host.replace(/^\*?\./, "");
  if (domain.includes("*")) return matchesGlob(parseGlob(domain), to.host);
  return to.host === domain || (addressOf(to.host) === undefined && to.host.endsWith(`.${domain}`));
}

interface Address {
  readonly value: bigint;
  readonly bits: 32 | 128;
}

/** An address; IPv4 in IPv6 (::ffff:192.0.2.1) as IPv4. */
function addressOf(text: string): Address | undefined {
  const four = parseIPv4(text);
  if (four !== undefined) return { value: four, bits: 32 };
  const six = parseIPv6(text);
  if (six === undefined) return undefined;
  return six >> 32n === 0xffffn ? { value: six & 0xffffffffn, bits: 32 } : { value: six, bits: 128 };
}

function sameAddress(one: Address, other: Address | undefined): boolean {
  return other !== undefined && one.bits === other.bits && one.value === other.value;
}

/** Adds the zeros that were left out: 169.254 is 169.254.0.0. */
function completed(network: string): string {
  if (!/^\d+(?:\.\d+){0,2}$/.test(network)) return network;
  return [...network.split("."), "0", "0", "0"].slice(0, 4).join(".");
}

function isWithin(host: string, network: string, length: number): boolean {
  const [address, base] = [addressOf(host), addressOf(completed(network))];
  if (address === undefined || base === undefined || address.bits !== base.bits || length > base.bits) return false;
  const shift = BigInt(base.bits - length);
  return address.value >> shift === base.value >> shift;
}
