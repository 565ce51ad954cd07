/** Devices of a real edge stream to each other: past the mailbox, in order, and no faster than they are read. */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import { STREAM_RESOURCE } from "../../../src/sstp/index.ts";
import type { InspectedEdge } from "../../support/inspected-edge.ts";
import { afterAll, bodyOf, connect, mailboxOf, receive, startEdge, until } from "../mailbox/support.ts";

const OPTIONS = { resource: STREAM_RESOURCE, onlyIfOnline: true };

describe("streaming between devices", () => {
  let edge: InspectedEdge;
  const context = afterAll();
  before(async () => {
    edge = await startEdge(context);
  });

  for (const transport of ["websocket", "longlived"] as const) {
    it(`carries what is far more than the edge holds without loss, over ${transport}`, async () => {
      const [alice, bob] = await Promise.all([
        connect(edge, `alice-${transport}/pc`, transport),
        connect(edge, `bob-${transport}/pc`, transport),
      ]);
      const mailbox = await mailboxOf(edge, `grooveDevice://bob-${transport}/pc`);
      await until("bob is attached", async () => (await mailbox.status()).consumer !== undefined);
      const { rowsWritten } = await mailbox.status();
      const bodies = Array.from({ length: 80 }, (_, n) => bodyOf(128 * 1024, `${n}`));
      const received = receive(bob, bodies.length);
      await Promise.all(bodies.map((body) => alice.send(`bob-${transport}/pc`, body, OPTIONS)));
      const messages = await received;
      assert.ok(messages.every(({ body }, n) => Buffer.compare(body, bodies[n] ?? body) === 0));
      const status = await mailbox.status();
      assert.deepEqual([status.rowsWritten, status.messages], [rowsWritten, 0], "the mailbox has stored nothing");
    });
  }

  it("goes on to the connection that has taken over the address", async () => {
    const alice = await connect(edge, "alice/mover", "websocket");
    const first = await connect(edge, "bob/mover", "websocket");
    await until("the first stream arrives", async () => {
      void alice.send("bob/mover", "1", OPTIONS);
      return await Promise.race([
        receive(first, 1).then(() => true),
        new Promise<false>((r) => setTimeout(r, 500, false)),
      ]);
    });
    await first.close();
    const second = await connect(edge, "bob/mover", "longlived");
    await until("the second stream arrives", async () => {
      void alice.send("bob/mover", "2", OPTIONS);
      return await Promise.race([
        receive(second, 1).then(() => true),
        new Promise<false>((r) => setTimeout(r, 500, false)),
      ]);
    });
  });

  it("is lost, and counted as such, if nobody is connected", async () => {
    const alice = await connect(edge, "alice/alone", "websocket");
    await connect(edge, "bob/gone", "websocket").then((bob) => bob.close());
    const mailbox = await mailboxOf(edge, "grooveDevice://bob/gone");
    await until("bob is gone", async () => (await mailbox.status()).consumer === undefined);
    await alice.send("bob/gone", "1", OPTIONS);
    const { dropped, messages } = await mailbox.status();
    assert.deepEqual([dropped.PeerOffline, messages], [1, 0]);
  });

  it("is refused to a sender that the mailbox does not admit", async () => {
    const alice = await connect(edge, "alice/shut", "websocket");
    await connect(edge, "bob/shut", "websocket");
    await (await mailboxOf(edge, "grooveDevice://bob/shut")).setLocked(true);
    await assert.rejects(alice.send("bob/shut", "1", OPTIONS), { code: "RecipientRefused" });
  });
});
