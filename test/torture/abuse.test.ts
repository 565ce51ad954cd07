/**
 * Abuse by strangers: heads and bodies that never end, abandoned virtual connections, guessed GUIDs, floods.
 * Meanwhile two devices exchange messages undisturbed, and every refusal has its reason.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { constants, setPriority } from "node:os";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { Device } from "../../src/device/index.ts";
import { HALF_OPEN, MISSES, MISSES_RATE } from "../../src/edge/admission/limits.ts";
import { TIMERS } from "../../src/encapsulation/index.ts";
import { startEdge } from "../edge/mailbox/support.ts";
import { edgeMemory } from "../edge/support.ts";
import type { InspectedEdge } from "../support/inspected-edge.ts";
import { FULL } from "../support/long-form.ts";
import type { Attack, Outcome } from "./attacker.ts";
import { insist, KEYS } from "./support.ts";

/** The length of each flood, and of the quiet period before. */
const LASTS = FULL ? 20_000 : 3000;
const HALF_OPENED = FULL ? 10_000 : 800;
/** The longest time of those that the edge ends, which is over when all have ended. */
const ENDED_BY = 120_000;
/** Half-open ones are admitted at a pace: in the short form not all are waited for, only the first. */
const HALF_OPEN_LASTS = FULL ? ENDED_BY : 50_000;
const SLOW = FULL ? 2000 : 200;
/** Requests at a time in a flood: in the short form the attackers have no machine of their own. */
const FLOODING = FULL ? 16 : 4;
/** The interval between round trips of the two devices: the short form needs no percentiles that are exact. */
const EVERY = FULL ? 10 : 40;
/**
 * How much slower delivery may become, and the smallest difference that counts, in milliseconds. In the long form that
 * is the runtime's garbage collection, of which a few come together under attack; in the short form other tests share two
 * cores with a single-threaded runtime. Without the edge's limits it is ten seconds.
 */
const TIMES = 3;
const FLOOR = FULL ? { p50: 10, p99: 50 } : { p50: 5000, p99: 8000 };
/** The time to start a process. */
const STARTING = 1200;
/** The growth allowed for a process with its caches and parked requests. */
const MEMORY = (FULL ? 1536 : 768) * 1024 * 1024;

const closing: (() => Promise<unknown>)[] = [];
const attackers = new Set<ChildProcess>();
let edge: InspectedEdge;
let pair: Pair;
let quiet: Figures;
let memory: number;
/** Attacks that last as long as the edge allows start first and are checked last. */
let halfOpen: Promise<Outcome>;
let slowHeads: Promise<Outcome>;
let silentSockets: Promise<Outcome>;
let slowBodies: Promise<Outcome>;

interface Figures {
  readonly p50: number;
  readonly p99: number;
  readonly count: number;
}

/** Two devices that send to each other all the time, and the latency of each message. */
class Pair {
  readonly #devices: readonly Device[];
  #delays: number[] = [];
  #over = false;
  reconnects = 0;
  readonly #sending: Promise<unknown>;

  static async start(url: string): Promise<Pair> {
    const holder: { pair?: Pair } = {};
    const onReconnect = () => {
      if (holder.pair !== undefined) holder.pair.reconnects += 1;
    };
    holder.pair = new Pair(
      await Promise.all(
        [
          ["alice/pc", "websocket"],
          ["bob/pc", "longlived"],
        ].map(([address = "", transport]) =>
          insist({ edge: url, address, transport: transport as "websocket" | "longlived", onReconnect }),
        ),
      ),
    );
    return holder.pair;
  }

  private constructor(devices: readonly Device[]) {
    this.#devices = devices;
    for (const device of devices) void this.#receive(device);
    this.#sending = Promise.all([this.#send(0, "bob/pc"), this.#send(1, "alice/pc")]);
  }

  /** The measurements since the last call. */
  figures(): Figures {
    const sorted = this.#delays.sort((a, b) => a - b);
    this.#delays = [];
    const at = (share: number) => sorted[Math.floor(sorted.length * share)] ?? Number.POSITIVE_INFINITY;
    return { p50: at(0.5), p99: at(0.99), count: sorted.length };
  }

