/** Durations in command-line options. */

const SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 24 * 3600 };

/** Parses a duration such as 90s, 15m, 12h or 30d into seconds. Returns undefined if it is not one. */
export function secondsIn(text: string): number | undefined {
  const [, count = "", unit = ""] = /^(0|[1-9][0-9]{0,6})([smhd])$/.exec(text) ?? [];
  const seconds = SECONDS[unit];
  return seconds === undefined ? undefined : Number(count) * seconds;
}

/** Formats seconds as the shortest such text. */
export function durationText(seconds: number): string {
  const [unit, length] = Object.entries(SECONDS).findLast(([, length]) => seconds > 0 && seconds % length === 0) ?? [
    "s",
    1,
  ];
  return `${seconds / length}${unit}`;
}
