/** Octets through each encapsulation, up and down, compared with bare TCP, a worker that only copies, and the peers. */
import { MAX_CONTENT_LENGTH } from "../../src/encapsulation/index.ts";
import { Child } from "../support/rpc.ts";
import { startEdge, startExchangeWorker, startMinimalWorker } from "./edges.ts";
import type { Way } from "./lines.ts";
import { installPackages, type Peer, startHttptunnel, startWstunnel } from "./peers.ts";
import { alternate, type Figure, figureOf, type Goal, intact, type Section, short } from "./report.ts";
import { type Load, type NamedWay, QUICK, transfer } from "./transfers.ts";

const FAST: Load = { size: 400e6, milliseconds: 2_500 };
const SLOW: Load = { size: 400e6, milliseconds: 1_500 };

/** One POST after another, as in Polling. */
const EXCHANGES = "worker and object, bodies of 1 MiB";
const FLOORS = ["bare TCP", "worker, pipeTo", "worker, BYOB loop", EXCHANGES];
const PEERS = ["wstunnel 1.4.0", "httptunnel 3.3"];

export async function throughput(quick: boolean): Promise<Section[]> {
  const missing = await installPackages();
  const far = new Child(new URL("far.ts", import.meta.url));
  const near = new Child(new URL("near.ts", import.meta.url));
  const port = await far.call<number>("listen");
  const relay = `127.0.0.1:${port}`;
  const edge = await startEdge([relay]);
  const worker = await startMinimalWorker(relay);
  const exchanger = await startExchangeWorker(relay);
  const peers = [await startWstunnel(port, missing), await startHttptunnel(port)];
  try {
    const sections: Section[] = [];
    for (const down of [false, true]) {
      const ports = { far: port, edge: edge.port, worker: worker.port, exchanger: exchanger.port };
      const ways = waysOf(down, relay, ports, peers);
      const contenders = ways.map((way) => transfer({ near, far, down }, quick ? { ...way, load: QUICK } : way));
      sections.push(sectionOf(down, await alternate(contenders, quick ? 2 : 5)));
    }
    return sections;
  } finally {
    for (const peer of peers) if ("close" in peer) await peer.close();
    await worker.close();
    await exchanger.close();
    await edge.close();
    await near.end();
    await far.end();
  }
}

interface Ports {
  readonly far: number;
  readonly edge: number;
  readonly worker: number;
  readonly exchanger: number;
}

function waysOf(down: boolean, relay: string, ports: Ports, peers: readonly Peer[]): NamedWay[] {
  const edge = `http://127.0.0.1:${ports.edge}`;
  const workerWay = (path: "/pipe" | "/loop"): Way => ({ kind: "worker", port: ports.worker, path, down });
  const device = (transport: "longlived" | "keepalive" | "polling"): Way => ({
    kind: "transport",
    options: { transport, relay, edge, contentLength: MAX_CONTENT_LENGTH },
  });
  return [
    { name: "bare TCP", way: { kind: "tcp", port: ports.far }, load: FAST, against: [] },
    { name: "worker, pipeTo", way: workerWay("/pipe"), load: FAST, against: [] },
    {
      name: "worker, BYOB loop",
      way: workerWay("/loop"),
      load: FAST,
      against: ["bare TCP"],
    },
    {
      name: "LongLived, bare sockets",
      way: { kind: "sockets", port: ports.edge, relay },
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
    { name: EXCHANGES, way: { kind: "exchanges", port: ports.exchanger }, load: SLOW, against: [] },
    {
      name: "Polling, device",
      way: device("polling"),
      load: SLOW,
      against: [EXCHANGES, "LongLived, device", ...PEERS],
    },
    // The peers' clients are programs with a TCP entrance, as they are used: one hop more than a library has.
    ...peers.map(
      (peer): NamedWay =>
        "skipped" in peer
          ? { name: peer.name, way: undefined, load: FAST, against: [], skipped: peer.skipped }
          : { name: peer.name, way: { kind: "tcp", port: peer.port }, load: FAST, against: ["bare TCP"] },
    ),
  ];
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
