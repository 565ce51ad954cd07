/**
 * The text of `grooveway --help`: commands, environment variables and exit codes.
 *
 * @module
 */
import { describeExitCodes } from "./exit-codes.ts";

/** Environment variables that the command reads. The README lists them too. */
export const ENVIRONMENT: Readonly<Record<string, string>> = {
  GROOVEWAY_TOKEN: "the token of `send` and `recv`, or `@FILE`; `--token` wins",
  GROOVEWAY_ADMIN_TOKEN: "the token of `mailbox`, and the admin token of `edge`",
  GROOVEWAY_STATE: "the folder for what `send` and `recv` remember of unfinished transfers",
  XDG_STATE_HOME: "without `GROOVEWAY_STATE` it is the folder `grooveway` in this one",
  HOME: "without either it is `.local/state/grooveway` in this one",
  TMPDIR: "the folder for temporary files; default `/tmp`",
  GROOVEWAY_DEBUG: "`1` prints the stack of an error below its line",
};

/**
 * Returns the text of `grooveway --help`.
 *
 * @param commands summaries, by command name
 */
export function generalHelp(commands: Readonly<Record<string, { readonly summary: string }>>): string {
  return `Usage: grooveway COMMAND [options]

Carries devices that may only make outgoing HTTP connections to relays that speak SSTP, and keeps what is sent to them.

${table(Object.entries(commands).map(([name, { summary }]) => [name, summary]))}

grooveway COMMAND --help shows the options of each, with an example; grooveway --version shows which version this is.

Environment:

${table(Object.entries(ENVIRONMENT).map(([name, text]) => [name, text.replaceAll("`", "")]))}

Exit codes:

${describeExitCodes()}`;
}

function table(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, text]) => `  ${name.padEnd(width)}  ${text}`).join("\n");
}
