/**
 * One stream of a channel: what has arrived and was not read, what was written and not sealed, and the state of its two
 * directions. The channel makes and parses the frames.
 *
 * @module
 */
import { OctetQueue } from "../lib/octet-queue.ts";
import type { ReceiveWindow } from "./credit.ts";
import { RESERVE, SMALL_BLOCK, SMALL_DATA, UNSENT } from "./limits.ts";

const alone = new WeakSet<Uint8Array>();

/** Whether a piece that was read is alone in its memory: who has done with it may free that. */
export function isAlone(octets: Uint8Array): boolean {
  return alone.has(octets);
}

/**
 * Received data that was not read. Holds about as much memory as data, however small the pieces and large the records
 * in which they came.
 */
export class ReceiveBuffer {
  readonly #queue = new OctetQueue();
  /** Small pieces are copied into this block; those from `#from` to `#to` are not in the queue yet. */
  #block = new Uint8Array(0);
  #from = 0;
  #to = 0;

  /** Octets in the buffer. */
  get length(): number {
    return this.#queue.length + this.#to - this.#from;
  }

  /**
   * Adds data.
   *
   * @param recordOctets size of the memory that `data` is a view of, if it stays unchanged
   * @param isOnly whether nothing else is in that memory
   */
  push(data: Uint8Array, recordOctets: number, isOnly = false): void {
    if (data.length >= SMALL_DATA) {
      this.#flush();
      const isKept = data.length * 2 >= recordOctets;
      const piece = isKept ? data : new Uint8Array(data);
      if (isOnly || !isKept) alone.add(piece);
      this.#queue.push(piece);
      return;
    }
    if (this.#block.length - this.#to < data.length) {
      this.#flush();
      this.#block = new Uint8Array(SMALL_BLOCK);
      this.#from = 0;
      this.#to = 0;
    }
    this.#block.set(data, this.#to);
    this.#to += data.length;
  }

  /** Removes up to `most` octets from the front, as one piece; undefined if the buffer is empty. */
  take(most: number): Uint8Array | undefined {
    if (this.#queue.length === 0) this.#flush();
    return this.#queue.takePiece(most);
  }

  #flush(): void {
    this.#queue.push(this.#block.subarray(this.#from, this.#to));
    this.#from = this.#to;
  }
}

/** Streams are changed by their channel only. */
export class Stream {
  readonly id: number;
  readonly window: ReceiveWindow;
  readonly received = new ReceiveBuffer();
  readonly unsent = new OctetQueue();
  /** Memory of pieces of `unsent` that is the stream's own, to be freed once they are sealed. */
  readonly given = new Set<ArrayBufferLike>();
  /** The peer's credit: how many octets may be sent in all. */
  limit = RESERVE;
  sent = 0;
  /** Whether this side opened the stream and the peer has not accepted it. */
  isProposed: boolean;
  /** Whether the peer has half-closed. */
  isReceiveEnded = false;
  /** Whether the application has read the end. */
  isReadToEnd = false;
  /** Whether the application has half-closed, and whether that is sealed. */
  isSendEnded = false;
  isEndSealed = false;
  /** Whether the application was told that there is something to read, and has not read all. */
  isReadable = false;
  /** Whether the application has filled `unsent`, and was not told that there is room. */
  isFull = false;
  readonly #unsentLimit: number;

  /** @param unsentLimit octets that the application should write ahead at most */
  constructor(id: number, window: ReceiveWindow, isProposed: boolean, unsentLimit: number = UNSENT) {
    this.#unsentLimit = unsentLimit;
    this.id = id;
    this.window = window;
    this.isProposed = isProposed;
  }

  /** Octets that may be sent now. */
  get sendable(): number {
    return Math.min(this.unsent.length, this.limit - this.sent);
  }

  /** Whether there is a frame to seal: data with credit, or the end after all data. */
  get isReady(): boolean {
    return this.sendable > 0 || (this.isSendEnded && !this.isEndSealed && this.unsent.length === 0);
  }

  /** How much more the application should write: little if the peer grants nothing. 0 or less if it should wait. */
  get room(): number {
    return Math.min(this.#unsentLimit, this.limit - this.sent + RESERVE) - this.unsent.length;
  }

  /** Whether both directions have ended. */
  get isFinished(): boolean {
    return this.isEndSealed && this.isReadToEnd;
  }
}