  async close(): Promise<void> {
    this.#over = true;
    await this.#sending;
    await Promise.all(this.#devices.map((device) => device.close()));
  }

  async #send(index: number, to: string): Promise<void> {
    while (!this.#over) {
      await this.#devices[index]?.send(to, String(performance.now()));
      await sleep(EVERY);
    }
  }

  async #receive(device: Device): Promise<void> {
    for await (const message of device.messages()) {
      this.#delays.push(performance.now() - Number(message.text()));
      message.done();
    }
  }
}

function attack(kind: Attack["kind"], source: string, count: number, lasts = LASTS): Promise<Outcome> {
  const begins = Date.now() + STARTING;
  const told: Attack = { kind, source, count, lasts, begins, port: Number(new URL(edge.url).port) };
  const script = fileURLToPath(new URL("./attacker.ts", import.meta.url));
  const child = spawn(
    process.execPath,
    [...process.execArgv.filter((one) => one.startsWith("--disable")), script, JSON.stringify(told)],
    {
      stdio: ["ignore", "pipe", "inherit"],
    },
  );
  // Attackers have machines of their own: their cost here must not be counted as the edge's cost to others. In the
  // short form other tests would leave them no CPU time.
  if (FULL && child.pid !== undefined) setPriority(child.pid, constants.priority.PRIORITY_LOW);
  attackers.add(child);
  return new Promise((resolve, reject) => {
    let printed = "";
    child.stdout.on("data", (octets) => {
      printed += octets;
    });
    child.on("error", reject);
    child.on("close", () => {
      attackers.delete(child);
      try {
        resolve(JSON.parse(printed) as Outcome);
      } catch {
        reject(new Error(`the attacker printed ${JSON.stringify(printed)}`));
      }
    });
  });
}

/** Resolves when the attack starts: earlier measurements do not count. */
async function underWay(): Promise<void> {
  await sleep(STARTING);
  pair.figures();
}

/** Compares the two devices' latency with that before the attack. */
function assertServed(what: string, report: (line: string) => void): void {
  const { p50, p99, count } = pair.figures();
  const grown = edgeMemory() - memory;
  report(
    `${what}: ${count} messages, p50 ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms (quiet ${quiet.p50.toFixed(1)} and ${quiet.p99.toFixed(1)}); ${Math.round(grown / 1048576)} MiB more`,
  );
  assert.ok(count > (FULL ? LASTS / EVERY / 4 : 0), `${count} messages arrived`);
  assert.ok(p50 <= Math.max(TIMES * quiet.p50, FLOOR.p50), `p50 ${p50} ms, quiet ${quiet.p50} ms`);
  assert.ok(p99 <= Math.max(TIMES * quiet.p99, FLOOR.p99), `p99 ${p99} ms, quiet ${quiet.p99} ms`);
  assert.ok(grown < MEMORY, `${grown} octets more in memory`);
  assert.equal(pair.reconnects, 0);
}

