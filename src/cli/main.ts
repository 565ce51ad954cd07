/** The `grooveway` command: finds the subcommand, runs it, and exits with a status from exit-codes.ts. */
import { readFileSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import { format } from "node:util";
import { nearest } from "../lib/spelling.ts";
import { CommandError } from "./command-error.ts";
import { COMMANDS } from "./commands.ts";
import { errorLine, statusOf } from "./error-line.ts";
import { EXIT_CODES } from "./exit-codes.ts";
import { generalHelp } from "./help.ts";
import type { Command } from "./parse-arguments.ts";

async function main(args: readonly string[]): Promise<number> {
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

/** Resolves when all output has been handed to the system, or cannot be. */
function flushed(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => {
    if (stream.writableLength === 0 || stream.errored) resolve();
    else stream.write("", () => resolve());
  });
}

/** Exits the process even if a handle is still open, such as standard input that never ends. */
async function end(status: number): Promise<never> {
  await Promise.all([flushed(process.stdout), flushed(process.stderr)]);
  process.exit(status);
}

async function done(status: number): Promise<void> {
  await flushed(process.stdout);
  // A failed write emits its error only now.
  await setImmediate();
  if (!hasFailed) await end(status);
}

let hasFailed = false;

/** Prints only the first error: later ones may be its consequences. */
function fail(error: unknown): void {
  if (hasFailed) return;
  hasFailed = true;
  console.error(errorLine(error));
  void end(statusOf(error));
}

// Node's own console.log ignores write errors, such as a full disk.
console.log = (...parts: unknown[]) => void process.stdout.write(`${format(...parts)}\n`);
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  // Exit silently, as programs do when their reader has gone.
  if (error.code === "EPIPE") process.exit(EXIT_CODES.OutputClosed.status);
  fail(new CommandError("CannotWrite", `cannot write to standard output (${error.code}): redirect it elsewhere`));
});
// There is nowhere left to report an error.
process.stderr.on("error", () => undefined);
process.on("uncaughtException", fail);

main(process.argv.slice(2)).then(done, fail);
