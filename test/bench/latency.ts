/** Round trips of a message of 100 octets, one at a time. */
import type { DeviceOptions, TransportName } from "../../src/device/index.ts";
import { Child } from "../support/rpc.ts";
import { startEdge } from "./edges.ts";
import type { Way } from "./lines.ts";
import type { Trips } from "./near.ts";
import { installPackages } from "./peers.ts";
import { alternate, type Contender, figureOf, intact, quantile, type Section, short } from "./report.ts";

const ENGINE = "engine.io 6.6.12, polling";
const NAMES = {
  tcp: "tcp",
  longlived: "LongLived",
  keepalive: "KeepAlive",
  polling: "Polling",
} as const satisfies Partial<Record<TransportName, string>>;
const TRANSPORTS = Object.keys(NAMES) as (keyof typeof NAMES)[];

export async function latency(quick: boolean): Promise<Section[]> {
  const missing = await installPackages();
  const far = new Child(new URL("far.ts", import.meta.url));
  const near = new Child(new URL("near.ts", import.meta.url));
  const port = await far.call<number>("listen");
  const relayPort = await far.call<number>("relay");
  const edge = await startEdge([`127.0.0.1:${port}`, `127.0.0.1:${relayPort}`]);
  try {
    const bench = new Bench(near, quick);
    const url = `http://127.0.0.1:${edge.port}`;
    const octets = [
      await bench.echo("bare TCP", { kind: "tcp", port }, []),
      ...(await Promise.all(
        TRANSPORTS.map((transport) =>
          bench.echo(
            NAMES[transport],
            { kind: "transport", options: { transport, relay: `127.0.0.1:${port}`, edge: url } },
            [ENGINE, "bare TCP"],
          ),
        ),
      )),
      missing === undefined ? await bench.engine(await far.call<number>("engine")) : skipped(ENGINE, missing),
    ];
    const figures = await alternate(octets, bench.rounds);
    await bench.close();

    const devices: Contender[] = [];
    for (const transport of TRANSPORTS) {
      const common = { relay: `127.0.0.1:${relayPort}`, transport, edge: url };
      await far.call("answerer", { ...common, address: `bob/${transport}` } satisfies DeviceOptions);
      devices.push(
        await bench.device(
          NAMES[transport],
          { ...common, address: `alice/${transport}` },
          `bob/${transport}`,
          transport === "tcp" ? [] : ["tcp"],
        ),
      );
    }
    const messages = await alternate(devices, bench.rounds);
    await bench.close();

    const keepAlive = figureOf(figures, NAMES.keepalive)?.median;
    const polling = figureOf(figures, NAMES.polling)?.median;
    return [
      {
        name: "round trip of 100 octets to an echo behind the edge",
        unit: "ms",
        counted: "samples",
        figures,
        goals: [
          intact(figures),
          {
            text: `KeepAlive p50 <= 5 ms (${keepAlive === undefined ? "none" : short(keepAlive)})`,
            met: keepAlive !== undefined && keepAlive <= 5,
          },
          {
            text: `Polling p50 <= 20 ms (${polling === undefined ? "none" : short(polling)})`,
            met: polling !== undefined && polling <= 20,
          },
        ],
        notes: [],
      },
      {
        name: "round trip of a message of 100 octets: device, relay with its store on disk, device that answers, relay, device",
        unit: "ms",
        counted: "samples",
        figures: messages,
        goals: [intact(messages)],
        notes: [
          "Each message is acknowledged and stored by the relay both ways; engine.io stores nothing.",
          "An idle device that polls does so once a second.",
        ],
      },
    ];
  } finally {
    await near.end();
    await far.end();
    await edge.close();
  }
}

class Bench {
  readonly rounds: number;
  readonly #near: Child;
  readonly #quick: boolean;
  #ids: number[] = [];
  #last = 0;

  constructor(near: Child, quick: boolean) {
    this.#near = near;
    this.#quick = quick;
    this.rounds = quick ? 3 : 6;
  }

  async echo(name: string, way: Way, against: readonly string[]): Promise<Contender> {
    const id = this.#id();
    await this.#near.call("openEcho", { way, id });
    return this.#contender(name, id, against);
  }

  async engine(port: number): Promise<Contender> {
    const id = this.#id();
    await this.#near.call("openEngine", { url: `http://127.0.0.1:${port}`, transport: "polling", id });
    return this.#contender(ENGINE, id, ["bare TCP"]);
  }

  async device(name: string, options: DeviceOptions, to: string, against: readonly string[]): Promise<Contender> {
    const id = this.#id();
    await this.#near.call("openDevice", { options, to, id });
    return this.#contender(name, id, against);
  }

  async close(): Promise<void> {
    for (const id of this.#ids) await this.#near.call("closePing", id);
    this.#ids = [];
  }

  #id(): number {
    this.#last += 1;
    this.#ids.push(this.#last);
    return this.#last;
  }

  #contender(name: string, id: number, against: readonly string[]): Contender {
    return {
      name,
      against,
      round: async (warm) => {
        const count = warm ? 50 : 100;
        const milliseconds = warm ? 1_000 : this.#quick ? 1_000 : 2_500;
        const { samples, lost, duplicated } = await this.#near.call<Trips>("ping", { id, count, milliseconds });
        if (samples.length === 0 && !warm) throw new Error("no message came back");
        return { value: quantile(samples, 0.5), samples, count: samples.length, lost, duplicated };
      },
    };
  }
}

function skipped(name: string, why: string): Contender {
  return { name, against: [], skipped: why, round: () => Promise.reject(new Error(why)) };
}
