/** Reading, sending and resuming files, with a device driven by the test. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import {
  appendFileSync,
  mkdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { FileSender, type FileSenderOptions, type MessageSender } from "../../../src/cli/files/file-sender.ts";
import { type FileToSend, filesAt, SourceFile } from "../../../src/cli/files/files-to-send.ts";
import type { Claim } from "../../../src/cli/files/send-journal.ts";
import { decodeMessage, PART_BYTES, type TransferMessage } from "../../../src/transfer/index.ts";
import { pattern } from "../../support/watch.ts";
import { folder } from "../support.ts";
import { Arrivals } from "./arrivals.ts";

/** A relay that accepts every message, at once by default, and what has arrived. */
class Relay implements MessageSender {
  readonly arrivals = new Arrivals();
  readonly messages: TransferMessage[] = [];
  readonly ids = new Set<string>();
  readonly resources = new Set<string>();
  /** The outcome of a message, known before it counts as arrived. */
  onMessage: (message: TransferMessage) => Promise<void> | undefined = () => undefined;

  async send(to: string, body: Uint8Array, { id, resource }: { id: string; resource: string }): Promise<void> {
    assert.equal(to, "bob/laptop");
    this.resources.add(resource);
    // The sender frees what is acknowledged.
    const message = decodeMessage(new Uint8Array(body));
    this.messages.push(message);
    await this.onMessage(message);
    if (this.ids.has(id)) return;
    this.ids.add(id);
    this.arrivals.take(body);
  }

  get types(): string[] {
    return this.messages.map(({ type }) => type);
  }
}

function senderTo(relay: Relay, options: Partial<FileSenderOptions> = {}): FileSender {
  return new FileSender({ device: relay, to: "bob/laptop", ...options });
}

/** The single file at a path. */
async function fileAt(path: string): Promise<FileToSend> {
  for await (const finding of filesAt(path)) if (finding.type === "file") return finding.file;
  throw new Error(`no file at ${path}`);
}

