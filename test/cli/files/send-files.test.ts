/** A whole run of `grooveway send`, with a device driven by the test. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { CommandError } from "../../../src/cli/command-error.ts";
import type { SentFile } from "../../../src/cli/files/file-sender.ts";
import { type FileToSend, filesAt } from "../../../src/cli/files/files-to-send.ts";
import { SendFiles, type SendFilesOptions } from "../../../src/cli/files/send-files.ts";
import { decodeMessage, PART_BYTES, type TransferMessage } from "../../../src/transfer/index.ts";
import { pattern } from "../../support/watch.ts";
import { folder } from "../support.ts";
import { Arrivals } from "./arrivals.ts";

/** A run, its output, and what has arrived. */
function runOf(sources: SendFilesOptions["sources"], options: Partial<SendFilesOptions> = {}) {
  const told: string[] = [];
  const arrivals = new Arrivals();
  const messages: TransferMessage[] = [];
  const interruption = new AbortController();
  const relay = { onMessage: (_: TransferMessage): Promise<void> | undefined => undefined };
  const run = new SendFiles({
    device: {
      async send(_to, body, { signal }) {
        const message = decodeMessage(body);
        messages.push(message);
        const withdrawn = new Promise<never>((_, reject) =>
          signal?.addEventListener("abort", () => reject(signal.reason)),
        );
        await Promise.race([withdrawn, relay.onMessage(message)]);
        arrivals.take(body);
      },
    },
    to: "bob/laptop",
    sources,
    wait: 60_000,
    silence: 2000,
    signal: interruption.signal,
    listener: {
      async sent({ name }: SentFile) {
        told.push(`sent ${name}`);
      },
      async failed(source, { code }) {
        told.push(`failed ${"path" in source ? source.name : ""} ${code}`);
      },
      progress: () => undefined,
      waiting: (reason) => told.push(`waiting for ${reason}`),
      goingOn: () => told.push("going on"),
    },
    ...options,
  });
  return { run, told, arrivals, messages, relay, interrupt: () => interruption.abort() };
}

async function filesOf(context: TestContext, sizes: readonly number[]): Promise<FileToSend[]> {
  const at = await folder(context);
  for (const [index, size] of sizes.entries()) writeFileSync(join(at, `${index}`), pattern(size, index));
  const found: FileToSend[] = [];
  for await (const finding of filesAt(at, "x")) if (finding.type === "file") found.push(finding.file);
  return found;
}

async function until(look: () => boolean): Promise<void> {
  while (!look()) await new Promise((resolve) => setImmediate(resolve));
}

const NEVER = () => new Promise<void>(() => undefined);

test("small and large files are all sent", async (context) => {
  const sizes = [0, 1, 5 * PART_BYTES + 1, 1000, PART_BYTES, 3 * PART_BYTES];
  const { run, told, arrivals } = runOf(await filesOf(context, sizes));
  assert.equal(await run.run(), "done");
  assert.deepEqual(
    told.sort(),
    ["0", "1", "2", "3", "4", "5"].map((name) => `sent x/${name}`),
  );
  for (const { name, bytes } of arrivals.files) {
    const index = Number(name.slice(2));
    assert.ok(bytes.equals(pattern(sizes[index] ?? 0, index)), name);
  }
  assert.equal(arrivals.files.length, 6);
});

test("more files than are sent concurrently are all sent", async (context) => {
  const [file] = await filesOf(context, [3]);
  assert.ok(file);
  const { run, arrivals } = runOf(Array.from({ length: 2000 }, (_, n) => ({ ...file, name: `${n}` })));
  assert.equal(await run.run(), "done");
  assert.equal(new Set(arrivals.files.map(({ name }) => name)).size, 2000);
});

test("a file that cannot be read does not affect the others", async (context) => {
  const files = await filesOf(context, [1, 2, 3]);
  const gone = { ...files[1], path: Buffer.from("/nowhere"), name: "gone" } as FileToSend;
  const { run, told } = runOf([files[0], gone, files[2]] as FileToSend[]);
  assert.equal(await run.run(), "done");
  assert.deepEqual(told.sort(), ["failed gone CannotRead", "sent x/0", "sent x/2"]);
});

test("an error of the device ends the run", async (context) => {
  const { run, relay, messages } = runOf(await filesOf(context, [1, 50 * PART_BYTES]));
  relay.onMessage = ({ type }) => (type === "begin" ? Promise.reject(new CommandError("Refused", "no")) : undefined);
  await assert.rejects(run.run(), { code: "Refused" });
  assert.ok(messages.length < 40);
});

test("an output line that cannot be written ends the run", async (context) => {
  const files = await filesOf(context, [1, 1, 1]);
  const listener = {
    sent: () => Promise.reject(new CommandError("OutputClosed", "gone")),
    failed: async () => undefined,
    progress: () => undefined,
    waiting: () => undefined,
    goingOn: () => undefined,
  };
  await assert.rejects(runOf(files, { listener }).run.run(), { code: "OutputClosed" });
});

