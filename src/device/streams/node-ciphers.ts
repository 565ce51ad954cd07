/**
 * The ciphers of Noise by Node, some ten times as fast as those in JavaScript.
 *
 * @module
 */
import { createCipheriv, createDecipheriv } from "node:crypto";
import { release } from "../../lib/octets.ts";
import { type CipherSuite, TAG_OCTETS } from "../../streams/index.ts";

function suite(name: CipherSuite["name"], algorithm: "chacha20-poly1305" | "aes-256-gcm"): CipherSuite {
  // Both algorithms have the same interface; the types know it of one name at a time.
  const cipherName = algorithm as "chacha20-poly1305";
  const options = { authTagLength: TAG_OCTETS };
  return {
    name,
    cipher: (key) => ({
      seal(nonce, associated, plain, sealed) {
        const cipher = createCipheriv(cipherName, key, nonce, options);
        if (associated.length > 0) cipher.setAAD(associated, { plaintextLength: plain.length });
        const octets = cipher.update(plain);
        sealed.set(octets);
        release(octets);
        cipher.final();
        sealed.set(cipher.getAuthTag(), plain.length);
      },
      open(nonce, associated, sealed) {
        const length = sealed.length - TAG_OCTETS;
        if (length < 0) return undefined;
        const decipher = createDecipheriv(cipherName, key, nonce, options);
        if (associated.length > 0) decipher.setAAD(associated, { plaintextLength: length });
        decipher.setAuthTag(sealed.subarray(length));
        const plain = decipher.update(sealed.subarray(0, length));
        try {
          decipher.final();
        } catch {
          return undefined;
        }
        // The application gets no Buffer, which has other methods.
        return new Uint8Array(plain.buffer, plain.byteOffset, plain.length);
      },
    }),
  };
}

export const NODE_CHACHA_POLY = suite("ChaChaPoly", "chacha20-poly1305");
export const NODE_AES_GCM = suite("AESGCM", "aes-256-gcm");
