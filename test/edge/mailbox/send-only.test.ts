/** Connections of a device that only send, beside the one that receives with the same address. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { CloseReasonId } from "../../../src/sstp/index.ts";
import { SEND_ONLY } from "../../../src/store-and-forward/capabilities.ts";
import type { InspectedEdge } from "../../support/inspected-edge.ts";
import { connect, fresh, mailboxOf, RawClient, receive, startEdge, TRANSPORTS, until } from "./support.ts";

const ONE_BY_ONE = 20;
const AT_ONCE = 5;

describe("connections that only send", () => {
  let edge: InspectedEdge;
  const closing: (() => Promise<unknown>)[] = [];
  before(async () => {
    edge = await startEdge({ after: (run) => closing.push(run) });
  });
  after(async () => {
    for (const close of closing) await close();
  });

  for (const transport of TRANSPORTS) {
    it(`leave the connection that receives with their address alone (${transport})`, { timeout: 300_000 }, async () => {
      const identity = fresh("own");
      const address = `${identity}/pc`;
      const lost: string[] = [];
      const onReconnect = ({ message }: Error) => lost.push(message);
      const receiver = await connect(edge, address, transport, { onReconnect });
      const mailboxes = await Promise.all(
        [`Device://${address}`, `Identity://${identity}`].map(async (peer) => {
          const mailbox = await mailboxOf(edge, `groove${peer}`);
          await until(`${peer} has a consumer`, async () => (await mailbox.status()).consumer !== undefined);
          return { mailbox, consumer: (await mailbox.status()).consumer };
        }),
      );
      const sendFrom = async (to: string, text: string) => {
        const sender = await connect(edge, address, transport, { receive: false, onReconnect });
        const { id } = await sender.send(to, text);
        await sender.close();
        return id;
      };
      const ids: string[] = [];
      for (let i = 0; i < ONE_BY_ONE; i += 1) ids.push(await sendFrom(i % 2 === 0 ? address : identity, `${i}`));
      ids.push(...(await Promise.all(Array.from({ length: AT_ONCE }, (_, i) => sendFrom(address, `at once ${i}`)))));
      const messages = await receive(receiver, ONE_BY_ONE + AT_ONCE);
      assert.deepEqual(
        messages.map(({ id }) => id).sort(),
        ids.toSorted(),
        "each once, with the id its sender was told",
      );
      assert.equal(new Set(ids).size, ONE_BY_ONE + AT_ONCE);
      for (const { from, vouched } of messages) assert.deepEqual([from, vouched], [address, true]);
      for (const { mailbox, consumer } of mailboxes) assert.equal((await mailbox.status()).consumer, consumer);
      assert.deepEqual(lost, []);
      await receiver.close();
    });

    it(`take nothing of what waits, while they are open or after (${transport})`, async () => {
      const address = `${fresh("absent")}/pc`;
      const mailbox = await mailboxOf(edge, `grooveDevice://${address}`);
      const sender = await connect(edge, address, transport, { receive: false });
      await sender.send(address, "waits");
      await assertWaits(mailbox);
      await sender.close();
      await assertWaits(mailbox);
      const receiver = await connect(edge, address, transport);
      assert.equal((await receive(receiver, 1))[0]?.text(), "waits");
      await receiver.close();
    });
  }

  it("may not attach an account: the device that has it keeps it", async (t) => {
    const identity = fresh("attached");
    const receiver = await connect(edge, `${identity}/phone`, "websocket");
    const raw = await RawClient.open(edge, "websocket", `grooveDevice://${identity}/pc`, undefined, {
      capabilities: SEND_ONLY,
    });
    t.after(() => raw.close());
    raw.engine.attach({ accountURL: `grooveAccount://${identity}` });
    raw.flush();
    assert.equal((await raw.event("sessionClosed")).reasonId, CloseReasonId.UserAuthenticationFailed);
    const session = await raw.session("message", `grooveIdentity://${identity}`);
    raw.send(session, "still to the phone");
    assert.equal((await receive(receiver, 1))[0]?.text(), "still to the phone");
  });
});

async function assertWaits(mailbox: Awaited<ReturnType<typeof mailboxOf>>): Promise<void> {
  const { messages, consumer } = await mailbox.status();
  assert.deepEqual([messages, consumer], [1, undefined]);
}
