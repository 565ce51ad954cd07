/**
 * Reads bytes from web streams, in large pieces and with timeouts.
 *
 * @module
 */
import { within } from "./timeout.ts";

/**
 * Maximum bytes per read from a body or socket. The platform's default chunks of 4 KiB cost four to eleven times more
 * per byte; beyond 256 KiB nothing is gained.
 */
export const READ_SIZE = 256 * 1024;

/** Size of the first read: the platform's default chunk. Most streams are idle, and each one holds such a buffer. */
export const FIRST_READ = 4096;

/** Reads in a row filling at most an eighth of the buffer before it shrinks: Noops, not the tails of batches. */
export const SMALL_READS = 2;

/** Waits for one promise after another, each for a limited time: a `DeadlinePool`. */
export interface Waiter {
  within<T>(promise: Promise<T>): Promise<{ readonly value: T } | undefined>;
}

/** Result of a read: bytes, valid until the next read; the end of the stream; or nothing in time. */
export type Read = Uint8Array | "end" | "late";

export interface ByteReader {
  /**
   * @param patience milliseconds, or what waits as long for many reads, since a timer for each can cost more than the
   *   read; if omitted, the read waits forever
   */
  (patience?: number | Waiter): Promise<Read>;
  /** Releases the stream to other readers. No read may be pending. */
  release(): void;
}

/**
 * Reads a stream in pieces of up to `size` bytes, into one reused buffer. The buffer is small while little arrives, so
 * that thousands of streams can be idle, and grows with the traffic. A late read is not lost: the next call waits for
 * it. Rejects if the sender is gone.
 */
export function byteReader(stream: ReadableStream<Uint8Array>, size: number): ByteReader {
  const reader = stream.getReader({ mode: "byob" });
  const sizes = readSizes(size);
  let buffer = new ArrayBuffer(sizes.next);
  let pending: Promise<Read> | undefined;

  async function read(): Promise<Read> {
    const { value, done } = await reader.read(new Uint8Array(buffer));
    if (done || value === undefined) return "end";
    buffer = value.buffer as ArrayBuffer;
    sizes.came(value.length);
    // The caller owns this buffer until the next read. To resize, allocate a new one.
    if (sizes.next !== buffer.byteLength) buffer = new ArrayBuffer(sizes.next);
    return value;
  }

  const next = async (patience?: number | Waiter): Promise<Read> => {
    if (pending === undefined) {
      pending = read();
      // It may reject while no call is waiting for it.
      pending.catch(() => undefined);
    }
    const got = await waitFor(pending, patience);
    if (got === undefined) return "late";
    // Cleared only now: data that arrived between calls belongs to the next call.
    pending = undefined;
    return got.value;
  };
  return Object.assign(next, { release: () => reader.releaseLock() });
}

async function waitFor<T>(
  promise: Promise<T>,
  patience: number | Waiter | undefined,
): Promise<{ readonly value: T } | undefined> {
  if (patience === undefined) return { value: await promise };
  return typeof patience === "number" ? within(patience, promise) : patience.within(promise);
}

/** The sizes of the buffers of successive reads: small while little arrives, up to `most` bytes with the traffic. */
export function readSizes(most: number): { readonly next: number; came(bytes: number): void } {
  const least = Math.min(most, FIRST_READ);
  let next = least;
  /** Consecutive reads whose buffer was far too large. */
  let small = 0;
  return {
    get next() {
      return next;
    },
    came(bytes) {
      small = bytes < next / 8 ? small + 1 : 0;
      if (bytes === next) next = Math.min(most, 4 * next);
      // The tail of a batch must not shrink it: the next batch would be cut in two, which costs more than the memory.
      else if (small >= SMALL_READS) next = Math.max(least, Math.ceil(next / 4));
    },
  };
}

/**
 * Reads a whole body of at most `limit` bytes. Returns undefined if it is longer. Rejects if the sender is gone.
 *
 * @param length length of the body, if known. Each read then waits until the buffer is full: a body that arrives byte
 *   by byte costs no more than any other.
 * @param mayGrow called before the buffer grows to so many bytes. If it returns false, reading ends with undefined, and
 *   the rest of the stream is left to the caller.
 */
export async function readBody(
  stream: ReadableStream<Uint8Array> | null,
  limit: number,
  length?: number,
  mayGrow: (octets: number) => boolean = () => true,
): Promise<Uint8Array | undefined> {
  if (stream === null || length === 0) return new Uint8Array(0);
  const most = Math.min(limit + 1, length ?? limit + 1);
  // Many slow bodies may be in flight at once: each uses memory in proportion to what has arrived.
  const least = Math.min(most, FIRST_READ);
  if (!mayGrow(least)) return undefined;
  const reader: ByobReader = stream.getReader({ mode: "byob" });
  let whole = new Uint8Array(least);
  let came = 0;
  while (came <= limit) {
    if (came === whole.length) {
      const size = Math.min(most, 2 * came);
      if (!mayGrow(size)) {
        reader.releaseLock();
        return undefined;
      }
      const larger = new Uint8Array(size);
      larger.set(whole);
      whole = larger;
    }
    const min = length === undefined ? 1 : whole.length - came;
    const { value, done } = await reader.read(whole.subarray(came), { min });
    if (value === undefined) return undefined;
    // Reading detaches the buffer, and returns it with the piece.
    whole = new Uint8Array(value.buffer as ArrayBuffer);
    came += value.length;
    if (done || came === length) return whole.subarray(0, came);
  }
  await reader.cancel();
  return undefined;
}

/** The part of the reader used here, with an option that the platform supports but its types lack. */
interface ByobReader {
  read(
    view: Uint8Array<ArrayBuffer>,
    options: { readonly min: number },
  ): Promise<{ readonly done: boolean; readonly value?: Uint8Array | undefined }>;
  cancel(): Promise<void>;
  releaseLock(): void;
}
