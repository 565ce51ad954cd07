/** The file of profiles: where it is, who may read it, and that it is replaced as a whole. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { changeProfiles, configPath, neededConfigPath, readProfiles } from "../../../src/cli/profiles/config-file.ts";
import type { Profile } from "../../../src/cli/profiles/config-toml.ts";
import { folder, run } from "../support.ts";

const PROFILE: Profile = { address: "alice/laptop", edges: [{ url: "https://e.example", token: "secret" }] };

describe("the place of config.toml", () => {
  it("follows XDG, and is at home otherwise", () => {
    const file = "grooveway/config.toml";
    assert.equal(configPath({ XDG_CONFIG_HOME: "/x", HOME: "/h" }), `/x/${file}`);
    assert.equal(configPath({ HOME: "/h" }), `/h/.config/${file}`);
    assert.equal(configPath({ XDG_CONFIG_HOME: "x", HOME: "/h" }), `/h/.config/${file}`);
    for (const env of [{}, { HOME: "" }, { HOME: "h", XDG_CONFIG_HOME: "" }]) assert.equal(configPath(env), undefined);
  });

  it("is needed to log in: without a home, the error says what to set", () => {
    assert.throws(() => neededConfigPath({}), { code: "NoConfigFolder", message: /set XDG_CONFIG_HOME to a folder/ });
  });
});

describe("config.toml is read", () => {
  it("as no profiles if it does not exist", async (context) => {
    const at = await folder(context);
    writeFileSync(join(at, "file"), "");
    assert.equal(readProfiles(join(at, "config.toml")).size, 0);
    assert.equal(readProfiles(join(at, "file", "config.toml")).size, 0);
  });

  it("only if nobody else may read or change it: the error has the command that helps", async (context) => {
    const path = join(await folder(context), "it's config.toml");
    await changeProfiles(path, () => new Map([["default", PROFILE]]));
    for (const mode of [0o640, 0o620, 0o604, 0o601]) {
      chmodSync(path, mode);
      assert.throws(
        () => readProfiles(path),
        (error: Error & { code?: string }) => {
          assert.equal(error.code, "ConfigUnusable");
          const [, command = ""] = /run (chmod .*), and/.exec(error.message) ?? [];
          execFileSync("sh", ["-c", command]);
          return true;
        },
      );
      assert.deepEqual(readProfiles(path).get("default"), PROFILE, mode.toString(8));
    }
  });

  it("never from a FIFO, a folder or an endless file", async (context) => {
    const at = await folder(context);
    const file = (name: string) => join(at, name);
    execFileSync("mkfifo", ["-m", "600", file("fifo")]);
    mkdirSync(file("folder"));
    writeFileSync(file("long"), "#".repeat(600 * 1024), { mode: 0o600 });
    assert.throws(() => readProfiles(file("fifo")), { code: "ConfigUnusable", message: /is not a file/ });
    assert.throws(() => readProfiles(file("folder")), { code: "ConfigUnusable", message: /is not a file/ });
    assert.throws(() => readProfiles(file("long")), { code: "ConfigUnusable", message: /over 512 KiB/ });
  });

  it("and an error names the file and the line", async (context) => {
    const path = join(await folder(context), "config.toml");
    writeFileSync(path, '# mine\n[profiles.a]\nedges = "x"\n', { mode: 0o600 });
    const message = `${path}, line 3: edges is not a list of tables: write [{ url = "https://..." }]`;
    assert.throws(() => readProfiles(path), { code: "ConfigUnusable", message });
  });
});

describe("config.toml is written", () => {
  it("for its user alone, in a folder of the user's own, whatever the umask", async (context) => {
    const before = process.umask(0);
    context.after(() => process.umask(before));
    const at = await folder(context);
    const path = join(at, "new", "grooveway", "config.toml");
    await changeProfiles(path, (profiles) => new Map(profiles).set("default", PROFILE));
    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.equal(statSync(join(at, "new", "grooveway")).mode & 0o777, 0o700);
    assert.deepEqual(readProfiles(path), new Map([["default", PROFILE]]));
  });

  it("in the place of what a killed process has left", async (context) => {
    const at = await folder(context);
    const path = join(at, "config.toml");
    writeFileSync(`${path}.new`, "half of a fi", { mode: 0o644 });
    await changeProfiles(path, () => new Map([["default", PROFILE]]));
    assert.deepEqual(readProfiles(path), new Map([["default", PROFILE]]));
    assert.deepEqual(readdirSync(at).sort(), ["config.lock", "config.toml"]);
  });

  it("through a symbolic link, which stays", async (context) => {
    const at = await folder(context);
    const path = join(at, "config.toml");
    writeFileSync(join(at, "dotfile"), "", { mode: 0o600 });
    symlinkSync("dotfile", path);
    await changeProfiles(path, () => new Map([["default", PROFILE]]));
    assert.equal(readlinkSync(path), "dotfile");
    assert.match(readFileSync(join(at, "dotfile"), "utf8"), /alice\/laptop/);
  });

  it("unless there can be no such file: the error says what to set", async () => {
    await assert.rejects(
      changeProfiles("/proc/nowhere/config.toml", (profiles) => profiles),
      {
        code: "CannotWrite",
        message: /^cannot write \/proc\/nowhere\/config\.toml: .*: set XDG_CONFIG_HOME to a folder/,
      },
    );
  });

  it("not at all if the change fails", async (context) => {
    const path = join(await folder(context), "config.toml");
    await changeProfiles(path, () => new Map([["default", PROFILE]]));
    const failing = changeProfiles(path, () => {
      throw new Error("no");
    });
    await assert.rejects(failing, /^Error: no$/);
    assert.deepEqual(readProfiles(path), new Map([["default", PROFILE]]));
  });

  it("by several commands at the same time, without losing a change", async (context) => {
    const home = await folder(context);
    const path = join(home, "grooveway", "config.toml");
    const names = ["a", "b", "c"];
    await changeProfiles(path, () => new Map([...names, "default"].map((name) => [name, PROFILE])));
    const ended = await Promise.all(
      names.map((name) => run(context, ["logout", "--profile", name], "", { XDG_CONFIG_HOME: home })),
    );
    assert.deepEqual(
      ended.map(({ code, stderr }) => [code, stderr]),
      names.map(() => [0, ""]),
    );
    assert.deepEqual([...readProfiles(path).keys()], ["default"]);
  });
});
