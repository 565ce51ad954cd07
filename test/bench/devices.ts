/**
 * Many parked devices beside a bare worker that parks as many in the same way, in the same run: how fast they connect, what
 * they cost while nothing happens, and how soon a message reaches each.
 *
 *   GROOVEWAY_DEVICES=10000 GROOVEWAY_MINUTES=30   sizes of the full form, which are the defaults
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { AUDIENCE, ed25519, type Issuer, jwks } from "../edge/issuer.ts";
import { Child } from "../support/rpc.ts";
import { agentOf, ask } from "./ask.ts";
import { cpuSeconds, type Running, residentOctets, startEdge, startMailboxesWorker, startParkWorker } from "./edges.ts";
import type { Arrivals, Connected, Connecting, Kind, Party, Placed, Stay } from "./parked-clients.ts";
import { type Figure, type Goal, quantile, type Section, short } from "./report.ts";

/** Of ten devices, five by WebSocket, four by KeepAlive and one by LongLived. */
const MIX: readonly Kind[] = [
  "websocket",
  "keepalive",
  "websocket",
  "keepalive",
  "websocket",
  "longlived",
  "websocket",
  "keepalive",
  "websocket",
  "keepalive",
];
/** Client processes of each party. */
const PROCESSES = 2;
/** Devices that connect at a time, in one process. */
const OUTSTANDING = 32;
/** Devices whose connecting is timed. */
const TIMED = 1000;
/**
 * How many of the others connect a second, and messages that are stored a second. Each object stays in memory for 10 s, with
 * three files of its database, and a process may often have no more than 20,000 files; a device takes up to two sockets.
 */
const CONNECTS = 40;
const STORED = 80;
/** Milliseconds after the last connect before anything is measured: objects have left memory by then. */
const SETTLING = 30_000;
/** Messages that are stored at a time. */
const SENDS = 8;
/** Milliseconds for the last message to arrive. */
const DELIVERY = 15_000;
const WITHIN = 5_000;
const MIB = 1024 * 1024;
const BODY = Buffer.alloc(100, "m");

const EDGE = "edge";
const FLOOR = "floor: bare worker with a doorbell object";
const QUEUES = "the same with two durable queues, listed";

/** One of the two, with its client processes. */
class Side {
  readonly name: string;
  running: Running;
  readonly party: Party;
  readonly devices: readonly Placed[];
  readonly clients: readonly Child[] = Array.from(
    { length: PROCESSES },
    () => new Child(new URL("parked-clients.ts", import.meta.url)),
  );
  readonly #token: string;
  /** Bytes before anybody was connected. */
  readonly empty: number;

  constructor(name: string, running: Running, party: Party, devices: readonly Placed[], token = "") {
    this.name = name;
    this.running = running;
    this.party = party;
    this.devices = devices;
    this.#token = token;
    this.empty = residentOctets(running.pid);
  }

  /** Connects some of the devices. Returns seconds, and those that failed. */
  async connect(from: number, to: number, perSecond = Number.POSITIVE_INFINITY): Promise<Connected> {
    const all = this.devices.slice(from, to);
    const share = Math.ceil(all.length / this.clients.length);
    const done = await Promise.all(
      this.clients.map((client, n) => {
        const devices = all.slice(n * share, (n + 1) * share);
        const order: Connecting = { party: this.party, devices, outstanding: OUTSTANDING };
        // JSON has no Infinity.
        const paced = Number.isFinite(perSecond) ? { perSecond: perSecond / this.clients.length } : {};
        return client.call<Connected>("connect", { ...order, ...paced });
      }),
    );
    return { seconds: Math.max(...done.map(({ seconds }) => seconds)), failed: done.flatMap(({ failed }) => failed) };
  }

  async stay(): Promise<Stay> {
    const all = await Promise.all(this.clients.map((client) => client.call<Stay>("stay")));
    return { connected: all.reduce((sum, one) => sum + one.connected, 0), lost: all.flatMap(({ lost }) => lost) };
  }

