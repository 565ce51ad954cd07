/**
 * What a token allows, according to two of its claims:
 *
 *   address   the address that the device may use: `alice/laptop`, or a pattern such as `alice/*` or `*`
 *   scope     words separated by spaces: `connect`, `receive`, `send:PATTERN`, `stream:PATTERN`, `admin`
 *
 * A pattern is `identity` or `identity/device`. A `*` matches any characters within one part; alone it matches every
 * peer. A pattern without a device names identities, one with a device names devices: `send:bob send:bob/*` is bob and
 * all of his devices. Names are compared case-sensitively after percent-decoding; `%2A` is a literal star.
 *
 * @module
 */
import { type Glob, matchesGlob } from "../lib/glob.ts";
import type { Result } from "../lib/result.ts";
import { type Address, deviceURL, identityURL, parseAddress, parseURL } from "../sstp/index.ts";

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
  /** Peers that it may send messages to. */
  readonly send: readonly string[];
  /** Peers that it may open streams to. */
  readonly stream: readonly string[];
}

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
  for (const pattern of [...(address === undefined ? [] : [address]), ...send, ...stream]) {
    const read = readPattern(pattern);
    if (!read.ok) return read;
  }
  return {
    ok: true,
    value: {
      ...(address !== undefined && { address }),
      connect: words.includes("connect"),
      receive: words.includes("receive"),
      admin: words.includes("admin"),
      send,
      stream,
    },
  };
}

/** Returns the unknown words of a scope: most likely typos, if the scope is for this edge alone. */
export function unknownScopes(scope: string): string[] {
  const known = ["connect", "receive", "admin"];
  return scope.split(" ").filter((word) => word !== "" && !known.includes(word) && !/^(send|stream):/.test(word));
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

/** Whether the bearer may take messages from the mailbox of a peer, given by its URL. */
export function owns(rights: Rights, url: string): boolean {
  const peer = peerOf(url);
  if (peer === undefined || !has(rights, "receive")) return false;
  return peer.device === undefined ? mayAttach(rights, peer.identity) : mayUse(rights, peer);
}

/** Whether a scope without a pattern is granted. */
export function has(rights: Rights, scope: "connect" | "receive" | "admin"): boolean {
  return rights[scope];
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
  return device === undefined || peer.device === undefined || matchesGlob(device, peer.device);
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

function malformed(text: string, why: string): Read<never> {
  return wrong("MalformedPattern", `the pattern ${JSON.stringify(text.slice(0, 80))}: ${why}`);
}
