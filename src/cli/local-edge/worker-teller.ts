/**
 * Tells the worker of a local edge one thing that the command knows of the machine, until the worker has heard it: it may be
 * restarting.
 *
 * @module
 */
import type { WorkerRuntime } from "./worker-runtime.ts";

/** Retry interval in milliseconds when the worker does not answer. */
const AGAIN = 1000;

/** Milliseconds to wait for its answer: it only notes what it is told, and other work is short. */
const PATIENCE = 5000;

interface Options {
  readonly runtime: Pick<WorkerRuntime, "tell">;
  readonly secret: string;
  /** Path of the route that hears it. */
  readonly path: string;
  /** What is so now. */
  readonly state: () => string;
}

export class WorkerTeller {
  readonly #options: Options;
  #telling: Promise<void> | undefined;
  #untold = true;
  #closed = false;
  #again: NodeJS.Timeout | undefined;

  constructor(options: Options) {
    this.#options = options;
  }

  /** Sends the state to the worker. Resolves when it has been told, or could not be; then it is told later. */
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
    await this.#telling;
  }

  async #tell(): Promise<void> {
    const { runtime, secret, path, state } = this.#options;
    while (this.#untold && !this.#closed) {
      this.#untold = false;
      const told = await runtime.tell({ path, secret, body: state(), patience: PATIENCE });
      if (told || this.#closed) continue;
      clearTimeout(this.#again);
      this.#again = setTimeout(() => void this.tell(), AGAIN);
      this.#again.unref();
    }
  }
}
