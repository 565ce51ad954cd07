/**
 * A mixed load for long: messages by all encapsulations, to many at a time and over a link, streams between devices, and
 * readers over HTTP, while connections are cut and the edge is killed or restarted. Nothing may be lost or come twice, and
 * between its restarts the edge may not grow, in memory or on disk.
 *
 *   GROOVEWAY_SOAK=600    seconds that it lasts; from five minutes on, growth is judged
 */
import assert from "node:assert/strict";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { BackoffDefaults, createFetchWithBackoff, DurableStream, IdempotentProducer } from "@durable-streams/client";
import { newLinkSecret } from "../../src/auth/relay-proof.ts";
import { freePort } from "../../src/cli/local-edge/listening-address.ts";
import { type Device, MemoryKeyring, openTransport } from "../../src/device/index.ts";
import { RelayConnection } from "../../src/device/relay-connection.ts";
import { startRelay } from "../../src/relay/index.ts";
import { deviceURL, identityURL } from "../../src/sstp/index.ts";
import { publicKeyOf } from "../../src/streams/index.ts";
import { atRelay } from "../edge/link/link-support.ts";
import { partsOf } from "../support/address.ts";
import { grows, type Look, trendOf, windowed } from "../support/trend.ts";
import { readRecords } from "./read-records.ts";
import {
  Books,
  Chance,
  CuttingProxy,
  ENCAPSULATIONS,
  httpToken,
  insist,
  Mortal,
  seedOf,
  stamped,
  stampOf,
  tokenFor,
} from "./support.ts";
import { Tape } from "./tape.ts";

const SECONDS = Number(process.env.GROOVEWAY_SOAK ?? 20);
/** Between two restarts. In that time memory reaches its level, and there is enough left to judge it by. */
const LIFE = Math.max(SECONDS / Math.max(2, Math.round(SECONDS / 1800)), 1);
/** The part of a life in which caches fill, and the runtime compiles what is hot. */
const WARM_UP = 0.4;
/** Windows of which the medians are compared, in what is left of a life. */
const WINDOWS = 8;
const JUDGED_FROM = 300;
const MIB = 1024 * 1024;
/**
 * What the edge may grow by in what is judged of a life. Memory: what the allocator and the collector of garbage differ by
 * from hour to hour. Folder, without the logs of its databases: what has waited most at a time, because a database keeps the
 * pages that it has freed. The {@link OUTSTANDING} messages of each sender are some 2 MB, and those that come after a
 * restart, before all have connected again, are some more.
 */
const MEMORY = { share: 0.1, least: 24 * MIB };
const FOLDER = { share: 0.1, least: 8 * MIB };
/**
 * Longest log of a database. SQLite writes a log back when it has 1000 pages, which are 4.0 MiB with their headers, and then
 * writes over it: each log grows to that and stays, in minutes or hours. One that a reader holds open meanwhile, or a
 * transaction of many long messages, may take as much again. The logs together grow with the objects that are in memory, to
 * some hundred MiB, so they are not judged by their growth.
 */
const LOG = 8 * MIB;

const DEVICES = 8;
const LINKED = 2;
/** Stamps: devices at the edge, then those at the relay, then who sends to many. */
const AT_RELAY = DEVICES;
const TO_MANY = DEVICES + LINKED;
/** Milliseconds between two messages of a device, at most. */
const PACE = 120;
const TO_MANY_PACE = 500;
const OUTSTANDING = 20;
const CUT_EVERY = 3_000;
const LOOK_EVERY = 2_000;
/** Records of one stream over HTTP, which is then deleted. */
const RECORDS = 500;
/** Names that streams have one after another: the platform keeps an empty file for each name that was ever used. */
const NAMES = 8;
const BATCH = 20;
const KIB = 1024;
const STREAM_OCTETS = 512 * KIB;
/** No progress for this long means that none will come. */
const STUCK = 180_000;

const addressOf = (index: number) => `soak${index}/pc`;

test("a mixed load for long", { timeout: SECONDS * 1000 + 2 * STUCK + 120_000 }, async (t) => {
  const seed = seedOf();
  const chance = new Chance(seed);
  const load = await Load.start(t, chance);
  try {
    await judge(load, seed);
  } finally {
    // Otherwise its devices would keep the process alive, and what failed would not be told.
    await load.close();
  }
});

