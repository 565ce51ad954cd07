import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { test } from "node:test";
import { freePort } from "../../src/cli/local-edge/listening-address.ts";
import { Device } from "../../src/device/index.ts";
import { type Child, startChild } from "../support/child.ts";
import { pattern, random, soon } from "../support/watch.ts";
import { folderFor } from "./support.ts";

const MESSAGES = 2000;
const KILLS = 10;
const SHORTEST = 10;
const LONGEST = 100_000;
/** Unacknowledged at a time, so that some are always in flight when the relay is killed. */
const AHEAD = 200;

test(`a relay killed ${KILLS} times loses and duplicates nothing, and keeps the order`, async (t) => {
  const seed = Number(process.env.SEED ?? Date.now() % 1_000_000);
  const next = random(seed);
  const store = join(folderFor(t), "relay.db");
  const program = new URL("./child.ts", import.meta.url);
  // A port that is unlikely to be taken while the relay is down.
  const port = `${await freePort("127.0.0.1", 0)}`;
  let relay: Child = await startChild(program, store, port);
  t.after(() => relay.kill());
  const way = { relay: `127.0.0.1:${port}` };
  const began = performance.now();

  let reconnects = 0;
  const sender = await Device.connect({
    ...way,
    address: "alice/laptop",
    onReconnect: () => {
      reconnects += 1;
    },
  });
  t.after(() => sender.close());
  const bodies = Array.from({ length: MESSAGES }, (_, n) => pattern(SHORTEST + Math.floor(next() * LONGEST), n));
  /** The number of acknowledgements before each kill. */
  const kills = Array.from({ length: KILLS }, () => Math.floor(next() * MESSAGES)).sort((a, b) => a - b);
  const acknowledged = new Set<number>();
  let killing: Promise<void> | undefined;

  async function killAndRestart(): Promise<void> {
    while (kills[0] !== undefined && kills[0] <= acknowledged.size) {
      kills.shift();
      await relay.kill();
      relay = await startChild(program, store, port);
    }
  }

  const underWay = new Set<Promise<void>>();
  for (const [n, body] of bodies.entries()) {
    const sent = sender.send("bob/pc", body, { id: `${n}` }).then(async () => {
      acknowledged.add(n);
      killing ??= killAndRestart().finally(() => {
        killing = undefined;
      });
    });
    underWay.add(sent);
    void sent.finally(() => underWay.delete(sent));
    if (underWay.size >= AHEAD) await Promise.race(underWay);
  }
  await soon(Promise.all(underWay), "all messages to be acknowledged", 60_000);
  await killing;
  while (kills.length > 0) await killAndRestart();
  const sendTime = performance.now() - began;

  // Killed once more with everything on disk, and again during delivery.
  await relay.kill();
  relay = await startChild(program, store, port);
  const receiver = await Device.connect({ ...way, address: "bob/pc" });
  t.after(() => receiver.close());
  const counts = new Map<string, number>();
  let last = -1;
  let outOfOrder = 0;
  let damaged = 0;
  const fetching = (async () => {
    for await (const message of receiver.messages()) {
      const n = Number(message.id.split("@")[0]);
      counts.set(message.id, (counts.get(message.id) ?? 0) + 1);
      if (n !== last + 1) outOfOrder += 1;
      last = n;
      if (digest(message.body) !== digest(bodies[n] ?? new Uint8Array(0))) damaged += 1;
      message.done();
      if (counts.size === MESSAGES / 2) {
        await relay.kill();
        relay = await startChild(program, store, port);
      }
      if (n === MESSAGES - 1) return;
    }
  })();
  await soon(fetching, "all messages to arrive", 60_000);
  const time = performance.now() - began;
  const octets = bodies.reduce((sum, body) => sum + body.length, 0);
  const doubled = [...counts.values()].filter((count) => count > 1).length;
  const lost = bodies.filter((_, n) => !counts.has(`${n}@alice/laptop`)).length;
  t.diagnostic(
    `seed ${seed}: ${MESSAGES} messages, ${(octets / 1e6).toFixed(0)} MB, ${KILLS + 2} kills, ${reconnects} reconnects ` +
      `of the sender; lost ${lost}, doubled ${doubled}, out of order ${outOfOrder}, damaged ${damaged}; sent in ` +
      `${(sendTime / 1000).toFixed(1)} s, all in ${(time / 1000).toFixed(1)} s`,
  );
  assert.equal(acknowledged.size, MESSAGES);
  assert.deepEqual({ lost, doubled, outOfOrder, damaged }, { lost: 0, doubled: 0, outOfOrder: 0, damaged: 0 });
});

function digest(octets: Uint8Array): string {
  return createHash("sha1").update(octets).digest("hex");
}
