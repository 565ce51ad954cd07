/** `grooveway service`: what systemd and launchd read. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { chmod, chown, mkdir, readFile, writeFile } from "node:fs/promises";
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

describe("grooveway service install edge", LINUX, () => {
  async function edgeFiles(t: TestContext) {
    const { env, place } = await fakeSystemd(t);
    await chmod(place, 0o755);
    const at = (name: string) => join(place, name);
    await writeFile(at("keys.json"), "{}", { mode: 0o644 });
    await writeFile(at("admin"), "secret", { mode: 0o600 });
    await writeFile(at("key.pem"), "", { mode: 0o600 });
    await writeFile(at("cert.pem"), "", { mode: 0o644 });
    await writeFile(at("revoked"), "", { mode: 0o600 });
    const config = `port = 443\nname = "edge.example.com"\nkeys = "keys.json"\ntls-key = "key.pem"\ntls-cert = "cert.pem"
admin-token = "@admin"\n`;
    await writeFile(at("edge.toml"), config, { mode: 0o640 });
    const install = (...args: readonly string[]) => run(t, ["service", "install", "--print", ...args], undefined, env);
    return { at, install };
  }

  it("hands a service of the system copies of what it cannot read, and no secret; systemd finds no fault", async (t) => {
    const { at, install } = await edgeFiles(t);
    const { code, stdout, stderr } = await install(
      "--system",
      "edge",
      "--config",
      at("edge.toml"),
      "--rate",
      "connects=9",
    );
    assert.deepEqual([code, stderr], [0, ""]);
    for (const line of [
      "DynamicUser=yes",
      "StateDirectory=grooveway-edge",
      "KillMode=mixed",
      "TimeoutStopSec=20",
      "AmbientCapabilities=CAP_NET_BIND_SERVICE",
      `LoadCredential=config:${at("edge.toml")}`,
      `LoadCredential=tls-key:${at("key.pem")}`,
      `LoadCredential=admin-token:${at("admin")}`,
    ]) {
      assert.ok(stdout.split("\n").includes(line), `${line}\n${stdout}`);
    }
    const command = stdout.split("\n").find((line) => line.startsWith("ExecStart=")) ?? "";
    for (const words of [
      `"--config" "\${CREDENTIALS_DIRECTORY}/config"`,
      `"--tls-key" "\${CREDENTIALS_DIRECTORY}/tls-key"`,
      `"--admin-token" "@\${CREDENTIALS_DIRECTORY}/admin-token"`,
      `"--state" "%S/grooveway-edge/mailboxes"`,
      `"--rate=connects=9"`,
    ]) {
      assert.ok(command.includes(words), `${words}\n${command}`);
    }
    assert.doesNotMatch(stdout, /secret/);
    if (spawnSync("systemd-analyze", ["--version"]).status !== 0) {
      t.diagnostic("SKIPPED: systemd-analyze is not installed");
      return;
    }
    await writeFile(at("grooveway-edge.service"), stdout);
    const verify = spawnSync("systemd-analyze", ["verify", "--system", "--man=no", at("grooveway-edge.service")], {
      encoding: "utf8",
      env: { ...process.env, HOME: at("") },
    });
    const ours = verify.stderr.split("\n").filter((line) => line.includes("grooveway"));
    assert.deepEqual([ours, verify.status], [[], 0], verify.stderr);
  });

  it("names files that all may read by their paths, so that their changes count", async (t) => {
    const { at, install } = await edgeFiles(t);
    const { stdout } = await install("--system", "edge", "--keys", at("keys.json"));
    assert.ok(stdout.includes(`"--keys" "${at("keys.json")}"`), stdout);
    const user = await install("edge", "--state", "mailboxes", "--config", at("edge.toml"));
    assert.ok(user.stdout.includes(`"--tls-key" "${at("key.pem")}"`), user.stdout);
    assert.ok(user.stdout.includes(`"--state" "${join(process.cwd(), "mailboxes")}"`), user.stdout);
    assert.match(user.stdout, /^KillMode=mixed$/m);
  });

  it("belongs to the group that may read a file, which is then named by its path", async (t) => {
    const { at, install } = await edgeFiles(t);
    // Root's own group is none of others.
    const group = process.getgid?.() || 54321;
    await chown(at("key.pem"), process.getuid?.() ?? 0, group);
    await chmod(at("key.pem"), 0o640);
    const { stdout, stderr } = await install(
      "--system",
      "edge",
      "--tls-key",
      at("key.pem"),
      "--tls-cert",
      at("cert.pem"),
    );
    assert.ok(stdout.includes(`"--tls-key" "${at("key.pem")}"`), stdout + stderr);
    assert.match(stdout, new RegExp(`^SupplementaryGroups=${group}$`, "m"));
    assert.doesNotMatch(stdout, /LoadCredential/);
  });

  it("refuses what would not work as a service, and says what to change", async (t) => {
    const { at, install } = await edgeFiles(t);
    for (const [args, why] of [
      [
        ["--system", "edge", "--state", "x"],
        /--system keeps the mailboxes in a state folder of its own.*leave out --state/,
      ],
      [["edge"], /without --state the mailboxes are lost at each start: give --state DIR/],
      [["--system", "edge", "--admin-token", "hidden"], /put the token in a file, --admin-token @FILE/],
      [["--system", "edge", "--keys", at("keys.json"), "--revoked", at("revoked")], /run chmod o\+r/],
      [["--system", "edge", "--keys", at("none")], /there is no file/],
      [["--system", "edge", "--prot", "1"], /there is no option --prot, did you mean --port/],
      [["--system", "edge", "backup"], /one argument too many/],
    ] as const) {
      const { code, stderr, stdout } = await install(...args);
      assert.notEqual(code, 0);
      assert.match(stderr, why);
      assert.doesNotMatch(stderr + stdout, /hidden/);
    }
  });
});
