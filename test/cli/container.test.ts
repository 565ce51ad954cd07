/**
 * The command as run in a container: a user without a name or home, an empty environment, and a file system that is
 * read-only except for one small disk. Each command works there, or says what to change.
 */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { chmod, mkdir, mkdtemp, readFile, rmdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { EXIT_CODES, type ExitName } from "../../src/cli/exit-codes.ts";
import { eventually } from "../edge/support.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const ENTRY = join(ROOT, "src/cli/grooveway.js");

/** No system has a user with this number. */
const UID = "54321";
const DISK = "size=64m,mode=1777";

/** The one variable of the tests that commands see: what it preloads saves each of them a second, and changes nothing else. */
const PRELOADS = `NODE_OPTIONS=${process.env.NODE_OPTIONS ?? ""}`;

/** Makes everything read-only except the disk, and drops all privileges. $1 is the disk; the command follows it. */
const ENTER = `
disk=$1; shift
while read -r _ at _; do
  case "$at" in /proc*|/sys*|/dev*|"$disk") ;; *) mount -o remount,bind,ro "$at" 2>/dev/null ;; esac
done </proc/mounts
cd "$disk" || exit 99
exec setpriv --reuid=${UID} --regid=${UID} --clear-groups --no-new-privs env -i "$@"`;

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

class Container {
  /** The only writable folder; commands start in it. */
  readonly disk: string;
  readonly #context: TestContext;

  private constructor(context: TestContext, disk: string) {
    this.#context = context;
    this.disk = disk;
  }

  /** Undefined if this machine cannot provide one; the test is skipped. */
  static async start(context: TestContext): Promise<Container | undefined> {
    const disk = await mkdtemp(join(tmpdir(), "grooveway-container-"));
    try {
      execFileSync("mount", ["-t", "tmpfs", "-o", DISK, "tmpfs", disk], { stdio: "pipe" });
    } catch (error) {
      await rmdir(disk);
      context.skip(`SKIPPED: no disk can be mounted here (${(error as Error).message.split("\n")[0]})`);
      return undefined;
    }
    context.after(async () => {
      execFileSync("umount", ["-l", disk]);
      await rmdir(disk);
    });
    const container = new Container(context, disk);
    // The parent folder would be writable if it were not mounted read-only, and the program must be readable.
    const look = container.spawn(["/bin/sh", "-c", `touch here && ! touch ../here && cat ${ENTRY}`]);
    const { code, stderr } = await look.ended;
    if (code === 0) return container;
    context.skip(`SKIPPED: no container can be had here (${stderr.trim()})`);
    return undefined;
  }

  /** @param words a program with its arguments, and variables before it */
  spawn(words: readonly string[]): { readonly child: ChildProcess; readonly ended: Promise<Ended>; stdout(): string } {
    const args = ["--mount", "--propagation", "private", "/bin/sh", "-c", ENTER, "sh", this.disk, ...words];
    const child = spawn("unshare", args, { stdio: ["ignore", "pipe", "pipe"] });
    const written = { stdout: "", stderr: "" };
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      written.stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      written.stderr += text;
    });
    const ended = once(child, "close").then(([code]): Ended => ({ code, ...written }));
    this.#context.after(async () => {
      child.kill("SIGTERM");
      await ended;
    });
    return { child, ended, stdout: () => written.stdout };
  }

  /** Runs `grooveway`. */
  run(args: readonly string[], env: readonly string[] = []): Promise<Ended> {
    return this.spawn([PRELOADS, ...env, process.execPath, ENTRY, ...args]).ended;
  }

  /** Starts `grooveway` and waits for the line it prints when it is ready. */
  async up(args: readonly string[], pattern: RegExp, env: readonly string[] = []): Promise<RegExpExecArray> {
    const { child, stdout, ended } = this.spawn([PRELOADS, ...env, process.execPath, ENTRY, ...args]);
    await eventually("it is up", () => pattern.test(stdout()) || child.exitCode !== null);
    const found = pattern.exec(stdout());
    assert.ok(found !== null, child.exitCode === null ? "" : (await ended).stderr);
    return found;
  }

  /** Asserts that it exits with this status, and prints the reason in one line. */
  async refuses(args: readonly string[], ending: ExitName, line: RegExp, env: readonly string[] = []): Promise<void> {
    const { code, stderr } = await this.run(args, env);
    assert.match(stderr, line);
    assert.match(stderr, /^grooveway: [^\n]+ \[[A-Za-z]+\]\n$/);
    assert.equal(code, EXIT_CODES[ending].status);
  }
}

