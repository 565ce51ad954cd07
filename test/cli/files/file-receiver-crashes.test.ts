/**
 * Receiving on a file system that fails and crashes at any call, from two concurrent senders, with messages lost,
 * repeated or late: the receiver ends with exactly the sent files, each once, or with a named failure and no claim of
 * success; nothing is left except what the list shows.
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { CommandError } from "../../../src/cli/command-error.ts";
import { FileReceiver, type Outcome } from "../../../src/cli/files/file-receiver.ts";
import { listLeftOvers, removeLeftOvers } from "../../../src/cli/files/left-overs.ts";
import { cancelMessage, type TransferMessage } from "../../../src/transfer/index.ts";
import { FULL } from "../../support/long-form.ts";
import { type Fault, FaultyFileSystem, randomOf } from "./faulty-file-system.ts";
import { arriving, partsOf, transferOf, wholeOf } from "./transfer-support.ts";

interface SentFile {
  readonly sender: number;
  readonly name: string;
  readonly bytes: number;
  /** A single message if it is 0. */
  readonly partBytes: number;
  /** The size is known only at the end. */
  readonly streamed: boolean;
  /** Which message is lost; undefined for none. */
  readonly lost: number | undefined;
  /** Whether the lost message still arrives after all others. */
  readonly late: boolean;
  /** The sender cancels the transfer at some time. */
  readonly cancelled: boolean;
}

interface Scenario {
  readonly seed: number;
  readonly links: boolean;
  readonly files: readonly SentFile[];
  /** Each run crashes after this many calls, with or without a power cut. */
  readonly crashes: readonly { readonly after: number; readonly powerCut: boolean }[];
  readonly faults: readonly Fault[];
  /** Whether a sender's messages arrive in any order. */
  readonly shuffled: boolean;
  /** Whether runs write to several folders. */
  readonly elsewhere: boolean;
}

interface Sent {
  readonly file: number;
  readonly from: string;
  readonly message: TransferMessage;
  acked: boolean;
  readonly lost: boolean;
  readonly late: boolean;
}

const CODES = ["ENOSPC", "EIO", "EACCES", "EFBIG", "EROFS", "EMFILE", "ENAMETOOLONG", "short"];

const scenario: fc.Arbitrary<Scenario> = fc.record({
  seed: fc.nat(),
  links: fc.boolean(),
  files: fc.array(
    fc.record({
      sender: fc.nat(1),
      name: fc.constantFrom("a.txt", "A.txt", "a (1).txt", "d/e.txt", "D/e.txt", "d", "../x", ".rc", ""),
      bytes: fc.nat(24),
      partBytes: fc.constantFrom(0, 1, 5, 30),
      streamed: fc.boolean(),
      lost: fc.option(fc.nat(6), { nil: undefined, freq: 4 }),
      late: fc.boolean(),
      cancelled: fc.oneof({ arbitrary: fc.constant(false), weight: 5 }, { arbitrary: fc.constant(true), weight: 1 }),
    }),
    { minLength: 1, maxLength: 4 },
  ),
  crashes: fc.array(fc.record({ after: fc.integer({ min: 1, max: 150 }), powerCut: fc.boolean() }), { maxLength: 3 }),
  faults: fc.array(
    fc.record({ call: fc.nat(300), calls: fc.integer({ min: 1, max: 3 }), code: fc.constantFrom(...CODES) }),
    { maxLength: 3 },
  ),
  shuffled: fc.boolean(),
  elsewhere: fc.boolean(),
});

/** All contents differ; only one file may be empty. */
function contentsOf(index: number, { bytes }: SentFile): string {
  return `${index}`.repeat(index === 0 ? bytes : Math.max(1, bytes));
}

function messagesOf(index: number, file: SentFile): Sent[] {
  const contents = Buffer.from(contentsOf(index, file), "latin1");
  const { name, sender, partBytes, streamed, lost, late, cancelled } = file;
  const transfer = transferOf(index);
  const messages =
    partBytes === 0
      ? [wholeOf(index, name, contents)]
      : partsOf({ transfer, name, ...(streamed && { size: null }) }, contents, partBytes);
  if (cancelled) messages.push(cancelMessage(transfer, "tired"));
  return messages.map((message, at) => ({
    file: index,
    from: sender === 0 ? "alice/pc" : "bob/pc",
    message,
    acked: false,
    lost: at === lost && !late,
    late: at === lost && late,
  }));
}

const RUNS = FULL ? 5000 : 100;

/** How many messages are processed at a time. */
const WINDOW = 6;

const STATE = "/state";

class Play {
  readonly disk: FaultyFileSystem;
  readonly sent: Sent[];
  readonly random: () => number;
  readonly claimed = new Set<string>();
  runs = 0;

  constructor(given: Scenario) {
    this.disk = new FaultyFileSystem(given);
    this.disk.faults = given.faults;
    this.random = randomOf(given.seed + 1);
    this.sent = given.files.flatMap((file, index) => messagesOf(index, file));
    if (given.shuffled) {
      const keys = new Map(this.sent.map((one) => [one, this.random()]));
      this.sent.sort((a, b) => (keys.get(a) ?? 0) - (keys.get(b) ?? 0));
    }
  }

  options(out: string) {
    this.runs += 1;
    const { disk } = this;
    const run = { pid: this.runs, started: "" };
    return {
      out,
      state: STATE,
      fileSystem: disk.process(),
      umask: 0o022,
      now: () => disk.now,
      run,
      isRunning: () => false,
    };
  }

