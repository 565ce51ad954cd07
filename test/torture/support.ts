/** Shared by the torture tests: seeded random numbers, an edge that can be killed, a cutting proxy, message books. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { LocalEdgeOptions } from "../../src/cli/local-edge/local-edge.ts";
import { Device, DeviceError, type DeviceOptions } from "../../src/device/index.ts";
import { residentOctets } from "../bench/edges.ts";
import { ed25519, jwks } from "../edge/issuer.ts";
import { listen } from "../support/sockets.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import type { Kind, Order, Word } from "./runtime.ts";

/** The encapsulations that end at an edge. */
export const ENCAPSULATIONS = ["websocket", "longlived", "keepalive", "polling"] as const;

/** The seed of this run: from the environment to reproduce one, otherwise random. */
export function seedOf(): number {
  const given = process.env.GROOVEWAY_SEED;
  return given === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(given);
}

/** Reproducible random numbers (mulberry32). */
export class Chance {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** From 0 up to, but excluding, 1. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  /** An integer from 0 up to, but excluding, `below`. */
  below(below: number): number {
    return Math.floor(this.next() * below);
  }

  of<T>(choices: readonly T[]): T {
    const chosen = choices[this.below(choices.length)];
    if (chosen === undefined) throw new Error("nothing to choose from");
    return chosen;
  }
}

export const ADMIN_TOKEN = "torture";

const issuer = await ed25519("torture");

/** The key set for the tokens of {@link tokenFor}, for an edge. */
export const KEYS = jwks(issuer);

/** A token for one device: each device has its own, and so its own share of the RATE. */
export function tokenFor(address: string): Promise<string> {
  return issuer.issue({ address, scope: "connect receive send:* stream:* create:** read:** write:**" });
}

/** A token for streams over HTTP. */
export function httpToken(): Promise<string> {
  return issuer.issue({ scope: "create:* read:* write:*", sub: "soak" });
}

/** Options of a device with tokens of its own: a new one for each connection, since a long run outlives a token. */
export function withToken(options: DeviceOptions): DeviceOptions {
  return { ...options, token: () => tokenFor(options.address) };
}

/** What an edge is started with beside its folder, keys and admin token. */
export type EdgeOptions =
  | Pick<LocalEdgeOptions, "relayAllow" | "linkSecrets" | "relayName" | "dev">
  | Record<string, never>;

/** An edge with mailboxes on disk, which can be killed and restarts on the same port. */
export class Mortal {
  readonly folder: string;
  readonly #options: EdgeOptions;
  #process: ChildProcess;
  readonly port: number;
  /** The log of the worker and its runtime. */
  readonly log: string[];
  kills = 0;
  evictions = 0;
  #evicting = false;

  private constructor(folder: string, options: EdgeOptions, started: Started, log: string[]) {
    this.folder = folder;
    this.#options = options;
    this.#process = started.process;
    this.port = started.port;
    this.log = log;
  }

  static async start(options: EdgeOptions = {}): Promise<Mortal> {
    const folder = temporaryFolder();
    const log: string[] = [];
    return new Mortal(folder, options, await startOn(folder, 0, log, options), log);
  }

