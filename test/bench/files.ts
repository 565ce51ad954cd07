/**
 * Files: `send` to `recv --follow` through the edge. One large file beside the bare platform, which stores its parts as
 * rows until a reader has them, and many small ones beside the disk they are written to.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { createReadStream, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { WHOLE_AT_ONCE } from "../../src/transfer/index.ts";
import { Child } from "../support/rpc.ts";
import { cpuSeconds, type Running, startEdge, startFilesWorker } from "./edges.ts";
import { alternate, type Contender, type Figure, figureOf, intact, type Round, type Section, short } from "./report.ts";

const MEBI = 1024 * 1024;
const ENTRY = fileURLToPath(new URL("../../src/cli/grooveway.js", import.meta.url));

/** Strips types ahead, as in the package: doing so at each start takes half a second. */
const TYPE_CACHE = fileURLToPath(new URL("../support/type-cache.js", import.meta.url));

/** Threads for files, and so also for the bare disk: what the command takes. */
const THREADS = "8";

/** Where the platform takes a whole file as one body. */
const STREAMED = "/stream";

/** A round that takes longer has lost something. */
const PATIENCE = 300_000;

export async function files(quick: boolean): Promise<Section[]> {
  const folder = mkdtempSync(join(tmpdir(), "grooveway-bench-"));
  const removeFolder = () => rmSync(folder, { recursive: true, force: true });
  process.once("exit", removeFolder);
  const at = (name: string) => {
    mkdirSync(join(folder, name));
    return join(folder, name);
  };
  const edge = await startEdge([], { state: at("edge") });
  const floor = await startFilesWorker(at("floor"));
  process.env.UV_THREADPOOL_SIZE = THREADS;
  const sender = new Child(new URL("courier.ts", import.meta.url));
  const reader = new Child(new URL("courier.ts", import.meta.url));
  try {
    const bench = new Bench(folder, edge, floor, sender, reader);
    return [
      await bench.large(quick ? 128 * MEBI : 1024 * MEBI, quick ? 1 : 3),
      await bench.small(quick ? 1000 : 10_000, quick ? 1 : 3),
    ];
  } finally {
    await Promise.all([sender.end(), reader.end()]);
    await Promise.all([edge.close(), floor.close()]);
    process.off("exit", removeFolder);
    removeFolder();
  }
}

class Bench {
  readonly #folder: string;
  readonly #edge: Running;
  readonly #floor: Running;
  readonly #sender: Child;
  readonly #reader: Child;
  #rounds = 0;
  /** The peak memory of each process, in MiB. */
  readonly #memory = new Map<string, number>();
  /** Seconds of CPU time, and the rounds that used them: by contender, then by process. */
  readonly #used = new Map<string, Map<string, number>>();

  constructor(folder: string, edge: Running, floor: Running, sender: Child, reader: Child) {
    this.#folder = folder;
    this.#edge = edge;
    this.#floor = floor;
    this.#sender = sender;
    this.#reader = reader;
  }

  async large(bytes: number, rounds: number): Promise<Section> {
    const path = join(this.#folder, "large");
    const sha256 = await generate(path, bytes);
    const platform = (name: string, prefix: string, against: readonly string[]): Contender => ({
      name,
      against,
      round: async () => {
        this.#rounds += 1;
        const url = `http://127.0.0.1:${this.#floor.port}${prefix}/${this.#rounds}`;
        const out = join(this.#folder, `out-${this.#rounds}`);
        await this.#reader.call("read", { url, bytes, ...(prefix !== "" && { path: out }) });
        const used = this.#processor(name, {
          send: this.#sender.pid,
          recv: this.#reader.pid,
          workerd: this.#floor.pid,
        });
        const began = performance.now();
        const [sent, read] = await Promise.all([
          this.#sender.call<string>(prefix === STREAMED ? "stream" : "post", { url, path, bytes }),
          this.#reader.call<string>("hash"),
        ]);
        const seconds = (performance.now() - began) / 1000;
        used();
        rmSync(out, { force: true });
        return {
          value: bytes / 1e6 / seconds,
          count: 1,
          lost: sent === sha256 && read === sha256 ? 0 : 1,
          duplicated: 0,
        };
      },
    });
    const bare = platform("bare platform", "", []);
    const viaObjects = platform("platform, an object for each end, to disk", "/via", [bare.name]);
    const sameHops = platform("platform, the same hops", STREAMED, [bare.name, viaObjects.name]);
    const floors = [bare, viaObjects, sameHops];
    const product = (transport: string): Contender => ({
      name: `send to recv, ${transport}`,
      against: floors.map(({ name }) => name),
      round: () => this.#carry(transport, [path], new Map([["large", sha256]]), (seconds) => bytes / 1e6 / seconds),
    });
    const figures = await alternate([...floors, product("longlived"), product("websocket")], rounds, { warmUp: false });
    return {
      name: `a file of ${bytes / MEBI} MiB, by the edge, to a recipient that receives`,
      unit: "MB/s",
      counted: "files",
      figures,
      goals: [intact(figures), goal(figures, "send to recv, longlived", "bare platform", 0.7)],
      notes: [
        "bare platform: 1 MiB bodies into the rows of an object, read and removed by a second client, sha256 at both ends. It writes no file.",
        "to disk: the second client also writes a file, syncs and acknowledges each part, and hashes what it reads back. A row is removed when it is acknowledged.",
        "the same hops: as to disk, and the file is one body, which the sender's object cuts into rows: what a transfer by LongLived must do, without a protocol.",
        this.#processorNote("100 MB", bytes / 1e8),
        this.#memoryNote(),
      ],
    };
  }

