/**
 * The setting KEEP_TIME: how long a mailbox that is read over HTTP keeps messages that a device has acknowledged. Pure:
 * the command and the edge read it alike.
 *
 * @module
 */

import { malformed, type Setting } from "../../lib/setting.ts";

/** Default in seconds: a reader that looks once a day, or was cut off over night, misses nothing. */
export const KEEP_SECONDS = 86_400;

/** Range in seconds. 0 keeps nothing; what waits is kept for two weeks, and what was read need not stay for longer. */
const MOST_SECONDS = 14 * 86_400;

/**
 * Reads the setting: a number of seconds in the range.
 *
 * @returns milliseconds
 *
 * @example
 * readKeepTime(""); // { ok: true, value: 86400000 }
 */
export function readKeepTime(text: string): Setting<number> {
  const trimmed = text.trim();
  if (trimmed === "") return { ok: true, value: KEEP_SECONDS * 1000 };
  const seconds = Number(trimmed);
  if (/^\d{1,9}$/.test(trimmed) && seconds <= MOST_SECONDS) return { ok: true, value: seconds * 1000 };
  const problem = `is ${JSON.stringify(text)}, which is not a number of seconds in range`;
  return malformed("KEEP_TIME", problem, `write a number from 0 to ${MOST_SECONDS} (--keep-time)`);
}
