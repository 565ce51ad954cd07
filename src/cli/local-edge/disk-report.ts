/**
 * Tells the worker of a local edge when its disk is full, and watches the worker's log for failed writes.
 *
 * @module
 */
import { join } from "node:path";
import { DiskWatch } from "../../lib/node/disk-watch.ts";
import { WRITE_FAILURE } from "../../lib/write-failure.ts";
import { size } from "../output.ts";
import type { EdgeRun } from "./edge-run.ts";
import type { WorkerRuntime } from "./worker-runtime.ts";
import { WorkerTeller } from "./worker-teller.ts";

/** Name of the ballast file in the state folder. */
const BALLAST = "ballast";

/** How the runtime logs a write that has failed outside the worker's code. */
const RUNTIME_FULL = /^(?:e = )?workerd\/util\/sqlite\S* failed: .*SQLITE_FULL/s;

interface Options {
  readonly state?: string;
  /** Path under which the edge is served; default the root. */
  readonly prefix?: string;
  readonly minFree?: number;
  readonly onNotice?: (line: string) => void;
}

export class DiskTeller {
  readonly #watch: DiskWatch;
  readonly #teller: WorkerTeller;

  constructor(
    runtime: WorkerRuntime,
    secret: string,
    { state, prefix = "", minFree, onNotice }: Options,
    run: EdgeRun,
  ) {
    this.#teller = new WorkerTeller({
      runtime,
      secret,
      path: `${prefix}/local/disk`,
      state: () => (this.#watch.isFailing ? "failing" : this.#watch.full ? "full" : "free"),
    });
    this.#watch = new DiskWatch({
      // Without a state folder, workerd stores everything in its temporary folder.
      folder: state ?? run.folder,
      ballast: state && join(state, BALLAST),
      minFree,
      changed: (full, least) => {
        const where = state ?? run.folder;
        onNotice?.(
          full
            ? `less than ${size(least)} is free on the disk of ${where} (--min-free): new messages are refused [StorageFull]`
            : `there is room again on the disk of ${where}: new messages are accepted`,
        );
        // If the disk is full from the start, this runs inside the DiskWatch constructor, before #watch is set.
        queueMicrotask(() => void this.tell());
      },
      failing: (isFailing) => {
        const where = state ?? run.folder;
        onNotice?.(
          isFailing
            ? `the disk of ${where} takes no writes, perhaps because the system has made it read-only: new messages are refused [StorageFailed]`
            : `the disk of ${where} takes writes again: new messages are accepted`,
        );
        void this.tell();
      },
    });
  }

  /** Scans a line of the worker's log for failed writes. */
  hear(line: string): void {
    if (WRITE_FAILURE.test(line)) {
      this.#watch.broke();
      void this.tell();
      return;
    }
    if (!line.includes('"reason":"StorageFull"') && !RUNTIME_FULL.test(line)) return;
    this.#watch.failed();
    // The worker has marked the disk as full on its own. Tell it the actual state.
    void this.tell();
  }

  /** Sends the state of the disk to the worker. Resolves when it has been told, or could not be. */
  tell(): Promise<void> {
    return this.#teller.tell();
  }

  async close(): Promise<void> {
    await Promise.all([this.#teller.close(), this.#watch.close()]);
  }
}
