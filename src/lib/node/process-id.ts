/**
 * Processes of this machine, told apart from later ones that get the same number. Node only.
 *
 * @module
 */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

/** A process: its number, and when it started, in whatever form the system tells it. */
export interface ProcessId {
  readonly pid: number;
  readonly started: string;
}

/** How long a process that was killed may take to be gone, in milliseconds: it may have much memory to give back. */
const END_TIMEOUT = 10_000;
const END_POLL = 20;

/** The process that has this number now; undefined when none has, or when the system does not tell. */
export function processId(pid: number): ProcessId | undefined {
  const started = process.platform === "linux" ? startedOnLinux(pid) : startedByPs(pid);
  return started === undefined ? undefined : { pid, started };
}

/** Whether a process still runs, and not another one that has got its number. */
export function isRunning({ pid, started }: ProcessId): boolean {
  return processId(pid)?.started === started;
}

/** Kills a process, and waits until it is gone. False when it is not: it belongs to somebody else, say. */
export async function endProcess(id: ProcessId): Promise<boolean> {
  for (let waited = 0; isRunning(id); waited += END_POLL) {
    if (waited >= END_TIMEOUT) return false;
    try {
      process.kill(id.pid, "SIGKILL");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") return false;
    }
    await sleep(END_POLL);
  }
  return true;
}

/** Clock ticks count from the boot, so the boot is part of it. A zombie runs no longer, once all its threads have ended. */
function startedOnLinux(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    // The name of the program stands in parentheses, and may have some itself.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const [state] = fields;
    const ticks = fields[STARTTIME];
    const over = (state === "Z" && Number(fields[NUM_THREADS]) <= 1) || state === "X";
    if (over || ticks === undefined) return undefined;
    return `${readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim()}/${ticks}`;
  } catch {
    return undefined;
  }
}

/** Fields 20 and 22 of proc_pid_stat(5), counted from field 3, which is the first behind the name. */
const NUM_THREADS = 20 - 3;
const STARTTIME = 22 - 3;

/** Windows has no ps: there nothing is ever ended by its number. */
function startedByPs(pid: number): string | undefined {
  try {
    const [state = "", ...started] = execFileSync("ps", ["-o", "stat=,lstart=", "-p", String(pid)], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    })
      .trim()
      .split(/\s+/);
    return started.length === 0 || state.startsWith("Z") ? undefined : started.join(" ");
  } catch {
    return undefined;
  }
}
