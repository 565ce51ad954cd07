/**
 * How long the system's resolver waits for a DNS server before it asks the next one. Pure.
 *
 * @module
 */

/**
 * With its usual 5 s, a silent first server would take the time in which a device has to find its way (6 s). Answers
 * take less than 2 s also over satellites.
 */
const OPTIONS = "timeout:2 attempts:3";

/**
 * Returns the value for the variable RES_OPTIONS of glibc; undefined if the user or the administrator has chosen one.
 *
 * @param configured the text of resolv.conf
 */
export function resolverOptions(
  { RES_OPTIONS: chosen }: Readonly<Record<string, string | undefined>>,
  configured: string,
): string | undefined {
  const isChosen = chosen !== undefined || /^[ \t]*options\b.*\b(?:timeout|attempts):/m.test(configured);
  return isChosen ? undefined : OPTIONS;
}
