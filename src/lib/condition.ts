/**
 * A condition variable. A waiter must check afterwards, in a loop, whether what it waited for is so.
 *
 * @example
 * while (!this.#over && this.#pending > LIMIT) await this.#changed.wait();
 */
export class Condition {
  #waiting: (() => void)[] = [];

  /** Whether anybody waits: to notify may need a check that costs. */
  get isAwaited(): boolean {
    return this.#waiting.length > 0;
  }

  /** Resolves at the next call of `notifyAll`. */
  wait(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Wakes all that wait, in the order in which they came. */
  notifyAll(): void {
    if (this.#waiting.length === 0) return;
    const waiting = this.#waiting;
    // Those that wait again are woken by the next call.
    this.#waiting = [];
    for (const wake of waiting) wake();
  }
}
