/**
 * Tells the worker of an edge on this machine when its disk is full, and hears from its log when a write has failed.
 *
 * @module
 */
import { join } from "node:path";
import type { Miniflare } from "miniflare";
import { DiskWatch } from "../../lib/node/disk-watch.ts";
import { size } from "../output.ts";
import type { EdgeRun } from "./edge-run.ts";

/** The ballast, in the state folder. */
const BALLAST = "ballast";

/** How long to wait before telling a worker again that has not answered: it may be restarting. */
const AGAIN = 1000;

interface Options {
  readonly state?: string;
  /** The path under which the edge stands; by default the root. */
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
      // Without a state folder the runtime keeps all in its temporary one.
      folder: state ?? run.folder,
      ballast: state && join(state, BALLAST),
      minFree,
      changed: (full, least) => {
        const where = state ?? run.folder;
        onDisk?.(
          full
            ? `less than ${size(least)} are free on the disk of ${where}: new messages are refused [StorageFull]`
            : `there is room again on the disk of ${where}: new messages are taken`,
        );
        // A disk that is full from the start is told of before the watch is there to be asked.
        queueMicrotask(() => void this.tell());
      },
    });
    // A runtime that has crashed knows nothing of it any more.
    run.onRuntime = () => void this.tell();
  }

  /** A line of the worker's log. */
  hear(line: string): void {
    if (!line.includes('"reason":"StorageFull"')) return;
    this.#watch.failed();
    // It has taken the disk for full by itself, and is told whether it is.
    void this.tell();
  }

  /** Resolves when the worker has been told, or could not be. */
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
