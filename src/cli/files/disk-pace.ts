/**
 * Decides whether a function of node:fs is called at once or on a thread.
 *
 * What is in memory takes microseconds, and waking a thread several times as much, which shows with ten thousand small
 * files. What is not takes milliseconds, and would hold up everything else.
 *
 * @module
 */

/** What functions of node:fs call with their outcome. */
export type Callback<T> = (error: NodeJS.ErrnoException | null, value: T) => void;

/**
 * Calls a function of node:fs that takes a callback. node:fs/promises costs three times as much, which shows with ten
 * thousand small files.
 */
export function call<T>(start: (callback: Callback<T>) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    start((error, value) => (error === null || error === undefined ? resolve(value) : reject(error)));
  });
}

/** Milliseconds that a call takes at most when what it needs is in memory, on a slow processor. */
const AT_ONCE = 0.25;

/** Calls made on threads after one that took longer: few if it was chance, and most of all calls if the disk is slow. */
const ON_THREADS = 32;

/** The pace of one disk. */
export class DiskPace {
  /** Calls still to be made on threads. */
  #onThreads = 0;

  /** Calls a function of node:fs, in one of its forms. */
  async call<T>(atOnce: () => T, onThread: (callback: Callback<T>) => void): Promise<T> {
    if (this.#onThreads > 0) {
      this.#onThreads -= 1;
      return call(onThread);
    }
    const began = performance.now();
    try {
      return atOnce();
    } finally {
      if (performance.now() - began > AT_ONCE) this.#onThreads = ON_THREADS;
    }
  }

  /** The same for a function without a result. */
  run(atOnce: () => void, onThread: (callback: (error: NodeJS.ErrnoException | null) => void) => void): Promise<void> {
    return this.call(atOnce, (done) => onThread((error) => done(error, undefined)));
  }
}
