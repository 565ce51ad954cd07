/**
 * Two relays prove to each other that they share a secret, which is never sent. The tokens ride in the commands that SSTP
 * has for authentication:
 *
 *   dialler                                                 acceptor
 *   Connect              hello: nonce, key ids          ─►
 *                        ◄─  challenge: key id, nonce, proof   ConnectResponse
 *   ConnectAuthenticate  proof                          ─►
 *
 * A proof is HMAC-SHA-256 over a label, who proves it (so that it cannot be sent back), both names, and the hello and the
 * challenge word for word (so that it is good for this connection only). Neither side takes or hands over anything before
 * it has checked the other's proof. A proof says who is at the other end; that nobody listens or interferes on the way is
 * for TLS to see to.
 *
 * Runs in the Worker and in Node: it needs WebCrypto and nothing else.
 *
 * @module
 */
import type { CryptoKey } from "jose";
import { AddressError, parseURL, relayURL } from "../sstp/index.ts";

/** Octets of a secret: as strong as the hash at least, and not longer than its block. */
const LEAST_SECRET = 32;
const MOST_SECRET = 64;

/** Octets of a nonce: it must never come twice, and nobody may guess it. */
const NONCE = 32;

/** Octets of a key id: enough to tell a few keys apart. It is a MAC of the key, and says nothing of it. */
const KEY_ID = 9;

/** Secrets of one pair that are good at a time: an old one, a new one, and room for a slip. */
const SECRETS_OF_PAIR = 4;

/** Relays in one setting: an operator who has more has another problem. */
const RELAYS = 1000;

const LABEL = "grooveway-link-1";

/** What a relay is trusted by: secrets of the pair, or nothing, when the operator has said so. */
export type LinkTrust =
  | { readonly type: "secrets"; readonly secrets: readonly Uint8Array[] }
  | { readonly type: "none" };

/** What the operator has said of relays, by URL. */
export type LinkSecrets = ReadonlyMap<string, LinkTrust>;

/** An entry that cannot be read. It names the relay and never the secret. */
export interface MalformedSecrets {
  readonly entry: string;
  readonly problem: string;
}

/** The names of both ends, as URLs in the one way that they are written. */
export interface Ends {
  readonly dialler: string;
  readonly acceptor: string;
}

type Prover = keyof Ends;

/** The one URL of a relay; undefined when the text is no relay's URL. */
export function relayNamed(url: string): string | undefined {
  try {
    const named = parseURL(url);
    return named.kind === "relay" ? relayURL(named.relay) : undefined;
  } catch (error) {
    if (error instanceof AddressError) return undefined;
    throw error;
  }
}

/**
 * Reads the setting LINK_SECRETS: entries separated by commas, spaces or new lines, from a `#` to the end of its line a
 * comment. `NAME=SECRET` is the secret shared with a relay, in base64url; several for one name are all good, so that a
 * secret can be replaced. `NAME=none` lets that relay be linked without a proof.
 *
 * @example
 * parseLinkSecrets("relay.example.com=mBq... old.example.com=none");
 */
