/**
 * Octets out of web streams, in large pieces and within limits of time.
 *
 * @module
 */
import { within } from "./timeout.ts";

/**
 * The most that one read takes from a body or a socket. The platform's own chunks are 4 KiB and cost more per octet
 * by a factor of four to eleven; above 256 KiB nothing is gained.
 */
export const READ_SIZE = 256 * 1024;

/** The first read of a stream: the platform's own chunk. Most streams are silent, and each waits with such a buffer. */
export const FIRST_READ = 4096;

/** A buffer shrinks after so many reads in a row that needed an eighth of it or less: Noops, and not the rests of batches. */
export const SMALL_READS = 2;

/** What a read gave: octets, valid until the next read; the end of the stream; or nothing within the time given. */
export type Read = Uint8Array | "end" | "late";

export interface ByteReader {
  /** @param patience milliseconds; without it the read waits for ever */
  (patience?: number): Promise<Read>;
  /** Leaves the rest of the stream to others. No read may be under way. */
  release(): void;
}

/**
 * Reads a stream in pieces of up to `size` octets, into one buffer that serves all reads. It is small while little comes,
 * so that thousands of streams may be silent, and grows with what comes. A read that comes late is not lost: the next call
 * waits for it. Rejects when the sender is gone.
 */
export function byteReader(stream: ReadableStream<Uint8Array>, size: number): ByteReader {
  const reader = stream.getReader({ mode: "byob" });
  let buffer = new ArrayBuffer(Math.min(size, FIRST_READ));
  let pending: Promise<Read> | undefined;
  /** Reads in a row that had far too large a buffer. */
  let small = 0;

  async function read(): Promise<Read> {
    const { value, done } = await reader.read(new Uint8Array(buffer));
    if (done || value === undefined) return "end";
    buffer = value.buffer as ArrayBuffer;
    const held = buffer.byteLength;
    small = value.length < held / 8 ? small + 1 : 0;
    const fitting = fit(value.length, held, size, small);
    // What was read is the caller's until he asks for more: the next read has another buffer when its size is another.
    if (fitting !== held) buffer = new ArrayBuffer(fitting);
    return value;
  }

  const next = async (patience?: number): Promise<Read> => {
    if (pending === undefined) {
      pending = read();
      // It may fail while nobody waits for it.
      pending.catch(() => undefined);
    }
    const got = patience === undefined ? { value: await pending } : await within(patience, pending);
    if (got === undefined) return "late";
    // Only now: what has come while nobody waited is for the next call.
    pending = undefined;
    return got.value;
  };
  return Object.assign(next, { release: () => reader.releaseLock() });
}

/**
 * How large a buffer is right after so much has come into one of that size. It must not shrink for what was only the rest
 * of more: the next that comes would be cut in two, which costs more than the memory.
 */
function fit(came: number, held: number, most: number, small: number): number {
  if (came === held) return Math.min(most, 4 * held);
  return small >= SMALL_READS ? Math.max(Math.min(most, FIRST_READ), held / 4) : held;
}

/**
 * A whole body of at most `limit` octets; undefined when it is longer. Rejects when the sender is gone.
 *
 * @param length of the body, where it is known. Then nobody is woken for less than what there is memory for: a body that
 *   comes an octet at a time costs no more than any other.
 */
export async function readBody(
  stream: ReadableStream<Uint8Array> | null,
  limit: number,
  length?: number,
): Promise<Uint8Array | undefined> {
  if (stream === null || length === 0) return new Uint8Array(0);
  const reader: ByobReader = stream.getReader({ mode: "byob" });
  const most = Math.min(limit + 1, length ?? limit + 1);
  // Many bodies may be on their way at once, and slowly: each has as much memory as has come of it.
  let whole = new Uint8Array(Math.min(most, FIRST_READ));
  let came = 0;
  while (came <= limit) {
    if (came === whole.length) {
      const larger = new Uint8Array(Math.min(most, 2 * came));
      larger.set(whole);
      whole = larger;
    }
    const min = length === undefined ? 1 : whole.length - came;
    const { value, done } = await reader.read(whole.subarray(came), { min });
    if (value === undefined) return undefined;
    // Reading takes the buffer away and gives it back in the piece.
    whole = new Uint8Array(value.buffer as ArrayBuffer);
    came += value.length;
    if (done || came === length) return whole.subarray(0, came);
  }
  await reader.cancel();
  return undefined;
}

/** What is used of a reader, with an option that the platform has and its types do not. */
interface ByobReader {
  read(
    view: Uint8Array<ArrayBuffer>,
    options: { readonly min: number },
  ): Promise<{ readonly done: boolean; readonly value?: Uint8Array | undefined }>;
  cancel(): Promise<void>;
}
