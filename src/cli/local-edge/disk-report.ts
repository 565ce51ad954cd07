/**
 * Tells the worker of a local edge when its disk is full, and watches the worker's log for failed writes.
 *
 * @module
 */
import { join } from "node:path";
import type { Miniflare } from "miniflare";
import { DiskWatch } from "../../lib/node/disk-watch.ts";
import { size } from "../output.ts";
import type { EdgeRun } from "./edge-run.ts";

/** Name of the ballast file in the state folder. */
const BALLAST = "ballast";

/** Retry interval in milliseconds when the worker does not answer: it may be restarting. */
const AGAIN = 1000;

interface Options {
  readonly state?: string;
  /** Path under which the edge is served; default the root. */
  readonly prefix?: string;
  readonly minFree?: number;
  readonly onDisk?: (line: string) => void;
}

export class DiskTeller {
  readonly #miniflare: Miniflare;
  readonly #secret: string;
  readonly #url: string;
  readonly #watch: DiskWatch;
  #telling: Promise<void> | undefined;
  #untold = true;
  #closed = false;
  #again: NodeJS.Timeout | undefined;

  constructor(miniflare: Miniflare, secret: string, { state, prefix = "", minFree, onDisk }: Options, run: EdgeRun) {
    this.#miniflare = miniflare;
    this.#secret = secret;
    this.#url = `http://edge${prefix}/local/disk`;
    this.#watch = new DiskWatch({
      // Without a state folder, workerd stores everything in its temporary folder.
      folder: state ?? run.folder,
      ballast: state && join(state, BALLAST),
      minFree,
      changed: (full, least) => {
        const where = state ?? run.folder;
        onDisk?.(
          full
            ? `less than ${size(least)} is free on the disk of ${where} (--min-free): new messages are refused [StorageFull]`
            : `there is room again on the disk of ${where}: new messages are accepted`,
        );
        // If the disk is full from the start, this runs inside the DiskWatch constructor, before #watch is set.
        queueMicrotask(() => void this.tell());
      },
    });
    // A restarted workerd has lost the disk state.
    run.onRuntime = () => void this.tell();
  }

  /** Scans a line of the worker's log for failed writes. */
  hear(line: string): void {
    if (!line.includes('"reason":"StorageFull"')) return;
    this.#watch.failed();
    // The worker has marked the disk as full on its own. Tell it the actual state.
    void this.tell();
  }

  /** Sends the state of the disk to the worker. Resolves when it has been told, or could not be. */
  tell(): Promise<void> {
    this.#untold = true;
    this.#telling ??= this.#tell().finally(() => {
      this.#telling = undefined;
    });
    return this.#telling;
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#again);
    await Promise.all([this.#telling, this.#watch.close()]);
  }

  async #tell(): Promise<void> {
    while (this.#untold && !this.#closed) {
      this.#untold = false;
      const told = await this.#miniflare
        .dispatchFetch(this.#url, {
          method: "PUT",
          headers: { Authorization: `Bearer ${this.#secret}` },
          body: this.#watch.full ? "full" : "free",
        })
        .then(
          ({ ok }) => ok,
          () => false,
        );
      if (told || this.#closed) continue;
      clearTimeout(this.#again);
      this.#again = setTimeout(() => void this.tell(), AGAIN);
      this.#again.unref();
    }
  }
}
