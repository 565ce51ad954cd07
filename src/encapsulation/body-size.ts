/**
 * KeepAlive and Polling bodies beyond 32768 octets, between Grooveway's own ends. With a foreign end, and through a
 * proxy that removes the question, bodies stay as [MS-GRVHENC] limits them.
 *
 * The client asks in the query of its first target, KeepAlive's GET or Polling's probe: `?Body=1048576`. A server that
 * grants it says so in the answer, after the echo string or as the data of the probe's response:
 * `Grooveway-Body: 1048576` CRLF. Neither depends on headers, which some proxies remove.
 *
 * Either side begins with bodies of 32768 octets. They double while the way carries them quickly, and shrink when it is
 * slow: on a slow line, a large body would only delay what comes after it.
 */

import { EncapsulationError, MAX_BODY, STREAMED_BODY } from "./registry.ts";

/** Name of the parameter in the query of a target. */
const PARAMETER = "Body";
const CONFIRMATION = /^Grooveway-Body: ([1-9]\d{0,9})\r\n$/;
/** Octets of the longest confirmation. */
export const CONFIRMATION_LIMIT = "Grooveway-Body: ".length + 10 + 2;

/** A body that took less, in milliseconds, is followed by larger ones: two round trips around the world. */
export const FAST_BODY = 500;
/** A body that took longer, in milliseconds, is followed by smaller ones: what waits behind it waits as long. */
export const SLOW_BODY = 5000;

/**
 * The query with which a client offers bodies of up to `limit` octets; empty if that is no more than 32768.
 *
 * @throws EncapsulationError if the limit is not a whole number of octets up to 4 MiB
 */
export function bodyQuery(limit: number | undefined): string {
  if (limit === undefined) return "";
  if (!Number.isInteger(limit) || limit < 0 || limit > STREAMED_BODY) {
    throw new EncapsulationError(`bodyLimit must be a whole number of octets from 0 to ${STREAMED_BODY}`);
  }
  return limit > MAX_BODY ? `?${PARAMETER}=${limit}` : "";
}

/**
 * The octets that a query offers, such as `?Body=1048576`; undefined if it offers nothing, or nothing valid. A hold time
 * may follow (`target.ts`).
 */
export function offeredBody(query: string): number | undefined {
  const digits = /^\?Body=([1-9]\d{0,9})(?:&Hold=\d{1,2})?$/i.exec(query)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

/** The octets of a body on which both ends agree: what was offered, up to `most`. */
export function agreedBody(offered: number | undefined, most: number): number {
  return Math.max(MAX_BODY, Math.min(offered ?? 0, most));
}

/** What a server adds to the answer of the handshake to grant bodies of `limit` octets; empty for 32768. */
export function confirmationOf(limit: number): Uint8Array {
  return new TextEncoder().encode(limit > MAX_BODY ? `Grooveway-Body: ${limit}\r\n` : "");
}

/**
 * The limit that a server has confirmed to a client which offered `offered` octets; undefined if the octets are no
 * confirmation. No octets at all confirm 32768, and a server cannot grant more than was offered.
 */
export function confirmedBody(octets: Uint8Array, offered: number): number | undefined {
  if (octets.length === 0) return MAX_BODY;
  if (octets.length > CONFIRMATION_LIMIT) return undefined;
  const digits = CONFIRMATION.exec(String.fromCharCode(...octets))?.[1];
  return digits === undefined ? undefined : agreedBody(Number(digits), offered);
}

/** How long the bodies of one direction may be. Plain data. */
export type BodySize = {
  /** Octets on which both ends have agreed, less what the way has refused. */
  readonly limit: number;
  /** Octets of the next body. */
  readonly next: number;
};

/** The size before anything is known of the way. */
export function firstSize(limit: number): BodySize {
  return { limit, next: Math.min(limit, MAX_BODY) };
}

/** The size after a body of `octets` has taken `milliseconds`. A body that was not full says nothing of larger ones. */
export function sizeAfter(size: BodySize, octets: number, milliseconds: number): BodySize {
  const { limit, next } = size;
  if (milliseconds > SLOW_BODY) return { limit, next: Math.max(MAX_BODY, Math.floor(next / 2)) };
  // A body of whole commands can be a little shorter than there was room for.
  const isFull = octets > next / 2;
  return isFull && milliseconds < FAST_BODY ? { limit, next: Math.min(limit, next * 2) } : size;
}

/** The size after the way has refused a body of `octets`: half of it, and never more again. */
export function sizeRefused(size: BodySize, octets: number): BodySize {
  const limit = Math.max(MAX_BODY, Math.min(size.limit, Math.floor(octets / 2)));
  return { limit, next: Math.min(size.next, limit) };
}
