/**
 * The data that throughput is measured with: numbered blocks of 64 KiB, so that the receiver detects losses and
 * duplicates without comparing every octet. Also the command with which a connection tells the far side what
 * it wants.
 */
import { randomBytes } from "node:crypto";
import type { Writable } from "node:stream";

export const BLOCK = 64 * 1024;

/** The service of a device that takes streams as connections to the far side. */
export const SERVICE = "bench";

const MAGIC = 0x47574159;
const HEADER = 12;

/**
 * Blocks written but not yet accepted by the kernel stay below this number, after which a block may be reused. KeepAlive
 * has two bodies of 4 MiB: one on its way, and one that fills.
 */
const RING = 192;

/** A writer takes a block; when enough is in flight, it returns a promise that resolves once it may continue. */
export type Write = (block: Uint8Array) => Promise<void> | undefined;

/** Writes blocks until there are `size` octets or time is up, and marks the last. Resolves with their number. */
export async function pour(write: Write, size: number, milliseconds: number, gone: () => boolean): Promise<number> {
  const ring: Buffer[] = [];
  const until = performance.now() + milliseconds;
  for (let number = 0; ; number++) {
    const block = ring[number % RING] ?? randomBytes(BLOCK);
    ring[number % RING] = block;
    const last = (number + 1) * BLOCK >= size || performance.now() >= until;
    block.writeUInt32LE(MAGIC, 0);
    block.writeUInt32LE(number, 4);
    block.writeUInt32LE(last ? 1 : 0, 8);
    const more = write(block);
    if (last) return number + 1;
    if (more !== undefined) await more;
    if (gone()) return number + 1;
  }
}

/** A writer on a socket, or on a request. */
export function writerTo(socket: Writable): Write {
  return (block) => {
    if (socket.write(block) || socket.destroyed) return undefined;
    return new Promise((resolve) => {
      const go = () => {
        socket.off("drain", go);
        socket.off("close", go);
        resolve();
      };
      socket.on("drain", go);
      socket.on("close", go);
    });
  };
}

/** Blocks that wait for their acknowledgement as messages, before the writer waits. */
const UNACKNOWLEDGED = 64;

/** A writer of messages. A message that cannot be sent is missing at the receiver. */
export function writerOfMessages(send: (block: Uint8Array) => Promise<unknown>): Write {
  let unacknowledged = 0;
  let goOn: () => void = () => undefined;
  const sent = () => {
    unacknowledged -= 1;
    goOn();
  };
  return (block) => {
    unacknowledged += 1;
    send(block).then(sent, sent);
    if (unacknowledged < UNACKNOWLEDGED) return undefined;
    return new Promise((resolve) => {
      goOn = resolve;
    });
  };
}

/** A writer on a web stream. */
export function writerToStream(stream: WritableStream<Uint8Array>): Write {
  const writer = stream.getWriter();
  writer.closed.catch(() => undefined);
  return (block) => {
    writer.write(block).catch(() => undefined);
    return writer.ready.catch(() => undefined);
  };
}

/** What has arrived. */
export interface Received {
  readonly octets: number;
  /** The octets that came first. */
  readonly first: number;
  /** When the first and the last octets came, on the clock of the receiver's process, in milliseconds. */
  readonly began: number;
  readonly ended: number;
  /** From the first octets to the last. */
  readonly milliseconds: number;
  /** MB/s (10^6) of what arrived after the first octets. */
  readonly rate: number;
  readonly blocks: number;
  readonly lost: number;
  readonly duplicated: number;
  /** Whether the block marked as the last has arrived. */
  readonly whole: boolean;
}

/** Parses blocks from octets split anywhere, and counts them. */
export class Receiver {
  readonly #header = Buffer.alloc(HEADER);
  /** Position in the block that is arriving. */
  #at = 0;
  #octets = 0;
  #first = 0;
  #began = 0;
  #ended = 0;
  #blocks = 0;
  #next = 0;
  #lost = 0;
  #duplicated = 0;
  #last = false;
  #done = false;

  /** True when the last block is complete. Anything after it is ignored. */
  get done(): boolean {
    return this.#done;
  }

  push(octets: Uint8Array): void {
    if (this.#octets === 0) {
      this.#began = performance.now();
      this.#first = octets.length;
    }
    this.#octets += octets.length;
    let from = 0;
    while (from < octets.length && !this.#done) {
      if (this.#at < HEADER) {
        const part = octets.subarray(from, from + HEADER - this.#at);
        this.#header.set(part, this.#at);
        this.#at += part.length;
        from += part.length;
        if (this.#at === HEADER) this.#number();
        continue;
      }
      const count = Math.min(BLOCK - this.#at, octets.length - from);
      this.#at += count;
      from += count;
      if (this.#at < BLOCK) continue;
      this.#at = 0;
      this.#blocks += 1;
      this.#done = this.#last;
    }
    this.#ended = performance.now();
  }

  result(): Received {
    const milliseconds = this.#ended - this.#began;
    return {
      octets: this.#octets,
      first: this.#first,
      began: this.#began,
      ended: this.#ended,
      milliseconds,
      rate: milliseconds > 0 ? (this.#octets - this.#first) / milliseconds / 1000 : 0,
      blocks: this.#blocks,
      lost: this.#lost,
      duplicated: this.#duplicated,
      whole: this.#done,
    };
  }

  #number(): void {
    // A loss or duplicate within a block shifts everything after it: no further number can be read.
    if (this.#header.readUInt32LE(0) !== MAGIC) throw new Error(`octets out of place after block ${this.#next - 1}`);
    const number = this.#header.readUInt32LE(4);
    if (number < this.#next) this.#duplicated += 1;
    else this.#lost += number - this.#next;
    this.#next = Math.max(this.#next, number + 1);
    this.#last = this.#header.readUInt32LE(8) === 1;
  }
}

/** A connection wants to be read (at `rate` octets a second, if given), sent blocks, or echoed. */
export type Command =
  | { readonly wish: "sink"; readonly id: number; readonly rate: number }
  | { readonly wish: "source"; readonly id: number; readonly size: number; readonly milliseconds: number }
  | { readonly wish: "echo"; readonly id: number };

export const COMMAND = 24;

/** The answer of a sink and an echo to their command. */
export const READY = Uint8Array.of(0x21);

const WISHES = ["sink", "source", "echo"] as const;

export function formatCommand(command: Command): Uint8Array {
  const octets = Buffer.alloc(COMMAND);
  octets.writeUInt32LE(WISHES.indexOf(command.wish), 0);
  octets.writeUInt32LE(command.id, 4);
  if (command.wish === "sink") octets.writeDoubleLE(command.rate, 8);
  if (command.wish === "source") {
    octets.writeDoubleLE(command.size, 8);
    octets.writeDoubleLE(command.milliseconds, 16);
  }
  return octets;
}

/** Returns undefined if the octets are no command. */
export function parseCommand(octets: Buffer): Command | undefined {
  const wish = WISHES[octets.readUInt32LE(0)];
  const id = octets.readUInt32LE(4);
  switch (wish) {
    case "sink":
      return { wish, id, rate: octets.readDoubleLE(8) };
    case "source":
      return { wish, id, size: octets.readDoubleLE(8), milliseconds: octets.readDoubleLE(16) };
    case "echo":
      return { wish, id };
    default:
      return undefined;
  }
}
