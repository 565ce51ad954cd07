/**
 * Silent devices keep no object in memory, and can still be reached.
 *
 * The platform hibernates an object after 10 s of inactivity. A silent WebSocket or LongLived device does not touch
 * its Tunnel at all. A KeepAlive device parks its GET anew every 25 s, which wakes its Tunnel for
 * 11 s: the second silence is long enough for it to hibernate, wake that way, and hibernate again.
 *
 * A Tunnel's status shows whether it has hibernated: `since`, the time its object woke, is not before the message that
 * woke it. A query through the test's proxy keeps the object in memory, so each is queried once, at the end.
 */
import assert from "node:assert/strict";
import { before, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Device, TransportName } from "../../../src/device/index.ts";
import type { InspectedEdge } from "../../support/inspected-edge.ts";
import { FULL } from "../../support/long-form.ts";
import { afterAll, connect, mailboxOf, receive, startEdge, tunnelOf } from "./support.ts";

const DEVICES: readonly (readonly [TransportName, number])[] = [
  ["websocket", FULL ? 200 : 40],
  ["keepalive", FULL ? 200 : 40],
  ["longlived", FULL ? 20 : 10],
];

/** Above the platform's 10 s, after which it evicts an idle object. */
const SHORT_SILENCE = 14_000;

/** Past the GET parked after the first message, the one 25 s later, and 10 s more. */
const LONG_SILENCE = 39_000;

interface Peer {
  readonly name: string;
  readonly transport: TransportName;
  readonly device: Device;
  readonly guid: string;
}

let edge: InspectedEdge;
const all = afterAll();
before(async () => {
  edge = await startEdge(all);
});

/** A few at a time: all at once would measure the delays of this machine. */
async function each<T, R>(items: readonly T[], run: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (let from = 0; from < items.length; from += 40) {
    results.push(...(await Promise.all(items.slice(from, from + 40).map(run))));
  }
  return results;
}

it("objects of silent devices hibernate, and wake for a message", { timeout: 480_000 }, async (t) => {
  const reconnects: string[] = [];
  const names = DEVICES.flatMap(([transport, count]) =>
    Array.from({ length: count }, (_, i) => ({ transport, name: `sleeper/${transport}-${i}` })),
  );
  const started = Date.now();
  const peers = await each(names, async ({ name, transport }): Promise<Peer> => {
    const device = await connect(edge, name, transport, { onReconnect: (error) => reconnects.push(error.message) });
    const { consumer } = await (await mailboxOf(edge, `grooveDevice://${name}`)).status();
    assert.ok(consumer !== undefined);
    return { name, transport, device, guid: consumer };
  });
  const sender = await connect(edge, "sender/pc", "websocket");
  t.after(() => Promise.all([...peers, { device: sender }].map(({ device }) => device.close())));
  t.diagnostic(`${peers.length} devices connected in ${Date.now() - started} ms`);

  /** Sends a message to each device. */
  async function wake(text: string): Promise<void> {
    const sentAt = Date.now();
    await Promise.all(
      peers.map(async ({ name, device }) => {
        const [[message]] = await Promise.all([receive(device, 1, 180_000), sender.send(name, text)]);
        assert.equal(message?.text(), text, name);
      }),
    );
    t.diagnostic(`${text}: all have it after ${Date.now() - sentAt} ms`);
  }

  await sleep(SHORT_SILENCE);
  await wake("the first");
  await sleep(LONG_SILENCE);
  const sentAt = Date.now();
  await wake("the second");
  assert.deepEqual(reconnects, [], "no device lost its connection");
  const slept = new Map<TransportName, number>();
  await each(peers, async ({ transport, guid }) => {
    const tunnel = await tunnelOf(edge, guid);
    // After the silence, Miniflare may call on a connection that the runtime has closed meanwhile.
    const { live, since } = await tunnel.status().catch(() => tunnel.status());
    assert.ok(live);
    // A GET parked shortly before has already woken its object, which then started for that one.
    const latest = transport === "keepalive" ? sentAt - SHORT_SILENCE : sentAt;
    if (since >= latest) slept.set(transport, (slept.get(transport) ?? 0) + 1);
  });
  assert.deepEqual([...slept].sort(), [...DEVICES].sort(), "every object was evicted and recreated");
});