export function parseLinkSecrets(text: string): LinkSecrets | MalformedSecrets {
  const all = new Map<string, LinkTrust>();
  const entries = text.replace(/#[^\r\n]*/g, " ").split(/[\s,]+/);
  for (const entry of entries) {
    if (entry === "") continue;
    const at = entry.indexOf("=");
    if (at <= 0) return { entry: "", problem: "has an entry without a name and =" };
    const name = entry.slice(0, at);
    const url = relayNamed(`grooveDNS://${name}`);
    if (url === undefined) return { entry: name, problem: "is no relay's name" };
    const value = entry.slice(at + 1);
    const before = all.get(url);
    if (value === "none") {
      if (before?.type === "secrets") return { entry: name, problem: "has a secret, and none beside it" };
      all.set(url, { type: "none" });
    } else {
      if (before?.type === "none") return { entry: name, problem: "has a secret, and none beside it" };
      const secret = fromBase64URL(value.replace(/=+$/, ""));
      if (secret === undefined || secret.length < LEAST_SECRET || secret.length > MOST_SECRET) {
        return {
          entry: name,
          problem: `has a secret that is not ${LEAST_SECRET} to ${MOST_SECRET} octets in base64url`,
        };
      }
      const secrets = [...(before?.secrets ?? []), secret];
      if (secrets.length > SECRETS_OF_PAIR) {
        return { entry: name, problem: `has more than ${SECRETS_OF_PAIR} secrets` };
      }
      all.set(url, { type: "secrets", secrets });
    }
    if (all.size > RELAYS) return { entry: name, problem: `is the name of one relay too many: there may be ${RELAYS}` };
  }
  return all;
}

/** A new secret, as `LINK_SECRETS` has it. */
export function newLinkSecret(): string {
  return toBase64URL(crypto.getRandomValues(new Uint8Array(LEAST_SECRET)));
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

  /** @param secrets those of the pair: the acceptor chooses the first that it has as well */
  static async begin(secrets: readonly Uint8Array[], ends: Ends): Promise<DiallerProof> {
    return new DiallerProof(ends, await keysOf(secrets), newNonce());
  }

  /** The token of ConnectAuthenticate for that of ConnectResponse; undefined when the acceptor has not proved itself. */
  async answer(challenge: Uint8Array): Promise<Uint8Array | undefined> {
    const [, id, nonce, proof] = CHALLENGE.exec(decode(challenge)) ?? [];
    const key = this.#keys.get(id ?? "");
    if (key === undefined || id === undefined || nonce === undefined || proof === undefined) return undefined;
    const transcript = { ends: this.#ends, hello: this.hello, challenge: challengeHead(id, nonce) };
    if (!(await isProof(key, "acceptor", transcript, proof))) return undefined;
    return encode(`${LABEL} proof ${await prove(key, "dialler", transcript)}`);
  }
}

/** The side that is connected to. */
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

  /** Undefined when the hello is none, or names no secret that this side has. */
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

  /** Whether the token of ConnectAuthenticate proves the dialler. There is one try. */
  async verify(token: Uint8Array): Promise<boolean> {
    const [, proof] = PROOF.exec(decode(token)) ?? [];
    if (this.#used || proof === undefined) return false;
    this.#used = true;
    return isProof(this.#key, "dialler", this.#transcript, proof);
  }
}

/** What both sides have said before a proof. */
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

/** The longest token of these. What is longer is not looked at. */
const LONGEST_TOKEN = 256;

function challengeHead(id: string, nonce: string): string {
  return `${LABEL} challenge ${id} ${nonce}`;
}

async function prove(key: CryptoKey, prover: Prover, transcript: Transcript): Promise<string> {
  return toBase64URL(new Uint8Array(await crypto.subtle.sign("HMAC", key, signed(prover, transcript))));
}

/** WebCrypto compares in constant time. */
async function isProof(key: CryptoKey, prover: Prover, transcript: Transcript, proof: string): Promise<boolean> {
  const octets = fromBase64URL(proof);
  return octets !== undefined && crypto.subtle.verify("HMAC", key, octets, signed(prover, transcript));
}

/** Nothing in it can contain a line's end, so no two transcripts give the same octets. */
function signed(prover: Prover, { ends, hello, challenge }: Transcript): Uint8Array<ArrayBuffer> {
  return encode([LABEL, prover, ends.dialler, ends.acceptor, decode(hello), challenge].join("\n"));
}

async function keysOf(secrets: readonly Uint8Array[]): Promise<ReadonlyMap<string, CryptoKey>> {
  const keys = await Promise.all(
    secrets.map(async (secret) => {
      const algorithm = { name: "HMAC", hash: "SHA-256" };
      const key = await crypto.subtle.importKey("raw", secret.slice(), algorithm, false, ["sign", "verify"]);
      const mac = new Uint8Array(await crypto.subtle.sign("HMAC", key, encode(`${LABEL} key id`)));
      return [toBase64URL(mac.subarray(0, KEY_ID)), key] as const;
    }),
  );
  return new Map(keys);
}

function newNonce(): string {
  return toBase64URL(crypto.getRandomValues(new Uint8Array(NONCE)));
}

function toBase64URL(octets: Uint8Array): string {
  return btoa(String.fromCharCode(...octets))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replace(/=+$/, "");
}

/** Undefined for what is not base64url, or not written in its one way. */
function fromBase64URL(text: string): Uint8Array<ArrayBuffer> | undefined {
  if (!/^[A-Za-z0-9_-]+$/.test(text) || text.length % 4 === 1) return undefined;
  const octets = new Uint8Array([...atob(text.replaceAll("-", "+").replaceAll("_", "/"))].map((c) => c.charCodeAt(0)));
  return toBase64URL(octets) === text ? octets : undefined;
}

function encode(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new TextEncoder().encode(text));
}

function decode(octets: Uint8Array): string {
  return octets.length > LONGEST_TOKEN ? "" : new TextDecoder("latin1").decode(octets);
}
