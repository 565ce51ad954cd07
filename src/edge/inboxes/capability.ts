/**
 * The capability in the URL of an inbox, 64 characters of base64url:
 *
 *     locator 16   random 16   MAC 16
 *
 * The random bytes are the secret, and stored as a hash. The locator, which is the same for all inboxes of a peer, is
 * the name of the object that has them. The MAC proves that this edge has issued the whole, so that a Worker refuses a
 * guess without calling an object. Both are made with a key of the edge that never changes.
 *
 * @module
 */
import { decodeBase64url, encodeBase64url } from "../../lib/base64url.ts";
import { isEqualOctets, joinOctets } from "../../lib/octets.ts";

/** Bytes of each of its parts: 128 bits, which nobody guesses. */
const PART = 16;

/** What a capability that this edge has issued says. */
export interface Issued {
  /** Name of the object. */
  readonly locator: string;
  /** Hash of the random bytes, in hexadecimal digits. */
  readonly hash: string;
}

const encoder = new TextEncoder();

/** Name of the object that has the inboxes of a peer, given by its URL. */
export async function locatorOf(key: Uint8Array, peer: string): Promise<string> {
  return hexOf(await mac(key, encoder.encode(`inboxes of ${peer}`)));
}

/** Makes a capability from 16 random bytes. */
export async function issueCapability(key: Uint8Array, locator: string, random: Uint8Array): Promise<string> {
  const named = joinOctets([octetsOf(locator), random], 2 * PART);
  return encodeBase64url(joinOctets([named, await macOf(key, named)], 3 * PART));
}

/** Reads a capability. Undefined unless this edge has issued it. */
export async function readCapability(key: Uint8Array, text: string): Promise<Issued | undefined> {
  if (!isCapability(text)) return undefined;
  const octets = decodeBase64url(text);
  const [locator, random, claimed] = [0, PART, 2 * PART].map((at) => octets.slice(at, at + PART));
  if (locator === undefined || random === undefined || claimed === undefined) return undefined;
  if (!isEqualOctets(claimed, await macOf(key, octets.subarray(0, 2 * PART)))) return undefined;
  return { locator: hexOf(locator), hash: await hashOf(random) };
}

/** Whether a text has the form of a capability. */
export function isCapability(text: string): boolean {
  return /^[A-Za-z0-9_-]{64}$/.test(text);
}

/** The hash under which the random bytes of a capability are stored. They are random, so it needs no salt. */
export async function hashOf(random: Uint8Array): Promise<string> {
  return hexOf(new Uint8Array(await crypto.subtle.digest("SHA-256", random)));
}

function macOf(key: Uint8Array, named: Uint8Array): Promise<Uint8Array> {
  return mac(key, joinOctets([encoder.encode("capability "), named], "capability ".length + named.length));
}

async function mac(key: Uint8Array, octets: Uint8Array): Promise<Uint8Array> {
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const imported = await crypto.subtle.importKey("raw", key, algorithm, false, ["sign"]);
  return new Uint8Array(await crypto.subtle.sign("HMAC", imported, octets)).slice(0, PART);
}

function hexOf(octets: Uint8Array): string {
  return Array.from(octets, (octet) => octet.toString(16).padStart(2, "0")).join("");
}

function octetsOf(hex: string): Uint8Array {
  return Uint8Array.from(hex.match(/../g) ?? [], (digits) => Number.parseInt(digits, 16));
}
