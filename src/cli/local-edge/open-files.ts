/**
 * Tells the worker of a local edge when its process has nearly as many files open as it may: workerd ends when it cannot
 * open a database. A device needs two files while it is connected, and up to four if it waits in a request. The databases
 * of its two mailboxes are three files each, and stay open for ten seconds after they were used. Where the system does not
 * tell how many there are, this does nothing.
 *
 * @module
 */
import { readdirSync, readFileSync, statSync } from "node:fs";
import type { WorkerRuntime } from "./worker-runtime.ts";
import { WorkerTeller } from "./worker-teller.ts";

/** Milliseconds between two looks, in which a hundred connections a second take 250 files. A look takes microseconds. */
const LOOK = 250;

/**
 * Shares of the limit: from the first on no new virtual connection is begun, below the second they are again. What lies
 * above is for those that are connected, whose objects wake and sleep.
 */
export const SHORT = 0.8;
export const ENOUGH = 0.7;

/** Files that a process has open, and may have. */
export interface OpenFiles {
  readonly open: number;
  readonly most: number;
}

/** Whether there are few left, from whether there were. */
export function areShort({ open, most }: OpenFiles, were: boolean): boolean {
  return open >= most * (were ? ENOUGH : SHORT);
}

/** What Linux says of a process; undefined if it has ended, or elsewhere. */
export function openFilesOf(pid: number): OpenFiles | undefined {
  try {
    const folder = `/proc/${pid}/fd`;
    const most = /^Max open files +(\d+)/m.exec(readFileSync(`/proc/${pid}/limits`, "utf8"))?.[1];
    // Linux before 6.2 gives a folder there no size.
    return most === undefined
      ? undefined
      : { open: statSync(folder).size || readdirSync(folder).length, most: Number(most) };
  } catch {
    return undefined;
  }
}

interface Options {
  readonly runtime: WorkerRuntime;
  readonly secret: string;
  /** Path under which the edge is served. */
  readonly prefix: string;
  readonly onNotice?: ((line: string) => void) | undefined;
}

export class OpenFilesTeller {
  readonly #options: Options;
  readonly #teller: WorkerTeller;
  readonly #timer: NodeJS.Timeout;
  #isShort = false;

  constructor(options: Options) {
    this.#options = options;
    const { runtime, secret, prefix } = options;
    const state = () => (this.#isShort ? "short" : "enough");
    this.#teller = new WorkerTeller({ runtime, secret, path: `${prefix}/local/files`, state });
    this.#timer = setInterval(() => this.#look(), LOOK);
    this.#timer.unref();
  }

  /** The worker has been started again, and knows nothing. */
  restarted(): void {
    if (this.#isShort) void this.#teller.tell();
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#teller.close();
  }

  #look(): void {
    const { runtime, onNotice } = this.#options;
    const files = runtime.pid === undefined ? undefined : openFilesOf(runtime.pid);
    if (files === undefined || areShort(files, this.#isShort) === this.#isShort) return;
    this.#isShort = !this.#isShort;
    onNotice?.(
      this.#isShort
        ? `the edge has ${files.open} of ${files.most} files open: new connections are refused; raise the limit (ulimit -n, or LimitNOFILE of its service), or put a limit on connections in front of it [TooManyOpenFiles]`
        : "the edge may open files again: new connections are accepted",
    );
    void this.#teller.tell();
  }
}
