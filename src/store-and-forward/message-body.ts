/**
 * The body of a message, from pieces: views of what a socket or a call has brought, which are copied, since a view of ten
 * octets keeps all that it is a view of. A million pieces of one octet cost no more memory than the octets; what comes in
 * one piece is copied once.
 *
 * @module
 */

import { joinOctets } from "../sstp/index.ts";

/** The longest block that is set aside for the pieces of a message to come. */
export const GATHERING_BLOCK = 64 * 1024;

/**
 * Small pieces are copied into blocks of this size, and the longest that are. A block lives as long as any piece in it: of
 * 8000 messages that wait, each may be in a block of its own in the worst case, which is 64 MB.
 */
export const ARENA_BLOCK = 8 * 1024;
export const ARENA_PIECE = 1024;

/** Octets to keep: themselves, or a copy when they are a view that would keep more than twice their memory. */
export function kept(octets: Uint8Array): Uint8Array {
  return octets.buffer.byteLength > 2 * octets.length ? new Uint8Array(octets) : octets;
}

/** Copies of small pieces, side by side: memory of its own for each would cost more than the copy. */
export class Arena {
  #block = new Uint8Array(0);
  #used = 0;

  /** A copy that nobody else changes. */
  copy(octets: Uint8Array): Uint8Array {
    const { length } = octets;
    // A Buffer's slice would be a view.
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
  /** The first piece, which often is the only one. */
  #first: Uint8Array = NOTHING;
  /** What came behind it: blocks that are full, and one that is being filled. */
  #full: Uint8Array[] | undefined;
  #block = NOTHING;
  #used = 0;
  #length = 0;

  constructor(arena: Arena) {
    this.#arena = arena;
  }

  /** Octets so far. */
  get length(): number {
    return this.#length;
  }

  /** Copies a piece: whoever brings it may use its memory again. */
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
      // It grows with what there is.
      this.#block = new Uint8Array(Math.max(octets.length, Math.min(this.#length, GATHERING_BLOCK)));
      this.#used = 0;
    }
    this.#block.set(octets, this.#used);
    this.#used += octets.length;
  }

  /** All that has come, in order; nothing is left. */
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
