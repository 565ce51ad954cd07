/**
 * Durable mailboxes: messages of 100 octets appended and acknowledged, and their latency to a reader, compared with the
 * bare platform and other stores.
 */
import { mkdirSync, mkdtempSync, rmSync, statfsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Child } from "../support/rpc.ts";
import { type Running, startEdge, startPlatformWorker } from "./edges.ts";
import { ADMIN_TOKEN, type Way } from "./letters.ts";
import type { Done, Load } from "./mailer.ts";
import { installPackages } from "./peers.ts";
import {
  alternate,
  type Contender,
  type Figure,
  figureOf,
  type Goal,
  intact,
  quantile,
  type Section,
  short,
} from "./report.ts";
import { type Store, startDurableStreams, startMosquitto, startRedis } from "./stores.ts";

/** Why no goal requires of KeepAlive what it requires of WebSocket. */
const KEEP_ALIVE =
  "By KeepAlive a message, or a batch, takes two requests, one up and one down: half of the floor by HTTP is the most that anything can have by it.";

/** A mailbox holds 100,000. */
const LIMIT = 90_000;

const DEVICE = { websocket: "WebSocket", longlived: "LongLived", keepalive: "KeepAlive" } as const;
type Transport = keyof typeof DEVICE;

/** The way to a store, without the specifics of each contender. */
type Route = Way extends infer W ? (W extends Way ? Omit<W, "name" | "boxes"> : never) : never;

/** A store as measured here; names state the durability of what it acknowledges. */
interface Party {
  readonly name: string;
  readonly route: Route;
  readonly skipped?: string | undefined;
}

interface Kind {
  readonly boxes: number;
  readonly clients: number;
  readonly batch: number;
  /** A message of a batch goes to each of as many mailboxes; otherwise a batch goes into one. */
  readonly spread?: boolean;
  readonly outstanding: number;
}

export async function mailbox(quick: boolean): Promise<Section[]> {
  const folder = mkdtempSync(join(tmpdir(), "grooveway-bench-"));
  const at = (name: string) => {
    mkdirSync(join(folder, name));
    return join(folder, name);
  };
  const removeFolder = () => rmSync(folder, { recursive: true, force: true });
  process.once("exit", removeFolder);
  const mailer = new Child(new URL("mailer.ts", import.meta.url));
  const opened: { close(): Promise<void> }[] = [];
  const keep = <T extends object>(started: T & Partial<Running>): T => {
    if (started.close !== undefined) opened.push({ close: started.close });
    return started;
  };
  try {
    const missing = await installPackages();
    const edge = keep(await startEdge([], { state: at("edge"), adminToken: ADMIN_TOKEN }));
    const floor = keep(await startPlatformWorker(at("platform")));
    const peers: Peers = {
      memory: keep(await startDurableStreams(missing)),
      file: keep(await startDurableStreams(missing, at("streams"))),
      redis: keep(await startRedis(at("redis"))),
      mosquitto: keep(await startMosquitto(at("mosquitto"))),
      mqtt: missing,
    };
    const bench = new Bench(mailer, quick, `http://127.0.0.1:${edge.port}`, `http://127.0.0.1:${floor.port}`, peers);
    const place = `All files are in one folder, on ${fileSystem(folder)}.`;
    return [
      await bench.oneByOne(place),
      await bench.batches(),
      await bench.many(),
      await bench.delivery(),
      await bench.rows(),
    ];
  } finally {
    await mailer.end();
    for (const { close } of opened) await close();
    process.off("exit", removeFolder);
    removeFolder();
  }
}

interface Peers {
  readonly memory: Store;
  readonly file: Store;
  readonly redis: Store;
  readonly mosquitto: Store;
  /** Why its client is not available. */
  readonly mqtt: string | undefined;
}

class Bench {
  readonly #mailer: Child;
  readonly #quick: boolean;
  readonly #edge: string;
  readonly #floor: string;
  readonly #peers: Peers;
  /** Clients of the table being measured, by what they are connected to; figures of one party share them. */
  readonly #groups = new Map<string, { readonly id: number; readonly opening: Promise<void> }>();
  #last = 0;

