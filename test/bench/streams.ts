/**
 * TCP connections carried between two devices, or from a device to a service beside the edge: throughput, round trips,
 * and memory of idle ones, beside other tunnels and floors. The ways are those of stream-ways.ts.
 */
import { BLOCK } from "./blocks.ts";
import type { Trips } from "./near.ts";
import { cpuSecondsBy, type ProcessTree, residentOctetsBy } from "./process-trees.ts";
import {
  alternate,
  type Contender,
  type Figure,
  figureOf,
  type Goal,
  intact,
  lineOf,
  quantile,
  type Section,
  short,
} from "./report.ts";
import { SSH } from "./ssh-tunnels.ts";
import {
  BARE_FORWARD,
  BARE_ORIGIN_APART,
  deviceBy,
  forwardBy,
  originBy,
  Place,
  type Row,
  SEALED,
  SEVERAL,
} from "./stream-ways.ts";
import { type Load, transferAtOnce, within } from "./transfers.ts";

const MEBI = 1024 * 1024;

/** The transports that are there for bulk data. */
const BULK = ["websocket", "longlived"] as const;

/** Idle streams whose memory is measured. */
const IDLE = 100;

/** How much is measured. Times in milliseconds. */
interface Extent {
  /** Of a round of throughput that counts, and of one that warms up. */
  readonly load: Load;
  readonly warm: Load;
  readonly rounds: number;
  /** How long a round may take: what is on its way, up to 32 MiB, arrives even by Polling. */
  readonly patience: number;
  /** Of a round of round trips. */
  readonly trips: number;
  /** Of the round of them that warms up, and how many there are at most. */
  readonly warmTrips: number;
  readonly warmTripCount: number;
  readonly tripRounds: number;
  /** How long after the last stream was opened or closed memory is read. */
  readonly settled: number;
  /** How long opening streams, or a round trip, may take. */
  readonly openPatience: number;
  /** After this time of a section no further round is begun. */
  readonly budget: number;
}

const FULL: Extent = {
  load: { size: 400e6, milliseconds: 2_000 },
  warm: { size: 50e6, milliseconds: 300 },
  rounds: 5,
  patience: 60_000,
  trips: 1_500,
  warmTrips: 10_000,
  warmTripCount: 8_000,
  tripRounds: 6,
  settled: 2_000,
  openPatience: 30_000,
  budget: 240_000,
};

/** The whole within four minutes. */
const QUICK: Extent = {
  load: { size: 60e6, milliseconds: 400 },
  warm: { size: 20e6, milliseconds: 200 },
  rounds: 2,
  patience: 20_000,
  trips: 250,
  warmTrips: 2_000,
  warmTripCount: 4_000,
  tripRounds: 6,
  settled: 100,
  openPatience: 10_000,
  budget: 25_000,
};

/**
 * Shows each row as soon as it is there.
 *
 * @param wanted pattern of the names of rows
 */
export async function* streams(quick: boolean, wanted: RegExp): AsyncGenerator<Section> {
  const extent = quick ? QUICK : FULL;
  const place = new Place();
  try {
    const rows = await place.open(wanted);
    yield await trips(place, rows, extent);
    for (const count of [1, SEVERAL]) yield await throughput(place, rows, count, extent);
    yield await memory(place, rows, extent);
  } finally {
    await place.close();
  }
}

/** Says what is being measured, and returns what shows its rows. */
function announced(section: string, unit: string): (figure: Figure) => void {
  console.log(`\n${section}, row by row:`);
  return (figure) => console.log(lineOf(figure, unit));
}

/** CPU time by row and process, in seconds, and the bytes that it was for. */
class Costs {
  readonly #rows = new Map<string, { octets: number; readonly seconds: Map<string, number> }>();

