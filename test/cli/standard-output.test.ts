/** Standard output that reports its failures. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { closeSync, constants, openSync, readSync } from "node:fs";
import { type FileHandle, open, readFile } from "node:fs/promises";
import { Socket } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { promisify } from "node:util";
import { CommandError } from "../../src/cli/command-error.ts";
import { Output } from "../../src/cli/standard-output.ts";
import { eventually, soon } from "../support/watch.ts";
import { folder } from "./support.ts";

const run = promisify(execFile);

async function openAt(context: TestContext, path: string, flags: string): Promise<FileHandle> {
  const handle = await open(path, flags);
  context.after(() => handle.close().catch(() => undefined));
  return handle;
}

/** Both ends of a pipe; the output closes the writing end. */
async function pipe(context: TestContext): Promise<{ readonly reader: number; readonly writer: number }> {
  const path = join(await folder(context), "pipe");
  await run("mkfifo", [path]);
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  return { reader, writer: openSync(path, constants.O_WRONLY | constants.O_NONBLOCK) };
}

function isCommandError(code: string, message: RegExp) {
  return (error: unknown) => error instanceof CommandError && error.code === code && message.test(error.message);
}

test("writes to a file appear in the order of the calls", async (context) => {
  const path = join(await folder(context), "out");
  const output = Output.open((await openAt(context, path, "w")).fd);
  const long = Buffer.alloc(200_000, "x");
  await Promise.all([
    output.write(["a", Uint8Array.of(0xff), "b\n"]),
    output.write([long]),
    output.write([]),
    output.write(["c\n"]),
  ]);
  assert.deepEqual(
    await readFile(path),
    Buffer.concat([Buffer.from("a"), Buffer.of(0xff), Buffer.from("b\n"), long, Buffer.from("c\n")]),
  );
});

test("pieces are requested once those before are written", async (context) => {
  const path = join(await folder(context), "out");
  const output = Output.open((await openAt(context, path, "w")).fd);
  const sizes: number[] = [];
  async function sizeNow() {
    sizes.push((await readFile(path)).length);
  }
  const looks: Promise<void>[] = [];
  function* pieces() {
    for (let n = 0; n < 4; n += 1) {
      yield Buffer.alloc(64 * 1024);
      looks.push(sizeNow());
    }
  }
  await output.write(pieces());
  await Promise.all(looks);
  assert((sizes.at(-1) ?? 0) >= 2 * 64 * 1024, `nothing was written before the last piece was produced: ${sizes}`);
});

test("a full device fails the write with a code, and all later ones", async (context) => {
  const output = Output.open((await openAt(context, "/dev/full", "w")).fd);
  const full = isCommandError("CannotWrite", /standard output \(ENOSPC\): its disk is full/);
  await assert.rejects(output.write(["a"]), full);
  await assert.rejects(output.write(["b"]), full);
});

test("a disk with room for a part fails the write", async (context) => {
  const at = await folder(context);
  try {
    await run("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", at]);
  } catch {
    context.skip("it takes a user who may mount");
    return;
  }
  const handle = await open(join(at, "out"), "w");
  try {
    const output = Output.open(handle.fd);
    // A single system call, which writes a part and reports no error.
    const written = await Promise.allSettled([output.write(["first\n"]), output.write([Buffer.alloc(64 * 1024)])]);
    assert.deepEqual(
      written.map(({ status }) => status),
      ["fulfilled", "rejected"],
    );
  } finally {
    await handle.close();
    await run("umount", [at]);
  }
});

test("reports of one turn reach a pipe in one write, and what is not a report in its own", async (context) => {
  const { reader, writer } = await pipe(context);
  context.after(() => closeSync(reader));
  const writes = context.mock.method(Socket.prototype, "write");
  const output = Output.open(writer);
  await Promise.all([output.report(["a\n"]), output.report(["b\n"]), output.report(["c\n"])]);
  assert.equal(writes.mock.callCount(), 1);
  await Promise.all([output.report(["d\n"]), output.write(["e\n"]), output.write(["f\n"]), output.report(["g\n"])]);
  assert.equal(writes.mock.callCount(), 5);
  const room = Buffer.alloc(100);
  assert.equal(room.toString("utf8", 0, readSync(reader, room)), "a\nb\nc\nd\ne\nf\ng\n");
});

test("a pipe whose reader is gone fails with OutputClosed", async (context) => {
  const { reader, writer } = await pipe(context);
  const output = Output.open(writer);
  await output.write(["taken\n"]);
  closeSync(reader);
  await assert.rejects(output.write(["lost\n"]), isCommandError("OutputClosed", /has ended/));
});

test("a pipe that nobody reads drops what waits when the output is closed", async (context) => {
  const { reader, writer } = await pipe(context);
  context.after(() => closeSync(reader));
  const output = Output.open(writer);
  const stuck = output.write([Buffer.alloc(1024 * 1024)]);
  const behind = output.write(["behind"]);
  await eventually(() => output.hasWritten, "the pipe to be full");
  await new Promise((resolve) => setTimeout(resolve, 50));
  output.close();
  const ended = await soon(Promise.allSettled([stuck, behind]), "the end of what was stuck");
  assert.deepEqual(
    ended.map(({ status }) => status),
    ["rejected", "rejected"],
  );
});

test("a descriptor that is not open fails with OutputClosed", () => {
  assert.throws(() => Output.open(987), isCommandError("OutputClosed", /standard output is closed/));
});
