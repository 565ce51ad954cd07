/** `grooveway token`: creates keys and tokens, and inspects tokens. */
import { randomBytes } from "node:crypto";
import { readFile, rename, writeFile } from "node:fs/promises";
import {
  calculateJwkThumbprint,
  decodeJwt,
  decodeProtectedHeader,
  exportJWK,
  generateKeyPair,
  importJWK,
  type JWK,
  SignJWT,
} from "jose";
import { newLinkSecret } from "../../auth/relay-proof.ts";
import { readRights, unknownScopes } from "../../auth/scopes.ts";
import { authenticate } from "../../auth/verify-token.ts";
import { printable } from "../../lib/printable.ts";
import { CommandError } from "../command-error.ts";
import { secondsIn } from "../duration.ts";
import { type Command, parse, readText, unexpected, unreadable, usage } from "../parse-arguments.ts";

export const tokenCommand: Command = {
  help: `Usage: grooveway token keygen --out FILE [--keys FILE] [--id KID]
       grooveway token issue --key FILE --audience NAME --scope WORDS [--address PATTERN] [options]
       grooveway token inspect TOKEN|@FILE|- [--keys FILE] [--audience NAME]
       grooveway token secret

keygen creates an Ed25519 key. The private key stays with whoever issues tokens; the key set with its public half is
printed, for the edge. issue creates a token. inspect shows what a token contains, and verifies it with --keys. secret
prints a new secret for a link: give it to the edge and the relay with --link-secret, to each under the other's name.

  --out FILE         keygen: write the private key here (JWK); an existing file is not overwritten
  --keys FILE        keygen: add the public key to this key set instead of printing one; inspect: verify with this key set
  --id ID            keygen: the key's kid, default its thumbprint; issue: the token's jti, by which it can be revoked,
                     default random
  --key FILE         issue: the private key to sign with, a JWK: Ed25519, or oct (HS256)
  --audience NAME    the edge or relay that the token is for: one of its names (RELAY_NAME, --name)
  --address PATTERN  the address that the device may use: alice/laptop, alice/*, or * for any
  --scope WORDS      what the token allows: connect, receive, send:PATTERN, stream:PATTERN, origin:HOST:PORT, metrics,
                     admin; streams over HTTP: create:PATTERN, read:PATTERN, write:PATTERN. send:* is everyone, send:bob
                     the identity, send:bob/* all devices of bob; origin:*.example.com:443; read:app/**
  --expires TIME     how long the token is valid: 90s, 15m, 12h, 30d; default 30d
  --subject TEXT     whom the token is for (sub)
  --json             print JSON

Example: grooveway token keygen --out key.json > keys.json
         grooveway token issue --key key.json --audience edge.example.com --address 'alice/*' --scope 'connect receive send:*'`,

  async run(args) {
    const { values, positionals } = parse("token", args, {
      out: { type: "string" },
      keys: { type: "string" },
      id: { type: "string" },
      key: { type: "string" },
      audience: { type: "string" },
      address: { type: "string" },
      scope: { type: "string" },
      expires: { type: "string", default: "30d" },
      subject: { type: "string" },
      json: { type: "boolean", default: false },
    });
    const [action, token, ...more] = positionals;
    const given = action === "inspect" ? more : positionals.slice(1);
    if (given.length > 0) throw unexpected("token", given[0]);
    switch (action) {
      case "keygen":
        await keygen(values);
        return 0;
      case "issue":
        await issue(values);
        return 0;
      case "inspect":
        if (token === undefined) throw usage("token", "inspect needs a TOKEN, @FILE, or - for standard input");
        await inspect(await tokenText(token), values);
        return 0;
      case "secret":
        if (token !== undefined) throw unexpected("token", token);
        console.log(newLinkSecret());
        return 0;
      default:
        throw usage(
          "token",
          action === undefined
            ? "write keygen, issue, inspect or secret after token"
            : `${printable(action)} is not one of keygen, issue, inspect and secret`,
        );
    }
  },
};

