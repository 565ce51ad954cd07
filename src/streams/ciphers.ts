/**
 * The ciphers of Noise [Noise 12]: ChaChaPoly and AESGCM. These are in JavaScript, for every runtime; a platform that
 * has faster ones passes its own, under the same names.
 *
 * @module
 */
import { gcm } from "@noble/ciphers/aes.js";
import { chacha20poly1305 } from "@noble/ciphers/chacha.js";

/** Octets of an authentication tag, which follows the ciphertext. */
export const TAG_OCTETS = 16;

/** A cipher with its key. Nonces have 12 octets. */
export interface Cipher {
  /** Encrypts `plain` into `sealed`, which is TAG_OCTETS longer and does not overlap it. */
  seal(nonce: Uint8Array, associated: Uint8Array, plain: Uint8Array, sealed: Uint8Array): void;

  /** Decrypts into new memory; undefined if the tag does not match. */
  open(nonce: Uint8Array, associated: Uint8Array, sealed: Uint8Array): Uint8Array | undefined;
}

/** A cipher function by its name in Noise. */
export interface CipherSuite {
  readonly name: "ChaChaPoly" | "AESGCM";
  /** @param key 32 octets */
  readonly cipher: (key: Uint8Array) => Cipher;
}

/** Opens what is long enough to have a tag. */
function opened(sealed: Uint8Array, decrypt: (sealed: Uint8Array) => Uint8Array): Uint8Array | undefined {
  if (sealed.length < TAG_OCTETS) return undefined;
  try {
    return decrypt(sealed);
  } catch {
    return undefined;
  }
}

/** Fast in JavaScript too, and in constant time. */
export const CHACHA_POLY: CipherSuite = {
  name: "ChaChaPoly",
  cipher: (key) => ({
    seal: (nonce, associated, plain, sealed) => {
      chacha20poly1305(key, nonce, associated).encrypt(plain, sealed);
    },
    open: (nonce, associated, sealed) =>
      opened(sealed, (octets) => chacha20poly1305(key, nonce, associated).decrypt(octets)),
  }),
};

/** Fast only where the platform does it; this one is for peers whose platform does. */
export const AES_GCM: CipherSuite = {
  name: "AESGCM",
  cipher: (key) => ({
    seal: (nonce, associated, plain, sealed) => sealed.set(gcm(key, nonce, associated).encrypt(plain)),
    open: (nonce, associated, sealed) => opened(sealed, (octets) => gcm(key, nonce, associated).decrypt(octets)),
  }),
};

/** The nonce of a number [Noise 12.3, 12.4]: 32 zero bits, and 64 bits with the suite's byte order. */
export function nonceOf({ name }: CipherSuite, number: number): Uint8Array {
  const nonce = new Uint8Array(12);
  const view = new DataView(nonce.buffer);
  const [high, low] = [Math.floor(number / 2 ** 32), number >>> 0];
  if (name === "AESGCM") {
    view.setUint32(4, high);
    view.setUint32(8, low);
  } else {
    view.setUint32(4, low, true);
    view.setUint32(8, high, true);
  }
  return nonce;
}

const NOTHING = new Uint8Array(0);
const REKEY_NONCE = Uint8Array.of(0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255);

/** The key after a key [Noise 11.3]. */
export function nextKey(suite: CipherSuite, key: Uint8Array): Uint8Array {
  const sealed = new Uint8Array(key.length + TAG_OCTETS);
  suite.cipher(key).seal(REKEY_NONCE, NOTHING, new Uint8Array(key.length), sealed);
  return sealed.slice(0, key.length);
}
