/**
 * A lock between processes, held until released or until the process ends. Node only.
 *
 * Node has no flock. SQLite uses the native locks of every system that Node runs on, and the kernel drops them with the
 * process, however it ends, so there are no stale locks to detect. The lock file stays empty. A record beside it names
 * the holder, for error messages, and what that process would leave behind.
 *
 * Nothing else in this process may open the file: on POSIX, closing it would drop the lock.
 *
 * @module
 */
import { lstatSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { isRunning, type ProcessId, processId } from "./process-id.ts";

/** The holder of a lock. */
export interface Holder extends ProcessId {
  /** When it took the lock, in ISO 8601. */
  readonly since: string;
  /** Its command without options, which may contain secrets. */
  readonly command: string;
  /** Child processes that would outlive it. */
  readonly children: readonly ProcessId[];
  /** Its temporary folder. */
  readonly folder?: string | undefined;
}

/** The lock is held by another process. */
export class LockHeld extends Error {
  /** Undefined if the holder left no record. */
  readonly holder: Holder | undefined;

  constructor(path: string, holder: Holder | undefined) {
    super(`${path} is held by ${describe(holder)}`);
    this.name = "LockHeld";
    this.holder = holder;
  }
}

/** Describes the holder of a lock. */
export function describe(holder: Holder | undefined): string {
  if (holder === undefined) return "another process";
  return `process ${holder.pid} (${holder.command}, since ${holder.since})`;
}

/** How long two concurrent attempts wait for each other, in milliseconds: each may have to back off once. */
const TRY_TIMEOUT = 1000;

/** Attempts to read the holder's record, and the pause in milliseconds: it is written just after locking. */
const RECORD_TRIES = 5;
const RECORD_PAUSE = 50;

export class FileLock {
  readonly #path: string;
  readonly #database: DatabaseSync;
  #holder: Holder;
  /** The record of an earlier holder that ended without releasing the lock. */
  readonly left: Holder | undefined;

  /**
   * Takes the lock.
   *
   * @param path file used for the lock alone; created if missing
   * @param patience how long to wait for a concurrent attempt, in milliseconds
   * @throws LockHeld; Error of node:sqlite if the file cannot be opened
   */
  constructor(path: string, patience = TRY_TIMEOUT) {
    this.#path = path;
    this.#database = new DatabaseSync(path);
    try {
      this.#database.exec(`PRAGMA busy_timeout = ${patience}; PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE`);
    } catch (error) {
      this.#database.close();
      if (!/\block(ed)?\b|busy/i.test(String(error))) throw error;
      throw new LockHeld(path, patience === 0 ? readRecord(path) : awaitRecord(path));
    }
    this.left = readRecord(path);
    const [, program = "node", word = ""] = process.argv;
    const command = word.startsWith("-") || word === "" ? program : `${program} ${word}`;
    const id = processId(process.pid) ?? { pid: process.pid, started: "" };
    this.#holder = { ...id, since: new Date().toISOString(), command, children: [] };
    this.#write();
  }

  /** Records what this process would leave behind if killed now. */
  note(left: Pick<Holder, "children" | "folder">): void {
    this.#holder = { ...this.#holder, ...left };
    this.#write();
  }

  /** Releases the lock and removes the record: nothing was left behind. */
  release(): void {
    remove(recordOf(this.#path));
    this.#database.close();
  }

  #write(): void {
    const path = recordOf(this.#path);
    try {
      writeFileSync(`${path}.new`, JSON.stringify(this.#holder), { mode: 0o600 });
      renameSync(`${path}.new`, path);
    } catch (error) {
      remove(`${path}.new`);
      // On a full or failing disk the lock still holds. If the folder was removed, no process can ask for the holder.
      if (!SURVIVED.includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
    }
  }
}

/** Errors of writing the record that are no reason to end. */
const SURVIVED: readonly string[] = ["ENOSPC", "EDQUOT", "ENOENT", "EROFS", "EIO"];

/** Removes a file, unless the disk is read-only: a record that stays names processes that have ended. */
function remove(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch (error) {
    if (!SURVIVED.includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
  }
}

function recordOf(path: string): string {
  return `${path}.json`;
}

/** Reads the record beside a lock. It names processes to kill, so one that others could have written is ignored. */
export function readRecord(path: string): Holder | undefined {
  try {
    const { uid, mode } = lstatSync(recordOf(path));
    const shared = (mode & 0o022) !== 0 && process.platform !== "win32";
    if (shared || (process.getuid !== undefined && uid !== process.getuid())) return undefined;
    return JSON.parse(readFileSync(recordOf(path), "utf8")) as Holder;
  } catch {
    return undefined;
  }
}

/** Waits for the record of a live holder: the record of a dead one is about to be replaced. */
function awaitRecord(path: string): Holder | undefined {
  for (let tries = 1; ; tries += 1) {
    const holder = readRecord(path);
    if (holder !== undefined && isRunning(holder)) return holder;
    if (tries === RECORD_TRIES) return undefined;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RECORD_PAUSE);
  }
}