  /**
   * Nothing is removed between rounds: ext4 without a journal uses the inode of a removed file again only minutes later,
   * and each new file would search past all of them, which takes more time than anything that is measured.
   */
  async small(count: number, rounds: number): Promise<Section> {
    const path = join(this.#folder, "small");
    mkdirSync(path);
    const hashes = new Map<string, string>();
    for (let n = 0; n < count; n += 1) {
      const contents = randomBytes(1024);
      writeFileSync(join(path, `${n}`), contents);
      hashes.set(`small/${n}`, createHash("sha256").update(contents).digest("hex"));
    }
    const disk = (name: string, call: "create" | "receive"): Contender => ({
      name,
      against: call === "receive" ? ["the disk alone"] : [],
      round: async () => {
        this.#rounds += 1;
        const folder = join(this.#folder, `disk-${this.#rounds}`);
        const milliseconds = await this.#reader.call<number>(call, { folder, count, atOnce: WHOLE_AT_ONCE });
        return { value: (count / milliseconds) * 1000, count, lost: 0, duplicated: 0 };
      },
    });
    const disks = [disk("the disk alone", "create"), disk("the disk, as recv has to use it", "receive")];
    const platform: Contender = {
      name: "platform, an object for each end, to disk",
      against: ["the disk alone"],
      round: async () => {
        this.#rounds += 1;
        const url = `http://127.0.0.1:${this.#floor.port}/via/${this.#rounds}`;
        const out = join(this.#folder, `out-${this.#rounds}`);
        await this.#reader.call("readFiles", { url, folder: out, count });
        const began = performance.now();
        const [received] = await Promise.all([
          this.#reader.call<number>("received"),
          this.#sender.call("postFiles", { url, folder: path, count }),
        ]);
        const seconds = (performance.now() - began) / 1000;
        return { value: count / seconds, count, lost: count - received, duplicated: 0 };
      },
    };
    const product: Contender = {
      name: "send to recv, longlived",
      against: [...disks.map(({ name }) => name), platform.name],
      round: () => this.#carry("longlived", [path], hashes, (seconds) => count / seconds),
    };
    const figures = await alternate([...disks, platform, product], rounds, { warmUp: false });
    return {
      name: `${count} files of 1 KiB in a folder, by the edge, to a recipient that receives`,
      unit: "files/s",
      counted: "files",
      figures,
      goals: [intact(figures), goal(figures, product.name, platform.name, 0.9)],
      notes: [
        `the disk alone: create, write, fsync and rename, ${WHOLE_AT_ONCE} at a time on ${THREADS} threads, by a program that does nothing else.`,
        "as recv has to use it: set the time, read back, link instead of rename, sync both folders and a log of what is finished. No network.",
        "platform: 64 files in a body, through an object for each end and the rows of a third, to a program that writes them as recv has to and acknowledges. Its programs run already. With these hops it reaches hardly half of the disk alone, so the goal is set against it.",
        this.#processorNote("1,000 files", count / 1000),
        this.#memoryNote(),
      ],
    };
  }

  /** Sends files from command to command; from its start until the last is received. */
  async #carry(
    transport: string,
    paths: readonly string[],
    hashes: ReadonlyMap<string, string>,
    rate: (seconds: number) => number,
  ): Promise<Round> {
    this.#rounds += 1;
    const out = join(this.#folder, `out-${this.#rounds}`);
    const way = ["--edge", `http://127.0.0.1:${this.#edge.port}`, "--transport", transport];
    const state = (name: string) => ["--state", join(this.#folder, `${name}-${this.#rounds}`)];
    const to = `bob/${this.#rounds}`;
    const received = grooveway(["recv", ...way, ...state("recv"), "--as", to, "--follow", "--json", "--out", out]);
    const lines = createInterface({ input: received.stdout ?? process.stdin });
    const left = new Map(hashes);
    let lost = 0;
    let duplicated = 0;
    let warm = () => {};
    let done = () => {};
    lines.on("line", (line) => {
      const event = JSON.parse(line);
      if (event.name === "warm") return warm();
      if (event.event !== "file") lost += 1;
      else if (!hashes.has(event.name)) duplicated += 1;
      else if (!left.has(event.name)) duplicated += 1;
      else if (left.get(event.name) !== event.sha256) lost += 1;
      left.delete(event.name);
      if (left.size === 0) done();
    });
    try {
      const ready = new Promise<void>((resolve) => {
        warm = resolve;
      });
      const first = grooveway(["send", ...way, "--as", "alice/pc", to, "-", "--name", "warm"]);
      await patiently(Promise.all([ready, once(first, "exit")]), first, received);
      const all = new Promise<void>((resolve) => {
        done = resolve;
      });
      const began = performance.now();
      const sent = grooveway(["send", ...way, ...state("send"), "--as", "alice/pc", to, ...paths]);
      const used = this.#processor(`send to recv, ${transport}`, {
        send: sent.pid,
        recv: received.pid,
        workerd: this.#edge.pid,
      });
      const watched = setInterval(() => this.#remember({ send: sent, recv: received }), 50);
      const ended = once(sent, "exit");
      await patiently(all, sent, received).finally(() => clearInterval(watched));
      const seconds = (performance.now() - began) / 1000;
      used();
      await ended;
      return { value: rate(seconds), count: hashes.size, lost: lost + left.size, duplicated };
    } finally {
      const gone = once(received, "exit");
      if (received.kill("SIGTERM")) await gone;
      if (hashes.size === 1) rmSync(out, { recursive: true, force: true });
    }
  }

  /** Starts to count the CPU time of processes; the function returned ends that. */
  #processor(contender: string, pids: Readonly<Record<string, number | undefined>>): () => void {
    const before = new Map<string, number>();
    const last = new Map<string, number>();
    // A command may have ended when the round does, so it is read on the way.
    const look = () => {
      for (const [name, pid] of Object.entries(pids)) {
        last.set(name, Math.max(last.get(name) ?? 0, cpuSeconds(pid ?? 0)));
      }
    };
    look();
    for (const [name, seconds] of last) before.set(name, seconds);
    const watched = setInterval(look, 50);
    return () => {
      clearInterval(watched);
      look();
      const used = this.#used.get(contender) ?? new Map<string, number>();
      for (const [name, seconds] of last) {
        used.set(name, (used.get(name) ?? 0) + seconds - (before.get(name) ?? 0));
      }
      used.set("rounds", (used.get("rounds") ?? 0) + 1);
      this.#used.set(contender, used);
    };
  }

  /** @param amount what a round carries, in units of `what` */
  #processorNote(what: string, amount: number): string {
    const all = [...this.#used].map(([contender, used]) => {
      const rounds = used.get("rounds") ?? 1;
      const each = [...used].filter(([name]) => name !== "rounds");
      const per = each.map(([name, seconds]) => `${name} ${short(seconds / amount / rounds)}`);
      const sum = each.reduce((total, [, seconds]) => total + seconds, 0);
      // Objects of one isolate take turns, so workerd uses hardly more than one core.
      const least = Math.max(sum / availableParallelism(), used.get("workerd") ?? 0) / amount / rounds;
      return `${contender}: ${per.join(", ")}, hence at most ${short(1 / least)} a second`;
    });
    this.#used.clear();
    return `seconds of CPU time for ${what}, and how many of these the cores allow: ${all.join("; ")}`;
  }

  #remember(commands: Readonly<Record<string, ChildProcess>>): void {
    for (const [name, { pid }] of Object.entries(commands)) this.#most(name, pid);
    this.#most("workerd", this.#edge.pid);
  }