  /** Counts what each round of a contender costs, once it is warm. */
  counted(contender: Contender, processes: readonly ProcessTree[]): Contender {
    return {
      ...contender,
      round: async (warm) => {
        const before = cpuSecondsBy(processes);
        const round = await contender.round(warm);
        if (warm) return round;
        const row = this.#rows.get(contender.name) ?? { octets: 0, seconds: new Map<string, number>() };
        this.#rows.set(contender.name, row);
        row.octets += round.count * BLOCK;
        for (const [process, seconds] of cpuSecondsBy(processes)) {
          row.seconds.set(process, (row.seconds.get(process) ?? 0) + seconds - (before.get(process) ?? 0));
        }
        return round;
      },
    };
  }

  get lines(): string[] {
    return [...this.#rows].map(([name, { octets, seconds }]) => {
      const each = [...seconds].map(([process, used]) => `${process} ${short((used * 1e9) / octets)}`);
      return `  ${name}: ${each.join(", ")}`;
    });
  }
}

async function throughput(
  { near, far, sides }: Place,
  rows: readonly Row[],
  count: number,
  { load, warm, patience, rounds, budget }: Extent,
): Promise<Section> {
  const name = `throughput of ${count === 1 ? "one stream" : `${count} streams at a time`}, near side -> far side`;
  const costs = new Costs();
  const contenders = rows.map((row) => {
    const ways = Array.from({ length: count }, (_, stream) => row.way(stream));
    const contender = transferAtOnce({ near, far }, { ...row, ways, load }, { warm, patience });
    return costs.counted(contender, [...sides, ...row.processes]);
  });
  const figures = await alternate(contenders, rounds, { budget, onFigure: announced(name, "MB/s") });
  return {
    name,
    unit: "MB/s",
    counted: "64 KiB blocks",
    figures,
    goals: [intact(figures), ...rateGoals(figures)],
    notes: [`CPU time in ms per MB, of each process with those that it has started:`, ...costs.lines],
  };
}

/**
 * wstunnel and httptunnel have no platform between: their server is one process, and only the bare tunnel, which makes the
 * same hops with nothing of the product, tells what can be reached beside them. Half of it is for what that does without:
 * streams that share a connection, credit, order, acknowledgements, and resuming after the connection is lost. For a
 * destination that the edge dials these are two objects: the TCP connection outlives the virtual connection of the device,
 * and the object of that ends with it.
 */
function rateGoals(figures: readonly Figure[]): Goal[] {
  return [
    ...goalOf(figures, BULK.map(originBy), BARE_ORIGIN_APART, { least: 0.5 }),
    ...goalOf(figures, BULK.map(forwardBy), BARE_FORWARD, { least: 0.5 }),
    ...goalOf(figures, BULK.map(forwardBy), SSH.jump, { least: 0.8 }),
    ...rateGoal(figures, forwardBy("keepalive"), 20),
    ...rateGoal(figures, forwardBy("polling"), 5),
  ];
}

function rateGoal(figures: readonly Figure[], name: string, least: number): Goal[] {
  const rate = figureOf(figures, name)?.median;
  return rate === undefined ? [] : [{ text: `${name} >= ${least} MB/s (${short(rate)})`, met: rate >= least }];
}

/** A bound of the ratio to another row, for the best of some: they are there for the same purpose. None without rows. */
function goalOf(
  figures: readonly Figure[],
  names: readonly string[],
  other: string,
  bound: { readonly least: number } | { readonly most: number },
): Goal[] {
  const ratios = names.flatMap((name) => {
    const ratio = figureOf(figures, name)?.against.find((against) => against.name === other)?.ratio;
    return ratio === undefined ? [] : [{ name, ratio }];
  });
  ratios.sort((a, b) => ("least" in bound ? b.ratio - a.ratio : a.ratio - b.ratio));
  const [best] = ratios;
  if (best === undefined) return [];
  const { name, ratio } = best;
  const text = (sign: string, wanted: number) => `${name} ${sign} ${wanted} of ${other} (${short(ratio)})`;
  return "least" in bound
    ? [{ text: text(">=", bound.least), met: ratio >= bound.least }]
    : [{ text: text("<=", bound.most), met: ratio <= bound.most }];
}

