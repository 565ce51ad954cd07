/**
 * The Noise Protocol Framework, revision 34: patterns IK and XX with X25519 and SHA-256. Section numbers are of its text.
 *
 * Pure: the maker of a handshake passes the random octets of the ephemeral key.
 *
 * @module
 */
import { x25519 } from "@noble/curves/ed25519.js";
import { hmac } from "@noble/hashes/hmac.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { joinOctets } from "../lib/octets.ts";
import type { CipherSuite } from "./ciphers.ts";
import { nonceOf, TAG_OCTETS } from "./ciphers.ts";

/** Octets of a key, secret or public, and of a hash. */
export const KEY_OCTETS = 32;

type Token = "e" | "s" | "ee" | "es" | "se" | "ss";

/** The message patterns [7.5]. In IK the initiator knows the responder's static key before. */
const PATTERNS = {
  IK: [
    ["e", "es", "s", "ss"],
    ["e", "ee", "se"],
  ],
  XX: [["e"], ["e", "ee", "s", "es"], ["s", "se"]],
} as const satisfies Record<string, readonly (readonly Token[])[]>;

/** A handshake pattern. */
export type Pattern = keyof typeof PATTERNS;

/** A handshake message is not what the other side of this handshake would have written. */
export class NoiseError extends Error {
  constructor(problem: string) {
    super(`the handshake fails: ${problem}`);
    this.name = "NoiseError";
  }
}

export interface NoiseOptions {
  readonly pattern: Pattern;
  readonly initiator: boolean;
  readonly suite: CipherSuite;
  /** What both sides must agree on. */
  readonly prologue: Uint8Array;
  /** This side's static key. */
  readonly staticSecret: Uint8Array;
  /** 32 random octets, used for this handshake only. */
  readonly ephemeralSecret: Uint8Array;
  /** The responder's static key: for the initiator of IK. */
  readonly peerStatic?: Uint8Array | undefined;
}

/** Keys of a finished handshake. */
export interface TransportKeys {
  readonly send: Uint8Array;
  readonly receive: Uint8Array;
}

const NOTHING = new Uint8Array(0);

/** The public key of a secret key. */
export function publicKeyOf(secret: Uint8Array): Uint8Array {
  return x25519.getPublicKey(secret);
}

function agreed(secret: Uint8Array, theirs: Uint8Array): Uint8Array {
  try {
    return x25519.getSharedSecret(secret, theirs);
  } catch {
    throw new NoiseError("a public key is of low order");
  }
}

/** HKDF with two outputs [4.3]. */
function twoKeys(chainingKey: Uint8Array, input: Uint8Array): readonly [Uint8Array, Uint8Array] {
  const secret = hmac(sha256, chainingKey, input);
  const first = hmac(sha256, secret, Uint8Array.of(1));
  const second = hmac(sha256, secret, joinOctets([first, Uint8Array.of(2)], KEY_OCTETS + 1));
  return [first, second];
}

/** SymmetricState [5.2], with its CipherState [5.1]. */
class Symmetric {
  readonly #suite: CipherSuite;
  #chainingKey: Uint8Array;
  #hash: Uint8Array;
  #key: Uint8Array | undefined;
  #number = 0;

  constructor(name: string, suite: CipherSuite) {
    this.#suite = suite;
    const text = new TextEncoder().encode(name);
    this.#hash = new Uint8Array(KEY_OCTETS);
    // All names here fit; longer ones would be hashed.
    this.#hash.set(text);
    this.#chainingKey = this.#hash;
  }

  get hash(): Uint8Array {
    return this.#hash;
  }

  get tagOctets(): number {
    return this.#key === undefined ? 0 : TAG_OCTETS;
  }

  mixHash(octets: Uint8Array): void {
    this.#hash = sha256(joinOctets([this.#hash, octets], this.#hash.length + octets.length));
  }

