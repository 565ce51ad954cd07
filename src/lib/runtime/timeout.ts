/**
 * Pauses, and timeouts for promises that may never settle.
 *
 * @module
 */

/** Returns the value of a promise; rejects if it takes longer than this many milliseconds. */
export async function promptly<T>(milliseconds: number, promise: Promise<T>): Promise<T> {
  const got = await within(milliseconds, promise);
  if (got === undefined) throw new Error(`no answer within ${milliseconds} ms`);
  return got.value;
}

/** Returns the value of a promise, or undefined if it takes longer than this many milliseconds. */
export async function within<T>(milliseconds: number, promise: Promise<T>): Promise<{ readonly value: T } | undefined> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), milliseconds);
  });
  try {
    return await Promise.race([promise.then((value) => ({ value })), late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Resolves after this many milliseconds, or as soon as the signal aborts, which leaves no timer behind. */
export function sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) {
      resolve();
      return;
    }
    const wake = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", wake);
      resolve();
    };
    const timer = setTimeout(wake, milliseconds);
    signal?.addEventListener("abort", wake, { once: true });
  });
}

/** Resolves at the end of this turn of the event loop, where the runtime can tell; otherwise soon. */
export function endOfTurn(): Promise<void> {
  return new Promise((resolve) => {
    if (typeof setImmediate === "function") setImmediate(resolve);
    else setTimeout(resolve);
  });
}

/** A timer that fires later than this was kept waiting: timers are a few milliseconds late on a busy machine. */
const LATE = 1000;

/**
 * Calls `run` at a time of `performance.now()`. A process that was starved or stopped meanwhile first reads what has
 * arrived, so that it does not take its own absence for the silence of others.
 */
export function atTime(time: number, run: () => void): ReturnType<typeof setTimeout> {
  return setTimeout(
    () => {
      if (performance.now() - time > LATE) afterInput(run);
      else run();
    },
    Math.max(0, time - performance.now()),
  );
}

/** Calls `run` once the bytes that have already arrived are read, where the runtime can tell; otherwise soon. */
export function afterInput(run: () => void): void {
  // Timers run before sockets are read, and this after.
  if (typeof setImmediate === "function") setImmediate(run);
  else setTimeout(run);
}