describe("abuse", { timeout: FULL ? 600_000 : 480_000 }, () => {
  before(async () => {
    edge = await startEdge({ after: (close) => closing.push(close) }, { keys: KEYS });
    pair = await Pair.start(edge.url);
    // Compilation and caches are warm before anything is measured.
    await sleep(1000);
    pair.figures();
    await sleep(LASTS);
    quiet = pair.figures();
    memory = edgeMemory();
  });
  after(async () => {
    for (const child of attackers) child.kill();
    await pair.close();
    for (const close of closing) await close();
  });

  it(`${HALF_OPENED} virtual connections with only a GET, ${SLOW} slow heads and ${SLOW} slow bodies do not delay others`, async (t) => {
    halfOpen = attack("halfOpen", "192.0.2.1", HALF_OPENED, HALF_OPEN_LASTS);
    slowHeads = attack("slowHeads", "192.0.2.2", SLOW, ENDED_BY);
    silentSockets = attack("silentSockets", "192.0.2.3", 20, ENDED_BY);
    slowBodies = attack("slowBodies", "192.0.2.4", SLOW, ENDED_BY);
    await underWay();
    await sleep(LASTS);
    assertServed("half open and slow", (line) => t.diagnostic(line));
    await sleep(LASTS);
    assertServed("half open and slow, later", (line) => t.diagnostic(line));
    // Other sources can connect meanwhile, including this process.
    const other = await insist({ edge: edge.url, address: "carol/pc", transport: "keepalive" });
    await other.close();
  });

  it("guessed GUIDs find nothing, and guessing is rate-limited", async (t) => {
    const guessing = attack("guesses", "192.0.2.5", FLOODING);
    await underWay();
    const { answers } = await guessing;
    assertServed(`guesses ${JSON.stringify(answers)}`, (line) => t.diagnostic(line));
    const { "404 UnknownConnection": missed = 0, "500 TooManyMisses retry": refused = 0, ...others } = answers;
    assert.deepEqual(others, {});
    const most = MISSES + (MISSES_RATE * LASTS) / 1000;
    assert.ok(missed <= 1.5 * most, `${missed} were tried`);
    // On a machine busy with other tests there may be no more than are admitted.
    assert.ok(missed <= most || refused > 0, `${missed} were tried, none was refused`);
  });

  it("a flood of polls opens only as many virtual connections as may be half open", async (t) => {
    const polling = attack("polls", "192.0.2.6", FLOODING);
    await underWay();
    const { answers } = await polling;
    assertServed(`polls ${JSON.stringify(answers)}`, (line) => t.diagnostic(line));
    const { 200: begun = 0, "500 TooManyHalfOpen retry": refused = 0, ...others } = answers;
    assert.deepEqual(others, {});
    assert.ok(begun <= HALF_OPEN, `${begun} were begun`);
    assert.ok(begun === HALF_OPEN ? refused > 0 : refused === 0);
  });

  it("request lines and headers of 100 MB are not read to the end", async (t) => {
    const writing = attack("longLines", "192.0.2.7", FULL ? 20 : 6, 10_000);
    await underWay();
    await sleep(LASTS);
    const { answers, taken } = await writing;
    assertServed(`long lines ${JSON.stringify(answers)}, ${taken} octets taken`, (line) => t.diagnostic(line));
    assert.equal(answers.held, undefined, "each was ended");
    // The buffers of two kernels come on top of what the edge reads.
    assert.ok(taken < 16 * 1024 * 1024, `${taken} octets were taken`);
  });

  it("half-open connections are ended in time, with a reason", async (t) => {
    const [half, heads, bodies, silent] = await Promise.all([halfOpen, slowHeads, slowBodies, silentSockets]);
    t.diagnostic(JSON.stringify({ half, heads, bodies, silent }));
    const {
      "500 TooManyHalfOpen retry": refused = 0,
      "408 EstablishmentTimeout": late = 0,
      held = 0,
      ...others
    } = half.answers;
    assert.deepEqual(others, {});
    // Refused ones have left; admitted ones arrive at their pace and are ended by the edge. A flood that
    // lasts longer than one establishment time gets the places of those that were ended.
    const waves = FULL ? Math.ceil(half.last / TIMERS.establishment) : 1;
    const admitted = late + held;
    assert.ok(admitted >= HALF_OPEN && admitted <= waves * HALF_OPEN, `${admitted} were admitted in ${half.last} ms`);
    assert.equal(refused, HALF_OPENED - admitted);
    assert.ok(FULL ? held === 0 : late > 0, `${held} are still open`);
    assert.deepEqual(silent.answers, { TokenNeeded: 20 });
    assert.deepEqual(Object.keys(bodies.answers), ["408 ReceiveTimeout"]);
    // The runtime itself ends heads, without an answer.
    const { closed = 0, reset = 0 } = heads.answers;
    assert.equal(closed + reset, SLOW, JSON.stringify(heads.answers));
    pair.figures();
    await sleep(LASTS);
    assertServed("afterwards", (line) => t.diagnostic(line));
  });
});
