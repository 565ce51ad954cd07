/**
 * Two relays prove to each other that they share a secret, which is never sent. The tokens travel in SSTP's
 * authentication commands:
 *
 *   dialler                                                 acceptor
 *   Connect              hello: nonce, key ids          ─►
 *                        ◄─  challenge: key id, nonce, proof   ConnectResponse
 *   ConnectAuthenticate  proof                          ─►
 *
 * A proof is HMAC-SHA-256 over a label, the prover's role (so that a proof cannot be reflected), both names, and the
 * hello and the challenge verbatim (so that it is valid for this connection only). Neither side takes or hands over
 * anything before it has checked the other's proof. A proof identifies the other end; protection against eavesdropping
 * and tampering is left to TLS.
 *
 * Runs in the Worker and in Node, and needs only WebCrypto.
 *
 * @module
 */
import type { CryptoKey } from "jose";
import { decodeBase64url, encodeBase64url } from "../lib/base64url.ts";
import { entriesOf, malformed, type Setting } from "../lib/setting.ts";
import { parseURL, relayURL } from "../sstp/index.ts";

/** Bytes of a secret: at least as strong as the hash, and not longer than its block. */
const LEAST_SECRET = 32;
const MOST_SECRET = 64;

/** Bytes of a nonce, which must be unique and unpredictable. */
const NONCE = 32;

/** Bytes of a key id: enough to tell a few keys apart. It is a MAC of the key, and reveals nothing of it. */
const KEY_ID = 9;

/** Secrets of one pair that are valid at a time: an old one, a new one, and room for a mistake. */
const SECRETS_OF_PAIR = 4;

/** Maximum relays in one setting. An operator with more has another problem. */
const RELAYS = 1000;

const LABEL = "grooveway-link-1";

/** How a relay is trusted: by secrets of the pair, or without a proof, if the operator says so. */
export type LinkTrust =
  | { readonly type: "secrets"; readonly secrets: readonly Uint8Array[] }
  | { readonly type: "none" };

/** The operator's trust in relays, by URL. */
export type LinkSecrets = ReadonlyMap<string, LinkTrust>;

/** The names of both ends, as canonical URLs. */
export interface Ends {
  readonly dialler: string;
  readonly acceptor: string;
}

type Prover = keyof Ends;

/** Returns the canonical URL of a relay; undefined if the text is not the URL of a relay. */
export function relayNamed(url: string): string | undefined {
  const named = parseURL(url);
  return named.ok && named.value.kind === "relay" ? relayURL(named.value.relay) : undefined;
}

/**
 * Reads LINK_SECRETS: entries separated by commas, spaces or new lines; a `#` starts a comment to the end of its line.
 * `NAME=SECRET` is the secret shared with a relay, in base64url. Several for one name are all valid, so that a secret
 * can be replaced. `NAME=none` lets that relay be linked without a proof. A problem names the relay, never the secret.
 *
 * @example
 * readLinkSecrets("relay.example.com=mBq... old.example.com=none");
 */
