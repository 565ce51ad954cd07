/**
 * Standard output whose failures are seen. When `write` resolves, a pipe, terminal or device has taken everything, and a
 * file has it on the disk. Node's own stream takes a write that a full disk cut short for a whole one, and cannot be given
 * up while nobody reads the pipe.
 *
 * @module
 */
import { fdatasync, fstatSync, readFileSync, type Stats, statSync, write } from "node:fs";
import { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { isatty } from "node:tty";
import { promisify } from "node:util";
import { CommandError } from "./output.ts";

const writeSome = promisify(write);
const syncData = promisify(fdatasync);

/** Bytes that are written at a time: one call of the system, and little memory. */
const CHUNK = 64 * 1024;

/** How often a terminal that another program has made non-blocking is tried again, in milliseconds. */
const AGAIN = 10;

/** What is written: text as UTF-8, or bytes. */
export type Piece = string | Uint8Array;

/** What takes bytes. Errors are those of the system. */
interface Sink {
  write(bytes: Uint8Array): Promise<void>;
  /** Resolves when what was written is safe there. */
  sync(): Promise<void>;
  /** A write that is stuck fails, where that can be had. */
  abort(): void;
}

interface Job {
  readonly pieces: Iterable<Piece>;
  readonly resolve: () => void;
  readonly reject: (error: CommandError) => void;
}

export class Output {
  readonly #sink: Sink;
  /** Columns of the terminal; undefined when it is none. */
  readonly #columns: () => number | undefined;
  #queue: Job[] = [];
  #working = false;
  #failure: CommandError | undefined;
  #hasWritten = false;

  private constructor(sink: Sink, columns: () => number | undefined) {
    this.#sink = sink;
    this.#columns = columns;
  }

  /**
   * Standard output, or another descriptor in its place.
   *
   * @throws CommandError OutputClosed when there is none
   */
  static open(descriptor = 1): Output {
    let found: Stats;
    try {
      found = fstatSync(descriptor);
    } catch {
      throw closed();
    }
    if (descriptor === 1 && wasClosed()) throw closed();
    if (found.isFIFO() || found.isSocket()) return new Output(streamSink(descriptor), () => undefined);
    const columns = () => (isatty(descriptor) ? process.stdout.columns : undefined);
    return new Output(descriptorSink(descriptor, found.isFile()), columns);
  }

  /** Columns of the terminal that it is; undefined when it is none. */
  get columns(): number | undefined {
    return this.#columns();
  }

  /** Whether anything was taken. */
  get hasWritten(): boolean {
    return this.#hasWritten;
  }

  /**
   * Writes pieces one after another, with nothing of other calls between them. Each is asked for when those before it are
   * written. Calls that wait at the same time share one sync.
   *
   * @throws CommandError OutputClosed when what reads it has gone, or CannotWrite. All later calls fail alike.
   */
  write(pieces: Iterable<Piece>): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      this.#queue.push({ pieces, resolve, reject });
      if (!this.#working) void this.#work();
    });
  }

  /** Gives up what is not written; it holds the process no longer. */
  close(): void {
    this.#failure ??= closed();
    // A pipe that is not stuck stays open: closing it would leave it non-blocking for the programs that share it.
    if (this.#working) this.#sink.abort();
  }

  async #work(): Promise<void> {
    this.#working = true;
    while (this.#queue.length > 0) {
      const jobs = this.#queue;
      this.#queue = [];
      let written = 0;
      try {
        for (const { pieces } of jobs) {
          for (const chunk of chunks(pieces)) {
            if (this.#failure !== undefined) throw this.#failure;
            await this.#sink.write(chunk);
            this.#hasWritten = true;
          }
          written += 1;
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

/** Joins small pieces and cuts large ones. */
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

/** A file, a device or a terminal. */
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

/** A pipe or a socket: a stream of our own, since that of `process` cannot be destroyed. */
function streamSink(descriptor: number): Sink {
  const socket = new Socket({ fd: descriptor, readable: false, writable: true });
  // Those of a write are told there.
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
 * Whether the command was started without a standard output: Node puts /dev/null in its place, open for reading too. So does
 * a service manager, but then in all three places.
 */
function wasClosed(): boolean {
  return isSubstitute(1) && !(isSubstitute(0) && isSubstitute(2));
}

function isSubstitute(descriptor: number): boolean {
  try {
    if (fstatSync(descriptor).rdev !== statSync("/dev/null").rdev) return false;
    const [, flags = "0"] = /^flags:\s*([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${descriptor}`, "utf8")) ?? [];
    // The access mode is in the last two bits: 2 is O_RDWR.
    return (Number.parseInt(flags, 8) & 3) === 2;
  } catch {
    // Where nobody can tell, it is what it seems.
    return false;
  }
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && "code" in error ? String(error.code) : undefined;
}

function closed(): CommandError {
  return new CommandError(
    "OutputClosed",
    "standard output is closed: leave it open, or add > /dev/null when nobody needs it",
    "OutputClosed",
  );
}

function failure(error: unknown): CommandError {
  const code = codeOf(error);
  if (code === "EPIPE" || code === "ECONNRESET") {
    return new CommandError(
      "OutputClosed",
      "what reads standard output has ended: what it did not take comes again",
      "OutputClosed",
    );
  }
  const why = code === "ENOSPC" ? "its disk is full: make room" : "write it somewhere else";
  return new CommandError("CannotWrite", `cannot write standard output (${code ?? error}): ${why}`);
}
