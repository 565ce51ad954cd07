/**
 * Calls to other objects, which a deploy or a crash may swallow: none is waited for for ever. All that one object has
 * under way share a timer, since a timer of its own costs more than a call may. It runs while there is a call, and at
 * the most once after that, so an object that is silent may sleep.
 *
 * @module
 */
import { CALL_LOOK } from "./defaults.ts";

interface Call {
  readonly until: number;
  readonly fail: (error: Error) => void;
}

export class Calls {
  readonly #timeout: number;
  /** Those under way, the oldest first. */
  readonly #waiting = new Set<Call>();
  #looking = false;

  /** @param timeout after which a call has failed, in milliseconds; it may take {@link CALL_LOOK} longer */
  constructor(timeout: number) {
    this.#timeout = timeout;
  }

  /** What a call gives; rejects when it does not come back in time. */
  async keep<T>(called: Promise<T>): Promise<T> {
    let call: Call | undefined;
    const late = new Promise<never>((_, reject) => {
      call = { until: Date.now() + this.#timeout, fail: reject };
      this.#waiting.add(call);
    });
    this.#look();
    try {
      return await Promise.race([called, late]);
    } finally {
      if (call !== undefined) this.#waiting.delete(call);
    }
  }

  #look(): void {
    if (this.#looking) return;
    this.#looking = true;
    setTimeout(() => {
      this.#looking = false;
      const now = Date.now();
      for (const { until, fail } of this.#waiting) {
        if (until > now) break;
        fail(new Error(`no answer within ${this.#timeout} ms`));
      }
      if (this.#waiting.size > 0) this.#look();
    }, CALL_LOOK);
  }
}
