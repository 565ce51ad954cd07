/** The `grooveway` command without its process: finds the subcommand and runs it. */
import { readFileSync } from "node:fs";
import { nearest } from "../lib/spelling.ts";
import { CommandError } from "./command-error.ts";
import { COMMANDS } from "./commands.ts";
import { EXIT_CODES } from "./exit-codes.ts";
import { generalHelp } from "./help.ts";
import type { Command } from "./parse-arguments.ts";

/**
 * Runs a subcommand, or prints help.
 *
 * @returns the exit status
 * @throws CommandError, DeviceError or a system error: see error-line.ts
 */
export async function runCommand(args: readonly string[]): Promise<number> {
  const [name, ...rest] = args;
  if (name === undefined) {
    console.error(generalHelp(COMMANDS));
    return EXIT_CODES.Usage.status;
  }
  if (name === "--version" || name === "-V") {
    console.log(`grooveway ${version()} (Node ${process.versions.node}, ${process.platform} ${process.arch})`);
    return EXIT_CODES.Done.status;
  }
  const asked = name === "help" ? rest[0] : name;
  if (asked === undefined || asked === "--help" || asked === "-h") {
    console.log(generalHelp(COMMANDS));
    return EXIT_CODES.Done.status;
  }
  const command = await commandOf(asked);
  const options = rest.includes("--") ? rest.slice(0, rest.indexOf("--")) : rest;
  if (name === "help" || options.includes("--help") || options.includes("-h")) {
    console.log(`${command.help}\n\ngrooveway --help shows exit codes and environment variables.`);
    return EXIT_CODES.Done.status;
  }
  return command.run(rest);
}

function commandOf(name: string): Promise<Command> {
  const found = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (found !== undefined) return found.load();
  const meant = nearest(name, Object.keys(COMMANDS));
  const why = name.startsWith("-")
    ? `options go after the command, and ${name} is before it`
    : `there is no command ${name}${meant === undefined ? "" : `, did you mean ${meant}?`}`;
  throw new CommandError("Usage", `${why}; see grooveway --help`);
}

/** Reads the version from package.json, two folders up both in the source tree and in the compiled package. */
function version(): string {
  const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
  return String(version);
}
