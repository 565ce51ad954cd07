/**
 * The request arrives and its answer does not: a sender cannot distinguish this from a lost request. Each answer of a
 * transfer is lost once, and no message may be lost, duplicated or reordered.
 */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import type { Device } from "../../src/device/index.ts";
import { deviceURL } from "../../src/sstp/index.ts";
import { afterAll, RawClient, startEdge, until } from "../edge/mailbox/support.ts";
import { partsOf } from "../support/address.ts";
import type { InspectedEdge } from "../support/inspected-edge.ts";
import { FULL } from "../support/long-form.ts";
import { type Loss, LossyProxy, statusOf } from "./lossy.ts";
import { ADMIN_TOKEN, Chance, ENCAPSULATIONS, insist, KEYS, seedOf, stamped, stampOf, tokenFor } from "./support.ts";

type Encapsulation = (typeof ENCAPSULATIONS)[number];
type Victim = "sender" | "receiver";

/** Messages of a transfer. If the loss has not happened by then, as many again. */
const MESSAGES = 12;
const LENGTHS = [10, 2_000, 10, 60_000] as const;
const ROUNDS = 5;
/** Concurrent transfers: most of each is the pause before a device reconnects. */
const PARALLEL = 16;
/** By default each of the first units is lost, and some of the later ones. */
const FIRST = FULL ? Number.POSITIVE_INFINITY : 10;
const BEHIND = 4;
/** The application finishes a message within this many milliseconds. */
const LATEST = 100;

const seed = seedOf();
let edge: InspectedEdge;
const all = afterAll();
before(async () => {
  edge = await startEdge(all, { adminToken: ADMIN_TOKEN, keys: KEYS });
});

/** The description of a transfer. */
interface Transfer {
  readonly units: number;
  readonly lost: boolean;
  readonly reconnects: number;
  /** Messages that reached the mailbox again, and were not stored again. */
  readonly repeated: number;
}

let transfers = 0;
/** Transfers are closed while the next ones run: a LongLived device takes a second. */
const leaving: Promise<unknown>[] = [];

async function transfer(encapsulation: Encapsulation, victim: Victim, loss?: Loss): Promise<Transfer> {
  transfers += 1;
  const from = `from${transfers}/pc`;
  const to = `to${transfers}/pc`;
  const proxy = await LossyProxy.before(Number(new URL(edge.url).port), encapsulation, loss);
  const lossy = `http://127.0.0.1:${proxy.port}`;
  const inbox = new Inbox();
  let reconnects = 0;
  const onReconnect = () => {
    reconnects += 1;
  };
  const open: (() => unknown)[] = [() => proxy.close()];
  try {
    // The other side uses the way that hides least: the receiver then has no memory of ids, and a message stored twice
    // would be delivered twice.
    if (victim === "sender") {
      const receiver = await RawClient.open(edge, "websocket", urlOf(to), undefined, {}, await tokenFor(to));
      open.push(() => receiver.close());
      inbox.read = () => receiver.messages.map(({ body }) => body);
    } else {
      const receiver = await insist({ edge: lossy, address: to, transport: encapsulation, onReconnect });
      open.push(() => receiver.close());
      inbox.follow(receiver, new Chance(seed + transfers));
    }
    const sender = await insist(
      victim === "sender"
        ? { edge: lossy, address: from, transport: encapsulation, onReconnect }
        : { edge: edge.url, address: from, transport: "websocket" },
    );
    open.push(() => sender.close());
    let sent = 0;
    const send = () => {
      sent += 1;
      return sender.send(to, stamped(0, 0, sent, LENGTHS[sent % LENGTHS.length] ?? 0));
    };
    for (let round = 0; round < ROUNDS && (round === 0 || (loss !== undefined && !proxy.lost)); round += 1) {
      // A few one by one, each with its own exchange, and the rest in a burst.
      for (let one = 0; one < MESSAGES / 3; one += 1) await send();
      await Promise.all(Array.from({ length: (2 * MESSAGES) / 3 }, send));
      await until("all have come", () => inbox.read().length >= sent);
    }
    await until("the mailbox is empty", async () => (await statusOf(edge, to)).messages === 0);
    // Duplicates arrived before this one.
    await send();
    await until("the last has come", () => inbox.read().length >= sent);
    assert.deepEqual(
      inbox.counters(),
      Array.from({ length: sent }, (_, index) => index + 1),
      "each came once and in its order",
    );
    assert.deepEqual(inbox.failures, []);
    await until("the mailbox is empty again", async () => (await statusOf(edge, to)).messages === 0);
    const { dropped } = await statusOf(edge, to);
    return { units: proxy.units, lost: proxy.lost, reconnects, repeated: dropped.DuplicateMessage ?? 0 };
  } finally {
    leaving.push(
      (async () => {
        for (const close of open.reverse()) await close();
      })(),
    );
  }
}

