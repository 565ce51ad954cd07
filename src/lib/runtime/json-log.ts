/**
 * A log for machines: one line of JSON per entry, on the console.
 *
 * @module
 */

/** Logs an entry under a name of the vocabulary that the caller's room has. */
export function logJson<Name extends string>(
  level: "warn" | "error",
  reason: Name,
  more: Readonly<Record<string, string | number | boolean | undefined>>,
): void {
  console[level](JSON.stringify({ reason, ...more }));
}
