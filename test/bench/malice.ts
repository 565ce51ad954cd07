/** How a malicious token holder affects others: their deliveries with the attack alternately on and off. */
import { mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as sleep } from "node:timers/promises";
import { Device, type TransportName } from "../../src/device/index.ts";
import { ed25519, jwks } from "../edge/issuer.ts";
import { Child } from "../support/rpc.ts";
import type { Delivered, Pair } from "./bystanders.ts";
import { type Running, residentOctets, startEdge } from "./edges.ts";
import type { Attack, Deeds } from "./malicious-peer.ts";
import { type Figure, quantile, type Section, short } from "./report.ts";

const MEBI = 1024 * 1024;
/**
 * Deliveries of a phase, and the interval of each pair in milliseconds. Eight pairs then take about half of a core of
 * workerd: nearer to saturation, the p99 of the quiet phases alone scatters by a factor of ten.
 */
const DELIVERIES = 10_000;
const EVERY = 50;
/** The phases, attacked or not. The control without any attack has the same number, since memory grows with time as well. */
const PHASES = [false, true, false, true] as const;
/** How many times slower delivery may be during the attack, or how many milliseconds slower if that is more. */
const TIMES = 3;
const MORE = 50;
/** Memory that the attack may cost, and what the folder may hold besides waiting messages. */
const MEMORY = 200 * MEBI;
const LEFT = MEBI;
/** What the counters may take, whatever was done: 16 databases, each of ten pages and as many rows again. */
const COUNTERS = 2 * MEBI;
/** When the remains of an attack are checked. */
const AFTER = 60_000;
/** The size of a SQLite page in bytes. */
const PAGE = 4096;
const WAYS: readonly (readonly [TransportName, TransportName])[] = [
  ["websocket", "websocket"],
  ["websocket", "longlived"],
  ["longlived", "keepalive"],
  ["keepalive", "websocket"],
];

interface Phase extends Delivered {
  readonly attacked: boolean;
  readonly memory: number;
}

/** What both runs have in common, the attacked one and its control. */
interface Course {
  readonly quick: boolean;
  readonly issuer: Awaited<ReturnType<typeof ed25519>>;
  readonly silentRelay: string;
}

export async function malice(quick: boolean): Promise<Section> {
  const issuer = await ed25519("bench");
  const silent = await silentRelay();
  const course = { quick, issuer, silentRelay: silent.name };
  const state = mkdtempSync(join(tmpdir(), "grooveway-malice-"));
  const options = { state, keys: jwks(issuer) };
  const edges: Running[] = [];
  const start = async (its: typeof options) => {
    const edge = await startEdge([silent.name], its);
    edges.push(edge);
    return edge;
  };
  try {
    const control = mkdtempSync(join(state, "control-"));
    const peaceful = await start({ ...options, state: control });
    const without = (
      await phasesOf(
        peaceful,
        PHASES.map(() => false),
        course,
      )
    ).phases;
    await peaceful.close();
    rmSync(control, { recursive: true, force: true });

    const attacked = await start(options);
    const { phases, deeds } = await phasesOf(attacked, PHASES, course);
    await sleep(AFTER);
    const before = folderOctets(state);
    await attacked.close();
    // What the runtime leaves of deleted objects is removed at the next start.
    const again = await start(options);
    await sleep(1000);
    await again.close();
    const after = folderOctets(state);
    const counters = collectorOctets(state);
    return section({
      phases,
      without,
      deeds,
      folder: { before, after, counters, least: await leastMailbox(), ...whatWaits(state) },
    });
  } finally {
    for (const edge of edges) await edge.close();
    await silent.close();
    rmSync(state, { recursive: true, force: true });
  }
}

