/**
 * The text of `grooveway --help`: commands, environment variables and exit codes.
 *
 * @module
 */
import { describeExitCodes } from "./exit-codes.ts";

/** Environment variables that the command reads. The README lists them too. */
export const ENVIRONMENT: Readonly<Record<string, string>> = {
  GROOVEWAY_TOKEN: "the token of commands that connect as a device, or `@FILE`; `--token` overrides it",
  GROOVEWAY_ADMIN_TOKEN: "the token of `mailbox` (default `GROOVEWAY_TOKEN`), and the admin token of `edge`",
  GROOVEWAY_PROFILE: "the profile of commands that connect to an edge; `--profile` overrides it",
  "HTTPS_PROXY, HTTP_PROXY, ALL_PROXY": "the proxy for `https` and SSTP, for plain `http`, and for both",
  NO_PROXY: "hosts, domains, addresses and networks that are reached without that proxy",
  GROOVEWAY_PAC: "URL or path of a PAC file, if none of these names a proxy",
  GROOVEWAY_PROXY_USER: "user name for the proxy that `--proxy` or `GROOVEWAY_PROXY_FOR` names",
  GROOVEWAY_PROXY_PASSWORD: "its password",
  GROOVEWAY_PROXY_FOR: "the proxy that gets them, if `--proxy` names none",
  GROOVEWAY_STATE: "the folder in which `send` and `recv` record unfinished transfers",
  XDG_STATE_HOME: "if `GROOVEWAY_STATE` is not set, that folder is `grooveway` in this one",
  XDG_CONFIG_HOME: "the profiles are in `grooveway/config.toml` in this folder",
  HOME: "without those variables, the folders are `.local/state/grooveway` and `.config/grooveway` in this one",
  TMPDIR: "the folder for temporary files; default `/tmp`",
  RES_OPTIONS:
    "options of the system's resolver; the command sets `timeout:2 attempts:3` if neither it nor `resolv.conf` does",
  GROOVEWAY_DEBUG: "`1` prints the stack trace of an error below its line",
};

/**
 * Returns the text of `grooveway --help`.
 *
 * @param commands summaries, by command name
 */
export function generalHelp(commands: Readonly<Record<string, { readonly summary: string }>>): string {
  return `Usage: grooveway COMMAND [options]

Carries messages and files between devices that can only make outgoing web requests, and keeps them until they are fetched.

${table(Object.entries(commands).map(([name, { summary }]) => [name, summary]))}

grooveway COMMAND --help shows the options of a command, with an example. grooveway --version shows the version.

Environment:

${table(Object.entries(ENVIRONMENT).map(([name, text]) => [name, text.replaceAll("`", "")]))}

Exit codes:

${describeExitCodes()}`;
}

function table(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, text]) => `  ${name.padEnd(width)}  ${text}`).join("\n");
}
