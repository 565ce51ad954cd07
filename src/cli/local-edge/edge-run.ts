/**
 * What an edge holds on this machine while it runs: its state folder, a temporary folder, and the runtime's process.
 * Whatever ends the command, none of it is left for good:
 *
 *   state folder      locked; two edges on one would corrupt it
 *   temporary folder  removed at the end, or by the next edge that starts on this machine; in the state folder when the
 *                     system has no folder for temporary files
 *   workerd           a guard, which sees the command's end by a pipe, kills it at once; the next edge does so too
 *
 * What is to be ended is known by process number and start time, never by name.
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
import { makeFolders } from "../files/file-system.ts";
import { fileProblem, folderProblem, wordsOf } from "../files/path-problem.ts";
import { CommandError } from "../output.ts";
import { makeTemporaryFolder, temporaryRoots } from "./temporary-folder.ts";

const PREFIX = "grooveway-edge-";
const LOCK = "lock";
/** Variables by which os.tmpdir() finds the folder for temporary files. */
const TMP = ["TMPDIR", "TMP", "TEMP"];

export interface EdgeRun {
  /** Whose processes are its own: they are noted before they have all that they need to serve. */
  start<T>(make: () => T): T;
  /** Called for each runtime that starts, with the second because the first has crashed. */
  onRuntime: ((runtime: ChildProcess) => void) | undefined;
  /** A folder for temporary files. */
  readonly folder: string;
  /** When the runtime has ended. */
  close(): void;
}

/**
 * Takes a state folder, when there is one, and ends what edges before have left on this machine.
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

/** Ends the runtime of a command that has died, and removes its temporary folder. */
async function endLeft({ children, folder }: Holder, where: string): Promise<void> {
  for (const child of children) {
    if (await endProcess(child)) continue;
    throw new CommandError("StateInUse", `${where} is in use by process ${child.pid}, which cannot be ended: stop it`);
  }
  if (folder !== undefined && isOurs(folder)) rmSync(folder, { recursive: true, force: true });
}

/** The temporary folders of edges that were killed. One that cannot be cleared does not keep this one from starting. */
async function sweepTemporary(root: string): Promise<void> {
  for (const name of namesIn(root)) {
    const folder = join(root, name);
    // One without a record is being made just now.
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
      // It runs, or another edge sweeps it.
    }
  }
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    // It is not there, or not ours to read.
    return [];
  }
}

/** Everybody may write to the folder for temporary files, and so make one that names our processes. */
function isOurs(folder: string): boolean {
  if (!resolve(folder).split(/[\\/]/).at(-1)?.startsWith(PREFIX)) return false;
  const found = lstatSync(folder, { throwIfNoEntry: false });
  return found?.isDirectory() === true && (process.getuid === undefined || found.uid === process.getuid());
}

/** The run whose code starts a process. */
const current = new AsyncLocalStorage<Run>();
let subscribed = false;

/** miniflare does not tell of the runtime that it starts; Node does. */
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
  onRuntime: ((runtime: ChildProcess) => void) | undefined;

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

  /** A process has started. It has not yet been told what to serve, so it is known before it does any harm. */
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
    this.onRuntime?.(child);
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
 * A process that kills another when this one is gone: the pipe between them ends with it. It is told with a line that
 * there is nothing more to kill. Undefined where there is no sh; the next edge ends what is left there.
 */
function guardOf({ pid }: ProcessId): ChildProcess | undefined {
  if (process.platform === "win32") return undefined;
  const guard = spawn("/bin/sh", ["-c", 'read -r line || kill -9 "$1"', "grooveway-guard", String(pid)], {
    stdio: ["pipe", "ignore", "ignore"],
    // In a session of its own: what a terminal sends to the command does not reach it.
    detached: true,
  });
  guard.on("error", () => undefined);
  guard.stdin?.on("error", () => undefined);
  guard.unref();
  (guard.stdin as unknown as { unref?: () => void } | null)?.unref?.();
  return guard;
}