  /** Stores a message for each device. Returns when each was stored, and when it arrived. */
  async tell(): Promise<Told> {
    const agent = agentOf(SENDS);
    const stored = new Map<string, number>();
    const refused: string[] = [];
    const queue = this.devices.entries();
    const began = performance.now();
    const sendNext = async () => {
      for (const [n, { name }] of queue) {
        await sleep(Math.max(0, began + (n / STORED) * 1000 - performance.now()));
        const path = this.party.kind === "edge" ? `/send/${name}%2Fpc` : `/${name}`;
        const headers = { Authorization: `Bearer ${this.#token}`, "Content-Type": "text/plain" };
        const { status, text } = await ask(agent, "POST", `http://127.0.0.1:${this.party.port}${path}`, headers, BODY);
        if (status < 300) stored.set(name, Date.now());
        else refused.push(`${name}: ${status} ${text.slice(0, 200)}`);
      }
    };
    await Promise.all(Array.from({ length: SENDS }, sendNext));
    agent.destroy();
    const arrived: Record<string, number[]> = {};
    let count = 0;
    for (const until = Date.now() + DELIVERY; count < stored.size && Date.now() < until; await sleep(200)) {
      for (const client of this.clients) {
        for (const [name, times] of Object.entries(await client.call<Arrivals>("arrivals"))) {
          if (arrived[name] === undefined) count += 1;
          arrived[name] = [...(arrived[name] ?? []), ...times];
        }
      }
    }
    const delays = [...stored].flatMap(([name, at]) => arrived[name]?.slice(0, 1).map((came) => came - at) ?? []);
    const doubled = Object.values(arrived).reduce((sum, times) => sum + times.length - 1, 0);
    return { delays, refused, lost: stored.size - delays.length, doubled };
  }

  async disconnect(): Promise<void> {
    await Promise.all(this.clients.map((client) => client.call("close")));
  }

  async close(): Promise<void> {
    await Promise.all(this.clients.map((client) => client.end()));
    await this.running.close();
  }
}

interface Told {
  /** Milliseconds from when a message was stored until it arrived; below 0 if it arrived before the answer to its sender. */
  readonly delays: readonly number[];
  readonly refused: readonly string[];
  readonly lost: number;
  readonly doubled: number;
}

