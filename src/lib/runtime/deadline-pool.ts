/**
 * Timeouts for RPC calls, which a deploy or crash can swallow, and for the pieces of a stream. All calls of one object, or
 * all pieces, share a timer, because a timer each can cost more than the call. It runs while calls are pending, and at
 * most once more, so that an idle object can hibernate.
 *
 * @module
 */

/** Milliseconds between checks of pending calls. A timeout is noticed that much later, which hardly matters. */
export const CALL_LOOK = 1_000;

interface Waiting {
  until: number;
  readonly expire: () => void;
}

export class DeadlinePool {
  readonly #timeout: number;
  /** Pending calls, oldest first. */
  readonly #waiting = new Set<Waiting>();
  #looking = false;

  /** @param timeout milliseconds after which a call has failed; it may take {@link CALL_LOOK} longer */
  constructor(timeout: number) {
    this.#timeout = timeout;
  }

  /** Returns the value of a promise, or undefined if it takes too long. */
  async within<T>(promise: Promise<T>): Promise<{ readonly value: T } | undefined> {
    let waiting: Waiting | undefined;
    const late = new Promise<undefined>((resolve) => {
      waiting = { until: Date.now() + this.#timeout, expire: () => resolve(undefined) };
      this.#waiting.add(waiting);
    });
    this.#look();
    try {
      return await Promise.race([promise.then((value) => ({ value })), late]);
    } finally {
      if (waiting !== undefined) this.#waiting.delete(waiting);
    }
  }

  /** Returns the result of a call; rejects if it takes too long. */
  async keep<T>(call: Promise<T>): Promise<T> {
    const got = await this.within(call);
    if (got === undefined) throw new Error(`no answer within ${this.#timeout} ms`);
    return got.value;
  }

  #look(): void {
    const [oldest] = this.#waiting;
    if (this.#looking || oldest === undefined) return;
    this.#looking = true;
    const began = Date.now();
    setTimeout(
      () => {
        this.#looking = false;
        const now = Date.now();
        // The platform has no clock that cannot be set back.
        if (now < began) for (const waiting of this.#waiting) waiting.until -= began - now;
        for (const waiting of this.#waiting) {
          if (waiting.until > now) break;
          this.#waiting.delete(waiting);
          waiting.expire();
        }
        this.#look();
      },
      Math.min(CALL_LOOK, Math.max(0, oldest.until - began)),
    );
  }
}
