/**
 * The clients of mailboxes and of their peers, in their own process: the bench itself, which is the parent of workerd,
 * only waits while they work.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { serve } from "../support/rpc.ts";
import { type Client, eachBox, type Letter, letter, Tally, type Way } from "./letters.ts";
import { openDevice, openEngine, openPlatform } from "./mail-clients.ts";
import { openMqtt, openRedis, openStreams } from "./peer-clients.ts";

export interface Load {
  readonly id: number;
  /** Messages sent together; the next are sent when all of them are acknowledged. */
  readonly batch: number;
  /** Whether a batch has a message for each of as many boxes, or all of it goes into one. */
  readonly spread: boolean;
  /** Concurrent batches of each client. */
  readonly outstanding: number;
  readonly milliseconds: number;
  /** Messages in total: mailboxes have a quota. */
  readonly limit: number;
  /** Whether the store guarantees the order in which a client sent. */
  readonly ordered: boolean;
  /** Whether a reader takes everything acknowledged, or the count is enough. */
  readonly take: boolean;
}

export interface Done {
  readonly messages: number;
  readonly milliseconds: number;
  readonly lost: number;
  readonly duplicated: number;
  /** Rows written by appending, if the store counts them, and by appending and taking. */
  readonly rows: { readonly appended: number; readonly taken: number } | undefined;
}

interface Group {
  readonly clients: readonly Client[];
  readonly boxes: number;
}

const groups = new Map<number, Group>();
let runs = 0;

serve({
  /** Connects some clients to a store. */
  async open({ id, way, clients }: { id: number; way: Way; clients: number }) {
    const opened: Client[] = [];
    for (let number = 0; number < clients; number += 1) opened.push(await openClient(way, number));
    groups.set(id, { clients: opened, boxes: way.boxes });
    // Every box exists, and every client has a session to it.
    const everywhere = Array.from({ length: way.boxes }, (_, box) => letter(0, 0, box, 1));
    for (const client of opened) await client.append(everywhere);
    const [first] = opened;
    await eachBox(way.boxes, async (box) => {
      if ((await first?.count(box)) === undefined) await first?.take(box, clients, () => undefined);
    });
    await first?.empty();
  },

  /** Has each client send batch after batch until time is up, and checks that everything arrived exactly once. */
  async load({ id, batch, spread, outstanding, milliseconds, limit, ordered, take }: Load): Promise<Done> {
    const { clients, boxes } = groupOf(id);
    runs += 1;
    const tally = new Tally(runs);
    const [first] = clients;
    if (first === undefined) throw new Error("there is no client");
    // An idle object has hibernated: the cost of waking it is not measured.
    await first.append(Array.from({ length: boxes }, (_, box) => tally.next(0, box)));
    const rows = await first.rows?.(0);
    let messages = 0;
    const began = performance.now();
    const loops = clients.flatMap((client, number) => {
      // Each client starts with another box, so that they do not all write to the same one at once.
      let at = Math.floor((number * boxes) / clients.length);
      return Array.from({ length: outstanding }, async () => {
        while (performance.now() - began < milliseconds && messages + batch <= limit) {
          const letters: Letter[] = [];
          for (let n = 0; n < batch; n += 1) {
            letters.push(tally.next(number, at));
            if (spread) at = (at + 1) % boxes;
          }
          if (!spread) at = (at + 1) % boxes;
          messages += batch;
          await client.append(letters);
        }
      });
    });
    await Promise.all(loops);
    const spent = performance.now() - began;
    const appended = await first.rows?.(0);
    const { lost, duplicated } = await verify(first, tally, boxes, take);
    if (ordered && tally.disordered > 0) throw new Error(`${tally.disordered} messages came out of order`);
    const taken = await first.rows?.(0);
    await first.empty();
    const counted = rows !== undefined && appended !== undefined && taken !== undefined;
    return {
      messages,
      milliseconds: spent,
      lost,
      duplicated,
      rows: counted ? { appended: appended - rows, taken: taken - rows } : undefined,
    };
  },

  /** Sends one message at a time into box 0 while a reader watches it: milliseconds from send() to the reader. */
  async deliver({ id, count, milliseconds }: { id: number; count: number; milliseconds: number }) {
    const [client] = groupOf(id).clients;
    if (client === undefined) throw new Error("there is no client");
    runs += 1;
    const run = runs;
    const samples: number[] = [];
    let duplicated = 0;
    let lost = 0;
    let arrived: (text: string) => void = () => undefined;
    const stop = await client.watch((text) => arrived(text));
    // Until the reader is certainly connected.
    await sleep(100);
    const until = performance.now() + milliseconds;
    for (let number = 1; number <= count && performance.now() < until; number += 1) {
      const sending = letter(run, 0, 0, number);
      const { promise, resolve } = Promise.withResolvers<boolean>();
      const timer = setTimeout(() => resolve(false), 5_000);
      const began = performance.now();
      let spent = 0;
      arrived = (text) => {
        if (text !== sending.text) return;
        if (spent > 0) duplicated += 1;
        else spent = performance.now() - began;
        resolve(true);
      };
      const [came] = await Promise.all([promise, client.append([sending])]);
      clearTimeout(timer);
      if (came) samples.push(spent);
      else lost += 1;
    }
    stop();
    await client.empty();
    return { samples, lost, duplicated };
  },

  async close(id: number) {
    // A skipped one was never opened.
    for (const client of groups.get(id)?.clients ?? []) await client.close();
    groups.delete(id);
  },
});

async function verify(
  client: Client,
  tally: Tally,
  boxes: number,
  take: boolean,
): Promise<{ lost: number; duplicated: number }> {
  let lost = 0;
  let duplicated = 0;
  // Messages for a reader.
  let taken = 0;
  await eachBox(boxes, async (box) => {
    const sent = tally.sent(box);
    const count = take ? undefined : await client.count(box);
    if (count === undefined) {
      taken += sent;
      if (sent > 0) await client.take(box, sent, (text) => tally.take(text));
    } else {
      lost += Math.max(0, sent - count);
      duplicated += Math.max(0, count - sent);
    }
  });
  return { lost: lost + taken - tally.came, duplicated: duplicated + tally.duplicated };
}

function openClient(way: Way, number: number): Promise<Client> {
  switch (way.kind) {
    case "device":
      return openDevice(way, number);
    case "engine":
      return openEngine(way, number);
    case "platform":
      return openPlatform(way);
    case "durable-streams":
      return openStreams(way, number);
    case "redis":
      return openRedis(way);
    case "mqtt":
      return openMqtt(way, number);
  }
}

function groupOf(id: number): Group {
  const group = groups.get(id);
  if (group === undefined) throw new Error(`group ${id} was not opened`);
  return group;
}
