/**
 * Store and forward: messages to an absent device, over each encapsulation, are all delivered when it connects over
 * any, in order and once, though their sender has left.
 */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import type { InspectedEdge } from "../../support/inspected-edge.ts";
import { FULL } from "../../support/long-form.ts";
import { afterAll, bodyOf, connect, mailboxOf, receive, startEdge, TRANSPORTS, until } from "./support.ts";

const COUNT = FULL ? 10_000 : 100;
const PATIENCE = FULL ? 600_000 : 60_000;

/** From 10 B to 1 MiB; longer ones are rarer. */
function lengthOf(index: number): number {
  if (index % 150 === 149) return 1024 * 1024;
  if (index % 40 === 39) return 100_000 + index;
  if (index % 7 === 6) return 4096 + (index % 100);
  return 10 + (index % 200);
}

describe("store and forward", () => {
  let edge: InspectedEdge;
  const all = afterAll();
  before(async () => {
    edge = await startEdge(all);
  });

  for (const up of TRANSPORTS) {
    for (const down of TRANSPORTS) {
      it(`${COUNT} messages sent over ${up} are received over ${down}`, { timeout: PATIENCE * 2 }, async () => {
        const address = `bob/${up}-${down}`;
        const sender = await connect(edge, `alice/${up}-${down}`, up);
        const mailbox = await mailboxOf(edge, `grooveDevice://bob/${up}-${down}`);
        // In portions, like a program that does not hold everything in memory.
        const portion = 200;
        for (let from = 0; from < COUNT; from += portion) {
          const sends = Array.from({ length: Math.min(portion, COUNT - from) }, (_, k) =>
            sender.send(address, bodyOf(lengthOf(from + k), `${from + k}`), { id: `${from + k}` }),
          );
          await Promise.all(sends);
        }
        await sender.close();
        assert.equal((await mailbox.status()).messages, COUNT, "what was acknowledged is stored");

        const receiver = await connect(edge, address, down);
        const messages = await receive(receiver, COUNT, PATIENCE);
        messages.forEach((message, index) => {
          assert.equal(message.id, `${index}@alice/${up}-${down}`);
          const expected = bodyOf(lengthOf(index), `${index}`);
          assert.ok(Buffer.from(message.body).equals(expected), `message ${index} is whole`);
        });
        // A LongLived connection that was used up and replaced resends what was not acknowledged on it.
        await until("the mailbox is empty", async () => (await mailbox.status()).messages === 0);
        await receiver.close();
      });
    }
  }

  it("messages that a device has finished are not delivered to its replacement", async () => {
    for (const transport of TRANSPORTS) {
      const sender = await connect(edge, "alice/again", "websocket");
      const address = `carol/${transport}`;
      await Promise.all(Array.from({ length: 50 }, (_, i) => sender.send(address, `${i}`)));
      const first = await connect(edge, address, transport);
      await receive(first, 20);
      // The last acknowledgement travels with the end of the connection.
      await first.close();
      const second = await connect(edge, address, transport);
      const rest = await receive(second, 30);
      assert.deepEqual(
        rest.map((message) => message.text()),
        Array.from({ length: 30 }, (_, i) => `${i + 20}`),
        transport,
      );
      await second.close();
      await sender.close();
    }
  });
});
