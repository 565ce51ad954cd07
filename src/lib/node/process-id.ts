/**
 * Identifies processes on this machine, safe against reuse of process numbers. Node only.
 *
 * @module
 */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

/** A process: its number and its start time, in a system-specific form. */
export interface ProcessId {
  readonly pid: number;
  readonly started: string;
}

/** Time for a killed process to disappear, in milliseconds: it may have much memory to free. */
const END_TIMEOUT = 10_000;
const END_POLL = 20;

/** Returns the process that has this number now, or undefined if there is none or the system does not say. */
export function processId(pid: number): ProcessId | undefined {
  const started = process.platform === "linux" ? startedOnLinux(pid) : startedByPs(pid);
  return started === undefined ? undefined : { pid, started };
}

/** Reports whether this very process is still running. */
export function isRunning({ pid, started }: ProcessId): boolean {
  return processId(pid)?.started === started;
}

/** Kills a process and waits until it is gone. Returns false if it is not, as when it belongs to another user. */
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

/** Clock ticks count from boot, so the boot id is included. A zombie has ended once all its threads have. */
function startedOnLinux(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    // The program name is in parentheses, and may itself contain some.
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

/** Fields 20 and 22 of proc_pid_stat(5), as indexes from field 3, the first after the name. */
const NUM_THREADS = 20 - 3;
const STARTTIME = 22 - 3;

/** Windows has no ps: there, no process is ever killed by number. */
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
