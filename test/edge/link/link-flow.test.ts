/**
 * Shares over two hops: first the recipient's mailbox at the far end of a link fills, then the queue for the link, and then
 * the sender is held. The link does not delay other recipients, and continues as this one takes its messages.
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Device } from "../../../src/device/index.ts";
import { take } from "../../device/support.ts";
import { soon } from "../../support/watch.ts";
import { mailboxOf, receive, until } from "../mailbox/support.ts";
import { atEdge, atRelay, type Context, edgeFor, originRelay } from "./link-support.ts";

/**
 * Message quotas of the recipient and of the link. One sender may have half, and continues when it is down to a third. Of
 * those behind a link, one may have half of that at the far end, and continues at a third of that half.
 */
const FAR = 200;
const MARK = FAR / 4;
const LINK = 60;

/**
 * More than both shares together. What is left at the far end when the link continues, and everything after it, fits into
 * the reserve of so small a mailbox: 80 messages.
 */
const COUNT = 95;

/** A way across a link, from the sender's side. */
interface Way {
  readonly sender: Device;
  /** Recipients of the sender for which messages wait at the sender. */
  readonly held: ReadonlySet<string>;
  /** Resolves when the first of them is held. */
  readonly firstHeld: Promise<void>;
  /** The far recipient's address, as its sender writes it. */
  readonly to: string;
  /** Another recipient on the sender's side, and one on the far side. */
  readonly near: string;
  readonly beyond: string;
  /** Another sender beside the first one, and a receiver beside the first recipient. */
  readonly other: Device;
  readonly beside: Device;
  /** Connects the recipient. */
  recipient(): Promise<Device>;
  /** Messages waiting for the recipient at its own side, and for the link at the sender's. */
  waiting(): Promise<{ readonly far: number; readonly link: number }>;
  /** Messages refused over quota on both sides. */
  refused(): Promise<number>;
}

/** @param messages quotas of both */
async function edgeAndRelay(t: Context, messages: { readonly edge: number; readonly relay: number }) {
  const relay = await originRelay(t, { quota: { octets: 4_000_000, messages: messages.relay } });
  const edge = await edgeFor(t, [relay.port], { quota: `octets=4MiB messages=${messages.edge}` });
  const name = `127.0.0.1:${relay.port}`;
  const atMailbox = async (peer: string) => (await mailboxOf(edge, peer)).status();
  const held = new Set<string>();
  const { promise: firstHeld, resolve } = Promise.withResolvers<void>();
  const watched = {
    onHeld(to: string) {
      held.add(to);
      resolve();
    },
    onReleased: (to: string) => held.delete(to),
  };
  return { relay, edge, name, atMailbox, held, firstHeld, watched };
}

/** From a device at the edge to a device of the relay. */
async function outwards(t: Context): Promise<Way> {
  const { relay, edge, name, atMailbox, held, firstHeld, watched } = await edgeAndRelay(t, { edge: LINK, relay: FAR });
  return {
    sender: await atEdge(t, edge, "alice/pc", "websocket", watched),
    held,
    firstHeld,
    to: `bob/pc@${name}`,
    near: "erin/pc",
    beyond: `carol/pc@${name}`,
    other: await atEdge(t, edge, "dora/pc"),
    beside: await atRelay(t, relay.port, "carol/pc"),
    recipient: () => atRelay(t, relay.port, "bob/pc"),
    waiting: async () => ({
      far: relay.waiting("grooveDevice://bob/pc").messages,
      link: (await atMailbox(`grooveDNS://${name}`)).messages,
    }),
    refused: async () =>
      relay.status().dropped.QuotaWouldBeExceeded +
      (await atMailbox(`grooveDNS://${name}`)).dropped.QuotaWouldBeExceeded,
  };
}

