/**
 * Files of an operator, which say what the command opens to others: edge.toml and the file of `grooveway connect`.
 *
 * @module
 */
import { closeSync, constants, fstatSync, openSync, readFileSync } from "node:fs";
import { visible } from "../lib/printable.ts";
import { CommandError } from "./command-error.ts";
import { unreadable } from "./parse-arguments.ts";

/** Bytes of a file: room for thousands of lines. */
const LONGEST_FILE = 512 * 1024;

/**
 * Reads a file that only its owner and his group may change.
 *
 * @returns its text, and the mode of the file; 0 on Windows, which has none
 * @throws CommandError CannotRead; ConfigUnusable if all may change it, or it is too long
 */
export function readOperatorFile(path: string): { readonly text: string; readonly mode: number } {
  let fd: number | undefined;
  try {
    // Without O_NONBLOCK, opening a FIFO would wait for a writer. Windows has no such flag.
    fd = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
    const stats = fstatSync(fd);
    const mode = process.platform === "win32" ? 0 : stats.mode;
    if (!stats.isFile()) throw unusableFile(`${path} is not a file: remove it`);
    // What it says opens ports and services of this machine.
    if ((mode & 0o002) !== 0) throw unusableFile(`all users may change ${path}: run chmod o-w on it`);
    if (stats.size > LONGEST_FILE) throw unusableFile(`${path} is over ${LONGEST_FILE / 1024} KiB: shorten it`);
    return { text: readFileSync(fd, "utf8"), mode };
  } catch (error) {
    throw error instanceof CommandError ? error : unreadable(visible(path), error);
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** The error of a file whose contents are wrong. */
export function unusableFile(message: string): CommandError {
  return new CommandError("ConfigUnusable", visible(message));
}
