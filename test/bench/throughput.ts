/** Octets through each encapsulation, up and down, compared with bare TCP, a worker that only copies, and the peers. */
import { MAX_CONTENT_LENGTH } from "../../src/encapsulation/index.ts";
import { Child } from "../support/rpc.ts";
import { BLOCK, type Received } from "./blocks.ts";
import { startEdge, startMinimalWorker } from "./edges.ts";
import type { Way } from "./lines.ts";
import { installPackages, type Peer, startHttptunnel, startWstunnel } from "./peers.ts";
import {
  alternate,
  type Contender,
  type Figure,
  figureOf,
  type Goal,
  intact,
  type Round,
  type Section,
  short,
} from "./report.ts";

/** The size of a round: at most this many octets, for at most this long; what is then in flight still counts. */
interface Load {
  readonly size: number;
  readonly milliseconds: number;
}

const WARM: Load = { size: 50e6, milliseconds: 300 };
const FAST: Load = { size: 400e6, milliseconds: 2_500 };
const SLOW: Load = { size: 400e6, milliseconds: 1_500 };
const QUICK: Load = { size: 150e6, milliseconds: 700 };

/** A round that takes longer has lost something. */
const PATIENCE = 30_000;

const FLOORS = ["bare TCP", "worker, pipeTo", "worker, BYOB loop"];
const PEERS = ["wstunnel 1.4.0", "httptunnel 3.3"];

export async function throughput(quick: boolean): Promise<Section[]> {
  const missing = await installPackages();
  const far = new Child(new URL("far.ts", import.meta.url));
  const near = new Child(new URL("near.ts", import.meta.url));
  const port = await far.call<number>("listen");
  const relay = `127.0.0.1:${port}`;
  const edge = await startEdge([relay]);
  const worker = await startMinimalWorker(relay);
  const peers = [await startWstunnel(port, missing), await startHttptunnel(port)];
  try {
    const sections: Section[] = [];
    for (const down of [false, true]) {
      const ways = waysOf(down, port, relay, edge.port, worker.port, peers);
      const contenders = ways.map((way) => contender(near, far, down, way, quick));
      sections.push(sectionOf(down, await alternate(contenders, quick ? 2 : 5)));
    }
    return sections;
  } finally {
    for (const peer of peers) if ("close" in peer) await peer.close();
    await worker.close();
    await edge.close();
    await near.end();
    await far.end();
  }
}

interface NamedWay {
  readonly name: string;
  readonly way: Way | undefined;
  readonly load: Load;
  readonly against: readonly string[];
  readonly skipped?: string;
}

function waysOf(
  down: boolean,
  port: number,
  relay: string,
  edgePort: number,
  workerPort: number,
  peers: readonly Peer[],
): NamedWay[] {
  const edge = `http://127.0.0.1:${edgePort}`;
  const device = (transport: "longlived" | "keepalive" | "polling"): Way => ({
    kind: "transport",
    options: { transport, relay, edge, contentLength: MAX_CONTENT_LENGTH },
  });
  return [
    { name: "bare TCP", way: { kind: "tcp", port }, load: FAST, against: [] },
    { name: "worker, pipeTo", way: { kind: "worker", port: workerPort, path: "/pipe", down }, load: FAST, against: [] },
    {
      name: "worker, BYOB loop",
      way: { kind: "worker", port: workerPort, path: "/loop", down },
      load: FAST,
      against: ["bare TCP"],
    },
    {
      name: "LongLived, bare sockets",
      way: { kind: "sockets", port: edgePort, relay },
      load: FAST,
      against: ["worker, BYOB loop", "worker, pipeTo", "bare TCP", ...PEERS],
    },
    {
      name: "LongLived, device",
      way: device("longlived"),
      load: FAST,
      against: ["worker, BYOB loop", "bare TCP", ...PEERS],
    },
    { name: "KeepAlive, device", way: device("keepalive"), load: SLOW, against: ["LongLived, device", ...PEERS] },
    { name: "Polling, device", way: device("polling"), load: SLOW, against: ["LongLived, device", ...PEERS] },
    // The peers' clients are programs with a TCP entrance, as they are used: one hop more than a library has.
    ...peers.map(
      (peer): NamedWay =>
        "skipped" in peer
          ? { name: peer.name, way: undefined, load: FAST, against: [], skipped: peer.skipped }
          : { name: peer.name, way: { kind: "tcp", port: peer.port }, load: FAST, against: ["bare TCP"] },
    ),
  ];
}

let lastId = 0;

function contender(
  near: Child,
  far: Child,
  down: boolean,
  { name, way, load, against, skipped }: NamedWay,
  quick: boolean,
): Contender {
  return {
    name,
    against,
    skipped,
    async round(warm) {
      lastId += 1;
      const id = lastId;
      const { size, milliseconds } = warm ? WARM : quick ? QUICK : load;
      const argument = { way, id, size, milliseconds };
      if (down) return roundOf(await patiently(near.call<Received>("down", argument)));
      const [received, written] = await patiently(
        Promise.all([far.call<Received>("received", id), near.call<number>("up", argument)]),
      ).finally(() => near.call("close", id));
      return roundOf(received, written);
    },
  };
}

/** Written blocks that the receiver did not see are lost, too. */
function roundOf(received: Received, written?: number): Round {
  const { rate, octets, blocks, lost, duplicated, whole } = received;
  const tail = written === undefined ? (whole ? 0 : 1) : Math.max(0, written - blocks - lost + duplicated);
  return { value: rate, count: Math.round(octets / BLOCK), lost: lost + tail, duplicated };
}

function patiently<T>(promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not over after ${PATIENCE / 1000} s`)), PATIENCE);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

function sectionOf(down: boolean, figures: readonly Figure[]): Section {
  const rate = (name: string) => figureOf(figures, name)?.median ?? 0;
  const floor = Math.max(rate("worker, BYOB loop"), rate("worker, pipeTo"));
  const least = Math.max(200, 0.6 * floor);
  const longLived = rate("LongLived, bare sockets");
  const keepAlive = rate("KeepAlive, device");
  const ratio = figureOf(figures, "KeepAlive, device")?.against.find(({ name }) => name === "LongLived, device")?.ratio;
  const polling = rate("Polling, device");
  const goals: Goal[] = [
    intact(figures),
    {
      text: `LongLived >= ${short(least)} MB/s, the higher of 200 and 0.6 of the faster worker (${short(longLived)})`,
      met: longLived >= least,
    },
    {
      text: `KeepAlive >= 0.5 of LongLived in the same round (${short(ratio ?? 0)}; ${short(keepAlive)} MB/s)`,
      met: (ratio ?? 0) >= 0.5,
    },
    { text: `Polling >= 60 MB/s (${short(polling)})`, met: polling >= 60 },
  ];
  for (const peer of PEERS) {
    const other = rate(peer);
    if (other === 0) continue;
    goals.push({
      text: `LongLived ahead of ${peer} (${short(longLived)} and by device ${short(rate("LongLived, device"))} against ${short(other)})`,
      met: Math.min(longLived, rate("LongLived, device")) > other,
    });
  }
  return {
    name: `throughput ${down ? "down: far side -> edge -> client" : "up: client -> edge -> far side"}`,
    unit: "MB/s",
    counted: "64 KiB blocks",
    figures,
    goals,
    notes: [`floors: ${FLOORS.join("; ")}. A worker that only copies has no object and no encapsulation.`],
  };
}
