/** Bytes that are known at every position, so that a reader can tell whether it has got the right ones so far. */
import assert from "node:assert/strict";
import { createCipheriv } from "node:crypto";

/** A period that no size of a buffer divides. */
const PERIOD = 1024 * 1024 - 3;
/** The longest piece. */
const LONGEST = 256 * 1024;

const once = createCipheriv("aes-128-ctr", Buffer.alloc(16, 7), Buffer.alloc(16)).update(Buffer.alloc(PERIOD));
const NOISE = Buffer.concat([once, once.subarray(0, LONGEST)]);

export class Tape {
  readonly #from: number;

  /** @param name tapes of different names differ everywhere, but by chance */
  constructor(name: number) {
    this.#from = (name * 7919) % PERIOD;
  }

  /** The bytes from `at` on. The caller must not change them. */
  cut(at: number, length: number): Uint8Array {
    assert.ok(length <= LONGEST);
    const start = (this.#from + at) % PERIOD;
    return NOISE.subarray(start, start + length);
  }

  /** Whether these are the bytes from `at` on. */
  has(at: number, octets: Uint8Array): boolean {
    return Buffer.compare(this.cut(at, octets.length), octets) === 0;
  }
}
