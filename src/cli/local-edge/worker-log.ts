/**
 * The log of a local edge for machines: one line of JSON per entry, with its time and level. The worker's own entries have
 * a reason of the README; others come from the runtime.
 *
 * @module
 */

/** Levels, from none to all. */
export const LEVELS = ["off", "error", "warn", "info", "debug"] as const;
export type Level = (typeof LEVELS)[number];

/** A line of the worker or the runtime is cut off after so many characters, as a stack of calls is at most. */
const LONGEST = 8192;

/**
 * Writes an entry as a line.
 *
 * @param level as the runtime names it
 * @param message JSON of the worker, or a text
 * @param now milliseconds since 1970
 * @returns undefined if the entry is below the least level
 */
export function logLine(least: Level, level: string, message: string, now: number): string | undefined {
  const known = levelOf(level);
  if (LEVELS.indexOf(known) > LEVELS.indexOf(least)) return undefined;
  return JSON.stringify({ time: new Date(now).toISOString(), level: known, ...entryOf(message) });
}

function levelOf(level: string): Level {
  if (level === "log") return "info";
  return LEVELS.find((known) => known === level && known !== "off") ?? "debug";
}

function entryOf(message: string): object {
  if (message.length <= LONGEST && message.startsWith("{")) {
    try {
      // A line has its own time and level.
      const { time: _, level: __, ...entry } = JSON.parse(message) as Record<string, unknown>;
      return entry;
    } catch {
      // A text that begins like JSON.
    }
  }
  return { message: message.slice(0, LONGEST) };
}
