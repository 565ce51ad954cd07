/**
 * The single connection to an origin relay is cut repeatedly while messages pass over it in both directions. No message
 * may be lost, duplicated or reordered.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Device } from "../../src/device/index.ts";
import { type Relay, startRelay } from "../../src/relay/index.ts";
import { atEdge, atRelay, edgeFor, linkOf } from "../edge/link/link-support.ts";
import { FULL } from "../support/long-form.ts";
import { Books, Chance, CuttingProxy, ENCAPSULATIONS, seedOf, stamped, stampOf } from "./support.ts";

const PAIRS = 8;
const LASTS = FULL ? 60_000 : 5000;
/** Most connections live long enough to carry something: the link waits longer and longer after those that do not. */
const CUT_EVERY = 1500;
/** Unacknowledged messages per sender. */
const OUTSTANDING = 20;
const STUCK = 90_000;

test("cuts of a link cause no loss, duplication or reordering", { timeout: LASTS + 2 * STUCK }, async (t) => {
  const seed = seedOf();
  const chance = new Chance(seed);
  let relay: Relay | undefined;
  const proxy = await CuttingProxy.before(() => relay?.port ?? 0);
  t.after(() => proxy.close());
  const name = `127.0.0.1:${proxy.port}`;
  relay = await startRelay({ port: 0, names: [name, "127.0.0.1"] });
  t.after(() => relay?.close());
  const edge = await edgeFor(t, [proxy.port]);
  const books = new Books();
  const failures: unknown[] = [];
  let over = false;
  let moved = performance.now();

  const here = await Promise.all(
    Array.from({ length: PAIRS }, (_, i) =>
      atEdge(t, edge, `here/${i}`, ENCAPSULATIONS[i % ENCAPSULATIONS.length] ?? "websocket"),
    ),
  );
  const there = await Promise.all(Array.from({ length: PAIRS }, (_, i) => atRelay(t, relay?.port ?? 0, `there/${i}`)));
  // The relay learns of the edge from its link.
  await here[0]?.send(`there/nobody@${name}`, "hello");
  while (relay.waiting("grooveDevice://there/nobody").messages === 0) await sleep(20);

  async function receive(index: number, device: Device): Promise<void> {
    for await (const message of device.messages()) {
      const { sender, receiver, counter } = stampOf(message.body);
      assert.equal(receiver, index);
      books.receive(sender, receiver, counter);
      moved = performance.now();
      message.done();
    }
  }

  async function send(index: number, device: Device, to: (receiver: number) => string, base: number): Promise<void> {
    const outstanding = new Set<Promise<unknown>>();
    while (!over) {
      const receiver = chance.below(PAIRS);
      const length = chance.next() < 0.01 ? 200_000 : Math.floor(10 * 1000 ** chance.next());
      const body = stamped(index, base + receiver, books.send(index, base + receiver), length);
      const sending = device
        .send(to(receiver), body)
        .catch((error) => void failures.push(error))
        .finally(() => outstanding.delete(sending));
      outstanding.add(sending);
      if (outstanding.size >= OUTSTANDING) await Promise.race(outstanding);
      // Both ends share this process.
      await sleep(chance.below(10));
    }
    await Promise.all(outstanding);
  }

  const receiving = [...here, ...there].map((device, i) => receive(i, device).catch((error) => failures.push(error)));
  const sending = [
    ...here.map((device, i) => send(i, device, (receiver) => `there/${receiver}@${name}`, PAIRS)),
    ...there.map((device, i) => send(PAIRS + i, device, (receiver) => `here/${receiver}@localhost`, 0)),
  ];
  const end = performance.now() + LASTS;
  while (performance.now() < end) {
    await sleep(chance.below(2 * CUT_EVERY));
    proxy.cut(chance);
  }
  over = true;
  await Promise.all(sending);
  while (books.missing.length > 0 && failures.length === 0 && performance.now() - moved < STUCK) await sleep(50);
  // Duplicates may arrive late.
  await sleep(1000);
  console.log(
    `link: seed ${seed}: ${books.sent} sent, ${books.received - books.doubled} received, ${
      books.sent - books.received + books.doubled
    } lost, ${books.doubled} doubled, ${books.outOfOrder} out of order; ${proxy.cuts} cuts`,
  );
  assert.deepEqual(failures, []);
  assert.deepEqual(
    books.missing,
    [],
    `nothing is lost; ${JSON.stringify(await (await linkOf(edge, proxy.port)).status())}`,
  );
  assert.equal(books.doubled, 0, "there are no duplicates");
  assert.equal(books.outOfOrder, 0, "nothing was reordered");
  assert.ok(proxy.cuts >= LASTS / CUT_EVERY / 8, `${proxy.cuts} cuts`);
  await Promise.all([...here, ...there].map((device) => device.close()));
  await Promise.all(receiving);
});
