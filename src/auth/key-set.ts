/**
 * The keys that verify tokens: a JSON Web Key Set [RFC 7517] with Ed25519 public keys and HS256 secrets. The key
 * determines the algorithm; a token's header only selects a key.
 *
 * @module
 */

import { base64url, type CryptoKey, calculateJwkThumbprint, type JWK } from "jose";
import { logJson } from "../lib/runtime/json-log.ts";
import type { AuthSettings } from "./auth-settings.ts";
import { FETCHED_AGE, JWKS_OCTETS } from "./limits.ts";
import { type Fetched, RefreshedUrls, RemoteError } from "./refreshed-url.ts";
import type { TokenProblem } from "./token-problems.ts";

/** A key that verifies tokens. */
export interface VerificationKey {
  readonly kid: string | undefined;
  /** Names of its one algorithm. */
  readonly algorithms: readonly string[];
  readonly key: CryptoKey;
  /** Distinguishes it from every other key, even from one that has taken over its kid [RFC 7638]. */
  readonly thumbprint: string;
}

/** Where keys come from. */
export type KeySettings = Pick<AuthSettings, "KEYS" | "JWKS_URL">;

/** A key set that cannot be used. The message says what to change, and reveals nothing of the keys. */
class KeySetError extends RemoteError {
  constructor(message: string) {
    super(message);
    this.name = "KeySetError";
  }
}

/** Maximum keys in a set: each is imported when the set is read, and rotation needs two or three. */
const MOST_KEYS = 32;

/** Minimum bytes of an HS256 secret: the size of its hash [RFC 7518 3.2]. */
const SECRET_OCTETS = 32;

/** Whether the operator has configured keys. */
export function hasKeys({ KEYS = "", JWKS_URL = "" }: KeySettings): boolean {
  return KEYS !== "" || JWKS_URL !== "";
}

/**
 * Returns the configured keys, those of KEYS first. Undefined if a key set cannot be fetched or used.
 *
 * @param now milliseconds since 1970
 * @param age maximum age of a fetched key set; with 0 it is fetched again, unless that was just done
 */
export async function verificationKeys(
  { KEYS = "", JWKS_URL = "" }: KeySettings,
  now: number,
  age = FETCHED_AGE,
): Promise<Fetched<readonly VerificationKey[]> | undefined> {
  const inline = KEYS === "" ? [] : await inlineKeys(KEYS);
  const fetched = JWKS_URL === "" ? { value: [], asOf: now } : await keySets.at(JWKS_URL).get(now, age);
  return inline && fetched && { value: [...inline, ...fetched.value], asOf: fetched.asOf };
}

/** Whether the last try to fetch the key set failed in this isolate. The one before counts for an hour. */
export function areKeysFailing({ JWKS_URL = "" }: KeySettings): boolean {
  return JWKS_URL !== "" && keySets.at(JWKS_URL).isFailing;
}

let inlineText: string | undefined;
let inline: readonly VerificationKey[] | undefined;

async function inlineKeys(text: string): Promise<readonly VerificationKey[] | undefined> {
  if (text === inlineText) return inline;
  try {
    inline = await parseKeySet(text);
  } catch (error) {
    if (!(error instanceof KeySetError)) throw error;
    inline = undefined;
    logJson<TokenProblem>("error", "KeysUnavailable", { why: `KEYS: ${error.message}` });
  }
  inlineText = text;
  return inline;
}

const keySets = new RefreshedUrls("key set", JWKS_OCTETS, parseKeySet);

/**
 * Parses a key set. Keys of other types or uses are ignored.
 *
 * @throws KeySetError
 */
export async function parseKeySet(text: string): Promise<readonly VerificationKey[]> {
  const all = jwksOf(text);
  if (all.length > MOST_KEYS) throw new KeySetError(`it has ${all.length} keys: keep at most ${MOST_KEYS}`);
  const found = await Promise.all(all.map(importKey));
  const keys = found.filter((key) => key !== undefined);
  if (keys.length === 0) throw new KeySetError("it has no key for EdDSA (kty OKP, crv Ed25519) or HS256 (kty oct)");
  const kids = keys.flatMap(({ kid }) => kid ?? []);
  if (new Set(kids).size < kids.length) throw new KeySetError("two of its keys have the same kid: give each its own");
  return keys;
}

function jwksOf(text: string): readonly unknown[] {
  let set: unknown;
  try {
    set = JSON.parse(text);
  } catch {
    throw new KeySetError('it is not JSON: write {"keys":[...]}');
  }
  const keys = typeof set === "object" && set !== null && "keys" in set ? set.keys : undefined;
  if (!Array.isArray(keys)) throw new KeySetError('it has no list of keys: write {"keys":[...]}');
  return keys;
}

async function importKey(jwk: unknown): Promise<VerificationKey | undefined> {
  if (typeof jwk !== "object" || jwk === null) throw new KeySetError("one of its keys is not an object");
  const { kty, crv, alg, kid, use, key_ops: operations, d, x, k } = jwk as Record<string, unknown>;
  if (kid !== undefined && typeof kid !== "string") throw new KeySetError("the kid of one of its keys is not a string");
  if (use !== undefined && use !== "sig") return undefined;
  if (operations !== undefined && !(Array.isArray(operations) && operations.includes("verify"))) return undefined;
  try {
    if (kty === "OKP" && crv === "Ed25519" && [undefined, "EdDSA", "Ed25519"].includes(alg as string | undefined)) {
      if (d !== undefined) {
        throw new KeySetError("one of its keys is a private key: configure the public one, which has no member d");
      }
      const key = await crypto.subtle.importKey("jwk", { kty, crv, x } as JWK & { kty: string }, "Ed25519", false, [
        "verify",
      ]);
      const thumbprint = await calculateJwkThumbprint({ kty, crv, x } as JWK);
      return { kid, algorithms: ["EdDSA", "Ed25519"], key, thumbprint };
    }
    if (kty === "oct" && (alg === undefined || alg === "HS256") && typeof k === "string") {
      const secret = base64url.decode(k);
      if (secret.length < SECRET_OCTETS) {
        throw new KeySetError(`one of its HS256 secrets has fewer than ${SECRET_OCTETS} bytes: make a longer one`);
      }
      const algorithm = { name: "HMAC", hash: "SHA-256" };
      const key = await crypto.subtle.importKey("raw", secret, algorithm, false, ["verify"]);
      return { kid, algorithms: ["HS256"], key, thumbprint: await calculateJwkThumbprint({ kty, k }) };
    }
  } catch (error) {
    if (error instanceof KeySetError) throw error;
    throw new KeySetError("one of its keys is damaged");
  }
  return undefined;
}
