/** Messages that a test of a network sends, and the count of those that arrived. */
import { pattern } from "../support/watch.ts";

/** Messages that are sent together, each with its number in it. */
export interface Batch {
  /** Distinguishes the batches of a device. */
  readonly batch: number;
  readonly count: number;
  /** Bytes of each message. */
  readonly bytes: number;
}

/** What arrived of a batch. */
export interface Tally {
  readonly arrived: number;
  readonly doubled: number;
  /** Messages that are not as they were sent, or belong to no batch. */
  readonly wrong: number;
}

/** Batch and number before the rest of a message. */
const HEAD = 8;

/** The body of a message: no two of them are alike. */
export function bodyOf({ batch, bytes }: Batch, number: number): Uint8Array {
  const body = new Uint8Array(Math.max(bytes, HEAD));
  const view = new DataView(body.buffer);
  view.setUint32(0, batch);
  view.setUint32(4, number);
  body.set(pattern(body.length - HEAD, batch * 1_000_003 + number), HEAD);
  return body;
}

/** Counts the messages that arrive at a device. */
export class Counter {
  readonly #batches = new Map<number, { readonly numbers: Set<number>; doubled: number }>();
  #wrong = 0;

  add(body: Uint8Array): void {
    const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
    if (body.length < HEAD) {
      this.#wrong += 1;
      return;
    }
    const [batch, number] = [view.getUint32(0), view.getUint32(4)];
    const expected = bodyOf({ batch, count: 0, bytes: body.length }, number);
    if (Buffer.compare(body, expected) !== 0) {
      this.#wrong += 1;
      return;
    }
    const found = this.#batches.get(batch) ?? { numbers: new Set(), doubled: 0 };
    this.#batches.set(batch, found);
    if (found.numbers.has(number)) found.doubled += 1;
    found.numbers.add(number);
  }

  tally({ batch }: Pick<Batch, "batch">): Tally {
    const { numbers, doubled } = this.#batches.get(batch) ?? { numbers: new Set(), doubled: 0 };
    return { arrived: numbers.size, doubled, wrong: this.#wrong };
  }
}
