/** The options about proxies, and the memory of refused passwords. */
import assert from "node:assert/strict";
import { chmodSync, existsSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { CommandError } from "../../src/cli/command-error.ts";
import { type ProxyValues, proxiesOf } from "../../src/cli/proxy-options.ts";
import { refusedPasswordsIn } from "../../src/cli/refused-passwords.ts";
import { httpProxy } from "../support/proxies.ts";
import { folder, run } from "./support.ts";

const EDGE = { host: "edge.example.com", port: 443, scheme: "https" } as const;

function read(values: ProxyValues, env: Readonly<Record<string, string>> = {}) {
  const lines: string[] = [];
  const proxies = proxiesOf("send", values, { env, tell: (line) => lines.push(line) });
  return { proxies, lines };
}

async function secretFile(context: TestContext, text: string, mode = 0o600): Promise<string> {
  const path = join(await folder(context), "secret");
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
}

test("a proxy and where it was found are printed, without its password", async () => {
  const { proxies, lines } = read({}, { HTTPS_PROXY: "http://alice:secret@proxy:3128" });
  await proxies.choose(EDGE);
  assert.deepEqual(lines, ["connecting to edge.example.com:443: http://proxy:3128 (HTTPS_PROXY)"]);
  const option = read({ proxy: "http://proxy:3128" });
  const { source } = await option.proxies.choose(EDGE);
  assert.equal(source, "--proxy");
  assert.deepEqual(option.lines, ["connecting to edge.example.com:443: http://proxy:3128 (--proxy)"]);
});

test("a password on the command line is warned of, and a file is not", async (context) => {
  const { lines } = read({ proxy: "http://alice:secret@proxy:3128" });
  assert.match(lines.join(), /^other users of this machine can see the password .*--proxy @FILE/);
  assert.doesNotMatch(lines.join(), /secret/);
  const file = await secretFile(context, "http://alice:secret@proxy:3128\n");
  const fromFile = read({ proxy: `@${file}` });
  assert.deepEqual(fromFile.lines, []);
  const alice = { user: "alice", password: "secret" };
  assert.deepEqual(fromFile.proxies.accounts.find({ host: "proxy", port: 3128 }), alice);
  for (const proxy of ["pac+http://alice:secret@pac.example/p.pac", "PAC+http://alice:secret@pac.example/p.pac"]) {
    assert.match(read({ proxy }).lines.join(), /^other users of this machine can see the password/);
  }
  for (const proxy of ["http://proxy:3128", "direct", "pac+http://pac.example/p.pac", "pac+/etc/p.pac"]) {
    assert.deepEqual(read({ proxy }).lines, []);
  }
});

test("a file with passwords that others can read is refused", async (context) => {
  const file = await secretFile(context, "http://alice:secret@proxy:3128", 0o640);
  for (const values of [{ proxy: `@${file}` }, { "proxy-credentials": file }]) {
    assert.throws(
      () => read(values),
      (error) =>
        error instanceof CommandError &&
        error.code === "Usage" &&
        /can be read by others: chmod 600/.test(error.message),
    );
  }
});

test("credentials belong to the proxies that they are given for", async (context) => {
  const file = await secretFile(context, "http://bob:one@a:1\nsocks5://carol:two@b:2\n");
  const env = { GROOVEWAY_PROXY_USER: "dave", GROOVEWAY_PROXY_PASSWORD: "three", ALL_PROXY: "http://all:9" };
  const user = (values: ProxyValues, more: Readonly<Record<string, string>>, host: string, port: number) =>
    read(values, { ...env, ...more }).proxies.accounts.find({ host, port })?.user;
  assert.equal(user({ "proxy-credentials": file }, {}, "a", 1), "bob");
  assert.equal(user({ "proxy-credentials": file }, {}, "b", 2), "carol");
  assert.equal(user({ proxy: "http://c:3" }, {}, "c", 3), "dave");
  assert.equal(user({ proxy: "http://erin:x@c:3" }, {}, "c", 3), "erin");
  assert.equal(user({ proxy: "http://erin:x@c:3" }, { GROOVEWAY_PROXY_FOR: "http://c:3" }, "c", 3), "erin");
  assert.equal(user({ proxy: "http://erin:x@a:1", "proxy-credentials": file }, {}, "a", 1), "erin");
  assert.equal(user({}, { GROOVEWAY_PROXY_FOR: "http://all:9" }, "all", 9), "dave");
  assert.equal(user({}, {}, "all", 9), undefined, "a variable names a proxy, and not whose the password is");
});

test("credentials of the environment that belong to no proxy are told, without a word of them", () => {
  const env = { GROOVEWAY_PROXY_USER: "dave", GROOVEWAY_PROXY_PASSWORD: "three" };
  const { lines } = read({}, { ...env, HTTPS_PROXY: "http://all:9" });
  assert.match(lines.join(), /^GROOVEWAY_PROXY_USER is not used: .* GROOVEWAY_PROXY_FOR/);
  assert.doesNotMatch(lines.join(), /dave|three/);
  assert.deepEqual(read({}, { ...env, GROOVEWAY_PROXY_FOR: "http://all:9" }).lines, []);
  assert.deepEqual(read({ proxy: "http://all:9" }, env).lines, []);
});

test("what cannot be used is a usage error without the password", () => {
  for (const proxy of ["gopher://alice:secret@x", "http://alice:secret@x:0"]) {
    assert.throws(
      () => read({ proxy }),
      (error) =>
        error instanceof CommandError && /^--proxy names no proxy/.test(error.message) && !/secret/.test(error.message),
    );
  }
});

test("refused passwords are remembered by the state folder as hashes", async (context) => {
  const state = join(await folder(context), "state");
  const [one, two] = [refusedPasswordsIn(state), refusedPasswordsIn(state)];
  assert.equal(one.has("proxy alice secret"), false);
  assert.equal(existsSync(state), false, "nothing is written without need");
  one.add("proxy alice secret");
  assert.equal(two.has("proxy alice secret"), true);
  assert.equal(two.has("proxy alice other"), false);
  const path = join(state, "refused-proxy-passwords.json");
  const kept = readFileSync(path);
  rmSync(path);
  assert.equal(one.has("proxy alice secret"), false, "to delete the file helps a running command, too");
  writeFileSync(path, kept, { mode: 0o600 });
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.doesNotMatch(readFileSync(path, "utf8"), /alice|secret/);
  for (const broken of ["", "{", "[]", '{"salt":"x","refused":[1]}', '{"salt":7}']) {
    writeFileSync(path, broken);
    assert.equal(refusedPasswordsIn(state).has("proxy alice secret"), false);
    refusedPasswordsIn(state).add("proxy alice secret");
    assert.equal(refusedPasswordsIn(state).has("proxy alice secret"), true);
  }
});

test("a command that is run again does not send a refused password again", async (context) => {
  const proxy = await httpProxy(context, { schemes: ["Basic"] });
  const file = await secretFile(context, `http://alice:wr0ng@127.0.0.1:${proxy.port}`);
  const command = ["mailbox", "ls", "--token", "t", "--edge", "https://edge.example.com", "--proxy", `@${file}`];
  for (let times = 0; times < 2; times += 1) {
    const { code, stderr } = await run(context, command);
    assert.equal(code, 3);
    assert.match(
      stderr,
      /refuses the user name or password: .* delete \S+refused-proxy-passwords\.json \[ProxyRefusesCredentials\]$/m,
    );
    assert.doesNotMatch(stderr, /wr0ng/);
  }
  assert.equal(proxy.wrong(), 1);
});
