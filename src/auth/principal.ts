/**
 * Principals: bearers of tokens, and those without one.
 *
 * @module
 */
import { EVERYTHING, NOTHING, type Rights } from "./scopes.ts";

/** A principal as plain data. */
export interface Principal {
  /** The same for the same token: its jti, or a hash of what is signed. */
  readonly id: string;
  /** The issuer's name for the principal, for logs; empty if the token has none. */
  readonly subject: string;
  readonly rights: Rights;
  /** The JWK thumbprint of the key that verified the token [RFC 7638]; empty if there was no token. */
  readonly key: string;
  /** When the token stops being accepted, milliseconds since 1970. */
  readonly expires: number;
}

/** Every client of an edge that is open for development. */
export const ANYBODY: Principal = {
  id: "anybody",
  subject: "",
  rights: EVERYTHING,
  key: "",
  expires: Number.MAX_SAFE_INTEGER,
};

/** A client that has presented no token yet, and must do so in its SSTP Connect. */
export const NOBODY: Principal = {
  id: "nobody",
  subject: "",
  rights: NOTHING,
  key: "",
  expires: Number.MAX_SAFE_INTEGER,
};

/**
 * Whose a principal's streams, producers and tickets are: its subject's, so that a new token of the same bearer has them
 * too.
 */
export function ownerOf({ id, subject }: Pick<Principal, "id" | "subject">): string {
  return subject === "" ? id : `sub:${subject}`;
}

export function isExpired(principal: Principal, now: number): boolean {
  return now >= principal.expires;
}

/** Whether a principal has presented a token, which can expire, be revoked, or lose its key. */
export function hasToken(principal: Principal): boolean {
  return principal.key !== "";
}

/** Whether two principals have the same token, or the same lack of one. */
export function isSame(one: Principal, other: Principal): boolean {
  return one.id === other.id;
}

/**
 * Whether two tokens have the same bearer: the same token, or another that the issuer gave to the same subject with the
 * same rights, as in a token refresh. Neither allows what the other does not.
 */
export function isSameBearer(one: Principal, other: Principal): boolean {
  if (isSame(one, other)) return true;
  if (!hasToken(one) || !hasToken(other) || one.subject !== other.subject) return false;
  return JSON.stringify(one.rights) === JSON.stringify(other.rights);
}
