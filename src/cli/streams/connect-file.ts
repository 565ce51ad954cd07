/**
 * The file of `grooveway connect`: reads it, and again when it has changed.
 *
 * @module
 */
import { closeSync, constants, fstatSync, openSync, readFileSync, statSync } from "node:fs";
import { visible } from "../../lib/printable.ts";
import { CommandError } from "../command-error.ts";
import { codeOf } from "../files/file-system.ts";
import { unreadable } from "../parse-arguments.ts";
import { type Connections, parseConnections } from "./connect-toml.ts";

/** Bytes of the file: room for thousands of lines. */
const LONGEST_FILE = 512 * 1024;

/** How often the file is looked at for changes, in milliseconds. */
const LOOK = 500;

/** @throws CommandError CannotRead; ConfigUnusable if its contents are wrong, or all may change it */
export function readConnections(path: string): Connections {
  const parsed = parseConnections(textOf(path));
  if (parsed.ok) return parsed.value;
  const { line, problem, cure } = parsed.problems;
  throw unusable(`${path}${line === undefined ? "" : `, line ${line}`}: ${problem}: ${cure}`);
}

function textOf(path: string): string {
  let fd: number | undefined;
  try {
    // Without O_NONBLOCK, opening a FIFO would wait for a writer. Windows has no such flag.
    fd = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
    const stats = fstatSync(fd);
    if (!stats.isFile()) throw unusable(`${path} is not a file: remove it`);
    // What it says opens ports and services of this machine.
    if (process.platform !== "win32" && (stats.mode & 0o002) !== 0) {
      throw unusable(`all users may change ${path}: run chmod o-w on it`);
    }
    if (stats.size > LONGEST_FILE) throw unusable(`${path} is over ${LONGEST_FILE / 1024} KiB: shorten it`);
    return readFileSync(fd, "utf8");
  } catch (error) {
    throw error instanceof CommandError ? error : unreadable(visible(path), error);
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** Changes when the file is replaced or written. */
export function stateOf(path: string): string {
  try {
    const { ino, size, mtimeMs } = statSync(path);
    return `${ino} ${size} ${mtimeMs}`;
  } catch (error) {
    return codeOf(error) ?? "";
  }
}

/**
 * Calls `changed` whenever the file has changed and then stays as it is for one look: it may be in the middle of being
 * written.
 *
 * @param state the file's {@link stateOf} before it was read
 */
export function onChange(path: string, state: string, signal: AbortSignal, changed: () => void): void {
  let [known, seen] = [state, state];
  const timer = setInterval(() => {
    const now = stateOf(path);
    if (now === seen && now !== known) {
      known = now;
      changed();
    }
    seen = now;
  }, LOOK);
  signal.addEventListener("abort", () => clearInterval(timer), { once: true });
}

function unusable(message: string): CommandError {
  return new CommandError("ConfigUnusable", visible(message));
}
