/** Receiving files on the real disk: a table with one row for each kind of name, mode and attack. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { FileReceiver, type FileReceiverOptions, type Outcome } from "../../../src/cli/files/file-receiver.ts";
import { listLeftOvers, removeLeftOvers } from "../../../src/cli/files/left-overs.ts";
import { cancelMessage, type TransferMessage, UNFINISHED_OF_SENDER } from "../../../src/transfer/index.ts";
import { makeReadOnly } from "../support.ts";
import { arriving, partsOf, sha256, transferOf, wholeOf } from "./transfer-support.ts";

const root = await mkdtemp(join(tmpdir(), "grooveway-receiver-"));
after(() => rm(root, { recursive: true, force: true }));

let folders = 0;

/** A receiver with its own folders. */
async function receiver(options: Partial<FileReceiverOptions> = {}) {
  folders += 1;
  const base = join(root, String(folders));
  const where = { out: join(base, "out"), state: join(base, "state"), umask: 0o022, ...options };
  return { ...where, base, files: await FileReceiver.open(where) };
}

async function take(files: FileReceiver, message: TransferMessage | Uint8Array, from?: string): Promise<Outcome> {
  let done = 0;
  const outcome = await files.take(arriving(message, { ...(from !== undefined && { from }), done: () => (done += 1) }));
  assert.equal(done, 1, "acknowledged once");
  return outcome;
}

/** Paths below a folder, except folders for unfinished transfers. */
async function tree(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .filter((path) => !path.startsWith(".grooveway/transfers/"))
    .sort();
}

describe("a received file", () => {
  it("in one message has its contents, time and mode, and is stored once", async () => {
    const { files, out } = await receiver();
    const whole = wholeOf(1, "report.pdf", "contents", { modified: 1_600_000_000_000, mode: 0o6755 });
    const first = await take(files, whole);
    const path = join(out, "report.pdf");
    assert.deepEqual(first, {
      kind: "received",
      file: {
        from: "alice/pc",
        vouched: true,
        transfer: transferOf(1),
        name: "report.pdf",
        path,
        bytes: 8,
        sha256: sha256(Buffer.from("contents")),
        elsewhere: false,
      },
    });
    assert.equal((await take(files, whole)).kind, "repeated");
    await files.close();
    const { mode, mtimeMs } = await stat(path);
    assert.deepEqual([mode & 0o7777, mtimeMs], [0o755, 1_600_000_000_000]);
    assert.equal(await readFile(path, "utf8"), "contents");
    assert.deepEqual(await tree(out), ["report.pdf"]);
  });

  it("in parts is stored once, in whatever order the parts arrive", async () => {
    const { files, out } = await receiver();
    const contents = randomBytes(3_000_000);
    const [begin, ...rest] = partsOf({ transfer: transferOf(2), name: "a/b/c.bin", mode: 0o4711 }, contents, 300_000);
    const end = rest.pop();
    assert.ok(begin && end);
    assert.equal((await take(files, begin)).kind, "kept");
    const kinds = await Promise.all([...rest.reverse(), ...rest].map((part) => take(files, part)));
    assert.ok(kinds.every(({ kind }) => kind === "kept" || kind === "repeated"));
    const outcome = await take(files, end);
    assert.equal(outcome.kind, "received");
    assert.equal((await take(files, end)).kind, "repeated");
    await files.close();
    assert.equal(sha256(await readFile(join(out, "a/b/c.bin"))), sha256(contents));
    assert.equal((await stat(join(out, "a/b/c.bin"))).mode & 0o7777, 0o711);
    assert.deepEqual(await tree(out), ["a/b/c.bin"]);
  });
});

