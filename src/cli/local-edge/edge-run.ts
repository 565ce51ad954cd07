/**
 * The resources of a running local edge: its state folder, a temporary folder and the workerd process. They are cleaned
 * up however the command ends:
 *
 *   state folder      locked; two edges on one would corrupt it
 *   temporary folder  removed at exit, or by the next edge that starts on this machine; inside the state folder if the
 *                     system has no folder for temporary files
 *   workerd           killed by a guard process when its pipe to the command closes; the next edge kills it too
 *
 * Processes are identified by pid and start time, never by name.
 *
 * @module
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { type ChildProcess, spawn } from "node:child_process";
import { subscribe } from "node:diagnostics_channel";
import { lstatSync, readdirSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, FileLock, type Holder, LockHeld, readRecord } from "../../lib/node/file-lock.ts";
import { endProcess, type ProcessId, processId } from "../../lib/node/process-id.ts";
import { CommandError } from "../command-error.ts";
import { makeFolders } from "../files/file-system.ts";
import { fileProblem, folderProblem, wordsOf } from "../files/path-problem.ts";
import { makeTemporaryFolder, temporaryRoots } from "./temporary-folder.ts";

const PREFIX = "grooveway-edge-";
const LOCK = "lock";
/** Environment variables that os.tmpdir() reads. */
const TMP = ["TMPDIR", "TMP", "TEMP"];

export interface EdgeRun {
  /** Runs `make`. Its child processes belong to this run: they are recorded before they can serve anything. */
  start<T>(make: () => T): T;
  /** Folder for temporary files. */
  readonly folder: string;
  /** Releases the resources. Call it after workerd has exited. */
  close(): void;
}

/**
 * Locks the state folder, if any, and cleans up after earlier edges on this machine.
 *
 * @throws CommandError StateInUse, CannotWrite
 */
export async function beginRun(state: string | undefined): Promise<EdgeRun> {
  const stateLock = state === undefined ? undefined : await lockState(state);
  try {
    if (state !== undefined && stateLock?.left !== undefined) await endLeft(stateLock.left, state);
    for (const root of temporaryRoots(state)) await sweepTemporary(root);
    return new Run(stateLock, makeTemporaryFolder(PREFIX, state));
  } catch (error) {
    stateLock?.release();
    throw error;
  }
}

async function lockState(state: string): Promise<FileLock> {
  const lock = join(state, LOCK);
  try {
    await makeFolders(state);
    const problem = (await folderProblem(state)) ?? (await fileProblem(lock));
    if (problem !== undefined) throw cannotUse(state, problem);
    return new FileLock(lock);
  } catch (error) {
    if (error instanceof CommandError) throw error;
    if (error instanceof LockHeld) {
      const who = describe(error.holder);
      throw new CommandError("StateInUse", `${state} is in use by ${who}: stop it, or choose another --state`);
    }
    throw cannotUse(state, wordsOf(error));
  }
}

function cannotUse(state: string, why: string): CommandError {
  return new CommandError(
    "CannotWrite",
    `cannot use ${state} as the state folder: ${why}: choose another folder with --state`,
  );
}

/** Ends the workerd of a command that died, and removes its temporary folder. */
async function endLeft({ children, folder }: Holder, where: string): Promise<void> {
  for (const child of children) {
    if (await endProcess(child)) continue;
    throw new CommandError("StateInUse", `${where} is in use by process ${child.pid}, which cannot be killed: stop it`);
  }
  if (folder !== undefined && isOurs(folder)) rmSync(folder, { recursive: true, force: true });
}

