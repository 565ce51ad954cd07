/**
 * The Worker's end of a doorbell, at which a request is parked while an object sleeps: a GET of KeepAlive or LongLived
 * (`rpc/doorbell-protocol.ts`), a long-poll, or a connection for events (`rpc/plain-stream-rpc.ts`).
 *
 * @module
 */
import { BELL_CLOSE } from "../rpc/doorbell-protocol.ts";
import { whenStopping } from "../stopping.ts";

/**
 * What is heard: a ring; that some were missed, because too many were not heard; that the bell is closed, by whichever
 * end; or nothing in time. After `closed` it is `closed` for ever.
 */
export type Heard<Ring> =
  | { readonly type: "ring"; readonly ring: Ring }
  | { readonly type: "missed" }
  | { readonly type: "closed"; readonly code: number; readonly reason: string }
  | { readonly type: "late" };

/** The close code of a WebSocket that has ended without one [RFC 6455 7.4.1]. */
const ABNORMAL = 1006;

/** Reason with which a bell closes because the edge is about to stop. */
export const STOPPING = "stopping";

export interface BellOptions<Ring> {
  /** Reads a ring. Texts come as they are. */
  readonly read: (data: ArrayBuffer | string) => Ring;
  /** What the rings may weigh that are kept until they are heard; what is beyond that is missed. Default: any weight. */
  readonly most?: number;
  /** Default: nothing, for an object that waits to be armed. */
  readonly weigh?: (ring: Ring) => number;
  /** Whether the bell closes when the edge is about to stop, so that who waits can be answered. */
  readonly heedsStop?: boolean;
  /** Aborts when the client has gone. The object is told. */
  readonly gone?: AbortSignal;
}

export class Bell<Ring> {
  readonly #socket: WebSocket;
  readonly #rings: Ring[] = [];
  readonly #ended = Promise.withResolvers<string>();
  #missed = false;
  #closed: Extract<Heard<Ring>, { type: "closed" }> | undefined;
  #wake: (() => void) | undefined;
  readonly #weigh: (ring: Ring) => number;
  /** What the rings weigh that are kept. */
  #weight = 0;
  /**
   * One timer for all waits, which are many when much is appended: it may ring too early, and is then set again. Times
   * are milliseconds since 1970.
   */
  #timer: ReturnType<typeof setTimeout> | undefined;
  #timerAt = Number.POSITIVE_INFINITY;
  #waitsUntil = Number.POSITIVE_INFINITY;
  #heedNoStop: () => void = () => undefined;

  /** @param socket of the object's answer */
  constructor(socket: WebSocket, { read, gone, ...options }: BellOptions<Ring>) {
    const { most = Number.POSITIVE_INFINITY, weigh = () => 0, heedsStop = false } = options;
    this.#socket = socket;
    this.#weigh = weigh;
    socket.binaryType = "arraybuffer";
    socket.addEventListener("message", ({ data }) => {
      if (this.#closed !== undefined) return;
      if (this.#weight < most && !this.#missed) this.#keep(read(data as ArrayBuffer | string));
      else this.#missed = true;
      this.#wake?.();
    });
    socket.addEventListener("close", ({ code, reason }) => this.#end(code, reason));
    socket.addEventListener("error", () => this.#end(ABNORMAL, "ConnectionLost"));
    socket.accept();
    gone?.addEventListener("abort", () => this.close(BELL_CLOSE.deviceGone), { once: true });
    if (gone?.aborted) this.close(BELL_CLOSE.deviceGone);
    if (heedsStop) this.#heedNoStop = whenStopping(() => this.#stop());
  }

  /** @param patience milliseconds. What rings later is heard by the next call. */
  async next(patience = Number.POSITIVE_INFINITY): Promise<Heard<Ring>> {
    const first = this.#take();
    if (first !== undefined) return first;
    this.#waitsUntil = Date.now() + patience;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      if (this.#waitsUntil < this.#timerAt) this.#setTimer();
    });
    this.#wake = undefined;
    return this.#take() ?? { type: "late" };
  }

  /** Resolves with the reason when either end closes, even if nobody listens for a ring. */
  get closed(): Promise<string> {
    return this.#ended.promise;
  }

  /** Sends a word to the object. A closed bell discards it. */
  say(word: "arm" | `arm ${number}` | "release"): void {
    if (this.#closed === undefined) this.#socket.send(word);
  }

  close(code: number): void {
    this.#heedNoStop();
    clearTimeout(this.#timer);
    if (this.#closed?.reason === STOPPING) this.#socket.close(code);
    if (this.#closed !== undefined) return;
    // A pending `next()` must not wait for ever.
    this.#end(code, "");
    this.#socket.close(code);
  }

  #setTimer(): void {
    clearTimeout(this.#timer);
    this.#timerAt = this.#waitsUntil;
    this.#timer = setTimeout(() => this.#beLate(), Math.max(0, this.#waitsUntil - Date.now()));
  }

  #beLate(): void {
    this.#timerAt = Number.POSITIVE_INFINITY;
    if (this.#wake === undefined || this.#waitsUntil === Number.POSITIVE_INFINITY) return;
    if (Date.now() >= this.#waitsUntil) this.#wake();
    else this.#setTimer();
  }

  /** Called by another request, which must not touch this one's socket or timer: `close` does that. */
  #stop(): void {
    this.#end(ABNORMAL, STOPPING);
  }

  #keep(ring: Ring): void {
    this.#rings.push(ring);
    this.#weight += this.#weigh(ring);
  }

  #take(): Heard<Ring> | undefined {
    const ring = this.#rings.shift();
    if (ring !== undefined) {
      this.#weight -= this.#weigh(ring);
      return { type: "ring", ring };
    }
    if (this.#missed) {
      this.#missed = false;
      return { type: "missed" };
    }
    return this.#closed;
  }

  #end(code: number, reason: string): void {
    if (this.#closed !== undefined) return;
    this.#closed = { type: "closed", code, reason };
    this.#ended.resolve(reason);
    this.#wake?.();
  }
}

/** A ring of a Tunnel: bytes, or that more than fit in a ring are to be pulled. */
export type TunnelRing = { readonly kind: "octets"; readonly octets: Uint8Array } | { readonly kind: "pull" };

/** The bell of a Tunnel's answer. */
export function tunnelBell(socket: WebSocket, gone?: AbortSignal): Bell<TunnelRing> {
  return new Bell(socket, { read: readTunnelRing, ...(gone !== undefined && { gone }) });
}

function readTunnelRing(data: ArrayBuffer | string): TunnelRing {
  return typeof data === "string" ? { kind: "pull" } : { kind: "octets", octets: new Uint8Array(data) };
}
