/**
 * Device keys and their fingerprints. A fingerprint is the public key itself, all 256 bits, in base32 [RFC 4648 6] in
 * lower case and in groups of four: what a person compares is what a device pins.
 *
 * @module
 */
import { KEY_OCTETS } from "./noise.ts";

const ALPHABET = "abcdefghijklmnopqrstuvwxyz234567";
const GROUP = 4;

/** Digits of a key: 256 bits by 5. */
const DIGITS = 52;

/** The text of a public key: 13 groups of four digits. */
export function formatFingerprint(key: Uint8Array): string {
  let bits = 0;
  let value = 0;
  let text = "";
  for (const octet of key) {
    value = ((value & 0xff) << 8) | octet;
    for (bits += 8; bits >= 5; bits -= 5) text += ALPHABET[(value >>> (bits - 5)) & 31];
  }
  if (bits > 0) text += ALPHABET[(value << (5 - bits)) & 31];
  return (text.match(new RegExp(`.{1,${GROUP}}`, "g")) ?? []).join("-");
}

/** The public key of a text, with or without hyphens or spaces, in any case; undefined if it is no fingerprint. */
export function parseFingerprint(text: string): Uint8Array | undefined {
  const digits = text.replace(/[-\s]/g, "").toLowerCase();
  if (digits.length !== DIGITS) return undefined;
  const key = new Uint8Array(KEY_OCTETS);
  let bits = 0;
  let value = 0;
  let at = 0;
  for (const digit of digits) {
    const five = ALPHABET.indexOf(digit);
    if (five < 0) return undefined;
    value = ((value & 0xfff) << 5) | five;
    bits += 5;
    if (bits < 8) continue;
    bits -= 8;
    key[at++] = value >>> bits;
  }
  // The last digit has four bits beyond the key.
  return (value & 0b1111) === 0 ? key : undefined;
}

/** Whether two keys are the same. They are public, so the time that it takes says nothing. */
export function isSameKey(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length && one.every((octet, at) => octet === other[at]);
}
