/** One sender cannot fill the edge by way of many mailboxes, and a recipient that drains is never limited by that. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Meter } from "../../../src/edge/admission/meter.ts";
import { SETTLE_PAUSE, UNRESERVED } from "../../../src/edge/mailbox/limits.ts";
import { accountName } from "../../../src/edge/rpc/meter-rpc.ts";
import type { Left } from "../../support/driven-worker.ts";
import { drivenWorker } from "../../support/worker.ts";
import { bodyOf, connect, fresh, type MailboxStub, mailboxOf, receive, startEdge, until } from "./support.ts";

type Driven = MailboxStub & { letPass(milliseconds: number): Promise<void> };

const MIB = 1024 * 1024;
const SENDER = 32 * MIB;
const BODY = bodyOf(7 * MIB, "a message");

/** An edge where one sender may have 32 MiB waiting, and a sender that has that. */
async function filled(t: Parameters<typeof startEdge>[0]) {
  const edge = await startEdge(t, { code: await drivenWorker(), quota: "sender=32MiB" });
  const name = fresh("alice");
  const alice = await connect(edge, `${name}/pc`, "websocket");
  const namespace = await edge.miniflare.getDurableObjectNamespace("METER");
  const account = namespace.getByName(accountName(`grooveDevice://${name}`)) as unknown as Pick<Meter, "status"> & {
    left(): Promise<Left>;
  };
  const to = ["bob", "carol", "dora", "emil"].map((one) => `${fresh(one)}/pc`);
  for (const recipient of to) await alice.send(recipient, BODY);
  const mailbox = async (address: string) => (await mailboxOf(edge, `grooveDevice://${address}`)) as Driven;
  return { edge, alice, account, to, mailbox };
}

describe("a sender whose messages wait in many mailboxes", () => {
  it("is refused by one more, until a recipient has fetched", { timeout: 300_000 }, async (t) => {
    const { edge, alice, account, to, mailbox } = await filled(t);
    assert.equal((await account.status()).reserved, SENDER);
    const late = `${fresh("fred")}/pc`;
    const refused = { code: "QuotaWouldBeExceeded", retryable: true };
    await assert.rejects(alice.send(late, "no room"), refused);
    const { messages, dropped } = await (await mailbox(late)).status();
    assert.equal(messages, 0);
    assert.ok(dropped.QuotaWouldBeExceeded >= 1);
    const other = await connect(edge, `${fresh("greta")}/pc`, "websocket");
    await other.send(late, "another sender");
    const [first = ""] = to;
    const bob = await connect(edge, first, "websocket");
    await receive(bob, 1);
    const emptied = await mailbox(first);
    await until("the mailbox is empty", async () => (await emptied.status()).messages === 0);
    await emptied.letPass(SETTLE_PAUSE);
    await until("its room is given back", async () => (await account.status()).reserved < SENDER);
    await alice.send(late, "room");
  });

  it("goes on sending to recipients that drain", { timeout: 300_000 }, async (t) => {
    const { edge, alice } = await filled(t);
    const henry = `${fresh("henry")}/pc`;
    const reader = await connect(edge, henry, "websocket");
    const taken = receive(reader, 10);
    // More than may wait in all, one after another.
    for (let n = 0; n < 10; n += 1) await alice.send(henry, BODY);
    assert.equal((await taken).length, 10);
  });

  it("cannot fill the edge by way of recipients that connect and take nothing", { timeout: 300_000 }, async (t) => {
    const { edge, alice, account, mailbox } = await filled(t);
    let stored = SENDER;
    let refused: unknown;
    while (refused === undefined && stored < 4 * SENDER) {
      const idle = `${fresh("ida")}/pc`;
      const reader = await connect(edge, idle, "websocket");
      for (let n = 0; n < 2 && refused === undefined; n += 1) {
        await alice.send(idle, BODY).catch((error: unknown) => {
          refused = error;
        });
      }
      await reader.close();
      const left = await mailbox(idle);
      await until("nobody consumes", async () => (await left.status()).consumer === undefined);
      stored += (await left.status()).octets;
      const before = (await account.status()).reserved;
      if ((await left.status()).octets === 0) continue;
      await left.letPass(SETTLE_PAUSE);
      await until("it is counted", async () => (await account.status()).reserved > before);
    }
    assert.equal((refused as { code?: string } | undefined)?.code, "QuotaWouldBeExceeded");
    assert.ok(stored <= 2 * SENDER + UNRESERVED, `${stored} bytes are stored`);
  });

  it("is told of what recipients leave behind that were connected", { timeout: 300_000 }, async (t) => {
    const { edge, alice, account, to, mailbox } = await filled(t);
    const before = (await account.status()).reserved;
    const idle = `${fresh("ida")}/pc`;
    const reader = await connect(edge, idle, "websocket");
    await alice.send(idle, BODY);
    await reader.close();
    const left = await mailbox(idle);
    await until("nobody consumes", async () => (await left.status()).consumer === undefined);
    await left.letPass(SETTLE_PAUSE);
    await until("it is counted", async () => (await account.status()).reserved > before);
    for (const recipient of [...to, idle]) {
      const emptied = await mailbox(recipient);
      await emptied.purge();
      await emptied.letPass(SETTLE_PAUSE);
    }
    await until("nothing is reserved", async () => (await account.status()).reserved === 0);
    const { keys, alarm } = await account.left();
    assert.deepEqual([[...keys], alarm], [[], false]);
  });
});
