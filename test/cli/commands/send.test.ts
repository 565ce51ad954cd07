/** `grooveway send` as a process, to a recipient that stores files: what arrives, what it prints, how it ends. */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { EXIT_CODES } from "../../../src/cli/exit-codes.ts";
import { PART_BYTES } from "../../../src/transfer/index.ts";
import { eventually, pattern, soon } from "../../support/watch.ts";
import { Place } from "../files/send-support.ts";
import { ENTRY, type Finished, folder, type Running, run, start } from "../support.ts";

describe("sent files arrive, and the exit status says so", () => {
  it("several files and a folder keep their relative paths", async (context) => {
    const place = await Place.open(context);
    place.write("a", "file a");
    place.write("top/b", "file b");
    place.write("top/deep/c", pattern(2 * PART_BYTES + 7, 1));
    const { code, stdout, stderr } = await place.send(context, [join(place.here, "a"), join(place.here, "top/")]);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^sent 3 files to bob\/laptop: 2\.0 MiB at [0-9.]+ [KM]iB\/s\n$/);
    assert.deepEqual(await place.names(3), ["a", "top/b", "top/deep/c"]);
    assert.equal(String(place.content("top/b")), "file b");
    assert.ok(place.content("top/deep/c").equals(pattern(2 * PART_BYTES + 7, 1)));
  });

  it("one file prints a line with its hash, and nothing on standard error", async (context) => {
    const place = await Place.open(context);
    const path = place.write("report.pdf", pattern(PART_BYTES * 3, 1));
    const { code, stdout, stderr } = await place.send(context, [path]);
    assert.equal(code, 0);
    await place.names(1);
    const [file] = place.received;
    const line = new RegExp(
      `^sent report\\.pdf to bob/laptop: 3\\.0 MiB at [0-9.]+ [KM]iB/s, sha256 ${file?.sha256}\n$`,
    );
    assert.match(stdout, line);
    assert.equal(stderr, "", "no progress bar without a terminal");
  });

  it("--json prints an object for each file, and a summary", async (context) => {
    const place = await Place.open(context);
    symlinkSync("a", join(place.here, "link"));
    place.write("a", "file a");
    place.write("b", "file b");
    const { stdout } = await place.send(context, [place.here, join(place.here, "nowhere"), "--json"]);
    await place.names(2);
    const events = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    const kinds = events.map(({ event }) => event);
    assert.deepEqual(kinds.slice().sort(), ["failed", "finished", "sent", "sent", "skipped"]);
    assert.equal(kinds.at(-1), "finished");
    const [sent] = events.filter(({ event, name }) => event === "sent" && name === "here/a");
    const [file] = place.received.filter(({ name }) => name === "here/a");
    assert.deepEqual([sent.bytes, sent.sha256, sent.transfer], [6, file?.sha256, file?.transfer]);
    const { files, bytes, failed, skipped, end } = events.at(-1);
    assert.deepEqual(
      { files, bytes, failed, skipped, end },
      { files: 2, bytes: 12, failed: 1, skipped: 1, end: "done" },
    );
  });

  const streams: readonly (readonly [string, number, readonly string[], string])[] = [
    ["standard input", 5, [], "stdin"],
    ["standard input with a name", 3 * PART_BYTES + 1, ["--name", "x.tar"], "x.tar"],
    ["empty standard input", 0, [], "stdin"],
  ];
  for (const [what, size, options, name] of streams) {
    it(what, async (context) => {
      const place = await Place.open(context);
      const { code, stderr } = await place.send(context, ["-", ...options], pattern(size, 1));
      assert.equal(code, 0, stderr);
      assert.deepEqual(await place.names(1), [name]);
      assert.ok(place.content(name).equals(pattern(size, 1)));
    });
  }

  it("a file in /proc with size 0 is sent in several parts", async (context) => {
    if (!existsSync("/proc/kallsyms")) return context.skip("SKIPPED: no /proc/kallsyms");
    const place = await Place.open(context);
    const { code, stderr } = await place.send(context, ["/proc/kallsyms"]);
    assert.equal(code, 0, stderr);
    await place.names(1);
    const whole = execFileSync("cat", ["/proc/kallsyms"], { maxBuffer: 2 ** 30 });
    assert.ok(whole.length > PART_BYTES && place.content("kallsyms").equals(whole));
  });

  it("a log that grows during the send arrives as it was read, with a warning", async (context) => {
    const place = await Place.open(context);
    const path = place.write("log", pattern(40 * PART_BYTES, 1));
    place.way.limit(5 * PART_BYTES);
    const sending = start(context, place.args([path]));
    await eventually(() => place.way.isFull, "some parts");
    for (let n = 0; n < 20; n += 1) appendFileSync(path, pattern(PART_BYTES / 2, 2));
    place.way.open();
    const { code, stderr } = await sending.finished;
    assert.equal(code, 0, stderr);
    await place.names(1);
    const arrived = place.content("log");
    assert.equal(arrived.length, 50 * PART_BYTES);
    assert.ok(readFileSync(path).equals(arrived));
    assert.match(stderr, /^grooveway: log changed while it was being read: what was read was sent\n$/);
  });

  it("control characters in a file name are escaped", async (context) => {
    const place = await Place.open(context);
    const path = place.write("a", "x");
    const { code, stdout } = await place.send(context, [path, "--name", "\x1b[2K\rreceived report.pdf from boss"]);
    assert.equal(code, 0);
    assert.match(stdout, /^sent \\e\[2K\\rreceived report\.pdf from boss to bob\/laptop: /);
  });
});

