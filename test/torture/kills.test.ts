/**
 * Everything at once: ten devices exchange messages over all encapsulations, while the runtime is killed, virtual
 * connections are cut, and objects are evicted. No message may be lost, duplicated or reordered.
 */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Device, DeviceError } from "../../src/device/index.ts";
import { deviceURL } from "../../src/sstp/index.ts";
import { partsOf } from "../support/address.ts";
import { FULL } from "../support/long-form.ts";
import { Books, Chance, CuttingProxy, ENCAPSULATIONS, insist, Mortal, seedOf, stamped, stampOf } from "./support.ts";

const DEVICES = 10;
const MESSAGES = FULL ? 20_000 : 300;
const KILLS = FULL ? 10 : 1;
/** Unacknowledged messages per device: with more, all would be sent before the first kill. */
const OUTSTANDING = 40;
const CUT_EVERY = 200;
const EVICT_EVERY = 300;
/**
 * No progress for this long means none will come. Well above the 60 s after which every timeout here has expired, and the
 * time in which a slow machine starts the edge again.
 */
const STUCK = 180_000;

const addressOf = (index: number) => `user${index}/device`;

test("kills, cuts and evictions cause no loss, duplication or reordering", {
  timeout: FULL ? 1_500_000 : 900_000,
}, async () => {
  const seed = seedOf();
  const chance = new Chance(seed);
  const edge = await Mortal.start();
  const proxy = await CuttingProxy.before(() => edge.port);
  const url = `http://127.0.0.1:${proxy.port}`;
  const began = performance.now();
  const books = new Books();
  const failures: unknown[] = [];
  let reconnects = 0;
  let over = false;
  let moved = performance.now();

  const devices: Device[] = await Promise.all(
    Array.from({ length: DEVICES }, (_, index) =>
      insist({
        edge: url,
        address: addressOf(index),
        transport: ENCAPSULATIONS[index % ENCAPSULATIONS.length] ?? "websocket",
        onReconnect: () => {
          reconnects += 1;
        },
      }),
    ),
  );
  after(async () => {
    over = true;
    await Promise.all(devices.map((device) => device.close()));
    await proxy.close();
    await edge.close();
  });

  async function receive(index: number, device: Device): Promise<void> {
    for await (const message of device.messages()) {
      const { sender, receiver, counter } = stampOf(message.body);
      assert.equal(receiver, index);
      books.receive(sender, receiver, counter);
      moved = performance.now();
      // Some are finished late, and so out of order.
      if (chance.next() < 0.9) message.done();
      else setTimeout(() => message.done(), chance.below(100));
    }
  }

  async function send(index: number, device: Device, count: number): Promise<void> {
    const outstanding = new Set<Promise<unknown>>();
    for (let n = 0; n < count; n += 1) {
      const others = Array.from({ length: DEVICES }, (_, other) => other).filter((other) => other !== index);
      const receiver = chance.of(others);
      const length = chance.next() < 0.01 ? 200_000 : Math.floor(10 * 2000 ** chance.next());
      const body = stamped(index, receiver, books.send(index, receiver), length);
      const sending = device
        .send(addressOf(receiver), body)
        .catch((error: DeviceError) => void failures.push(error))
        .finally(() => outstanding.delete(sending));
      outstanding.add(sending);
      if (outstanding.size >= OUTSTANDING) await Promise.race(outstanding);
    }
    await Promise.all(outstanding);
  }

  async function cut(): Promise<void> {
    while (!over) {
      const { received } = books;
      await sleep(CUT_EVERY);
      // Where connecting takes longer than that, cuts without progress between them would let no device connect.
      while (books.received === received && !over) await sleep(20);
      proxy.cut(chance);
    }
  }

  /** Mailboxes by name, and Tunnels by the consumers that their mailboxes report. */
  async function evict(): Promise<void> {
    while (!over) {
      await sleep(chance.below(2 * EVICT_EVERY));
      const address = addressOf(chance.below(DEVICES));
      if (chance.next() < 0.5) {
        const { identity, device = "" } = partsOf(address);
        await edge.evict("Mailbox", deviceURL({ identity, device }));
      } else {
        const { consumer } = await edge.mailbox(address).catch(() => ({ consumer: undefined }));
        if (consumer !== undefined) await edge.evict("Tunnel", consumer);
      }
    }
  }

  /** Kills are spread over messages, not time: a slow machine is killed no more often than a fast one. */
  async function kill(): Promise<void> {
    for (let n = 1; n <= KILLS && !over; n += 1) {
      while (books.received < (MESSAGES * n) / (KILLS + 1) && !over) await sleep(20);
      if (!over) await edge.kill();
    }
  }

  const receiving = devices.map((device, index) => receive(index, device).catch((error) => void failures.push(error)));
  const troubles = [cut(), evict(), kill()];
  const sending = devices.map((device, index) => send(index, device, MESSAGES / DEVICES));
  const sent = Promise.all(sending).then(() => true);
  let allSent = false;
  void sent.then(() => {
    allSent = true;
  });
  while (!(allSent && books.missing.length === 0) && failures.length === 0 && performance.now() - moved < STUCK) {
    await sleep(50);
  }
  // Duplicates may arrive late.
  await sleep(1000);
  over = true;
  await Promise.all(troubles);
  const seconds = (performance.now() - began) / 1000;
  console.log(
    `kills: seed ${seed}: ${books.sent} sent, ${books.received - books.doubled} received, ${
      books.sent - books.received + books.doubled
    } lost, ${books.doubled} doubled, ${books.outOfOrder} out of order; ${edge.kills} kills, ${proxy.cuts} cuts, ${
      edge.evictions
    } evictions, ${reconnects} reconnects, ${seconds.toFixed(1)} s`,
  );
  if (books.missing.length > 0) {
    for (let index = 0; index < DEVICES; index += 1) {
      const status = await edge.mailbox(addressOf(index)).catch(String);
      console.log(`  ${addressOf(index)} by ${devices[index]?.transport}: ${JSON.stringify(status)}`);
    }
  }
  assert.deepEqual(failures, [], "no device gave up");
  assert.ok(allSent, "every message was acknowledged");
  assert.deepEqual(books.missing, [], "nothing is lost");
  assert.equal(books.doubled, 0, "there are no duplicates");
  assert.equal(books.outOfOrder, 0, "nothing was reordered");
  assert.equal(edge.kills, KILLS);
  await Promise.all(devices.map((device) => device.close()));
  await Promise.all(receiving);
  if (process.env.GROOVEWAY_LOG) {
    const kinds = new Map<string, number>();
    for (const line of edge.log) kinds.set(line.slice(0, 300), (kinds.get(line.slice(0, 300)) ?? 0) + 1);
    for (const [line, count] of kinds) console.log(count, line);
  }
});
