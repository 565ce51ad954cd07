/**
 * Text of strangers for a line of a log.
 *
 * @module
 */

/** Characters that are shown: a name or a reason fits, and a stranger cannot fill the log with one line. */
const SHOWN = 300;

/** Text in quotes, as JSON has it, cut when it is long: one line of visible ASCII, whatever is in it. */
export function printable(text: string): string {
  const shown = text.length > SHOWN ? `${text.slice(0, SHOWN)}...` : text;
  return JSON.stringify(shown).replace(/[^ -~]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
}
