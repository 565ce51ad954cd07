/** `grooveway recv` as a process: its output, signals, messages and exit status. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { hash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { readdir, readFile, utimes, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { CommandError } from "../../../src/cli/command-error.ts";
import { recvCommand } from "../../../src/cli/commands/recv.ts";
import { EXIT_CODES } from "../../../src/cli/exit-codes.ts";
import { BESIDE } from "../../../src/cli/state-folder.ts";
import { Device } from "../../../src/device/index.ts";
import { type Relay, startRelay } from "../../../src/relay/index.ts";
import {
  encodeMessage,
  messageId,
  PART_BYTES,
  resourceOf,
  type TransferMessage,
  transferId,
} from "../../../src/transfer/index.ts";
import { eventually, soon } from "../../support/watch.ts";
import { folder, type Running, run, runHere, startShell } from "../support.ts";

const BOB = "grooveDevice://bob/x";

/** A relay, a device that sends through it, and the options a command needs to receive there. */
interface Place {
  readonly relay: Relay;
  readonly args: readonly string[];
  send(body: string | Uint8Array): Promise<unknown>;
  transfer(message: TransferMessage): Promise<unknown>;
  /** The number of unacknowledged messages. */
  waiting(): number;
}

async function place(context: TestContext): Promise<Place> {
  const relay = await startRelay({ port: 0 });
  context.after(() => relay.close());
  const way = `127.0.0.1:${relay.port}`;
  const alice = await Device.connect({ relay: way, address: "alice/pc", receive: false });
  context.after(() => alice.close());
  const state = await folder(context);
  return {
    relay,
    args: ["recv", "--relay", way, "--as", "bob/x", "--state", state],
    send: (body) => alice.send("bob/x", body),
    transfer: (message) =>
      alice.send("bob/x", encodeMessage(message), { id: messageId(message), resource: resourceOf(message) }),
    waiting: () => relay.waiting(BOB).messages,
  };
}

/** Resolves when the command is connected. */
function connected({ relay }: Place): Promise<unknown> {
  return eventually(() => relay.status().connections >= 2, "the command to connect");
}

/** Ends a command, and returns its exit status as a shell would. */
async function interrupt(running: Running, signal: NodeJS.Signals): Promise<number | null> {
  running.process.kill(signal);
  return (await soon(running.finished, "the end of the command")).code;
}

