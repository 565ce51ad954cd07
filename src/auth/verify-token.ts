/**
 * Verifies JSON Web Tokens [RFC 7519] with `jose` and the keys that the operator has configured.
 *
 *   aud   one of this edge's RELAY_NAMEs  exp   required; nbf and iat are honoured
 *   jti   by it a token is revoked        address, scope   what it allows, see scopes.ts
 *
 * Details about a refused token go into logs and answers. They must never reveal what the token contains.
 *
 * @module
 */

import { base64url, decodeProtectedHeader, errors, type JWTPayload, jwtVerify } from "jose";
import type { AuthSettings } from "./auth-settings.ts";
import { type KeySettings, type VerificationKey, verificationKeys } from "./key-set.ts";
import { CLOCK_TOLERANCE, ISSUED_AHEAD, TOKEN_OCTETS, VERIFIED_TOKENS } from "./limits.ts";
import { ownNames } from "./own-names.ts";
import { isExpired, type Principal } from "./principal.ts";
import { isRevoked, type RevocationSettings } from "./revocation-list.ts";
import { readRights } from "./scopes.ts";
import type { TokenProblem } from "./token-problems.ts";

export type Authentication =
  | {
      readonly type: "ok";
      readonly principal: Principal;
      /** The time of the data that the judgement rests on; see limits.ts. Milliseconds since 1970. */
      readonly asOf: number;
    }
  | { readonly type: "refused"; readonly reason: TokenProblem; readonly detail: string };

export type TokenSettings = KeySettings & RevocationSettings & Pick<AuthSettings, "RELAY_NAME">;

/** Verified tokens by their hash, oldest first: an isolate sees the same few again and again. */
const verified = new Map<string, Principal>();

/**
 * Verifies a token, and returns its bearer.
 *
 * @param now milliseconds since 1970
 */
export async function authenticate(token: string, settings: TokenSettings, now: number): Promise<Authentication> {
  const kid = token.length > TOKEN_OCTETS ? undefined : kidOf(token);
  if (kid === undefined) return refused("TokenInvalid", "The token is not a JWT of three parts, or is too long.");
  const keys = await keysFor(kid.kid, settings, now);
  if (keys === undefined) return refused("KeysUnavailable", "The key set cannot be fetched or used.");
  const hash = await sha256(`${settings.RELAY_NAME ?? ""}\n${token}`);
  const known = verified.get(hash);
  // A key that was removed from the set no longer counts, nor do the tokens that it has signed.
  if (known !== undefined && keys.value.some(({ thumbprint }) => thumbprint === known.key)) {
    return unlessRevoked(known, keys.asOf, settings, now);
  }
  const candidates = kid.kid === null ? keys.value : keys.value.filter((key) => key.kid === kid.kid);
  const [key, another] = candidates;
  if (key === undefined) return refused("TokenInvalid", "The kid names no key of this edge.");
  if (another !== undefined) return refused("TokenInvalid", "The token has no kid, and this edge has several keys.");
  const checked = await verify(token, key, settings.RELAY_NAME, now);
  if (checked.type === "refused") return checked;
  remember(hash, checked.principal);
  return unlessRevoked(checked.principal, keys.asOf, settings, now);
}

/** Whether a principal may stay: its token must still be valid, and the token's key must be in the set. */
export async function current(principal: Principal, settings: TokenSettings, now: number): Promise<Authentication> {
  // Both at once, because a connected device waits for them.
  const [keys, judged] = await Promise.all([
    verificationKeys(settings, now),
    unlessRevoked(principal, now, settings, now),
  ]);
  if (judged.type === "refused" && judged.reason !== "KeysUnavailable") return judged;
  if (keys === undefined) return refused("KeysUnavailable", "The key set cannot be fetched or used.");
  if (!keys.value.some(({ thumbprint }) => thumbprint === principal.key)) {
    return refused("TokenInvalid", "The key that verified the token is no longer in the key set.");
  }
  return judged.type === "refused" ? judged : { ...judged, asOf: Math.min(keys.asOf, judged.asOf) };
}

/** @param asOf when the keys were requested */
async function unlessRevoked(
  principal: Principal,
  asOf: number,
  settings: TokenSettings,
  now: number,
): Promise<Authentication> {
  if (isExpired(principal, now)) return refused("TokenExpired", "The claim exp is in the past.");
  const revoked = await isRevoked(revocableId(principal), settings, now);
  if (revoked === undefined) return refused("KeysUnavailable", "The list of revoked tokens cannot be fetched or used.");
  if (revoked.value) return refused("TokenRevoked", "The token's id is on the list of revoked tokens.");
  return { type: "ok", principal, asOf: Math.min(asOf, revoked.asOf) };
}

const JTI = "jti:";

