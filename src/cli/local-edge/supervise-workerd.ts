/**
 * Keeps workerd running: one that has crashed or hangs is started again on the same port, with what is on disk. What waits
 * for an answer meanwhile is cut off, and its devices connect again.
 *
 * workerd runs by a configuration of the command's own, not through Miniflare, which is made for development. Measured on
 * one machine, Miniflare against this: 1.2 s of CPU to start against 0.7, 288 MiB of memory when idle against 229. Miniflare
 * also starts a crashed workerd again, but at once and for ever, tells nobody if that fails, and opens a second listener.
 *
 * @module
 */
import { sleep } from "../../lib/runtime/timeout.ts";
import { CommandError } from "../command-error.ts";
import { type Asked, type Clock, PATIENCE, type Patience, QUESTIONS, untilHung } from "./hang-watch.ts";
import { RestartPauses } from "./restart-pauses.ts";
import type { KeyPair, Order, RuntimeOptions, WorkerRuntime } from "./worker-runtime.ts";
import { type Ended, WorkerdProcess } from "./workerd-process.ts";

/** A running process, as {@link WorkerdProcess} has it. */
export interface Supervised extends Asked {
  readonly pid?: number | undefined;
  readonly since: number;
  readonly ended: Promise<Ended>;
  tell(order: Order): Promise<boolean>;
  end(): Promise<void>;
}

/** What the supervisor needs of the machine, replaceable for tests. */
export interface Machine extends Clock {
  start(options: RuntimeOptions, number: number): Promise<Supervised>;
}

const REAL: Machine = {
  start: (options, number) => WorkerdProcess.start(options, number),
  sleep,
  now: () => performance.now(),
};

/**
 * Starts workerd, and starts it again whenever it ends.
 *
 * @throws Error if it does not start the first time: then there is probably a mistake, and no use in trying again
 */
export async function superviseWorkerd(
  options: RuntimeOptions,
  machine: Machine = REAL,
  patience: Patience = PATIENCE,
): Promise<WorkerRuntime> {
  const supervisor = new Supervisor(options, machine, patience);
  await supervisor.start();
  return supervisor;
}

class Supervisor implements WorkerRuntime {
  readonly failed: Promise<CommandError>;
  readonly #machine: Machine;
  readonly #patience: Patience;
  readonly #pauses = new RestartPauses();
  #options: RuntimeOptions;
  #fail: (error: CommandError) => void = () => undefined;
  #process: Supervised | undefined;
  #started = 0;
  readonly #closing = new AbortController();
  /** Starts and ends happen one after the other. */
  #last: Promise<void> = Promise.resolve();

  constructor(options: RuntimeOptions, machine: Machine, patience: Patience) {
    this.#options = options;
    this.#machine = machine;
    this.#patience = patience;
    this.failed = new Promise((resolve) => {
      this.#fail = resolve;
    });
  }

  async start(): Promise<void> {
    this.#started += 1;
    const started = await this.#machine.start(this.#options, this.#started);
    this.#process = started;
    if (this.#started > 1) this.#options.restarted();
    void this.#afterwards(started);
    void this.#watch(started);
  }

  async #afterwards(started: Supervised): Promise<void> {
    const how = await started.ended;
    await this.#inTurn(async () => {
      // Otherwise it was ended on purpose.
      if (this.#process === started) await this.#restart(how, this.#machine.now() - started.since);
    });
  }

  /** Kills it when it hangs, and starts it again. */
  async #watch(started: Supervised): Promise<void> {
    const gone = new AbortController();
    void started.ended.then(() => gone.abort());
    const heard = await untilHung(started, this.#machine, this.#patience, gone.signal);
    if (heard === undefined) return;
    await this.#inTurn(async () => {
      if (this.#process !== started) return;
      await this.#endProcess();
      const seconds = (QUESTIONS * this.#patience.answer) / 1000;
      // One that hangs at each start has never run.
      await this.#restart({ how: `did not answer for ${seconds} s and was killed`, words: "" }, heard - started.since);
    });
  }

  get pid(): number | undefined {
    return this.#process?.pid;
  }

  async tell(order: Order): Promise<boolean> {
    return (await this.#process?.tell(order)) ?? false;
  }

  renew(tls: KeyPair): Promise<void> {
    return this.#inTurn(async () => {
      const before = this.#options;
      this.#options = { ...before, front: { ...before.front, tls } };
      await this.#endProcess();
      if (this.#closed) return;
      try {
        await this.start();
      } catch (error) {
        this.#options = before;
        await this.#restart({ how: "did not start with the new certificate", words: wordsOf(error) }, 0);
      }
    });
  }

  async dispose(): Promise<void> {
    this.#closing.abort();
    await this.#endProcess();
    await this.#last;
    // One may have been starting.
    await this.#endProcess();
  }

  get #closed(): boolean {
    return this.#closing.signal.aborted;
  }

  async #endProcess(): Promise<void> {
    const process = this.#process;
    this.#process = undefined;
    await process?.end();
  }

  async #restart(ended: Ended, ran: number): Promise<void> {
    this.#process = undefined;
    for (let [last, time] = [ended, ran]; !this.#closed; time = 0) {
      const pause = this.#pauses.ended(time);
      if (pause === undefined) {
        this.#fail(crashed(last, this.#pauses.inRow));
        return;
      }
      const when = pause === 0 ? "at once" : `in ${pause / 1000} s`;
      this.#options.notice(`${describe(last)}: it is started again ${when} [EdgeCrashed]`);
      await this.#machine.sleep(pause, this.#closing.signal);
      if (this.#closed) return;
      try {
        await this.start();
        return;
      } catch (error) {
        last = { how: "did not start again", words: wordsOf(error) };
      }
    }
  }

  #inTurn(act: () => Promise<void>): Promise<void> {
    const next = this.#last.then(act);
    this.#last = next.catch(() => undefined);
    return next;
  }
}

function describe({ how, words }: Ended): string {
  return `workerd, which runs the edge, ${how}${words === "" ? "" : ` (${words})`}`;
}

function crashed(last: Ended, times: number): CommandError {
  const cure = "look into its log with --log-level info, and whether memory or disk are used up";
  return new CommandError("EdgeCrashed", `${describe(last)}, ${times} times in a row: ${cure}`);
}

function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