  #most(name: string, pid: number | undefined): void {
    if (pid === undefined) return;
    try {
      const [, kibi = "0"] = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
      this.#memory.set(name, Math.max(this.#memory.get(name) ?? 0, Number(kibi) / 1024));
    } catch {
      // It has ended meanwhile.
    }
  }

  #memoryNote(): string {
    const all = [...this.#memory].map(([name, mebi]) => `${name} ${short(mebi)} MiB`);
    this.#memory.clear();
    return `memory at most: ${all.join(", ")}`;
  }
}

function goal(figures: readonly Figure[], name: string, floor: string, least: number) {
  const ratio = figureOf(figures, name)?.against.find((other) => other.name === floor)?.ratio ?? 0;
  return { text: `${name} >= ${least} of ${floor} (${short(ratio)})`, met: ratio >= least };
}

function grooveway(args: readonly string[]): ChildProcess {
  return spawn(process.execPath, ["--import", TYPE_CACHE, ENTRY, ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
}

/** The awaited result, or an error when a command fails first or it takes too long. */
async function patiently<T>(promise: Promise<T>, ...commands: readonly ChildProcess[]): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const failed = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not over after ${PATIENCE / 1000} s`)), PATIENCE);
    for (const command of commands) {
      command.once("exit", (code) => code !== 0 && reject(new Error(`a command ended with ${code}`)));
    }
  });
  return Promise.race([promise, failed]).finally(() => clearTimeout(timer));
}

/** Creates a file of random bytes. Returns its sha256. */
async function generate(path: string, bytes: number): Promise<string> {
  const file = await open(path, "w");
  for (let made = 0; made < bytes; made += MEBI) await file.write(randomBytes(MEBI));
  await file.sync();
  await file.close();
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path)) hash.update(chunk);
  return hash.digest("hex");
}
