/** A sender of long messages that is faster than their recipient. */
import assert from "node:assert/strict";
import { describe, it, type TestContext, test } from "node:test";
import {
  AHEAD_OCTETS,
  AHEAD_PATIENCE,
  CUT_PAUSE,
  EXTRA_WINDOW,
  QUICK,
  RETRY_PAUSES,
  SEND_WINDOW,
} from "../../../src/edge/mailbox/limits.ts";
import type { Delivery } from "../../../src/edge/rpc/mailbox-rpc.ts";
import type { MessageBatch } from "../../../src/edge/rpc/message-batch.ts";
import { drive, messageOf } from "./object.ts";

const MIB = 1024 * 1024;
const WRITER = "the tunnel that brings them";

/** Messages of a MiB that a quick consumer is sent at once, and that may wait besides. */
const SENT = Math.floor((SEND_WINDOW + EXTRA_WINDOW) / MIB);
const WAITING = AHEAD_OCTETS / MIB;

/** A mailbox with a quick consumer, which was sent what it may have at once, and is behind after one more message. */
async function behind(t: TestContext) {
  const driven = drive(t);
  const { mailbox } = driven;
  const { generation } = await mailbox.attach();
  await mailbox.ready("reader", generation);
  // All mailboxes of the process share what quick consumers are sent.
  t.after(() => mailbox.detach(generation));
  await mailbox.append(messageOf("alice", 10), WRITER);
  await driven.letPass(1);
  const { first } = driven.tunnel("reader");
  await mailbox.acknowledge(generation, { done: [[first, first]] });
  await driven.letPass(CUT_PAUSE);
  for (let count = 0; count < SENT + WAITING - 1; count += 1) await mailbox.append(messageOf("alice", MIB), WRITER);
  const append = (bundle: MessageBatch, from?: string) => {
    const appended = { isAnswered: false };
    void mailbox.append(bundle, from).then(() => {
      appended.isAnswered = true;
    });
    return appended;
  };
  return { driven, mailbox, generation, second: first + 1, append };
}

describe("when a quick consumer is behind, the answer to a long message", () => {
  it("waits until the consumer has caught up", async (t) => {
    const { driven, mailbox, generation, second, append } = await behind(t);
    const appended = append(messageOf("alice", MIB), WRITER);
    await driven.letPass(1);
    assert.equal(appended.isAnswered, false);
    await mailbox.acknowledge(generation, { done: [[second, second + SENT - 1]] });
    await driven.letPass(CUT_PAUSE);
    assert.equal(appended.isAnswered, true);
  });

  it("comes after a while, and at once when the consumer is no longer quick", async (t) => {
    const { driven, append } = await behind(t);
    const appended = append(messageOf("alice", MIB), WRITER);
    await driven.letPass(AHEAD_PATIENCE - 1);
    assert.equal(appended.isAnswered, false);
    await driven.letPass(1);
    assert.equal(appended.isAnswered, true);
    await driven.letPass(QUICK - AHEAD_PATIENCE + 1);
    const next = append(messageOf("alice", MIB), WRITER);
    await driven.letPass(1);
    assert.equal(next.isAnswered, true);
  });

  it("comes when the consumer leaves", async (t) => {
    const { driven, mailbox, generation, append } = await behind(t);
    const appended = append(messageOf("alice", MIB), WRITER);
    await driven.letPass(1);
    await mailbox.detach(generation);
    await driven.letPass(1);
    assert.equal(appended.isAnswered, true);
  });

  it("does not wait if a relay brings it, and no short message waits", async (t) => {
    const { driven, append } = await behind(t);
    append(messageOf("alice", MIB), WRITER);
    const others = [
      append(messageOf("alice", MIB), "grooveDNS://relay.example.com"),
      append(messageOf("carol", 100), WRITER),
      append(messageOf("alice", MIB)),
    ];
    await driven.letPass(1);
    assert.deepEqual(
      others.map(({ isAnswered }) => isAnswered),
      [true, true, true],
    );
  });
});

test("a long message leaves nothing in memory once it is sent, and is read back if the call has failed", async (t) => {
  const driven = drive(t);
  const { mailbox } = driven;
  const { generation } = await mailbox.attach();
  await mailbox.ready("reader", generation);
  const reader = driven.tunnel("reader");
  const given: Delivery[] = [];
  const lengths: number[] = [];
  reader.deliver = async (_peer, _generation, deliveries) => {
    given.push(...deliveries);
    lengths.push(...deliveries.map(({ bundle }) => bundle.octets.length));
    if (lengths.length === 1) throw new Error("the object has moved");
    return "taken";
  };
  const message = messageOf("alice", MIB);
  const { length } = message.octets;
  await mailbox.append(message, WRITER);
  await driven.letPass(RETRY_PAUSES[0]);
  assert.deepEqual(lengths, [length, length]);
  assert.deepEqual(
    given.map(({ bundle }) => bundle.octets.length),
    [0, 0],
  );
});

test("a device that renews its connection while it is behind is sent as much at once on the next one", async (t) => {
  const { driven, mailbox } = await behind(t);
  const { generation } = await mailbox.attach();
  await mailbox.ready("the next connection", generation);
  await driven.letPass(1);
  assert.equal(driven.tunnel("the next connection").delivered, SENT);
});