  mixKey(input: Uint8Array): void {
    [this.#chainingKey, this.#key] = twoKeys(this.#chainingKey, input);
    this.#number = 0;
  }

  encryptAndHash(plain: Uint8Array): Uint8Array {
    let sealed = plain;
    if (this.#key !== undefined) {
      sealed = new Uint8Array(plain.length + TAG_OCTETS);
      this.#suite.cipher(this.#key).seal(this.#nonce(), this.#hash, plain, sealed);
    }
    this.mixHash(sealed);
    return sealed;
  }

  decryptAndHash(sealed: Uint8Array): Uint8Array {
    const plain =
      this.#key === undefined ? sealed : this.#suite.cipher(this.#key).open(this.#nonce(), this.#hash, sealed);
    if (plain === undefined) throw new NoiseError("a key, an address, the suite or the message differs");
    this.mixHash(sealed);
    return plain;
  }

  split(): readonly [Uint8Array, Uint8Array] {
    return twoKeys(this.#chainingKey, NOTHING);
  }

  #nonce(): Uint8Array {
    return nonceOf(this.#suite, this.#number++);
  }
}

/**
 * One side of a handshake: HandshakeState [5.3]. The sides write and read in turn, the initiator first, until `finished`.
 */
export class NoiseHandshake {
  readonly #symmetric: Symmetric;
  readonly #messages: readonly (readonly Token[])[];
  readonly #initiator: boolean;
  readonly #static: Uint8Array;
  readonly #ephemeral: Uint8Array;
  #theirStatic: Uint8Array | undefined;
  #theirEphemeral: Uint8Array | undefined;
  #turn = 0;

  /** @throws NoiseError if the initiator of IK does not pass the responder's key */
  constructor(options: NoiseOptions) {
    const { pattern, initiator, suite, prologue, staticSecret, ephemeralSecret, peerStatic } = options;
    this.#messages = PATTERNS[pattern];
    this.#initiator = initiator;
    this.#static = staticSecret;
    this.#ephemeral = ephemeralSecret;
    this.#symmetric = new Symmetric(`Noise_${pattern}_25519_${suite.name}_SHA256`, suite);
    this.#symmetric.mixHash(prologue);
    if (pattern !== "IK") return;
    const responder = initiator ? peerStatic : publicKeyOf(staticSecret);
    if (responder === undefined) throw new NoiseError("IK needs the responder's key: pass it, or use XX");
    this.#symmetric.mixHash(responder);
    if (initiator) this.#theirStatic = responder;
  }

  /** Whether all messages have been written and read. */
  get finished(): boolean {
    return this.#turn === this.#messages.length;
  }

  /** The other side's static key; undefined before it is known. Proven only when `finished`. */
  get peerStatic(): Uint8Array | undefined {
    return this.#theirStatic;
  }

  /** The handshake hash [11.2]: names this handshake. */
  get hash(): Uint8Array {
    return this.#symmetric.hash;
  }

  /** Writes the next message. */
  write(payload: Uint8Array): Uint8Array {
    const parts: Uint8Array[] = [];
    for (const token of this.#messages[this.#turn] ?? []) {
      if (token === "e") {
        const key = publicKeyOf(this.#ephemeral);
        this.#symmetric.mixHash(key);
        parts.push(key);
      } else if (token === "s") parts.push(this.#symmetric.encryptAndHash(publicKeyOf(this.#static)));
      else this.#mixAgreed(token);
    }
    parts.push(this.#symmetric.encryptAndHash(payload));
    this.#turn += 1;
    return joinOctets(
      parts,
      parts.reduce((sum, part) => sum + part.length, 0),
    );
  }

  /**
   * Reads the next message. Returns its payload.
   *
   * @throws NoiseError if the message is not genuine. The handshake is then over: do not call it again
   */
  read(message: Uint8Array): Uint8Array {
    // Copied: keys are kept. A Buffer's slice would be a view.
    const octets = new Uint8Array(message);
    let at = 0;
    const next = (length: number): Uint8Array => {
      if (octets.length - at < length) throw new NoiseError("a message is cut off");
      at += length;
      return octets.subarray(at - length, at);
    };
    for (const token of this.#messages[this.#turn] ?? []) {
      if (token === "e") {
        this.#theirEphemeral = next(KEY_OCTETS);
        this.#symmetric.mixHash(this.#theirEphemeral);
      } else if (token === "s") {
        this.#theirStatic = this.#symmetric.decryptAndHash(next(KEY_OCTETS + this.#symmetric.tagOctets));
      } else this.#mixAgreed(token);
    }
    const payload = this.#symmetric.decryptAndHash(octets.subarray(at));
    this.#turn += 1;
    return payload;
  }

  /** The keys of both directions, when `finished`. */
  split(): TransportKeys {
    const [ofInitiator, ofResponder] = this.#symmetric.split();
    return this.#initiator ? { send: ofInitiator, receive: ofResponder } : { send: ofResponder, receive: ofInitiator };
  }

  /** In a token of two letters the first is the initiator's key, the second the responder's. */
  #mixAgreed(token: "ee" | "es" | "se" | "ss"): void {
    const mine = token[this.#initiator ? 0 : 1] === "e" ? this.#ephemeral : this.#static;
    const theirs = token[this.#initiator ? 1 : 0] === "e" ? this.#theirEphemeral : this.#theirStatic;
    if (theirs === undefined) throw new NoiseError("a key is missing");
    this.#symmetric.mixKey(agreed(mine, theirs));
  }
}
