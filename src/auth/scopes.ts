/**
 * What a token allows, according to two of its claims:
 *
 *   address   the address that the device may use: `alice/laptop`, or a pattern such as `alice/*` or `*`
 *   scope     words separated by spaces: `connect`, `receive`, `send:PATTERN`, `stream:PATTERN`, `origin:HOST:PORT`,
 *             `admin`, `metrics`; and for plain streams `create:PATTERN`, `read:PATTERN`, `write:PATTERN`, whose patterns are in
 *             stream-patterns.ts
 *
 * A pattern is `identity` or `identity/device`. A `*` matches any characters within one part; alone it matches every
 * peer. A pattern without a device names identities, one with a device names devices: `send:bob send:bob/*` is bob and
 * all of his devices. Names are compared case-sensitively after percent-decoding; `%2A` is a literal star.
 * A pattern that covers a device covers its instances (address.ts).
 *
 * In `origin:HOST:PORT` a `*` in the host matches any text, as in `*.example.com`, and the port may be `*`; `origin:*` is
 * every destination. Only what the operator of the edge lists is dialled in any case.
 *
 * @module
 */
import { type Glob, matchesGlob, parseGlob } from "../lib/glob.ts";
import { parsePort, splitHostPort, unbracketed } from "../lib/host-port.ts";
import type { Result } from "../lib/result.ts";
import { type Address, deviceURL, identityURL, parseAddress, parseURL, withoutInstance } from "../sstp/index.ts";
import { matchesStream, readStreamPattern } from "./stream-patterns.ts";

/** An identity, or one device of it. */
export type Peer = Pick<Address, "identity" | "device">;

/** What the bearer may do, as plain data. Its patterns are valid. */
export interface Rights {
  /** Pattern of the addresses that it may use; undefined for none. */
  readonly address?: string;
  /** May open virtual connections, and send Connect. */
  readonly connect: boolean;
  /** May take what waits for its addresses and their identities. */
  readonly receive: boolean;
  /** May do what an operator does. */
  readonly admin: boolean;
  /** May read what the edge has counted. Absent in what earlier releases have stored: it may not. */
  readonly metrics?: boolean;
  /** Peers that it may send messages to. */
  readonly send: readonly string[];
  /** Peers that it may open streams to. */
  readonly stream: readonly string[];
  /**
   * Plain streams that it may create and delete, read, and append to and close. Undefined for none, as in principals
   * that an earlier release has stored.
   */
  readonly create?: readonly string[];
  readonly read?: readonly string[];
  readonly write?: readonly string[];
  /** TCP destinations that it may reach through the edge. Absent in what earlier releases have stored: none. */
  readonly origin?: readonly string[];
}

/** A TCP destination: a host name in lower case or an address, IPv6 without brackets. */
export interface Origin {
  readonly host: string;
  readonly port: number;
}

/** What may be done with a plain stream. */
export type StreamRight = "create" | "read" | "write";

/** What is wrong with a claim. */
export interface ClaimProblem {
  readonly code: "MalformedAddress" | "MalformedPattern" | "ScopeTooLong" | "MalformedScope";
  /** What to change. */
  readonly message: string;
}

type Read<T> = Result<T, ClaimProblem>;

function wrong(code: ClaimProblem["code"], message: string): Read<never> {
  return { ok: false, problems: { code, message } };
}

export const NOTHING: Rights = { connect: false, receive: false, admin: false, send: [], stream: [] };

/** Everything that a device can do, but not what an operator can. */
export const EVERYTHING: Rights = {
  address: "*",
  connect: true,
  receive: true,
  admin: false,
  send: ["*"],
  stream: ["*"],
  create: ["*"],
  read: ["*"],
  write: ["*"],
  origin: ["*"],
};

/** Maximum scopes of one token: enough to name the people that a user works with. For more, use patterns. */
const SCOPES = 64;

/** Maximum characters of one pattern: those of the longest address. */
const PATTERN_LENGTH = 257;

/**
 * Reads the rights in two claims. Unknown words of `scope` grant nothing and are ignored, since a token may be meant for
 * other services too.
 */