export function readLinkSecrets(text: string): Setting<LinkSecrets> {
  const all = new Map<string, LinkTrust>();
  for (const entry of entriesOf(text.replace(/#[^\r\n]*/g, " "))) {
    const at = entry.indexOf("=");
    if (at <= 0) return unreadable("has an entry that is not NAME=SECRET");
    const name = entry.slice(0, at);
    const url = relayNamed(`grooveDNS://${name}`);
    if (url === undefined) return unreadable("is not the name of a relay", name);
    const value = entry.slice(at + 1);
    const before = all.get(url);
    if (value === "none") {
      if (before?.type === "secrets") return unreadable("has both a secret and none", name);
      all.set(url, { type: "none" });
    } else {
      if (before?.type === "none") return unreadable("has both a secret and none", name);
      const secret = canonicalOctets(value.replace(/=+$/, ""));
      if (secret === undefined || secret.length < LEAST_SECRET || secret.length > MOST_SECRET) {
        return unreadable(`has a secret that is not ${LEAST_SECRET} to ${MOST_SECRET} bytes in base64url`, name);
      }
      const secrets = [...(before?.secrets ?? []), secret];
      if (secrets.length > SECRETS_OF_PAIR) return unreadable(`has more than ${SECRETS_OF_PAIR} secrets`, name);
      all.set(url, { type: "secrets", secrets });
    }
    if (all.size > RELAYS) return unreadable(`is one relay too many: there may be ${RELAYS}`, name);
  }
  return { ok: true, value: all };
}

function unreadable(problem: string, name?: string): Setting<never> {
  const cure = "write NAME=SECRET, with a secret from grooveway token secret, or NAME=none (--link-secret)";
  return malformed(
    "LINK_SECRETS",
    name === undefined ? problem : `has ${JSON.stringify(name)}, which ${problem}`,
    cure,
  );
}

/** Returns a new secret in the format of `LINK_SECRETS`. */
export function newLinkSecret(): string {
  return encodeBase64url(crypto.getRandomValues(new Uint8Array(LEAST_SECRET)));
}

/** The side that makes the connection. */
export class DiallerProof {
  /** The token of Connect. */
  readonly hello: Uint8Array;
  readonly #ends: Ends;
  readonly #keys: ReadonlyMap<string, CryptoKey>;

  private constructor(ends: Ends, keys: ReadonlyMap<string, CryptoKey>, nonce: string) {
    this.#ends = ends;
    this.#keys = keys;
    this.hello = encode(`${LABEL} hello ${nonce} ${[...keys.keys()].join(",")}`);
  }

  /** @param secrets those of the pair; the acceptor chooses the first that it knows too */
  static async begin(secrets: readonly Uint8Array[], ends: Ends): Promise<DiallerProof> {
    return new DiallerProof(ends, await keysOf(secrets), newNonce());
  }

  /**
   * Returns the token of ConnectAuthenticate for that of ConnectResponse; undefined if the acceptor's proof is wrong.
   */
  async answer(challenge: Uint8Array): Promise<Uint8Array | undefined> {
    const [, id, nonce, proof] = CHALLENGE.exec(decode(challenge)) ?? [];
    const key = this.#keys.get(id ?? "");
    if (key === undefined || id === undefined || nonce === undefined || proof === undefined) return undefined;
    const transcript = { ends: this.#ends, hello: this.hello, challenge: challengeHead(id, nonce) };
    if (!(await isProof(key, "acceptor", transcript, proof))) return undefined;
    return encode(`${LABEL} proof ${await prove(key, "dialler", transcript)}`);
  }
}

/** The side that accepts the connection. */
export class AcceptorProof {
  /** The token of ConnectResponse. */
  readonly challenge: Uint8Array;
  readonly #key: CryptoKey;
  readonly #transcript: Transcript;
  #used = false;

  private constructor(key: CryptoKey, transcript: Transcript, proof: string) {
    this.#key = key;
    this.#transcript = transcript;
    this.challenge = encode(`${transcript.challenge} ${proof}`);
  }

  /** Undefined if the hello is malformed, or names no secret that this side knows. */
  static async begin(
    secrets: readonly Uint8Array[],
    ends: Ends,
    hello: Uint8Array,
  ): Promise<AcceptorProof | undefined> {
    const [, , ids = ""] = HELLO.exec(decode(hello)) ?? [];
    const keys = await keysOf(secrets);
    const id = ids.split(",").find((one) => keys.has(one));
    const key = keys.get(id ?? "");
    if (id === undefined || key === undefined) return undefined;
    const transcript = { ends, hello: hello.slice(), challenge: challengeHead(id, newNonce()) };
    return new AcceptorProof(key, transcript, await prove(key, "acceptor", transcript));
  }

  /** Whether the token of ConnectAuthenticate proves the dialler. Only one try is allowed. */
  async verify(token: Uint8Array): Promise<boolean> {
    const [, proof] = PROOF.exec(decode(token)) ?? [];
    if (this.#used || proof === undefined) return false;
    this.#used = true;
    return isProof(this.#key, "dialler", this.#transcript, proof);
  }
}

/** What both sides have sent before a proof. */
interface Transcript {
  readonly ends: Ends;
  readonly hello: Uint8Array;
  /** The challenge without its proof. */
  readonly challenge: string;
}

const word = (octets: number) => `[A-Za-z0-9_-]{${Math.ceil((octets * 4) / 3)}}`;
const ID = word(KEY_ID);
const HELLO = new RegExp(`^${LABEL} hello (${word(NONCE)}) (${ID}(?:,${ID}){0,${SECRETS_OF_PAIR - 1}})$`);
const CHALLENGE = new RegExp(`^${LABEL} challenge (${ID}) (${word(NONCE)}) (${word(32)})$`);
const PROOF = new RegExp(`^${LABEL} proof (${word(32)})$`);

/** The longest of these tokens. A longer one is not parsed. */
const LONGEST_TOKEN = 256;

function challengeHead(id: string, nonce: string): string {
  return `${LABEL} challenge ${id} ${nonce}`;
}

async function prove(key: CryptoKey, prover: Prover, transcript: Transcript): Promise<string> {
  return encodeBase64url(new Uint8Array(await crypto.subtle.sign("HMAC", key, signed(prover, transcript))));
}

/** WebCrypto compares in constant time. */
async function isProof(key: CryptoKey, prover: Prover, transcript: Transcript, proof: string): Promise<boolean> {
  const octets = canonicalOctets(proof);
  return octets !== undefined && crypto.subtle.verify("HMAC", key, octets, signed(prover, transcript));
}

/** No part can contain a line break, so no two transcripts yield the same bytes. */
function signed(prover: Prover, { ends, hello, challenge }: Transcript): Uint8Array<ArrayBuffer> {
  return encode([LABEL, prover, ends.dialler, ends.acceptor, decode(hello), challenge].join("\n"));
}

async function keysOf(secrets: readonly Uint8Array[]): Promise<ReadonlyMap<string, CryptoKey>> {
  const keys = await Promise.all(
    secrets.map(async (secret) => {
      const algorithm = { name: "HMAC", hash: "SHA-256" };
      const key = await crypto.subtle.importKey("raw", secret.slice(), algorithm, false, ["sign", "verify"]);
      const mac = new Uint8Array(await crypto.subtle.sign("HMAC", key, encode(`${LABEL} key id`)));
      return [encodeBase64url(mac.subarray(0, KEY_ID)), key] as const;
    }),
  );
  return new Map(keys);
}

function newNonce(): string {
  return encodeBase64url(crypto.getRandomValues(new Uint8Array(NONCE)));
}

/** Undefined if the text is not canonical base64url. */
function canonicalOctets(text: string): Uint8Array<ArrayBuffer> | undefined {
  if (!/^[A-Za-z0-9_-]+$/.test(text) || text.length % 4 === 1) return undefined;
  const octets = decodeBase64url(text);
  return encodeBase64url(octets) === text ? octets : undefined;
}

function encode(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new TextEncoder().encode(text));
}

function decode(octets: Uint8Array): string {
  return octets.length > LONGEST_TOKEN ? "" : new TextDecoder("latin1").decode(octets);
}