/** Messages given to an application. */
class Inbox {
  readonly failures: unknown[] = [];
  readonly #bodies: Uint8Array[] = [];
  read: () => readonly Uint8Array[] = () => this.#bodies;

  follow(device: Device, chance: Chance): void {
    const reading = async () => {
      for await (const message of device.messages()) {
        this.#bodies.push(message.body);
        // Some are finished after their connection is lost, and are redelivered on the next.
        if (chance.next() < 0.5) message.done();
        else setTimeout(message.done, chance.below(LATEST));
      }
    };
    reading().catch((error) => void this.failures.push(error));
  }

  counters(): number[] {
    return this.read().map((body) => stampOf(body).counter);
  }
}

function urlOf(address: string): string {
  const { identity, device = "" } = partsOf(address);
  return deviceURL({ identity, device });
}

/** Which units are lost: each of the first, and a random selection of the others. */
function chosen(units: number, chance: Chance): number[] {
  const first = Array.from({ length: Math.min(units, FIRST) }, (_, index) => index + 1);
  const others = Array.from({ length: units - first.length }, (_, index) => first.length + index + 1);
  const picked = Array.from({ length: Math.min(BEHIND, others.length) }, () => {
    const [one] = others.splice(chance.below(others.length), 1);
    return one ?? 0;
  });
  return [...first, ...picked];
}

/** Runs tasks with limited concurrency. */
async function pooled(tasks: readonly (() => Promise<void>)[]): Promise<void> {
  const waiting = [...tasks];
  const worker = async () => {
    for (let task = waiting.shift(); task !== undefined; task = waiting.shift()) await task();
  };
  await Promise.all(Array.from({ length: PARALLEL }, worker));
}

test("the loss of each answer in a transfer once causes no loss, duplication or reordering", {
  timeout: FULL ? 1_200_000 : 480_000,
}, async () => {
  const began = performance.now();
  const chance = new Chance(seed);
  const failures: string[] = [];
  const lines: { readonly name: string; readonly units: number; readonly runs: Transfer[]; asked: number }[] = [];
  const tasks: (() => Promise<void>)[] = [];
  // The slowest last: the last in the list starts first.
  const kinds = ENCAPSULATIONS.flatMap((encapsulation) =>
    (["receiver", "sender"] as const).map((victim) => ({ encapsulation, victim })),
  );
  const counted = await Promise.all(kinds.map(({ encapsulation, victim }) => transfer(encapsulation, victim)));
  for (const [index, { encapsulation, victim }] of kinds.entries()) {
    const { units } = counted[index] ?? assert.fail("each kind was counted");
    const which = chosen(units, chance);
    const line = { name: `${encapsulation} ${victim}`, units, runs: [] as Transfer[], asked: 0 };
    lines.push(line);
    for (const n of which) {
      for (const by of FULL ? (["reset", "end"] as const) : ([n % 2 === 0 ? "reset" : "end"] as const)) {
        const loss: Loss = { n, by, part: n % 3 === 0 ? chance.next() : 0 };
        line.asked += 1;
        tasks.push(async () => {
          try {
            line.runs.push(await transfer(encapsulation, victim, loss));
          } catch (error) {
            failures.push(`${line.name} ${JSON.stringify(loss)}: ${String(error)}`);
          }
        });
      }
    }
  }
  await pooled(tasks.reverse());
  await Promise.all(leaving);
  const total = (count: (run: Transfer) => number) =>
    lines.flatMap(({ runs }) => runs).reduce((sum, run) => sum + count(run), 0);
  for (const { name, units, runs, asked } of lines) {
    const lost = runs.filter((run) => run.lost).length;
    const reconnects = runs.reduce((sum, run) => sum + run.reconnects, 0);
    const repeated = runs.reduce((sum, run) => sum + run.repeated, 0);
    console.log(
      `reply-lost: ${name}: ${units} answers in a transfer, ${asked} transfers, ${lost} answers lost, ${reconnects} reconnects, ${repeated} messages sent again`,
    );
  }
  const seconds = (performance.now() - began) / 1000;
  console.log(
    `reply-lost: seed ${seed}: ${total(() => 1)} transfers of ${tasks.length} right, ${total((run) => (run.lost ? 1 : 0))} answers lost, ${total((run) => run.repeated)} messages sent again, ${seconds.toFixed(1)} s`,
  );
  assert.deepEqual(failures, []);
  assert.equal(
    total((run) => (run.lost ? 1 : 0)),
    tasks.length,
    "each transfer has lost the answer that it was to lose",
  );
  assert.ok(total((run) => run.repeated) > 0, "some losses made a sender resend");
});
