/**
 * The way of streams to the object that consumes a mailbox: calls, and while there is much to carry, a WebSocket
 * (batch-socket.ts).
 *
 *   a batch long after the last ─► call
 *   a batch soon after the last ─► call, and the WebSocket is opened ─► the next batches
 *
 * A WebSocket that this object has opened keeps it from hibernating, so it is closed when it has not been used for a while.
 * What is not answered when it ends is sent once more by a call: both ends of a channel know what they have had.
 *
 * @module
 */
import { isRelay } from "../../sstp/index.ts";
import type { Env } from "../env.ts";
import { logError } from "../log.ts";
import { BatchSocket, openSocket } from "../rpc/batch-socket.ts";
import { BELL_CLOSE } from "../rpc/doorbell-protocol.ts";
import type { StreamRpc, Taken } from "../rpc/mailbox-rpc.ts";
import type { MessageBatch } from "../rpc/message-batch.ts";
import { type BatchTarget, STREAM } from "../rpc/tunnel-rpc.ts";
import { tunnelNamed } from "../volatile/object-named.ts";
import { BATCHES_IDLE, BATCHES_RETRY, BATCHES_SOON } from "./limits.ts";

/** How a consumer is reached. */
export interface ConsumerAccess {
  /** Made once: a new one for each call costs as much as half a call. */
  readonly stub: StreamRpc;
  /** Opens a WebSocket for batches; absent if the consumer takes only calls. */
  readonly open?: (() => Promise<WebSocket>) | undefined;
}

export class ConsumerPath {
  readonly #stub: StreamRpc;
  readonly #open: (() => Promise<WebSocket>) | undefined;
  #socket: { readonly socket: WebSocket; readonly batches: BatchSocket<BatchTarget> } | undefined;
  #to: BatchTarget = { peer: "", generation: 0 };
  #isOpening = false;
  #isClosed = false;
  #passing = 0;
  #usedAt = Number.NEGATIVE_INFINITY;
  /** Not before this time is the WebSocket opened again. */
  #opensAt = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor({ stub, open }: ConsumerAccess) {
    this.#stub = stub;
    this.#open = open;
  }

  /** Passes a small batch, which counts as taken. Returns false if `stream` is to be called. */
  streamNow(peer: string, generation: number, batch: MessageBatch): boolean {
    if (this.#socket?.batches.passNow(this.#toOf(peer, generation), batch) !== true) return false;
    this.#usedAt = Date.now();
    return true;
  }

  /** Passes a batch. Make one call at a time. Rejects if the consumer was reset, most likely. */
  async stream(peer: string, generation: number, batch: MessageBatch): Promise<Taken> {
    const now = Date.now();
    const isSoon = now - this.#usedAt < BATCHES_SOON;
    this.#usedAt = now;
    this.#passing += 1;
    try {
      const taken = await this.#socket?.batches.pass(this.#toOf(peer, generation), batch);
      if (taken !== undefined) return taken;
      if (isSoon) this.#openSoon(now);
      return await this.#stub.stream(peer, generation, batch);
    } finally {
      this.#passing -= 1;
    }
  }

  /** The same object as long as nothing changes. */
  #toOf(peer: string, generation: number): BatchTarget {
    if (this.#to.peer !== peer || this.#to.generation !== generation) this.#to = { peer, generation };
    return this.#to;
  }

  /** Closes the WebSocket. Calls still work. */
  close(): void {
    this.#isClosed = true;
    this.#shut();
  }

  #openSoon(now: number): void {
    if (this.#open === undefined || this.#socket !== undefined || this.#isOpening || this.#isClosed) return;
    if (now < this.#opensAt) return;
    this.#isOpening = true;
    // Also after a failure: the consumer may be of a release that knows no such WebSocket.
    this.#opensAt = now + BATCHES_RETRY;
    this.#open()
      .then((socket) => this.#opened(socket))
      .catch(logError)
      .finally(() => {
        this.#isOpening = false;
      });
  }

  #opened(socket: WebSocket): void {
    if (this.#isClosed) {
      socket.close(BELL_CLOSE.done, "over");
      return;
    }
    const batches = new BatchSocket<BatchTarget>(socket, () => over());
    const over = () => {
      batches.lost();
      if (this.#socket?.socket === socket) this.#socket = undefined;
      // One that only the other end has closed stays in memory.
      socket.close(BELL_CLOSE.done, "over");
    };
    socket.addEventListener("message", ({ data }) => {
      batches.hear(data as string | ArrayBuffer)?.catch((error: unknown) => {
        logError(error);
        over();
      });
    });
    socket.addEventListener("close", over);
    socket.addEventListener("error", over);
    this.#socket = { socket, batches };
    this.#look();
  }

  #look(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      if (this.#socket === undefined) return;
      const isIdle = this.#passing === 0 && Date.now() - this.#usedAt >= BATCHES_IDLE;
      if (isIdle) this.#shut();
      else this.#look();
    }, BATCHES_IDLE);
  }

  #shut(): void {
    clearTimeout(this.#timer);
    const opened = this.#socket;
    this.#socket = undefined;
    this.#opensAt = 0;
    opened?.socket.close(BELL_CLOSE.done, "over");
    opened?.batches.lost();
  }
}

/** The consumer of a mailbox, by name: a Tunnel, or the Link of a relay, which has the relay's URL as its name. */
export function consumerIn(env: Env, name: string): ConsumerAccess {
  if (isRelay(name)) return { stub: env.LINK.getByName(name) };
  const stub = tunnelNamed(env, name);
  return { stub, open: () => openSocket(stub, STREAM.batches) };
}
