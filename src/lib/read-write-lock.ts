/**
 * A fair read-write lock: many shared users, or a single exclusive one, in FIFO order. A shared user that arrives after
 * a waiting exclusive one waits for it.
 *
 * @module
 */

export class Turns {
  /** Settles when the last exclusive user has finished. */
  #alone: Promise<unknown> = Promise.resolve();
  /** Shared users since then. */
  readonly #together = new Set<Promise<unknown>>();
  #count = 0;

  /** Number of users that hold the lock or wait for it. */
  get count(): number {
    return this.#count;
  }

  /** Runs concurrently with other shared users. */
  together<T>(use: () => Promise<T>): Promise<T> {
    const turn = this.#counted(this.#alone.then(use));
    const ended = turn.then(nothing, nothing).finally(() => this.#together.delete(ended));
    this.#together.add(ended);
    return turn;
  }

  /** Runs after all earlier users have finished, with no other user beside it. */
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