describe("the mode of a received file", () => {
  const table: [string, number | undefined, number, number][] = [
    ["is the sender's", 0o750, 0o022, 0o750],
    ["has no setuid, setgid or sticky bit", 0o7777, 0o022, 0o755],
    ["has no bit that the umask clears", 0o777, 0o077, 0o700],
    ["is an ordinary one when the sender says none", undefined, 0o027, 0o640],
    ["may be for reading alone", 0o400, 0o022, 0o400],
  ];
  for (const [what, mode, umask, expected] of table) {
    it(what, async () => {
      const { files, out } = await receiver({ umask });
      const contents = Buffer.from("0123456789");
      const options = { transfer: transferOf(2), name: "parts", ...(mode !== undefined && { mode }) };
      await take(files, wholeOf(1, "whole", contents, mode === undefined ? {} : { mode }));
      for (const message of partsOf(options, contents, 5)) await take(files, message);
      await files.close();
      for (const name of ["whole", "parts"]) assert.equal((await stat(join(out, name))).mode & 0o7777, expected, name);
    });
  }
});

describe("names of received files", () => {
  /** What is sent in this order, and the files that result. */
  const table: [string, string[], string[]][] = [
    ["traversal stays inside", ["../../up.txt", "a/../../b.txt"], ["a/b.txt", "up.txt"]],
    ["an absolute path stays inside", ["/etc/passwd"], ["etc/passwd"]],
    ["control and bidirectional characters are replaced", ["\u001b[2Kx\u202Etxt.exe"], ["_[2Kx_txt.exe"]],
    ["a dot file is made visible", [".bashrc", ".ssh/id"], ["_bashrc", "_ssh/id"]],
    ["the folder for unfinished transfers is protected", [".grooveway/x.part"], ["_grooveway/x.part"]],
    ["a name in use is numbered", ["a.txt", "a.txt", "a.txt"], ["a (1).txt", "a (2).txt", "a.txt"]],
    ["a name that differs only in case is numbered", ["a.txt", "A.TXT"], ["A (1).TXT", "a.txt"]],
    ["a name that differs only in normalisation is numbered", ["\u00e9", "e\u0301"], ["e\u0301 (1)", "\u00e9"]],
    [
      "a folder that differs only in case is numbered",
      ["Docs/a", "docs/b", "docs/c"],
      ["Docs/a", "docs (1)/b", "docs (1)/c"],
    ],
    ["a file in place of a folder is kept", ["a", "a/b"], ["a", "a (1)/b"]],
    ["a folder in place of a file is kept", ["a/b", "a"], ["a (1)", "a/b"]],
    ["a long name is cut and keeps its suffix", [`${"漢".repeat(200)}.pdf`], [`${"漢".repeat(83)}.pdf`]],
  ];
  for (const [what, names, there] of table) {
    it(what, async () => {
      const { files, out } = await receiver();
      for (const [index, name] of names.entries()) {
        assert.equal((await take(files, wholeOf(index, name, name))).kind, "received");
      }
      await files.close();
      assert.deepEqual(await tree(out), there.sort());
    });
  }

  it("that arrive at the same time are each given to one file", async () => {
    const { files, out } = await receiver();
    const names = Array.from({ length: 40 }, (_, index) => (index % 2 === 0 ? "same.txt" : "SAME.txt"));
    await Promise.all(names.map((name, index) => take(files, wholeOf(index, name, String(index)))));
    await files.close();
    const paths = await tree(out);
    assert.equal(new Set(paths.map((path) => path.toLowerCase())).size, names.length);
    const contents = await Promise.all(paths.map((path) => readFile(join(out, path), "utf8")));
    assert.deepEqual(
      contents.map(Number).sort((a, b) => a - b),
      names.map((_, index) => index),
    );
  });

  it("keep a leading dot when allowed", async () => {
    const { files, out } = await receiver({ allowDotfiles: true });
    await take(files, wholeOf(1, ".config/x", ""));
    await files.close();
    assert.deepEqual(await tree(out), [".config/x"]);
  });

  it("never overwrite a user's file or follow a symbolic link", async () => {
    const { files, out, base } = await receiver();
    await mkdir(join(base, "elsewhere"));
    await writeFile(join(base, "target"), "mine");
    await symlink(join(base, "elsewhere"), join(out, "docs"));
    await symlink(join(base, "target"), join(out, "a.txt"));
    await symlink(join(base, "nothing"), join(out, "b.txt"));
    await take(files, wholeOf(1, "docs/x", "x"));
    await take(files, wholeOf(2, "a.txt", "a"));
    await take(files, wholeOf(3, "b.txt", "b"));
    await files.close();
    assert.deepEqual(await readdir(join(base, "elsewhere")), []);
    assert.equal(await readFile(join(base, "target"), "utf8"), "mine");
    assert.deepEqual(await tree(out), ["a (1).txt", "a.txt", "b (1).txt", "b.txt", "docs", "docs (1)/x"]);
  });

  it("stay in the same folder even if it is replaced by a symbolic link meanwhile", async () => {
    const { files, out, base } = await receiver();
    await take(files, wholeOf(1, "docs/x", "x"));
    await mkdir(join(base, "elsewhere"));
    await rename(join(out, "docs"), join(base, "moved"));
    await symlink(join(base, "elsewhere"), join(out, "docs"));
    await take(files, wholeOf(2, "docs/y", "y"));
    await files.close();
    assert.deepEqual(await readdir(join(base, "elsewhere")), []);
  });
});