describe("standard output that cannot be written", () => {
  const { CannotWrite, OutputClosed } = EXIT_CODES;
  const cases: readonly (readonly [name: string, script: string, status: number, stderr: RegExp])[] = [
    [
      "it is closed",
      'exec "$@" >&-',
      OutputClosed.status,
      /^grooveway: standard output is closed: .*\[OutputClosed\]$/,
    ],
    [
      "it is full",
      'exec "$@" >/dev/full',
      CannotWrite.status,
      /^grooveway: .*\(ENOSPC\): .* free some space \[CannotWrite\]$/,
    ],
    [
      "its reader has exited",
      '{ "$@"; echo "status $?" >&2; } | exec 0<&-',
      OutputClosed.status,
      /^grooveway: the reader of standard output has ended: .*\[OutputClosed\]\nstatus 141$/,
    ],
  ];
  for (const [name, script, status, stderr] of cases) {
    it(`${name}: the command ends with a code, and the message is redelivered`, async (context) => {
      const at = await place(context);
      await at.send("hello");
      const ended = await startShell(context, script, [...at.args, "--follow"]).finished;
      assert.match(ended.stderr.trim(), stderr);
      if (!ended.stderr.includes("status")) assert.equal(ended.code, status);
      assert.equal(at.waiting(), 1);
      assert.equal((await run(context, at.args)).stdout, "alice/pc: hello\n");
      assert.equal(at.waiting(), 0);
    });
  }

  it("| head -1 ends quietly, and the messages after the first line are redelivered", async (context) => {
    const at = await place(context);
    await at.send("one");
    const script = '{ "$@"; echo "status $?" >&2; } | { head -1; exec 0<&-; echo gone; }';
    const running = startShell(context, script, [...at.args, "--follow"]);
    await running.line(/gone/);
    await at.send("two");
    const { stdout, stderr } = await running.finished;
    assert.equal(stdout, "alice/pc: one\ngone\n");
    assert.equal(stderr, `status ${EXIT_CODES.OutputClosed.status}\n`);
    assert.equal((await run(context, at.args)).stdout, "alice/pc: two\n");
  });

  it("a service manager's /dev/null does not count as closed", async (context) => {
    const at = await place(context);
    await at.send("hello");
    const { code } = await startShell(context, 'exec "$@" <>/dev/null >&0 2>&0', at.args).finished;
    assert.equal(code, 0);
    assert.equal(at.waiting(), 0);
  });

  for (const [name, script] of [
    ["closed", 'exec "$@" >&-'],
    ["ignored by the parent", 'exec "$@" 1<>/dev/null'],
  ] as const) {
    it(`is ${name}: with --out files are received, and a message is an error and is delivered again`, async (context) => {
      const at = await place(context);
      const out = await folder(context);
      await at.transfer(whole("report", "a file"));
      const received = await startShell(context, script, [...at.args, "--out", out]).finished;
      assert.deepEqual([received.code, received.stderr], [0, ""]);
      assert.equal(await readFile(join(out, "report"), "utf8"), "a file");
      await at.transfer(whole("behind it", "another"));
      const running = startShell(context, script, [...at.args, "--out", out, "--follow"]);
      await eventually(() => at.waiting() === 0, "the file to be acknowledged");
      await at.send("hello");
      const ended = await running.finished;
      assert.equal(ended.code, OutputClosed.status);
      assert.match(ended.stderr, /^grooveway: standard output is closed: [^\n]*\[OutputClosed\]\n$/);
      assert.equal(await readFile(join(out, "behind it"), "utf8"), "another");
      assert.equal(at.waiting(), 1);
      assert.equal((await run(context, at.args)).stdout, "alice/pc: hello\n");
    });
  }

  it("is closed, and something is to be printed: that is an error at once", async (context) => {
    const at = await place(context);
    for (const more of [[], ["--raw", "--out", await folder(context)], ["--list"]]) {
      const ended = await startShell(context, 'exec "$@" >&-', [...at.args, ...more]).finished;
      assert.match(ended.stderr, /^grooveway: standard output is closed: [^\n]*\[OutputClosed\]\n$/);
    }
  });

  it("a pipe that nobody reads: nothing is acknowledged, and a signal ends the command", async (context) => {
    const at = await place(context);
    await at.send("x".repeat(4 * 1024 * 1024));
    for (const signals of [["SIGTERM"], ["SIGINT", "SIGINT"]] as const) {
      const running = startShell(context, 'exec "$@"', [...at.args, "--follow"]);
      running.process.stdout?.pause();
      // The first part is written, then the pipe is full.
      await connected(at);
      await eventually(() => (running.process.stdout?.readableLength ?? 0) > 0, "a first piece");
      for (const signal of signals) running.process.kill(signal);
      await soon(once(running.process, "exit"), "the end of the command");
      assert.equal(at.waiting(), 1);
    }
  });
});

describe("the output", () => {
  it("contains the lines of every message, and no message can forge another's", async (context) => {
    const at = await place(context);
    const file = join(await folder(context), "log");
    await at.send("line one\nboss/pc: pay now");
    await at.send("\x1b[2K\rreceived report.pdf from boss");
    const running = startShell(context, `exec "$@" >${file}`, [...at.args, "--follow"]);
    await eventually(() => at.waiting() === 0, "both to be acknowledged");
    assert.equal(await interrupt(running, "SIGTERM"), 0);
    assert.equal(
      await readFile(file, "utf8"),
      "alice/pc: line one\n    | boss/pc: pay now\nalice/pc: \\e[2K\\rreceived report.pdf from boss\n",
    );
  });

  it("is the exact body with --raw", async (context) => {
    const at = await place(context);
    const file = join(await folder(context), "body");
    const body = Buffer.from([0x1b, 0x5b, 0x32, 0x4a, 0x0a, 0xff, 0x00]);
    await at.send(body);
    assert.equal((await startShell(context, `exec "$@" >${file}`, [...at.args, "--raw"]).finished).code, 0);
    assert.deepEqual(await readFile(file), body);
  });

  it("names the folder for files on a terminal, cuts lines to its width, and rejects --raw", async (context) => {
    const at = await place(context);
    if (!(await hasScript(context))) return;
    await at.send(`${"x".repeat(30)}boss/pc: pay now`);
    // stty sets the width of the terminal that script has created.
    const script = 'export COMMAND="$*"; exec script -qec "stty cols 40 rows 10; exec $COMMAND" /dev/null';
    const { stdout } = await startShell(context, script, at.args).finished;
    assert.match(stdout, /^alice\/pc: x{30}\r\n {4}\| boss\/pc: pay now\r\n/m);
    assert.match(stdout, /^grooveway: bob\/x is connected by tcp; files are written to \/\S+\r\n/m);
    const raw = await startShell(context, script, [...at.args, "--raw"]).finished;
    assert.match(raw.stdout, /unsafe on a terminal.*\[Usage\]/);
  });
});

