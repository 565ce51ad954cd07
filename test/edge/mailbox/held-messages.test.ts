/** Long messages for a quick consumer, which are held instead of written. */
import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { CUT_PAUSE, HOLD_PAUSE, HOLD_TIME, NEAR, QUICK } from "../../../src/edge/mailbox/limits.ts";
import type { Held } from "../../../src/edge/rpc/mailbox-rpc.ts";
import { drive, messageOf } from "./object.ts";

const MIB = 1024 * 1024;
const WRITER = "the tunnel that brings them";
const HOLD = { hold: true };

/** A mailbox with a consumer that has acknowledged its first message at once. */
async function consumed(t: TestContext, { took = 1 } = {}) {
  const driven = drive(t);
  const { mailbox } = driven;
  const { generation } = await mailbox.attach();
  await mailbox.ready("reader", generation);
  // All mailboxes of the process share what quick consumers are sent.
  t.after(() => driven.mailbox.detach(generation));
  await mailbox.append(messageOf("alice", 10), WRITER);
  await driven.letPass(took);
  const { first } = driven.tunnel("reader");
  await mailbox.acknowledge(generation, { done: [[first, first]] });
  await driven.letPass(CUT_PAUSE);
  /** What has become of what is held. */
  const outcome = (held: Held | undefined) => {
    const seen: { upTo?: number; error?: unknown } = {};
    assert.ok(held);
    mailbox.whenDurable(held).then(
      (upTo) => {
        seen.upTo = upTo;
      },
      (error: unknown) => {
        seen.error = error;
      },
    );
    return seen;
  };
  const bodies = () => driven.db.sql.exec("SELECT seq FROM bodies ORDER BY seq").toArray().length;
  return { driven, mailbox, generation, next: first + 1, outcome, bodies };
}

describe("a long message for a quick consumer", () => {
  it("is delivered unwritten, and durable when the consumer has acknowledged it", async (t) => {
    const { driven, mailbox, generation, next, outcome, bodies } = await consumed(t);
    const [one, two] = [
      await mailbox.append(messageOf("alice", MIB), WRITER, HOLD),
      await mailbox.append(messageOf("alice", MIB), WRITER, HOLD),
    ];
    const seen = [outcome(one.held), outcome(two.held)];
    await driven.letPass(1);
    assert.deepEqual([driven.tunnel("reader").delivered, bodies(), seen], [3, 0, [{}, {}]]);
    await mailbox.acknowledge(generation, { done: [[next, next]] });
    await driven.letPass(CUT_PAUSE);
    assert.deepEqual(seen, [{ upTo: next }, {}]);
    await mailbox.acknowledge(generation, { done: [[next + 1, next + 1]] });
    await driven.letPass(CUT_PAUSE);
    assert.deepEqual([bodies(), seen], [0, [{ upTo: next }, { upTo: next + 1 }]]);
  });

  it("is known by its id after that, even if the object is evicted", async (t) => {
    const { driven, mailbox, generation, next } = await consumed(t);
    const message = messageOf("alice", MIB);
    await mailbox.append(message, WRITER, HOLD);
    await mailbox.acknowledge(generation, { done: [[next, next]] });
    await driven.letPass(CUT_PAUSE);
    driven.wake();
    await driven.mailbox.append(message, WRITER, HOLD);
    assert.equal((await driven.mailbox.status()).messages, 0);
  });

  it("is written after a while, and so are the following ones at once", async (t) => {
    const { driven, mailbox, next, outcome, bodies } = await consumed(t);
    const seen = outcome((await mailbox.append(messageOf("alice", MIB), WRITER, HOLD)).held);
    await driven.letPass(HOLD_TIME - 1);
    assert.deepEqual([bodies(), seen], [0, {}]);
    await driven.letPass(1);
    assert.deepEqual([bodies(), seen], [1, { upTo: next }]);
    assert.equal((await mailbox.append(messageOf("alice", MIB), WRITER, HOLD)).held, undefined);
  });

  it("may be held again later, if the consumer is still quick", async (t) => {
    const { driven, mailbox, generation, next } = await consumed(t);
    await mailbox.append(messageOf("alice", MIB), WRITER, HOLD);
    await driven.letPass(HOLD_TIME);
    await mailbox.acknowledge(generation, { done: [[next, next]] });
    await driven.letPass(HOLD_PAUSE - 1);
    assert.equal((await mailbox.append(messageOf("alice", MIB), WRITER, HOLD)).held, undefined);
    await driven.letPass(1);
    assert.ok((await mailbox.append(messageOf("alice", MIB), WRITER, HOLD)).held);
  });

  it("is written when the consumer leaves, or another takes over, and is delivered to the next", async (t) => {
    const { driven, mailbox, generation, next, outcome, bodies } = await consumed(t);
    const seen = outcome((await mailbox.append(messageOf("alice", MIB), WRITER, HOLD)).held);
    await mailbox.detach(generation);
    await driven.letPass(1);
    assert.deepEqual([bodies(), seen], [1, { upTo: next }]);
    const { generation: second } = await mailbox.attach();
    await mailbox.ready("another", second);
    t.after(() => mailbox.detach(second));
    await driven.letPass(1);
    assert.deepEqual([driven.tunnel("another").first, driven.tunnel("another").delivered], [next, 1]);
  });

  it("is lost if the object is evicted: its sender learns it, and nothing that follows it is taken", async (t) => {
    const { driven, mailbox } = await consumed(t);
    const { held } = await mailbox.append(messageOf("alice", MIB), WRITER, HOLD);
    assert.ok(held);
    driven.wake();
    await assert.rejects(driven.mailbox.whenDurable(held));
    const follows = { hold: true, after: held.run };
    await assert.rejects(driven.mailbox.append(messageOf("alice", 10), WRITER, follows));
    assert.equal((await driven.mailbox.status()).messages, 0);
  });

  it("is lost if it cannot be written", async (t) => {
    const { driven, mailbox, outcome } = await consumed(t);
    const seen = outcome((await mailbox.append(messageOf("alice", MIB), WRITER, HOLD)).held);
    driven.db.failAt = "INSERT INTO bodies";
    await driven.letPass(HOLD_TIME);
    driven.db.failAt = undefined;
    assert.ok(seen.error instanceof Error);
  });

  it("is written if its caller does not wait, or a relay brings it", async (t) => {
    const { mailbox } = await consumed(t);
    for (const [message, from, terms] of [
      [messageOf("alice", MIB), WRITER, {}],
      [messageOf("alice", MIB), undefined, HOLD],
      [messageOf("alice", MIB), "grooveDNS://relay.example.com", HOLD],
      [messageOf("carol@relay.example.com", MIB), WRITER, HOLD],
    ] as const) {
      assert.equal((await mailbox.append(message, from, terms)).held, undefined);
    }
  });

  it("is written if the consumer is slow, or far away", async (t) => {
    for (const took of [QUICK + 1, NEAR + 1]) {
      const { mailbox } = await consumed(t, { took });
      assert.equal((await mailbox.append(messageOf("alice", MIB), WRITER, HOLD)).held, undefined);
      t.mock.timers.reset();
    }
  });
});