export function readRights(claims: { readonly address?: unknown; readonly scope?: unknown }): Read<Rights> {
  const { address, scope } = claims;
  if (address !== undefined && typeof address !== "string") {
    return wrong("MalformedAddress", "the claim address is not a string: write identity/device or a pattern");
  }
  if (typeof scope !== "string") {
    return wrong("MalformedScope", "the claim scope is missing or not a string: write words separated by spaces");
  }
  const words = scope.split(" ").filter((word) => word !== "");
  if (words.length > SCOPES) {
    return wrong("ScopeTooLong", `the claim scope has ${words.length} words: write at most ${SCOPES}, with patterns`);
  }
  const patterns = (prefix: string) =>
    words.filter((word) => word.startsWith(prefix)).map((word) => word.slice(prefix.length));
  const send = patterns("send:");
  const stream = patterns("stream:");
  const origin = patterns("origin:");
  for (const pattern of origin) {
    const read = readOrigin(pattern);
    if (!read.ok) return read;
  }
  for (const pattern of [...(address === undefined ? [] : [address]), ...send, ...stream]) {
    const read = readPattern(pattern);
    if (!read.ok) return read;
  }
  const streams = { create: patterns("create:"), read: patterns("read:"), write: patterns("write:") };
  for (const pattern of Object.values(streams).flat()) {
    const read = readStreamPattern(pattern);
    if (!read.ok) return wrong("MalformedPattern", read.problems);
  }
  const granted = Object.entries(streams).filter(([, some]) => some.length > 0);
  return {
    ok: true,
    value: {
      ...(address !== undefined && { address }),
      connect: words.includes("connect"),
      receive: words.includes("receive"),
      admin: words.includes("admin"),
      ...(words.includes("metrics") && { metrics: true }),
      send,
      stream,
      ...Object.fromEntries(granted),
      ...(origin.length > 0 && { origin }),
    },
  };
}

/** Returns the unknown words of a scope: most likely typos, if the scope is for this edge alone. */
export function unknownScopes(scope: string): string[] {
  const known = ["connect", "receive", "admin", "metrics"];
  return scope
    .split(" ")
    .filter((word) => word !== "" && !known.includes(word) && !/^(send|stream|origin|create|read|write):/.test(word));
}

/** Whether the bearer may use a device's address. */
export function mayUse(rights: Rights, device: Peer): boolean {
  return device.device !== undefined && rights.address !== undefined && matches(rights.address, device);
}

/** Whether the bearer may take what waits for an identity: one whose devices it may use. */
export function mayAttach(rights: Rights, identity: string): boolean {
  if (!rights.receive || rights.address === undefined) return false;
  return matchesGlob(patternOf(rights.address).identity, identity);
}

/** Whether the bearer may send messages to a peer. */
export function maySend(rights: Rights, to: Peer): boolean {
  return rights.send.some((pattern) => matches(pattern, to));
}

/** Whether the bearer may open streams to a peer. */
export function mayStream(rights: Rights, to: Peer): boolean {
  return rights.stream.some((pattern) => matches(pattern, to));
}

/** Whether the bearer may do something with a plain stream. @param name its segments, decoded */
export function mayOnStream(rights: Rights, right: StreamRight, name: readonly string[]): boolean {
  return (rights[right] ?? []).some((pattern) => matchesStream(pattern, name));
}

/** Whether the bearer may reach any TCP destination through the edge. */
export function mayReachOrigins(rights: Rights): boolean {
  return (rights.origin ?? []).length > 0;
}

/** Whether the bearer may reach a TCP destination through the edge. */
export function mayReach(rights: Rights, { host, port }: Origin): boolean {
  return (rights.origin ?? []).some((text) => {
    const pattern = readOrigin(text);
    if (!pattern.ok) return false;
    return matchesGlob(pattern.value.host, host) && (pattern.value.port ?? port) === port;
  });
}

/** Whether the bearer may take messages from the mailbox of a peer, given by its URL. */
export function owns(rights: Rights, url: string): boolean {
  const peer = peerOf(url);
  if (peer === undefined || !has(rights, "receive")) return false;
  return peer.device === undefined ? mayAttach(rights, peer.identity) : mayUse(rights, peer);
}

/** Whether a scope without a pattern is granted. */
export function has(rights: Rights, scope: "connect" | "receive" | "admin" | "metrics"): boolean {
  return rights[scope] ?? false;
}

/**
 * Returns the peer that an SSTP URL names; undefined unless the URL is canonical. A mailbox is named by its URL as
 * written, so another spelling of the name would be another mailbox, which has no owner.
 */
