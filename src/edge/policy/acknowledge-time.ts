/**
 * The setting ACKNOWLEDGE_TIME: how long a consumer may keep messages without acknowledging any while another device
 * waits for them. Pure: the command and the edge read it alike.
 *
 * @module
 */

/** Default in seconds. A program has answered by then, and a hung one does not hold others up much longer. */
export const ACKNOWLEDGE_SECONDS = 120;

/** Range in seconds. With less, a slow device would lose its messages to another; a day is as good as forever. */
export const LEAST_SECONDS = 15;
export const MOST_SECONDS = 86_400;

/**
 * Parses the setting.
 *
 * @returns milliseconds, or undefined if the text is not a number of seconds in the range
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
