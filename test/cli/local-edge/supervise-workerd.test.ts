/** That workerd is started again when it has crashed or hangs, later each time, and that a crash loop has an end. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { beginRun } from "../../../src/cli/local-edge/edge-run.ts";
import { freePort } from "../../../src/cli/local-edge/listening-address.ts";
import { startLocalEdge } from "../../../src/cli/local-edge/local-edge.ts";
import { type Machine, type Supervised, superviseWorkerd } from "../../../src/cli/local-edge/supervise-workerd.ts";
import type { RuntimeOptions } from "../../../src/cli/local-edge/worker-runtime.ts";
import { WORKER_FILE } from "../../../src/cli/local-edge/workerd-config.ts";
import { type Ended, WorkerdProcess } from "../../../src/cli/local-edge/workerd-process.ts";
import { readRecord } from "../../../src/lib/node/file-lock.ts";
import { sleep } from "../../../src/lib/runtime/timeout.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { eventually } from "../../support/watch.ts";

/** A machine whose time passes when the test says so, with processes that end and answer as it says. */
class DrivenMachine implements Machine {
  time = 0;
  readonly started: { readonly options: RuntimeOptions; readonly at: number; readonly end: (how: Ended) => void }[] =
    [];
  /** Why the next starts fail, and how many. */
  broken = "";
  failures = 0;
  ended = 0;
  /** Milliseconds until a killed process is gone. */
  dying = 0;
  asked = 0;
  #answers = true;
  readonly #open = new Set<() => void>();
  readonly #sleepers = new Set<{ readonly until: number; readonly wake: () => void }>();

