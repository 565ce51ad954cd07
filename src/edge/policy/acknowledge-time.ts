/**
 * How long a consumer may keep messages without acknowledging any while another device waits for them: the setting
 * ACKNOWLEDGE_TIME. Pure: command and edge read it alike.
 *
 * @module
 */

/** Seconds when nothing is set: a person's program has answered by then, and a hung one is not waited for much longer. */
export const ACKNOWLEDGE_SECONDS = 120;

/** The least and the most that may be set: below, a slow device would lose its messages to another; a day is for ever. */
export const LEAST_SECONDS = 15;
export const MOST_SECONDS = 86_400;

/**
 * @returns milliseconds, or undefined when the text is not a number of seconds in the range
 *
 * @example
 * parseAcknowledgeTime(""); // 120000
 */
export function parseAcknowledgeTime(text: string): number | undefined {
  const trimmed = text.trim();
  if (trimmed === "") return ACKNOWLEDGE_SECONDS * 1000;
  const seconds = Number(trimmed);
  if (!/^\d+$/.test(trimmed) || seconds < LEAST_SECONDS || seconds > MOST_SECONDS) return undefined;
  return seconds * 1000;
}