/** Deliveries between the bystanders of one edge, each phase attacked or not. */
async function phasesOf(
  edge: Running,
  attacks: readonly boolean[],
  { quick, issuer, silentRelay: silent }: Course,
): Promise<{ readonly phases: readonly Phase[]; readonly deeds: Deeds }> {
  const bystanders = new Child(new URL("bystanders.ts", import.meta.url));
  const mallory = new Child(new URL("malicious-peer.ts", import.meta.url));
  try {
    const tokenOf = (address: string) => issuer.issue({ address, scope: "connect receive send:*" });
    const url = `http://127.0.0.1:${edge.port}`;
    const pairs: Pair[] = [];
    for (let n = 0; n < 2 * WAYS.length; n += 1) {
      const [from, to] = WAYS[n % WAYS.length] ?? ["websocket", "websocket"];
      const end = async (address: string, transport: TransportName) => ({
        address,
        transport,
        token: await tokenOf(address),
      });
      pairs.push({ sender: await end(`alice${n}/pc`, from), receiver: await end(`bob${n}/pc`, to) });
    }
    await bystanders.call("open", { edge: url, all: pairs });
    const attack: Attack = {
      edge: url,
      token: await tokenOf("mallory/*"),
      victims: pairs.map(({ receiver }) => receiver.address),
      silentRelay: silent,
    };
    const count = quick ? DELIVERIES / 5 : DELIVERIES;
    await bystanders.call("deliver", { count: 1000, every: EVERY });
    const phases: Phase[] = [];
    const deeds: Record<string, number> = {};
    for (const attacked of attacks) {
      let memory = 0;
      const watch = setInterval(() => {
        memory = Math.max(memory, residentOctets(edge.pid));
      }, 100);
      if (attacked) {
        await mallory.call("begin", attack);
        await sleep(1000);
      }
      const delivered = await bystanders.call<Delivered>("deliver", { count, every: EVERY });
      if (attacked) {
        for (const [deed, number] of Object.entries(await mallory.call<Deeds>("end"))) {
          deeds[deed] = (deeds[deed] ?? 0) + number;
        }
      }
      clearInterval(watch);
      phases.push({ ...delivered, attacked, memory });
      await sleep(quick ? 1000 : 5000);
    }
    await bystanders.call("close");
    return { phases, deeds };
  } finally {
    await mallory.end();
    await bystanders.end();
  }
}

interface Folder {
  readonly before: number;
  readonly after: number;
  /** The size of the databases of counters, after a restart, in bytes. */
  readonly counters: number;
  /** The size of waiting messages in bytes. */
  readonly octets: number;
  readonly mailboxes: number;
  /** The minimum size of a mailbox with a message, in bytes. */
  readonly least: number;
}

interface Measured {
  readonly phases: readonly Phase[];
  /** The phases of the control, which nobody attacks. */
  readonly without: readonly Phase[];
  readonly deeds: Deeds;
  readonly folder: Folder;
}

function section({ phases, without, deeds, folder }: Measured): Section {
  const figure = (name: string, attacked: boolean): Figure => {
    const own = phases.filter((phase) => phase.attacked === attacked);
    const samples = own.flatMap((phase) => phase.samples);
    return {
      name,
      median: quantile(samples, 0.5),
      p99: quantile(samples, 0.99),
      rounds: own.map((phase) => quantile(phase.samples, 0.99)),
      count: samples.length,
      lost: own.reduce((sum, { lost }) => sum + lost, 0),
      duplicated: own.reduce((sum, phase) => sum + phase.duplicated, 0),
      against: [],
      missing: undefined,
    };
  };
  const quiet = figure("floor: nobody attacks", false);
  const attacked = figure("one token holder does his worst", true);
  const ratio = (attacked.p99 ?? 0) / (quiet.p99 ?? 1);
  const longer = (attacked.p99 ?? 0) - (quiet.p99 ?? 0);
  const peak = (of: readonly Phase[]) => Math.max(...of.map(({ memory }) => memory));
  const grown = peak(phases) - peak(without);
  const impersonated = phases.reduce((sum, phase) => sum + phase.impersonated, 0);
  const reconnects = phases.reduce((sum, phase) => sum + phase.reconnects, 0);
  const left = folder.after - folder.octets - folder.mailboxes * folder.least;
  return {
    name: "delivery between others while a malicious peer is at work",
    unit: "ms",
    counted: "deliveries",
    figures: [quiet, { ...attacked, against: [{ name: `${quiet.name}, p99`, ratio }] }],
    goals: [
      {
        text: `nothing lost, nothing twice, nobody impersonated (${impersonated}), nobody thrown out (${reconnects})`,
        met:
          [quiet, attacked].every(({ lost, duplicated }) => lost + duplicated === 0) && impersonated + reconnects === 0,
      },
      {
        text: `p99 at most ${TIMES} times that without it, or ${MORE} ms longer (${short(ratio)} times, ${short(longer)} ms longer)`,
        met: ratio <= TIMES || longer <= MORE,
      },
      { text: `memory of workerd at most ${MEMORY / MEBI} MiB more (${short(grown / MEBI)})`, met: grown <= MEMORY },
      {
        text: `the state folder within 1 MiB of what waits and the tables of its mailboxes, after a restart (${short(left / MEBI)} MiB)`,
        met: left <= LEFT,
      },
      {
        text: `the databases of counters at most ${COUNTERS / MEBI} MiB (${short(folder.counters / MEBI)} MiB)`,
        met: folder.counters <= COUNTERS,
      },
    ],
    notes: [
      `the attack: ${Object.entries(deeds)
        .map(([deed, number]) => `${number} ${deed}`)
        .join(", ")}`,
      `p99 of each phase: ${phases.map((phase) => `${phase.attacked ? "attacked" : "quiet"} ${short(quantile(phase.samples, 0.99))} ms`).join(", ")}`,
      `memory of workerd at most: ${short(peak(without) / MEBI)} MiB in as many phases without an attack, attacked ${short(peak(phases) / MEBI)} MiB`,
      `${AFTER / 1000} s after the attack: ${short(folder.before / MEBI)} MiB in the folder, ${short(folder.after / MEBI)} MiB after a restart; ` +
        `${short(folder.octets / MEBI)} MiB wait, in ${folder.mailboxes} mailboxes of at least ${folder.least} octets`,
    ],
  };
}

