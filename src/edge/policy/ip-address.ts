/**
 * IP addresses: parses every spelling that a resolver or inet_aton might accept, and classifies the address. Pure.
 *
 * The judge of an address must accept at least the spellings that the dialler does: what is not understood here must
 * never be passed on as a name.
 *
 * @module
 */
import { parseIPv4, parseIPv6 } from "../../lib/ip-literal.ts";

/** An IPv4 or IPv6 address as a number. An IPv4-mapped one is IPv4, since it is dialled as such. */
export interface Address {
  readonly family: 4 | 6;
  readonly value: bigint;
}

/** All addresses that share the first `bits` bits with `base`. */
export interface Network {
  readonly base: Address;
  readonly bits: number;
}

/** The kind of an address. Only `public` ones are reachable over the internet, from everywhere alike. */
export type AddressKind =
  | "public"
  | "loopback"
  | "private"
  | "shared"
  | "link-local"
  | "site-local"
  | "unique-local"
  | "metadata"
  | "multicast"
  | "broadcast"
  | "unspecified"
  | "documentation"
  | "benchmarking"
  | "ietf-protocol"
  | "translation"
  | "discard"
  | "reserved";

/** An address, a text that cannot be one, or a malformed address. */
export type Reading =
  | { readonly type: "address"; readonly address: Address }
  | { readonly type: "name" }
  | { readonly type: "malformed"; readonly detail: string };

/** Longer texts are not an address in any spelling, and are not parsed. */
const LONGEST = 64;

/**
 * Parses an address in any spelling: `127.0.0.1`, `127.1`, `2130706433`, `0177.0.0.1`, `0x7f.1`, `::ffff:7f00:1`,
 * `[::1]`, each also in upper case, and the IPv4 ones with a trailing dot.
 *
 * @example
 * readAddress("0x7f.1"); // { type: "address", address: { family: 4, value: 2130706433n } }
 * readAddress("relay.example.com"); // { type: "name" }
 * readAddress("127.0.0.256"); // { type: "malformed", detail: "..." }
 */
export function readAddress(text: string): Reading {
  const bracketed = text.startsWith("[");
  if (bracketed || text.includes(":")) {
    if (bracketed && !text.endsWith("]")) return malformed("an IPv6 address lacks its closing bracket");
    const inner = bracketed ? text.slice(1, -1) : text;
    if (inner.includes("%")) return malformed("an IPv6 address has a zone, which is valid on one machine only");
    const value = inner.length > LONGEST ? undefined : parseIPv6(inner.toLowerCase());
    if (value === undefined) return malformed("it is not an IPv6 address: eight groups of up to four hex digits");
    return { type: "address", address: normalized({ family: 6, value }) };
  }
  const plain = text.endsWith(".") ? text.slice(0, -1) : text;
  const last = plain.slice(plain.lastIndexOf(".") + 1);
  // The rule of browsers: a host that ends in a number is an IPv4 address, or malformed.
  if (!/^(?:[0-9]+|0x[0-9a-f]*)$/i.test(last)) return { type: "name" };
  const value = text.length > LONGEST ? undefined : looseIPv4(plain.toLowerCase());
  if (value === undefined) return malformed("it ends in a number and is not an IPv4 address: four numbers to 255");
  return { type: "address", address: { family: 4, value } };
}

/** Parses only RFC 4291 spellings, and dotted decimals without leading zeros. */
export function readStrictAddress(text: string): Address | undefined {
  if (text.length > LONGEST) return undefined;
  const v4 = parseIPv4(text);
  if (v4 !== undefined) return { family: 4, value: v4 };
  const v6 = parseIPv6(text.toLowerCase());
  return v6 === undefined ? undefined : normalized({ family: 6, value: v6 });
}

/** Formats the spelling that is dialled: `63.209.254.7`, `2001:db8::7`. */
export function formatAddress({ family, value }: Address): string {
  if (family === 4) return [24n, 16n, 8n, 0n].map((shift) => (value >> shift) & 0xffn).join(".");
  const groups = Array.from({ length: 8 }, (_, n) => ((value >> BigInt(112 - 16 * n)) & 0xffffn).toString(16));
  // RFC 5952: the longest run of two or more zero groups, the first of equal ones.
  let [start, length] = [0, 1];
  for (let n = 0; n < 8; n += 1) {
    let run = 0;
    while (groups[n + run] === "0") run += 1;
    if (run > length) [start, length] = [n, run];
  }
  if (length < 2) return groups.join(":");
  return `${groups.slice(0, start).join(":")}::${groups.slice(start + length).join(":")}`;
}

/** Whether a network contains an address. */
export function isWithin(address: Address, { base, bits }: Network): boolean {
  if (address.family !== base.family) return false;
  const rest = BigInt((base.family === 4 ? 32 : 128) - bits);
  return address.value >> rest === base.value >> rest;
}

/** The first address of the network of an address. */
export function firstOf(address: Address, bits: number): Address {
  const rest = BigInt((address.family === 4 ? 32 : 128) - bits);
  return { family: address.family, value: (address.value >> rest) << rest };
}