describe("files that cannot be sent are reported, and the others are sent", () => {
  const { CannotRead, SomeFailed } = EXIT_CODES;
  interface Row {
    readonly what: string;
    readonly paths: readonly string[];
    readonly status: number;
    /** Names of the files that arrive. */
    readonly arrives: readonly string[];
    readonly stderr: RegExp;
  }
  const rows: readonly Row[] = [
    {
      what: "a file that does not exist, alone",
      paths: ["nowhere"],
      status: CannotRead.status,
      arrives: [],
      stderr: /^grooveway: there is no file \S+nowhere: check the path \[CannotRead\]\n$/,
    },
    {
      what: "a file that does not exist, among others",
      paths: ["a", "nowhere", "top"],
      status: SomeFailed.status,
      arrives: ["a", "top/b"],
      stderr:
        /^grooveway: there is no file \S+nowhere: check the path \[CannotRead\]\ngrooveway: 1 of 3 files could not be sent \[SomeFailed\]\n$/,
    },
    {
      what: "several files, none readable",
      paths: ["nowhere", "link"],
      status: CannotRead.status,
      arrives: [],
      stderr:
        /nowhere: check the path \[CannotRead\]\n.*link is a symbolic link.*\[CannotRead\]\ngrooveway: 2 of 2 files could not be sent \[CannotRead\]\n$/,
    },
    {
      what: "a symbolic link as argument",
      paths: ["link"],
      status: CannotRead.status,
      arrives: [],
      stderr: /^grooveway: \S+link is a symbolic link, which is not followed: name a instead \[CannotRead\]\n$/,
    },
    {
      what: "a pipe as argument",
      paths: ["pipe"],
      status: CannotRead.status,
      arrives: [],
      stderr: /^grooveway: \S+pipe is a pipe, not a file: .*grooveway send ADDRESS - --name NAME \[CannotRead\]\n$/,
    },
    {
      what: "an empty folder",
      paths: ["empty"],
      status: CannotRead.status,
      arrives: [],
      stderr: /^grooveway: there are no files in \S+empty: nothing was sent \[CannotRead\]\n$/,
    },
    {
      what: "symbolic links and pipes in a folder, which are skipped without failure",
      paths: ["mixed"],
      status: 0,
      arrives: ["mixed/a"],
      stderr:
        /^grooveway: \S+mixed\/link is a symbolic link: not sent\ngrooveway: \S+mixed\/pipe is a pipe: not sent\n$/,
    },
  ];
  for (const { what, paths, status, arrives, stderr } of rows) {
    it(what, async (context) => {
      const place = await Place.open(context);
      place.write("a", "file a");
      place.write("top/b", "file b");
      place.write("mixed/a", "file a");
      mkdirSync(join(place.here, "empty"));
      for (const at of [place.here, join(place.here, "mixed")]) {
        symlinkSync("a", join(at, "link"));
        execFileSync("mkfifo", [join(at, "pipe")]);
      }
      const finished = await place.send(
        context,
        paths.map((path) => join(place.here, path)),
      );
      assert.match(finished.stderr, stderr);
      assert.equal(finished.code, status);
      assert.deepEqual(await place.names(arrives.length), arrives);
    });
  }

  it("an unreadable file of another user among others", async (context) => {
    if (process.getuid?.() !== 0) return context.skip("SKIPPED: only root can become somebody else");
    const place = await Place.open(context);
    chmodSync(place.write("secret", "x"), 0o600);
    chmodSync(place.write("open", "x"), 0o644);
    for (const path of [join(place.here, ".."), place.here]) chmodSync(path, 0o755);
    const command = [process.execPath, "--disable-warning=ExperimentalWarning", "src/cli/main.ts"];
    const args = place
      .args([place.here])
      .filter((arg, index, all) => arg !== "--state" && all[index - 1] !== "--state");
    const child = spawn("setpriv", ["--reuid=65534", "--regid=65534", "--clear-groups", ...command, ...args], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, HOME: "/nonexistent" },
    });
    let stderr = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
    });
    const code = await new Promise((resolve) => child.once("close", resolve));
    assert.match(stderr, /secret: this user may not read it \(EACCES\) \[CannotRead\]/);
    assert.equal(code, SomeFailed.status, stderr);
    assert.deepEqual(await place.names(1), ["here/open"]);
  });
});

