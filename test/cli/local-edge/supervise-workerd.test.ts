/** That workerd is started again when it has crashed, later each time, and that a crash loop has an end. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { beginRun } from "../../../src/cli/local-edge/edge-run.ts";
import { freePort } from "../../../src/cli/local-edge/listening-address.ts";
import { type Machine, type Supervised, superviseWorkerd } from "../../../src/cli/local-edge/supervise-workerd.ts";
import type { RuntimeOptions } from "../../../src/cli/local-edge/worker-runtime.ts";
import type { Ended } from "../../../src/cli/local-edge/workerd-process.ts";
import { eventually } from "../../support/watch.ts";

/** A machine whose time passes only by pauses, with processes that end when the test says so. */
class DrivenMachine implements Machine {
  time = 0;
  readonly pauses: number[] = [];
  readonly started: { readonly options: RuntimeOptions; readonly end: (how: Ended) => void }[] = [];
  /** Why the next starts fail, and how many. */
  broken = "";
  failures = 0;
  isEnded = false;

  async start(options: RuntimeOptions): Promise<Supervised> {
    if (this.failures > 0) {
      this.failures -= 1;
      throw new Error(this.broken);
    }
    let end: (how: Ended) => void = () => undefined;
    const ended = new Promise<Ended>((resolve) => {
      end = resolve;
    });
    this.started.push({ options, end });
    return {
      since: this.time,
      ended,
      tell: async () => true,
      end: async () => {
        this.isEnded = true;
        end({ how: "ended by SIGKILL", words: "" });
      },
    };
  }

  async sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    this.pauses.push(milliseconds);
    this.time += milliseconds;
  }

  now(): number {
    return this.time;
  }

  /** Ends the process that runs now, after it has run for some milliseconds, and waits for the next. */
  async crash(ran: number, words = ""): Promise<void> {
    this.time += ran;
    const before = this.started.length;
    this.started.at(-1)?.end({ how: "ended by SIGSEGV", words });
    if (this.pauses.length < 8) await eventually(() => this.started.length > before, "it is started again");
  }
}

async function supervised(machine: Machine) {
  const run = await beginRun(undefined);
  const [notices, logged] = [[] as string[], [] as string[]];
  let restarts = 0;
  const options: RuntimeOptions = {
    worker: { name: "t", code: "", compatibilityDate: "2026-11-09", compatibilityFlags: [], objects: {}, texts: {} },
    front: { host: "127.0.0.1", port: 1 },
    run,
    log: (_, line) => logged.push(line),
    notice: (line) => notices.push(line),
    restarted: () => {
      restarts += 1;
    },
  };
  run.close();
  return { runtime: await superviseWorkerd(options, machine), notices, restarts: () => restarts };
}

it("pauses longer after each crash in a row, and ends with what it logged last", async () => {
  const machine = new DrivenMachine();
  const { runtime, notices, restarts } = await supervised(machine);
  for (let crashes = 0; crashes < 8; crashes += 1) await machine.crash(100);
  assert.deepEqual(machine.pauses, [0, 500, 1000, 2000, 4000, 8000, 15_000, 30_000]);
  assert.equal(restarts(), 8);
  assert.match(notices[1] ?? "", /ended by SIGSEGV: it is started again in 0.5 s \[EdgeCrashed\]$/);
  await machine.crash(100, "out of memory");
  const error = await runtime.failed;
  assert.equal(error.code, "EdgeCrashed");
  assert.match(error.message, /ended by SIGSEGV \(out of memory\), 9 times in a row: look into its log/);
  assert.equal(machine.started.length, 9);
});

it("starts at once after a crash when it has run for a minute", async () => {
  const machine = new DrivenMachine();
  await supervised(machine);
  for (let crashes = 0; crashes < 5; crashes += 1) await machine.crash(60_000);
  assert.deepEqual(machine.pauses, [0, 0, 0, 0, 0]);
});

it("tries again when it cannot start, as while the port is taken", async () => {
  const machine = new DrivenMachine();
  const { runtime, notices } = await supervised(machine);
  machine.broken = "address in use";
  machine.failures = 3;
  await machine.crash(100);
  assert.deepEqual(machine.pauses, [0, 500, 1000, 2000]);
  assert.match(notices[1] ?? "", /did not start again \(address in use\)/);
  await runtime.dispose();
});

it("does not start again what is disposed of", async () => {
  const machine = new DrivenMachine();
  const { runtime } = await supervised(machine);
  await runtime.dispose();
  assert(machine.isEnded);
  assert.deepEqual([machine.started.length, machine.pauses], [1, []]);
});

it("serves another certificate, and the one before if it does not start with that", async () => {
  const machine = new DrivenMachine();
  const { runtime, notices } = await supervised(machine);
  await runtime.renew({ key: "a", cert: "b" });
  assert.deepEqual(machine.started.at(-1)?.options.front.tls, { key: "a", cert: "b" });
  assert.deepEqual([machine.started.length, machine.pauses], [2, []], "that is no crash");
  machine.broken = "bad certificate";
  machine.failures = 1;
  await runtime.renew({ key: "c", cert: "d" });
  assert.match(notices[0] ?? "", /did not start with the new certificate \(bad certificate\)/);
  assert.deepEqual(machine.started.at(-1)?.options.front.tls, { key: "a", cert: "b" });
  await runtime.dispose();
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
