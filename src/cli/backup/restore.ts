/**
 * Makes a state folder from a backup. What happened after the backup is lost, so a reader or a producer may be ahead of
 * what is restored. Each object is marked with the time of the restore, and begins a new epoch when it wakes: see
 * `restored` in the stores of mailboxes and plain streams.
 *
 * The folder has its data only when all of it is checked and on disk.
 *
 * @module
 */
import { renameSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { CommandError } from "../command-error.ts";
import { wordsOf } from "../files/path-problem.ts";
import { beginRun } from "../local-edge/edge-run.ts";
import { BadBackup, syncFolder, unpackBackup } from "./backup-file.ts";

/** What was restored. */
export interface Restored {
  readonly mailboxes: number;
  /** When the backup began, in milliseconds since 1970. */
  readonly time: number;
}

/**
 * @param state a folder in which no edge has run yet
 * @throws CommandError CannotRead, CannotWrite, ConfigUnusable (the file is no backup), StateInUse
 */
export async function restore(file: string, state: string): Promise<Restored> {
  const run = await beginRun(state);
  const [objects, part] = [join(state, "do"), join(state, "do.part")];
  try {
    if (statSync(objects, { throwIfNoEntry: false }) !== undefined) {
      throw new CommandError("CannotWrite", `${state} has the state of an edge: choose a folder without any`);
    }
    rmSync(part, { recursive: true, force: true });
    const { paths, time } = unpack(file, part);
    const now = Date.now();
    for (const path of paths) mark(join(part, path), now);
    renameSync(part, objects);
    syncFolder(state);
    return { mailboxes: paths.filter((path) => /-Mailbox\/[0-9a-f]{64}/.test(path)).length, time };
  } catch (error) {
    if (error instanceof CommandError) throw error;
    throw new CommandError("CannotWrite", `cannot restore into ${state}: ${wordsOf(error)}`);
  } finally {
    rmSync(part, { recursive: true, force: true });
    run.close();
  }
}

function unpack(file: string, part: string): ReturnType<typeof unpackBackup> {
  try {
    return unpackBackup(file, part);
  } catch (error) {
    if (error instanceof BadBackup) {
      throw new CommandError("ConfigUnusable", `${file} ${error.message}: take another backup`);
    }
    const { code, path } = error as NodeJS.ErrnoException;
    if (path === file) throw new CommandError("CannotRead", `cannot read ${file}: ${wordsOf(error)}`);
    if (code === "ERR_SQLITE_ERROR") throw new CommandError("ConfigUnusable", `${file} is no backup of an edge`);
    throw error;
  }
}

/** Tells an object that it was restored. One that keeps no facts has no epoch. */
function mark(path: string, now: number): void {
  const database = new DatabaseSync(path);
  try {
    const [table] = database.prepare("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'facts'").all();
    if (table === undefined) return;
    database.prepare("INSERT OR REPLACE INTO facts (name, value) VALUES ('restored', ?)").run(String(now));
  } finally {
    database.close();
  }
}
