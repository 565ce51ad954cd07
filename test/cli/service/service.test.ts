/** `grooveway service`: what systemd and launchd read. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { chmod, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { launchAgent, type Service, systemUnit, userUnit } from "../../../src/cli/service/service-files.ts";
import { folder, run } from "../support.ts";

const LINUX = process.platform === "linux" ? {} : { skip: "SKIPPED: systemd is of Linux" };

const service: Service = {
  name: "grooveway-expose",
  command: ["/opt/my node", "/opt/g.js", "expose", "--proxy", 'http://a$b%c"\\', "--", "ssh=127.0.0.1:22"],
  environment: { XDG_CONFIG_HOME: "/home/a b" },
};

describe("a unit of systemd", () => {
  it("runs the command with its arguments as they are, and again whenever it ends", () => {
    const unit = userUnit(service);
    assert.match(unit, /^Restart=always$/m);
    const line = `ExecStart="/opt/my node" "/opt/g.js" "expose" "--proxy" "http://a$$b%%c\\"\\\\" "--" "ssh=127.0.0.1:22"`;
    assert.ok(unit.split("\n").includes(line), unit);
    assert.match(unit, /^Environment="XDG_CONFIG_HOME=\/home\/a b"$/m);
    assert.match(unit, /^WantedBy=default\.target$/m);
  });

  it("has a user of its own for the system, who gets the files that options name", () => {
    const credential = { credential: "token", path: "/etc/100%.token", prefix: "@" };
    const unit = systemUnit({ ...service, command: ["/n", "--token", credential] });
    assert.match(unit, /^DynamicUser=yes$/m);
    assert.match(unit, /^ExecStart="\/n" "--token" "@\$\{CREDENTIALS_DIRECTORY\}\/token"$/m);
    assert.match(unit, /^LoadCredential=token:\/etc\/100%%\.token$/m);
    assert.match(unit, /^After=network-online\.target$/m);
  });

  for (const [whose, text] of [
    ["--user", userUnit({ ...service, command: [process.execPath, ...service.command.slice(1)] })],
    ["--system", systemUnit({ ...service, command: [process.execPath, ...service.command.slice(1)] })],
  ] as const) {
    it(`is faultless to systemd-analyze verify ${whose}`, async (t) => {
      if (spawnSync("systemd-analyze", ["--version"]).status !== 0) {
        t.skip("SKIPPED: systemd-analyze is not installed");
        return;
      }
      const place = await folder(t);
      const path = join(place, "grooveway-expose.service");
      await writeFile(path, text);
      const { status, stderr } = spawnSync("systemd-analyze", ["verify", whose, "--man=no", path], {
        encoding: "utf8",
        env: { ...process.env, XDG_RUNTIME_DIR: place, HOME: place },
      });
      const ours = stderr.split("\n").filter((line) => line.includes("grooveway"));
      assert.deepEqual([ours, status], [[], 0], stderr);
    });
  }
});

it("a property list of launchd has the arguments, escaped", (t) => {
  const text = launchAgent({ ...service, command: ["/n", "a<b>&c"] }, "/tmp/log");
  assert.match(text, /<string>\/n<\/string>\s*<string>a&#60;b&#62;&#38;c<\/string>/);
  assert.match(text, /<key>KeepAlive<\/key><true\/>/);
  if (spawnSync("python3", ["--version"]).status !== 0) {
    t.diagnostic("python3, which reads it, is not installed");
    return;
  }
  const read = "import plistlib,sys; print(plistlib.loads(sys.stdin.buffer.read())['ProgramArguments'][1])";
  assert.equal(execFileSync("python3", ["-c", read], { input: text, encoding: "utf8" }), "a<b>&c\n");
});

/** A folder of programs that record how they are called, in place of systemd's. */
async function fakeSystemd(t: TestContext, { fails = "" } = {}) {
  const place = await folder(t);
  const [bin, config, log] = [join(place, "bin"), join(place, "config"), join(place, "log")];
  await mkdir(bin);
  for (const name of ["systemctl", "loginctl"]) {
    const script = `#!/bin/sh\necho ${name} "$@" >>'${log}'\n${name === fails ? 'echo "no such bus" >&2; exit 1' : ""}\n`;
    await writeFile(join(bin, name), script);
    await chmod(join(bin, name), 0o755);
  }
  const env = { PATH: `${bin}:${process.env.PATH}`, XDG_CONFIG_HOME: config, GROOVEWAY_TOKEN: undefined };
  const calls = async () => (await readFile(log, "utf8")).trim().split("\n");
  return { place, env, calls, unit: (name: string) => join(config, "systemd", "user", `${name}.service`) };
}

