/** A token issuer for tests: keys of both kinds, and valid and invalid tokens. */
import { exportJWK, generateKeyPair, type JWK, SignJWT } from "jose";

/** The RELAY_NAME that tokens are for, unless a test says otherwise. */
export const AUDIENCE = "127.0.0.1";

export interface Claims {
  readonly aud?: unknown;
  readonly address?: unknown;
  readonly scope?: unknown;
  readonly jti?: unknown;
  readonly sub?: unknown;
  /** Seconds since 1970. */
  readonly exp?: unknown;
  readonly nbf?: unknown;
  readonly iat?: unknown;
}

export interface Issuer {
  readonly kid: string;
  /** The key given to the edge: public, unless the key is itself a secret. */
  readonly jwk: JWK;
  /** The same key as a private key. */
  readonly privateJwk: JWK;
  issue(claims?: Claims, header?: Record<string, unknown>): Promise<string>;
}

export async function ed25519(kid = "first"): Promise<Issuer> {
  const { publicKey, privateKey } = await generateKeyPair("EdDSA", { extractable: true });
  return issuer(kid, "EdDSA", privateKey, await exportJWK(publicKey), await exportJWK(privateKey));
}

export async function hs256(kid = "secret"): Promise<Issuer> {
  const secret = crypto.getRandomValues(new Uint8Array(32));
  const jwk = { kty: "oct", k: Buffer.from(secret).toString("base64url") };
  return issuer(kid, "HS256", secret, jwk, jwk);
}

function issuer(kid: string, alg: string, key: CryptoKey | Uint8Array, jwk: JWK, privateJwk: JWK): Issuer {
  let count = 0;
  return {
    kid,
    jwk: { ...jwk, kid, alg },
    privateJwk: { ...privateJwk, kid, alg },
    issue(claims = {}, header = {}) {
      count += 1;
      const all = {
        aud: AUDIENCE,
        address: "alice/laptop",
        scope: "connect receive send:*",
        jti: `${kid}-${count}-${Math.random().toString(36).slice(2)}`,
        exp: Math.floor(Date.now() / 1000) + 3600,
        ...claims,
      };
      // Undefined values are omitted from the JSON.
      return new SignJWT(all as never).setProtectedHeader({ alg, kid, ...header }).sign(key);
    },
  };
}

export function jwks(...issuers: readonly Issuer[]): string {
  return JSON.stringify({ keys: issuers.map(({ jwk }) => jwk) });
}

/** A token built by hand: header and claims as given, signed by `sign`. */
export async function forged(
  header: unknown,
  claims: unknown,
  sign: (octets: Uint8Array) => Promise<Uint8Array> | Uint8Array,
): Promise<string> {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part(header)}.${part(claims)}`;
  return `${signed}.${Buffer.from(await sign(Buffer.from(signed))).toString("base64url")}`;
}