/** The entry in a list of revoked tokens: the jti, or the hash of a token without one. */
function revocableId({ id }: Principal): string {
  return id.startsWith(JTI) ? id.slice(JTI.length) : id;
}

/** Returns the key id of what looks like a token, null if it has none; undefined if it does not look like a token. */
function kidOf(token: string): { readonly kid: string | null } | undefined {
  if (!/^[\w-]+\.[\w-]+\.[\w-]+$/.test(token)) return undefined;
  const signature = token.slice(token.lastIndexOf(".") + 1);
  try {
    // The last character has unused bits, but a token must have only one spelling.
    if (base64url.encode(base64url.decode(signature)) !== signature) return undefined;
    const { kid } = decodeProtectedHeader(token);
    return kid === undefined ? { kid: null } : typeof kid === "string" ? { kid } : undefined;
  } catch {
    return undefined;
  }
}

/** Returns the keys. If the wanted one is not among them, they are fetched again: it may be new. */
async function keysFor(kid: string | null, settings: KeySettings, now: number): ReturnType<typeof verificationKeys> {
  const keys = await verificationKeys(settings, now);
  if (kid === null || keys === undefined || keys.value.some((key) => key.kid === kid)) return keys;
  return verificationKeys(settings, now, 0);
}

async function verify(
  token: string,
  key: VerificationKey,
  relayName: string | undefined,
  now: number,
): Promise<Authentication> {
  const names = ownNames(relayName);
  if (names.length === 0) return refused("WrongAudience", "This edge has no RELAY_NAME for the claim aud to match.");
  try {
    const { payload } = await jwtVerify(token, key.key, {
      algorithms: [...key.algorithms],
      // Also as written by the operator, because issuers copy the setting.
      audience: [...names, ...(relayName ?? "").split(/[\s,]+/).filter((name) => name !== "")],
      requiredClaims: ["exp"],
      clockTolerance: CLOCK_TOLERANCE / 1000,
      currentDate: new Date(now),
    });
    return await principalOf(token, payload, key.thumbprint, now);
  } catch (error) {
    return refusalOf(error);
  }
}

async function principalOf(token: string, payload: JWTPayload, key: string, now: number): Promise<Authentication> {
  const { jti, sub = "", exp = Number.NaN, iat } = payload;
  if (!Number.isFinite(exp)) return refused("TokenInvalid", "The claim exp is not a time.");
  if (iat !== undefined && iat * 1000 > now + ISSUED_AHEAD) {
    return refused("TokenNotYetValid", "The claim iat is in the future.");
  }
  if (jti !== undefined && (typeof jti !== "string" || jti === "")) {
    return refused("TokenInvalid", "The claim jti is not a string.");
  }
  if (typeof sub !== "string") return refused("TokenInvalid", "The claim sub is not a string.");
  const rights = readRights({ address: payload.address, scope: payload.scope });
  if (!rights.ok) {
    return refused("TokenInvalid", `The claim address or scope is malformed (${rights.problems.code}).`);
  }
  const id = jti === undefined ? `sha256:${await sha256(token.slice(0, token.lastIndexOf(".")))}` : JTI + jti;
  const principal: Principal = { id, subject: sub, rights: rights.value, key, expires: exp * 1000 + CLOCK_TOLERANCE };
  return { type: "ok", principal, asOf: now };
}

function refusalOf(error: unknown): Authentication {
  if (error instanceof errors.JWTExpired) return refused("TokenExpired", "The claim exp is in the past.");
  if (error instanceof errors.JWTClaimValidationFailed) {
    const { claim, reason } = error;
    if (claim === "aud") return refused("WrongAudience", "The claim aud is missing, or names another edge.");
    if (claim === "nbf" && reason === "check_failed")
      return refused("TokenNotYetValid", "The claim nbf is in the future.");
    return refused("TokenInvalid", `The claim ${claim} is missing or invalid.`);
  }
  if (error instanceof errors.JOSEAlgNotAllowed) return refused("TokenInvalid", "The alg is not that of the key.");
  if (error instanceof errors.JWSSignatureVerificationFailed) {
    return refused("TokenInvalid", "The signature does not match the key.");
  }
  return refused("TokenInvalid", "The token is not a readable JWT.");
}

function refused(reason: TokenProblem, detail: string): Extract<Authentication, { type: "refused" }> {
  return { type: "refused", reason, detail };
}

function remember(hash: string, principal: Principal): void {
  verified.delete(hash);
  verified.set(hash, principal);
  for (const oldest of verified.keys()) {
    if (verified.size <= VERIFIED_TOKENS) break;
    verified.delete(oldest);
  }
}

async function sha256(text: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return Array.from(new Uint8Array(digest), (octet) => octet.toString(16).padStart(2, "0")).join("");
}
