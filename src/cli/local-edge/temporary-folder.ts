/**
 * Folders for temporary files. A container may have no /tmp, or one that cannot be written to.
 *
 * @module
 */
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { wordsOf } from "../files/path-problem.ts";
import { CommandError } from "../output.ts";

/** Folders that temporary files may go to, the best first. */
export function temporaryRoots(state: string | undefined): readonly string[] {
  return state === undefined ? [tmpdir()] : [tmpdir(), state];
}

/**
 * Makes a folder for temporary files, with a name of its own and mode 700.
 *
 * @param state a folder that serves when the system's own cannot be written to
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
    `temporary files cannot be written (${problems.join("; ")}): set TMPDIR to a folder that can`,
  );
}