/** Lets the load go on, and judges what it has done. */
async function judge(load: Load, seed: number): Promise<void> {
  const looks: { memory: Look[]; folder: Look[] }[] = [];
  let longest = 0;
  const began = performance.now();
  const secondsNow = () => (performance.now() - began) / 1000;
  const lives = Math.round(SECONDS / LIFE);
  for (let life = 0; life < lives; life += 1) {
    const seen = { memory: [] as Look[], folder: [] as Look[] };
    looks.push(seen);
    const from = secondsNow();
    while (secondsNow() < from + LIFE && load.failures.length === 0) {
      await sleep(LOOK_EVERY);
      const at = secondsNow();
      if (at < from + LIFE * WARM_UP) continue;
      seen.memory.push({ at, value: load.edge.memory });
      const { data, longestLog } = sizeOf(load.edge.folder);
      seen.folder.push({ at, value: data });
      longest = Math.max(longest, longestLog);
    }
    if (life < lives - 1) await (life % 2 === 0 ? load.edge.kill() : load.edge.restart());
  }
  await load.settle();
  const seconds = secondsNow();
  const { books, failures } = load;
  console.log(
    `soak: seed ${seed}: ${books.sent} sent, ${books.received - books.doubled} received, ` +
      `${books.sent - books.received + books.doubled} lost, ${books.doubled} doubled; ${load.records} records read over HTTP, ` +
      `${(load.streamed / MIB).toFixed(0)} MiB streamed back and forth in ${load.streams} streams; ${load.proxy.cuts} cuts, ` +
      `${lives - 1} restarts, ${load.reconnects} reconnects, ${seconds.toFixed(0)} s`,
  );
  const grown: string[] = [];
  for (const [life, { memory, folder }] of looks.entries()) {
    for (const [name, all, bound] of [
      ["memory", memory, MEMORY],
      ["folder", folder, FOLDER],
    ] as const) {
      const medians = windowed(all, WINDOWS);
      if (medians.length < 3) continue;
      const { mean, growth, error, slope } = trendOf(medians);
      const text =
        `life ${life + 1}, ${name}: ${(mean / MIB).toFixed(1)} MiB, ${(growth / MIB).toFixed(2)} MiB in its last ` +
        `${(LIFE * (1 - WARM_UP)).toFixed(0)} s, ${((slope * 3600) / MIB).toFixed(1)} ± ${((error * 3600) / MIB).toFixed(1)} MiB an hour`;
      console.log(`  ${text}; ${medians.map(({ value }) => (value / MIB).toFixed(1)).join(" ")}`);
      if (SECONDS >= JUDGED_FROM && grows(medians, bound)) grown.push(text);
    }
  }
  console.log(`  longest log: ${(longest / MIB).toFixed(1)} MiB`);
  assert.deepEqual(failures, []);
  assert.deepEqual(books.missing, [], "nothing is lost");
  assert.equal(books.doubled, 0, "nothing comes twice");
  assert.deepEqual(grown, [], "nothing grows");
  assert.ok(longest > 0 && longest <= LOG, `the longest log of a database has ${longest} bytes`);
  assert.ok(load.records > 0 && load.streams > 0, "every kind of load was there");
}

/** Bytes on disk of all files in a folder but the logs of databases, and of the longest of these. */
function sizeOf(folder: string): { readonly data: number; readonly longestLog: number } {
  let [data, longestLog] = [0, 0];
  for (const name of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
    try {
      const stat = statSync(join(folder, name));
      if (!stat.isFile()) continue;
      if (name.endsWith("-wal")) longestLog = Math.max(longestLog, stat.size);
      else data += stat.size;
    } catch {
      // It has gone meanwhile.
    }
  }
  return { data, longestLog };
}

class Load {
  readonly edge: Mortal;
  readonly proxy: CuttingProxy;
  readonly books = new Books();
  readonly failures: string[] = [];
  reconnects = 0;
  records = 0;
  streams = 0;
  streamed = 0;
  readonly #chance: Chance;
  readonly #relayName: string;
  readonly #leave = new AbortController();
  readonly #running: Promise<void>[] = [];
  readonly #receiving: Promise<void>[] = [];
  readonly #devices: Device[] = [];
  #over = false;
  #moved = performance.now();

  private constructor(edge: Mortal, proxy: CuttingProxy, relayName: string, chance: Chance) {
    this.edge = edge;
    this.proxy = proxy;
    this.#relayName = relayName;
    this.#chance = chance;
  }