async function fileOf(context: TestContext, bytes: Uint8Array | number, name = "file.bin"): Promise<FileToSend> {
  const path = join(await folder(context), name);
  writeFileSync(path, typeof bytes === "number" ? pattern(bytes, 1) : bytes);
  return fileAt(path);
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

describe("the messages of a file", () => {
  for (const [size, types] of [
    [0, ["whole"]],
    [1, ["whole"]],
    [PART_BYTES - 1, ["whole"]],
    [PART_BYTES, ["whole"]],
    [PART_BYTES + 1, ["begin", "part", "part", "end"]],
    [3 * PART_BYTES, ["begin", "part", "part", "part", "end"]],
  ] as const) {
    it(`${size} bytes: ${types.join(", ")}`, async (context) => {
      const relay = new Relay();
      const file = await fileOf(context, size);
      const sent = await senderTo(relay).send(file);
      assert.deepEqual(relay.types, types);
      const [arrived] = relay.arrivals.files;
      assert.ok(arrived?.bytes.equals(pattern(size, 1)));
      assert.deepEqual([sent.name, sent.bytes, sent.sha256], ["file.bin", size, sha256(pattern(size, 1))]);
    });
  }

  it("carry time and mode", async (context) => {
    const relay = new Relay();
    const file = await fileOf(context, 10);
    utimesSync(file.path, 1_600_000_000, 1_600_000_000.5);
    await senderTo(relay).send(file);
    const [arrived] = relay.arrivals.files;
    assert.equal(arrived?.modified, 1_600_000_000_500);
    assert.equal(arrived?.mode, (await stat(file.path)).mode & 0o7777);
  });

  it("carry a stream to its end, in whatever chunks it comes", async () => {
    const bytes = randomBytes(2 * PART_BYTES + 17);
    async function* stream(size: number) {
      for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
      yield new Uint8Array(0);
    }
    for (const size of [1000, 65_536, PART_BYTES, 3 * PART_BYTES]) {
      const relay = new Relay();
      await senderTo(relay).send({ name: "stdin", stream: stream(size) });
      assert.ok(relay.arrivals.files[0]?.bytes.equals(bytes), `pieces of ${size}`);
      assert.equal(relay.messages.find(({ type }) => type === "begin")?.type, "begin");
    }
  });
});

describe("a file that changes while it is sent", () => {
  it("is sent to its new end when it grows, and reported as changed", async (context) => {
    const relay = new Relay();
    const file = await fileOf(context, 2 * PART_BYTES);
    let grown = 0;
    relay.onMessage = async ({ type }) => {
      if (type !== "part" || grown >= 3) return;
      appendFileSync(file.path, pattern(PART_BYTES, 2));
      grown += 1;
    };
    const sent = await senderTo(relay).send(file);
    assert.equal(sent.bytes, 5 * PART_BYTES);
    assert.ok(relay.arrivals.files[0]?.bytes.equals(await readFile(file.path)));
    assert.equal(sent.isChanged, true);
  });

  it("is sent to its new end when it grows right after its only read", async (context) => {
    const relay = new Relay();
    const file = await fileOf(context, 1000);
    const { read } = SourceFile.prototype;
    let reads = 0;
    context.mock.method(
      SourceFile.prototype,
      "read",
      async function (this: SourceFile, ...what: Parameters<typeof read>) {
        const count = await read.apply(this, what);
        reads += 1;
        if (reads === 1) appendFileSync(file.path, pattern(500, 2));
        return count;
      },
    );
    const sent = await senderTo(relay).send(file);
    assert.equal(sent.bytes, 1500);
    assert.ok(relay.arrivals.files[0]?.bytes.equals(await readFile(file.path)));
    assert.equal(sent.isChanged, true);
  });

  it("is not looked at for its end when it still has its size after the only read", async (context) => {
    const file = await fileOf(context, 1000);
    const reads = context.mock.method(SourceFile.prototype, "read");
    await senderTo(new Relay()).send(file);
    assert.equal(reads.mock.callCount(), 1);
  });

  it("arrives as it was read when it shrinks", async (context) => {
    const relay = new Relay();
    const file = await fileOf(context, 40 * PART_BYTES);
    let isCut = false;
    relay.onMessage = async ({ type }) => {
      if (type !== "part" || isCut) return;
      isCut = true;
      truncateSync(file.path, 5 * PART_BYTES);
    };
    const sent = await senderTo(relay).send(file);
    const [arrived] = relay.arrivals.files;
    assert.ok(sent.bytes >= PART_BYTES && sent.bytes < 40 * PART_BYTES, `${sent.bytes}`);
    assert.equal(arrived?.bytes.length, sent.bytes);
    assert.ok(arrived?.bytes.equals(pattern(40 * PART_BYTES, 1).subarray(0, sent.bytes)));
    assert.equal(sent.isChanged, true);
  });

  it("is not reported as changed when nobody wrote to it", async (context) => {
    const sent = await senderTo(new Relay()).send(await fileOf(context, 2 * PART_BYTES));
    assert.equal(sent.isChanged, false);
  });

  it("may be a file in /proc that claims to be empty", async (context) => {
    if (process.platform !== "linux") return context.skip("SKIPPED: no /proc");
    const relay = new Relay();
    const file = await fileAt("/proc/self/maps");
    assert.equal(file.size, 0);
    const sent = await senderTo(relay).send(file);
    assert.ok(sent.bytes > 0);
    assert.match(String(relay.arrivals.files[0]?.bytes), /\[stack\]/);
  });

  it("may be a file in /proc of several parts", async (context) => {
    if (process.platform !== "linux") return context.skip("SKIPPED: no /proc");
    const relay = new Relay();
    const sent = await senderTo(relay).send(await fileAt("/proc/kallsyms"));
    const whole = execFileSync("cat", ["/proc/kallsyms"], { maxBuffer: 2 ** 30 });
    assert.ok(whole.length > PART_BYTES);
    assert.equal(sent.bytes, whole.length);
    assert.equal(relay.arrivals.files[0]?.bytes.equals(whole), true);
  });
});

describe("an unreadable source fails with CannotRead, and nothing of it is sent", () => {
  const cases: readonly [string, (at: string) => string | undefined, RegExp][] = [
    [
      "a file that is gone when its turn comes",
      (at) => {
        rmSync(join(at, "folder", "file"));
        return undefined;
      },
      /there is no file .*\/folder\/file/,
    ],
    [
      "a symbolic link in its place",
      (at) => {
        rmSync(join(at, "folder", "file"));
        symlinkSync("/etc/passwd", join(at, "folder", "file"));
        return undefined;
      },
      /folder\/file is a symbolic link, which is not followed: name \/etc\/passwd instead/,
    ],
    [
      "a symbolic link in the place of a folder on the way",
      (at) => {
        mkdirSync(join(at, "elsewhere"));
        writeFileSync(join(at, "elsewhere", "file"), "secret");
        renameSync(join(at, "folder"), join(at, "moved"));
        symlinkSync("elsewhere", join(at, "folder"));
        return undefined;
      },
      /folder\/file, or a folder in its path, was moved/,
    ],
    [
      "a pipe in its place, which nobody writes into",
      (at) => {
        rmSync(join(at, "folder", "file"));
        execFileSync("mkfifo", [join(at, "folder", "file")]);
        return undefined;
      },
      /folder\/file is a pipe, not a file/,
    ],
    [
      "a file that this user may not read",
      (at) => {
        if (process.geteuid === undefined || process.seteuid === undefined || process.geteuid() !== 0) {
          return "SKIPPED: only root can become somebody else";
        }
        execFileSync("chmod", ["600", join(at, "folder", "file")]);
        execFileSync("chmod", ["755", at, join(at, "folder")]);
        process.seteuid(65_534);
        return undefined;
      },
      /folder\/file: this user may not read it \(EACCES\)/,
    ],
  ];
  for (const [what, change, expected] of cases) {
    it(what, async (context) => {
      const at = await folder(context);
      mkdirSync(join(at, "folder"));
      writeFileSync(join(at, "folder", "file"), "content");
      let found: FileToSend | undefined;
      for await (const finding of filesAt(at)) if (finding.type === "file") found = finding.file;
      assert.ok(found);
      const skip = change(at);
      if (skip !== undefined) return context.skip(skip);
      const relay = new Relay();
      try {
        await assert.rejects(senderTo(relay).send(found), { code: "CannotRead", message: expected });
      } finally {
        if (process.geteuid?.() !== process.getuid?.()) process.seteuid?.(process.getuid?.() ?? 0);
      }
      assert.deepEqual(relay.messages, []);
    });
  }

  it("a source that fails midway: the started transfer is cancelled", async () => {
    const relay = new Relay();
    async function* broken() {
      yield randomBytes(3 * PART_BYTES);
      throw Object.assign(new Error("read error"), { code: "EIO" });
    }
    const sending = senderTo(relay).send({ name: "stdin", stream: broken() });
    await assert.rejects(sending, { code: "CannotRead", message: "cannot read stdin (EIO)" });
    assert.deepEqual(relay.types, ["begin", "part", "part", "part", "cancel"]);
    assert.deepEqual(relay.arrivals.unfinished, []);
    assert.deepEqual([...relay.resources], ["file", "file-cancel"]);
  });

  it("a name that is too long for the header", async () => {
    const relay = new Relay();
    async function* nothing() {}
    const sending = senderTo(relay).send({ name: "\u0001".repeat(2000), stream: nothing() });
    await assert.rejects(sending, { code: "NameTooLong" });
  });
});

describe("the window", () => {
  it("allows 16 MiB on the way, and no more", async (context) => {
    const relay = new Relay();
    const taken: (() => void)[] = [];
    relay.onMessage = () => new Promise<void>((resolve) => taken.push(resolve));
    const sending = senderTo(relay).send(await fileOf(context, 40 * PART_BYTES));
    const bytes = () =>
      relay.messages.reduce((sum, message) => sum + ("bytes" in message ? message.bytes.length : 0), 0);
    while (taken.length < 16) await new Promise(setImmediate);
    for (let turn = 0; turn < 1000; turn += 1) await new Promise(setImmediate);
    assert.equal(bytes(), 15 * PART_BYTES, "with their headers 15 parts fit into 16 MiB");
    relay.onMessage = () => undefined;
    for (const resolve of taken) resolve();
    await sending;
    assert.equal(bytes(), 40 * PART_BYTES);
  });

  it("frees a part when it is acknowledged, and not before", async (context) => {
    const relay = new Relay();
    const bodies: Uint8Array[] = [];
    const acknowledge: (() => void)[] = [];
    const device: MessageSender = {
      send(to, body, options) {
        bodies.push(body);
        return relay.send(to, body, options);
      },
    };
    relay.onMessage = () => new Promise<void>((resolve) => acknowledge.push(resolve));
    const sending = new FileSender({ device, to: "bob/laptop" }).send(await fileOf(context, 3 * PART_BYTES));
    // Begin, three parts and end.
    while (acknowledge.length < 5) await new Promise(setImmediate);
    const held = () => bodies.map(({ length }) => length >= PART_BYTES);
    assert.deepEqual(held(), [false, true, true, true, false]);
    acknowledge[1]?.();
    while (held()[1]) await new Promise(setImmediate);
    assert.deepEqual(held(), [false, false, true, true, false]);
    for (const resolve of acknowledge) resolve();
    await sending;
    assert.deepEqual(held(), [false, false, false, false, false]);
  });

  it("allows 256 small files on the way, and the next once one is acknowledged", async (context) => {
    const relay = new Relay();
    const taken: (() => void)[] = [];
    relay.onMessage = () => new Promise<void>((resolve) => taken.push(resolve));
    const sender = senderTo(relay);
    const file = await fileOf(context, 10);
    const sending = Array.from({ length: 300 }, () => sender.send(file));
    while (taken.length < 256) await new Promise((resolve) => setTimeout(resolve, 1));
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(relay.messages.length, 256);
    taken[0]?.();
    while (relay.messages.length < 257) await new Promise((resolve) => setTimeout(resolve, 1));
    relay.onMessage = () => undefined;
    for (const resolve of taken) resolve();
    assert.equal((await Promise.all(sending)).length, 300);
  });

  it("counts progress by acknowledged bytes, not sent bytes", async (context) => {
    const relay = new Relay();
    let safe = 0;
    let release: (() => void) | undefined;
    relay.onMessage = ({ type }) => (type === "part" ? new Promise((resolve) => (release = resolve)) : undefined);
    const sending = senderTo(relay, { onProgress: (bytes) => (safe += bytes) }).send(
      await fileOf(context, PART_BYTES + 5),
    );
    while (relay.messages.length < 4) await new Promise((resolve) => setTimeout(resolve, 1));
    assert.equal(safe, 0);
    release?.();
    while (safe === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    assert.equal(safe, 5);
    void sending.catch(() => undefined);
  });
});

/** A journal that answers as told, and records its calls. */
function journalSaying(claims: Partial<Claim>[]) {
  const notes: string[] = [];
  return {
    notes,
    async claim(_: unknown, newId: string, isFresh = false): Promise<Claim> {
      const said = claims.shift() ?? {};
      notes.push(isFresh ? "claim fresh" : "claim");
      return {
        transfer: newId,
        acknowledged: 0,
        sha256: undefined,
        isDone: false,
        isJournaled: true,
        superseded: [],
        ...said,
      };
    },
    progress: (transfer: string, acknowledged: number, hash: string) =>
      void notes.push(`progress ${transfer.slice(0, 4)} ${acknowledged} ${hash.slice(0, 8)}`),
    done: (transfer: string) => void notes.push(`done ${transfer.slice(0, 4)}`),
    forget: (transfer: string) => void notes.push(`forget ${transfer.slice(0, 4)}`),
  };
}

const EARLIER = "e".repeat(32);
const OLDER = "0".repeat(32);

describe("the journal", () => {
  it("records each acknowledged part, and the end", async (context) => {
    const relay = new Relay();
    const journal = journalSaying([{ transfer: EARLIER }]);
    await senderTo(relay, { journal }).send(await fileOf(context, 2 * PART_BYTES + 1));
    const bytes = pattern(2 * PART_BYTES + 1, 1);
    const line = (end: number) => `progress eeee ${end} ${sha256(bytes.subarray(0, end)).slice(0, 8)}`;
    assert.deepEqual(journal.notes, [
      "claim",
      line(PART_BYTES),
      line(2 * PART_BYTES),
      line(2 * PART_BYTES + 1),
      "done eeee",
    ]);
  });

  it("records a part only after all parts before it", async (context) => {
    const relay = new Relay();
    const journal = journalSaying([{ transfer: EARLIER }]);
    let release: (() => void) | undefined;
    relay.onMessage = (message) =>
      message.type === "part" && message.offset === 0 ? new Promise((resolve) => (release = resolve)) : undefined;
    const sending = senderTo(relay, { journal }).send(await fileOf(context, 3 * PART_BYTES));
    while (relay.messages.length < 5) await new Promise((resolve) => setTimeout(resolve, 1));
    assert.deepEqual(journal.notes, ["claim"]);
    release?.();
    await sending;
    assert.deepEqual(
      journal.notes.map((note) => note.split(" ").slice(0, 3).join(" ")),
      ["claim", `progress eeee ${3 * PART_BYTES}`, "done eeee"],
    );
  });

  it("resumes an interrupted transfer after its acknowledged parts", async (context) => {
    const bytes = pattern(4 * PART_BYTES, 1);
    const relay = new Relay();
    const file = await fileOf(context, bytes);
    const before = 2 * PART_BYTES;
    const journal = journalSaying([
      { transfer: EARLIER, acknowledged: before, sha256: sha256(bytes.subarray(0, before)) },
    ]);
    let progress = 0;
    const sent = await senderTo(relay, { journal, onProgress: (octets) => (progress += octets) }).send(file);
    assert.deepEqual(relay.types, ["begin", "part", "part", "end"]);
    assert.deepEqual(
      relay.messages.flatMap((message) => (message.type === "part" ? message.offset : [])),
      [2 * PART_BYTES, 3 * PART_BYTES],
    );
    assert.deepEqual([sent.transfer, sent.before, sent.sha256], [EARLIER, before, sha256(bytes)]);
    assert.equal(progress, bytes.length);
  });

  it("resends only the end message of a file that was interrupted just before it", async (context) => {
    const bytes = pattern(2 * PART_BYTES + 3, 1);
    const relay = new Relay();
    const journal = journalSaying([{ transfer: EARLIER, acknowledged: bytes.length, sha256: sha256(bytes) }]);
    await senderTo(relay, { journal }).send(await fileOf(context, bytes));
    assert.deepEqual(relay.types, ["begin", "end"]);
  });

  it("restarts a file whose sent part has changed, and cancels the old transfer", async (context) => {
    const relay = new Relay();
    const journal = journalSaying([{ transfer: EARLIER, acknowledged: PART_BYTES, sha256: sha256(randomBytes(9)) }]);
    const sent = await senderTo(relay, { journal }).send(await fileOf(context, 2 * PART_BYTES));
    assert.notEqual(sent.transfer, EARLIER);
    assert.equal(sent.before, 0);
    assert.ok(relay.arrivals.files[0]?.bytes.equals(pattern(2 * PART_BYTES, 1)));
    assert.deepEqual(relay.arrivals.cancelled, [{ transfer: EARLIER, reason: "Superseded" }]);
    assert.deepEqual(journal.notes.slice(0, 3), ["claim", "forget eeee", "claim fresh"]);
  });

  it("cancels transfers of the file's previous contents", async (context) => {
    const relay = new Relay();
    const journal = journalSaying([{ superseded: [OLDER] }]);
    await senderTo(relay, { journal }).send(await fileOf(context, 10));
    assert.deepEqual(relay.arrivals.cancelled, [{ transfer: OLDER, reason: "Superseded" }]);
  });

  it("skips a finished file, and counts it as progress", async (context) => {
    const relay = new Relay();
    const journal = journalSaying([{ transfer: EARLIER, isDone: true, sha256: "aa" }]);
    let progress = 0;
    const sent = await senderTo(relay, { journal, onProgress: (octets) => (progress += octets) }).send(
      await fileOf(context, 10),
    );
    assert.deepEqual(relay.messages, []);
    assert.deepEqual([sent.before, sent.bytes, sent.sha256, progress], [10, 10, "aa", 10]);
  });
});

describe("a send that ends early", () => {
  it("on a message that cannot be sent fails the file, and stops reading it", async (context) => {
    const relay = new Relay();
    relay.onMessage = (message) =>
      message.type === "part" && message.offset === PART_BYTES ? Promise.reject(new Error("full")) : undefined;
    await assert.rejects(senderTo(relay).send(await fileOf(context, 100 * PART_BYTES)), { message: "full" });
    assert.ok(relay.messages.length < 30);
    assert.ok(!relay.types.includes("end"));
  });

  it("on stop reads nothing more, rejects every send, and records what is unfinished", async (context) => {
    const relay = new Relay();
    relay.onMessage = (message) => (message.type === "part" ? new Promise(() => undefined) : undefined);
    const sender = senderTo(relay);
    const long = sender.send(await fileOf(context, 40 * PART_BYTES));
    while (relay.messages.length < 16) await new Promise((resolve) => setTimeout(resolve, 1));
    sender.stop(new Error("enough"));
    await assert.rejects(long, { message: "enough" });
    await assert.rejects(sender.send(await fileOf(context, 1)), { message: "enough" });
    const [{ transfer = "", canGoOn } = {}] = sender.unfinished;
    assert.equal(canGoOn, false, "it is in no journal");
    await sender.cancel(transfer, "Interrupted");
    assert.deepEqual(relay.arrivals.cancelled, [{ transfer, reason: "Interrupted" }]);
    assert.deepEqual(sender.unfinished, []);
  });
});
