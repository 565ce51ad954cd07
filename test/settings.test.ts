/** Every setting is declared once, and known wherever it is read, set or described. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { describe, it } from "node:test";
import { edgeCommand } from "../src/cli/commands/edge.ts";
import { settingsOf } from "../src/cli/local-edge/local-edge.ts";
import { parseToml, wranglerConfig } from "../src/cli/local-edge/wrangler-config.ts";
import { SETTINGS } from "../src/edge/policy/settings.ts";
import { FINDINGS } from "../src/edge/reasons.ts";

const names = Object.keys(SETTINGS).sort();
const rules: Readonly<Record<string, { readonly option?: string; readonly secret?: true }>> = SETTINGS;

describe("the settings", () => {
  it("are the variables of wrangler.toml, and the secrets", () => {
    const { variables } = wranglerConfig();
    const secrets = names.filter((name) => rules[name]?.secret);
    assert.deepEqual([...variables, ...secrets].sort(), names);
  });

  it("are what grooveway edge gives the worker", () => {
    assert.deepEqual(Object.keys(settingsOf({ port: 0, relayAllow: [] })).sort(), names);
  });

  it("are in the README's table, each with its option", async () => {
    const readme = await readFile(new URL("../README.md", import.meta.url), "utf8");
    const rows = [...readme.matchAll(/^\| `([A-Z_]+)`( \(\*secret\*\))? \| (?:`--([\w-]+)[^`]*`)? ?\|/gm)];
    const found = rows.map(([, name, secret, option]) => [name, secret !== undefined, option]);
    assert.deepEqual(
      found.sort(([one = ""], [other = ""]) => (one < other ? -1 : 1)),
      names.map((name) => [name, rules[name]?.secret === true, rules[name]?.option]),
    );
  });

  it("that have an option are in the help of grooveway edge", () => {
    for (const { option } of Object.values(rules)) {
      if (option !== undefined) assert.match(edgeCommand.help, new RegExp(`^  --${option}\\s`, "m"));
    }
  });

  it("are those that findings are about", () => {
    for (const [code, { settings }] of Object.entries(FINDINGS)) {
      for (const name of settings) assert.ok(names.includes(name), `${code}: ${name}`);
    }
  });
});

describe("wrangler.toml", () => {
  it("names every class of an object once, for the worker and for grooveway edge", async () => {
    const worker = await readFile(new URL("../src/edge/worker.ts", import.meta.url), "utf8");
    for (const name of Object.values(wranglerConfig().objects))
      assert.match(worker, new RegExp(`^export { ${name} }`, "m"));
    assert.equal(Object.keys(wranglerConfig().objects).length, 10);
  });

  it("is read whole: tables, texts, lists, numbers and booleans", () => {
    const text =
      '# c\na = "b # c"\nlist = ["x", "y"]\n\n[t.u]\nn = 10_000\nyes = true\n[[r]]\nk = ""\n[[r]]\nk = "2"\n';
    assert.deepEqual(
      [...parseToml(text)],
      [
        ["", [{ a: "b # c", list: ["x", "y"] }]],
        ["t.u", [{ n: 10_000, yes: true }]],
        ["r", [{ k: "" }, { k: "2" }]],
      ],
    );
  });

  it("is refused where it is written in another way", () => {
    for (const text of ["a = 'b'", 'a = "\\n"', "a = [1]", "a.b = true", 'a = """', "[t]\n[t]", "a ="]) {
      assert.throws(() => parseToml(text), /^Error: wrangler\.toml: /, text);
    }
  });
});
