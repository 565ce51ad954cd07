/** The send journal: what a rerun finds of an interrupted run. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { type FileIdentity, SendJournal } from "../../../src/cli/files/send-journal.ts";
import { folder } from "../support.ts";

const HOLIDAYS: FileIdentity = {
  path: Buffer.from("/home/alice/holidays.tar"),
  name: "holidays.tar",
  size: 5_000_000,
  modified: 1_700_000_000_000.25,
  inode: 7,
};
const TO_BOB = "edge alice/pc bob/laptop";

/** Arguments that make node run a few lines with a journal. */
function program(file: string, lines: string): string[] {
  const source = fileURLToPath(new URL("../../../src/cli/files/send-journal.ts", import.meta.url));
  const script = `
    import { SendJournal } from ${JSON.stringify(source)};
    const journal = new SendJournal(${JSON.stringify(file)}, ${JSON.stringify(TO_BOB)}, (error) => { throw error; });
    const holidays = { ...${JSON.stringify(HOLIDAYS)}, path: Buffer.from(${JSON.stringify(String(HOLIDAYS.path))}) };
    ${lines}`;
  return ["--disable-warning=ExperimentalWarning", "--input-type=module", "--eval", script];
}

/** A run that is killed once its lines are done and their writes are on the way. */
function interrupted(file: string, lines: string): void {
  const kill = "setImmediate(() => setImmediate(() => process.kill(process.pid, 'SIGKILL')));";
  const { signal, stderr } = spawnSync(process.execPath, program(file, `${lines}\n${kill}`), { encoding: "utf8" });
  assert.equal(signal, "SIGKILL", stderr);
}

function journalOn(context: TestContext, file: string, destination = TO_BOB): SendJournal {
  const journal = new SendJournal(file, destination, (error) => assert.fail(String(error)));
  context.after(() => journal.close());
  return journal;
}

async function fileIn(context: TestContext): Promise<string> {
  return join(await folder(context), "sending.db");
}

const BEGUN = { acknowledged: 0, sha256: undefined, isDone: false, isJournaled: true, superseded: [] };

test("a file that was never started gets a new transfer", async (context) => {
  const journal = journalOn(context, await fileIn(context));
  assert.deepEqual(await journal.claim(HOLIDAYS, "new"), { transfer: "new", ...BEGUN });
});

test("a rerun resumes the transfer of the killed run where it stopped", async (context) => {
  const file = await fileIn(context);
  interrupted(file, `await journal.claim(holidays, "first"); journal.progress("first", 1048576, "aa");`);
  const again = await journalOn(context, file).claim(HOLIDAYS, "new");
  assert.deepEqual(again, { ...BEGUN, transfer: "first", acknowledged: 1_048_576, sha256: "aa" });
});

test("a file that was fully sent before the kill is finished", async (context) => {
  const file = await fileIn(context);
  interrupted(file, `await journal.claim(holidays, "first"); journal.done("first", "bb");`);
  const again = await journalOn(context, file).claim(HOLIDAYS, "new");
  assert.deepEqual(again, { ...BEGUN, transfer: "first", sha256: "bb", isDone: true });
});

test("a changed size, time or inode means another file, whose transfer replaces the old one", async (context) => {
  for (const change of [{ size: 5_000_001 }, { modified: 1_700_000_000_000.5 }, { inode: 8 }]) {
    const file = await fileIn(context);
    interrupted(file, `await journal.claim(holidays, "first");`);
    const again = await journalOn(context, file).claim({ ...HOLIDAYS, ...change }, "new");
    assert.deepEqual(again, { ...BEGUN, transfer: "new", superseded: ["first"] }, JSON.stringify(change));
  }
});

test("another path, name or destination is independent", async (context) => {
  const file = await fileIn(context);
  interrupted(file, `await journal.claim(holidays, "first");`);
  for (const [change, destination] of [
    [{ path: Buffer.from("/home/bob/holidays.tar") }, TO_BOB],
    [{ name: "2024/holidays.tar" }, TO_BOB],
    [{}, "edge alice/pc carol/laptop"],
  ] as const) {
    const again = await journalOn(context, file, destination).claim({ ...HOLIDAYS, ...change }, `${Math.random()}`);
    assert.deepEqual([again.acknowledged, again.superseded], [0, []]);
    assert.notEqual(again.transfer, "first");
  }
});

test("fresh restarts the file and ends the old transfer", async (context) => {
  const file = await fileIn(context);
  interrupted(file, `await journal.claim(holidays, "first"); journal.progress("first", 1048576, "aa");`);
  const again = await journalOn(context, file).claim(HOLIDAYS, "new", true);
  assert.deepEqual(again, { ...BEGUN, transfer: "new", superseded: ["first"] });
});

test("a completed run leaves nothing to resume", async (context) => {
  const file = await fileIn(context);
  interrupted(file, `await journal.claim(holidays, "first"); journal.finish();`);
  assert.deepEqual(await journalOn(context, file).claim(HOLIDAYS, "new"), { transfer: "new", ...BEGUN });
});

test("a transfer that another command is sending is left alone", async (context) => {
  const file = await fileIn(context);
  const other = spawn(
    process.execPath,
    program(
      file,
      `await journal.claim(holidays, "first"); console.log("claimed"); setInterval(() => undefined, 1000);`,
    ),
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  context.after(() => other.kill("SIGKILL"));
  await once(other.stdout, "data");
  const mine = await journalOn(context, file).claim(HOLIDAYS, "mine");
  assert.deepEqual(mine, { ...BEGUN, transfer: "mine" });
});

test("a file named twice is sent twice, and resumes both transfers after a kill", async (context) => {
  const file = await fileIn(context);
  interrupted(file, `await journal.claim(holidays, "first"); await journal.claim(holidays, "second");`);
  const journal = journalOn(context, file);
  const claims = await Promise.all(["third", "fourth"].map((id) => journal.claim(HOLIDAYS, id)));
  assert.deepEqual(claims.map(({ transfer }) => transfer).sort(), ["first", "second"]);
});

test("an interrupted send restarts after 14 days", async (context) => {
  const file = await fileIn(context);
  interrupted(file, `await journal.claim(holidays, "first");`);
  context.mock.timers.enable({ apis: ["Date"], now: Date.now() + 14 * 24 * 3600_000 + 60_000 });
  assert.deepEqual(await journalOn(context, file).claim(HOLIDAYS, "new"), { transfer: "new", ...BEGUN });
});

test("a cancelled transfer is not resumed", async (context) => {
  const file = await fileIn(context);
  interrupted(file, `await journal.claim(holidays, "first"); journal.forget("first");`);
  assert.deepEqual(await journalOn(context, file).claim(HOLIDAYS, "new"), { transfer: "new", ...BEGUN });
});

test("a journal that can no longer be written is reported once, and files are still sent", async (context) => {
  const file = await fileIn(context);
  const failures: unknown[] = [];
  const journal = new SendJournal(file, TO_BOB, (error) => failures.push(error));
  context.after(() => journal.close());
  const other = new DatabaseSync(file);
  other.exec("DROP TABLE transfer");
  other.close();
  assert.equal((await journal.claim(HOLIDAYS, "new")).transfer, "new");
  journal.progress("new", 1, "aa");
  journal.done("new", "bb");
  await new Promise(setImmediate);
  assert.equal(failures.length, 1);
});
