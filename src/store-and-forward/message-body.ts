/**
 * Assembles the body of a message from pieces. Pieces are views of what a socket or a call has brought, and are copied,
 * since a view of ten bytes keeps its whole buffer alive. A million pieces of one byte take no more memory than their
 * bytes. A body that arrives in one piece is copied once.
 *
 * @module
 */

import { release } from "../lib/octets.ts";
import { joinOctets } from "../sstp/index.ts";

/** The largest block allocated in advance for the next pieces of a message. */
export const GATHERING_BLOCK = 64 * 1024;

/**
 * Block size for small pieces, and the largest piece that goes into one. A block lives as long as any piece in it: in
 * the worst case each of 8000 waiting messages is in a block of its own, which is 64 MB.
 */
export const ARENA_BLOCK = 8 * 1024;
export const ARENA_PIECE = 1024;

/**
 * A body that has this many bytes, and follows a long one, gets memory for as many bytes as that had: the parts of a file
 * are equally long, and gathered in blocks each would be copied once more.
 */
export const AHEAD_FROM = GATHERING_BLOCK / 2;

/** The most memory in advance: one part of a file with its header. Only one body of an arena has any at a time. */
export const AHEAD_MOST = 1024 * 1024 + 16 * 1024;

/** Returns bytes to keep: the same, or a copy if they are a view of a buffer more than twice their size. */
export function kept(octets: Uint8Array): Uint8Array {
  return octets.buffer.byteLength > 2 * octets.length ? new Uint8Array(octets) : octets;
}

/** Copies small pieces side by side. A buffer for each would cost more than the copy. */
export class Arena {
  #block = new Uint8Array(0);
  #used = 0;
  /** Length of the last long body, at most {@link AHEAD_MOST}. */
  #expected = 0;
  /** The body that has memory in advance, for as long as it is used. */
  #ahead: WeakRef<MessageBody> | undefined;

  /** How much memory a body may have in advance, in bytes; 0 if none. */
  ahead(body: MessageBody, least: number): number {
    if (least > this.#expected || this.#ahead?.deref() !== undefined) return 0;
    this.#ahead = new WeakRef(body);
    return this.#expected;
  }

  /** Call when a body is complete or given up. */
  done(body: MessageBody): void {
    if (this.#ahead?.deref() === body) this.#ahead = undefined;
    if (body.length >= GATHERING_BLOCK) this.#expected = Math.min(body.length, AHEAD_MOST);
  }

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
    if (octets.length > this.#block.length - this.#used && !this.#gatherAhead(octets.length)) {
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

  /** Moves to memory for as much as is expected, if that is allowed and has room for `more` bytes. */
  #gatherAhead(more: number): boolean {
    if (this.#length < AHEAD_FROM) return false;
    const room = this.#arena.ahead(this, this.#length + more);
    if (room === 0) return false;
    const block = new Uint8Array(room);
    let at = 0;
    for (const piece of this.#pieces) {
      block.set(piece, at);
      at += piece.length;
    }
    this.#first = NOTHING;
    this.#full = undefined;
    this.#block = block;
    this.#used = at;
    return true;
  }

  get #pieces(): Uint8Array[] {
    return [this.#first, ...(this.#full ?? []), this.#block.subarray(0, this.#used)];
  }

  #whole(): Uint8Array {
    if (this.#used === 0) return this.#first;
    // All of it is in memory that it had in advance.
    if (this.#used === this.#length) return kept(this.#block.subarray(0, this.#used));
    return joinOctets(this.#pieces, this.#length);
  }

  /** Returns the whole body, and starts over empty. */
  take(): Uint8Array {
    const whole = this.#whole();
    this.#free(whole.buffer);
    return whole;
  }

  /** Discards everything, and starts over empty. */
  drop(): void {
    this.#free();
  }

  /** Starts over empty, and frees the memory, but for a buffer that is still needed. */
  #free(needed?: ArrayBufferLike): void {
    this.#arena.done(this);
    if (this.#first.buffer !== needed) release(this.#first);
    for (const { buffer } of [...(this.#full ?? []), this.#block]) {
      if (buffer !== needed) release(new Uint8Array(buffer));
    }
    this.#first = NOTHING;
    this.#full = undefined;
    this.#block = NOTHING;
    this.#used = 0;
    this.#length = 0;
  }
}
