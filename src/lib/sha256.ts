/**
 * Synchronous SHA-256 [FIPS 180-4] for short inputs. The platform's own is asynchronous, and incoming messages must not
 * overtake each other while a hash is computed.
 *
 * @module
 */

/** The first 32 bits of the fractional parts of the cube roots of the first 64 primes [4.2.2]. */
const ROUND_CONSTANTS = Int32Array.from(primes(64).map((prime) => fraction(Math.cbrt(prime))));

/** The same for the square roots of the first eight primes [5.3.3]. */
const INITIAL = primes(8).map((prime) => fraction(Math.sqrt(prime)));

const BLOCK = 64;

function primes(count: number): number[] {
  const found: number[] = [];
  for (let number = 2; found.length < count; number += 1) {
    if (found.every((prime) => number % prime !== 0)) found.push(number);
  }
  return found;
}

function fraction(root: number): number {
  return ((root % 1) * 2 ** 32) | 0;
}

function rotated(word: number, bits: number): number {
  return (word >>> bits) | (word << (32 - bits));
}

/** Returns the digest: 32 bytes. */
export function sha256(octets: Uint8Array): Uint8Array {
  // The message, a 1 bit, and the length in bits at the end of the last block [5.1.1].
  const padded = new Uint8Array(Math.ceil((octets.length + 9) / BLOCK) * BLOCK);
  padded.set(octets);
  padded[octets.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 8, Math.floor(octets.length / 2 ** 29));
  view.setUint32(padded.length - 4, octets.length * 8);
  const state = Int32Array.from(INITIAL);
  const words = new Int32Array(64);
  for (let block = 0; block < padded.length; block += BLOCK) {
    for (let i = 0; i < 16; i += 1) words[i] = view.getInt32(block + 4 * i);
    compress(state, words);
  }
  const digest = new Uint8Array(32);
  const out = new DataView(digest.buffer);
  state.forEach((word, i) => {
    out.setInt32(4 * i, word);
  });
  return digest;
}

/** Processes one block [6.2.2], whose first sixteen words are given. */
function compress(state: Int32Array, words: Int32Array): void {
  const at = (i: number) => words[i] ?? 0;
  for (let i = 16; i < 64; i += 1) {
    const [early, late] = [at(i - 15), at(i - 2)];
    const sigma0 = rotated(early, 7) ^ rotated(early, 18) ^ (early >>> 3);
    const sigma1 = rotated(late, 17) ^ rotated(late, 19) ^ (late >>> 10);
    words[i] = at(i - 16) + sigma0 + at(i - 7) + sigma1;
  }
  let [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0, g = 0, h = 0] = state;
  for (let i = 0; i < 64; i += 1) {
    const choice = (e & f) ^ (~e & g);
    const first = h + (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) + choice + (ROUND_CONSTANTS[i] ?? 0) + at(i);
    const majority = (a & b) ^ (a & c) ^ (b & c);
    const second = (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) + majority;
    [h, g, f, e, d, c, b, a] = [g, f, e, (d + first) | 0, c, b, a, (first + second) | 0];
  }
  [a, b, c, d, e, f, g, h].forEach((word, i) => {
    state[i] = (state[i] ?? 0) + word;
  });
}
