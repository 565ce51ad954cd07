/**
 * What a token allows. Two claims say it:
 *
 *   address   the address that the device may use: `alice/laptop`, or a pattern such as `alice/*` or `*`
 *   scope     words separated by spaces: `connect`, `receive`, `send:PATTERN`, `stream:PATTERN`, `admin`
 *
 * A pattern is `identity` or `identity/device`; a `*` stands for any characters within one part, and alone for
 * everybody. A pattern without a device names identities, one with a device names devices: `send:bob send:bob/*` is bob
 * and all that is his. Names are compared as they are, in one case and after percent-decoding; `%2A` is a star itself.
 *
 * @module
 */
import { type Address, AddressError, deviceURL, identityURL, parseAddress, parseURL } from "../sstp/index.ts";

/** Who is meant: an identity, or one device of it. */
export type Peer = Pick<Address, "identity" | "device">;

/** What the bearer may do, as plain data. Patterns have been checked. */
export interface Rights {
  /** The addresses that it may use; undefined for none. */
  readonly address?: string;
  /** May open virtual connections, and say Connect. */
  readonly connect: boolean;
  /** May take what waits for its addresses and their identities. */
  readonly receive: boolean;
  /** May do what an operator does. */
  readonly admin: boolean;
  /** Whom it may send messages to. */
  readonly send: readonly string[];
  /** Whom it may open streams to. */
  readonly stream: readonly string[];
}

/** A claim that cannot be understood; the message says what to change. */
export class ScopeError extends Error {
  readonly code: "MalformedAddress" | "MalformedPattern" | "ScopeTooLong" | "MalformedScope";

  constructor(code: ScopeError["code"], message: string) {
    super(message);
    this.name = "ScopeError";
    this.code = code;
  }
}

export const NOTHING: Rights = { connect: false, receive: false, admin: false, send: [], stream: [] };

/** All that a device can do. It is no operator. */
export const EVERYTHING: Rights = {
  address: "*",
  connect: true,
  receive: true,
  admin: false,
  send: ["*"],
  stream: ["*"],
};

/** Scopes of one token, at most: enough to name the people that one works with; who needs more uses patterns. */
const SCOPES = 64;

/** Characters of one pattern, at most: those of the longest address. */
const PATTERN_LENGTH = 257;

/**
 * The rights of two claims. Words of `scope` that are not known here grant nothing and are passed over, since a token may
 * be meant for others as well.
 *
 * @throws ScopeError
 */
export function parseRights(claims: { readonly address?: unknown; readonly scope?: unknown }): Rights {
  const { address, scope } = claims;
  if (address !== undefined && typeof address !== "string") {
    throw new ScopeError("MalformedAddress", "the claim address is no text: write identity/device or a pattern");
  }
  if (typeof scope !== "string") {
    throw new ScopeError("MalformedScope", "the claim scope is missing or no text: write words separated by spaces");
  }
  if (address !== undefined) parsePattern(address);
  const words = scope.split(" ").filter((word) => word !== "");
  if (words.length > SCOPES) {
    throw new ScopeError("ScopeTooLong", `the claim scope has ${words.length} words: use patterns, at most ${SCOPES}`);
  }
  const patterns = (prefix: string) =>
    words.filter((word) => word.startsWith(prefix)).map((word) => checkedPattern(word.slice(prefix.length)));
  return {
    ...(address !== undefined && { address }),
    connect: words.includes("connect"),
    receive: words.includes("receive"),
    admin: words.includes("admin"),
    send: patterns("send:"),
    stream: patterns("stream:"),
  };
}

/** The words of a scope that mean nothing here: most likely slips, when the scope is written for this edge alone. */
export function unknownScopes(scope: string): string[] {
  const known = ["connect", "receive", "admin"];
  return scope.split(" ").filter((word) => word !== "" && !known.includes(word) && !/^(send|stream):/.test(word));
}

/** Whether a device may use an address. */
export function mayUse(rights: Rights, device: Peer): boolean {
  return device.device !== undefined && rights.address !== undefined && matches(rights.address, device);
}

/** Whether a device may take what waits for an identity: one of those whose devices it may be. */
export function mayAttach(rights: Rights, identity: string): boolean {
  if (!rights.receive || rights.address === undefined) return false;
  return matchesGlob(parsePattern(rights.address).identity, identity);
}