const EXPOSE = ["expose", "--edge", "https://edge.example.com", "--as", "office/desk", "ssh=127.0.0.1:22"];

describe("grooveway service", LINUX, () => {
  it("installs a service of the user, which goes on after the user has logged out, and removes it", async (t) => {
    const { env, calls, unit } = await fakeSystemd(t);
    const installed = await run(t, ["service", "install", ...EXPOSE], undefined, env);
    assert.deepEqual([installed.code, installed.stderr], [0, ""]);
    const text = await readFile(unit("grooveway-expose"), "utf8");
    assert.match(text, /ExecStart=.* "expose" .*"--edge=https:\/\/edge\.example\.com".* "--" "ssh=127\.0\.0\.1:22"/);
    assert.deepEqual((await calls()).slice(0, 3), [
      "systemctl --user daemon-reload",
      "systemctl --user enable grooveway-expose.service",
      "systemctl --user restart grooveway-expose.service",
    ]);
    assert.match((await calls())[3] ?? "", /^loginctl enable-linger ./);
    assert.equal((await run(t, ["service", "uninstall"], undefined, env)).code, 0);
    assert.equal(existsSync(unit("grooveway-expose")), false);
    assert.ok((await calls()).includes("systemctl --user disable --now grooveway-expose.service"));
    assert.equal((await run(t, ["service", "uninstall"], undefined, env)).code, 2);
  });

  it("says that it could not make the service outlast the session", async (t) => {
    const { env, unit } = await fakeSystemd(t, { fails: "loginctl" });
    const { code, stderr } = await run(t, ["service", "install", ...EXPOSE], undefined, env);
    assert.equal(code, 1);
    assert.match(stderr, /could not run loginctl enable-linger .* \(no such bus\): run it yourself/);
    assert.ok(existsSync(unit("grooveway-expose")));
  });

  it("writes whole paths, and takes secrets from files only", async (t) => {
    const { env, place } = await fakeSystemd(t);
    const token = join(place, "token");
    const install = ["service", "install", "--print"];
    const system = await run(t, [...install, "--system", ...EXPOSE, "--token", `@${token}`], undefined, env);
    assert.match(system.stdout, /"--token" "@\$\{CREDENTIALS_DIRECTORY\}\/token"/);
    assert.ok(system.stdout.includes(`LoadCredential=token:${token}\n`));
    const user = await run(t, [...install, ...EXPOSE, "--token", "@edge.token"], undefined, env);
    assert.ok(user.stdout.includes(`"@${join(process.cwd(), "edge.token")}"`), user.stdout);
    for (const [more, variables, why] of [
      [["--token", "ey.secret"], {}, /put the token in a file/],
      [["--proxy", "http://u:secret@proxy:3128"], {}, /put it in a file/],
      [["--accept-new"], {}, /--accept-new is not for a service/],
      [[], { GROOVEWAY_TOKEN: "secret" }, /does not get GROOVEWAY_TOKEN/],
    ] as const) {
      const refused = await run(t, [...install, ...EXPOSE, ...more], undefined, { ...env, ...variables });
      assert.equal(refused.code, 2);
      assert.match(refused.stderr, why);
      assert.doesNotMatch(refused.stderr + refused.stdout, /secret/);
    }
  });

  it("runs connect with its file, which must be usable", async (t) => {
    const { env, place } = await fakeSystemd(t);
    const file = join(place, "office.toml");
    const args = ["service", "install", "--print", "--name", "office", "connect", file];
    assert.equal((await run(t, args, undefined, env)).code, 5);
    await writeFile(file, '[expose]\nssh = "127.0.0.1:22"\n', { mode: 0o644 });
    const { code, stdout } = await run(t, args, undefined, env);
    assert.equal(code, 0);
    assert.match(stdout, /^Description=grooveway-office$/m);
    assert.ok(stdout.includes(`"--" "${file}"`));
  });
});
