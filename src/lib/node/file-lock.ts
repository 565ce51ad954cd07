/**
 * A lock between processes, held while this process lives. Node only.
 *
 * Node has no flock. SQLite has the locks of every system that Node runs on, and the kernel drops them with the process,
 * however it ends: so nobody has to judge whether a lock is stale. The file itself stays empty. Beside it stands a record
 * of who holds the lock, for an error message, and of what that process would leave behind.
 *
 * Nothing else in this process may open the file: on POSIX, closing it would drop the lock.
 *
 * @module
 */
import { lstatSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { isRunning, type ProcessId, processId } from "./process-id.ts";

/** Who holds a lock. */
export interface Holder extends ProcessId {
  /** When it took the lock, as ISO 8601. */
  readonly since: string;
  /** What it was called as, without its options: they may have secrets. */
  readonly command: string;
  /** Processes that it has started and that would outlive it. */
  readonly children: readonly ProcessId[];
  /** A temporary folder of its own. */
  readonly folder?: string | undefined;
}

/** The lock is held by another process. */
export class LockHeld extends Error {
  /** Undefined when it has not said who it is. */
  readonly holder: Holder | undefined;

  constructor(path: string, holder: Holder | undefined) {
    super(`${path} is held by ${describe(holder)}`);
    this.name = "LockHeld";
    this.holder = holder;
  }
}

/** Who holds a lock, in words. */
export function describe(holder: Holder | undefined): string {
  if (holder === undefined) return "another process";
  return `process ${holder.pid} (${holder.command}, since ${holder.since})`;
}

/** How long two that try at the same moment wait for each other, in milliseconds: each may have to step back once. */
const TRY_TIMEOUT = 1000;

/** How often and how long the record of a holder is waited for: it is written just after the lock is taken. */
const RECORD_TRIES = 5;
const RECORD_PAUSE = 50;

export class FileLock {
  readonly #path: string;
  readonly #database: DatabaseSync;
  #holder: Holder;
  /** What a holder before has left, which ended without releasing the lock. */
  readonly left: Holder | undefined;

  /**
   * Takes the lock.
   *
   * @param path a file of its own; it is made when it is not there
   * @param patience how long to wait for another who tries at the same moment, in milliseconds
   * @throws LockHeld; Error of node:sqlite when the file cannot be opened
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

  /** Says what this process would leave behind if it were killed now. */
  note(left: Pick<Holder, "children" | "folder">): void {
    this.#holder = { ...this.#holder, ...left };
    this.#write();
  }

  /** The next run finds nothing left. */
  release(): void {
    rmSync(recordOf(this.#path), { force: true });
    this.#database.close();
  }

  #write(): void {
    const path = recordOf(this.#path);
    try {
      writeFileSync(`${path}.new`, JSON.stringify(this.#holder), { mode: 0o600 });
      renameSync(`${path}.new`, path);
    } catch (error) {
      rmSync(`${path}.new`, { force: true });
      // On a full disk the lock holds all the same, and in a folder that was removed nobody asks who holds it.
      if (!["ENOSPC", "EDQUOT", "ENOENT"].includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
    }
  }
}

function recordOf(path: string): string {
  return `${path}.json`;
}

/** The record beside a lock. It names processes to be ended, so it counts only when nobody else could have written it. */
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

/** A record of somebody who is there: one that a dead process left is about to be replaced. */
function awaitRecord(path: string): Holder | undefined {
  for (let tries = 1; ; tries += 1) {
    const holder = readRecord(path);
    if (holder !== undefined && isRunning(holder)) return holder;
    if (tries === RECORD_TRIES) return undefined;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RECORD_PAUSE);
  }
}
