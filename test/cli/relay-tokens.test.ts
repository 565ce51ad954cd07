/** `grooveway relay` with keys: devices present tokens. */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { folder, run, runHere, start } from "./support.ts";

test("relay --keys accepts a device with a token, and tells others why not", { timeout: 300_000 }, async (context) => {
  const out = await folder(context);
  const file = (name: string) => join(out, name);
  const keys = await runHere(["token", "keygen", "--out", file("key.json")]);
  await writeFile(file("keys.json"), keys.stdout);
  await writeFile(file("revoked.txt"), "# out of use\ngone\n");
  const issue = async (address: string, ...more: readonly string[]) => {
    const who = ["--audience", "127.0.0.1", "--address", address, "--scope", "connect receive send:*", ...more];
    const { stdout } = await runHere(["token", "issue", "--key", file("key.json"), "--expires", "1h", ...who]);
    await writeFile(file("token"), stdout.trim());
    return ["--token", `@${file("token")}`];
  };
  const relay = start(context, ["relay", "--port", "0", "--keys", file("keys.json"), "--revoked", file("revoked.txt")]);
  const [said, port = ""] = await relay.line(/relay listens on 127\.0\.0\.1:([0-9]+)/);
  assert.doesNotMatch(said, /anyone/);
  const send = (...more: readonly string[]) =>
    run(context, ["send", "--relay", `127.0.0.1:${port}`, "--as", "alice/pc", ...more, "bob", "package.json"]);
  assert.match((await send()).stderr, /the relay requires a token: .*--token @FILE.*\[TokenNeeded\]/);
  assert.match(
    (await send(...(await issue("carol/pc")))).stderr,
    /is for the address carol\/pc, but this device is alice\/pc: use an address of the token \(--as\).*\[ScopeMissing\]/,
  );
  assert.match((await send(...(await issue("alice/pc", "--id", "gone")))).stderr, /\[TokenRevoked\]/);
  const sent = await send(...(await issue("alice/pc")));
  assert.equal(sent.code, 0, sent.stderr);
});

test("relay rejects token settings that are unsafe or contradictory", async (context) => {
  for (const [options, message] of [
    [["--jwks-url", "http://example.com/keys"], /--jwks-url is not an https URL.*\[InsecureRelay\]/],
    [
      ["--keys", "keys.json", "--jwks-url", "https://example.com/"],
      /--keys and --jwks-url exclude each other: give one/,
    ],
    [["--revoked", "package.json"], /needs --keys or --jwks-url/],
    [["--keys", "package.json"], /is not a usable key set.*\[KeysUnusable\]/],
  ] as const) {
    const { code, stderr } = await runHere(["relay", "--port", "0", ...options]);
    assert.notEqual(code, 0);
    assert.match(stderr, message);
  }
  const open = start(context, ["relay", "--port", "0"]);
  await open.line(/anyone may use it: give --keys FILE/);
});