export async function* devices(quick: boolean): AsyncGenerator<Section> {
  const count = Number(process.env.GROOVEWAY_DEVICES ?? (quick ? 1000 : 10_000));
  const minutes = Number(process.env.GROOVEWAY_MINUTES ?? (quick ? 2 : 30));
  const folder = mkdtempSync(join(tmpdir(), "grooveway-bench-"));
  const issuer = await ed25519("bench");
  const sides: Side[] = [];
  try {
    const [floor, edge] = await startBoth(folder, issuer, count);
    sides.push(floor, edge);
    const queues = await startQueues(folder, floor);
    sides.push(queues);
    yield await connects(floor, queues, edge);
    await queues.disconnect();
    const rest = await Promise.all([floor, edge].map((side) => side.connect(TIMED, count, CONNECTS)));
    const failed = rest.flatMap((one) => one.failed);
    if (failed.length > 0)
      throw new Error(`${failed.length} devices did not connect: ${failed.slice(0, 3).join("; ")}`);
    yield* await parked(floor, edge, minutes);
    yield await reconnects(edge, { state: join(folder, "edge"), keys: jwks(issuer) });
  } finally {
    for (const side of sides) await side.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function startBoth(folder: string, issuer: Issuer, count: number): Promise<[Side, Side]> {
  const at = (name: string) => {
    mkdirSync(join(folder, name));
    return join(folder, name);
  };
  const kindOf = (n: number) => MIX[n % MIX.length] ?? "websocket";
  const names = Array.from({ length: count }, (_, n) => ({ name: `parked${n}`, kind: kindOf(n) }));
  const tokened: Placed[] = [];
  for (const one of names) {
    const token = await issuer.issue({ aud: AUDIENCE, address: `${one.name}/pc`, scope: "connect receive" });
    tokened.push({ ...one, token });
  }
  const sender = await issuer.issue({ address: "sender/pc", scope: "connect send:*" });
  const floor = await startParkWorker(at("floor"));
  const edge = await startEdge([], { state: at("edge"), keys: jwks(issuer) });
  return [
    new Side(FLOOR, floor, { kind: "floor", port: floor.port }, names),
    new Side(EDGE, edge, { kind: "edge", port: edge.port }, tokened, sender),
  ];
}

/** What connecting takes at least if what waits for a device is durable. Its devices are not parked. */
async function startQueues(folder: string, { devices }: Side): Promise<Side> {
  const state = join(folder, "queues");
  mkdirSync(state);
  const running = await startMailboxesWorker(state);
  return new Side(QUEUES, running, { kind: "floor", port: running.port }, devices);
}

async function connects(floor: Side, queues: Side, edge: Side): Promise<Section> {
  const rate = async (side: Side) => {
    const { seconds, failed } = await side.connect(0, TIMED);
    return { value: (Math.min(TIMED, side.devices.length) - failed.length) / seconds, failed };
  };
  const [bare, durable, own] = [await rate(floor), await rate(queues), await rate(edge)];
  const ratio = own.value / bare.value;
  const ratios = [
    { name: FLOOR, ratio },
    { name: QUEUES, ratio: own.value / durable.value },
  ];
  const figure = (side: Side, { value, failed }: typeof own, against: Figure["against"]): Figure => ({
    ...EMPTY,
    name: side.name,
    median: value,
    rounds: [value],
    count: Math.min(TIMED, side.devices.length),
    lost: failed.length,
    against,
  });
  return {
    name: `${Math.min(TIMED, edge.devices.length)} devices of one address connect, each with its own token (floor: without)`,
    unit: "connects/s",
    counted: "devices",
    figures: [
      figure(floor, bare, []),
      figure(queues, durable, [{ name: FLOOR, ratio: durable.value / bare.value }]),
      figure(edge, own, ratios),
    ],
    goals: [
      { text: `at least 0.5 of the floor (${short(ratio)})`, met: ratio >= 0.5 },
      { text: `all get in (${own.failed.slice(0, 3).join("; ") || "all"})`, met: own.failed.length === 0 },
    ],
    notes: [
      `${PROCESSES} client processes for each, ${OUTSTANDING} devices at a time in each. A device of the edge is there when its account is attached.`,
    ],
  };
}

const EMPTY: Omit<Figure, "name"> = {
  median: undefined,
  p99: undefined,
  rounds: [],
  count: 0,
  lost: 0,
  duplicated: 0,
  against: [],
  missing: undefined,
};

async function* parked(floor: Side, edge: Side, minutes: number): AsyncGenerator<Section> {
  await sleep(SETTLING);
  const sides = [floor, edge];
  const before = sides.map(({ running }) => cpuSeconds(running.pid));
  const began = performance.now();
  const most = sides.map(() => 0);
  while (performance.now() - began < minutes * 60_000) {
    await sleep(Math.min(5_000, minutes * 60_000));
    for (const [n, { running }] of sides.entries()) most[n] = Math.max(most[n] ?? 0, residentOctets(running.pid));
  }
  const seconds = (performance.now() - began) / 1000;
  const cpu = sides.map(({ running }, n) => ((cpuSeconds(running.pid) - (before[n] ?? 0)) / seconds) * 1000);
  const memory = sides.map(({ running, empty, devices }) => (residentOctets(running.pid) - empty) / devices.length);
  const stays = await Promise.all(sides.map((side) => side.stay()));
  const ratioOf = ([bare = 0, own = 0]: readonly number[]) => own / bare;
  const section = (name: string, unit: string, values: readonly number[], most: number): Section => ({
    name,
    unit,
    counted: "devices",
    figures: sides.map((side, n) => ({
      ...EMPTY,
      name: side.name,
      median: values[n],
      rounds: [values[n] ?? 0],
      count: side.devices.length,
      lost: stays[n]?.lost.length ?? 0,
      against: n === 0 ? [] : [{ name: FLOOR, ratio: ratioOf(values) }],
    })),
    goals: [{ text: `at most ${most} times the floor (${short(ratioOf(values))})`, met: ratioOf(values) <= most }],
    notes: [],
  });
  const what = `${edge.devices.length} parked devices, 5 WebSocket : 4 KeepAlive : 1 LongLived, ${short(minutes)} minutes`;
  yield section(`CPU time of workerd: ${what}`, "ms/s", cpu, 1.3);
  const kept = section(
    `memory of workerd for each: ${what}`,
    "KiB",
    memory.map((octets) => octets / 1024),
    1.2,
  );
  const stay: Goal[] = stays.map(({ connected, lost }, n) => ({
    text: `${sides[n]?.name}: all stay (${connected}; lost ${lost.length} ${lost.slice(0, 3).join("; ")})`,
    met: lost.length === 0 && connected === sides[n]?.devices.length,
  }));
  const notes = sides.map(
    ({ name, empty }, n) =>
      `${name}: ${short(empty / MIB)} MiB when empty, at most ${short((most[n] ?? 0) / MIB)} MiB while parked`,
  );
  yield { ...kept, goals: [...kept.goals, ...stay], notes };
  yield await deliveries(floor, edge);
}

/** The edge stops, as an operator stops it, and starts again. All its devices come from one address. */
async function reconnects(edge: Side, options: { readonly state: string; readonly keys: string }): Promise<Section> {
  const count = edge.devices.length;
  await Promise.all(edge.clients.map((client) => client.call("return")));
  const { port } = edge.running;
  await edge.running.close();
  edge.running = await startEdge([], { ...options, port });
  const began = performance.now();
  let back = 0;
  while (back < count && performance.now() - began < 5 * 60_000) {
    await sleep(250);
    back = (await edge.stay()).connected;
  }
  const seconds = (performance.now() - began) / 1000;
  return {
    name: `${count} devices with tokens, of one address, are back after a restart of the edge`,
    unit: "s",
    counted: "devices",
    figures: [{ ...EMPTY, name: EDGE, median: seconds, rounds: [seconds], count: back, lost: count - back }],
    goals: [{ text: `all within 60 s (${back} in ${short(seconds)} s)`, met: back === count && seconds <= 60 }],
    notes: ["From when the edge answers again. The devices wait as the device library does."],
  };
}

async function deliveries(floor: Side, edge: Side): Promise<Section> {
  const told = await Promise.all([floor.tell(), edge.tell()]);
  const figures = [floor, edge].map((side, n): Figure => {
    const { delays = [], lost = 0, doubled = 0, refused = [] } = told[n] ?? {};
    return {
      ...EMPTY,
      name: side.name,
      median: quantile(delays, 0.5),
      p99: quantile(delays, 0.99),
      rounds: [quantile(delays, 0.5)],
      count: delays.length,
      lost: lost + refused.length,
      duplicated: doubled,
    };
  });
  const slowest = Math.max(...(told[1]?.delays ?? []));
  const { lost = 0, doubled = 0, refused = [] } = told[1] ?? {};
  return {
    name: "from when a message is stored until its parked device has it, one to each",
    unit: "ms",
    counted: "messages",
    figures,
    goals: [
      { text: `each within ${WITHIN / 1000} s (slowest ${short(slowest / 1000)} s)`, met: slowest <= WITHIN },
      {
        text: `none refused, lost or twice (${refused.length}, ${lost}, ${doubled}) ${refused.slice(0, 2).join("; ")}`,
        met: refused.length + lost + doubled === 0,
      },
    ],
    notes: [`${SENDS} are stored at a time, ${STORED} a second. Below 0: it came before its sender had the answer.`],
  };
}
