/** Unwritable locations for an edge's state folder and a relay's store are reported at once, with a cure. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { startRelayHere } from "../../../src/cli/commands/relay.ts";
import { beginRun } from "../../../src/cli/local-edge/edge-run.ts";
import { runHere } from "../support.ts";

const MAIN = fileURLToPath(new URL("../../../src/cli/main.ts", import.meta.url));

const root = await mkdtemp(join(tmpdir(), "grooveway-path-"));
after(() => rm(root, { recursive: true, force: true }));
const at = (...names: string[]) => join(root, ...names);
await writeFile(at("file"), "");
await mkdir(at("folder"));
await symlink(at("nowhere", "at", "all"), at("dangling"));
await symlink(at("round"), at("round"));

describe("the state folder of an edge", () => {
  for (const [what, path, words] of [
    ["a file", at("file"), /part of the path is a file, not a folder/],
    ["in a file", at("file", "state"), /part of the path is a file, not a folder/],
    ["where nothing can be created", "/proc/x", /nothing can be created there/],
    ["deep where nothing can be created", "/proc/x/y/z", /nothing can be created there/],
    ["where no file can be created", "/proc/self/fd", /no file can be created there|no right to write/],
    ["a cyclic link", at("round"), /ELOOP|not a folder/],
    ["too long", at("x".repeat(300)), /its name is too long/],
  ] as const) {
    it(`that is ${what} is rejected at once`, async () => {
      await assert.rejects(beginRun(path), (error: Error & { code?: string }) => {
        assert.equal(error.code, "CannotWrite", error.message);
        assert.match(error.message, words);
        assert.match(error.message, /: choose another folder with --state$/);
        return true;
      });
    });
  }

  it("is created with its parent folders", async () => {
    const begun = await beginRun(at("new", "state"));
    begun.close();
  });
});

describe("the store of a relay", () => {
  for (const [what, path, words] of [
    ["a folder", at("folder"), /it is a folder: name a file in it, such as --store .*folder\/relay\.db$/],
    ["in a file", at("file", "relay.db"), /file is a file, not a folder: choose another --store FILE$/],
    ["in a missing folder", at("none", "relay.db"), /the folder .*none does not exist: create it, or choose/],
    ["where no file can be created", "/proc/x", /: choose another --store FILE$/],
    ["a dangling link", at("dangling"), /: choose another --store FILE$/],
  ] as const) {
    it(`that is ${what} is rejected at once`, async () => {
      await assert.rejects(startRelayHere({ port: 0, store: path }), (error: Error & { code?: string }) => {
        assert.equal(error.code, "CannotWrite", error.message);
        assert.match(error.message, words);
        return true;
      });
    });
  }
});

it("an empty path, as from an unset variable, is a usage error", async () => {
  for (const [command, option] of [
    ["edge", "--state"],
    ["relay", "--store"],
  ] as const) {
    const { code, stderr } = await runHere([command, "--port", "0", option, ""]);
    assert.equal(code, 2);
    assert.match(stderr, new RegExp(`${option} is empty: name a`));
  }
});

/** The output of a command that may not write to the folder; undefined where that cannot be arranged. */
function saidWithoutRights(context: TestContext, folder: string, args: readonly string[]): string | undefined {
  const nobody = 65534;
  const isRoot = process.getuid?.() === 0;
  const options = {
    encoding: "utf8",
    timeout: 300_000,
    cwd: folder,
    ...(isRoot && { uid: nobody, gid: nobody }),
  } as const;
  const node = ["--disable-warning=ExperimentalWarning", MAIN, ...args];
  if (isRoot && spawnSync(process.execPath, ["-e", `fs.accessSync(${JSON.stringify(MAIN)})`], options).status !== 0) {
    context.skip("SKIPPED: another user may not read this program");
    return undefined;
  }
  return spawnSync(process.execPath, node, options).stderr;
}

it("a folder of another user is rejected at once", async (context) => {
  await chmod(root, 0o755);
  const folder = at("others");
  await mkdir(folder);
  await chmod(folder, 0o555);
  context.after(() => chmod(folder, 0o755));
  for (const args of [
    ["edge", "--dev", "--port", "0", "--state", folder],
    ["edge", "--dev", "--port", "0", "--state", join(folder, "state")],
    ["relay", "--port", "0", "--store", join(folder, "relay.db")],
  ]) {
    const said = saidWithoutRights(context, folder, args);
    if (said === undefined) return;
    assert.match(said, /this user may not write there \(EACCES\): choose another .*\[CannotWrite\]$/m);
    assert.equal(said.trim().split("\n").length, 1, said);
  }
});

it("a read-only file system is rejected at once", async (context) => {
  const disk = at("read-only");
  await mkdir(disk);
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "ro", "tmpfs", disk], { stdio: "pipe" });
  } catch (error) {
    context.skip(`SKIPPED: no file system can be mounted here (${(error as Error).message.split("\n")[0]})`);
    return;
  }
  context.after(() => execFileSync("umount", ["-l", disk]));
  assert.throws(() => accessSync(disk, constants.W_OK));
  const readOnly = { code: "CannotWrite", message: /the file system is read-only \(EROFS\): choose another/ };
  await assert.rejects(beginRun(disk), readOnly);
  await assert.rejects(beginRun(join(disk, "state")), readOnly);
  await assert.rejects(startRelayHere({ port: 0, store: join(disk, "relay.db") }), readOnly);
});
