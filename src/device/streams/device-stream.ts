/**
 * A stream between two devices as web streams: a slow reader blocks its writer at the other end, closing the writable
 * half-closes, aborting it or cancelling the readable resets.
 *
 * @module
 */
import { Condition } from "../../lib/condition.ts";
import { isAlone, REASONS, type Reason, type StreamChannel } from "../../streams/index.ts";
import { DeviceError } from "../device-error.ts";
import { READ } from "./limits.ts";

/** A stream or its channel was ended, by either side or on the way. */
export class StreamError extends DeviceError {
  readonly reason: Reason;

  constructor(reason: Reason, peer: string, options: { readonly cause?: unknown } = {}) {
    const { cause, cure } = REASONS[reason];
    super("StreamReset", `${peer}: ${cause} ${cure} [${reason}]`, options);
    this.name = "StreamError";
    this.reason = reason;
  }
}

/** The other end of a stream. */
export interface StreamPeer {
  /** Its address. The edge vouches for it, and the key has proved itself. */
  readonly address: string;
  readonly key: Uint8Array | undefined;
}

export interface DeviceStream {
  /** What the other end writes. Errors with a {@link StreamError} if the stream is reset. */
  readonly readable: ReadableStream<Uint8Array>;
  /** Closing it half-closes the stream: the other end reads the end, and may go on writing. */
  readonly writable: WritableStream<Uint8Array>;
  /** Resolves when both directions have ended in order; rejects with a {@link StreamError} when the stream is reset. */
  readonly closed: Promise<void>;
  readonly service: string;
  readonly peer: StreamPeer;
  /** Accepts a stream that the other end has opened. Reading and writing do so too. */
  accept(): void;
  /** Ends both directions at once. What is unread or unsent is lost. */
  reset(reason?: Reason): void;
}

/** What a stream needs of its channel's owner. */
export interface StreamOwner {
  readonly channel: StreamChannel;
  readonly peer: StreamPeer;
  /** To be called when the stream begins, and when bytes move on it. */
  used(): void;
  /** To be called after every call of the channel. */
  settle(): void;
}

export { isAlone };

/** Bytes that were given away. */
const given = new WeakSet<Uint8Array>();

/**
 * Returns the same bytes. A stream that they are written to keeps them instead of a copy, and frees their memory: nobody
 * may use them any more.
 */
export function givenAway(octets: Uint8Array): Uint8Array {
  given.add(octets);
  return octets;
}

export class ChannelStream implements DeviceStream {
  readonly readable: ReadableStream<Uint8Array>;
  readonly writable: WritableStream<Uint8Array>;
  readonly closed: Promise<void>;
  readonly service: string;
  /** Resolves when the other end has accepted the stream; rejects when the stream is reset before. */
  readonly accepted: Promise<void>;
  readonly #owner: StreamOwner;
  readonly #id: number;
  readonly #closing = Promise.withResolvers<void>();
  readonly #accepting = Promise.withResolvers<void>();
  readonly #moved = new Condition();
  #isAccepted: boolean;
  #isOver = false;
  #reader: ReadableStreamDefaultController<Uint8Array> | undefined;
  #writer: WritableStreamDefaultController | undefined;

  /** @param isOurs whether this side has opened it */
  constructor(owner: StreamOwner, id: number, service: string, isOurs: boolean) {
    this.#owner = owner;
    owner.used();
    this.#id = id;
    this.service = service;
    this.#isAccepted = isOurs;
    this.closed = this.#closing.promise;
    this.accepted = this.#accepting.promise;
    // Without a listener, a rejection must not count as unhandled.
    this.closed.catch(() => undefined);
    this.accepted.catch(() => undefined);
    this.readable = new ReadableStream(
      {
        start: (controller) => {
          this.#reader = controller;
        },
        pull: (controller) => this.#pull(controller),
        cancel: () => this.reset(),
      },
      // Read only what the application asks for: what it does not read stays with the sender.
      { highWaterMark: 0 },
    );
    this.writable = new WritableStream({
      start: (controller) => {
        this.#writer = controller;
      },
      write: (octets) => this.#write(octets),
      close: () => this.#end(),
      abort: () => this.reset(),
    });
  }

  get peer(): StreamPeer {
    return this.#owner.peer;
  }

  accept(): void {
    if (this.#isAccepted) return;
    this.#isAccepted = true;
    this.#owner.channel.accept(this.#id);
    this.#owner.settle();
  }

  reset(reason: Reason = "ConnectionReset"): void {
    if (this.#isOver) return;
    this.#owner.channel.reset(this.#id, reason);
    this.fail(new StreamError(reason, this.peer.address));
    this.#owner.settle();
  }

  /** The other end has accepted the stream. */
  wasAccepted(): void {
    this.#accepting.resolve();
  }

  /** There is something to read, or room to write. */
  move(): void {
    this.#moved.notifyAll();
  }

  /** Both directions have ended in order. */
  finish(): void {
    this.#isOver = true;
    this.#accepting.resolve();
    this.#closing.resolve();
    this.#moved.notifyAll();
  }

  /** The stream is gone. */
  fail(error: DeviceError): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#accepting.reject(error);
    this.#closing.reject(error);
    try {
      this.#reader?.error(error);
    } catch {
      // The application has read the end.
    }
    this.#writer?.error(error);
    this.#moved.notifyAll();
  }

  async #pull(controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> {
    this.accept();
    const { channel } = this.#owner;
    for (;;) {
      const octets = channel.read(this.#id, READ, performance.now());
      if (octets === "end") controller.close();
      else if (octets !== undefined) controller.enqueue(octets);
      if (octets !== undefined) {
        this.#owner.used();
        this.#owner.settle();
        return;
      }
      if (this.#isOver) return;
      await this.#moved.wait();
    }
  }

  async #write(octets: Uint8Array): Promise<void> {
    this.accept();
    const { channel } = this.#owner;
    // The application may use its memory again.
    this.#owner.used();
    channel.write(this.#id, given.has(octets) ? octets : new Uint8Array(octets), true);
    this.#owner.settle();
    while (!this.#isOver && channel.room(this.#id) <= 0) await this.#moved.wait();
  }

  #end(): void {
    this.accept();
    this.#owner.channel.end(this.#id);
    this.#owner.settle();
  }
}