  /** One run of the command: processes unacknowledged messages until all are done or something fails. */
  async run(out: string, late: boolean): Promise<void> {
    const files = await FileReceiver.open(this.options(out));
    try {
      for (const outcome of await files.retry()) this.claim(outcome);
      const due = this.sent.filter((one) => !one.lost && (late || !one.late));
      // Some acknowledged messages are redelivered: their acknowledgement was lost.
      const coming = due.filter((one) => !one.acked || this.random() < 0.15);
      const ahead = new Set<Promise<void>>();
      let failed: unknown;
      for (const one of coming) {
        if (failed !== undefined) break;
        const done = () => {
          one.acked = true;
        };
        const taking = files.take(arriving(one.message, { from: one.from, done })).then(
          (outcome) => this.claim(outcome),
          (error: unknown) => {
            failed ??= error;
          },
        );
        const ended: Promise<void> = taking.finally(() => ahead.delete(ended));
        ahead.add(ended);
        this.disk.now += 400;
        if (ahead.size >= WINDOW) await Promise.race(ahead);
      }
      await Promise.all(ahead);
      if (failed !== undefined) throw failed;
    } finally {
      await files.close().catch(() => undefined);
    }
  }

  /** A file reported as received exists. */
  claim(outcome: Outcome): void {
    if (outcome.kind !== "received") return;
    this.claimed.add(outcome.file.transfer);
    const { path, bytes } = outcome.file;
    const contents = this.disk.tree("/").get(path.slice(1));
    assert.equal(contents?.length, bytes, `${path} is reported as received`);
  }

  /** Files except those of unfinished transfers. */
  files(): string[] {
    const found: string[] = [];
    for (const [path, contents] of this.disk.tree("/")) {
      if (!path.includes("/.grooveway/") && !path.startsWith("state/")) found.push(contents);
    }
    return found.sort();
  }

  /** Which message of a file never arrives; undefined for none. */
  missing(file: number): TransferMessage["type"] | undefined {
    return this.sent.find((one) => one.file === file && one.lost)?.message.type;
  }

  leftOver(): string[] {
    const names = [...this.disk.tree("/").keys()].filter((path) => path.includes("/.grooveway/"));
    return [...new Set(names.map((path) => path.split("/").at(-1)?.split(".")[0] ?? ""))].sort();
  }
}

describe("receiving on a faulty disk", () => {
  it("ends with exactly the sent files or a named failure", async () => {
    await fc.assert(
      fc.asyncProperty(scenario, async (given) => {
        const one = new Play(given);
        const { disk } = one;
        disk.put("/out/a.txt", "mine");
        const crashes = [...given.crashes];
        for (let tries = 0; ; tries += 1) {
          assert.ok(tries < 30, "it terminates");
          // In the end nothing fails any more.
          const calm = tries > given.crashes.length + 2;
          if (calm) disk.faults = [];
          const crash = calm ? undefined : crashes.shift();
          if (crash !== undefined) disk.crashAfter(crash.after);
          const out = given.elsewhere && one.random() < 0.5 ? "/other" : "/out";
          const end = await Promise.race([
            one.run(out, false).then(
              () => "done",
              (error: unknown) => {
                assert.ok(error instanceof CommandError && error.code === "CannotWrite", String(error));
                return "failed";
              },
            ),
            disk.crashed.then(() => "crashed"),
          ]);
          if (end === "crashed") disk.restart(crash?.powerCut ?? false);
          else disk.restart(false);
          disk.now += 5000;
          if (end === "done" && calm) break;
        }
        // Lost messages arrive after all; the run cleans up what an earlier one was interrupted in.
        await one.run("/other", false);
        await one.run("/out", true);
        const listed = await listLeftOvers(one.options("/out"));
        const there = one.files();
        const unexplained = [...there];
        const take = (contents: string) => {
          const at = unexplained.indexOf(contents);
          if (at >= 0) unexplained.splice(at, 1);
          return at >= 0;
        };
        assert.ok(take("mine"));
        for (const [index, file] of given.files.entries()) {
          const missing = one.missing(index);
          const left = listed.find(({ transfer }) => transfer === transferOf(index));
          const isThere = take(contentsOf(index, file));
          if (file.cancelled && missing !== "cancel") {
            // It may be too late, but it leaves nothing behind.
            assert.equal(left, undefined);
          } else if (missing === undefined || missing === "cancel") {
            // A file too large for the file system is listed with its reason.
            const refused = left?.reason !== undefined && given.faults.some(({ code }) => code === "EFBIG");
            assert.equal(isThere, !refused, `${file.name} is there`);
          } else {
            assert.equal(isThere, false, `${file.name} is not there`);
            const reason = left?.reason ?? "none";
            if (left !== undefined)
              assert.match(reason, missing === "end" ? /none|CannotWrite/ : /PartMissing|CannotWrite/);
          }
        }
        assert.deepEqual(unexplained, []);
        assert.equal(disk.tree("/out").get("a.txt"), "mine");
        assert.deepEqual(one.leftOver(), listed.map(({ key }) => key).sort(), "everything left is listed");
        // It is on the disk: a power cut restores at most names that the next run removes.
        disk.restart(true);
        assert.deepEqual(one.files(), there);
        await (await FileReceiver.open(one.options("/other"))).close();
        await (await FileReceiver.open(one.options("/out"))).close();
        assert.deepEqual(one.leftOver(), listed.map(({ key }) => key).sort());
        assert.equal(await removeLeftOvers(one.options("/out"), () => true), listed.length);
        assert.deepEqual(one.leftOver(), []);
        assert.deepEqual(one.files(), there);
      }),
      { numRuns: RUNS, includeErrorInReport: true },
    );
  });
});
