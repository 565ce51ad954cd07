/** Keys, tokens and an edge that requires them, on the command line. */
import assert from "node:assert/strict";
import { readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { decodeJwt, decodeProtectedHeader } from "jose";
import { EXIT_CODES } from "../../../src/cli/exit-codes.ts";
import { Device } from "../../../src/device/index.ts";
import { folder, run, runHere, start } from "../support.ts";

/** Runs `grooveway token`, and fails if it does. */
async function token(...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await runHere(["token", ...args]);
  assert.equal(code, 0, stderr);
  return stdout.trim();
}

async function keyIn(context: TestContext): Promise<{ at: string; key: string; keys: string }> {
  const at = await folder(context);
  const [key, keys] = [join(at, "key.json"), join(at, "keys.json")];
  await writeFile(keys, await token("keygen", "--out", key));
  return { at, key, keys };
}

const FOR = ["--audience", "127.0.0.1"];
const ALICE = [...FOR, "--address", "alice/*", "--scope", "connect receive send:*"];

describe("grooveway token", () => {
  it("keygen prints no private key and writes it to a private file", async (context) => {
    const { key, keys } = await keyIn(context);
    const secret = JSON.parse(await readFile(key, "utf8"));
    const [shown, ...more] = JSON.parse(await readFile(keys, "utf8")).keys;
    assert.deepEqual(Object.keys(shown).sort(), ["alg", "crv", "kid", "kty", "x"]);
    assert.equal(more.length, 0);
    assert.deepEqual({ ...shown, d: secret.d }, secret);
    assert.equal((await stat(key)).mode & 0o777, 0o600);
    const again = await runHere(["token", "keygen", "--out", key]);
    assert.equal(again.code, EXIT_CODES.CannotWrite.status);
    assert.match(again.stderr, /never overwritten.*\[CannotWrite\]/);
    assert.equal(JSON.parse(await readFile(key, "utf8")).d, secret.d);
    assert(!`${again.stdout}${again.stderr}`.includes(secret.d));
  });

  it("keygen adds a key to a key set under a new kid", async (context) => {
    const { at, keys } = await keyIn(context);
    assert.equal(await token("keygen", "--out", join(at, "second.json"), "--keys", keys, "--id", "two"), "");
    const kids = JSON.parse(await readFile(keys, "utf8")).keys.map(({ kid }: { kid: string }) => kid);
    assert.equal(kids.length, 2);
    assert.equal(kids[1], "two");
    const third = ["token", "keygen", "--out", join(at, "third.json"), "--keys", keys, "--id", "two"];
    assert.match((await runHere(third)).stderr, /already has a key with the kid two/);
    await assert.rejects(stat(join(at, "third.json")), { code: "ENOENT" });
  });

  it("issue makes a token with the requested claims", async (context) => {
    const { key } = await keyIn(context);
    const options = [...ALICE, "--expires", "90s", "--id", "one", "--subject", "Alice's laptop"];
    const made = await token("issue", "--key", key, ...options);
    const { kid } = JSON.parse(await readFile(key, "utf8"));
    assert.deepEqual(decodeProtectedHeader(made), { alg: "EdDSA", typ: "JWT", kid });
    const { iat = 0, exp = 0, ...claims } = decodeJwt(made);
    assert.deepEqual(claims, {
      address: "alice/*",
      scope: "connect receive send:*",
      aud: "127.0.0.1",
      jti: "one",
      sub: "Alice's laptop",
    });
    assert(Math.abs(exp - iat - 90) <= 1 && Math.abs(iat * 1000 - Date.now()) < 60_000);
    const [first, second] = await Promise.all(
      [1, 2].map(async () => JSON.parse(await token("issue", "--key", key, ...ALICE, "--json"))),
    );
    assert.notEqual(first.id, second.id, "an id is generated when none is given");
    assert.equal(decodeJwt(first.token).jti, first.id);
  });

  it("inspect prints a token and verifies it as an edge does", async (context) => {
    const { at, key, keys } = await keyIn(context);
    const made = await token("issue", "--key", key, ...ALICE, "--id", "one");
    assert.match(await token("inspect", made), /^jti +one\n(.*\n)*not verified/m);
    assert.match(await token("inspect", made, "--keys", keys), /verified: an edge/);
    const file = join(at, "one.token");
    await writeFile(file, `${made}\n`);
    assert.equal(JSON.parse(await token("inspect", `@${file}`, "--keys", keys, "--json")).verified, true);
    const other = await keyIn(context);
    const signature = made.slice(made.lastIndexOf(".") + 1);
    for (const [args, expected] of [
      [[made, "--keys", other.keys], /\[TokenInvalid\]$/m],
      [[made, "--keys", keys, "--audience", "edge.example.com"], /\[WrongAudience\]$/m],
      [[made.slice(0, 20)], /check that it is complete.*\[TokenInvalid\]/],
    ] as const) {
      const { code, stdout, stderr } = await runHere(["token", "inspect", ...args]);
      assert.equal(code, EXIT_CODES.Refused.status);
      assert.match(stderr, expected);
      assert(!`${stdout}${stderr}`.includes(signature), "no usable token is shown");
    }
  });

  it("reports invalid arguments and files", async (context) => {
    const { at, key, keys } = await keyIn(context);
    const issue = ["issue", "--key", key, ...FOR];
    const short = join(at, "short.json");
    await writeFile(short, JSON.stringify({ kty: "OKP", crv: "Ed25519", d: "AAAA", x: "AAAA" }));
    for (const [args, code, expected] of [
      [[], 2, /write keygen, issue, inspect or secret after token/],
      [["sign"], 2, /"sign" is not one of/],
      [["keygen"], 2, /--out FILE/],
      [["keygen", "x", "--out", join(at, "x")], 2, /"x" is one argument too many/],
      [["inspect"], 2, /needs a TOKEN/],
      [["issue", "--key", key, "--scope", "connect"], 2, /--audience NAME/],
      [issue, 2, /--scope/],
      [[...issue, "--scope", "connect"], 2, /--address/],
      [[...issue, "--scope", "connect recieve", "--address", "a/b"], 2, /recieve is not a scope/],
      [[...issue, "--scope", "send:a/b/c", "--address", "a/b"], 2, /more than one \//],
      [[...issue, "--scope", "admin", "--expires", "soon"], 2, /--expires soon is not a time/],
      [
        ["issue", "--key", "/nowhere", ...ALICE],
        EXIT_CODES.CannotRead.status,
        /there is no file \/nowhere: check the path \[CannotRead\]/,
      ],
      [["issue", "--key", keys, ...ALICE], 2, /neither a private Ed25519 key nor.*\[KeysUnusable\]/],
      [["issue", "--key", short, ...ALICE], 2, /the key is damaged.*\[KeysUnusable\]/],
    ] as const) {
      const done = await runHere(["token", ...args]);
      assert.equal(done.code, code, args.join(" "));
      assert.match(done.stderr, expected);
      assert.equal(done.stderr.trim().split("\n").length, 1, done.stderr);
    }
  });
});

describe("an edge with keys", () => {
  it("accepts devices with a token, and follows changes of its files", async (context) => {
    const { at, key, keys } = await keyIn(context);
    const revoked = join(at, "revoked");
    await writeFile(revoked, "# nobody yet\n");
    const edge = start(context, ["edge", "--port", "0", "--keys", keys, "--revoked", revoked]);
    const [, url = ""] = await edge.line(/edge listens on (\S+)\nmailboxes are lost/);
    const out = join(at, "out");
    const tokenFile = async (name: string, ...options: string[]) => {
      const file = join(at, `${name}.token`);
      await writeFile(file, await token("issue", "--id", name, ...FOR, ...options));
      return `@${file}`;
    };
    const [alice, bob] = await Promise.all([
      tokenFile("alice", "--key", key, "--address", "alice/pc", "--scope", "connect send:bob/*"),
      tokenFile("bob", "--key", key, "--address", "bob/laptop", "--scope", "connect receive"),
    ]);
    const send = (as: string, to: string, ...options: string[]) =>
      run(context, ["send", "--edge", url, "--as", as, ...options, to, "package.json"]);

    const sent = await send("alice/pc", "bob/laptop", "--token", alice);
    assert.equal(sent.code, 0, sent.stderr);
    const received = await run(context, ["recv", "--edge", url, "--as", "bob/laptop", "--token", bob, "--out", out]);
    assert.equal(received.code, 0, received.stderr);
    assert.deepEqual(await readFile(join(out, "package.json")), await readFile("package.json"));

    for (const [done, expected] of await Promise.all([
      send("alice/pc", "bob/laptop").then((done) => [done, /\[TokenNeeded\]$/m] as const),
      send("alice/pc", "carol/x", "--token", alice).then(
        (done) => [done, /lacks the scope send:carol\/x: .*\[ScopeMissing\]$/m] as const,
      ),
      send("eve/pc", "bob/laptop", "--token", alice).then((done) => [done, /\[ScopeMissing\]$/m] as const),
      run(context, ["recv", "--edge", url, "--as", "alice/pc", "--token", alice]).then(
        (done) => [done, /scope receive.*\[TokenRefused\]/] as const,
      ),
    ])) {
      assert.equal(done.code, EXIT_CODES.Refused.status, done.stdout);
      assert.match(done.stderr, expected);
    }

    // A new key is known at once, a revoked token within a minute.
    const second = join(at, "second.json");
    await token("keygen", "--out", second, "--keys", keys);
    const renewed = await tokenFile("renewed", "--key", second, "--address", "alice/pc", "--scope", "connect send:*");
    // The key set was fetched a moment ago, and may be fetched again. An edge that runs as a command has no other clock.
    await sleep(5000);
    const again = await send("alice/pc", "bob/laptop", "--token", renewed);
    assert.equal(again.code, 0, again.stderr);
    await writeFile(revoked, "renewed\n");
    const connects = async () => {
      const token = (await readFile(renewed.slice(1), "utf8")).trim();
      const connecting = Device.connect({ edge: url, address: "alice/pc", token, receive: false });
      return connecting.then(
        (device) => device.close().then(() => true),
        () => false,
      );
    };
    const until = Date.now() + 60_000;
    while ((await connects()) && Date.now() < until) await sleep(1000);
    assert.match((await send("alice/pc", "bob/laptop", "--token", renewed)).stderr, /\[TokenRevoked\]$/m);
    assert.equal((await send("alice/pc", "bob/laptop", "--token", alice)).code, 0, "the others stay connected");
  });

  it("does not start with unusable keys", async (context) => {
    const { at, key, keys } = await keyIn(context);
    const list = join(at, "list");
    await writeFile(list, "[1]");
    for (const [args, code, expected] of [
      [["--keys", key], EXIT_CODES.Usage.status, /is not a usable key set.*\[KeysUnusable\]/],
      [
        ["--keys", join(at, "none")],
        EXIT_CODES.CannotRead.status,
        /there is no file .*: check the path.*\[CannotRead\]/,
      ],
      [["--keys", keys, "--revoked", list], EXIT_CODES.CannotRead.status, /is not a list of token ids.*\[CannotRead\]/],
      [["--revoked", list], 2, /--revoked needs --keys/],
    ] as const) {
      const done = await runHere(["edge", "--port", "0", ...args]);
      assert.equal(done.code, code, args.join(" "));
      assert.match(done.stderr, expected);
    }
  });
});
