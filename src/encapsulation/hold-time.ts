/**
 * For how long a server is asked to hold a GET of KeepAlive. Each GET that was held to its end lets the next be held longer:
 * an idle device costs less then. A proxy that ends one sooner shows how long they may be. Pure.
 *
 * @module
 */

/** Seconds. Most proxies give up after 30 s or more without an answer, and some after 60 s. */
export const FIRST_HOLD = 25;
export const LONGEST_HOLD = 55;
const STEP = 10;

/** Seconds by which a server answers too early: its clock, and half of a second of the way. */
const EARLY = 1;

/** Seconds of {@link FIRST_HOLD} to {@link LONGEST_HOLD}, or less. */
export interface HoldTime {
  /** Of the next GET. */
  readonly next: number;
  /** What the way has let through; 0 for nothing yet. */
  readonly proven: number;
  /** What is not to be exceeded. */
  readonly limit: number;
}

/** Seconds for which a server holds a GET that asks for so many; undefined asks for nothing. */
export function heldFor(asked: number | undefined): number {
  return asked === undefined ? FIRST_HOLD : Math.min(asked, LONGEST_HOLD);
}

/** @param limit what is known of the way; default: nothing */
export function firstHold(limit = LONGEST_HOLD): HoldTime {
  return { next: Math.min(FIRST_HOLD, limit), proven: 0, limit };
}

/** After a GET that was answered without data, `seconds` after it was sent. */
export function holdAfter(hold: HoldTime, seconds: number): HoldTime {
  if (seconds < hold.next - EARLY) return hold;
  return { ...hold, next: Math.min(hold.next + STEP, hold.limit), proven: hold.next };
}

/**
 * After a GET that has ended without its answer, `seconds` after it was sent; undefined if that says nothing of how long it
 * may be held.
 */
export function holdCut(hold: HoldTime, seconds: number): HoldTime | undefined {
  const { proven, next } = hold;
  if (proven === 0 || next <= proven || seconds < proven - EARLY) return undefined;
  return { next: proven, proven, limit: proven };
}