  async start(options: RuntimeOptions): Promise<Supervised> {
    if (this.failures > 0) {
      this.failures -= 1;
      throw new Error(this.broken);
    }
    let end: (how: Ended) => void = () => undefined;
    const ended = new Promise<Ended>((resolve) => {
      end = resolve;
    });
    this.started.push({ options, at: this.time, end });
    return {
      since: this.time,
      ended,
      tell: async () => true,
      ask: async (signal) => {
        this.asked += 1;
        if (this.#answers) return;
        await new Promise<void>((resolve) => {
          this.#open.add(resolve);
          signal.addEventListener("abort", () => resolve());
        });
      },
      end: async () => {
        if (this.dying > 0) await this.sleep(this.dying, new AbortController().signal);
        this.ended += 1;
        end({ how: "ended by SIGKILL", words: "" });
      },
    };
  }

  sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const sleeper = {
        until: this.time + milliseconds,
        wake: () => {
          this.#sleepers.delete(sleeper);
          resolve();
        },
      };
      this.#sleepers.add(sleeper);
      signal.addEventListener("abort", sleeper.wake);
      if (signal.aborted) sleeper.wake();
    });
  }

  now(): number {
    return this.time;
  }

  /** Whether the processes answer, also what they have been asked already. */
  set answers(answers: boolean) {
    this.#answers = answers;
    if (answers) for (const resolve of this.#open) resolve();
  }

  get sleepers(): number {
    return this.#sleepers.size;
  }

  /** Lets time pass, with each timer when it is due. */
  async pass(milliseconds: number): Promise<void> {
    const end = this.time + milliseconds;
    for (;;) {
      await settled();
      const next = [...this.#sleepers].sort((a, b) => a.until - b.until)[0];
      if (next === undefined || next.until > end) break;
      this.time = Math.max(this.time, next.until);
      next.wake();
    }
    this.time = end;
  }

  /** Stops everything for a while: afterwards all timers are late. */
  suspend(milliseconds: number): void {
    this.time += milliseconds;
  }

  /** Ends the process that runs now, after it has run for some milliseconds. Returns the pause before the next, if any. */
  async crash(ran: number, words = ""): Promise<number | undefined> {
    await this.pass(ran);
    const before = this.started.length;
    const at = this.time;
    this.started.at(-1)?.end({ how: "ended by SIGSEGV", words });
    await settled();
    for (let waited = 0; this.started.length === before && waited < 60_000; waited += 100) await this.pass(100);
    const next = this.started[before];
    return next && next.at - at;
  }
}

/** Everything that can happen without time has happened. */
async function settled(): Promise<void> {
  for (let turns = 0; turns < 10; turns += 1) await new Promise(setImmediate);
}

async function supervised(machine: Machine) {
  const run = await beginRun(undefined);
  const notices: string[] = [];
  let restarts = 0;
  const options: RuntimeOptions = {
    worker: { name: "t", code: "", compatibilityDate: "2026-11-09", compatibilityFlags: [], objects: {}, texts: {} },
    front: { host: "127.0.0.1", port: 1 },
    run,
    log: () => undefined,
    notice: (line) => notices.push(line),
    restarted: () => {
      restarts += 1;
    },
  };
  run.close();
  return { runtime: await superviseWorkerd(options, machine), notices, restarts: () => restarts };
}

describe("workerd that has crashed", () => {
  it("is started after a longer pause each time, and for the last time with what it logged last", async () => {
    const machine = new DrivenMachine();
    const { runtime, notices, restarts } = await supervised(machine);
    const pauses: (number | undefined)[] = [];
    for (let crashes = 0; crashes < 8; crashes += 1) pauses.push(await machine.crash(100));
    assert.deepEqual(pauses, [0, 500, 1000, 2000, 4000, 8000, 15_000, 30_000]);
    assert.equal(restarts(), 8);
    assert.match(notices[1] ?? "", /ended by SIGSEGV: it is started again in 0.5 s \[EdgeCrashed\]$/);
    assert.equal(await machine.crash(100, "out of memory"), undefined);
    const error = await runtime.failed;
    assert.equal(error.code, "EdgeCrashed");
    assert.match(error.message, /ended by SIGSEGV \(out of memory\), 9 times in a row: look into its log/);
    assert.equal(machine.started.length, 9);
  });

  it("is started at once when it has run for a minute", async () => {
    const machine = new DrivenMachine();
    await supervised(machine);
    for (let crashes = 0; crashes < 5; crashes += 1) assert.equal(await machine.crash(60_000), 0);
  });

  it("is tried again when it cannot start, as while the port is taken", async () => {
    const machine = new DrivenMachine();
    const { runtime, notices } = await supervised(machine);
    machine.broken = "address in use";
    machine.failures = 3;
    assert.equal(await machine.crash(100), 3500);
    assert.match(notices[1] ?? "", /did not start again \(address in use\)/);
    await runtime.dispose();
  });

  it("is not started again when it is disposed of", async () => {
    const machine = new DrivenMachine();
    const { runtime } = await supervised(machine);
    await runtime.dispose();
    await machine.pass(300_000);
    assert.deepEqual([machine.ended, machine.started.length, machine.sleepers], [1, 1, 0]);
  });
});

it("an edge whose runtime crashes and starts no more is given up by name", async (t) => {
  const [speed, day] = [100, 86_400_000];
  const pauses: number[] = [];
  const notices: string[] = [];
  const machine: Machine = {
    start: (options, number) => WorkerdProcess.start(options, number),
    sleep: (milliseconds, signal) => {
      if (milliseconds < day) pauses.push(milliseconds);
      return sleep(milliseconds / speed, signal);
    },
    now: () => performance.now(),
  };
  const state = temporaryFolder();
  const edge = await startLocalEdge({
    port: 0,
    relayAllow: [],
    dev: "1",
    state,
    onNotice: (line) => notices.push(line),
    start: (given) => superviseWorkerd(given, machine, { pause: day, answer: day }),
  });
  t.after(() => edge.close());
  const { folder = "", children = [] } = readRecord(join(state, "lock")) ?? {};
  writeFileSync(join(folder, WORKER_FILE), "no program");
  process.kill(children[0]?.pid ?? 0, "SIGKILL");
  const { code, message } = await edge.failed;
  assert.equal(code, "EdgeCrashed");
  assert.match(message, /did not start again \(workerd ended with status 1.*\), 9 times in a row: look into its log/s);
  assert.deepEqual(pauses, [0, 500, 1000, 2000, 4000, 8000, 15_000, 30_000]);
  assert.match(notices[0] ?? "", /^workerd, which runs the edge, ended by SIGKILL: it is started again at once/);
  assert.equal(notices.length, 8);
});

it("serves another certificate, and the one before if it does not start with that", async () => {
  const machine = new DrivenMachine();
  const { runtime, notices } = await supervised(machine);
  await runtime.renew({ key: "a", cert: "b" });
  assert.deepEqual(machine.started.at(-1)?.options.front.tls, { key: "a", cert: "b" });
  assert.deepEqual([machine.started.length, notices], [2, []], "that is no crash");
  machine.broken = "bad certificate";
  machine.failures = 1;
  const renewed = runtime.renew({ key: "c", cert: "d" });
  await machine.pass(0);
  await renewed;
  assert.match(notices[0] ?? "", /did not start with the new certificate \(bad certificate\)/);
  assert.deepEqual(machine.started.at(-1)?.options.front.tls, { key: "a", cert: "b" });
  await runtime.dispose();
});

describe("workerd that hangs", () => {
  it("is killed and started again when two questions remain unanswered for a minute, and the log says so", async () => {
    const machine = new DrivenMachine();
    const { runtime, notices, restarts } = await supervised(machine);
    await machine.pass(200_000);
    assert.ok(machine.asked > 10, "it is asked");
    machine.answers = false;
    await machine.pass(59_000);
    assert.deepEqual([machine.started.length, notices], [1, []]);
    await machine.pass(17_000);
    assert.deepEqual(notices, [
      "workerd, which runs the edge, did not answer for 60 s and was killed: it is started again at once [EdgeCrashed]",
    ]);
    assert.deepEqual([machine.started.length, machine.ended, restarts()], [2, 1, 1]);
    await runtime.dispose();
  });

  it("lives on when it answers the second question", async () => {
    const machine = new DrivenMachine();
    const { runtime, notices } = await supervised(machine);
    for (let rounds = 0; rounds < 5; rounds += 1) {
      machine.answers = false;
      await machine.pass(46_000);
      machine.answers = true;
      await machine.pass(30_000);
    }
    assert.deepEqual([machine.started.length, notices], [1, []]);
    await runtime.dispose();
  });

  it("lives on when this process was stopped or kept waiting as well", async () => {
    const machine = new DrivenMachine();
    const { runtime } = await supervised(machine);
    machine.answers = false;
    for (let rounds = 0; rounds < 20; rounds += 1) {
      await machine.pass(50_000);
      machine.suspend(3_600_000);
    }
    // Timers come three seconds late, again and again.
    for (let rounds = 0; rounds < 100; rounds += 1) {
      await machine.pass(10_000);
      machine.suspend(4000);
    }
    assert.equal(machine.started.length, 1);
    await machine.pass(80_000);
    assert.equal(machine.started.length, 2, "but not for ever");
    await runtime.dispose();
  });

  it("is given up when it hangs at each start", async () => {
    const machine = new DrivenMachine();
    const { runtime } = await supervised(machine);
    machine.answers = false;
    await machine.pass(900_000);
    assert.match((await runtime.failed).message, /did not answer for 60 s and was killed, 9 times in a row/);
    assert.deepEqual([machine.started.length, machine.sleepers], [9, 0]);
  });

  for (const [what, dying] of [
    ["", 0],
    [", though it does not die at once", 10_000],
  ] as const) {
    it(`is neither killed nor started twice when a new certificate comes at the same time${what}`, async () => {
      const machine = new DrivenMachine();
      const { runtime } = await supervised(machine);
      machine.answers = false;
      machine.dying = dying;
      // A second before the second question has been open for too long.
      await machine.pass(74_000);
      const renewed = runtime.renew({ key: "a", cert: "b" });
      await machine.pass(1000);
      machine.answers = true;
      await machine.pass(100_000);
      await renewed;
      assert.deepEqual([machine.started.length, machine.ended], [2, 1]);
      machine.dying = 0;
      await runtime.dispose();
    });
  }

  it("is not started again when the edge is stopped while it is being killed", async () => {
    const machine = new DrivenMachine();
    const { runtime } = await supervised(machine);
    machine.answers = false;
    machine.dying = 10_000;
    await machine.pass(80_000);
    const disposed = runtime.dispose();
    await machine.pass(100_000);
    await disposed;
    assert.deepEqual([machine.started.length, machine.ended, machine.sleepers], [1, 1, 0]);
  });

  it("is killed by a supervisor whose process runs (SIGSTOP)", async (t) => {
    const pids: number[] = [];
    const machine: Machine = {
      start: async (options, number) => {
        const started = await WorkerdProcess.start(options, number);
        if (started.pid !== undefined) pids.push(started.pid);
        return started;
      },
      sleep,
      now: () => performance.now(),
    };
    const run = await beginRun(undefined);
    const notices: string[] = [];
    const port = await freePort("127.0.0.1", 0);
    const code = `export default { fetch: () => new Response("served") }`;
    const runtime = await superviseWorkerd(
      {
        worker: { name: "t", code, compatibilityDate: "2026-11-09", compatibilityFlags: [], objects: {}, texts: {} },
        front: { host: "127.0.0.1", port },
        run,
        log: () => undefined,
        notice: (line) => notices.push(line),
        restarted: () => undefined,
      },
      machine,
      { pause: 100, answer: 2000 },
    );
    t.after(async () => {
      await runtime.dispose();
      run.close();
    });
    process.kill(pids[0] ?? 0, "SIGSTOP");
    await eventually(() => pids.length === 2, "another process serves");
    assert.equal(await (await fetch(`http://127.0.0.1:${port}`)).text(), "served");
    assert.match(notices.join("\n"), /^workerd, which runs the edge, did not answer for 4 s and was killed/);
  });
});

it("passes variables as they are, whatever is in them, and logs by level", async (t) => {
  const run = await beginRun(undefined);
  const texts = { A: 'quotes " and \\ and \n and \x01 and ’ and 𝕏 and ), (', B: "" };
  const code = `export default { fetch(request, env) { console.warn("seen"); return Response.json({ A: env.A, B: env.B }); } }`;
  const port = await freePort("127.0.0.1", 0);
  const logged: string[] = [];
  const runtime = await superviseWorkerd({
    worker: { name: "t", code, compatibilityDate: "2026-11-09", compatibilityFlags: [], objects: {}, texts },
    front: { host: "127.0.0.1", port },
    run,
    log: (level, line) => logged.push(`${level} ${line}`),
    notice: assert.fail,
    restarted: assert.fail,
  });
  t.after(async () => {
    await runtime.dispose();
    run.close();
  });
  assert.deepEqual(await (await fetch(`http://127.0.0.1:${port}`)).json(), texts);
  assert.equal(await runtime.tell({ path: "/", secret: "s", patience: 5000 }), true);
  await eventually(() => logged.includes("warn seen"), "the line is logged");
});
