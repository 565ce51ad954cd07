/**
 * Streams and mailboxes over plain HTTP, beside the reference server of the Durable Streams protocol, whose suite of
 * conformance judges both, and beside the bare platform.
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Child } from "../support/rpc.ts";
import { startEdge, startPlatformWorker } from "./edges.ts";
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
import { startDurableStreams } from "./stores.ts";
import type { Measured } from "./stream-load.ts";

/** A server of streams. */
interface Party {
  readonly name: string;
  /** Under which its streams are. */
  readonly base: string;
  readonly skipped?: string | undefined;
}

const MIB = 1024 * 1024;

/** What is measured of a round. */
type Measure = (measured: Measured) => number;

const perSecond: Measure = ({ messages, milliseconds }) => (messages / milliseconds) * 1000;
const middle: Measure = ({ samples = [] }) => quantile(samples, 0.5);
const megabytes: Measure = (measured) => perSecond(measured) / 1e6;

export async function* mailboxes(quick: boolean): AsyncGenerator<Section> {
  const folder = mkdtempSync(join(tmpdir(), "grooveway-bench-"));
  const at = (name: string) => {
    mkdirSync(join(folder, name));
    return join(folder, name);
  };
  const client = new Child(new URL("stream-load.ts", import.meta.url));
  const opened: { close(): Promise<void> }[] = [];
  try {
    const missing = await installPackages();
    const edge = await startEdge([], { state: at("edge") });
    opened.push(edge);
    const platform = await startPlatformWorker(at("platform"));
    opened.push(platform);
    const stores = [await startDurableStreams(missing), await startDurableStreams(missing, at("streams"))];
    for (const store of stores) if ("close" in store) opened.push(store);
    const [memory, file] = stores.map((store): Party => {
      const port = "port" in store ? store.port : 0;
      return {
        name: store.name,
        base: `http://127.0.0.1:${port}/bench`,
        ...("skipped" in store && { skipped: store.skipped }),
      };
    });
    if (memory === undefined || file === undefined) throw new Error("two stores were started");
    const ours = { name: "edge", base: `http://127.0.0.1:${edge.port}/mailboxes/bench/stream` };
    const bench = new Bench(client, quick, { ours, memory, file });
    yield await bench.append("one by one", { batch: 1, outstanding: 1 });
    yield await bench.append("batches of 100, one outstanding", { batch: 100, outstanding: 1 });
    yield await bench.append("batches of 100, ten outstanding", { batch: 100, outstanding: 10 });
    yield await bench.latency(`http://127.0.0.1:${platform.port}`);
    yield await bench.fanOut();
    yield await bench.parked();
    yield await bench.catchUp();
    yield await bench.make(`http://127.0.0.1:${edge.port}`, `http://127.0.0.1:${platform.port}`);
  } finally {
    await client.end();
    for (const { close } of opened) await close();
    rmSync(folder, { recursive: true, force: true });
  }
}

class Bench {
  readonly #client: Child;
  readonly #quick: boolean;
  readonly #ours: Party;
  readonly #others: readonly Party[];

  constructor(client: Child, quick: boolean, parties: { ours: Party; memory: Party; file: Party }) {
    this.#client = client;
    this.#quick = quick;
    this.#ours = parties.ours;
    this.#others = [parties.file, parties.memory];
  }

  async append(name: string, how: { readonly batch: number; readonly outstanding: number }): Promise<Section> {
    const figures = await this.#all("append", (warm) => ({ ...how, milliseconds: this.#time(warm) }), perSecond);
    return {
      name: `appends of 100 octets to a stream of JSON, ${name}`,
      unit: "messages/s",
      counted: "messages",
      figures,
      goals: [intact(own(figures)), ...(how.batch > 1 ? atLeastAs(figures, "file") : [])],
      notes: [
        "Answered when durable: the edge's SQLite, as the bare platform's; durable-streams, file: fdatasync, which those that wait share; memory: nothing outlives the process.",
      ],
    };
  }

  async latency(platform: string): Promise<Section> {
    const count = (warm: boolean) => ({ count: warm || this.#quick ? 50 : 300 });
    const floor = { name: "floor: bare platform, an append alone", base: `${platform}/alone` };
    const figures = await this.#all("latency", count, middle, undefined, [
      this.#contender(floor, "post", count, middle, []),
    ]);
    return {
      name: "from an append to the answer of a long-poll that waits for it",
      unit: "ms",
      counted: "samples",
      figures,
      goals: [intact(own(figures)), atMost(figures, 4)],
      notes: [
        "One client appends and reads; each long-poll waits 5 ms before the append. What is not durable is shown to nobody, so the floor is what the platform takes to store a row and say so.",
      ],
    };
  }