async function ended(running: Running): Promise<Finished> {
  return soon(running.finished, "the end of the command");
}

describe("an interrupted send", () => {
  const { Interrupted, Terminated } = EXIT_CODES;

  for (const [signal, status] of [
    ["SIGINT", Interrupted.status],
    ["SIGTERM", Terminated.status],
  ] as const) {
    it(`reports its progress on ${signal}, and the same command resumes it`, async (context) => {
      const place = await Place.open(context);
      const path = place.write("big", pattern(30 * PART_BYTES, 1));
      place.way.limit(10 * PART_BYTES);
      const sending = start(context, place.args([path]));
      await eventually(() => place.way.isFull && place.parts > 5, "some parts");
      sending.process.kill(signal);
      const { code, stdout, stderr } = await ended(sending);
      assert.equal(code, status);
      assert.equal(stdout, "");
      assert.match(
        stderr,
        /^grooveway: interrupted: [0-9.]+ MiB of 30\.0 MiB sent; the same command continues from there \[Interrupted\]\n$/,
      );
      const before = place.parts;
      place.way.open();
      const again = await run(context, place.args([path]));
      assert.equal(again.code, 0, again.stderr);
      assert.match(again.stdout, /^sent big to bob\/laptop: 30\.0 MiB \([0-9.]+ MiB of it in earlier runs\) at /);
      assert.deepEqual(await place.names(1), ["big"]);
      assert.ok(place.content("big").equals(pattern(30 * PART_BYTES, 1)));
      assert.ok(place.parts - before < 28, `${place.parts - before} of 30 parts were sent the second time`);
    });
  }

  it("ends at once on a second signal", async (context) => {
    const place = await Place.open(context);
    place.way.limit(2 * PART_BYTES);
    // The cancellation of the transfer from standard input cannot get through.
    const sending = spawn(process.execPath, [
      "--disable-warning=ExperimentalWarning",
      "src/cli/main.ts",
      ...place.args(["-"]),
    ]);
    context.after(() => sending.kill("SIGKILL"));
    sending.stdin.on("error", () => undefined);
    sending.stdin.write(pattern(30 * PART_BYTES, 1));
    await eventually(() => place.way.isFull, "the way to be full");
    sending.kill("SIGINT");
    const at = performance.now();
    await new Promise((resolve) => setTimeout(resolve, 300));
    assert.equal(sending.exitCode, null, "it tries to tell the recipient");
    sending.kill("SIGINT");
    await soon(new Promise((resolve) => sending.once("exit", resolve)), "the end");
    assert.equal(sending.signalCode, "SIGINT");
    assert.ok(performance.now() - at < 3000);
  });

  it("from standard input cannot be resumed: the recipient is told of the cancellation", async (context) => {
    const place = await Place.open(context);
    const sending = spawn(process.execPath, [
      "--disable-warning=ExperimentalWarning",
      "src/cli/main.ts",
      ...place.args(["-"]),
    ]);
    context.after(() => sending.kill("SIGKILL"));
    let stderr = "";
    sending.stderr.on("data", (text) => {
      stderr += text;
    });
    // It ends before it has read all.
    sending.stdin.on("error", () => undefined);
    sending.stdin.write(pattern(5 * PART_BYTES, 1));
    await eventually(() => place.parts >= 4, "some parts");
    sending.kill("SIGINT");
    const code = await soon(new Promise((resolve) => sending.once("exit", resolve)), "the end");
    assert.equal(code, Interrupted.status);
    assert.match(stderr, /^grooveway: interrupted: [0-9.]+ MiB sent; the same command starts over \[Interrupted\]\n$/);
    await eventually(() => place.cancelled === 1, "the cancellation");
    assert.deepEqual(place.received, []);
  });

  it("restarts from the beginning with --fresh, and the file arrives once", async (context) => {
    const place = await Place.open(context);
    const path = place.write("big", pattern(30 * PART_BYTES, 1));
    place.way.limit(10 * PART_BYTES);
    const sending = start(context, place.args([path]));
    await eventually(() => place.way.isFull && place.parts > 5, "some parts");
    sending.process.kill("SIGINT");
    await ended(sending);
    place.way.open();
    const { code, stdout } = await place.send(context, [path, "--fresh"]);
    assert.equal(code, 0);
    assert.match(stdout, /^sent big to bob\/laptop: 30\.0 MiB at /);
    assert.deepEqual(await place.names(1), ["big"]);
    assert.equal(place.cancelled, 1, "the recipient is told that the first is cancelled");
  });

  it("of many small files does not resend finished ones, and each arrives once", async (context) => {
    const place = await Place.open(context);
    for (let n = 0; n < 1000; n += 1) place.write(`top/${n}`, `file ${n}`.padEnd(4000));
    place.way.limit(2_000_000);
    const top = join(place.here, "top");
    const sending = start(context, place.args([top]));
    await eventually(() => place.way.isFull && place.received.length > 300, "some files");
    sending.process.kill("SIGKILL");
    await ended(sending);
    place.way.open();
    const { code, stdout, stderr } = await place.send(context, [top]);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^sent 1000 files to bob\/laptop: 3\.8 MiB \([0-9.]+ [KM]iB of it in earlier runs\) at /);
    assert.equal((await place.names(1000)).length, 1000);
    for (let n = 0; n < 1000; n += 1) assert.equal(String(place.content(`top/${n}`)), `file ${n}`.padEnd(4000));
    assert.ok(!existsSync(join(place.there, "top/0 (1)")));
  });
});