/** The IPv4 addresses embedded in an IPv6 address, to which a tunnel or a translator would forward. */
export function embedded(address: Address): Address[] {
  if (address.family === 4) return [];
  const shifts = TUNNELS.filter(({ network }) => isWithin(address, network)).map(({ shift }) => shift);
  // ISATAP: any prefix, and an interface identifier that ends in the IPv4 address.
  const marker = (address.value >> 32n) & 0xfdffffffn;
  if (marker === 0x5efen) shifts.push(0n);
  return shifts.map((shift) => ({ family: 4, value: (address.value >> shift) & 0xffffffffn }));
}

/**
 * Classifies an address. A tunnelling form (NAT64, 6to4, IPv4-compatible, SIIT, ISATAP) is classified as what it
 * embeds.
 *
 * @example
 * classify({ family: 4, value: 0x7f000001n }); // "loopback"
 */
export function classify(address: Address): AddressKind {
  const known = KINDS.find(([network]) => isWithin(address, network));
  if (known !== undefined) return known[1];
  const hidden = embedded(address)
    .map(classify)
    .find((kind) => kind !== "public");
  if (hidden !== undefined) return hidden;
  if (address.family === 4 || isWithin(address, GLOBAL_UNICAST)) return "public";
  // Everything else is unassigned.
  return TUNNELS.some(({ network }) => isWithin(address, network)) ? "public" : "reserved";
}

/** Parses a network such as `10.0.0.0/8`, as the registries write it. */
function network(text: string): Network {
  const [address = "", bits = ""] = text.split("/");
  const value = address.includes(":") ? parseIPv6(address) : parseIPv4(address);
  if (value === undefined) throw new TypeError(`${text} is not a network`);
  return { base: { family: address.includes(":") ? 6 : 4, value }, bits: Number(bits) };
}

/** The IANA special-purpose registries, and where clouds keep credentials. The first match names the kind. */
const KINDS: readonly (readonly [Network, AddressKind])[] = (
  [
    ["metadata", "169.254.169.254/32 169.254.170.2/32 100.100.100.200/32 168.63.129.16/32 192.0.0.192/32"],
    ["metadata", "fd00:ec2::254/128 fd20:ce::254/128"],
    ["unspecified", "0.0.0.0/8 ::/128"],
    ["loopback", "127.0.0.0/8 ::1/128"],
    ["private", "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16"],
    ["shared", "100.64.0.0/10"],
    ["link-local", "169.254.0.0/16 fe80::/10"],
    ["site-local", "fec0::/10"],
    ["unique-local", "fc00::/7"],
    ["documentation", "192.0.2.0/24 198.51.100.0/24 203.0.113.0/24 2001:db8::/32 3fff::/20"],
    ["benchmarking", "198.18.0.0/15 2001:2::/48"],
    // 2001::/32 within it is Teredo, which obscures its IPv4 addresses.
    ["ietf-protocol", "192.0.0.0/24 192.88.99.0/24 2001::/23"],
    ["broadcast", "255.255.255.255/32"],
    ["multicast", "224.0.0.0/4 ff00::/8"],
    ["reserved", "240.0.0.0/4"],
    ["discard", "100::/64 100:0:0:1::/64"],
    // RFC 8215: a site's own translator, to addresses that only the site knows.
    ["translation", "64:ff9b:1::/48"],
  ] as const
).flatMap(([kind, networks]) => networks.split(" ").map((text) => [network(text), kind] as const));

const GLOBAL_UNICAST = network("2000::/3");

const MAPPED = network("::ffff:0:0/96");

/** Networks whose IPv6 addresses hold an IPv4 address, and its distance from the end in bits. */
const TUNNELS: readonly { readonly network: Network; readonly shift: bigint }[] = [
  { network: network("::/96"), shift: 0n },
  { network: network("::ffff:0:0:0/96"), shift: 0n },
  { network: network("64:ff9b::/96"), shift: 0n },
  { network: network("2002::/16"), shift: 80n },
];

function normalized(address: Address): Address {
  return isWithin(address, MAPPED) ? { family: 4, value: address.value & 0xffffffffn } : address;
}

/** Parses as inet_aton does: one to four parts, decimal, octal or hexadecimal, of which the last fills the rest. */
function looseIPv4(text: string): bigint | undefined {
  const parts = text.split(".").map(looseNumber);
  if (parts.length > 4) return undefined;
  let value = 0n;
  for (const [n, part] of parts.entries()) {
    const octets = n === parts.length - 1 ? BigInt(5 - parts.length) : 1n;
    if (part === undefined || part >> (8n * octets) !== 0n) return undefined;
    value = (value << (8n * octets)) | part;
  }
  return value;
}

function looseNumber(text: string): bigint | undefined {
  // Browsers read a bare 0x as zero.
  if (/^0x[0-9a-f]*$/.test(text)) return BigInt(`${text}${text === "0x" ? "0" : ""}`);
  if (/^0[0-7]+$/.test(text)) return BigInt(`0o${text.slice(1)}`);
  return /^(?:0|[1-9][0-9]*)$/.test(text) ? BigInt(text) : undefined;
}

function malformed(detail: string): Reading {
  return { type: "malformed", detail };
}
