/**
 * Silent devices keep no object in memory, and are reached all the same.
 *
 * The platform puts an object to sleep after 10 s in which nothing happened. A WebSocket or LongLived device does nothing
 * to its Tunnel for as long as it is silent. A KeepAlive device parks its GET anew each 25 s, which wakes its Tunnel for
 * 11 s: the second silence is long enough for it to sleep, be woken so, and sleep again.
 *
 * That a Tunnel has slept shows in its status: `since`, when its object woke, is not before the message that woke it. Who
 * asks an object through the test's proxy keeps it in memory from then on, so each is asked once, in the end.
 */
import assert from "node:assert/strict";
import { after, before, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { LocalEdge } from "../../../src/cli/local-edge/local-edge.ts";
import type { Device, TransportName } from "../../../src/device/index.ts";
import { connect, mailboxOf, receive, startEdge, tunnelOf } from "./support.ts";

const DEVICES: readonly (readonly [TransportName, number])[] = [
  ["websocket", 200],
  ["keepalive", 200],
  ["longlived", 20],
];

/** Above the platform's 10 s, after which it lets an idle object go. */
const SHORT_SILENCE = 14_000;

/** Past the GET that was parked after the first message, the one 25 s after it, and 10 s more. */
const LONG_SILENCE = 39_000;

interface Peer {
  readonly name: string;
  readonly transport: TransportName;
  readonly device: Device;
  readonly guid: string;
}

let edge: LocalEdge;
const closing: (() => Promise<unknown>)[] = [];
before(async () => {
  edge = await startEdge({ after: (run) => closing.push(run) });
});
after(async () => {
  for (const close of closing) await close();
});

/** A few at a time: all at once would measure how long this machine's two ends wait for each other. */
async function each<T, R>(items: readonly T[], run: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (let from = 0; from < items.length; from += 40) {
    results.push(...(await Promise.all(items.slice(from, from + 40).map(run))));
  }
  return results;
}

it("lets the objects of silent devices sleep, and wakes them for a message", { timeout: 480_000 }, async (t) => {
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
  assert.deepEqual(reconnects, [], "no device has lost its connection");
  const slept = new Map<TransportName, number>();
  await each(peers, async ({ transport, guid }) => {
    const { live, since } = await (await tunnelOf(edge, guid)).status();
    assert.ok(live);
    // A GET that was parked anew shortly before has woken its object: then it was made anew for that one.
    const latest = transport === "keepalive" ? sentAt - SHORT_SILENCE : sentAt;
    if (since >= latest) slept.set(transport, (slept.get(transport) ?? 0) + 1);
  });
  assert.deepEqual([...slept].sort(), [...DEVICES].sort(), "every object was gone from memory, and was made anew");
});
