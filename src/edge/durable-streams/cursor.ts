/**
 * Cursors: numbers that change the URL of each live read, so that no cache answers it for ever [PROTOCOL 10.1].
 *
 * @module
 */
import { CURSOR_INTERVAL, CURSOR_JITTER_SECONDS, CURSOR_ORIGIN } from "./limits.ts";

/**
 * The cursor of an answer: the number of the current interval, or a greater one than the client has sent. What is no
 * such number counts as none.
 *
 * @param now milliseconds since 1970
 * @param random from 0 up to, not including, 1
 *
 * @example
 * nextCursor(undefined, Date.UTC(2024, 9, 9, 0, 1), 0); // "3"
 * nextCursor("3", Date.UTC(2024, 9, 9, 0, 1), 0); // "4"
 */
export function nextCursor(sent: string | undefined, now: number, random: number): string {
  const current = Math.max(0, Math.floor((now - CURSOR_ORIGIN) / CURSOR_INTERVAL));
  const theirs = sent !== undefined && /^\d{1,15}$/.test(sent) ? Number(sent) : -1;
  if (theirs < current) return String(current);
  const seconds = 1 + Math.floor(random * CURSOR_JITTER_SECONDS);
  return String(theirs + Math.max(1, Math.ceil((seconds * 1000) / CURSOR_INTERVAL)));
}