async function hasScript(context: TestContext): Promise<boolean> {
  const { stdout } = await startShell(context, 'script -qec "echo works" /dev/null', []).finished;
  if (stdout.includes("works")) return true;
  context.skip("SKIPPED: there is no script(1) that makes a terminal");
  return false;
}

describe("the exit status", () => {
  for (const [signal, status] of [
    ["SIGINT", 130],
    ["SIGTERM", 143],
    ["SIGHUP", 129],
  ] as const) {
    it(`is ${status} after ${signal} with nothing received`, async (context) => {
      const at = await place(context);
      for (const args of [at.args, [...at.args, "--follow"]]) {
        const running = startShell(context, 'exec "$@"', args);
        await connected(at);
        assert.equal(await interrupt(running, signal), status);
        assert.equal((await running.finished).stderr, "");
      }
    });
  }

  it("is 0 after SIGTERM with something received, which is acknowledged", async (context) => {
    const at = await place(context);
    const running = startShell(context, 'exec "$@"', [...at.args, "--follow"]);
    await at.send("hello");
    await running.line(/alice\/pc: hello/);
    assert.equal(await interrupt(running, "SIGTERM"), 0);
    assert.equal(at.waiting(), 0);
  });

  it("is set at once by a signal while connecting", async (context) => {
    const silent = createServer();
    await once(silent.listen(0, "127.0.0.1"), "listening");
    context.after(() => silent.close());
    const { port } = silent.address() as { port: number };
    const args = ["recv", "--relay", `127.0.0.1:${port}`, "--as", "bob/x", "--state", await folder(context)];
    for (const more of [[], ["--follow"]]) {
      const running = startShell(context, 'exec "$@"', [...args, ...more]);
      const [socket] = await once(silent, "connection");
      assert.equal(await interrupt(running, "SIGINT"), 130);
      socket.destroy();
    }
  });
});

describe("--follow without a relay", () => {
  it("retries the first connection until it works, and reports that once", async (context) => {
    const gone = await startRelay({ port: 0 });
    const { port } = gone;
    await gone.close();
    const args = ["recv", "--relay", `127.0.0.1:${port}`, "--as", "bob/x", "--state", await folder(context)];
    const once = await run(context, args);
    assert.equal(once.code, EXIT_CODES.ConnectFailed.status);
    const running = startShell(context, 'exec "$@" 2>&1', [...args, "--follow"]);
    await running.line(/ECONNREFUSED.*\[ConnectFailed\]; retrying until it succeeds/);
    // A few retries later.
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    const relay = await startRelay({ port });
    context.after(() => relay.close());
    await running.line(/connected/);
    assert.equal(await interrupt(running, "SIGTERM"), 143);
    const { stdout } = await running.finished;
    assert.match(stdout, /^grooveway: .*retrying until it succeeds\ngrooveway: connected\n$/);
  });

  it("ends on errors that a retry cannot fix", async () => {
    const { code, stderr } = await runHere(["recv", "--relay", "127.0.0.1:1", "--as", "nobody", "--follow"]);
    assert.equal(code, EXIT_CODES.Usage.status);
    assert.match(stderr, /--as "nobody" names no device: write nobody\/laptop; .* \[Usage\]/);
  });
});

describe("an unusable --out", () => {
  it("is reported at once, whatever the problem", async (context) => {
    const at = await place(context);
    const base = await folder(context);
    await writeFile(join(base, "file"), "");
    for (const [out, why] of [
      [join(base, "file"), /part of the path is a file, not a folder \((ENOTDIR|EEXIST)\)/],
      [join(base, "file", "below"), /part of the path is a file, not a folder \(ENOTDIR\)/],
      ["/proc/here", /nothing can be created there \(ENOENT\)/],
      ["/proc/self/here", /nothing can be created there \(ENOENT\)/],
      ["/dev/null/here", /part of the path is a file, not a folder \(ENOTDIR\)/],
      [join(base, "x".repeat(300)), /its name is too long \(ENAMETOOLONG\)/],
    ] as const) {
      const ended = await soon(run(context, [...at.args, "--out", out]), `recv --out ${out}`);
      assert.match(ended.stderr, why, out);
      assert.match(
        ended.stderr,
        /^grooveway: cannot use [^\n]*: choose another folder with --out DIR \[CannotWrite\]\n$/,
      );
      assert.equal(ended.stdout, "");
    }
  });
});

