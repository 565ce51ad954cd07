/**
 * The reading end of a peer's queue in the store.
 *
 * @module
 */
import { Queue as List } from "../lib/queue.ts";
import { CROWDED_AHEAD } from "./limits.ts";
import type { Envelope, Store, Stored } from "./store.ts";

/** Messages read at a time, without bodies. */
export const PAGE = 64;

/** A message to send: from the store, or with flag D from memory only. */
export type Outgoing =
  | { readonly kind: "stored"; readonly envelope: Stored; readonly size: number; readonly seq: number }
  | Volatile;

/** A message with flag D. */
export interface Volatile {
  readonly kind: "volatile";
  readonly envelope: Envelope;
  readonly size: number;
  readonly body: readonly Uint8Array[];
  /** Set if it is streamed between devices. */
  readonly stream: Streamed | undefined;
}

/** A message that is streamed between devices. Its sender is slowed down until it leaves the relay. */
export interface Streamed {
  /** When it arrived, in milliseconds since 1970. */
  readonly at: number;
  /** Called once, when it is sent or dropped. */
  left(): void;
  /** Called while it waits for longer than for a moment. */
  stalled(): void;
}

/**
 * Scans one peer's queue in the store, each message once. In another relay's queue it scans one sender's messages, so
 * that the others' need not be read.
 */
export class Queue {
  readonly peer: string;
  /** Restricts the queue to this sender; undefined for all. */
  readonly sender: string | undefined;
  readonly #store: Store;
  /** Sequence numbers to skip. */
  readonly #except: ReadonlySet<number>;
  #cursor = 0;
  #page = new List<Stored>();
  /** The first message that found no room for a sender. Later messages without a sender also wait. */
  #crowded: number | undefined;
  /** Messages scanned since. */
  #ahead = 0;
  /** The sender's arrival counter when the scan reached the end. */
  #ended = 0;

  constructor(store: Store, peer: string, except: ReadonlySet<number>, sender?: string) {
    this.#store = store;
    this.#except = except;
    this.peer = peer;
    this.sender = sender;
  }

  /** Whether a queue of one sender has nothing left. */
  get isOver(): boolean {
    return this.sender !== undefined && this.#crowded === undefined && this.#arrival === 0;
  }

  get #arrival(): number {
    return this.sender === undefined ? 0 : this.#store.arrival(this.peer, this.sender);
  }

  /** Sequence number of the last scanned message. */
  get cursor(): number {
    return this.#cursor;
  }

  get crowded(): number | undefined {
    return this.#crowded;
  }

  set crowded(seq: number | undefined) {
    this.#crowded = seq;
    this.#ahead = 0;
  }

  /** Takes the next unscanned message; undefined at the end, or if too many wait for room. */
  take(): Stored | undefined {
    if (this.#crowded !== undefined && this.#ahead >= CROWDED_AHEAD) return undefined;
    if (this.sender !== undefined && this.#page.first === undefined && this.#arrival === this.#ended) return undefined;
    while (this.#page.first === undefined) {
      const page = this.#store.after(this.peer, this.#cursor, PAGE, this.sender);
      for (const stored of page) if (!this.#except.has(stored.seq)) this.#page.push(stored);
      const last = page.at(-1);
      if (last === undefined) break;
      if (this.#page.first === undefined) this.#cursor = last.seq;
    }
    const first = this.#page.shift();
    if (first === undefined) {
      this.#ended = this.#arrival;
      return undefined;
    }
    this.#cursor = first.seq;
    this.#ahead += 1;
    return first;
  }
}

/**
 * Row `n` of a message's body; undefined after the last. The rows fall short of the message's size if it was removed
 * meanwhile, because another connection acknowledged it or it expired.
 */
export function partOf(store: Store, message: Outgoing, n: number): Uint8Array | undefined {
  return message.kind === "volatile" ? message.body[n] : store.body(message.seq, n);
}
