/** Calls to child processes, over Node's channel between parent and child. */
import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

/** The methods of a child. */
export type Handlers = Readonly<Record<string, (argument: never) => unknown>>;

interface Call {
  readonly id: number;
  readonly name: string;
  readonly argument: unknown;
}

interface Answer {
  readonly id: number;
  readonly result?: unknown;
  readonly error?: string;
}

/** Answers the parent's calls until the parent is gone. */
export function serve(handlers: Handlers): void {
  process.on("message", async ({ id, name, argument }: Call) => {
    const answer = (rest: Omit<Answer, "id">) => process.send?.({ id, ...rest } satisfies Answer);
    try {
      answer({ result: await handlers[name]?.(argument as never) });
    } catch (error) {
      answer({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) });
    }
  });
  process.on("disconnect", () => process.exit());
}

/** A child process that answers calls. */
export class Child {
  readonly #process: ChildProcess;
  readonly #waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  #last = 0;

  /** @param run makes the command line that runs another in a different place, such as a namespace */
  constructor(program: URL, run: (...command: readonly string[]) => readonly string[] = (...command) => command) {
    const execArgv = ["--disable-warning=ExperimentalWarning"];
    // To find what limits a figure: the children write their profiles to this folder.
    if (process.env.BENCH_CPU_PROF) execArgv.push("--cpu-prof", `--cpu-prof-dir=${process.env.BENCH_CPU_PROF}`);
    const file = fileURLToPath(program);
    const [command = "", ...args] = run(process.execPath, ...execArgv, file);
    this.#process = spawn(command, args, { stdio: ["ignore", "inherit", "inherit", "ipc"] });
    this.#process.on("message", ({ id, result, error }: Answer) => {
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) waiting?.resolve(result);
      else waiting?.reject(new Error(error));
    });
    this.#process.on("exit", (code, signal) => {
      for (const { reject } of this.#waiting.values()) reject(new Error(`${file} has ended: ${signal ?? code}`));
      this.#waiting.clear();
    });
  }

  call<T>(name: string, argument?: unknown): Promise<T> {
    this.#last += 1;
    const id = this.#last;
    return new Promise<T>((resolve, reject) => {
      this.#waiting.set(id, { resolve: resolve as (value: unknown) => void, reject });
      this.#process.send({ id, name, argument } satisfies Call, (error) => {
        if (error !== null) reject(error);
      });
    });
  }

  get pid(): number | undefined {
    return this.#process.pid;
  }

  async end(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const gone = new Promise((resolve) => this.#process.once("exit", resolve));
    this.#process.disconnect();
    await gone;
  }
}