  static async start(t: TestContext, chance: Chance): Promise<Load> {
    const port = await freePort("127.0.0.1", 0);
    const name = `127.0.0.1:${port}`;
    const secret = newLinkSecret();
    const relay = await startRelay({ port, names: [name, "127.0.0.1"], linkSecrets: `localhost=${secret}` });
    t.after(() => relay.close());
    const options = {
      relayAllow: [name],
      linkSecrets: `${name}=${secret}`,
      relayName: ["localhost", "127.0.0.1"],
      dev: "private",
    };
    const edge = await Mortal.start(options);
    t.after(() => edge.close());
    const proxy = await CuttingProxy.before(() => edge.port);
    t.after(() => proxy.close());
    const load = new Load(edge, proxy, name, chance);
    const url = `http://127.0.0.1:${proxy.port}`;
    for (let index = 0; index < DEVICES; index += 1) {
      const transport = ENCAPSULATIONS[index % ENCAPSULATIONS.length] ?? "websocket";
      const onReconnect = () => {
        load.reconnects += 1;
      };
      load.#devices.push(await insist({ edge: url, address: addressOf(index), transport, onReconnect }));
    }
    for (let index = 0; index < LINKED; index += 1)
      load.#devices.push(await atRelay(t, port, addressOf(AT_RELAY + index)));
    // The relay learns of the edge from its link.
    await load.#devices[0]?.send(`nobody/pc@${name}`, "hello");
    while (relay.waiting("grooveDevice://nobody/pc").messages === 0) await sleep(20);
    for (const [index, device] of load.#devices.entries()) {
      load.#receiving.push(load.#guard("receive", () => load.#receive(index, device)));
      load.#run("send", () => load.#send(index, device));
    }
    load.#run("to many", () => load.#sendToMany(url));
    load.#run("HTTP", () => load.#append(url));
    load.#run("streams", () => load.#stream(url));
    load.#run("cuts", () => load.#cut());
    return load;
  }

