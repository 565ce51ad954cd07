/** The messages sent to the stores that the bench measures, and the interface of a store's client. */

/** Octets of a message body. */
export const LETTER = 100;

/** A message for one of a client's boxes. */
export interface Letter {
  readonly box: number;
  /** Text, so that a store which takes JSON has the same octets as one that takes any. */
  readonly text: string;
}

/** A client of a store: one connection that appends, and what is needed to inspect what it appended. */
export interface Client {
  /** Appends a batch, in the store's form; resolves when all of it is acknowledged. */
  append(letters: readonly Letter[]): Promise<unknown>;
  /** How many messages a box holds; undefined if the store cannot tell. */
  count(box: number): Promise<number | undefined>;
  /** Returns what a box holds, as the store delivers it to a reader: at least `count`, unless they do not arrive. */
  take(box: number, count: number, give: (text: string) => void): Promise<void>;
  /** Yields what arrives in box 0 from now on. */
  watch(give: (text: string) => void): Promise<() => void>;
  /** Empties the boxes. */
  empty(): Promise<void>;
  /** Rows written so far for a box, if the store counts them. */
  rows?(box: number): Promise<number>;
  close(): void | Promise<void>;
}

export type MailTransport = "websocket" | "longlived" | "keepalive";

/** A client, by how it connects. `boxes` are numbered from 0, and belong to it by `name`. */
export type Way = { readonly name: string; readonly boxes: number } & (
  | {
      /** The library that applications use, or the engine inside it. */
      readonly kind: "device" | "engine";
      readonly transport: MailTransport;
      /** The reader's transport, if different. */
      readonly receiver?: MailTransport;
      readonly edge: string;
    }
  | { readonly kind: "platform"; readonly by: "http" | "websocket"; readonly url: string }
  | { readonly kind: "durable-streams"; readonly by: "long-poll" | "sse"; readonly url: string }
  | { readonly kind: "redis"; readonly port: number }
  | { readonly kind: "mqtt"; readonly port: number }
);

/** Does something for each of some boxes, several concurrently. */
export async function eachBox(boxes: number, act: (box: number) => Promise<unknown>): Promise<void> {
  let next = 0;
  const run = async () => {
    while (next < boxes) {
      const box = next;
      next += 1;
      await act(box);
    }
  };
  await Promise.all(Array.from({ length: 10 }, run));
}

/** The token of the measured edge. */
export const ADMIN_TOKEN = "bench";

/** A message: its run, client, box, and number among those. */
export function letter(run: number, client: number, box: number, number: number): Letter {
  return { box, text: `${run}.${client}.${box}.${number}.`.padEnd(LETTER, "0123456789abcdef") };
}

/** Compares what arrived with what was acknowledged. Order is per client and box. */
export class Tally {
  readonly #run: number;
  readonly #sent = new Map<string, number>();
  readonly #seen = new Map<string, Set<number>>();
  readonly #last = new Map<string, number>();
  came = 0;
  duplicated = 0;
  disordered = 0;

  constructor(run: number) {
    this.#run = run;
  }

  /** The next message of a client to a box. */
  next(client: number, box: number): Letter {
    const key = `${client}.${box}`;
    const number = (this.#sent.get(key) ?? 0) + 1;
    this.#sent.set(key, number);
    return letter(this.#run, client, box, number);
  }

  /** How many were sent to a box. */
  sent(box: number): number {
    let sum = 0;
    for (const [key, number] of this.#sent) if (key.endsWith(`.${box}`)) sum += number;
    return sum;
  }

  take(text: string): void {
    const [run, client, box, number] = text.split(".").map(Number);
    if (text.length !== LETTER || run !== this.#run || number === undefined) {
      throw new Error(`a message came that was not sent: ${text.slice(0, 40)}`);
    }
    const key = `${client}.${box}`;
    const seen = this.#seen.get(key) ?? new Set();
    this.#seen.set(key, seen);
    const last = this.#last.get(key) ?? 0;
    if (seen.has(number)) this.duplicated += 1;
    else if (number < last) this.disordered += 1;
    if (!seen.has(number)) this.came += 1;
    seen.add(number);
    this.#last.set(key, Math.max(last, number));
  }
}