describe("in a container", () => {
  it("help, keys and tokens need no writable folder", async (context) => {
    const container = await Container.start(context);
    if (container === undefined) return;
    for (const command of ["send", "recv", "mailbox"]) {
      const { code, stdout, stderr } = await container.run([command, "--help"]);
      assert.deepEqual([code, stderr], [0, ""], command);
      assert.match(stdout, new RegExp(`^Usage: grooveway ${command} `));
      if (command === "send")
        assert.match(stdout, new RegExp(`this device's address; default that of the profile, or user${UID}/\\S+\n`));
    }
    const keys = await container.run(["token", "keygen", "--out", "key.json"]);
    assert.equal(keys.code, 0, keys.stderr);
    const issue = ["token", "issue", "--key", "key.json", "--audience", "edge.example.com", "--address", "a/*"];
    const token = await container.run([...issue, "--scope", "connect receive send:*"]);
    assert.equal(token.code, 0, token.stderr);
    await container.refuses(["token", "keygen", "--out", "/key.json"], "CannotWrite", /cannot write \/key\.json/);
  });

  it("a relay needs a writable store folder, and names one that is not writable", async (context) => {
    const container = await Container.start(context);
    if (container === undefined) return;
    const [, port] = await container.up(
      ["relay", "--port", "0", "--store", "relay.db"],
      /listens on 127\.0\.0\.1:(\d+)/,
    );
    const way = ["--relay", `127.0.0.1:${port}`];
    await writeFile(join(container.disk, "file"), "from a container");
    const sent = await container.run(["send", ...way, "bob/pc", "file"]);
    assert.equal(sent.code, 0, sent.stderr);
    const received = await container.run(["recv", ...way, "--as", "bob/pc", "--out", "received"]);
    assert.equal(received.code, 0, received.stderr);
    assert.match(received.stdout, new RegExp(`from user${UID}/`));
    assert.equal(await readFile(join(container.disk, "received/file"), "utf8"), "from a container");
    const elsewhere = ["relay", "--port", "0", "--store", "/relay.db"];
    await container.refuses(
      elsewhere,
      "CannotWrite",
      /cannot use \/relay\.db as the store: .*choose another --store FILE/,
    );
  });

  it("recv in a read-only folder names the option to add, and loses nothing", async (context) => {
    const container = await Container.start(context);
    if (container === undefined) return;
    const [, port] = await container.up(["relay", "--port", "0"], /listens on 127\.0\.0\.1:(\d+)/);
    const way = ["--relay", `127.0.0.1:${port}`];
    await writeFile(join(container.disk, "file"), "from a container");
    assert.equal((await container.run(["send", ...way, "bob/pc", "file"])).code, 0);
    const recv = ["recv", ...way, "--as", "bob/pc"];
    const elsewhere = await container.spawn([
      "/bin/sh",
      "-c",
      'cd / && exec "$@"',
      "sh",
      process.execPath,
      ENTRY,
      ...recv,
    ]).ended;
    assert.match(
      elsewhere.stderr,
      /^grooveway: cannot use \/ as the folder for files: the file system is read-only \(EROFS\): choose another folder with --out DIR \[CannotWrite\]\n$/,
    );
    assert.equal(elsewhere.code, EXIT_CODES.CannotWrite.status);
    const received = await container.run([...recv, "--out", "received"]);
    assert.equal(received.code, 0, received.stderr);
    assert.match(
      received.stderr,
      /^grooveway: no writable home folder: state is kept in \S+\/received\/\.grooveway; choose another with --state DIR\n$/,
    );
    assert.equal(await readFile(join(container.disk, "received/file"), "utf8"), "from a container");
  });

  it("an edge needs one writable folder, and says so", async (context) => {
    const container = await Container.start(context);
    if (container === undefined) return;
    const edge = ["edge", "--dev", "--port", "0"];
    const asked = /cannot write temporary files \(.*read-only.*\): set TMPDIR to a writable folder/;
    await container.refuses(edge, "CannotWrite", asked);
    await container.refuses([...edge, "--state", "/state"], "CannotWrite", /cannot use \/state as the state folder: /);
    const [, url = ""] = await container.up([...edge, "--state", "state"], /edge listens on (\S+)/);
    await writeFile(join(container.disk, "file"), randomBytes(3_000_000));
    const sent = await container.run(["send", "--edge", url, "bob/pc", "file"]);
    assert.equal(sent.code, 0, sent.stderr);
    const received = await container.run(["recv", "--edge", url, "--as", "bob/pc", "--out", "received"]);
    assert.equal(received.code, 0, received.stderr);
    const copy = await readFile(join(container.disk, "received/file"));
    assert.ok(copy.equals(await readFile(join(container.disk, "file"))));
    const read = await container.run(["mailbox", "ls", "--edge", url, "--token", "none"]);
    assert.equal(read.code, EXIT_CODES.Refused.status, read.stderr);
  });

  it("start needs a folder for temporary files, and says so", async (context) => {
    const container = await Container.start(context);
    if (container === undefined) return;
    const start = ["start", "--once", "--port", "0", "--relay-port", "0"];
    await container.refuses(start, "CannotWrite", /cannot write temporary files .*: set TMPDIR/);
    await mkdir(join(container.disk, "tmp"));
    await chmod(join(container.disk, "tmp"), 0o777);
    const { code, stdout, stderr } = await container.run(start, [`TMPDIR=${join(container.disk, "tmp")}`]);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /Checksums match\./);
    const left = spawnSync("ls", ["-A", join(container.disk, "tmp")], { encoding: "utf8" });
    assert.equal(left.stdout, "");
  });
});
