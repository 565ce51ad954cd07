/** A lock between processes: one holds it, and it ends with that process, however it ends. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { chmod, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { describe, it, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { FileLock, LockHeld, readRecord } from "../../../src/lib/node/file-lock.ts";
import { endProcess, isRunning, processId } from "../../../src/lib/node/process-id.ts";
import { folder } from "../../cli/support.ts";

const PROGRAM = fileURLToPath(new URL("./contender.ts", import.meta.url));

class Contender {
  readonly process: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor(context: TestContext) {
    const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", PROGRAM], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    context.after(() => child.kill("SIGKILL"));
    this.process = child;
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  }

  async ask(line: string): Promise<string> {
    this.process.stdin?.write(`${line}\n`);
    return String((await this.#lines.next()).value);
  }
}

describe("when several try at once, exactly one wins every time and the others learn who holds it", () => {
  for (const what of ["lock", "run"]) {
    it(what === "lock" ? "a lock" : "the state folder of an edge", async (context) => {
      const contenders = [new Contender(context), new Contender(context), new Contender(context)];
      const at = await folder(context);
      for (let round = 0; round < 20; round += 1) {
        const results = await Promise.all(contenders.map((one) => one.ask(`${what} ${join(at, "it")}`)));
        const winners = contenders.filter((_, index) => results[index] === "won");
        assert.equal(winners.length, 1, results.join(", "));
        const losers = results.filter((result) => result === `lost to ${winners[0]?.process.pid}`);
        assert.equal(losers.length, 2, results.join(", "));
        assert.equal(await winners[0]?.ask("release"), "released");
      }
    });
  }
});

describe("a lock", () => {
  it("is released when its process is killed, and the next holder learns what was left", async (context) => {
    const path = join(await folder(context), "lock");
    const first = new Contender(context);
    assert.equal(await first.ask(`lock ${path}`), "won");
    assert.throws(() => new FileLock(path, 0), LockHeld);
    first.process.kill("SIGKILL");
    await once(first.process, "exit");
    const lock = new FileLock(path);
    assert.equal(lock.left?.pid, first.process.pid);
    lock.release();
    assert.equal(new FileLock(path).left, undefined);
  });

  it("excludes other holders in the same process", async (context) => {
    const path = join(await folder(context), "lock");
    const lock = new FileLock(path);
    assert.throws(
      () => new FileLock(path),
      (error: unknown) => error instanceof LockHeld && error.holder?.pid === process.pid,
    );
    lock.release();
    new FileLock(path).release();
    assert(!existsSync(`${path}.json`));
  });

  it("stays held when its folder is removed", async (context) => {
    const at = await folder(context);
    const lock = new FileLock(join(at, "lock"));
    await rm(at, { recursive: true });
    lock.note({ children: [], folder: at });
    lock.release();
  });

  it("ignores a record that another user may have written", async (context) => {
    const path = join(await folder(context), "lock");
    await writeFile(`${path}.json`, JSON.stringify({ ...processId(process.pid), children: [processId(process.pid)] }));
    assert.equal(readRecord(path)?.pid, process.pid);
    await chmod(`${path}.json`, 0o666);
    assert.equal(readRecord(path), undefined);
  });
});

describe("a process", () => {
  it("is distinguished from another with the same number", async () => {
    const child = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"]);
    const id = processId(child.pid ?? 0);
    assert(id !== undefined && isRunning(id));
    const other = { ...id, started: "another time" };
    assert(!isRunning(other));
    assert(await endProcess(other));
    assert(isRunning(id), "it was not killed in place of the other");
    assert(await endProcess(id));
    assert(!isRunning(id));
  });
});
