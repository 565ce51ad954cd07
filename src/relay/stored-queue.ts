/**
 * What one connection has to bring to its device: the queues that it consumes, in turn, each in its own order.
 *
 * @module
 */
import { Queue as List } from "../lib/queue.ts";
import { CROWDED_AHEAD } from "./limits.ts";
import type { Envelope, Store, Stored } from "./store.ts";

/** How many messages are looked up at a time, without their bodies. */
export const PAGE = 64;

/** A message to be sent: from the store, or with flag D from memory alone. */
export type Outgoing =
  | { readonly kind: "stored"; readonly envelope: Stored; readonly size: number; readonly seq: number }
  | {
      readonly kind: "volatile";
      readonly envelope: Envelope;
      readonly size: number;
      readonly body: readonly Uint8Array[];
    };

/**
 * The reading end of one peer's queue in the store: each message is looked at once, and left to its sender. Of another
 * relay's queue each sender's messages are one by themselves, so that those of all others need not be looked through.
 */
export class Queue {
  readonly peer: string;
  /** Whose messages it has; undefined when those of all. */
  readonly sender: string | undefined;
  readonly #store: Store;
  /** Numbers of messages that are not taken. */
  readonly #except: ReadonlySet<number>;
  #cursor = 0;
  #page = new List<Stored>();
  /** The first message whose destination found no room for a sender; those without one wait from here on. */
  #crowded: number | undefined;
  /** How many were looked at since. */
  #ahead = 0;
  /** What the store says of the sender's last message, when all were looked at. */
  #ended = 0;

  constructor(store: Store, peer: string, except: ReadonlySet<number>, sender?: string) {
    this.#store = store;
    this.#except = except;
    this.peer = peer;
    this.sender = sender;
  }

  /** Whether nothing of its sender waits. */
  get isOver(): boolean {
    return this.sender !== undefined && this.#crowded === undefined && this.#arrival === 0;
  }

  get #arrival(): number {
    return this.sender === undefined ? 0 : this.#store.arrival(this.peer, this.sender);
  }

  /** The last message that was looked at. */
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

  /** Takes the next message that was not yet looked at; undefined when all were, or too many wait for room. */
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
 * Row `n` of the body of a message; undefined after the last. The rows are shorter than the message's size when it was
 * removed meanwhile: another connection has acknowledged it, or it has expired.
 */
export function partOf(store: Store, message: Outgoing, n: number): Uint8Array | undefined {
  return message.kind === "volatile" ? message.body[n] : store.body(message.seq, n);
}