async function keygen({ out, keys, id }: { out?: string; keys?: string; id?: string }): Promise<void> {
  if (out === undefined) throw usage("token", "keygen needs --out FILE for the private key");
  // Read the key set before writing anything: if it cannot be read, no key is created.
  const set = keys === undefined ? { keys: [] } : await keySetAt(keys);
  const { jwks, privateKey } = await newKey(id);
  if (set.keys.some((key) => key.kid === privateKey.kid)) {
    throw usage("token", `${keys} already has a key with the kid ${privateKey.kid}: choose another --id`);
  }
  const secret = `${JSON.stringify(privateKey, null, 2)}\n`;
  try {
    await writeFile(out, secret, { flag: "wx", mode: 0o600 });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new CommandError(
      "CannotWrite",
      code === "EEXIST"
        ? `${out} exists, and a key is never overwritten: choose another --out`
        : `cannot write ${out} (${code})`,
    );
  }
  const text = JSON.stringify({ keys: [...set.keys, ...jwks.keys] }, null, 2);
  if (keys === undefined) console.log(text);
  else {
    // Write and rename: an edge may be reading the file.
    await writeFile(`${keys}.new`, `${text}\n`);
    await rename(`${keys}.new`, keys);
  }
  console.error(`the private key is in ${out}: keep it only where tokens are issued`);
}

/** Creates a key. Returns the key set with its public half, for the edge, and the private key, for the issuer. */
export async function newKey(id?: string): Promise<{ readonly jwks: { keys: JWK[] }; readonly privateKey: JWK }> {
  const { publicKey, privateKey } = await generateKeyPair("EdDSA", { extractable: true });
  const jwk = await exportJWK(publicKey);
  const kid = id ?? (await calculateJwkThumbprint(jwk)).slice(0, 16);
  const common = { kid, alg: "EdDSA" };
  return { jwks: { keys: [{ ...jwk, ...common }] }, privateKey: { ...(await exportJWK(privateKey)), ...common } };
}

async function keySetAt(path: string): Promise<{ keys: JWK[] }> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return { keys: [] };
    throw unreadable(path, error);
  }
  const set: unknown = jsonOf(text);
  const keys = typeof set === "object" && set !== null && "keys" in set ? set.keys : undefined;
  if (!Array.isArray(keys)) throw new CommandError("KeysUnusable", `${path} is not a key set: write {"keys":[...]}`);
  return { keys: keys as JWK[] };
}

interface IssueOptions {
  readonly key?: string;
  readonly audience?: string;
  readonly address?: string;
  readonly scope?: string;
  readonly expires: string;
  readonly id?: string;
  readonly subject?: string;
  readonly json: boolean;
}

async function issue(options: IssueOptions): Promise<void> {
  const { key, audience, scope, address, subject, json } = options;
  if (key === undefined) throw usage("token", "issue needs --key FILE with the private key");
  if (audience === undefined)
    throw usage("token", "issue needs --audience NAME, the name of the edge (RELAY_NAME, --name)");
  if (scope === undefined) throw usage("token", "issue needs --scope, such as 'connect receive send:*'");
  checkRights(address, scope);
  const lifetime = lifetimeOf(options.expires);
  const id = options.id ?? randomBytes(12).toString("base64url");
  const expires = Math.floor(Date.now() / 1000) + lifetime;
  const token = await sign(JSON.parse(privateKeyText(key)) as JWK, {
    ...(address !== undefined && { address }),
    scope,
    aud: audience,
    jti: id,
    exp: expires,
    ...(subject !== undefined && { sub: subject }),
  });
  console.log(json ? JSON.stringify({ token, id, expires: new Date(expires * 1000).toISOString() }) : token);
}

/** The claims of a token. */
export interface TokenClaims {
  readonly address?: string;
  readonly scope: string;
  readonly aud: string;
  readonly jti: string;
  /** Seconds since 1970. */
  readonly exp: number;
  readonly sub?: string;
}

/**
 * Signs a token with a private key.
 *
 * @throws CommandError KeysUnusable
 */