/** A relay that accepts connections and stays silent. */
async function silentRelay(): Promise<{ readonly name: string; close(): Promise<void> }> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.on("close", () => sockets.delete(socket));
    socket.resume();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  return {
    name: `127.0.0.1:${port}`,
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/**
 * The size of a state folder in bytes, without what every edge keeps, however little it does: the ballast for a full disk,
 * and the databases of counters, which have a goal of their own.
 */
function folderOctets(folder: string): number {
  return octetsOf(folder) - collectorOctets(folder);
}

/** The size of the databases of counters, in bytes. */
function collectorOctets(folder: string): number {
  return octetsOf(join(folder, "do", "grooveway-Collector"));
}

function octetsOf(folder: string): number {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name !== "ballast")
    .reduce(
      (sum, entry) => sum + (statSync(join(entry.parentPath, entry.name), { throwIfNoEntry: false })?.size ?? 0),
      0,
    );
}

/** The size of a mailbox database with a single message of one octet, mostly the platform's tables, in bytes. */
async function leastMailbox(): Promise<number> {
  const state = mkdtempSync(join(tmpdir(), "grooveway-malice-"));
  try {
    const edge = await startEdge([], { state });
    const device = await Device.connect({
      edge: `http://127.0.0.1:${edge.port}`,
      address: "alice/pc",
      transport: "websocket",
    });
    await device.send("bob/pc", "x");
    await device.close();
    await edge.close();
    // The next start checkpoints the log.
    await (await startEdge([], { state })).close();
    const folder = join(state, "do", "grooveway-Mailbox");
    const sizes = readdirSync(folder).map((name) => statSync(join(folder, name)).size);
    return Math.max(...sizes);
  } finally {
    rmSync(state, { recursive: true, force: true });
  }
}

/**
 * The size of the tables of waiting messages and their ids in the mailbox databases, in bytes of whole pages beyond the
 * one page that each has in any case; and the number of mailboxes. For checkpointed databases that are not in use.
 */
function whatWaits(folder: string): { readonly octets: number; readonly mailboxes: number } {
  let octets = 0;
  let mailboxes = 0;
  for (const { name, parentPath } of readdirSync(join(folder, "do", "grooveway-Mailbox"), { withFileTypes: true })) {
    if (!/^[0-9a-f]{64}\.sqlite$/.test(name)) continue;
    const database = new DatabaseSync(join(parentPath, name), { readOnly: true });
    const tables = database
      .prepare(
        "SELECT sum(pgsize) AS octets FROM dbstat WHERE name IN ('segments', 'bodies', 'envelopes', 'ids') GROUP BY name",
      )
      .all();
    database.close();
    if (tables.length === 0) continue;
    mailboxes += 1;
    for (const table of tables) octets += Number(table.octets) - PAGE;
  }
  return { octets, mailboxes };
}