/**
 * Round trips of one octet, one at a time.
 *
 * The warm-up is long, because Node and workerd compile only what has run some thousand times. A floor of a hundred lines
 * is compiled long before the product is: the first 500 trips of that take 1.8 times the CPU time of later ones.
 */
async function trips({ near }: Place, rows: readonly Row[], extent: Extent): Promise<Section> {
  const name = "round trip of one octet, on a connection that is open";
  const contenders = rows.map((row, id): Contender => {
    let opening: Promise<unknown> | undefined;
    return {
      ...row,
      async round(warm) {
        opening ??= near.call("openEcho", { way: row.way(0), id, octets: 1 });
        await within(extent.openPatience, opening);
        const asked = warm
          ? { id, count: extent.warmTripCount, milliseconds: extent.warmTrips }
          : { id, count: 400, milliseconds: extent.trips };
        const { samples, lost, duplicated } = await within(extent.openPatience, near.call<Trips>("ping", asked));
        if (samples.length === 0) throw new Error("no octet came back");
        return { value: quantile(samples, 0.5), samples, count: samples.length, lost, duplicated };
      },
    };
  });
  const { tripRounds, warmTrips } = extent;
  const budget = extent.budget + warmTrips * rows.length;
  const figures = await alternate(contenders, tripRounds, { budget, onFigure: announced(name, "ms") });
  for (const id of rows.keys()) await near.call("closePing", id);
  return {
    name,
    unit: "ms",
    counted: "samples",
    figures,
    goals: [
      intact(figures),
      // As for throughput: the bare tunnel itself takes more than twice as long as wstunnel.
      ...goalOf(figures, BULK.map(originBy), BARE_ORIGIN_APART, { most: 2 }),
      ...goalOf(figures, BULK.map(deviceBy), SEALED, { most: 1.3 }),
    ],
    notes: [],
  };
}

/** Memory of all programs while many streams are open and nothing happens. */
async function memory({ near }: Place, rows: readonly Row[], { openPatience, settled }: Extent): Promise<Section> {
  const name = `resident memory of each program with ${IDLE} idle streams`;
  const show = announced(name, "MiB");
  const figures: Figure[] = [];
  const notes = [`before the first of the ${IDLE} streams, in MiB:`];
  for (const [id, row] of rows.entries()) {
    if (row.skipped !== undefined || row.processes.length === 0 || row.name.startsWith("device")) continue;
    const before = residentOctetsBy(row.processes);
    const ways = Array.from({ length: Math.min(IDLE, row.most ?? IDLE) }, (_, stream) => row.way(stream));
    let failed: string | undefined;
    try {
      await within(openPatience, near.call("hold", { ways, id }));
      await pause(settled);
    } catch (error) {
      failed = `FAILED: ${(error instanceof Error ? error.message : String(error)).split("\n")[0]}`;
    }
    for (const [process, resident] of residentOctetsBy(row.processes)) {
      const figure: Figure = {
        name: `${row.name}: ${process}`,
        median: failed === undefined ? resident / MEBI : undefined,
        p99: undefined,
        rounds: [resident / MEBI],
        count: ways.length,
        lost: 0,
        duplicated: 0,
        against: [],
        missing: failed,
      };
      figures.push(figure);
      show(figure);
    }
    const each = [...before].map(([process, resident]) => `${process} ${short(resident / MEBI)}`);
    notes.push(`  ${row.name}: ${each.join(", ")}`);
    await near.call("release", id);
    await pause(settled);
  }
  return {
    name,
    unit: "MiB",
    counted: "streams",
    figures,
    goals: [],
    notes: [...notes, "httptunnel needs a pair of programs for each stream. One workerd serves all rows of ours."],
  };
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