describe("an incomplete or invalid transfer", () => {
  const contents = Buffer.from("0123456789");
  const parts = () =>
    partsOf({ transfer: transferOf(1), name: "a.bin" }, contents, 5) as [
      TransferMessage,
      TransferMessage,
      TransferMessage,
      TransferMessage,
    ];
  const hash = sha256(contents);
  const end = { type: "end", transfer: transferOf(1), size: 10, sha256: hash } as const;
  const begin = { type: "begin", transfer: transferOf(1), name: "a.bin", size: 10 } as const;
  const part = (offset: number, text: string) =>
    ({ type: "part", transfer: transferOf(1), offset, bytes: Buffer.from(text) }) as const;

  const table: [string, readonly TransferMessage[], string][] = [
    ["a part is missing", [begin, part(0, "01234"), end], "PartMissing"],
    ["its beginning is missing", [part(0, "01234"), part(5, "56789"), end], "PartMissing"],
    ["its contents differ", [begin, part(0, "01234"), part(5, "5678x"), end], "HashMismatch"],
    ["a part lies beyond the end", [begin, part(0, "01234"), part(8, "89abc"), end], "SizeMismatch"],
    ["a single-message file has another hash", [{ ...wholeOf(1, "a", "x"), sha256: hash }], "HashMismatch"],
    ["its name has more folders than any path", [wholeOf(1, `${"a/".repeat(65)}b`, "x")], "NameUnusable"],
  ];
  for (const [what, messages, reason] of table) {
    it(`is set aside with ${reason} when ${what}, blocks nothing, and is listed`, async () => {
      const { files, out, state } = await receiver();
      const outcomes: Outcome[] = [];
      for (const message of messages) outcomes.push(await take(files, message));
      const last = outcomes.at(-1);
      assert.equal(last?.kind === "setAside" && last.reason, reason);
      assert.ok(outcomes.slice(0, -1).every(({ kind }) => kind === "kept"));
      assert.equal((await take(files, wholeOf(2, "behind.txt", ""))).kind, "received");
      await files.close();
      assert.deepEqual(
        (await tree(out)).filter((path) => !path.startsWith(".")),
        ["behind.txt"],
      );
      const listed = await listLeftOvers({ out, state });
      assert.deepEqual(
        listed.map((one) => one.transfer),
        [transferOf(1)],
      );
      // Listing works without a run, and the reason of a single part is stored too.
      assert.equal(listed[0]?.reason, reason);
    });
  }

  it("is completed when the missing part arrives, in this run or a later one", async () => {
    for (const restarts of [false, true]) {
      const { files, out, state } = await receiver();
      const [first, one, two, last] = parts();
      for (const message of [first, one, last]) await take(files, message);
      let now = files;
      if (restarts) {
        await files.close();
        now = await FileReceiver.open({ out, state });
      }
      const outcome = await take(now, two);
      assert.equal(outcome.kind, "received");
      assert.equal((await take(now, last)).kind, "repeated");
      await now.close();
      assert.deepEqual(await listLeftOvers({ out, state }), []);
      assert.deepEqual(await readFile(join(out, "a.bin")), contents);
    }
  });

  it("is removed when the sender cancels it, and its late messages are dropped", async () => {
    const { files, out, state } = await receiver();
    const [first, one, two, last] = parts();
    for (const message of [first, one]) await take(files, message);
    const outcome = await take(files, cancelMessage(transferOf(1), "out of\npatience"));
    assert.ok(outcome.kind === "setAside" && outcome.reason === "Cancelled");
    assert.equal(outcome.detail, 'the sender says "out of\\npatience"');
    for (const message of [two, last, cancelMessage(transferOf(1), "again")]) {
      assert.equal((await take(files, message)).kind, "repeated");
    }
    await files.close();
    assert.deepEqual(await tree(out), []);
    assert.deepEqual(await listLeftOvers({ out, state }), []);
  });

  it("belongs to its sender: the same identifier of another sender is another transfer", async () => {
    const { files, out } = await receiver();
    const [first, one, two, last] = parts();
    for (const message of [first, one, two]) await take(files, message);
    const other = await take(files, last, "mallory/pc");
    assert.ok(other.kind === "setAside" && other.reason === "PartMissing");
    await take(files, cancelMessage(transferOf(1), "mine"), "mallory/pc");
    assert.equal((await take(files, last)).kind, "received");
    await files.close();
    assert.equal(await readFile(join(out, "a.bin"), "utf8"), "0123456789");
  });

  it("that is malformed is set aside as NotATransfer", async () => {
    const { files } = await receiver();
    const outcome = await take(files, Buffer.from("hello"));
    assert.ok(outcome.kind === "setAside" && outcome.reason === "NotATransfer");
    await files.close();
  });

  it("is removed by command, and its late messages are dropped", async () => {
    const { files, out, state } = await receiver();
    const [first, one, two, last] = parts();
    for (const message of [first, one]) await take(files, message);
    await files.close();
    assert.equal(await removeLeftOvers({ out, state }, ({ held }) => held === 5), 1);
    assert.deepEqual(await tree(out), []);
    const again = await FileReceiver.open({ out, state });
    for (const message of [two, last]) assert.equal((await take(again, message)).kind, "repeated");
    await again.close();
    assert.deepEqual(await tree(out), []);
  });

  it("that lacked only a writable folder is completed by a later run", async (context) => {
    const { files, out, state } = await receiver();
    await mkdir(join(out, "locked"));
    const unlock = makeReadOnly(context, join(out, "locked"));
    if (unlock === undefined) return;
    const outcome = await take(files, wholeOf(1, "locked/a.txt", "a"));
    assert.ok(outcome.kind === "setAside" && outcome.reason === "CannotWrite");
    await files.close();
    unlock();
    const again = await FileReceiver.open({ out, state });
    assert.deepEqual(
      (await again.retry()).map(({ kind }) => kind),
      ["received"],
    );
    await again.close();
    assert.equal(await readFile(join(out, "locked/a.txt"), "utf8"), "a");
  });

  it("is not started for a sender with too many, and other senders are unaffected", async () => {
    const { files: first, ...where } = await receiver();
    const beginning = (number: number) => ({ ...begin, transfer: transferOf(number) });
    await take(first, beginning(1));
    await first.close();
    // As if the others had been started as well.
    const folder = join(where.base, "state", "transfers");
    const [log = ""] = await readdir(folder);
    const [, line = ""] = (await readFile(join(folder, log), "utf8")).split("\n");
    const others = Array.from({ length: UNFINISHED_OF_SENDER - 1 }, (_, index) =>
      line.replace(/"key":"[0-9a-f]*"/, `"key":"${transferOf(index)}"`),
    );
    await writeFile(join(folder, log), `\n${others.join("\n")}\n`, { flag: "a" });
    const files = await FileReceiver.open(where);
    const outcome = await take(files, beginning(9999));
    assert.ok(outcome.kind === "setAside" && outcome.reason === "TooManyUnfinished");
    assert.equal((await take(files, { ...part(0, "x"), transfer: transferOf(9999) })).kind, "repeated");
    assert.equal((await take(files, beginning(9999), "bob/pc")).kind, "kept");
    assert.equal((await take(files, wholeOf(9998, "a", "a"))).kind, "received");
    await files.close();
  });
});

