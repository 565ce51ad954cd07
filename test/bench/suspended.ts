/** What one suspended session costs the others of its connection: 99 recipients take, and one has its share full. */
import { setTimeout as sleep } from "node:timers/promises";
import { Device } from "../../src/device/index.ts";
import { startEdge } from "./edges.ts";
import { alternate, type Contender, figureOf, intact, type Section, short } from "./report.ts";

const OTHERS = 99;
const ALONE = "99 sessions";
const BESIDE = "the same beside a suspended one, for which 100 MiB and 50,000 messages wait";
/** What the suspended recipient may have waiting of one sender. */
const SHARE = 500;
/** Messages on their way at a time. */
const WINDOW = 1000;

export async function suspended(quick: boolean): Promise<Section> {
  const edge = await startEdge([], { quota: `messages=${2 * SHARE}` });
  const url = `http://127.0.0.1:${edge.port}`;
  const readers: Device[] = [];
  try {
    const arrived = { count: 0, ids: new Set<string>() };
    for (let n = 0; n < OTHERS; n += 1) {
      const reader = await Device.connect({ edge: url, address: `reader-${n}/pc`, transport: "websocket" });
      readers.push(reader);
      void take(reader, arrived);
    }
    const count = quick ? 9900 : 29_700;
    const contender = (name: string, against: string[], beside: boolean): Contender => ({
      name,
      against,
      round: async (warm) => {
        const address = `sender-${crypto.randomUUID()}/pc`;
        const sender = await Device.connect({ edge: url, address, transport: "websocket" });
        const held = beside ? await hold(sender) : [];
        arrived.count = 0;
        arrived.ids.clear();
        const all = warm ? 990 : count;
        const began = performance.now();
        await send(sender, all);
        while (arrived.count < all && performance.now() - began < 120_000) await sleep(1);
        const seconds = (performance.now() - began) / 1000;
        await sender.close();
        await Promise.allSettled(held);
        const duplicated = arrived.count - arrived.ids.size;
        return { value: all / seconds, count: all, lost: all - arrived.ids.size, duplicated };
      },
    });
    const figures = await alternate([contender(ALONE, [], false), contender(BESIDE, [ALONE], true)], quick ? 3 : 6);
    const ratio = figureOf(figures, BESIDE)?.against[0]?.ratio ?? 0;
    return {
      name: "One suspended session among 100 of one connection",
      unit: "messages/s",
      counted: "messages",
      figures,
      goals: [
        intact(figures),
        {
          text: `the other 99 keep 90 % of their rate beside a suspended session (${short(ratio * 100)} %)`,
          met: ratio >= 0.9,
        },
      ],
      notes: ["One WebSocket, messages of 100 bytes, each to its reader by a WebSocket of its own; all durable."],
    };
  } finally {
    await Promise.all(readers.map((reader) => reader.close()));
    await edge.close();
  }
}

async function take(reader: Device, arrived: { count: number; readonly ids: Set<string> }): Promise<void> {
  for await (const message of reader.messages()) {
    arrived.count += 1;
    arrived.ids.add(message.id);
    message.done();
  }
}

/** Fills the share of an absent recipient, and leaves much more waiting for it in the device. */
async function hold(sender: Device): Promise<Promise<unknown>[]> {
  const absent = `absent-${crypto.randomUUID()}/pc`;
  for (let n = 0; n < SHARE; n += 1) await sender.send(absent, "fills the share");
  const large = new Uint8Array(1024 * 1024);
  const held: Promise<unknown>[] = [];
  for (let n = 0; n < 100; n += 1) held.push(sender.send(absent, large));
  for (let n = 0; n < 50_000; n += 1) held.push(sender.send(absent, "waits"));
  for (const one of held) one.catch(() => undefined);
  return held;
}

/** Sends to all readers in turn. */
async function send(sender: Device, count: number): Promise<void> {
  const body = "m".repeat(100);
  for (let from = 0; from < count; from += WINDOW) {
    const size = Math.min(WINDOW, count - from);
    await Promise.all(Array.from({ length: size }, (_, n) => sender.send(`reader-${(from + n) % OTHERS}/pc`, body)));
  }
}
