/** Options of `grooveway edge` from the command line, the environment and edge.toml. */
import assert from "node:assert/strict";
import { chmod, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import fc from "fast-check";
import { CommandError } from "../../../src/cli/command-error.ts";
import { edgeArguments } from "../../../src/cli/local-edge/edge-arguments.ts";
import { EDGE_OPTIONS } from "../../../src/cli/local-edge/edge-options.ts";
import { parseEdgeToml } from "../../../src/cli/local-edge/edge-toml.ts";
import { folder, run, start } from "../support.ts";

async function written(t: TestContext, text: string, mode = 0o600): Promise<string> {
  const path = join(await folder(t), "edge.toml");
  await writeFile(path, text, { mode });
  return path;
}

function valuesOf(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  return edgeArguments(args, env).values;
}

function refused(args: readonly string[]): string {
  try {
    edgeArguments(args, {});
  } catch (error) {
    assert(error instanceof CommandError);
    return `${error.message} [${error.code}]`;
  }
  return assert.fail("it was accepted");
}

describe("edge.toml", () => {
  it("has every option of the command, and paths relative to it", async (t) => {
    const path = await written(
      t,
      `host = "0.0.0.0"\nport = 443\nname = ["a.example", "b.example"]\nlink = "relay.example"\ndev-private = true
tls-key = "tls/key.pem"\ntls-cert = "/etc/cert.pem"\nkeep-time = 60\nadmin-token = "@admin.token"\n`,
      0o644,
    );
    const at = join(path, "..");
    assert.deepEqual(valuesOf(["--config", path]), {
      host: "0.0.0.0",
      port: "443",
      name: ["a.example", "b.example"],
      link: ["relay.example"],
      "dev-private": true,
      "tls-key": join(at, "tls/key.pem"),
      "tls-cert": "/etc/cert.pem",
      "keep-time": "60",
      "admin-token": `@${join(at, "admin.token")}`,
    });
    for (const [name, { type }] of Object.entries(EDGE_OPTIONS)) {
      const parsed = parseEdgeToml(`${name} = ${type === "boolean" ? "true" : '"1"'}`, EDGE_OPTIONS);
      assert(parsed.ok && Object.hasOwn(parsed.value, name), name);
    }
  });

  it("is not needed: what is wrong on the command line is named as there", () => {
    assert.match(refused(["--keep-time", "x"]), /^--keep-time /);
    assert.match(refused(["--tls-key", "x"]), /^--tls-key is alone/);
  });

  it("gives way to the command line, and to the environment", async (t) => {
    const path = await written(t, `port = 1\nname = ["a"]\nkeys = "k"\nlog-level = "info"\nadmin-token = "file"\n`);
    const values = valuesOf(["--config", path, "--port", "2", "--name", "b", "--jwks-url", "https://k.example", "-v"], {
      GROOVEWAY_ADMIN_TOKEN: "environment",
    });
    assert.deepEqual(
      [values.port, values.name, values["jwks-url"], values.keys, values.verbose, values["log-level"]],
      ["2", ["b"], "https://k.example", undefined, true, undefined],
    );
    assert.equal(values["admin-token"], "environment");
    assert.equal(valuesOf(["--config", path])["admin-token"], "file");
  });

  for (const [text, message] of [
    ["prot = 1", /edge\.toml, line 1: the key "prot" is unknown: did you mean port\?/],
    ["\nRELAY_NAME = 'a'", /line 2: the key RELAY_NAME is a setting of the worker: write name/],
    ["dev = 1", /line 1: dev is neither true nor false: write true or false/],
    ["port = 1.5", /line 1: port is not a string: put it in quotation marks/],
    ["host = ['a']", /line 1: host is not a string/],
    ["name = ['a', 1]", /line 1: name has what is not a string/],
    ['host = "a\\u0007"', /line 1: host has control characters/],
    ["port = ", /line 1: it is not TOML/],
    ["[edge]\nport = 1", /the key "edge" is unknown/],
    ["dev = true\ndev-private = true", /dev in .*edge\.toml and dev-private in .* exclude each other: give one/],
    ["keys = 'a'\njwks-url = 'https://a'", /keys in .* and jwks-url in .* exclude each other/],
    ["tls-key = 'a'", /tls-key in .* is alone: --tls-key and --tls-cert must be given together/],
    ["revoked = 'a'", /revoked in .* needs --keys or --jwks-url/],
    ["rate = 'much'", /^rate in .*edge\.toml/],
    ["keep-time = -1", /^keep-time in .*edge\.toml/],
  ] as const) {
    it(`is refused by name: ${JSON.stringify(text)}`, async (t) => {
      assert.match(refused(["--config", await written(t, text)]), message);
    });
  }

  it("is refused when others may change it, or read its secret", async (t) => {
    if (process.platform === "win32") return t.skip("SKIPPED: Windows has no modes");
    const path = await written(t, 'admin-token = "secret"\n');
    await chmod(path, 0o644);
    const message = refused(["--config", path]);
    assert.match(message, /others can read .*, which has the admin token: run chmod 600 on it, or write .*@FILE/);
    assert.doesNotMatch(message, /"secret"/);
    await chmod(path, 0o606);
    assert.match(refused(["--config", path]), /all users may change .*: run chmod o-w on it/);
    await mkdir(join(path, "..", "dir"));
    assert.match(refused(["--config", join(path, "..", "dir")]), /is not a file/);
    assert.match(refused(["--config", join(path, "..", "none")]), /there is no file .*\[CannotRead\]/);
  });

  it("of any text is read or refused with a cure", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit: "binary" }), fc.json()), (text) => {
        const parsed = parseEdgeToml(text, EDGE_OPTIONS);
        if (!parsed.ok) assert(parsed.problems.cure !== "");
      }),
    );
  });
});

it("grooveway edge --config runs with the file's settings, and without any secret in its command line", async (t) => {
  const place = await folder(t);
  await writeFile(join(place, "admin"), "of the file\n", { mode: 0o600 });
  const path = join(place, "edge.toml");
  await writeFile(
    path,
    'port = 0\njson = true\ndev = true\nname = ["edge.test"]\nstate = "kept"\nadmin-token = "@admin"\n',
  );
  const edge = start(t, ["edge", "--config", path]);
  const [line] = await edge.line(/^\{"event":"listening".*\}$/m);
  const { url, names } = JSON.parse(line) as { url: string; names: string[] };
  assert(names.includes("edge.test"));
  const status = async (token: string) =>
    (await fetch(`${url}/metrics`, { headers: { Authorization: `Bearer ${token}` } })).status;
  assert.deepEqual([await status("of the file"), await status("another")], [200, 401]);
  const second = await run(t, ["edge", "--config", path, "--port", "0"]);
  assert.match(second.stderr, /kept is in use by process/);
});
