/**
 * What one connection has to bring to its device: the queues that it consumes, in turn, each in its own order.
 *
 * @module
 */
import type { Envelope, Store, Stored } from "./store.ts";

/** How many messages are looked up at a time, without their bodies. */
const PAGE = 64;

/** A message to be sent: from the store, or with flag D from memory alone. */
export type Outgoing =
  | { readonly kind: "stored"; readonly envelope: Envelope; readonly size: number; readonly seq: number }
  | {
      readonly kind: "volatile";
      readonly envelope: Envelope;
      readonly size: number;
      readonly body: readonly Uint8Array[];
    };

/** The reading end of one peer's queue in the store. */
export class Queue {
  readonly peer: string;
  readonly #store: Store;
  #cursor = 0;
  #page: Stored[] = [];

  constructor(store: Store, peer: string) {
    this.#store = store;
    this.peer = peer;
  }

  /** The next message that was not yet taken here, or undefined when all were. It stays the next one until `take`. */
  next(): Outgoing | undefined {
    if (this.#page.length === 0) this.#page = this.#store.after(this.peer, this.#cursor, PAGE);
    const first = this.#page[0];
    return first && { kind: "stored", envelope: first, size: first.size, seq: first.seq };
  }

  /** Takes the message that `next` showed. It stays in the store until its peer has acknowledged it. */
  take(): void {
    const first = this.#page.shift();
    if (first !== undefined) this.#cursor = first.seq;
  }
}

/**
 * The body of a message, one row at a time. It gives less than the message's size when the message was removed
 * meanwhile: another connection has acknowledged it, or it has expired.
 */
export function* bodyOf(store: Store, message: Outgoing): Generator<Uint8Array> {
  if (message.kind === "volatile") {
    yield* message.body;
    return;
  }
  for (let n = 0; ; n += 1) {
    const octets = store.body(message.seq, n);
    if (octets === undefined) return;
    yield octets;
  }
}
