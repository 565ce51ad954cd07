/**
 * Waiting with a limit of time, for a call to another object above all: a deploy or a crash may swallow it. All that one
 * object waits for shares a timer, since a timer of its own costs more than a call may. It runs while there is something
 * to wait for, and at the most once after that, so an object that is silent may sleep.
 *
 * @module
 */

/** How often calls that are under way are looked at: one that has failed is known so much later, which hardly matters. */
export const CALL_LOOK = 1_000;

interface Waiting {
  readonly until: number;
  readonly expire: () => void;
}

export class DeadlinePool {
  readonly #timeout: number;
  /** What is waited for, the oldest first. */
  readonly #waiting = new Set<Waiting>();
  #looking = false;

  /** @param timeout after which nothing is waited for any more, in milliseconds; it may take {@link CALL_LOOK} longer */
  constructor(timeout: number) {
    this.#timeout = timeout;
  }

  /** What a promise gives; undefined when it does not come in time. */
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

  /** What a call gives; rejects when it does not come back in time. */
  async keep<T>(call: Promise<T>): Promise<T> {
    const got = await this.within(call);
    if (got === undefined) throw new Error(`no answer within ${this.#timeout} ms`);
    return got.value;
  }

  #look(): void {
    const [oldest] = this.#waiting;
    if (this.#looking || oldest === undefined) return;
    this.#looking = true;
    setTimeout(
      () => {
        this.#looking = false;
        const now = Date.now();
        for (const waiting of this.#waiting) {
          if (waiting.until > now) break;
          this.#waiting.delete(waiting);
          waiting.expire();
        }
        this.#look();
      },
      Math.min(CALL_LOOK, Math.max(0, oldest.until - Date.now())),
    );
  }
}