describe("an unfinished transfer", () => {
  it("is finished in its own folder by a run with another --out, with a notice", async () => {
    const { files, out, state, base } = await receiver();
    const contents = randomBytes(3000);
    const messages = partsOf({ transfer: transferOf(1), name: "a.bin" }, contents, 1000);
    for (const message of messages.slice(0, 2)) await take(files, message);
    await files.close();
    const other = await FileReceiver.open({ out: join(base, "other"), state });
    const outcomes: Outcome[] = [];
    for (const message of messages.slice(2)) outcomes.push(await take(other, message));
    const last = outcomes.at(-1);
    assert.ok(last?.kind === "received" && last.file.elsewhere);
    assert.equal(last.file.path, join(out, "a.bin"));
    await other.close();
    assert.equal(sha256(await readFile(join(out, "a.bin"))), sha256(contents));
    assert.deepEqual(await tree(join(base, "other")), []);
  });

  it("trusts only what can be read back from the disk", async () => {
    const { files, out, state } = await receiver();
    const messages = partsOf({ transfer: transferOf(1), name: "a.bin" }, randomBytes(3000), 1000);
    for (const message of messages.slice(0, -1)) await take(files, message);
    await files.close();
    const [part = ""] = (await tree(out)).filter((path) => path.endsWith(".part"));
    const bytes = await readFile(join(out, part));
    bytes[1500] = (bytes[1500] ?? 0) ^ 1;
    await writeFile(join(out, part), bytes);
    const again = await FileReceiver.open({ out, state });
    const outcome = await take(again, messages.at(-1) as TransferMessage);
    assert.ok(outcome.kind === "setAside" && outcome.reason === "PartMissing");
    assert.equal((await take(again, messages[2] as TransferMessage)).kind, "received");
    await again.close();
  });

  it("survives when more transfers arrive than files can be open", async () => {
    const { files, out } = await receiver();
    const all = Array.from({ length: 100 }, (_, number) =>
      partsOf({ transfer: transferOf(number), name: `${number}.bin` }, Buffer.from(`contents ${number}`), 4),
    );
    const longest = Math.max(...all.map((messages) => messages.length));
    for (let step = 0; step < longest; step += 1) {
      await Promise.all(all.flatMap((messages) => messages[step] ?? []).map((message) => take(files, message)));
    }
    const { length } = await readdir("/proc/self/fd").catch(() => []);
    assert.ok(length < 400, `${length} files are open`);
    await files.close();
    assert.equal((await tree(out)).length, 100);
    assert.equal(await readFile(join(out, "77.bin"), "utf8"), "contents 77");
  });
});

describe("an unusable folder for files", () => {
  const table: [string, string][] = [
    ["is a file", "file"],
    ["is below a file", "file/x"],
    ["is in /proc, where nothing can be created", "/proc/x/y"],
  ];
  for (const [what, path] of table) {
    it(`is rejected at once when it ${what}`, async () => {
      await writeFile(join(root, "file"), "");
      const out = path.startsWith("/") ? path : join(root, path);
      await assert.rejects(FileReceiver.open({ out, state: join(root, "s") }), {
        code: "CannotWrite",
        message: /choose another folder with --out DIR/,
      });
    });
  }
});
