/**
 * Gathering: octets that come in pieces and are wanted as a whole. A million pieces of one octet cost no more memory
 * than the octets; a single piece is copied once.
 *
 * @module
 */

import { joinOctets } from "../sstp/index.ts";
import { GATHERING_BLOCK } from "./defaults.ts";

export class Gathering {
  #full: Uint8Array[] = [];
  #block = new Uint8Array(0);
  #used = 0;
  #length = 0;

  /** Octets so far. */
  get length(): number {
    return this.#length;
  }

  /** Copies a piece: whoever brings it may use its memory again. */
  add(octets: Uint8Array): void {
    if (octets.length > this.#block.length - this.#used) {
      if (this.#used > 0) this.#full.push(this.#block.subarray(0, this.#used));
      // What comes alone is not made longer than it is; what goes on grows with what there is.
      this.#block = new Uint8Array(Math.max(octets.length, Math.min(this.#length, GATHERING_BLOCK)));
      this.#used = 0;
    }
    this.#block.set(octets, this.#used);
    this.#used += octets.length;
    this.#length += octets.length;
  }

  /** All that has come, in order; nothing is left. */
  take(): Uint8Array {
    const last = this.#block.subarray(0, this.#used);
    const whole = this.#full.length === 0 ? last : joinOctets([...this.#full, last], this.#length);
    this.#full = [];
    this.#block = new Uint8Array(0);
    this.#used = 0;
    this.#length = 0;
    return whole;
  }
}
