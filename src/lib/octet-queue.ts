/**
 * A FIFO queue of bytes. They go in by pieces, and come out as views of these, whole or cut.
 *
 * @module
 */
import { Queue } from "./queue.ts";

export class OctetQueue {
  readonly #pieces = new Queue<Uint8Array>();
  /** Bytes of the first piece that have been taken. */
  #taken = 0;
  #length = 0;

  /** Bytes in the queue. */
  get length(): number {
    return this.#length;
  }

  /** Adds bytes, which are not copied: do not change them before they are taken. */
  push(octets: Uint8Array | readonly Uint8Array[]): void {
    for (const piece of octets instanceof Uint8Array ? [octets] : octets) {
      if (piece.length === 0) continue;
      this.#pieces.push(piece);
      this.#length += piece.length;
    }
  }

  /** Removes up to `most` bytes from the front, in as many pieces as they came in. */
  take(most: number): Uint8Array[] {
    const taken: Uint8Array[] = [];
    for (let left = most; left > 0; ) {
      const piece = this.takePiece(left);
      if (piece === undefined) break;
      taken.push(piece);
      left -= piece.length;
    }
    return taken;
  }

  /** Removes the first piece, or as much of it as `most` bytes; undefined if the queue is empty. */
  takePiece(most = Number.POSITIVE_INFINITY): Uint8Array | undefined {
    const { first } = this.#pieces;
    if (first === undefined) return undefined;
    const end = Math.min(first.length, this.#taken + most);
    const piece = this.#taken === 0 && end === first.length ? first : first.subarray(this.#taken, end);
    this.#length -= piece.length;
    if (end === first.length) {
      this.#pieces.shift();
      this.#taken = 0;
    } else this.#taken = end;
    return piece;
  }

  clear(): void {
    this.#pieces.clear();
    this.#taken = 0;
    this.#length = 0;
  }
}
