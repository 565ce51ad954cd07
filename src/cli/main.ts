/** Process level of the `grooveway` command: runs the subcommand, prints its error, and exits with its status. */
import { readFileSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import { format } from "node:util";
import { CommandError } from "./command-error.ts";
import { errorLine, statusOf } from "./error-line.ts";
import { EXIT_CODES } from "./exit-codes.ts";
import { exitNow } from "./exit-now.ts";
import { resolverOptions } from "./resolver-options.ts";
import { runCommand } from "./run-command.ts";

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
  exitNow(status);
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

/** The text of resolv.conf; empty where there is none. */
function resolvConf(): string {
  try {
    return readFileSync("/etc/resolv.conf", "utf8");
  } catch {
    return "";
  }
}

// The resolver reads it when it is first asked.
const options = resolverOptions(process.env, resolvConf());
if (options !== undefined) process.env.RES_OPTIONS = options;

runCommand(process.argv.slice(2)).then(done, fail);
