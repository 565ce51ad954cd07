/** The location of the state folder: one row for each environment. */
import assert from "node:assert/strict";
import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { openStateFolder, type StateFolderOptions } from "../../src/cli/state-folder.ts";
import { makeReadOnly } from "./support.ts";

const root = await mkdtemp(join(tmpdir(), "grooveway-state-"));
after(() => rm(root, { recursive: true, force: true }));
await writeFile(join(root, "file"), "");

const at = (...names: string[]) => join(root, ...names);

describe("the state folder", () => {
  const table: [string, StateFolderOptions, string | undefined, RegExp?][] = [
    ["is the one that --state names", { state: at("a"), env: { GROOVEWAY_STATE: at("b"), HOME: at("h") } }, at("a")],
    ["is the one that GROOVEWAY_STATE names", { env: { GROOVEWAY_STATE: at("b"), HOME: at("h") } }, at("b")],
    ["follows XDG", { env: { XDG_STATE_HOME: at("x"), HOME: at("h") } }, at("x", "grooveway")],
    ["is at home", { env: { HOME: at("h") } }, at("h", ".local", "state", "grooveway")],
    [
      "ignores an XDG path that is relative",
      { env: { XDG_STATE_HOME: "x", HOME: at("h") } },
      at("h", ".local", "state", "grooveway"),
    ],
    [
      "is beside the files without a home",
      { env: {}, beside: at("out") },
      at("out", ".grooveway"),
      /no writable home folder/,
    ],
    [
      "is beside the files when home is a file",
      { env: { HOME: at("file") }, beside: at("out") },
      at("out", ".grooveway"),
      /--state/,
    ],
    // Node's own mkdir does not stop there.
    [
      "is beside the files when home is in /proc",
      { env: { HOME: "/proc/x" }, beside: at("out") },
      at("out", ".grooveway"),
      /--state/,
    ],
    ["is nowhere without home and files", { env: { HOME: "" } }, undefined, /cannot be continued/],
  ];
  for (const [what, options, path, notice] of table) {
    it(what, async () => {
      const found = await openStateFolder(options);
      assert.equal(found.path, path);
      if (notice === undefined) assert.equal(found.notice, undefined);
      else assert.match(found.notice ?? "", notice);
      if (path !== undefined) assert.equal((await stat(path)).mode & 0o777, 0o700);
    });
  }

  it("that is named but unusable is rejected with a cure", async () => {
    await assert.rejects(openStateFolder({ state: at("file", "x") }), {
      code: "CannotWrite",
      message: /: part of the path is a file, not a folder \(ENOTDIR\): change --state$/,
    });
    const env = { GROOVEWAY_STATE: "/proc/x/y", HOME: at("h") };
    await assert.rejects(openStateFolder({ env }), { code: "CannotWrite", message: /change GROOVEWAY_STATE/ });
  });

  it("that is not writable is skipped", async (context) => {
    const home = await mkdtemp(at("read-only-"));
    if (makeReadOnly(context, home) === undefined) return;
    const { path } = await openStateFolder({ env: { HOME: home }, beside: at("out") });
    assert.equal(path, at("out", ".grooveway"));
  });
});