  async fanOut(): Promise<Section> {
    const count = (warm: boolean) => ({ readers: 100, count: warm || this.#quick ? 20 : 100 });
    const figures = await this.#all("fanOut", count, middle);
    return {
      name: "from an append until each of 100 readers of events has it",
      unit: "ms",
      counted: "events",
      figures,
      goals: [intact(own(figures))],
      notes: [],
    };
  }

  async parked(): Promise<Section> {
    const figures = await this.#all("parked", () => ({ readers: 1000 }), middle, this.#quick ? 1 : 3);
    return {
      name: "from an append until 1,000 long-polls that wait on one stream are answered",
      unit: "ms",
      counted: "polls",
      figures,
      goals: [intact(own(figures)), atMost(figures, 500)],
      notes: ["All readers are one process."],
    };
  }

  async catchUp(): Promise<Section> {
    const figures = await this.#all("catchUp", () => ({ octets: 100 * MIB }), megabytes, this.#quick ? 2 : 5);
    return {
      name: "catch-up: a stream of 100 MiB is read from its beginning, one request after another",
      unit: "MB/s",
      counted: "octets",
      figures,
      goals: [intact(own(figures)), atLeast(figures, 300)],
      notes: [],
    };
  }

  async make(edge: string, platform: string): Promise<Section> {
    const making = (warm: boolean) => ({ outstanding: 16, milliseconds: this.#time(warm) });
    const floor = "floor: bare platform, an object with one INSERT";
    const contender = (name: string, base: string, how: object, against: readonly string[]) =>
      this.#contender({ name, base }, "make", (warm) => ({ ...making(warm), ...how }), perSecond, against);
    const [post, put] = [{ method: "POST" }, { method: "PUT" }];
    const figures = await alternate(
      [
        contender(
          "edge, a message to a mailbox that is new",
          `${edge}/send/peer`,
          { ...post, query: "?from=alice/pc" },
          [floor],
        ),
        contender("edge, a stream that is new", `${edge}/mailboxes/bench/new`, put, [floor]),
        contender(floor, `${platform}/new`, post, []),
        ...this.#others.map(({ skipped, ...party }) => ({
          ...contender(party.name, party.base, put, []),
          skipped,
        })),
      ],
      this.#quick ? 2 : 3,
    );
    const ratio = (name: string) => figureOf(figures, name)?.against[0]?.ratio ?? Number.NaN;
    return {
      name: "new mailboxes and streams with one message of 100 octets, 16 at a time",
      unit: "per s",
      counted: "made",
      figures,
      goals: [
        intact(own(figures)),
        ...["edge, a message to a mailbox that is new", "edge, a stream that is new"].map((name) => ({
          text: `${name} >= 0.8 of ${floor} (${short(ratio(name))})`,
          met: ratio(name) >= 0.8,
        })),
      ],
      notes: [],
    };
  }

  #time(warm: boolean): number {
    return warm ? 200 : this.#quick ? 400 : 1500;
  }

  #all(
    method: string,
    argument: (warm: boolean) => object,
    measure: Measure,
    rounds = this.#quick ? 2 : 3,
    floors: readonly Contender[] = [],
  ): Promise<Figure[]> {
    const others = [...floors, ...this.#others.map((party) => this.#contender(party, method, argument, measure, []))];
    const against = others.map(({ name }) => name);
    return alternate([this.#contender(this.#ours, method, argument, measure, against), ...others], rounds);
  }

  #contender(
    { name, base, skipped }: Party,
    method: string,
    argument: (warm: boolean) => object,
    measure: Measure,
    against: readonly string[],
  ): Contender {
    return {
      name,
      against,
      skipped,
      round: async (warm) => {
        const measured = await this.#client.call<Measured>(method, { base, ...argument(warm) });
        const { messages: count, lost, duplicated, samples } = measured;
        return { value: measure(measured), count, lost, duplicated, ...(samples !== undefined && { samples }) };
      },
    };
  }
}

/** The product's own figures. */
function own(figures: readonly Figure[]): Figure[] {
  return figures.filter(({ name }) => name.startsWith("edge"));
}

function atLeast(figures: readonly Figure[], least: number): Goal {
  const median = figureOf(figures, "edge")?.median ?? Number.NaN;
  return { text: `edge >= ${least} (${short(median)})`, met: median >= least };
}

function atMost(figures: readonly Figure[], most: number): Goal {
  const median = figureOf(figures, "edge")?.median ?? Number.NaN;
  return { text: `edge <= ${most} ms (${short(median)})`, met: median <= most };
}

/** At least as much as the reference server with that store; no goal where it is not available. */
function atLeastAs(figures: readonly Figure[], store: string): Goal[] {
  const other = figures.find(({ name }) => name.endsWith(store));
  if (other?.missing?.startsWith("SKIPPED") === true) return [];
  const ratio = figureOf(figures, "edge")?.against.find(({ name }) => name === other?.name)?.ratio ?? Number.NaN;
  return [{ text: `edge at least as ${other?.name} (${short(ratio)} of it)`, met: ratio >= 1 }];
}
