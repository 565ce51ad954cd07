/**
 * Standard output with reliable error reporting. When `write` resolves, a pipe, terminal or device has accepted all
 * bytes, and a regular file has them on disk. Node's own stream reports a write cut short by a full disk as complete,
 * and cannot abandon a write to a pipe that is not being read.
 *
 * @module
 */
import { fdatasync, fstatSync, readFileSync, type Stats, statSync, write } from "node:fs";
import { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { isatty } from "node:tty";
import { promisify } from "node:util";
import { endOfTurn } from "../lib/runtime/timeout.ts";
import { CommandError } from "./command-error.ts";

const writeSome = promisify(write);
const syncData = promisify(fdatasync);

/** Bytes per write: one system call, and little memory. */
const CHUNK = 64 * 1024;

/** Retry interval for a terminal that another program made non-blocking, in milliseconds. */
const AGAIN = 10;

/** A piece of output: text, written as UTF-8, or bytes. */
export type Piece = string | Uint8Array;

/** Accepts bytes. Fails with system errors. */
interface Sink {
  write(bytes: Uint8Array): Promise<void>;
  /** Resolves when everything written is durable. */
  sync(): Promise<void>;
  /** Makes a stuck write fail, where possible. */
  abort(): void;
}

interface Job {
  readonly pieces: Iterable<Piece>;
  /** It may be joined with those beside it: nothing depends on which of them were written when a write fails. */
  readonly isReport: boolean;
  readonly resolve: () => void;
  readonly reject: (error: CommandError) => void;
}

export class Output {
  readonly #sink: Sink;
  /** Width of the terminal; undefined if not a terminal. */
  readonly #columns: () => number | undefined;
  #queue: Job[] = [];
  #working = false;
  #failure: CommandError | undefined;
  #hasWritten = false;
  /** It looks closed, so `write` rejects. */
  readonly #onlyReports: boolean;

  private constructor(sink: Sink, columns: () => number | undefined, onlyReports = false) {
    this.#sink = sink;
    this.#columns = columns;
    this.#onlyReports = onlyReports;
  }

  /**
   * Opens standard output, or another descriptor in its place.
   *
   * @param forReports accept a standard output that looks closed, but only for `report`: many programs open /dev/null
   *   that way for a child whose output they ignore
   * @throws CommandError OutputClosed if the descriptor is not open
   */
  static open(descriptor = 1, { forReports = false } = {}): Output {
    let found: Stats;
    try {
      found = fstatSync(descriptor);
    } catch {
      throw closed();
    }
    const looksClosed = descriptor === 1 && wasClosed();
    if (looksClosed && !forReports) throw closed();
    if (found.isFIFO() || found.isSocket()) return new Output(streamSink(descriptor), () => undefined);
    const columns = () => (isatty(descriptor) ? process.stdout.columns : undefined);
    return new Output(descriptorSink(descriptor, found.isFile()), columns, looksClosed);
  }

  /** Width of the terminal; undefined if the output is not a terminal. */
  get columns(): number | undefined {
    return this.#columns();
  }

  /** Whether anything was written that somebody may have read. */
  get hasWritten(): boolean {
    return this.#hasWritten;
  }

  /**
   * Writes data that would be lost if nobody took it. Pieces are written in order, never interleaved with those of
   * other calls. Each piece is pulled only after the previous ones are written. Concurrent calls share one sync.
   *
   * @throws CommandError OutputClosed if nobody reads, or CannotWrite. All later calls fail with the same error.
   */
  write(pieces: Iterable<Piece>): Promise<void> {
    return this.#onlyReports ? Promise.reject(closed()) : this.#add(pieces, false);
  }

  /**
   * Like `write`, for lines that only say what was done: an output that looks closed accepts them as well. Those of one
   * turn of the event loop are written together, since each write wakes the reader.
   */
  report(pieces: Iterable<Piece>): Promise<void> {
    return this.#add(pieces, true);
  }

  #add(pieces: Iterable<Piece>, isReport: boolean): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      this.#queue.push({ pieces, isReport, resolve, reject });
      if (!this.#working) void this.#work();
    });
  }

  /** Abandons pending writes, so that they no longer keep the process alive. */
  close(): void {
    this.#failure ??= closed();
    // Leave a pipe open unless it is stuck: closing it would leave it non-blocking for programs that share it.
    if (this.#working) this.#sink.abort();
  }

  async #work(): Promise<void> {
    this.#working = true;
    while (this.#queue.length > 0) {
      if (this.#queue.every(({ isReport }) => isReport)) await endOfTurn();
      const jobs = this.#queue;
      this.#queue = [];
      let written = 0;
      try {
        for (const group of groups(jobs)) {
          for (const chunk of chunks(piecesOf(group))) {
            if (this.#failure !== undefined) throw this.#failure;
            await this.#sink.write(chunk);
            this.#hasWritten = !this.#onlyReports;
          }
          written += group.length;
        }
      } catch (error) {
        this.#failure ??= failure(error);
      }
      try {
        if (written > 0) await this.#sink.sync();
      } catch (error) {
        this.#failure ??= failure(error);
        written = 0;
      }
      for (const [index, { resolve, reject }] of jobs.entries()) {
        if (index < written) resolve();
        else reject(this.#failure ?? closed());
      }
    }
    this.#working = false;
  }
}

/** Groups consecutive reports. Anything else is alone. */
function groups(jobs: readonly Job[]): readonly Job[][] {
  const all: Job[][] = [];
  for (const job of jobs) {
    const last = all.at(-1);
    if (job.isReport && last?.[0]?.isReport) last.push(job);
    else all.push([job]);
  }
  return all;
}

function* piecesOf(jobs: readonly Job[]): Generator<Piece> {
  for (const { pieces } of jobs) yield* pieces;
}

/** Joins small pieces and splits large ones. */
function* chunks(pieces: Iterable<Piece>): Generator<Uint8Array> {
  let held: Uint8Array[] = [];
  let length = 0;
  for (const piece of pieces) {
    const bytes = typeof piece === "string" ? Buffer.from(piece) : piece;
    for (let at = 0; at < bytes.length; at += CHUNK) {
      const part = bytes.subarray(at, at + CHUNK);
      if (length + part.length > CHUNK) {
        yield Buffer.concat(held);
        held = [];
        length = 0;
      }
      held.push(part);
      length += part.length;
    }
  }
  if (length > 0) yield Buffer.concat(held);
}

/** Writes to a file, device or terminal. */
function descriptorSink(descriptor: number, durable: boolean): Sink {
  return {
    async write(bytes) {
      for (let at = 0; at < bytes.length; ) {
        try {
          const { bytesWritten } = await writeSome(descriptor, bytes, at, bytes.length - at, null);
          if (bytesWritten === 0) throw new Error("nothing is taken any more");
          at += bytesWritten;
        } catch (error) {
          if (codeOf(error) !== "EAGAIN") throw error;
          await sleep(AGAIN);
        }
      }
    },
    async sync() {
      if (durable) await syncData(descriptor);
    },
    abort() {},
  };
}

/** Writes to a pipe or socket, through our own stream: the one of `process` cannot be destroyed. */
function streamSink(descriptor: number): Sink {
  const socket = new Socket({ fd: descriptor, readable: false, writable: true });
  // Write errors reach the write callback.
  socket.on("error", () => undefined);
  return {
    write: (bytes) =>
      new Promise((resolve, reject) => {
        socket.write(bytes, (error) => (error == null ? resolve() : reject(error)));
      }),
    async sync() {},
    abort: () => void socket.destroy(),
  };
}

/**
 * Reports whether the command was started with standard output closed. Node then opens /dev/null in its place, for
 * reading and writing. A service manager does the same, but for all three standard descriptors.
 */
function wasClosed(): boolean {
  return isSubstitute(1) && !(isSubstitute(0) && isSubstitute(2));
}

function isSubstitute(descriptor: number): boolean {
  try {
    if (fstatSync(descriptor).rdev !== statSync("/dev/null").rdev) return false;
    const [, flags = "0"] = /^flags:\s*([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${descriptor}`, "utf8")) ?? [];
    // The low two bits are the access mode; 2 is O_RDWR.
    return (Number.parseInt(flags, 8) & 3) === 2;
  } catch {
    // Without /proc, assume that the descriptor is what it appears to be.
    return false;
  }
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && "code" in error ? String(error.code) : undefined;
}

function closed(): CommandError {
  return new CommandError(
    "OutputClosed",
    "standard output is closed: leave it open, or add > /dev/null if it is not needed",
  );
}

function failure(error: unknown): CommandError {
  const code = codeOf(error);
  if (code === "EPIPE" || code === "ECONNRESET") {
    return new CommandError(
      "OutputClosed",
      "the reader of standard output has ended: what it did not take is delivered again",
    );
  }
  const why = code === "ENOSPC" ? "its disk is full: free some space" : "redirect it elsewhere";
  return new CommandError("CannotWrite", `cannot write to standard output (${code ?? error}): ${why}`);
}
