/**
 * Turns at something that many may use at a time, and one alone may change. First come, first served: who comes after one
 * that waits to be alone waits for it.
 *
 * @module
 */

export class Turns {
  /** Settles when the last of those that are alone has ended. */
  #alone: Promise<unknown> = Promise.resolve();
  /** Those that are together since. */
  readonly #together = new Set<Promise<unknown>>();
  #count = 0;

  /** How many have a turn, or wait for one. */
  get count(): number {
    return this.#count;
  }

  /** Runs beside others that are together. */
  together<T>(use: () => Promise<T>): Promise<T> {
    const turn = this.#counted(this.#alone.then(use));
    const ended = turn.then(nothing, nothing).finally(() => this.#together.delete(ended));
    this.#together.add(ended);
    return turn;
  }

  /** Runs when all before have ended; nobody runs beside it. */
  alone<T>(use: () => Promise<T>): Promise<T> {
    const before = Promise.all([this.#alone, ...this.#together]);
    const turn = this.#counted(before.then(use));
    this.#together.clear();
    this.#alone = turn.then(nothing, nothing);
    return turn;
  }

  async #counted<T>(turn: Promise<T>): Promise<T> {
    this.#count += 1;
    try {
      return await turn;
    } finally {
      this.#count -= 1;
    }
  }
}

function nothing(): void {}
