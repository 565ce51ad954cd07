/**
 * Formats an error for the command: one line that says what to change, with one error code at its end.
 *
 * @module
 */
import { inspect } from "node:util";
import { DeviceError } from "../device/device-error.ts";
import { visible } from "../lib/printable.ts";
import { CommandError } from "./command-error.ts";
import { type ErrorCode, statusOfError } from "./exit-codes.ts";

/** System errors that any call may fail with. */
const SYSTEM: Readonly<Record<string, { readonly code: ErrorCode; readonly why: string }>> = {
  ENOSPC: { code: "CannotWrite", why: "the disk is full: free some space" },
  EDQUOT: { code: "CannotWrite", why: "the disk quota is used up: free some space" },
  EROFS: { code: "CannotWrite", why: "the file system is read-only: choose another folder" },
  EMFILE: {
    code: "TooManyOpenFiles",
    why: "this process has reached its limit of open files: raise it, for example with ulimit -n 65536",
  },
  ENFILE: {
    code: "TooManyOpenFiles",
    why: "the system has reached its limit of open files: raise it, fs.file-max on Linux",
  },
};

/** What Node and npm packages print when a package, or its build for this platform, is missing. */
const MISSING = /^Cannot find (?:package|module) '([^']+)'|^The package "([^"]+)" could not be found/;

/** Whether an error says that a package, or its build for this platform, is missing. */
export function isMissingPackage(error: unknown): error is Error {
  return error instanceof Error && MISSING.test(error.message);
}

/** Returns `grooveway: MESSAGE [CODE]`, followed by the stack if GROOVEWAY_DEBUG is set. */
export function errorLine(error: unknown): string {
  const { code, message } = known(error);
  const line = visible(message.trim().replace(/\s*[\r\n]+\s*/g, " "));
  return `grooveway: ${withCode(line, code)}${isDebugging() ? `\n${inspect(error)}` : ""}`;
}

/** A message with a code at its end: the edge's, which is more specific than that of the error that wraps it. */
export function withCode(message: string, code: string): string {
  return /\[[A-Z][A-Za-z]+\]$/.test(message) ? message : `${message} [${code}]`;
}

/** Returns the exit status for an error. */
export function statusOf(error: unknown): number {
  return statusOfError(known(error));
}

/** Converts any error to one with a code. Unexpected errors become InternalError. */
function known(error: unknown): CommandError | DeviceError {
  if (error instanceof CommandError || error instanceof DeviceError) return error;
  const {
    code = "",
    message,
    syscall,
    path,
  } = (error instanceof Error ? error : { message: String(error) }) as Partial<NodeJS.ErrnoException> & {
    readonly message: string;
  };
  const system = Object.hasOwn(SYSTEM, code) ? SYSTEM[code] : undefined;
  if (system !== undefined) {
    const what = [syscall, path].filter((part) => part !== undefined).join(" ");
    return new CommandError(system.code, `${what === "" ? code : `${what} (${code})`}: ${system.why}`);
  }
  if (syscall?.startsWith("spawn ")) {
    // For example, workerd on a system without glibc: the missing file is the dynamic loader, not the program itself.
    const cure = "check that programs may run there and, on Linux, that glibc is installed (Alpine has none)";
    return new CommandError("EdgeFailed", `${syscall.slice("spawn ".length)} cannot be started (${code}): ${cure}`);
  }
  const missing = MISSING.exec(message);
  if (missing !== null) {
    const name = missing[1] ?? missing[2];
    return new CommandError("NotInstalled", `the package ${name} is not installed: run npm ci, without --omit`);
  }
  const why = message === "" ? inspect(error) : message;
  return new CommandError("InternalError", `unexpected error (${why}): ${REPORT}`);
}

const REPORT = "please report it, with the output under GROOVEWAY_DEBUG=1";

function isDebugging(): boolean {
  return !["", "0", undefined].includes(process.env.GROOVEWAY_DEBUG);
}