/** Whether messages may be sent to a peer. */
export function maySend(rights: Rights, to: Peer): boolean {
  return rights.send.some((pattern) => matches(pattern, to));
}

/** Whether streams may be opened to a peer. */
export function mayStream(rights: Rights, to: Peer): boolean {
  return rights.stream.some((pattern) => matches(pattern, to));
}

/** Whether the mailbox of a peer, by its URL, is one that the bearer may take what waits from. */
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
 * The peer that a URL of SSTP names, when it is written in its one way; undefined otherwise. Mailboxes are named by URLs
 * as they are written, so another way of writing the same name is not the same mailbox, and nobody's.
 */
export function peerOf(url: string): Peer | undefined {
  try {
    const named = parseURL(url);
    if (named.kind === "device") return deviceURL(named) === url ? named : undefined;
    if (named.kind === "identity") return identityURL(named) === url ? named : undefined;
    return undefined;
  } catch (error) {
    if (error instanceof AddressError) return undefined;
    throw error;
  }
}

/**
 * The peer that a session addresses, when identity and device are each written in their one way and belong together;
 * undefined otherwise.
 */
export function addressee(entry: { readonly identityURL: string; readonly deviceURL: string }): Peer | undefined {
  const identity = peerOf(entry.identityURL);
  if (identity === undefined || identity.device !== undefined) return undefined;
  if (entry.deviceURL === "") return identity;
  const device = peerOf(entry.deviceURL);
  return device?.device !== undefined && device.identity === identity.identity ? device : undefined;
}

/** A part of a pattern: what stands between its stars, decoded. One piece is a name without stars. */
type Glob = readonly string[];

interface Pattern {
  readonly identity: Glob;
  readonly device?: Glob;
  /** A single star: identities and devices. */
  readonly everybody: boolean;
}

/** Whether a pattern covers a peer. @throws ScopeError */
export function matches(pattern: string, peer: Peer): boolean {
  const { identity, device, everybody } = parsePattern(pattern);
  if (everybody) return true;
  if ((device === undefined) !== (peer.device === undefined)) return false;
  if (!matchesGlob(identity, peer.identity)) return false;
  return device === undefined || peer.device === undefined || matchesGlob(device, peer.device);
}

function checkedPattern(text: string): string {
  parsePattern(text);
  return text;
}

function parsePattern(text: string): Pattern {
  if (text.length > PATTERN_LENGTH) {
    throw new ScopeError("MalformedPattern", `a pattern has ${text.length} characters: at most ${PATTERN_LENGTH}`);
  }
  if (text.includes("@")) throw malformed(text, "a pattern names no relay: leave out what follows the @");
  const [identity = "", device, ...more] = text.split("/");
  if (more.length > 0) throw malformed(text, "a pattern has more than one /: write the others as %2F");
  return {
    identity: parseGlob(text, identity),
    ...(device !== undefined && { device: parseGlob(text, device) }),
    everybody: text === "*",
  };
}

function parseGlob(text: string, part: string): Glob {
  const pieces = part.split("*");
  // What has no star is a name, with all that is asked of one.
  if (pieces.length === 1) return [parsedName(text, part)];
  return pieces.map((piece) => (piece === "" ? "" : parsedName(text, piece)));
}

function parsedName(text: string, encoded: string): string {
  try {
    return encoded === "." || encoded === ".." ? encoded : parseAddress(encoded).identity;
  } catch (error) {
    if (error instanceof AddressError) throw malformed(text, error.message);
    throw error;
  }
}

function malformed(text: string, why: string): ScopeError {
  return new ScopeError("MalformedPattern", `the pattern ${JSON.stringify(text.slice(0, 80))}: ${why}`);
}

/** Whether a name has the pieces in order, the first at its beginning and the last at its end. */
function matchesGlob(glob: Glob, name: string): boolean {
  const [first = "", ...rest] = glob;
  const last = rest.pop();
  if (last === undefined) return name === first;
  if (!name.startsWith(first) || !name.endsWith(last) || name.length < first.length + last.length) return false;
  const end = name.length - last.length;
  let at = first.length;
  for (const piece of rest) {
    const found = name.indexOf(piece, at);
    if (found < 0 || found + piece.length > end) return false;
    at = found + piece.length;
  }
  return true;
}
