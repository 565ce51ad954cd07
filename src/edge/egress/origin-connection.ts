/**
 * One TCP connection to a destination, joined to a stream of a channel: neither is read faster than the other takes, each
 * direction ends by itself, and a reset of one side ends the other.
 *
 *   TCP ─► read, while the stream has room ─► engine ─► device
 *   device ─► engine ─► write, one piece at a time ─► TCP
 *
 * The platform's sockets have no reset: where the device has reset its stream, the destination sees the connection end.
 *
 * @module
 */
import { Condition } from "../../lib/condition.ts";
import { joinOctets } from "../../lib/octets.ts";
import { readSizes } from "../../lib/runtime/byte-reader.ts";
import type { StreamChannel } from "../../streams/index.ts";
import { READ } from "./limits.ts";

/** What a connection uses of its channel. */
export interface ConnectionOwner {
  readonly engine: StreamChannel;
  /** To be called after every call of the engine. */
  settle(): void;
}

export class OriginConnection {
  readonly #owner: ConnectionOwner;
  readonly #stream: number;
  /** Notified when there is something to read, or room to write, or the end. */
  readonly #moved = new Condition();
  readonly #over = Promise.withResolvers<void>();
  #socket: Socket | undefined;
  #isOver = false;

  constructor(owner: ConnectionOwner, stream: number) {
    this.#owner = owner;
    this.#stream = stream;
  }

  /** Whether the stream is gone, and what is connected for it is of no use. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** Accepts the stream, and carries both directions until they have ended. */
  async carry(socket: Socket): Promise<void> {
    if (this.#isOver) {
      close(socket);
      return;
    }
    this.#socket = socket;
    const reader = socket.readable.getReader({ mode: "byob" });
    const writer = socket.writable.getWriter();
    // A failure is seen where it is read or written.
    reader.closed.catch(() => undefined);
    writer.closed.catch(() => undefined);
    this.#owner.engine.accept(this.#stream);
    this.#owner.settle();
    // A write to a destination that does not read may outlast the end.
    await Promise.race([Promise.all([this.#down(reader), this.#up(writer)]), this.#over.promise]);
  }

  /** There is something to read, or room to write. */
  move(): void {
    this.#moved.notifyAll();
  }

  /** The stream has ended in both directions, or was reset. */
  end(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#moved.notifyAll();
    this.#over.resolve();
    // Not by aborting its writer: that would leave the connection open.
    if (this.#socket !== undefined) close(this.#socket);
  }

  async #down(reader: ReadableStreamBYOBReader): Promise<void> {
    const { engine } = this.#owner;
    const sizes = readSizes(READ);
    try {
      for (;;) {
        while (engine.room(this.#stream) <= 0) {
          if (this.#isOver) return;
          await this.#moved.wait();
        }
        const { value, done } = await reader.read(new Uint8Array(sizes.next));
        if (this.#isOver) return;
        if (done || value === undefined) {
          engine.end(this.#stream);
          this.#owner.settle();
          return;
        }
        sizes.came(value.length);
        engine.write(this.#stream, value);
        this.#owner.settle();
      }
    } catch {
      this.#failed();
    }
  }

  async #up(writer: WritableStreamDefaultWriter<Uint8Array>): Promise<void> {
    try {
      for (;;) {
        const octets = this.#gather();
        if (octets === undefined) {
          if (this.#isOver) return;
          await this.#moved.wait();
        } else if (octets === "end") {
          await writer.close();
          // Only now may both directions count as ended.
          this.#owner.settle();
          return;
        } else {
          this.#owner.settle();
          await writer.write(octets);
        }
      }
    } catch {
      this.#failed();
    }
  }

  /** What is there to write, up to READ: where streams take turns it comes in pieces, and a write costs more than a copy. */
  #gather(): Uint8Array | "end" | undefined {
    const { engine } = this.#owner;
    const first = engine.read(this.#stream, READ, Date.now());
    if (first === undefined || first === "end" || engine.unread(this.#stream) === 0) return first;
    const pieces = [first];
    let { length } = first;
    while (length < READ && engine.unread(this.#stream) > 0) {
      const more = engine.read(this.#stream, READ - length, Date.now());
      if (more === undefined || more === "end") break;
      pieces.push(more);
      length += more.length;
    }
    return joinOctets(pieces, length);
  }

  /** The destination has reset the connection. */
  #failed(): void {
    if (this.#isOver) return;
    this.end();
    this.#owner.engine.reset(this.#stream);
    this.#owner.settle();
  }
}

/** Closes a socket without waiting for it. */
function close(socket: Socket): void {
  socket.close().catch(() => undefined);
}
