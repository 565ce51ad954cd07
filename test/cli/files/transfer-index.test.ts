/** What the index of incoming transfers remembers between runs, and for how long. */
import assert from "node:assert/strict";
import { appendFile, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { nodeFileSystem } from "../../../src/cli/files/file-system.ts";
import { type Finished, TransferIndex, type Unfinished } from "../../../src/cli/files/transfer-index.ts";
import { FINISHED_TIME, FINISHED_TRANSFERS } from "../../../src/transfer/limits.ts";
import { folder } from "../support.ts";
import { transferOf } from "./transfer-support.ts";

const DAY = 24 * 3600_000;

/** A state folder, and runs that use it. The test sets the time. */
class State {
  readonly path: string;
  now = 1_700_000_000_000;
  #runs = 0;

  private constructor(path: string) {
    this.path = path;
  }

  static async make(context: TestContext): Promise<State> {
    return new State(await folder(context));
  }

  /** Starts the next run. Earlier ones count as ended, except those in `living`. */
  open(write = true, living: readonly number[] = []): Promise<TransferIndex> {
    this.#runs += 1;
    return TransferIndex.open(
      {
        fileSystem: nodeFileSystem,
        state: this.path,
        now: () => this.now,
        run: { pid: this.#runs, started: "" },
        isRunning: ({ pid }) => living.includes(pid),
      },
      write,
    );
  }

  async logs(): Promise<string[]> {
    return (await readdir(join(this.path, "transfers"))).filter((name) => name.endsWith(".log"));
  }
}

function finished(number: number, at: number, source = "alice"): Finished {
  return { state: "finished", key: transferOf(number), source, how: "received", folder: "/in", place: ["f"], at };
}

function unfinished(number: number, at: number): Unfinished {
  return { state: "unfinished", key: transferOf(number), source: "alice", folder: "/in", at };
}

describe("a finished transfer", () => {
  it("is remembered for 14 days, an unfinished one for longer", async (context) => {
    const state = await State.make(context);
    const first = await state.open();
    await first.put(finished(1, state.now));
    await first.put(unfinished(2, state.now));
    await first.close();
    assert.equal(FINISHED_TIME, 14 * DAY);
    for (const [after, how] of [
      [14 * DAY, "finished"],
      [1, undefined],
    ] as const) {
      state.now += after;
      const later = await state.open();
      assert.equal(later.get(transferOf(1))?.state, how);
      assert.equal(later.get(transferOf(2))?.state, "unfinished");
      await later.close();
    }
  });

  it("is forgotten first, beginning with the oldest, if its sender has very many", async (context) => {
    const state = await State.make(context);
    await mkdir(join(state.path, "transfers"));
    const lines = Array.from({ length: FINISHED_TRANSFERS + 100 }, (_, number) => {
      const { state: type, ...fields } = finished(number, state.now + number, "mallory");
      return `${JSON.stringify({ type, ...fields })}\n`;
    });
    await writeFile(join(state.path, "transfers", "0.log"), lines.join(""));
    state.now += lines.length;
    const index = await state.open();
    await index.put(finished(1_000_000, state.now - DAY, "alice"));
    await index.close();
    const next = await state.open();
    assert.equal(next.get(transferOf(1_000_000))?.state, "finished");
    assert.equal(next.get(transferOf(100)), undefined);
    assert.equal(next.get(transferOf(101))?.state, "finished");
    assert.equal(next.get(transferOf(lines.length - 1))?.state, "finished");
    await next.close();
  });
});

describe("the logs of several runs", () => {
  it("are read together, and those of ended runs are merged", async (context) => {
    const state = await State.make(context);
    const [one, two] = [await state.open(true, [1, 2]), await state.open(true, [1, 2])];
    await one.put(unfinished(1, state.now));
    await two.put(unfinished(2, state.now));
    await two.put(finished(1, state.now));
    state.now += 1000;
    await one.refresh();
    assert.equal(one.get(transferOf(1))?.state, "finished");
    await one.close();
    await two.close();
    assert.equal((await state.logs()).length, 2);
    const third = await state.open(true, [2]);
    assert.equal((await state.logs()).length, 2, "the second run is alive");
    await third.close();
    const fourth = await state.open();
    assert.equal((await state.logs()).length, 1);
    assert.deepEqual(
      [1, 2].map((number) => fourth.get(transferOf(number))?.state),
      ["finished", "unfinished"],
    );
    await fourth.close();
  });

  it("may contain invalid lines, such as one torn by a crash", async (context) => {
    const state = await State.make(context);
    const first = await state.open();
    await first.put(unfinished(1, state.now));
    await first.close();
    const [log = ""] = await state.logs();
    const path = join(state.path, "transfers", log);
    const line = (await readFile(path, "utf8")).trimEnd().split("\n").at(-1) ?? "";
    await appendFile(
      path,
      `null\n[]\n{"type":"finished","key":1}\n${line.replace(transferOf(1), transferOf(2)).slice(0, -5)}`,
    );
    const next = await state.open();
    assert.equal(next.get(transferOf(1))?.state, "unfinished");
    assert.equal(next.get(transferOf(2)), undefined);
    await next.put(unfinished(3, state.now));
    await next.close();
    const last = await state.open(false);
    assert.deepEqual(
      last.unfinished.map(({ key }) => key),
      [transferOf(1), transferOf(3)],
    );
    await last.close();
  });

  it("are not changed by a run that only reads", async (context) => {
    const state = await State.make(context);
    const first = await state.open();
    await first.put(unfinished(1, state.now));
    await first.close();
    const before = await state.logs();
    const reader = await state.open(false);
    assert.equal(reader.unfinished.length, 1);
    await reader.close();
    assert.deepEqual(await state.logs(), before);
    assert.equal(
      (await TransferIndex.open({ fileSystem: nodeFileSystem, state: join(state.path, "none"), now: Date.now }, false))
        .unfinished.length,
      0,
    );
  });
});