test("an interrupt without a journal cancels the transfer", async (context) => {
  const { run, relay, messages, arrivals, interrupt } = runOf(await filesOf(context, [40 * PART_BYTES]));
  relay.onMessage = ({ type }) => (type === "part" ? NEVER() : undefined);
  const end = run.run();
  await until(() => messages.length > 10);
  interrupt();
  assert.equal(await end, "interrupted");
  assert.deepEqual(
    arrivals.cancelled.map(({ reason }) => reason),
    ["Interrupted"],
  );
});

test("an interrupt with a journal leaves the transfer to be resumed", async (context) => {
  const journal = {
    claim: async (_: unknown, transfer: string) => ({
      transfer,
      acknowledged: 0,
      sha256: undefined,
      isDone: false,
      isJournaled: true,
      superseded: [],
    }),
    progress: () => undefined,
    done: () => undefined,
    forget: () => undefined,
  };
  const started = runOf(await filesOf(context, [40 * PART_BYTES]), { journal });
  started.relay.onMessage = ({ type }) => (type === "part" ? NEVER() : undefined);
  const end = started.run.run();
  await until(() => started.messages.length > 10);
  started.interrupt();
  assert.equal(await end, "interrupted");
  assert.deepEqual(started.arrivals.cancelled, []);
  assert.equal(started.arrivals.unfinished.length, 1);
});

test("an interrupt before the start sends nothing", async (context) => {
  const { run, messages, interrupt } = runOf(await filesOf(context, [1, 2]));
  interrupt();
  assert.equal(await run.run(), "interrupted");
  assert.deepEqual(messages, []);
});

test("a stalled recipient is waited for, then its started transfers are cancelled", async (context) => {
  const { run, relay, told, messages, arrivals } = runOf(await filesOf(context, [1, 40 * PART_BYTES]));
  relay.onMessage = ({ type }) => (type === "part" ? NEVER() : undefined);
  const end = run.run();
  await until(() => messages.length > 10 && told.length === 1);
  context.mock.timers.enable({ apis: ["setTimeout"] });
  run.held();
  context.mock.timers.tick(2000);
  assert.deepEqual(told, ["sent x/0", "waiting for recipient"]);
  context.mock.timers.tick(58_000);
  context.mock.timers.reset();
  assert.equal(await end, "recipientWaitedFor");
  assert.deepEqual(
    arrivals.cancelled.map(({ reason }) => reason),
    ["WaitedTooLong"],
  );
  assert.deepEqual(
    arrivals.files.map(({ name }) => name),
    ["x/0"],
  );
});

test("queued messages of an abandoned transfer are withdrawn before the recipient is told", async (context) => {
  const order: string[] = [];
  const started = runOf(await filesOf(context, [40 * PART_BYTES]), {
    takeBack: async () => void order.push("taken back"),
  });
  started.relay.onMessage = ({ type }) => {
    if (type === "cancel") order.push("cancelled");
    return type === "part" ? NEVER() : undefined;
  };
  const end = started.run.run();
  await until(() => started.messages.length > 10);
  context.mock.timers.enable({ apis: ["setTimeout"] });
  started.run.held();
  context.mock.timers.tick(60_000);
  context.mock.timers.reset();
  assert.equal(await end, "recipientWaitedFor");
  // Again for the parts that were in flight.
  assert.deepEqual(order, ["taken back", "taken back", "cancelled"]);
});

test("a lost connection that does not come back is abandoned without a cancellation", async (context) => {
  const { run, relay, messages, arrivals } = runOf(await filesOf(context, [40 * PART_BYTES]));
  relay.onMessage = ({ type }) => (type === "part" ? NEVER() : undefined);
  const end = run.run();
  await until(() => messages.length > 10);
  context.mock.timers.enable({ apis: ["setTimeout"] });
  run.lost();
  context.mock.timers.tick(60_000);
  context.mock.timers.reset();
  assert.equal(await end, "connectionWaitedFor");
  assert.deepEqual(arrivals.cancelled, []);
});

test("a recipient that makes room again gets everything", async (context) => {
  const { run, relay, told, messages, arrivals } = runOf(await filesOf(context, [40 * PART_BYTES]));
  const waiting: (() => void)[] = [];
  relay.onMessage = () => new Promise((resolve) => waiting.push(resolve));
  const end = run.run();
  await until(() => messages.length > 10);
  context.mock.timers.enable({ apis: ["setTimeout"] });
  run.held();
  context.mock.timers.tick(30_000);
  run.released();
  context.mock.timers.tick(100_000);
  context.mock.timers.reset();
  relay.onMessage = () => undefined;
  for (const resolve of waiting) resolve();
  assert.equal(await end, "done");
  assert.deepEqual(told, ["waiting for recipient", "going on", "sent x/0"]);
  assert.equal(arrivals.files.length, 1);
});