  /** Resident memory of its runtime, in bytes. */
  get memory(): number {
    const [pid = 0] = runtimesOf(this.#process);
    return residentOctets(pid);
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Kills the edge and its runtime with everything in memory, as a machine failure would, and restarts them. */
  async kill(): Promise<void> {
    await end(this.#process);
    this.kills += 1;
    this.#evicting = false;
    this.#process = (await startOn(this.folder, this.port, this.log, this.#options)).process;
  }

  /** Stops it as an operator does, and starts it again. */
  async restart(): Promise<void> {
    await this.close();
    this.#process = (await startOn(this.folder, this.port, this.log, this.#options)).process;
  }

  /** Evicts an object. One that is not in memory cannot be evicted. */
  async evict(kind: Kind, name: string): Promise<void> {
    // A busy object is waited for, and nothing else is done meanwhile.
    if (this.#evicting || !this.#process.connected) return;
    this.#evicting = true;
    const asked = this.#process;
    const answered = heard(asked, (word) => ("evicted" in word ? word.evicted : undefined));
    // A process that is killed meanwhile takes no order.
    asked.send({ evict: { kind, name } } satisfies Order, () => undefined);
    const settled = answered
      .catch(() => false)
      .then((evicted) => {
        if (evicted) this.evictions += 1;
        if (asked === this.#process) this.#evicting = false;
      });
    await Promise.race([settled, sleep(EVICTING)]);
  }

  /** The edge's report on a mailbox to an operator. */
  async mailbox(address: string): Promise<{
    readonly messages: number;
    readonly consumer?: string;
    readonly generation: number;
    readonly dropped: Readonly<Record<string, number>>;
  }> {
    const answer = await fetch(`http://127.0.0.1:${this.port}/admin/mailboxes/${encodeURIComponent(address)}`, {
      headers: { Authorization: `Bearer ${ADMIN_TOKEN}` },
      // A runtime that is killed meanwhile may never answer.
      signal: AbortSignal.timeout(5000),
    });
    if (!answer.ok) throw new Error(`the admin surface answered ${answer.status}`);
    return answer.json() as never;
  }

  async close(): Promise<void> {
    if (this.#process.connected) this.#process.send("close" satisfies Order);
    const late = setTimeout(() => void end(this.#process), STOPPING);
    await gone(this.#process);
    clearTimeout(late);
  }
}

/** The longest time for a graceful stop, and for the eviction of an object. */
const STOPPING = 10_000;
const EVICTING = 5_000;

interface Started {
  readonly process: ChildProcess;
  readonly port: number;
}

async function startOn(folder: string, port: number, log: string[], options: EdgeOptions): Promise<Started> {
  const program = fileURLToPath(new URL("runtime.ts", import.meta.url));
  const child = fork(program, [folder, String(port), ADMIN_TOKEN, KEYS, JSON.stringify(options)], {
    execArgv: ["--disable-warning=ExperimentalWarning"],
  });
  child.on("message", (word: Word) => "log" in word && log.push(word.log));
  return { process: child, port: await heard(child, (word) => ("port" in word ? word.port : undefined)) };
}

/** Resolves with the first matching word; rejects if the process ends first. */
function heard<T>(child: ChildProcess, look: (word: Word) => T | undefined): Promise<T> {
  return new Promise((resolve, reject) => {
    const hear = (word: Word) => {
      const found = look(word);
      if (found === undefined) return;
      child.off("message", hear);
      child.off("exit", ended);
      resolve(found);
    };
    const ended = () => reject(new Error("the edge's process has ended"));
    child.on("message", hear);
    child.once("exit", ended);
  });
}

async function gone(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
}

/** Ends an edge's process and its runtime. */
async function end(child: ChildProcess): Promise<void> {
  for (const pid of runtimesOf(child)) process.kill(pid, "SIGKILL");
  child.kill("SIGKILL");
  await gone(child);
}

function runtimesOf(child: ChildProcess): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
        // pid (name) state parent ...
        const [, parent] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
        return Number(parent) === child.pid && stat.includes("(workerd)");
      } catch {
        return false;
      }
    });
}

/** A TCP proxy in front of a port that cuts connections on command. */
export class CuttingProxy {
  readonly port: number;
  readonly #pairs: Set<readonly [Socket, Socket]>;
  readonly #stop: () => Promise<void>;
  cuts = 0;

  private constructor(port: number, pairs: Set<readonly [Socket, Socket]>, stop: () => Promise<void>) {
    this.port = port;
    this.#pairs = pairs;
    this.#stop = stop;
  }

  static async before(target: () => number): Promise<CuttingProxy> {
    const pairs = new Set<readonly [Socket, Socket]>();
    const server = await listen((device) => {
      const edge = connect({ port: target(), host: "127.0.0.1", allowHalfOpen: true });
      device.setNoDelay(true);
      edge.setNoDelay(true);
      const pair = [device, edge] as const;
      pairs.add(pair);
      for (const [from, to] of [
        [device, edge],
        [edge, device],
      ] as const) {
        from.on("error", () => {
          pairs.delete(pair);
          to.resetAndDestroy();
        });
        from.on("close", () => {
          pairs.delete(pair);
          to.destroySoon();
        });
        from.pipe(to);
      }
    });
    return new CuttingProxy(server.port, pairs, () => server.close());
  }

  /** Cuts one or more connections: by FIN, which ends both directions gracefully, or by RST. */
  cut(chance: Chance): void {
    const alive = [...this.#pairs];
    if (alive.length === 0) return;
    const several = chance.next() < 0.2 ? 1 + chance.below(Math.min(5, alive.length)) : 1;
    for (let n = 0; n < several; n += 1) {
      const pair = chance.of(alive);
      if (!this.#pairs.delete(pair)) continue;
      this.cuts += 1;
      const byReset = chance.next() < 0.5;
      for (const socket of pair) {
        socket.unpipe();
        if (byReset) socket.resetAndDestroy();
        else socket.destroy();
      }
    }
  }

  close(): Promise<void> {
    for (const [, edge] of this.#pairs) edge.destroy();
    return this.#stop();
  }
}

/** Connects a device with its own token, retrying as needed: faults may hit its first connection. */
export async function insist(options: DeviceOptions): Promise<Device> {
  const permitted = withToken(options);
  for (;;) {
    try {
      return await Device.connect(permitted);
    } catch (error) {
      if (!(error instanceof DeviceError) || !error.retryable) throw error;
      await sleep(100);
    }
  }
}

/** Octets stamped with sender, receiver and counter, and filled to the requested length. */
export function stamped(sender: number, receiver: number, counter: number, length: number): Uint8Array {
  const body = new Uint8Array(Math.max(length, STAMP));
  const view = new DataView(body.buffer);
  view.setUint16(0, sender);
  view.setUint16(2, receiver);
  view.setUint32(4, counter);
  body.fill(counter & 0xff, STAMP);
  return body;
}

/** Reads the stamp of a body, and checks the rest against it. */
export function stampOf(body: Uint8Array): {
  readonly sender: number;
  readonly receiver: number;
  readonly counter: number;
} {
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  const stamp = { sender: view.getUint16(0), receiver: view.getUint16(2), counter: view.getUint32(4) };
  for (let at = STAMP; at < body.length; at += 1) {
    if (body[at] !== (stamp.counter & 0xff)) throw new Error(`octet ${at} of ${JSON.stringify(stamp)} is not its own`);
  }
  return stamp;
}

const STAMP = 8;

/** The books of one sender and receiver. */
export class Books {
  readonly #last = new Map<string, number>();
  readonly #sent = new Map<string, number>();
  sent = 0;
  received = 0;
  doubled = 0;
  outOfOrder = 0;

  /** The counter of the next message from one to the other. */
  send(sender: number, receiver: number): number {
    const pair = `${sender}→${receiver}`;
    const counter = (this.#sent.get(pair) ?? 0) + 1;
    this.#sent.set(pair, counter);
    this.sent += 1;
    return counter;
  }

  receive(sender: number, receiver: number, counter: number): void {
    const pair = `${sender}→${receiver}`;
    const last = this.#last.get(pair) ?? 0;
    this.received += 1;
    if (counter <= last) {
      this.doubled += 1;
      return;
    }
    if (counter !== last + 1) this.outOfOrder += 1;
    this.#last.set(pair, counter);
  }

  /** What was sent and has not arrived, by pair. */
  get missing(): string[] {
    return [...this.#sent].flatMap(([pair, sent]) => {
      const last = this.#last.get(pair) ?? 0;
      return last < sent ? [`${pair}: ${last} of ${sent}`] : [];
    });
  }
}
