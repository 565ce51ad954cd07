/**
 * Temporary folders. A container may have no /tmp, or one that is not writable.
 *
 * @module
 */
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CommandError } from "../command-error.ts";
import { wordsOf } from "../files/path-problem.ts";

/** Returns the folders that may hold temporary files, best first. */
export function temporaryRoots(state: string | undefined): readonly string[] {
  return state === undefined ? [tmpdir()] : [tmpdir(), state];
}

/**
 * Creates a temporary folder with a unique name and mode 700.
 *
 * @param state fallback if the system's folder for temporary files is not writable
 * @throws CommandError CannotWrite
 */
export function makeTemporaryFolder(prefix: string, state?: string): string {
  const problems: string[] = [];
  for (const root of temporaryRoots(state)) {
    try {
      return mkdtempSync(join(root, prefix));
    } catch (error) {
      problems.push(`${root}: ${wordsOf(error)}`);
    }
  }
  throw new CommandError(
    "CannotWrite",
    `cannot write temporary files (${problems.join("; ")}): set TMPDIR to a writable folder`,
  );
}
