/**
 * Who bears a token.
 *
 * @module
 */
import { EVERYTHING, NOTHING, type Rights } from "./scopes.ts";

/** Somebody who is known here, as plain data. */
export interface Principal {
  /** The same for the same token: its jti, or a hash of what is signed. */
  readonly id: string;
  /** Whom the issuer means, for a log; empty when it does not say. */
  readonly subject: string;
  readonly rights: Rights;
  /** The JWK thumbprint of the key that has verified the token [RFC 7638]; empty when there was no token. */
  readonly key: string;
  /** From when the token is no longer let in, milliseconds since 1970. */
  readonly expires: number;
}

/** Anybody, at an edge that is open for development. */
export const ANYBODY: Principal = {
  id: "anybody",
  subject: "",
  rights: EVERYTHING,
  key: "",
  expires: Number.MAX_SAFE_INTEGER,
};

/** Somebody who has shown nothing yet, and has to in the Connect of SSTP. */
export const NOBODY: Principal = {
  id: "nobody",
  subject: "",
  rights: NOTHING,
  key: "",
  expires: Number.MAX_SAFE_INTEGER,
};

export function isExpired(principal: Principal, now: number): boolean {
  return now >= principal.expires;
}

/** Whether somebody has shown a token, which can expire, be revoked, or lose its key. */
export function hasToken(principal: Principal): boolean {
  return principal.key !== "";
}

/** Whether two principals are the same somebody. */
export function isSame(one: Principal, other: Principal): boolean {
  return one.id === other.id;
}

/**
 * Whether two tokens are one bearer's: the same token, or another that its issuer has given to the same subject with the
 * same rights, as when a token is refreshed. Either opens no door that the other does not.
 */
export function isSameBearer(one: Principal, other: Principal): boolean {
  if (isSame(one, other)) return true;
  if (!hasToken(one) || !hasToken(other) || one.subject !== other.subject) return false;
  return JSON.stringify(one.rights) === JSON.stringify(other.rights);
}
