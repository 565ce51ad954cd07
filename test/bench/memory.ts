/** How much the edge buffers for a slowly reading relay whose device would send half a gigabyte at once. */
import { MAX_CONTENT_LENGTH } from "../../src/encapsulation/index.ts";
import { Child } from "../support/rpc.ts";
import type { Received } from "./blocks.ts";
import { type Running, residentOctets, startEdge, startMinimalWorker } from "./edges.ts";
import type { Way } from "./lines.ts";
import type { Figure, Section } from "./report.ts";
import { short } from "./report.ts";

const OFFERED = 512 * 1024 * 1024;
const RATE = 1e6;
const LIMIT = 256;
const MEBI = 1024 * 1024;

/** The activity of one workerd. */
interface Watched {
  readonly name: string;
  readonly way: Way;
  readonly running: Running;
  readonly id: number;
  idle: number;
  most: number;
}

/** All concurrently, since nothing here is short of CPU. */
export async function memory(quick: boolean): Promise<Section> {
  const far = new Child(new URL("far.ts", import.meta.url));
  const near = new Child(new URL("near.ts", import.meta.url));
  const port = await far.call<number>("listen");
  const relay = `127.0.0.1:${port}`;
  const edge = await startEdge([relay]);
  const device = await startEdge([relay]);
  const worker = await startMinimalWorker(relay);
  try {
    const all: Watched[] = [
      watched("worker, BYOB loop", worker, 1, { kind: "worker", port: worker.port, path: "/loop", down: false }),
      watched("LongLived, bare sockets", edge, 2, { kind: "sockets", port: edge.port, relay }),
      watched("LongLived, device", device, 3, {
        kind: "transport",
        options: {
          transport: "longlived",
          relay,
          edge: `http://127.0.0.1:${device.port}`,
          contentLength: MAX_CONTENT_LENGTH,
        },
      }),
    ];
    // A first connection of each, so that what the runtime loads once is not counted.
    for (const { way, id } of all) {
      await near.call("up", { way, id: id + 100, size: 1e6, milliseconds: 1_000 });
      await near.call("close", id + 100);
    }
    await pause(500);
    for (const one of all) {
      one.idle = residentOctets(one.running.pid);
      await near.call("push", { way: one.way, id: one.id, size: OFFERED, rate: RATE });
    }
    const until = performance.now() + (quick ? 8_000 : 20_000);
    while (performance.now() < until) {
      for (const one of all) one.most = Math.max(one.most, residentOctets(one.running.pid));
      await pause(100);
    }
    const figures: Figure[] = [];
    const notes: string[] = [];
    for (const one of all) {
      const { octets, lost, duplicated } = await far.call<Received>("progress", one.id);
      const written = await near.call<number>("written", one.id);
      const growth = (one.most - one.idle) / MEBI;
      const floor = figures[0];
      figures.push({
        name: one.name,
        median: growth,
        p99: undefined,
        rounds: [growth],
        count: octets,
        lost,
        duplicated,
        against: floor?.median === undefined ? [] : [{ name: floor.name, ratio: growth / floor.median }],
        missing: octets === 0 ? "FAILED: the far side has read nothing" : undefined,
      });
      notes.push(
        `${one.name}: ${short(one.idle / MEBI)} MiB idle, ${short(one.most / MEBI)} MiB at most; of 512 MiB offered ` +
          `${short(written / MEBI)} MiB were taken from the client, ${short(octets / MEBI)} MiB read by the far side`,
      );
      await near.call("close", one.id);
    }
    return {
      name: "memory of workerd while a device pushes 512 MiB to a relay that reads 1 MB/s",
      unit: "MiB growth",
      counted: "octets read",
      figures,
      goals: figures.slice(1).map(({ name, median, missing }) => ({
        text: `${name}: growth < ${LIMIT} MiB (${short(median ?? 0)})`,
        met: missing === undefined && (median ?? 0) < LIMIT,
      })),
      notes,
    };
  } finally {
    await near.end();
    await far.end();
    await Promise.all([edge.close(), device.close(), worker.close()]);
  }
}

function watched(name: string, running: Running, id: number, way: Way): Watched {
  return { name, running, id, way, idle: 0, most: 0 };
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
