/** How the command ends: on signals, on closed output, and on unexpected errors. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { openSync, readdirSync } from "node:fs";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { EXIT_CODES } from "../../src/cli/exit-codes.ts";
import { eventually } from "../edge/support.ts";
import { folder, start } from "./support.ts";

const ENTRY = fileURLToPath(new URL("../../src/cli/grooveway.js", import.meta.url));
const SIGNALS = new URL("../../src/cli/interrupt.ts", import.meta.url).href;

interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A process and its output. It is killed if the test ends first. */
function watched(context: TestContext, child: ChildProcess) {
  context.after(() => child.kill("SIGKILL"));
  const written = { stdout: "", stderr: "" };
  child.stdout?.setEncoding("utf8").on("data", (text: string) => {
    written.stdout += text;
  });
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    written.stderr += text;
  });
  const ended = once(child, "close").then(([code, signal]): Ended => ({ code, signal, ...written }));
  const line = () => eventually("it has written a line", () => written.stdout.includes("\n"));
  return { child, ended, line };
}

/** A program that uses signals.ts. */
function program(context: TestContext, text: string) {
  const source = `import { untilInterrupted } from ${JSON.stringify(SIGNALS)};\n${text}`;
  const args = ["--disable-warning=ExperimentalWarning", "--input-type=module", "-e", source];
  return watched(context, spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] }));
}

test("the command handles the first signal before any library handler ends the process", async (context) => {
  const { child, ended, line } = program(
    context,
    `process.on("SIGHUP", () => process.exit(9));
     const interrupted = Promise.all([untilInterrupted(), untilInterrupted()]);
     process.on("SIGHUP", () => process.exit(9));
     setInterval(() => {}, 1000);
     console.log("ready");
     console.log(await interrupted);
     process.exit(0);`,
  );
  await line();
  child.kill("SIGHUP");
  const { code, stdout } = await ended;
  assert.equal(code, 0);
  assert.match(stdout, /'SIGHUP', 'SIGHUP'/);
});

test("the second signal ends the process even when it hangs", async (context) => {
  const { child, ended, line } = program(
    context,
    `const interrupted = untilInterrupted();
     setInterval(() => {}, 1000);
     console.log("ready");
     await interrupted;
     process.on("SIGINT", () => {});
     await null;
     process.stderr.write("stuck");
     for (;;);`,
  );
  await line();
  child.kill("SIGINT");
  await once(child.stderr as NonNullable<typeof child.stderr>, "data");
  child.kill("SIGINT");
  assert.equal((await ended).signal, "SIGINT");
});

test("edge and start report a signal during start-up, and leave nothing behind", async (context) => {
  for (const args of [
    ["edge", "--dev", "--port", "0"],
    ["start", "--port", "0", "--relay-port", "0"],
  ]) {
    const at = await folder(context);
    const env = { ...process.env, TMPDIR: at };
    const { child, ended } = watched(context, spawn(process.execPath, [ENTRY, ...args], { env, stdio: "pipe" }));
    await eventually("it has begun", () => readdirSync(at).length > 0);
    child.kill("SIGTERM");
    const { code, stderr } = await ended;
    assert.deepEqual(
      [code, stderr],
      [EXIT_CODES.Terminated.status, "grooveway: ended by SIGTERM before it was done [Interrupted]\n"],
    );
    assert.deepEqual(readdirSync(at), [], args[0]);
  }
});

test("a relay that is stopped by a signal exits with 0", async (context) => {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const) {
    const relay = start(context, ["relay", "--port", "0"]);
    await relay.line(/relay listens/);
    relay.process.kill(signal);
    const { code, stderr } = await relay.finished;
    assert.deepEqual([code, stderr], [0, ""], signal);
  }
});

test("an unwritable standard output is reported, and a closed pipe ends the command quietly", async (context) => {
  const full = openSync("/dev/full", "w");
  const { CannotWrite, OutputClosed, Usage } = EXIT_CODES;
  for (const args of [["--help"], ["token", "secret"]]) {
    const child = spawn(process.execPath, [ENTRY, ...args], { stdio: ["ignore", full, "pipe"] });
    const { code, stderr } = await watched(context, child).ended;
    assert.match(stderr, /^grooveway: cannot write to standard output \(ENOSPC\).* \[CannotWrite\]\n$/);
    assert.equal(code, CannotWrite.status);
    const unread = spawn(process.execPath, [ENTRY, ...args], { stdio: "pipe" });
    unread.stdout.destroy();
    const quiet = await watched(context, unread).ended;
    assert.deepEqual([quiet.code, quiet.stderr], [OutputClosed.status, ""]);
  }
  const unheard = spawn(process.execPath, [ENTRY, "fly"], { stdio: "pipe" });
  unheard.stderr.destroy();
  assert.equal((await watched(context, unheard).ended).code, Usage.status);
});

test("an unexpected error prints one line and has its own status", async (context) => {
  const thrown = 'setTimeout(() => { throw new TypeError("x is\\nnot y"); }, 1)';
  const rejected = 'setTimeout(() => { Promise.reject(new TypeError("x is not y")); }, 1)';
  for (const fault of [thrown, rejected]) {
    // It fails once the command listens, when its handlers are installed.
    const late = `const { listen } = (await import("node:net")).Server.prototype;
      (await import("node:net")).Server.prototype.listen = function (...args) { ${fault}; return listen.apply(this, args); };`;
    const args = ["--import", `data:text/javascript,${encodeURIComponent(late)}`, ENTRY, "relay", "--port", "0"];
    const { code, stderr } = await watched(context, spawn(process.execPath, args, { stdio: "pipe" })).ended;
    assert.equal(
      stderr,
      "grooveway: unexpected error (x is not y): please report it, with the output under GROOVEWAY_DEBUG=1 [InternalError]\n",
    );
    assert.equal(code, EXIT_CODES.InternalError.status);
  }
});

test("help and version are printed", async (context) => {
  const done = async (...args: string[]) =>
    watched(context, spawn(process.execPath, [ENTRY, ...args], { stdio: "pipe" })).ended;
  const nothing = await done();
  assert.deepEqual([nothing.code, nothing.stdout], [EXIT_CODES.Usage.status, ""]);
  assert.match(nothing.stderr, /^Usage: grooveway COMMAND/);
  const asked = await done("--help");
  assert.equal(asked.stdout, nothing.stderr);
  for (const { status, meaning } of Object.values(EXIT_CODES)) {
    assert.ok(
      asked.stdout.includes(`  ${String(status).padEnd(3)}  ${meaning}\n`) || asked.stdout.endsWith(`${meaning}\n`),
    );
  }
  assert.match(asked.stdout, /^ {2}GROOVEWAY_DEBUG +1 prints the stack/m);
  assert.match((await done("--version")).stdout, /^grooveway \d+\.\d+\.\d+ \(Node \d+\.\d+\.\d+, \S+ \S+\)\n$/);
  assert.match((await done("help", "mailbox")).stdout, /^Usage: grooveway mailbox /);
  // After -- it is an ordinary argument.
  assert.equal((await done("token", "--", "--help")).code, EXIT_CODES.Usage.status);
});
