/** Starts the edge and the minimal worker, each in its own workerd, and finds the process. */
import { readdirSync, readFileSync } from "node:fs";
import { stripTypeScriptTypes } from "node:module";
import { beginRun } from "../../src/cli/local-edge/edge-run.ts";
import { freePort } from "../../src/cli/local-edge/listening-address.ts";
import { type LocalEdgeOptions, startLocalEdge } from "../../src/cli/local-edge/local-edge.ts";
import { superviseWorkerd } from "../../src/cli/local-edge/supervise-workerd.ts";
import type { WorkerDefinition } from "../../src/cli/local-edge/worker-runtime.ts";
import { wranglerConfig } from "../../src/cli/local-edge/wrangler-config.ts";
import { MAX_CONTENT_LENGTH } from "../../src/encapsulation/index.ts";

/** Clock ticks a second in /proc: Linux reports 100 on every common architecture. */
const CLOCK_TICKS = 100;

export interface Running {
  readonly port: number;
  /** The workerd process. */
  readonly pid: number;
  close(): Promise<void>;
}

/** The product's edge, allowed to dial some relays. */
export async function startEdge(
  relays: readonly string[],
  options: Partial<Pick<LocalEdgeOptions, "port" | "state" | "adminToken" | "keys" | "quota" | "streamAllow">> = {},
): Promise<Running> {
  const before = workerds();
  const edge = await startLocalEdge({
    port: 0,
    relayAllow: relays,
    dev: options.keys === undefined ? "private open" : "private",
    ...options,
  });
  return { port: Number(new URL(edge.url).port), pid: newest(before), close: () => edge.close() };
}

/** The minimal worker, with the edge's own settings of workerd and compatibility. */
export function startMinimalWorker(target: string): Promise<Running> {
  return startWorker("minimal-worker.ts", {
    texts: { TARGET: target, LENGTH: String(MAX_CONTENT_LENGTH) },
  });
}

/** The platform worker, with its objects in a folder. */
export function startPlatformWorker(state: string): Promise<Running> {
  return startWorker("platform-worker.ts", { objects: { LOG: "Log" } }, state);
}

/** The floor of Polling. */
export function startExchangeWorker(target: string): Promise<Running> {
  return startWorker("exchange-worker.ts", {
    texts: { TARGET: target },
    objects: { END: "End" },
  });
}

/** The floor of streams between two devices. */
export function startObjectsWorker(): Promise<Running> {
  return startWorker("objects-worker.ts", {
    objects: { END: "End" },
  });
}

/** The floor of parked devices, with its objects in a folder. */
export function startParkWorker(state: string): Promise<Running> {
  return startWorker("park-worker.ts", { objects: { PARK: "Park" } }, state);
}

/** The same with mailboxes, as the only objects that have storage. */
export function startMailboxesWorker(state: string): Promise<Running> {
  const queues = { objects: { QUEUE: "Queue", LIST: "List" }, volatile: { PARK: "Park" } };
  return startWorker("park-worker.ts", queues, state);
}

/** The floor of files, with its object in a folder. */
export function startFilesWorker(state: string): Promise<Running> {
  return startWorker("files-worker.ts", { objects: { STORE: "Store", END: "End" } }, state);
}

/** A worker of one file, with the edge's own settings of workerd and compatibility. */
async function startWorker(
  file: string,
  { texts = {}, objects = {}, volatile = {} }: Partial<Pick<WorkerDefinition, "texts" | "objects" | "volatile">>,
  state?: string,
): Promise<Running> {
  const before = workerds();
  const port = await freePort("127.0.0.1", 0);
  const code = stripTypeScriptTypes(readFileSync(new URL(file, import.meta.url), "utf8"));
  const { compatibilityDate, compatibilityFlags } = wranglerConfig();
  const run = await beginRun(undefined);
  const runtime = await superviseWorkerd({
    worker: { name: "bench", code, compatibilityDate, compatibilityFlags, texts, objects, volatile },
    front: { host: "127.0.0.1", port },
    run,
    state,
    log: () => undefined,
    notice: console.error,
    restarted: () => undefined,
  });
  const close = async () => {
    await runtime.dispose();
    run.close();
  };
  return { port, pid: newest(before), close };
}

/** Resident memory of a process in bytes; 0 when it is gone. */
export function residentOctets(pid: number): number {
  try {
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}

/** Seconds of CPU time that a process has used; 0 when it is gone. */
export function cpuSeconds(pid: number): number {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
    return (Number(fields[11]) + Number(fields[12])) / CLOCK_TICKS;
  } catch {
    return 0;
  }
}

/** The workerd processes that this process has started. */
function workerds(): Set<number> {
  const found = new Set<number>();
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const [, name, parent] = /\((.*)\) \S (\d+) /.exec(readFileSync(`/proc/${entry}/stat`, "utf8")) ?? [];
      if (name === "workerd" && Number(parent) === process.pid) found.add(Number(entry));
    } catch {
      // It has ended meanwhile.
    }
  }
  return found;
}

function newest(before: ReadonlySet<number>): number {
  const pid = [...workerds()].find((candidate) => !before.has(candidate));
  if (pid === undefined) throw new Error("no process of workerd was found");
  return pid;
}