  constructor(mailer: Child, quick: boolean, edge: string, floor: string, peers: Peers) {
    this.#mailer = mailer;
    this.#quick = quick;
    this.#edge = edge;
    this.#floor = floor;
    this.#peers = peers;
  }

  async oneByOne(place: string): Promise<Section> {
    const kind = { boxes: 1, clients: 1, batch: 1, outstanding: 1 };
    const file = this.#streams("file");
    const floors = [this.#platform("http"), this.#platform("websocket")];
    const others = [file, this.#streams("memory"), this.#redis(), this.#mosquitto()];
    const against = [...floors, file].map(({ name }) => name);
    const figures = await this.#run([
      ...(["websocket", "longlived", "keepalive"] as const).flatMap((transport) => [
        this.#load(this.#device(transport), kind, against),
      ]),
      this.#load(this.#engine("websocket"), kind, against),
      ...[...floors, ...others].map((party) => this.#load(party, kind, [])),
    ]);
    const websocket = this.#device("websocket").name;
    return {
      name: "durable messages of 100 octets into one mailbox, one by one: the next is sent when the one before is acknowledged",
      unit: "messages/s",
      counted: "messages",
      figures,
      goals: [
        intact(own(figures)),
        atLeast(figures, websocket, 1_000),
        ...ahead(figures, websocket, file.name),
        ...ahead(figures, this.#device("longlived").name, file.name),
      ],
      notes: [
        place,
        KEEP_ALIVE,
        "device is the library that applications use; engine is the product's SSTP engine on the same transport, without the device's outbox, checks and ids.",
        "bare platform: a minimal worker with one object in the same workerd, one INSERT for each request or WebSocket message, answered through the output gate.",
        "The mailbox's store is SQLite in workerd, with one fsync for each append that changes it, as the floor.",
        "durable-streams, memory: nothing outlives the process. durable-streams, file: fdatasync for each append, those that wait together share one.",
        "redis: appendonly yes, appendfsync always; it speaks its own protocol, not HTTP. mosquitto: QoS 1 to a session that outlives its connection, in memory and saved to its file each second and at the end: a crash loses what it acknowledged since.",
        "Each round all that was acknowledged is counted in the store. In the first one, and where the store cannot count, a reader takes it and sees whether each came once and in order; a mailbox's by WebSocket.",
        "All clients run in one process of their own; it, the store and the rest of the machine share the cores.",
      ],
    };
  }

  async batches(): Promise<Section> {
    const transports: readonly Transport[] = ["websocket", "longlived", "keepalive"];
    const engines = [this.#engine("websocket"), this.#engine("keepalive")];
    const waiting = { boxes: 1, clients: 1, batch: 100, outstanding: 1 };
    const piped = { ...waiting, outstanding: 10 };
    const file = this.#streams("file");
    const floors = [this.#platform("http"), this.#platform("websocket")];
    const others = [file, this.#streams("memory"), this.#redis(), this.#mosquitto()];
    const named = (party: Party, kind: Kind) => ({
      ...party,
      name: `${party.name}, ${kind.outstanding === 1 ? "1 batch" : `${kind.outstanding} batches`} outstanding`,
    });
    const figures = await this.#run(
      [waiting, piped].flatMap((kind) => {
        const against = [named(file, kind).name];
        const ours = [...transports.map((transport) => this.#device(transport)), ...engines];
        return [
          ...ours.map((party) => this.#load(named(party, kind), kind, against)),
          ...[...floors, ...others].map((party) => this.#load(named(party, kind), kind, [])),
        ];
      }),
    );
    const nameOf = (party: Party, kind: Kind) => named(party, kind).name;
    return {
      name: "durable messages of 100 octets into one mailbox, 100 sent together: the next batch when all 100 are acknowledged",
      unit: "messages/s",
      counted: "messages",
      figures,
      goals: [
        intact(own(figures)),
        ...transports.map((transport) => atLeast(figures, nameOf(this.#device(transport), piped), 25_000)),
        ...engines.map((engine) => atLeast(figures, nameOf(engine, piped), 25_000)),
        ...[waiting, piped].flatMap((kind) => [
          ...ahead(figures, nameOf(this.#device("websocket"), kind), nameOf(file, kind)),
        ]),
      ],
      notes: [
        KEEP_ALIVE,
        "10 batches outstanding: ten such senders at a time on one connection. durable-streams and the floor by HTTP: ten requests on connections of their own, which may overtake each other.",
        "A batch is: 100 messages of SSTP; one JSON array for durable-streams; 100 pipelined XADD; 100 PUBLISH; for the bare platform one request or message, and one row, of 10,000 octets.",
      ],
    };
  }

  async many(): Promise<Section> {
    const one: Kind = { boxes: 100, clients: 4, batch: 1, outstanding: 1 };
    const batch: Kind = { ...one, batch: 100 };
    const spread: Kind = { ...batch, spread: true };
    const kinds = [one, batch, spread];
    const file = this.#streams("file");
    const floor = this.#platform("http");
    const ours = [this.#device("websocket"), this.#device("keepalive"), this.#engine("websocket")];
    const others = [file, this.#streams("memory"), this.#redis(), this.#mosquitto()];
    const named = (party: Party, kind: Kind) => ({
      ...party,
      name: `${party.name}, ${kind === one ? "one by one" : kind === batch ? "100 to a batch" : "one to each together"}`,
    });
    const figures = await this.#run(
      kinds.flatMap((kind) => [
        ...ours.map((party) =>
          this.#load(
            named(party, kind),
            kind,
            [floor, file].map((other) => named(other, kind).name),
          ),
        ),
        ...[floor, ...others].map((party) => this.#load(named(party, kind), kind, [])),
      ]),
      this.#quick ? 1 : 2,
    );
    return {
      name: "durable messages of 100 octets into 100 mailboxes, from 4 senders",
      unit: "messages/s",
      counted: "messages",
      figures,
      goals: [
        intact(own(figures)),
        ...ahead(figures, named(this.#device("websocket"), one).name, named(file, one).name),
        // The platform itself is no faster there: it waits for one disk write at a time.
        ...[batch, spread].flatMap((kind) =>
          halfOf(figures, named(this.#device("websocket"), kind).name, named(floor, kind).name),
        ),
      ],
      notes: [
        KEEP_ALIVE,
        "one by one: each sender has one message under way and goes from mailbox to mailbox. 100 to a batch: each sends 100 messages together into one mailbox, and the next 100 into the next when all are acknowledged. One to each together: the 100 are one for each mailbox.",
        "For durable-streams and the bare platform a message to each of 100 is 100 requests; durable-streams has 16 connections for them. Each mailbox or stream is written to disk by itself; the platform waits for one disk write at a time, durable-streams for four.",
      ],
    };
  }

  async delivery(): Promise<Section> {
    const to = (transport: Transport): Party => ({
      ...this.#device(transport),
      name: `device by WebSocket to device by ${DEVICE[transport]}`,
      route: { kind: "device", transport: "websocket", receiver: transport, edge: this.#edge },
    });
    const floor = this.#platform("websocket");
    const files = [this.#streams("file"), this.#streams("file", "sse")];
    const memories = [this.#streams("memory"), this.#streams("memory", "sse")];
    const ours = [to("websocket"), to("longlived"), to("keepalive")];
    const against = [floor, ...files].map(({ name }) => name);
    const figures = await this.#run([
      ...ours.map((party) => this.#delivery(party, against)),
      ...[floor, ...files, ...memories, this.#redis(), this.#mosquitto()].map((party) => this.#delivery(party, [])),
    ]);
    return {
      name: "append to delivery of a message of 100 octets, one at a time: from send() to the reader's hands",
      unit: "ms",
      counted: "samples",
      figures,
      goals: [
        intact(own(figures)),
        atMost(figures, to("keepalive").name, 4),
        atMost(figures, to("websocket").name, 2),
        ...files.flatMap(({ name }) => [
          ...quicker(figures, to("websocket").name, name),
          ...quicker(figures, to("keepalive").name, name),
        ]),
      ],
      notes: [
        "Sender and reader are in one process and have one clock. The next is sent when the one before has been read and acknowledged.",
        "redis: XADD to XREAD BLOCK. mosquitto: QoS 1. bare platform: a WebSocket message is written as a row and sent to another WebSocket of the same object.",
      ],
    };
  }

  async rows(): Promise<Section> {
    const kind = { boxes: 1, clients: 1, batch: 100, outstanding: 1 };
    const appended = await this.#run([
      this.#load(this.#device("websocket"), kind, [], (done) => (done.rows?.appended ?? Number.NaN) / done.messages),
    ]);
    const taken = await this.#run([
      this.#load(this.#device("websocket"), kind, [], (done) => (done.rows?.taken ?? Number.NaN) / done.messages, true),
    ]);
    const figures = [
      ...appended.map((figure) => ({ ...figure, name: "appended, 100 to a batch" })),
      ...taken.map((figure) => ({ ...figure, name: "appended, 100 to a batch, then taken by a device" })),
    ];
    return {
      name: "rows written for a durable message of 100 octets",
      unit: "rows/message",
      counted: "messages",
      figures,
      goals: [intact(own(figures)), atMost(figures, "appended, 100 to a batch", 0.1)],
      notes: ["As the mailbox itself counts them, by the platform's rowsWritten; setting an alarm is not among them."],
    };
  }

  /** Runs contenders in turn, and closes what they opened. */
  async #run(contenders: readonly Contender[], rounds = this.#quick ? 2 : 3): Promise<Figure[]> {
    try {
      return await alternate(contenders, rounds);
    } finally {
      for (const { id } of this.#groups.values()) await this.#mailer.call("close", id);
      this.#groups.clear();
    }
  }

  #load(
    { name, route, skipped }: Party,
    { boxes, clients, batch, spread = false, outstanding }: Kind,
    against: readonly string[],
    measure = (done: Done) => (done.messages / done.milliseconds) * 1000,
    takeAll = false,
  ): Contender {
    let rounds = 0;
    return {
      name,
      against,
      skipped,
      round: async (warm) => {
        const id = await this.#open(route, boxes, clients);
        if (!warm) rounds += 1;
        const done = await this.#mailer.call<Done>("load", {
          id,
          batch,
          spread,
          outstanding,
          milliseconds: warm ? 100 : this.#quick ? 200 : 700,
          limit: LIMIT * boxes,
          // Its requests, each on its own connection, may overtake each other.
          ordered: route.kind !== "durable-streams" || outstanding === 1,
          take: route.kind !== "platform" && (takeAll || (rounds === 1 && !(boxes > 1 && batch > 1))),
        } satisfies Load);
        return { value: measure(done), count: done.messages, lost: done.lost, duplicated: done.duplicated };
      },
    };
  }

  #delivery({ name, route, skipped }: Party, against: readonly string[]): Contender {
    return {
      name,
      against,
      skipped,
      round: async (warm) => {
        const id = await this.#open(route, 1, 1);
        const { samples, lost, duplicated } = await this.#mailer.call<{
          samples: number[];
          lost: number;
          duplicated: number;
        }>("deliver", { id, count: warm ? 50 : 300, milliseconds: this.#quick ? 400 : 1_500 });
        if (samples.length === 0) throw new Error("no message was delivered");
        return { value: quantile(samples, 0.5), samples, count: samples.length, lost, duplicated };
      },
    };
  }

  async #open(route: Route, boxes: number, clients: number): Promise<number> {
    const key = JSON.stringify([route, boxes, clients]);
    let group = this.#groups.get(key);
    if (group === undefined) {
      this.#last += 1;
      const id = this.#last;
      const way = { name: `bench${id}`, boxes, ...route } satisfies Way;
      group = { id, opening: this.#mailer.call<void>("open", { id, way, clients }) };
      this.#groups.set(key, group);
    }
    await group.opening;
    return group.id;
  }

  #device(transport: Transport): Party {
    return { name: `device, ${DEVICE[transport]}`, route: { kind: "device", transport, edge: this.#edge } };
  }

  #engine(transport: Transport): Party {
    return { name: `engine, ${DEVICE[transport]}`, route: { kind: "engine", transport, edge: this.#edge } };
  }

  #platform(by: "http" | "websocket"): Party {
    const name = `floor: bare platform, ${by === "http" ? "HTTP" : "WebSocket"}`;
    return { name, route: { kind: "platform", by, url: this.#floor } };
  }

  #streams(where: "memory" | "file", by: "long-poll" | "sse" = "long-poll"): Party {
    const store = this.#peers[where];
    const route = { kind: "durable-streams", by, url: `http://127.0.0.1:${portOf(store)}` } as const;
    const how = where === "memory" ? "not durable" : "fdatasync each";
    return { name: `${store.name} (${how})${by === "sse" ? ", SSE" : ""}`, route, skipped: whyNot(store) };
  }

  #redis(): Party {
    const store = this.#peers.redis;
    return {
      name: `${store.name} (fsync each turn)`,
      route: { kind: "redis", port: portOf(store) },
      skipped: whyNot(store),
    };
  }

  #mosquitto(): Party {
    const store = this.#peers.mosquitto;
    return {
      name: `${store.name} QoS 1 (memory, saved each second)`,
      route: { kind: "mqtt", port: portOf(store) },
      skipped: whyNot(store) ?? this.#peers.mqtt,
    };
  }
}

/** The product's own figures: what a peer loses is reported with its figure, and is not a goal here. */
function own(figures: readonly Figure[]): Figure[] {
  return figures.filter(({ name }) => /^(device|engine|appended)/.test(name));
}

function portOf(store: Store): number {
  return "skipped" in store ? 0 : store.port;
}

function whyNot(store: Store): string | undefined {
  return "skipped" in store ? store.skipped : undefined;
}

function atLeast(figures: readonly Figure[], name: string, least: number): Goal {
  const median = figureOf(figures, name)?.median;
  return {
    text: `${name} >= ${least}/s (${median === undefined ? "none" : short(median)})`,
    met: median !== undefined && median >= least,
  };
}

function atMost(figures: readonly Figure[], name: string, most: number): Goal {
  const median = figureOf(figures, name)?.median;
  return {
    text: `${name} <= ${most} (${median === undefined ? "none" : short(median)})`,
    met: median !== undefined && median <= most,
  };
}

/** Goals compared with a peer: none if the peer is not available. */
function ahead(figures: readonly Figure[], name: string, other: string): Goal[] {
  return compared(figures, name, other, (ratio) => ratio > 1);
}

function quicker(figures: readonly Figure[], name: string, other: string): Goal[] {
  return compared(figures, name, other, (ratio) => ratio < 1);
}

function compared(figures: readonly Figure[], name: string, other: string, wins: (ratio: number) => boolean): Goal[] {
  if (figureOf(figures, other)?.missing?.startsWith("SKIPPED") === true) return [];
  const ratio = figureOf(figures, name)?.against.find((one) => one.name === other)?.ratio;
  const text = `${name} ahead of ${other} (${ratio === undefined ? "not measured" : `${short(ratio)} of it`})`;
  return [{ text, met: ratio !== undefined && wins(ratio) }];
}

/** A goal compared with a floor. */
function halfOf(figures: readonly Figure[], name: string, floor: string): Goal[] {
  const ratio = figureOf(figures, name)?.against.find((one) => one.name === floor)?.ratio;
  const text = `${name} >= 0.5 of ${floor} (${ratio === undefined ? "not measured" : short(ratio)})`;
  return [{ text, met: ratio !== undefined && ratio >= 0.5 }];
}

/** The file system, by its type number in the kernel. */
function fileSystem(folder: string): string {
  const { type } = statfsSync(folder);
  const known: Readonly<Record<number, string>> = {
    16914836: "tmpfs, which is memory",
    61267: "ext4",
    1481003842: "xfs",
    2435016766: "btrfs",
    2035054128: "overlayfs",
    801189825: "zfs",
  };
  return known[type] ?? `a file system of type 0x${type.toString(16)}`;
}
