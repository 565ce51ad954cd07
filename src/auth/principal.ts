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
  /** From when the token is no longer let in, milliseconds since 1970. */
  readonly expires: number;
}

/** Anybody, at an edge that is open for development. */
export const ANYBODY: Principal = {
  id: "anybody",
  subject: "",
  rights: EVERYTHING,
  expires: Number.MAX_SAFE_INTEGER,
};

/** Somebody who has shown nothing yet, and has to in the Connect of SSTP. */
export const NOBODY: Principal = { id: "nobody", subject: "", rights: NOTHING, expires: Number.MAX_SAFE_INTEGER };

export function isExpired(principal: Principal, now: number): boolean {
  return now >= principal.expires;
}

/** Whether two principals are the same somebody. */
export function isSame(one: Principal, other: Principal): boolean {
  return one.id === other.id;
}
