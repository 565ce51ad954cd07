/** `grooveway send` to a recipient whose mailbox has little room: it waits, says so, and continues or gives up. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { EXIT_CODES } from "../../../src/cli/exit-codes.ts";
import { FileReceiver, type Outcome } from "../../../src/cli/files/file-receiver.ts";
import { listLeftOvers } from "../../../src/cli/files/left-overs.ts";
import { Device } from "../../../src/device/index.ts";
import { PART_BYTES } from "../../../src/transfer/index.ts";
import { pattern } from "../../support/watch.ts";
import { folder, run, start } from "../support.ts";

const BYTES = pattern(60 * PART_BYTES, 1);

/** An edge on which one sender may have 8 MiB waiting per recipient, and a much larger file. */
async function place(context: TestContext) {
  const edge = start(context, ["edge", "--port", "0", "--json", "--dev", "--quota", "octets=64MiB,share=0.125"]);
  const [, url = ""] = await edge.line(/"url":"([^"]+)"/);
  const at = await folder(context);
  const path = join(at, "big");
  writeFileSync(path, BYTES);
  const state = await folder(context);
  const args = (...more: string[]) => [
    "send",
    "--edge",
    url,
    "--as",
    "alice/pc",
    "--state",
    state,
    ...more,
    "bob/x",
    path,
  ];
  return { url, at, args };
}

/** Receives what waits for bob/x until `look` is satisfied. */
async function takeUntil(context: TestContext, url: string, out: string, enough: (outcome: Outcome) => boolean) {
  const bob = await Device.connect({ edge: url, address: "bob/x", transport: "websocket" });
  context.after(() => bob.close());
  const files = await FileReceiver.open({ out, state: `${out}-state` });
  try {
    for await (const message of bob.messages()) if (enough(await files.take(message))) return;
  } finally {
    await bob.close();
    await files.close();
  }
}

describe("a recipient whose mailbox is full", () => {
  it("is waited for, and gets the whole file when it connects", { timeout: 300_000 }, async (context) => {
    const { url, at, args } = await place(context);
    const sending = start(context, args("--json"));
    await sending.line(/"event":"waiting","to":"bob\/x","for":"recipient"/);
    assert.equal(sending.process.exitCode, null);
    const out = join(at, "out");
    await takeUntil(context, url, out, ({ kind }) => kind === "received");
    const { code, stderr } = await sending.finished;
    assert.equal(code, 0, stderr);
    assert.match(
      stderr,
      /^grooveway: waiting until bob\/x receives: .* gives up after 10m without progress \(--wait\)/m,
    );
    assert.ok(readFileSync(join(out, "big")).equals(BYTES));
  });

  it("is reported before anything is sent; with --wait 0s nothing is sent", async (context) => {
    const { url, args } = await place(context);
    const { code, stderr } = await run(context, args("--wait", "0s"));
    assert.equal(code, EXIT_CODES.Refused.status, stderr);
    assert.match(
      stderr,
      /^grooveway: bob\/x is not connected, and its mailbox has room for .* of 60\.0 MiB: nothing was sent/,
    );
    const room = await fetch(`${url}/mailboxes/bob%2Fx/room?from=alice/pc`);
    const { octets } = (await room.json()) as { octets: number };
    assert.equal(octets, 8 * 1024 * 1024, "its share is untouched");
  });

  it("gets a cancellation for a started transfer once --wait has passed", async (context) => {
    const { url, at, args } = await place(context);
    const sending = start(context, args("--json", "--wait", "4s"));
    const out = join(at, "out");
    await takeUntil(context, url, out, ({ kind }) => kind === "kept");
    const { code, stdout, stderr } = await sending.finished;
    assert.equal(code, EXIT_CODES.WaitedTooLong.status, stderr);
    assert.doesNotMatch(stdout, /"event":"sent"/);
    assert.match(
      stderr,
      /bob\/x fetched nothing for 4s, so unfinished transfers were cancelled: .*\[WaitedTooLong\]\n$/,
    );
    await takeUntil(context, url, out, (outcome) => outcome.kind === "setAside" && outcome.reason === "Cancelled");
    assert.deepEqual(
      readdirSync(out).filter((name) => name !== ".grooveway"),
      [],
      "nothing is taken for a file",
    );
    assert.deepEqual(await listLeftOvers({ out, state: `${out}-state` }), [], "its parts were removed");
  });

  it("gets only the cancellation of a transfer it has not seen", async (context) => {
    const { url, at, args } = await place(context);
    const { code, stdout, stderr } = await run(context, args("--wait", "1s"));
    assert.equal(code, EXIT_CODES.WaitedTooLong.status, stderr);
    assert.equal(stdout, "");
    const room = await fetch(`${url}/mailboxes/bob%2Fx/room?from=alice/pc`);
    const { octets } = (await room.json()) as { octets: number };
    assert.ok(octets > 8 * 1024 * 1024 - 4096, `the room is free again, except for the cancellation: ${octets}`);
    const out = join(at, "out");
    const outcomes: Outcome["kind"][] = [];
    await takeUntil(context, url, out, ({ kind }) => outcomes.push(kind) > 0);
    assert.deepEqual(outcomes, ["repeated"]);
  });
});