/** From a device of the relay to a device at the edge. */
async function inwards(t: Context): Promise<Way> {
  const { relay, edge, name, atMailbox, held, firstHeld, watched } = await edgeAndRelay(t, { edge: FAR, relay: LINK });
  const beside = await atEdge(t, edge, "carol/pc");
  // The relay knows the edge by its link, which this makes.
  await beside.send(`nobody/pc@${name}`, "");
  await until("the link", () => relay.waiting("grooveDevice://nobody/pc").messages === 1);
  return {
    sender: await atRelay(t, relay.port, "alice/pc", watched),
    held,
    firstHeld,
    to: "bob/pc@localhost",
    near: "erin/pc",
    beyond: "carol/pc@localhost",
    other: await atRelay(t, relay.port, "dora/pc"),
    beside,
    recipient: () => atEdge(t, edge, "bob/pc"),
    waiting: async () => ({
      far: (await atMailbox("grooveDevice://bob/pc")).messages,
      link: relay.waiting("grooveDNS://localhost").messages,
    }),
    refused: async () =>
      relay.status().dropped.QuotaWouldBeExceeded +
      (await atMailbox("grooveDevice://bob/pc")).dropped.QuotaWouldBeExceeded,
  };
}

/** Sends messages one by one until the recipient is held, and then the rest. */
async function fill({ sender, held, firstHeld, to, waiting }: Way): Promise<Promise<unknown>[]> {
  const sent: Promise<unknown>[] = [];
  while (!held.has(to)) {
    assert.ok(sent.length < COUNT, "the sender is never held");
    const one = sender.send(to, `${sent.length}`);
    one.catch(() => undefined);
    sent.push(one);
    await Promise.race([one, firstHeld]);
    // The far end must fill first, so the sender waits for the link.
    await until("the far end to have it, or its share", async () => {
      const { far, link } = await waiting();
      return far >= MARK || link === 0;
    });
  }
  while (sent.length < COUNT) sent.push(sender.send(to, `${sent.length}`));
  return sent;
}

describe("a sender whose share is used up at the far end of a link", () => {
  for (const [name, open] of [
    ["from a device at the edge to one of a relay", outwards],
    ["from a device of a relay to one at the edge", inwards],
  ] as const) {
    it(`${name}: only its messages over the link are held, until the far end has room`, {
      timeout: 300_000,
    }, async (t) => {
      const way = await open(t);
      const sent = await fill(way);
      assert.deepEqual([...way.held], [way.to]);
      const full = await way.waiting();
      assert.ok(full.far >= MARK && full.link >= LINK / 2, JSON.stringify(full));

      // Nobody else is affected.
      await soon(way.sender.send(way.near, "to somebody near"), "a message that needs no link");
      await soon(way.sender.send(way.beyond, "by the held sender"), "a message by the link to another recipient");
      assert.equal((await receive(way.beside, 1))[0]?.text(), "by the held sender");
      await soon(way.other.send(way.beyond, "by another sender"), "a message by another sender");
      await receive(way.beside, 1);
      await soon(way.other.send(way.to, "to the same recipient"), "another sender's message to the same recipient");
      await until("it is at the far end", async () => (await way.waiting()).far === full.far + 1);
      // The link has one queue, and this sender's share of it is used up.
      const behind = way.sender.send(way.beyond, "behind it");
      await until("the other recipient is held", () => way.held.has(way.beyond));

      // The link continues when the far end is down to a third of what it may have, and not before.
      const bob = await way.recipient();
      const before = await take(bob, full.far + 1, false);
      const first = before.filter((message) => message.text() !== "to the same recipient");
      const stays = Math.floor(FAR / 6) + 1;
      for (const message of first.slice(0, full.far - stays)) message.done();
      await until("they are acknowledged", async () => (await way.waiting()).far === stays + 1);
      await way.other.send(way.beyond, "behind the acknowledgements");
      await receive(way.beside, 1);
      await until("the link has only what it had", async () => (await way.waiting()).link === full.link);
      assert.equal((await way.waiting()).far, stays + 1);
      for (const message of before) message.done();
      const others = await receive(bob, COUNT - full.far);
      await soon(Promise.all([...sent, behind]), "the acknowledgements");
      assert.equal((await receive(way.beside, 1))[0]?.text(), "behind it");
      assert.deepEqual(
        [...first, ...others].map((message) => message.text()),
        Array.from({ length: COUNT }, (_, n) => `${n}`),
      );
      assert.deepEqual([...way.held], []);
      assert.equal(await way.refused(), 0);
      await until("nothing waits", async () => {
        const { far, link } = await way.waiting();
        return far === 0 && link === 0;
      });
    });
  }
});
