/**
 * Assembles the body of a message from pieces. Pieces are views of what a socket or a call has brought, and are copied,
 * since a view of ten bytes keeps its whole buffer alive. A million pieces of one byte take no more memory than their
 * bytes. A body that arrives in one piece is copied once.
 *
 * @module
 */

import { joinOctets } from "../sstp/index.ts";

/** The largest block allocated in advance for the next pieces of a message. */
export const GATHERING_BLOCK = 64 * 1024;

/**
 * Block size for small pieces, and the largest piece that goes into one. A block lives as long as any piece in it: in
 * the worst case each of 8000 waiting messages is in a block of its own, which is 64 MB.
 */
export const ARENA_BLOCK = 8 * 1024;
export const ARENA_PIECE = 1024;

/** Returns bytes to keep: the same, or a copy if they are a view of a buffer more than twice their size. */
export function kept(octets: Uint8Array): Uint8Array {
  return octets.buffer.byteLength > 2 * octets.length ? new Uint8Array(octets) : octets;
}

/** Copies small pieces side by side. A buffer for each would cost more than the copy. */
export class Arena {
  #block = new Uint8Array(0);
  #used = 0;

  /** Returns a copy that no other code changes. */
  copy(octets: Uint8Array): Uint8Array {
    const { length } = octets;
    // Not `slice`, which returns a view if this is a Buffer.
    if (length > ARENA_PIECE) return new Uint8Array(octets);
    if (length > this.#block.length - this.#used) {
      this.#block = new Uint8Array(ARENA_BLOCK);
      this.#used = 0;
    }
    const at = this.#used;
    this.#used += length;
    this.#block.set(octets, at);
    return this.#block.subarray(at, this.#used);
  }
}

const NOTHING = new Uint8Array(0);

export class MessageBody {
  readonly #arena: Arena;
  /** The first piece, often the only one. */
  #first: Uint8Array = NOTHING;
  /** Later pieces: full blocks, and one that is being filled. */
  #full: Uint8Array[] | undefined;
  #block = NOTHING;
  #used = 0;
  #length = 0;

  constructor(arena: Arena) {
    this.#arena = arena;
  }

  /** Bytes so far. */
  get length(): number {
    return this.#length;
  }

  /** Copies a piece. The caller may reuse its memory. */
  add(octets: Uint8Array): void {
    if (this.#length === 0) this.#first = this.#arena.copy(octets);
    else this.#append(octets);
    this.#length += octets.length;
  }

  #append(octets: Uint8Array): void {
    if (octets.length > this.#block.length - this.#used) {
      if (this.#used > 0) {
        this.#full ??= [];
        this.#full.push(this.#block.subarray(0, this.#used));
      }
      // Blocks grow with the body.
      this.#block = new Uint8Array(Math.max(octets.length, Math.min(this.#length, GATHERING_BLOCK)));
      this.#used = 0;
    }
    this.#block.set(octets, this.#used);
    this.#used += octets.length;
  }

  /** Returns the whole body, and starts over empty. */
  take(): Uint8Array {
    const first = this.#first;
    const whole =
      this.#used === 0
        ? first
        : joinOctets([first, ...(this.#full ?? []), this.#block.subarray(0, this.#used)], this.#length);
    this.#first = NOTHING;
    this.#full = undefined;
    this.#block = NOTHING;
    this.#used = 0;
    this.#length = 0;
    return whole;
  }
}
