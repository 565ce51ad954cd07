/**
 * The octets that wait to be sent, in blocks of whole commands.
 */

import { encode, encodeDataInto, encodeInto } from "./encoder.ts";
import type { Command, Version } from "./wire.ts";
import { DATA_HEADER_OCTETS, MAX_DATA_OCTETS } from "./wire.ts";

/** Most octets of a block: holds the longest command, and is a fair size for one write of any transport. */
export const OUTPUT_BLOCK_OCTETS = 65536;

const FIRST_BLOCK_OCTETS = 1024;

export class Output {
  #full: Uint8Array<ArrayBuffer>[] = [];
  #block = new Uint8Array(0);
  #used = 0;
  #pending = 0;

  /** Octets written and not taken. */
  get pending(): number {
    return this.#pending;
  }

  /** @throws WireError when the command cannot be said; nothing is written then. */
  command(command: Command, version: Version): void {
    const used = encodeInto(command, version, this.#block, this.#used);
    if (used >= 0) {
      this.#pending += used - this.#used;
      this.#used = used;
      return;
    }
    // The end of a block is used as well, by commands that are not as long as they could be.
    const octets = encode(command, version);
    this.#reserve(octets.length, octets.length);
    this.#block.set(octets, this.#used);
    this.#used += octets.length;
    this.#pending += octets.length;
  }

  /** Writes Data commands, as many as the octets need [3.1.4.6]; one when there are no octets. */
  data(sessionId: number, octets: Uint8Array): void {
    let at = 0;
    do {
      const left = octets.length - at;
      const part = Math.min(left, MAX_DATA_OCTETS);
      const length = DATA_HEADER_OCTETS + part;
      this.#reserve(length, left + DATA_HEADER_OCTETS * Math.ceil(left / MAX_DATA_OCTETS));
      this.#used = encodeDataInto(sessionId, octets, at, at + part, this.#block, this.#used);
      this.#pending += length;
      at += part;
    } while (at < octets.length);
  }

  /** Takes everything; the blocks belong to the caller from then on. */
  take(): Uint8Array<ArrayBuffer>[] {
    this.#finishBlock();
    const blocks = this.#full;
    this.#full = [];
    this.#block = new Uint8Array(0);
    this.#pending = 0;
    return blocks;
  }

  #finishBlock(): void {
    if (this.#used > 0) this.#full.push(this.#block.subarray(0, this.#used));
    this.#used = 0;
  }

  /** Makes room for `length` octets, in a block that suits `expected` octets; blocks of one batch grow. */
  #reserve(length: number, expected: number): void {
    if (this.#used + length <= this.#block.length) return;
    const size = Math.max(length, FIRST_BLOCK_OCTETS, expected);
    const grown = this.#used > 0 ? this.#block.length * 4 : 0;
    this.#finishBlock();
    this.#block = new Uint8Array(Math.min(OUTPUT_BLOCK_OCTETS, Math.max(size, grown)));
  }
}
