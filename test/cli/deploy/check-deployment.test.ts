/** `grooveway deploy check` refuses insecure or contradictory configurations by name. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import fc from "fast-check";
import { parse } from "smol-toml";
import { checkDeployment, DEPLOYMENT_FINDINGS } from "../../../src/cli/deploy/check-deployment.ts";
import { wranglerConfig } from "../../../src/cli/local-edge/wrangler-config.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { run, runHere } from "../support.ts";

const ROOT = new URL("../../../", import.meta.url);
const published = readFileSync(new URL("wrangler.toml", ROOT), "utf8");
const own = wranglerConfig();
const SECRETS = ["KEYS", "ADMIN_TOKEN"];

/** The published configuration with the one setting that every edge needs. */
const good = withVars({ RELAY_NAME: "edge.example.com" });

function withVars(vars: Readonly<Record<string, string>>, text = published): string {
  return Object.entries(vars).reduce((changed, [name, value]) => {
    const line = new RegExp(`^${name} = .*$`, "m");
    const written = `${name} = ${JSON.stringify(value)}`;
    return line.test(changed) ? changed.replace(line, written) : changed.replace("[vars]\n", `[vars]\n${written}\n`);
  }, text);
}

function codes(text: string, secrets: readonly string[] | undefined = SECRETS, environment?: string): string[] {
  return checkDeployment({ config: parse(text), secrets, environment, own }).map(({ code }) => code);
}

describe("a configuration to deploy", () => {
  it("is refused as published, because the edge has no name, and for nothing else", () => {
    assert.deepEqual(codes(published), ["NoName"]);
    assert.deepEqual(codes(good), []);
  });

  for (const [what, code, text] of [
    ["shows a secret", "SecretInVars", withVars({ ADMIN_TOKEN: "operator" }, good)],
    ["has a misspelt setting", "UnknownSetting", withVars({ RELAY_NAMES: "x" }, good)],
    ["has a number for a setting", "SettingNotText", good.replace('STREAM_RESUME = ""', "STREAM_RESUME = 600")],
    ["names the machine that asks", "NameOfThisMachine", withVars({ RELAY_NAME: "edge.example.com localhost" })],
    ["permits what is for development", "DevelopmentInProduction", withVars({ DEV: "private" }, good)],
    ["trusts proxies that Cloudflare replaces", "ProxiesOnCloudflare", withVars({ TRUSTED_PROXIES: "10.0.0.1" }, good)],
    ["lacks an object", "ObjectMissing", good.replace('name = "COLLECTOR"', 'name = "COLLECTORS"')],
    [
      "has an object with other storage",
      "ObjectNotSqlite",
      good.replace('storage = "sqlite"', 'storage = "legacy-kv"'),
    ],
    ["has an old date", "DateTooOld", good.replace(/compatibility_date = ".*"/, 'compatibility_date = "2024-01-01"')],
    ["lacks a flag that its date needs", "FlagMissing", good.replace(/compatibility_flags = .*/, "")],
    ["lets a request make few calls", "SubrequestsTooFew", good.replace("10_000_000", "1_000")],
    ["allows strangers' relays", "WildcardRelays", withVars({ ORIGIN_RELAYS: "*" }, good)],
    ["fetches keys in the clear", "InsecureKeys", withVars({ JWKS_URL: "http://keys.example.com/" }, good)],
    ["has a rate that cannot be read", "MalformedRate", withVars({ RATE: "much" }, good)],
    [
      "links across the internet without a secret",
      "LinkInClear",
      withVars({ ORIGIN_RELAYS: "relay.example.com", LINKS: "relay.example.com" }, good),
    ],
  ] as const) {
    it(`is refused if it ${what}: ${code}`, () => {
      const found = codes(text);
      assert.ok(found.includes(code), found.join());
      const [finding] = checkDeployment({ config: parse(text), secrets: SECRETS, own }).filter(
        (one) => one.code === code,
      );
      assert.match(finding?.text ?? "", /: |, /);
    });
  }

  it("is refused without keys only if it is known that there are none", () => {
    assert.deepEqual(codes(good, ["ADMIN_TOKEN"]), ["NoKeys"]);
    assert.deepEqual(checkDeployment({ config: parse(good), own }), []);
    assert.deepEqual(codes(withVars({ JWKS_URL: "https://keys.example.com/" }, good), []), []);
  });

  it("is that of the environment which is deployed", () => {
    const text = `${good}\n[env.test.vars]\nRELAY_NAME = "test.example.com"\nDEV = "1"\n`;
    const found = codes(text, SECRETS, "test");
    assert.ok(found.includes("DevelopmentInProduction") && found.includes("ObjectMissing"), found.join());
    assert.deepEqual(codes(text), []);
  });

  it("may be any document", () => {
    fc.assert(
      fc.property(fc.anything(), fc.option(fc.string(), { nil: undefined }), (config, environment) => {
        const found = checkDeployment({ config, environment, secrets: [], own });
        return found.length > 0;
      }),
    );
  });
});

describe("grooveway deploy check", () => {
  const folder = temporaryFolder();
  const file = (name: string, text: string) => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };

  it("prints what to change, and exits so that nothing is deployed", async () => {
    const bad = file("bad.toml", withVars({ DEV: "1", RATE: "much" }, good));
    const { code, stderr } = await runHere(["deploy", "check", "--config", bad]);
    assert.equal(code, 2);
    for (const name of ["DevelopmentInProduction", "MalformedRate"]) assert.match(stderr, new RegExp(`\\[${name}\\]`));
    assert.match(stderr, /\[InsecureEdge\]/);
    const { code: fine, stdout } = await runHere(["deploy", "check", "--config", file("good.toml", good)]);
    assert.equal(fine, 0);
    assert.match(stdout, /can be deployed; the secrets are not judged/);
  });

  it("reads the list of secrets as wrangler prints it", async (t) => {
    const at = file("good.toml", good);
    const list = JSON.stringify([{ name: "KEYS", type: "secret_text" }]);
    const piped = await run(t, ["deploy", "check", "--config", at, "--secrets", "-", "--json"], list);
    assert.deepEqual([piped.code, JSON.parse(piped.stdout)], [0, { ok: true, findings: [] }]);
    const none = await runHere(["deploy", "check", "--config", at, "--secrets", file("none.json", "[]")]);
    assert.match(none.stderr, /\[NoKeys\]/);
    const wrong = await runHere(["deploy", "check", "--config", at, "--secrets", file("wrong.json", "{")]);
    assert.match(wrong.stderr, /is not the JSON of wrangler secret list.*\[ConfigUnusable\]/);
  });

  it("runs before npm run deploy", () => {
    const { scripts } = JSON.parse(readFileSync(new URL("package.json", ROOT), "utf8"));
    assert.match(scripts.predeploy, /deploy check/);
    assert.equal(scripts.deploy, "wrangler deploy");
  });

  it("has each of its findings in the README", () => {
    const readme = readFileSync(new URL("README.md", ROOT), "utf8");
    for (const code of DEPLOYMENT_FINDINGS) assert.ok(readme.includes(`\`${code}\``), code);
  });
});
