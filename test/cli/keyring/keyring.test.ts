/** The key of this user's devices, and the keys that they trust. */
import assert from "node:assert/strict";
import { chmodSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { FileKeyring, type KeyringOptions, type TrustNews } from "../../../src/cli/keyring/file-keyring.ts";
import {
  formatTrust,
  isAccepted,
  matchesAddress,
  PENDING,
  parseTrust,
  pinOf,
  type TrustLine,
  withAccepted,
  withoutAccepted,
  withoutPin,
  withPending,
  withPin,
} from "../../../src/cli/keyring/trust-text.ts";
import { formatFingerprint, parseFingerprint } from "../../../src/device/index.ts";
import { folder, run, runHere, withVariables } from "../support.ts";

const key = (octet: number) => new Uint8Array(32).fill(octet);

/** Runs a command in that folder. */
function command(t: TestContext, ...args: string[]) {
  return run(t, args, undefined, { XDG_CONFIG_HOME: process.env.XDG_CONFIG_HOME });
}

/** Runs with a folder of profiles of its own. */
async function inFolder(t: TestContext, act: (path: string) => Promise<void> | void): Promise<void> {
  const path = await folder(t);
  await withVariables({ XDG_CONFIG_HOME: path }, async () => act(join(path, "grooveway")));
}

describe("the text of trusted keys", () => {
  it("is read as it was written", () => {
    const lines: TrustLine[] = [
      { kind: "accept", address: "alice/*", key: key(1) },
      { kind: "pin", address: "office/desk@relay.example.com:2493", key: key(2) },
      { kind: "pending", address: "eve/pc", key: key(3) },
    ];
    assert.deepEqual(parseTrust(formatTrust(lines)), { ok: true, value: lines });
  });

  for (const line of [
    "accept alice",
    `trust alice ${formatFingerprint(key(1))}`,
    `pin a/b/c ${formatFingerprint(key(1))}`,
  ]) {
    it(`refuses ${line.slice(0, 20)}, and names the line`, () => {
      const parsed = parseTrust(`# comment\n\n${line}\n`);
      assert.ok(!parsed.ok && parsed.problems.startsWith("line 3 "));
    });
  }

  it("matches all devices of an identity, but not those of another relay", () => {
    assert.deepEqual(
      ["alice/pc", "alice/pc@relay", "alicea/pc"].map((address) => matchesAddress("alice", address)),
      [true, false, false],
    );
    assert.ok(matchesAddress("alice/*@relay", "alice/pc@relay"));
    assert.ok(!matchesAddress("alice/pc", "alice/pc2"));
  });

  it("needs the address and the key", () => {
    const lines = withAccepted([], "alice/pc", key(1));
    assert.deepEqual(
      [
        isAccepted(lines, "alice/pc", key(1)),
        isAccepted(lines, "alice/pc", key(2)),
        isAccepted(lines, "bob/pc", key(1)),
      ],
      [true, false, false],
    );
  });

  it("lets no device in because it is pinned, and keeps a pin while the device is let in or not", () => {
    let lines = withPin([], "office/desk", key(1));
    assert.ok(!isAccepted(lines, "office/desk", key(1)));
    lines = withPin(lines, "office/desk", key(2));
    assert.deepEqual([lines.length, pinOf(lines, "office/desk")], [1, key(2)]);
    lines = withAccepted(lines, "office/desk", key(3));
    assert.deepEqual(pinOf(lines, "office/desk"), key(2));
    assert.deepEqual(
      [2, 3].map((octet) => isAccepted(lines, "office/desk", key(octet))),
      [false, true],
    );
    lines = withoutAccepted(lines, "office/desk");
    assert.deepEqual(lines, [{ kind: "pin", address: "office/desk", key: key(2) }]);
    assert.deepEqual(withoutPin(withAccepted(lines, "office/desk", key(3)), "office/desk"), [
      { kind: "accept", address: "office/desk", key: key(3) },
    ]);
  });

  it("takes the only key that is accepted for one device as its pin until there is one", () => {
    const accepted = withAccepted([], "alice/pc", key(1));
    assert.deepEqual(pinOf(accepted, "alice/pc"), key(1));
    assert.deepEqual(pinOf(withPin(accepted, "alice/pc", key(2)), "alice/pc"), key(2));
    // Written by hand.
    assert.equal(pinOf([...accepted, { kind: "accept", address: "alice/pc", key: key(2) }], "alice/pc"), undefined);
    for (const pattern of ["alice", "alice/*", "alice/p*"]) {
      const lines = withAccepted([], pattern, key(1));
      assert.deepEqual([pinOf(lines, "alice/pc"), pinOf(lines, pattern)], [undefined, undefined]);
    }
  });

  it("remembers a bounded number of strangers", () => {
    let lines: readonly TrustLine[] = withAccepted([], "alice/pc", key(1));
    for (let n = 0; n < 2 * PENDING; n += 1) lines = withPending(lines, `eve/${n}`, key(2));
    assert.equal(lines.filter(({ kind }) => kind === "pending").length, PENDING);
    assert.equal(lines.at(-1)?.address, `eve/${2 * PENDING - 1}`);
    assert.ok(isAccepted(lines, "alice/pc", key(1)));
  });
});

describe("the keyring of a user", () => {
  it("makes a key on first use, which only the user can read, and keeps it", async (t) => {
    await inFolder(t, (path) => {
      const { publicKey } = new FileKeyring();
      assert.equal(statSync(join(path, "device.key")).mode & 0o777, 0o600);
      assert.deepEqual(new FileKeyring().publicKey, publicKey);
    });
  });

  it("does not use a key that others can read, or that is none", async (t) => {
    await inFolder(t, (path) => {
      new FileKeyring();
      chmodSync(join(path, "device.key"), 0o644);
      assert.throws(() => new FileKeyring(), { code: "ConfigUnusable" });
      chmodSync(join(path, "device.key"), 0o600);
      writeFileSync(join(path, "device.key"), "nothing\n");
      assert.throws(() => new FileKeyring(), { code: "ConfigUnusable" });
    });
  });

  it("does not trust a file that others can change", async (t) => {
    await inFolder(t, (path) => {
      mkdirSync(path, { recursive: true });
      writeFileSync(join(path, "trust"), "");
      chmodSync(join(path, "trust"), 0o666);
      assert.throws(() => new FileKeyring(), { code: "ConfigUnusable" });
    });
  });

  it("pins a device on first use, and refuses another key from then on", async (t) => {
    await inFolder(t, () => {
      const told: TrustNews[] = [];
      const keyring = new FileKeyring({ tell: (line) => told.push(line) });
      assert.equal(keyring.meet("office/desk", key(1)), undefined);
      assert.deepEqual(new FileKeyring().pinned("office/desk"), key(1));
      assert.equal(keyring.meet("office/desk", key(1)), undefined);
      assert.equal(keyring.meet("office/desk", key(2)), "ChangedKey");
      assert.deepEqual(told, [
        { kind: "pin", address: "office/desk", key: key(1) },
        { kind: "changed", address: "office/desk", key: key(2) },
      ]);
    });
  });

  it("refuses a stranger, remembers it, and admits it when it is accepted by another command", async (t) => {
    await inFolder(t, async () => {
      const keyring = new FileKeyring();
      assert.equal(keyring.admit("alice/pc", key(1)), "UnknownKey");
      const pending = await command(t, "trust", "--pending");
      assert.match(pending.stdout, new RegExp(`^pending  ${formatFingerprint(key(1))}  alice/pc$`, "m"));
      assert.equal((await command(t, "trust", "alice/pc", formatFingerprint(key(1)))).code, 0);
      assert.equal(keyring.admit("alice/pc", key(1)), undefined);
      assert.equal((await command(t, "trust", "--pending")).stdout, "");
      assert.equal((await command(t, "trust", "--remove", "alice/pc")).code, 0);
      assert.equal(keyring.admit("alice/pc", key(1)), "UnknownKey");
    });
  });

  it("tells when trust was changed by another command", async (t) => {
    await inFolder(t, async () => {
      const keyring = new FileKeyring();
      const changed = Promise.withResolvers<void>();
      const stop = keyring.onWithdrawn(() => changed.resolve());
      const alive = setTimeout(() => undefined, 60_000);
      await command(t, "trust", "alice/pc", formatFingerprint(key(1)));
      await changed.promise;
      clearTimeout(alive);
      stop();
    });
  });

  it("accepts the first key of an address, and no second, if it is told to", async (t) => {
    await inFolder(t, () => {
      const options: KeyringOptions = { acceptNew: true };
      assert.equal(new FileKeyring(options).admit("alice/pc", key(1)), undefined);
      assert.equal(new FileKeyring(options).admit("alice/pc", key(2)), "UnknownKey");
    });
  });
});

describe("grooveway trust", () => {
  const [first, second] = [formatFingerprint(key(1)), formatFingerprint(key(2))];

  it("says that a pin lets nobody in", async (t) => {
    await inFolder(t, async () => {
      const pinned = await command(t, "trust", "--pin", "office/desk", first);
      assert.deepEqual([pinned.code, pinned.stderr], [0, ""]);
      assert.equal(
        pinned.stdout,
        `office/desk must have the key ${first} when it is dialed
opening streams here is another matter: it may not
`,
      );
      const keyring = new FileKeyring();
      assert.equal(keyring.admit("office/desk", key(1)), "UnknownKey");
      assert.equal(keyring.meet("office/desk", key(1)), undefined);
      assert.equal(keyring.meet("office/desk", key(2)), "ChangedKey");
    });
  });

  it("says with which key a device is still let in when another is pinned, and the reverse", async (t) => {
    await inFolder(t, async () => {
      assert.equal(
        (await command(t, "trust", "alice/pc", first)).stdout,
        `alice/pc may open streams here with the key ${first}\n`,
      );
      const pinned = await command(t, "trust", "--pin", "alice/pc", second);
      assert.match(
        pinned.stdout,
        new RegExp(`another matter: it may with the key ${first}, until you give --remove alice/pc\\n$`),
      );
      const accepted = await command(t, "trust", "alice/pc", first);
      assert.match(
        accepted.stdout,
        new RegExp(`when it is dialed it must still have the key ${second}, unless you give --pin\\n$`),
      );
      assert.match((await command(t, "trust", "--pin", "alice/pc", first)).stdout, /it may, with this key\n$/);
      const keyring = new FileKeyring();
      assert.equal(keyring.admit("alice/pc", key(1)), undefined);
      assert.equal((await command(t, "trust", "--remove", "alice/pc")).code, 0);
      assert.equal(keyring.admit("alice/pc", key(1)), "UnknownKey");
      assert.deepEqual(keyring.pinned("alice/pc"), key(1));
      assert.equal((await command(t, "trust", "--unpin", "alice/pc")).code, 0);
      assert.equal(keyring.pinned("alice/pc"), undefined);
    });
  });
});

describe("grooveway id and trust", () => {
  it("show the fingerprint of the key", async (t) => {
    await inFolder(t, async (path) => {
      const { code, stdout } = await command(t, "id");
      assert.deepEqual([code, parseFingerprint(stdout.trim())], [0, new FileKeyring().publicKey]);
      assert.ok(!readFileSync(join(path, "device.key"), "utf8").includes(stdout.trim()));
    });
  });

  for (const args of [
    ["trust", "alice/pc"],
    ["trust", "alice/pc", "abcd"],
    ["trust", "a/b/c", formatFingerprint(key(1))],
    ["trust", "--remove", "nobody"],
    ["trust", "--pending", "alice"],
    ["trust", "--pin"],
    ["trust", "--pin", "alice", formatFingerprint(key(1))],
    ["trust", "--pin", "alice/*", formatFingerprint(key(1))],
    ["trust", "--unpin", "alice/pc"],
    ["trust", "--pin", "--remove", "alice/pc"],
    ["id", "alice"],
  ]) {
    it(`refuse ${args.join(" ").slice(0, 40)}`, async (t) => {
      await inFolder(t, async () => assert.equal((await runHere(args)).code, 2));
    });
  }
});