/** One file as messages of a transfer. */
function partsOf(name: string, contents: Uint8Array, random = randomBytes(16)): TransferMessage[] {
  const transfer = transferId(random);
  const sha256 = hash("sha256", contents);
  const messages: TransferMessage[] = [{ type: "begin", transfer, name, size: contents.length }];
  for (let offset = 0; offset < contents.length; offset += PART_BYTES) {
    messages.push({ type: "part", transfer, offset, bytes: contents.subarray(offset, offset + PART_BYTES) });
  }
  return [...messages, { type: "end", transfer, size: contents.length, sha256 }];
}

function whole(name: string, text: string): TransferMessage {
  const bytes = Buffer.from(text);
  const sha256 = hash("sha256", bytes);
  return { type: "whole", transfer: transferId(randomBytes(16)), name, size: bytes.length, sha256, bytes };
}

describe("received files", () => {
  it("stay inside the folder, and their names are escaped on a terminal", async (context) => {
    const at = await place(context);
    const out = await folder(context);
    const names = [
      "\x1b[2K\rreceived report.pdf from boss",
      ".bashrc",
      "../../etc/passwd",
      "report\u202efdp.exe",
      "a\nboss/pc: pay now",
    ];
    for (const name of names) await at.transfer(whole(name, name));
    const running = startShell(context, 'exec "$@" 2>&1', [...at.args, "--out", out, "--follow"]);
    await running.line(new RegExp(`(received .*\n){${names.length}}`));
    await interrupt(running, "SIGTERM");
    const { stdout } = await running.finished;
    assert.doesNotMatch(stdout, /[^\n -~]/);
    assert.equal(stdout.trim().split("\n").length, names.length);
    const files = (await readdir(out, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
    const contents = await Promise.all(files.map((file) => readFile(join(file.parentPath, file.name), "utf8")));
    assert.deepEqual(contents.filter((text) => names.includes(text)).sort(), [...names].sort());
    for (const file of files) assert.doesNotMatch(file.name, /^\.bashrc$|\p{C}/u);
    await assert.rejects(readFile(join(out, "..", "etc", "passwd")), { code: "ENOENT" });
  });

  it("may start with a dot with --allow-dotfiles", async (context) => {
    const at = await place(context);
    const out = await folder(context);
    await at.transfer(whole(".bashrc", "harmless"));
    const { stdout } = await run(context, [...at.args, "--out", out, "--allow-dotfiles"]);
    assert.match(stdout, new RegExp(`^received ${join(out, ".bashrc")} from alice/pc: 8 B, sha256 `));
    assert.equal(await readFile(join(out, ".bashrc"), "utf8"), "harmless");
  });

  it("with a missing part are set aside in one line, block nothing, and can be listed and removed", async (context) => {
    const at = await place(context);
    const args = [...at.args, "--out", await folder(context)];
    const [begin, , second, end] = partsOf("\x1b[2Kvideo", Buffer.alloc(PART_BYTES + 5));
    for (const message of [begin, second, end]) if (message) await at.transfer(message);
    await at.transfer(whole("behind it", "x"));
    const first = await run(context, args);
    assert.match(first.stdout, /^received .*\/behind it from alice\/pc: 1 B, /);
    assert.match(
      first.stderr,
      /^grooveway: set aside \\e\[2Kvideo from alice\/pc: .* \[PartMissing\]\ngrooveway: 1 set aside in all: .*\n$/,
    );
    assert.equal(at.waiting(), 0);
    const listed = await run(context, [...args, "--list"]);
    const [, key = ""] =
      /^([0-9a-f]{32}) {2}\\e\[2Kvideo from alice\/pc: 5 B of 1\.0 MiB in \/.* since 20.*Z \[PartMissing\]\n$/.exec(
        listed.stdout,
      ) ?? [];
    assert.notEqual(key, "", listed.stdout);
    assert.equal(JSON.parse((await run(context, [...args, "--list", "--json"])).stdout).key, key);
    assert.match((await run(context, [...args, "--remove", "z"])).stderr, /no key in --list begins with it.*\[Usage\]/);
    assert.equal((await run(context, [...args, "--remove-older", "1h", "--list"])).stdout, listed.stdout);
    assert.equal((await run(context, [...args, "--remove", key.slice(0, 8), "--list"])).stdout, "");
  });

  it("left incomplete are removed by age", async (context) => {
    const at = await place(context);
    const out = await folder(context);
    const args = [...at.args, "--out", out];
    for (const name of ["old", "new"]) {
      const [begin, , end] = partsOf(name, Buffer.alloc(5));
      for (const message of [begin, end]) if (message) await at.transfer(message);
      await at.transfer(whole(`behind ${name}`, "x"));
      assert.match(
        (await run(context, args)).stderr,
        new RegExp(`set aside ${name} from alice/pc: .* \\[PartMissing\\]\n`),
      );
      if (name === "new") continue;
      const yesterday = Date.now() / 1000 - 24 * 3600;
      for (const left of await readdir(join(out, BESIDE))) await utimes(join(out, BESIDE, left), yesterday, yesterday);
    }
    const list = async (...more: string[]) => (await run(context, [...args, ...more, "--list"])).stdout;
    assert.match(await list(), /^[0-9a-f]{32} {2}old from .*\n[0-9a-f]{32} {2}new from .*\n$/);
    assert.match(await list("--remove-older", "12h"), /^[0-9a-f]{32} {2}new from .*\n$/);
  });

  it("begun by a run with another --out are finished there, with a notice", async (context) => {
    const at = await place(context);
    const [before, after] = [await folder(context), await folder(context)];
    const contents = randomBytes(2 * PART_BYTES);
    const [begin, first, ...others] = partsOf("photo", contents);
    if (begin && first) await Promise.all([at.transfer(begin), at.transfer(first)]);
    const running = startShell(context, 'exec "$@"', [...at.args, "--out", before, "--follow"]);
    await eventually(() => at.waiting() === 0, "the first part to be acknowledged");
    assert.equal(await interrupt(running, "SIGTERM"), 143);
    for (const message of others) await at.transfer(message);
    const { stdout } = await run(context, [...at.args, "--out", after]);
    const path = join(before, "photo");
    assert.match(stdout, new RegExp(`^received ${path} \\(where an earlier run began it\\) from alice/pc: 2.0 MiB, `));
    assert.deepEqual(await readFile(path), contents);
  });

  it("are not acknowledged when the disk is full (CannotWrite), and arrive once there is room", async (context) => {
    const at = await place(context);
    const out = await folder(context);
    try {
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=1536k", "tmpfs", out], { stdio: "pipe" });
    } catch {
      context.skip("SKIPPED: it takes a user who may mount");
      return;
    }
    try {
      const contents = randomBytes(1_648_576);
      for (const message of partsOf("f", contents)) await at.transfer(message);
      const full = await run(context, [...at.args, "--out", out]);
      assert.equal(full.code, EXIT_CODES.CannotWrite.status);
      assert.match(full.stderr, /^grooveway: cannot write to .*\(ENOSPC\): free some space, .*\[CannotWrite\]\n$/);
      assert.equal(full.stdout, "");
      assert(at.waiting() > 0);
      execFileSync("mount", ["-o", "remount,size=8m", out]);
      assert.match((await run(context, [...at.args, "--out", out])).stdout, /^received .*: 1\.6 MiB, /);
      assert.deepEqual(await readFile(join(out, "f")), contents);
    } finally {
      execFileSync("umount", ["-l", out]);
    }
  });
});

describe("invalid arguments", () => {
  it("get one line that says what to change", async (context) => {
    const state = await folder(context);
    for (const [args, why] of [
      [["--raw", "--json"], /--raw and --json exclude each other: give one/],
      [["--raw", "--follow"], /--raw gives one message/],
      [["--remove", "nothing"], /no key in --list begins with it/],
      [["--remove-older", "soon"], /soon is not a time such as 90s/],
      [["--out", ""], /--out is empty/],
      [["file"], /"file" is one argument too many/],
    ] as const) {
      const called = recvCommand.run(["--as", "bob/x", "--state", state, ...args]);
      await assert.rejects(
        called,
        (error) => error instanceof CommandError && error.code === "Usage" && why.test(error.message),
      );
    }
  });
});
