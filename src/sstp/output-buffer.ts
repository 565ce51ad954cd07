/** Pending output, in blocks of whole commands. */

import { encodeDataInto, encodeInto, encodeToScratch } from "./encoder.ts";
import type { Command, Version } from "./wire.ts";
import { DATA_HEADER_OCTETS, MAX_DATA_OCTETS } from "./wire.ts";

/**
 * Maximum octets of a block. It holds the longest command, and suits one write of any transport: with a quarter of it,
 * bulk data over streams costs a twentieth more.
 */
export const OUTPUT_BLOCK_OCTETS = 262144;

const FIRST_BLOCK_OCTETS = 1024;

export class Output {
  #full: Uint8Array<ArrayBuffer>[] = [];
  #block = new Uint8Array(0);
  #used = 0;
  #pending = 0;

  /** Bytes written and not yet taken. */
  get pending(): number {
    return this.#pending;
  }

  /** Makes one block for this many bytes that follow, or as many as fit into a block. */
  expect(octets: number): void {
    const length = Math.min(Math.ceil(octets), OUTPUT_BLOCK_OCTETS);
    this.#reserve(length, length);
  }

  /** @throws WireError if the command cannot be encoded; nothing is written then */
  command(command: Command, version: Version): void {
    const used = encodeInto(command, version, this.#block, this.#used);
    if (used >= 0) {
      this.#pending += used - this.#used;
      this.#used = used;
      return;
    }
    // The command may still fit: encodeInto demands room for the longest of its kind.
    const octets = encodeToScratch(command, version);
    this.#reserve(octets.length, octets.length);
    this.#block.set(octets, this.#used);
    this.#used += octets.length;
    this.#pending += octets.length;
  }

  /** Writes as many Data commands as needed [3.1.4.6], or one if there is no data. */
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

  /** Takes everything. The caller owns the blocks. */
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

  /** Makes room for `length` bytes, in a block sized for `expected`. Blocks of one batch grow. */
  #reserve(length: number, expected: number): void {
    if (this.#used + length <= this.#block.length) return;
    const size = Math.max(length, FIRST_BLOCK_OCTETS, expected);
    const grown = this.#used > 0 ? this.#block.length * 4 : 0;
    this.#finishBlock();
    this.#block = new Uint8Array(Math.min(OUTPUT_BLOCK_OCTETS, Math.max(size, grown)));
  }
}
