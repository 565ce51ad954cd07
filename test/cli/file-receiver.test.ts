/** Receiving files on the real disk: a table, one row for each kind of name, mode and trick. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { FileReceiver, type FileReceiverOptions, type Outcome } from "../../src/cli/file-receiver.ts";
import type { TransferMessage } from "../../src/transfer/index.ts";
import { arriving, partsOf, sha256, transferOf, wholeOf } from "./transfer-support.ts";

const root = await mkdtemp(join(tmpdir(), "grooveway-receiver-"));
after(() => rm(root, { recursive: true, force: true }));

let folders = 0;

/** A receiver with folders of its own. */
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

/** Paths below a folder, folders for unfinished transfers left out. */
async function tree(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .filter((path) => !path.startsWith(".grooveway/transfers/"))
    .sort();
}

describe("a received file", () => {
  it("in one message has its contents, time and mode, and is there once", async () => {
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

  it("in parts is there once, whatever order they come in", async () => {
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
