/**
 * The setting ACKNOWLEDGE_TIME: how long a consumer may keep messages without acknowledging any while another device
 * waits for them. Pure: the command and the edge read it alike.
 *
 * @module
 */

import { malformed, type Setting } from "../../lib/setting.ts";

/** Default in seconds. A program has answered by then, and a hung one does not hold others up much longer. */
export const ACKNOWLEDGE_SECONDS = 120;

/** Range in seconds. With less, a slow device would lose its messages to another; a day is as good as forever. */
const LEAST_SECONDS = 15;
const MOST_SECONDS = 86_400;

/**
 * Reads the setting: a number of seconds in the range.
 *
 * @returns milliseconds
 *
 * @example
 * readAcknowledgeTime(""); // { ok: true, value: 120000 }
 */
export function readAcknowledgeTime(text: string): Setting<number> {
  const trimmed = text.trim();
  if (trimmed === "") return { ok: true, value: ACKNOWLEDGE_SECONDS * 1000 };
  const seconds = Number(trimmed);
  if (/^\d+$/.test(trimmed) && seconds >= LEAST_SECONDS && seconds <= MOST_SECONDS) {
    return { ok: true, value: seconds * 1000 };
  }
  const problem = `is ${JSON.stringify(text)}, which is not a number of seconds in range`;
  const cure = `write a number from ${LEAST_SECONDS} to ${MOST_SECONDS} (--acknowledge-time)`;
  return malformed("ACKNOWLEDGE_TIME", problem, cure);
}