describe("state that cannot be written", () => {
  it("is rejected before anything is sent when --state names the folder", async (context) => {
    const place = await Place.open(context);
    const path = place.write("a", "x");
    const { code, stderr } = await run(context, place.args([path], "/proc/nowhere"));
    assert.equal(code, EXIT_CODES.CannotWrite.status);
    assert.match(
      stderr,
      /^grooveway: cannot use \/proc\/nowhere as the state folder: nothing can be created there \(ENOENT\): change --state \[CannotWrite\]\n$/,
    );
    assert.deepEqual(place.received, []);
  });

  it("does not stop the send when the journal is damaged, and prints a warning", async (context) => {
    const place = await Place.open(context);
    const path = place.write("a", "x");
    const state = await folder(context);
    writeFileSync(join(state, "sending.db"), "this is text, long enough not to be taken for an empty database");
    const { code, stderr } = await run(context, place.args([path], state));
    assert.equal(code, 0);
    assert.match(
      stderr,
      /^grooveway: cannot use the journal \S+sending\.db \(.*\): after an interruption, sending starts over;/,
    );
    assert.equal(stderr.trim().split("\n").length, 1);
    assert.deepEqual(await place.names(1), ["a"]);
  });
});

it("sending leaves the source file unchanged", async (context) => {
  const place = await Place.open(context);
  const path = place.write("a", "x");
  const { mtimeMs } = statSync(path);
  await place.send(context, [path]);
  assert.equal(statSync(path).mtimeMs, mtimeMs);
});

it("send works when its parent ignores standard output", async (context) => {
  const place = await Place.open(context);
  const path = place.write("a", "file a");
  const child = spawn(process.execPath, [ENTRY, ...place.args([path])], { stdio: ["pipe", "ignore", "inherit"] });
  child.stdin.end();
  const [code] = await once(child, "exit");
  assert.equal(code, 0);
  assert.deepEqual(await place.names(1), ["a"]);
});