  /** Ends the load, and waits until everything has arrived. */
  async settle(): Promise<void> {
    this.#over = true;
    await Promise.all(this.#running);
    this.#moved = performance.now();
    while (this.books.missing.length > 0 && this.failures.length === 0 && performance.now() - this.#moved < STUCK) {
      await sleep(50);
    }
    // Doubles may come late.
    await sleep(2000);
  }

  async close(): Promise<void> {
    this.#leave.abort();
    await Promise.all(this.#devices.map((device) => device.close()));
    await Promise.all(this.#receiving);
  }

  #run(name: string, run: () => Promise<void>): void {
    this.#running.push(this.#guard(name, run));
  }

  async #guard(name: string, run: () => Promise<void>): Promise<void> {
    try {
      await run();
    } catch (error) {
      this.failures.push(`${name}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
    }
  }

  async #receive(index: number, device: Device): Promise<void> {
    for await (const message of device.messages()) {
      const { sender, receiver, counter } = stampOf(message.body);
      if (receiver !== TO_MANY) assert.equal(receiver, index);
      this.books.receive(sender, index, counter);
      this.#moved = performance.now();
      message.done();
    }
  }

  /** Those at the edge send to all, those at the relay to those at the edge. */
  async #send(index: number, device: Device): Promise<void> {
    const outstanding = new Set<Promise<unknown>>();
    while (!this.#over) {
      const receiver = this.#chance.below(index < AT_RELAY ? DEVICES + LINKED : DEVICES);
      const length = this.#chance.next() < 0.005 ? 200_000 : Math.floor(10 * 1000 ** this.#chance.next());
      const body = stamped(index, receiver, this.books.send(index, receiver), length);
      const sending = device
        .send(this.#addressFrom(index, receiver), body)
        .catch((error: unknown) => void this.failures.push(`send: ${error}`))
        .finally(() => outstanding.delete(sending));
      outstanding.add(sending);
      if (outstanding.size >= OUTSTANDING) await Promise.race(outstanding);
      await sleep(this.#chance.below(PACE));
    }
    await Promise.all(outstanding);
  }

  #addressFrom(sender: number, receiver: number): string {
    if (sender >= AT_RELAY) return `${addressOf(receiver)}@localhost`;
    return receiver >= AT_RELAY ? `${addressOf(receiver)}@${this.#relayName}` : addressOf(receiver);
  }

  /** One message to all devices of the edge at a time, sent again under its id until it is acknowledged. */
  async #sendToMany(edge: string): Promise<void> {
    const address = { identity: "many", device: "pc" };
    const entries = Array.from({ length: DEVICES }, (_, index) => {
      const to = partsOf(addressOf(index));
      return { identityURL: identityURL(to), deviceURL: deviceURL(to), relayURL: "" };
    });
    const unacknowledged = new Map<number, Uint8Array>();
    let counter = 0;
    while (!this.#over || unacknowledged.size > 0) {
      if (this.failures.length > 0) return;
      const numbers = new Map<number, number>();
      const ready = Promise.withResolvers<number>();
      const carrier: RelayConnection = new RelayConnection(
        {
          transport: "websocket",
          relay: "127.0.0.1",
          edge,
          token: await tokenFor("many/pc"),
          address,
          ends: true,
          receive: true,
          open: openTransport,
        },
        (event) => {
          if (event.type === "sessionState" && event.state === "ready") ready.resolve(event.sessionId);
          if (event.type !== "acknowledged") return;
          for (const number of event.messages) unacknowledged.delete(numbers.get(number) ?? 0);
        },
        () => undefined,
      );
      const gone = carrier.ended.then(() => undefined);
      try {
        await carrier.connect();
        carrier.engine.openFanout({ resourceURL: "message", entries });
        void carrier.flush();
        const session = await Promise.race([ready.promise, gone]);
        const give = (n: number, body: Uint8Array) => {
          if (session === undefined) return;
          carrier.engine.beginMessage(session, { userRef: `many-${n}@many/pc`, acknowledgeImmediately: true });
          carrier.engine.data(session, body);
          numbers.set(carrier.engine.endMessage(session), n);
          void carrier.flush();
        };
        if (session !== undefined) for (const [n, body] of unacknowledged) give(n, body);
        while (session !== undefined && carrier.ready(session) && (!this.#over || unacknowledged.size > 0)) {
          if (!this.#over) {
            counter += 1;
            for (let index = 0; index < DEVICES; index += 1) this.books.send(TO_MANY, index);
            const body = stamped(TO_MANY, TO_MANY, counter, 500);
            unacknowledged.set(counter, body);
            give(counter, body);
          }
          await Promise.race([gone, sleep(TO_MANY_PACE)]);
        }
      } catch {
        // It connects again.
        await sleep(200);
      }
      carrier.abandon();
    }
  }

  /** Streams over HTTP: each is written, read by another client as it grows, and deleted. */
  async #append(edge: string): Promise<void> {
    const insistent = createFetchWithBackoff(fetch, {
      ...BackoffDefaults,
      initialDelay: 20,
      maxDelay: 1000,
      maxRetries: Number.POSITIVE_INFINITY,
    });
    for (let n = 0; !this.#over && this.failures.length === 0; n += 1) {
      const url = `${edge}/mailboxes/app/soak/${n % NAMES}`;
      const headers = { Authorization: `Bearer ${await httpToken()}` };
      const handle = await DurableStream.create({ url, headers, contentType: "application/json", fetch: insistent });
      const producer = new IdempotentProducer(handle, "soak", {
        lingerMs: 5,
        maxInFlight: 1,
        fetch: insistent,
        onError: (error) => void this.failures.push(`append: ${error}`),
      });
      const reading = readRecords({ url, headers, count: RECORDS, signal: this.#leave.signal });
      for (let record = 0; record < RECORDS; record += 1) {
        producer.append(JSON.stringify({ n: record }));
        if (record % BATCH === BATCH - 1) {
          await producer.flush();
          await sleep(this.#chance.below(PACE));
        }
      }
      await producer.flush();
      const read = await reading;
      assert.deepEqual(
        read,
        Array.from({ length: RECORDS }, (_, record) => record),
      );
      this.records += RECORDS;
      // 404: it was deleted, and the answer to that was cut.
      await insistent(url, { method: "DELETE", headers }).catch((error: { status?: number }) => {
        if (error.status !== 404) throw error;
      });
    }
  }

  /** A stream after the other, echoed by the other end. */
  async #stream(edge: string): Promise<void> {
    const [mine, theirs] = [new MemoryKeyring(), new MemoryKeyring()];
    mine.accept("echo/pc", publicKeyOf(theirs.secretKey));
    theirs.accept("dials/pc", publicKeyOf(mine.secretKey));
    const onUnanswered = (to: string, error: Error) => void this.failures.push(`to ${to}: ${error.message}`);
    const common = { edge, receive: "streams", transport: "websocket", onUnanswered } as const;
    const dials = await insist({ ...common, address: "dials/pc", keyring: mine });
    const echoes = await insist({ ...common, address: "echo/pc", keyring: theirs });
    this.#devices.push(dials, echoes);
    echoes.serve("echo", (one) => one.readable.pipeTo(one.writable));
    while (!this.#over) {
      const one = await dials.dial("echo/pc", "echo");
      const octets = 1 + this.#chance.below(STREAM_OCTETS);
      const tape = new Tape(this.streams);
      let read = 0;
      const reading = (async () => {
        for await (const piece of one.readable) {
          for (let at = 0; at < piece.length; at += 64 * KIB) {
            assert.ok(tape.has(read + at, piece.subarray(at, at + 64 * KIB)), `wrong bytes at ${read}`);
          }
          read += piece.length;
        }
      })();
      // What fails here fails the writer too.
      reading.catch(() => undefined);
      const writer = one.writable.getWriter();
      for (let at = 0; at < octets; at += 16 * KIB) {
        await writer.write(tape.cut(at, Math.min(16 * KIB, octets - at)));
        await sleep(this.#chance.below(20));
      }
      await writer.close();
      await reading;
      assert.equal(read, octets);
      this.streams += 1;
      this.streamed += octets;
    }
  }

  async #cut(): Promise<void> {
    while (!this.#over) {
      await sleep(this.#chance.below(2 * CUT_EVERY));
      this.proxy.cut(this.#chance);
    }
  }
}
