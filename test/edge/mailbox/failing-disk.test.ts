/** A mailbox that is written and read over HTTP, on a disk that has no room for one write or the other. */
import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";
import type { PostOrder } from "../../../src/edge/rpc/mailbox-rpc.ts";
import type { MessageBatch } from "../../../src/edge/rpc/message-batch.ts";
import { ORDER, packHeader, type ReadAnswer, STATE, unpackHeader } from "../../../src/edge/rpc/plain-stream-rpc.ts";
import { reportDisk } from "../report-machine.ts";
import { type Driven, drive, messageOf } from "./object.ts";

const SOURCE = "grooveDevice://alice/pc";
const PRODUCER = { id: "p", epoch: 0, seq: 0 };

beforeEach(() => reportDisk("free"));

/** Sends a message with a producer; a repeat has the same id, as over HTTP. */
async function post(
  driven: Driven,
  bundle: MessageBatch | undefined,
  changes: Partial<PostOrder> = {},
): Promise<string> {
  const rest = { source: SOURCE, producer: PRODUCER, sequence: undefined, closes: false, ...changes };
  // The mailbox takes what it is given.
  const posted = await driven.mailbox.post({ bundle: structuredClone(bundle), ...rest });
  if (posted.ok) return posted.isDuplicate ? "repeated" : "stored";
  return posted.reason === "refused" ? posted.refused.outcome : posted.reason;
}

/** How many messages a reader finds. */
async function found(driven: Driven): Promise<number> {
  const order = { offset: "-1", resumes: false, live: false, events: false, etag: undefined };
  const request = new Request("http://mailbox/", { headers: { [ORDER]: packHeader(order) } });
  const answer = await driven.mailbox.fetch(request);
  const said = unpackHeader<ReadAnswer>(answer.headers.get(STATE));
  assert.ok(said.ok, said.ok ? "" : said.reason);
  return ((await answer.json()) as unknown[]).length;
}

/** Whether an error is that of a full disk, which the Worker names. */
function isFull(error: unknown): boolean {
  return error instanceof Error && error.message === "the disk is full";
}

describe("a mailbox on a full disk", () => {
  it("stores an append once, whichever write fails, and gives it to who waits for it", async (t) => {
    const driven = drive(t);
    for (const failAt of ["INSERT INTO segments", "INTO producers", "INTO facts"]) {
      await driven.begin();
      await reportDisk("free");
      const bundle = messageOf("alice", 100);
      const reader = driven.tunnel(failAt);
      const { generation } = await driven.mailbox.attach();
      await driven.mailbox.ready(failAt, generation);
      driven.db.failAt = failAt;
      const closing = { closes: true };
      const refused = await post(driven, bundle, closing).catch((error) => (isFull(error) ? "full" : String(error)));
      driven.db.failAt = undefined;
      assert.ok(["full", "StorageFull"].includes(refused), `${failAt}: ${refused}`);
      await reportDisk("free");
      await driven.letPass(1000);
      assert.equal(await found(driven), 0, failAt);
      assert.equal(await post(driven, bundle, closing), "stored", failAt);
      const metadata = await driven.mailbox.metadata();
      assert.ok(metadata.ok && metadata.state.closed, failAt);
      await driven.letPass(1000);
      assert.equal(reader.delivered, 1, failAt);
      driven.wake();
      assert.equal(await post(driven, bundle, closing), "repeated", failAt);
      assert.equal(await found(driven), 1, failAt);
    }
  });

  it("stores no message whose Stream-Seq or close it cannot note, and a repeat, which has other ids, once", async (t) => {
    const driven = drive(t);
    const appends: [failAt: string, changes: Partial<PostOrder>][] = [
      ["INTO producers", { sequence: "1" }],
      ["CREATE TABLE IF NOT EXISTS producers", { sequence: "1" }],
      ["INTO facts", { closes: true }],
      ["INTO producers", { sequence: "1", closes: true }],
    ];
    for (const [failAt, changes] of appends) {
      // With ids that only grow, and with others, which are written with the message.
      for (const length of [100, 2_000_000]) {
        await driven.begin();
        await reportDisk("free");
        const name = JSON.stringify([failAt, changes, length]);
        const reader = driven.tunnel(name);
        const { generation } = await driven.mailbox.attach();
        await driven.mailbox.ready(name, generation);
        const append = () => post(driven, messageOf("alice", length), { producer: undefined, ...changes });
        driven.db.failAt = failAt;
        assert.equal(await append(), "full", failAt);
        driven.db.failAt = undefined;
        await reportDisk("free");
        await driven.letPass(1000);
        assert.equal(reader.delivered, 0, failAt);
        const metadata = await driven.mailbox.metadata();
        assert.ok(metadata.ok && !metadata.state.closed, failAt);
        assert.equal(await append(), "stored", failAt);
        await driven.letPass(1000);
        assert.equal(reader.delivered, 1, failAt);
        driven.wake();
        assert.equal(await append(), changes.closes === true ? "StreamClosed" : "SequenceConflict", failAt);
        assert.equal(await found(driven), 1, failAt);
      }
    }
  });

  it("is closed with its producer known, or not closed", async (t) => {
    const driven = drive(t);
    for (const failAt of ["INTO facts", "INTO producers"]) {
      await driven.begin();
      await reportDisk("free");
      assert.equal(await post(driven, messageOf("alice", 100)), "stored");
      const close = () => post(driven, undefined, { closes: true, producer: { ...PRODUCER, seq: 1 } });
      driven.db.failAt = failAt;
      assert.equal(await close(), "StorageFull", failAt);
      driven.db.failAt = undefined;
      await reportDisk("free");
      for (let time = 0; time < 2; time += 1) {
        const metadata = await driven.mailbox.metadata();
        assert.ok(metadata.ok && !metadata.state.closed, failAt);
        driven.wake();
      }
      assert.equal(await close(), "stored", failAt);
      assert.equal(await close(), "repeated", failAt);
    }
  });

  it("remembers the producer of a message that it has already, or says that it cannot", async (t) => {
    const driven = drive(t);
    const bundle = messageOf("alice", 100);
    assert.equal(await post(driven, bundle, { producer: undefined }), "stored");
    driven.db.failAt = "INTO producers";
    assert.equal(await post(driven, bundle), "StorageFull");
    driven.db.failAt = undefined;
    await reportDisk("free");
    assert.equal(await post(driven, bundle), "stored");
    assert.equal(await post(driven, messageOf("alice", 100)), "repeated", "by its number");
    assert.equal(await found(driven), 1);
  });

  it("with an idle time is read, acknowledged and refuses by name, though its use cannot be noted", async (t) => {
    const driven = drive(t);
    const created = await driven.mailbox.create({ lifetime: { type: "idle", seconds: 3600 }, closed: false });
    assert.ok(created.ok);
    const bundle = messageOf("alice", 100);
    assert.equal(await post(driven, bundle), "stored");
    await driven.letPass(3_500_000);
    driven.db.failAt = "INTO facts";
    assert.equal(await found(driven), 1);
    const { refusals } = await driven.mailbox.append(messageOf("alice", 100));
    assert.deepEqual(refusals, [{ at: 0, outcome: "full" }]);
    driven.db.failAt = undefined;
    await reportDisk("free");
    await driven.letPass(1_000_000);
    assert.equal(await found(driven), 1);
    driven.wake();
    await driven.letPass(3_500_000);
    assert.equal(await found(driven), 1, "the use before is stored");
  });
});