export function peerOf(url: string): Peer | undefined {
  const parsed = parseURL(url);
  if (!parsed.ok) return undefined;
  const named = parsed.value;
  if (named.kind === "device") return deviceURL(named) === url ? named : undefined;
  if (named.kind === "identity") return identityURL(named) === url ? named : undefined;
  return undefined;
}

/** Returns the peer that a session addresses; undefined unless both URLs are canonical and belong together. */
export function addressee(entry: { readonly identityURL: string; readonly deviceURL: string }): Peer | undefined {
  const identity = peerOf(entry.identityURL);
  if (identity === undefined || identity.device !== undefined) return undefined;
  if (entry.deviceURL === "") return identity;
  const device = peerOf(entry.deviceURL);
  return device?.device !== undefined && device.identity === identity.identity ? device : undefined;
}

/** The parts of a pattern, decoded after they were split at their stars: `%2A` is a literal star. */
interface Pattern {
  readonly identity: Glob;
  readonly device?: Glob;
  /** A single star: all identities and devices. */
  readonly everybody: boolean;
}

/** Whether a pattern of {@link Rights} covers a peer. */
export function matches(pattern: string, peer: Peer): boolean {
  const { identity, device, everybody } = patternOf(pattern);
  if (everybody) return true;
  if ((device === undefined) !== (peer.device === undefined)) return false;
  if (!matchesGlob(identity, peer.identity)) return false;
  if (device === undefined || peer.device === undefined) return true;
  return matchesGlob(device, peer.device) || matchesGlob(device, withoutInstance(peer.device));
}

/** The parts of a pattern that was read before. */
function patternOf(text: string): Pattern {
  const read = readPattern(text);
  if (read.ok) return read.value;
  throw new Error(read.problems.message);
}

function readPattern(text: string): Read<Pattern> {
  if (text.length > PATTERN_LENGTH) {
    return wrong("MalformedPattern", `a pattern has ${text.length} characters: write at most ${PATTERN_LENGTH}`);
  }
  if (text.includes("@")) return malformed(text, "a pattern cannot name a relay: leave out the @ and what follows it");
  const [name = "", part, ...more] = text.split("/");
  if (more.length > 0) return malformed(text, "a pattern has more than one /: write the others as %2F");
  const identity = readGlob(text, name);
  if (!identity.ok) return identity;
  const everybody = text === "*";
  if (part === undefined) return { ok: true, value: { identity: identity.value, everybody } };
  const device = readGlob(text, part);
  return device.ok ? { ok: true, value: { identity: identity.value, device: device.value, everybody } } : device;
}

function readGlob(text: string, part: string): Read<Glob> {
  const pieces = part.split("*");
  const glob: string[] = [];
  for (const piece of pieces) {
    // Beside a star a piece may be empty or dots. Without one it is a name, and all rules for names apply.
    const isPlain = pieces.length > 1 && ["", ".", ".."].includes(piece);
    const name = isPlain ? undefined : parseAddress(piece);
    if (name?.ok === false) return malformed(text, name.problems);
    glob.push(name?.value.identity ?? piece);
  }
  return { ok: true, value: glob };
}

/** A pattern of destinations; without a port it covers all ports. */
interface OriginPattern {
  readonly host: Glob;
  readonly port?: number;
}

function readOrigin(text: string): Read<OriginPattern> {
  if (text === "*") return { ok: true, value: { host: parseGlob("*") } };
  if (text.length > PATTERN_LENGTH) {
    return wrong("MalformedPattern", `a pattern has ${text.length} characters: write at most ${PATTERN_LENGTH}`);
  }
  const { host, digits } = splitHostPort(text.toLowerCase());
  const bare = unbracketed(host);
  if (!/^[a-z0-9*_.:-]+$/.test(bare) || (bare.includes(":") && bare === host)) {
    return malformed(text, "its host is no name or address: write HOST:PORT or [IPV6]:PORT");
  }
  const port = digits === undefined ? undefined : parsePort(digits);
  if (digits !== "*" && port === undefined) return malformed(text, "its port is no number from 1 to 65535, and no *");
  return { ok: true, value: { host: parseGlob(bare), ...(port !== undefined && { port }) } };
}

function malformed(text: string, why: string): Read<never> {
  return wrong("MalformedPattern", `the pattern ${JSON.stringify(text.slice(0, 80))}: ${why}`);
}
