/**
 * Notices a runtime that is alive but does nothing any more: one that is stopped, or caught in an endless loop. It is asked
 * now and then, and hangs if it does not answer for long although this process itself runs on time. Time that this process
 * did not get either, on a machine that was suspended, paused or overloaded, proves nothing, so a question that was open
 * then does not count. Wall clocks do not matter. Pure.
 *
 * @module
 */

/** How a runtime is asked, in milliseconds. */
export interface Patience {
  /** Pause after an answer. */
  readonly pause: number;
  /** How long one question may remain unanswered. */
  readonly answer: number;
}

/**
 * A question costs a millisecond of CPU, so one in 15 s is free. An answer takes some milliseconds, and a few seconds on a
 * machine with twenty times too much to do: {@link QUESTIONS} of 30 s leave no doubt, and a restart cuts off every device.
 */
export const PATIENCE: Patience = { pause: 15_000, answer: 30_000 };

/** So many questions in a row must remain unanswered: the second goes out on a connection of its own. */
export const QUESTIONS = 2;

/** Milliseconds between two looks at the clock while a question is open. */
const TICK = 1000;

/** A timer that fires later than this shows that this process did not run: timers are a few milliseconds late on a busy machine. */
const LATE = 1000;

/** What is watched. */
export interface Asked {
  /** Resolves with an answer. It also resolves when there is nobody to ask, or when the signal aborts. */
  ask(signal: AbortSignal): Promise<void>;
}

/** The time by which it is watched. */
export interface Clock {
  /** Returns early if the signal aborts. */
  sleep(milliseconds: number, signal: AbortSignal): Promise<void>;
  /** Milliseconds, never set back. */
  now(): number;
}

/**
 * Asks until the runtime hangs or the signal says that it is gone.
 *
 * @returns the time of its last answer if it hangs; undefined if it is gone
 */
export async function untilHung(
  asked: Asked,
  clock: Clock,
  patience: Patience,
  gone: AbortSignal,
): Promise<number | undefined> {
  let heard = clock.now();
  for (let unanswered = 0; unanswered < QUESTIONS; ) {
    if (unanswered === 0) await clock.sleep(patience.pause, gone);
    if (gone.aborted) return undefined;
    const outcome = await ask(asked, clock, patience.answer, gone);
    if (gone.aborted) return undefined;
    if (outcome === "answered") heard = clock.now();
    unanswered = outcome === "silent" ? unanswered + 1 : 0;
  }
  return heard;
}

async function ask(
  asked: Asked,
  clock: Clock,
  patience: number,
  gone: AbortSignal,
): Promise<"answered" | "silent" | "unknown"> {
  const over = new AbortController();
  const signal = AbortSignal.any([gone, over.signal]);
  void asked.ask(signal).then(() => over.abort());
  for (let left = patience; left > 0; ) {
    const before = clock.now();
    const tick = Math.min(TICK, left);
    await clock.sleep(tick, signal);
    if (signal.aborted) return "answered";
    if (clock.now() - before > tick + LATE) {
      over.abort();
      return "unknown";
    }
    left -= tick;
  }
  over.abort();
  return "silent";
}