export async function sign(jwk: JWK, claims: TokenClaims): Promise<string> {
  const alg = jwk.kty === "OKP" && jwk.crv === "Ed25519" ? "EdDSA" : jwk.kty === "oct" ? "HS256" : undefined;
  if (alg === undefined || (alg === "EdDSA" && jwk.d === undefined)) {
    throw new CommandError(
      "KeysUnusable",
      "the key is neither a private Ed25519 key nor an oct secret: make one with grooveway token keygen",
    );
  }
  try {
    const key = await importJWK(jwk, alg);
    const header = { alg, typ: "JWT", ...(jwk.kid !== undefined && { kid: jwk.kid }) };
    return await new SignJWT({ ...claims }).setProtectedHeader(header).setIssuedAt().sign(key);
  } catch {
    // Drop the original error: its message may contain key material.
    throw new CommandError(
      "KeysUnusable",
      "the key is damaged, or an HS256 secret that is too short: make one with grooveway token keygen",
    );
  }
}

function privateKeyText(path: string): string {
  const text = readText(path);
  if (jsonOf(text) === undefined)
    throw new CommandError("KeysUnusable", `${path} is not a JWK: make one with grooveway token keygen`);
  return text;
}

/**
 * Rejects scopes that the edge would ignore: here they are most likely typos.
 *
 * @throws CommandError Usage
 */
function checkRights(address: string | undefined, scope: string): void {
  const rights = readRights({ ...(address !== undefined && { address }), scope });
  if (!rights.ok) throw usage("token", rights.problems.message);
  const [unknown] = unknownScopes(scope);
  if (unknown !== undefined)
    throw usage("token", `${unknown} is not a scope: use connect, receive, send:PATTERN, stream:PATTERN or admin`);
  if (address === undefined && /\b(connect|receive)\b/.test(scope)) {
    throw usage("token", "the scopes connect and receive need --address, the address that the device may use");
  }
}

function lifetimeOf(text: string): number {
  const seconds = secondsIn(text);
  if (!seconds) throw usage("token", `--expires ${text} is not a time such as 90s, 15m, 12h or 30d`);
  return seconds;
}

interface InspectOptions {
  readonly keys?: string;
  readonly audience?: string;
  readonly json: boolean;
}

async function inspect(token: string, { keys, audience, json }: InspectOptions): Promise<void> {
  let header: ReturnType<typeof decodeProtectedHeader>;
  let claims: ReturnType<typeof decodeJwt>;
  try {
    header = decodeProtectedHeader(token);
    claims = decodeJwt(token);
  } catch {
    throw new CommandError("TokenInvalid", "the token is not a readable JWT: check that it is complete");
  }
  const times = (["iat", "nbf", "exp"] as const).flatMap((claim) => {
    const at = claims[claim];
    return typeof at === "number" ? [[claim, isoOf(at)] as const] : [];
  });
  const verified = keys === undefined ? undefined : await verify(token, readText(keys), audience ?? claims.aud);
  if (json) {
    console.log(JSON.stringify({ header, claims, verified: verified === undefined ? null : verified.type === "ok" }));
  } else {
    for (const [name, value] of Object.entries({ ...header, ...claims })) {
      const time = times.find(([claim]) => claim === name)?.[1];
      console.log(
        `${name.padEnd(8)} ${typeof value === "string" ? value : JSON.stringify(value)}${time ? `  ${time}` : ""}`,
      );
    }
    if (verified === undefined) console.log("not verified: give --keys FILE");
    else if (verified.type === "ok")
      console.log("verified: an edge with these keys admits it, unless it is revoked there");
  }
  if (verified?.type === "refused") {
    throw new CommandError("Refused", `an edge with these keys refuses it: ${verified.detail} [${verified.reason}]`);
  }
}

/** Verifies a token as an edge with these keys would. */
async function verify(token: string, keys: string, audience: unknown): ReturnType<typeof authenticate> {
  const name = Array.isArray(audience) ? audience[0] : audience;
  const settings = { KEYS: keys, RELAY_NAME: typeof name === "string" ? name : "" };
  return authenticate(token, settings, Date.now());
}

function isoOf(seconds: number): string {
  const date = new Date(seconds * 1000);
  return Number.isNaN(date.getTime()) ? "" : date.toISOString();
}

async function tokenText(text: string): Promise<string> {
  if (text === "-") {
    let all = "";
    for await (const chunk of process.stdin) all += chunk;
    return all.trim();
  }
  return (text.startsWith("@") ? readText(text.slice(1)) : text).trim();
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