/** Removes temporary folders of edges that were killed. A folder that cannot be removed does not block startup. */
async function sweepTemporary(root: string): Promise<void> {
  for (const name of namesIn(root)) {
    const folder = join(root, name);
    // A folder without a record is just being created.
    if (!name.startsWith(PREFIX) || !isOurs(folder) || readRecord(join(folder, LOCK)) === undefined) continue;
    try {
      const lock = new FileLock(join(folder, LOCK), 0);
      try {
        if (lock.left !== undefined) await endLeft(lock.left, folder);
        rmSync(folder, { recursive: true, force: true });
      } finally {
        lock.release();
      }
    } catch {
      // Its edge is running, or another edge is sweeping it.
    }
  }
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    // It does not exist, or we may not read it.
    return [];
  }
}

/** Any user may create a folder in /tmp with a record that names our processes: trust only our own. */
function isOurs(folder: string): boolean {
  if (!resolve(folder).split(/[\\/]/).at(-1)?.startsWith(PREFIX)) return false;
  const found = lstatSync(folder, { throwIfNoEntry: false });
  return found?.isDirectory() === true && (process.getuid === undefined || found.uid === process.getuid());
}

/** The run on whose behalf code is executing. */
const current = new AsyncLocalStorage<Run>();
let subscribed = false;

/** A child process is recorded whoever starts it, by Node's diagnostics channel. */
function subscribeOnce(): void {
  if (subscribed) return;
  subscribed = true;
  subscribe("child_process", (message) => {
    const { process: child } = message as { readonly process: ChildProcess };
    const run = current.getStore();
    if (run !== undefined) child.once("spawn", () => run.note(child));
  });
}

class Run implements EdgeRun {
  readonly folder: string;
  readonly #locks: readonly FileLock[];
  readonly #children = new Map<ChildProcess, ProcessId>();
  readonly #atExit = () => this.close();
  #closed = false;

  constructor(stateLock: FileLock | undefined, folder: string) {
    subscribeOnce();
    this.folder = folder;
    this.#locks = [...(stateLock === undefined ? [] : [stateLock]), new FileLock(join(this.folder, LOCK))];
    this.#write();
    process.once("exit", this.#atExit);
  }

  start<T>(make: () => T): T {
    const before = TMP.map((name) => [name, process.env[name]] as const);
    for (const name of TMP) process.env[name] = this.folder;
    try {
      return current.run(this, make);
    } finally {
      for (const [name, value] of before) {
        if (value === undefined) delete process.env[name];
        else process.env[name] = value;
      }
    }
  }

  /** Records a started process. It has not been told yet what to serve, so it is recorded before it can do harm. */
  note(child: ChildProcess): void {
    const id = child.pid === undefined ? undefined : processId(child.pid);
    if (id === undefined || this.#closed) return;
    this.#children.set(child, id);
    this.#write();
    const guard = current.exit(() => guardOf(id));
    child.once("exit", () => {
      guard?.stdin?.end("\n");
      this.#children.delete(child);
      if (!this.#closed) this.#write();
    });
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    process.removeListener("exit", this.#atExit);
    rmSync(this.folder, { recursive: true, force: true });
    for (const lock of this.#locks) lock.release();
  }

  #write(): void {
    for (const lock of this.#locks) lock.note({ children: [...this.#children.values()], folder: this.folder });
  }
}

/**
 * Starts a process that kills another one when this process dies: its stdin, a pipe from us, reaches end of file. A
 * line on the pipe tells it that there is nothing left to kill. Returns undefined on Windows, which has no sh; there
 * the next edge cleans up.
 */
function guardOf({ pid }: ProcessId): ChildProcess | undefined {
  if (process.platform === "win32") return undefined;
  const guard = spawn("/bin/sh", ["-c", 'read -r line || kill -9 "$1"', "grooveway-guard", String(pid)], {
    stdio: ["pipe", "ignore", "ignore"],
    // In a session of its own, so that signals from the terminal do not reach it.
    detached: true,
  });
  guard.on("error", () => undefined);
  guard.stdin?.on("error", () => undefined);
  guard.unref();
  (guard.stdin as unknown as { unref?: () => void } | null)?.unref?.();
  return guard;
}
