/** A counting semaphore, for slots or bytes. Waiters are served in FIFO order. */
export class Semaphore {
  #free: number;
  readonly #total: number;
  #waiting: { readonly count: number; readonly resolve: () => void; readonly reject: (error: unknown) => void }[] = [];
  #closed: { readonly error: unknown } | undefined;

  constructor(total: number) {
    this.#total = total;
    this.#free = total;
  }

  /**
   * Waits until `count` units are free, and takes them. A count above the total takes the total.
   *
   * @throws the error passed to `close`
   */
  take(count = 1): Promise<void> {
    if (this.#closed !== undefined) return Promise.reject(this.#closed.error);
    const wanted = Math.min(count, this.#total);
    if (this.#waiting.length === 0 && wanted <= this.#free) {
      this.#free -= wanted;
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => this.#waiting.push({ count: wanted, resolve, reject }));
  }

  /** Returns units: the same count as was taken. */
  give(count = 1): void {
    this.#free += Math.min(count, this.#total);
    for (;;) {
      const [next] = this.#waiting;
      if (next === undefined || next.count > this.#free) return;
      this.#waiting.shift();
      this.#free -= next.count;
      next.resolve();
    }
  }

  /** Rejects all waiters and all later calls of `take`. */
  close(error: unknown): void {
    this.#closed ??= { error };
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const { reject } of waiting) reject(this.#closed.error);
  }
}
