/**
 * HTTP Digest authentication [RFC 7616] with MD5 and SHA-256, and qop "auth" or none. Pure.
 *
 * @module
 */
import { createHash } from "node:crypto";
import type { Challenge } from "./challenge.ts";
import type { Credentials } from "./credentials.ts";

export type DigestHash = "md5" | "sha256";

/** The algorithms and whether each uses a session key. */
const ALGORITHMS: Readonly<Record<string, { readonly hash: DigestHash; readonly session: boolean }>> = {
  md5: { hash: "md5", session: false },
  "md5-sess": { hash: "md5", session: true },
  "sha-256": { hash: "sha256", session: false },
  "sha-256-sess": { hash: "sha256", session: true },
};

export interface DigestRequest {
  readonly method: string;
  /** The request target: `host:port` of CONNECT, or an absolute URL. */
  readonly uri: string;
  /** A random text of this client. */
  readonly cnonce: string;
  /** How often the nonce has been used, this time included. */
  readonly count: number;
}

/** The hash that a challenge asks for; undefined if it cannot be answered here. */
export function digestHash({ scheme, parameters }: Challenge): DigestHash | undefined {
  const algorithm = algorithmOf(parameters);
  const qop = parameters.get("qop");
  const isKnown = scheme === "digest" && algorithm !== undefined && parameters.has("nonce");
  // What goes back into a header must not break it.
  const isPlain = ["nonce", "realm", "opaque"].every((name) => /^[ -~]*$/.test(parameters.get(name) ?? ""));
  return isKnown && isPlain && (qop === undefined || hasAuth(qop)) ? algorithm.hash : undefined;
}

/** The value of Proxy-Authorization. The challenge must be one that `digestHash` accepts. */
export function digestAuthorization(challenge: Challenge, credentials: Credentials, request: DigestRequest): string {
  const { parameters } = challenge;
  const { hash, session } = algorithmOf(parameters) ?? { hash: "md5", session: false };
  const digest = (...parts: readonly string[]) => createHash(hash).update(parts.join(":"), "utf8").digest("hex");
  const { user, password } = credentials;
  const { method, uri, cnonce } = request;
  const [realm, nonce] = [parameters.get("realm") ?? "", parameters.get("nonce") ?? ""];
  const count = request.count.toString(16).padStart(8, "0");
  const secret = digest(user, realm, password);
  const key = session ? digest(secret, nonce, cnonce) : secret;
  const target = digest(method, uri);
  const hasQop = parameters.has("qop");
  const response = hasQop ? digest(key, nonce, count, cnonce, "auth", target) : digest(key, nonce, target);
  const algorithm = parameters.get("algorithm");
  const opaque = parameters.get("opaque");
  const fields = [
    /^[ -~]*$/.test(user) ? `username=${quoted(user)}` : `username*=UTF-8''${extended(user)}`,
    `realm=${quoted(realm)}`,
    `nonce=${quoted(nonce)}`,
    `uri=${quoted(uri)}`,
    `response="${response}"`,
    ...(algorithm === undefined ? [] : [`algorithm=${algorithm}`]),
    ...(hasQop ? ["qop=auth", `nc=${count}`] : []),
    ...(hasQop || session ? [`cnonce=${quoted(cnonce)}`] : []),
    ...(opaque === undefined ? [] : [`opaque=${quoted(opaque)}`]),
  ];
  return `Digest ${fields.join(", ")}`;
}

/** Whether the proxy only wants a newer nonce: the password was right. */
export function isStale({ parameters }: Challenge): boolean {
  return parameters.get("stale")?.toLowerCase() === "true";
}

function algorithmOf(parameters: ReadonlyMap<string, string>) {
  const name = (parameters.get("algorithm") ?? "MD5").toLowerCase();
  return Object.hasOwn(ALGORITHMS, name) ? ALGORITHMS[name] : undefined;
}

function hasAuth(qop: string): boolean {
  return qop.split(",").some((word) => word.trim().toLowerCase() === "auth");
}

function quoted(text: string): string {
  return `"${text.replace(/["\\]/g, "\\$&")}"`;
}

/** Percent-encodes a user name [RFC 8187 3.2]. */
function extended(text: string): string {
  return encodeURIComponent(text).replace(/['()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
}
