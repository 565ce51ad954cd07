/** Pairs of devices that exchange messages while something else is measured, in their own process. */
import { setTimeout as sleep } from "node:timers/promises";
import { Device, type TransportName } from "../../src/device/index.ts";
import { serve } from "../support/rpc.ts";

export interface Pair {
  readonly sender: { readonly address: string; readonly token: string; readonly transport: TransportName };
  readonly receiver: { readonly address: string; readonly token: string; readonly transport: TransportName };
}

export interface Delivered {
  /** Milliseconds from send() to the reader, for each message. */
  readonly samples: readonly number[];
  readonly lost: number;
  readonly duplicated: number;
  /** Messages from others that claimed to come from one of these devices. */
  readonly impersonated: number;
  readonly reconnects: number;
}

interface Open {
  readonly sender: Device;
  readonly receiver: Device;
  readonly to: string;
}

let pairs: Open[] = [];
let samples: number[] = [];
let seen = new Set<string>();
let duplicated = 0;
let impersonated = 0;
let reconnects = 0;
let run = 0;

/** The body of a message: pair, run, number, and time of sending. */
const parse = (text: string) => /^bystander (\S+) (\d+) (\d+) ([\d.]+)$/.exec(text);

async function read(device: Device, from: string): Promise<void> {
  for await (const message of device.messages()) {
    const parsed = parse(message.text());
    message.done();
    if (parsed === null) {
      // Others may write anything here, but not in the name of another.
      if (!message.from?.startsWith("mallory/")) impersonated += 1;
      continue;
    }
    const [, sender = "", number = "", count = "", at = ""] = parsed;
    if (Number(number) !== run) continue;
    const key = `${sender} ${count}`;
    if (seen.has(key)) duplicated += 1;
    else samples.push(performance.now() - Number(at));
    seen.add(key);
    if (message.from !== from) impersonated += 1;
  }
}

serve({
  async open({ edge, all }: { edge: string; all: readonly Pair[] }) {
    const onReconnect = () => {
      reconnects += 1;
    };
    pairs = await Promise.all(
      all.map(async ({ sender, receiver }) => ({
        sender: await Device.connect({ edge, ...sender, onReconnect }),
        receiver: await Device.connect({ edge, ...receiver, onReconnect }),
        to: receiver.address,
      })),
    );
    for (const { receiver, sender } of pairs) void read(receiver, sender.address);
  },

  /** Each pair sends a message at this interval, until `count` have been sent in all. */
  async deliver({ count, every }: { count: number; every: number }): Promise<Delivered> {
    run += 1;
    samples = [];
    seen = new Set();
    duplicated = 0;
    impersonated = 0;
    reconnects = 0;
    const each = Math.ceil(count / pairs.length);
    await Promise.all(
      pairs.map(async ({ sender, to }) => {
        const sending: Promise<unknown>[] = [];
        for (let number = 1; number <= each; number += 1) {
          // Open loop: a slow delivery delays no other message.
          sending.push(sender.send(to, `bystander ${sender.address} ${run} ${number} ${performance.now()}`));
          await sleep(every);
        }
        await Promise.all(sending);
      }),
    );
    const until = performance.now() + 30_000;
    while (seen.size < each * pairs.length && performance.now() < until) await sleep(20);
    return { samples, lost: each * pairs.length - seen.size, duplicated, impersonated, reconnects };
  },

  async close() {
    await Promise.all(pairs.flatMap(({ sender, receiver }) => [sender.close(), receiver.close()]));
  },
});
