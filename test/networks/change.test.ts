/** Networks that change while devices are in them: what they have under way arrives, and nobody restarts anything. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { TransportName } from "../../src/device/index.ts";
import type { Program } from "../support/namespaces.ts";
import type { Child } from "../support/rpc.ts";
import { boxWithoutUpgrade, squid } from "./boxes.ts";
import type { Batch, Tally } from "./exchange.ts";
import { COMMAND, Internet, type Network } from "./internet.ts";
import { NEEDS, whyNot } from "./needs.ts";
import type { ConnectArgument, Connected } from "./peer.ts";

const MIB = 1024 * 1024;
const FILE_BYTES = 256 * MIB;

/** So slow that the file is under way until all has changed twice: 215 s. */
const RATE = ["rate", "10mbit", "burst", "64kb", "latency", "100ms"];

/** What must have arrived over a new way before the next change. */
const PROGRESS = 2 * MIB;

/**
 * How long both devices may take to be on another way, in ms. One that was cut off without a word, while it sent much,
 * notices after 41 s. And how long for a better way: it is tried after 30 s, and after 60 s more if the first time fell
 * into the outage. Then what is in flight gets 15 s.
 */
const FOLLOW = 60_000;
const CLIMB = 150_000;

/** How often the network and the file are looked at, in ms. */
const LOOK = 500;

/** Where connections of devices at the site end. */
const DIRECT = "direct, 443";
const BY_PROXY = "by the proxy";
const PLAIN = "direct, 80";

/** What the router lets through; the rest is dropped, or answered with a reset. */
interface Stage {
  readonly name: string;
  readonly rules: (refuse: string) => readonly string[];
  /** The way that devices have to find; undefined where there is none. */
  readonly way: string | undefined;
}

const forward = (...rules: readonly string[]) => chain("through", "filter hook forward", ...rules);
const input = (...rules: readonly string[]) => chain("into", "filter hook input", ...rules);

function chain(name: string, hook: string, ...rules: readonly string[]): string {
  return `chain ${name} {\ntype ${hook} priority 0;\n${rules.join("\n")}\n}`;
}

const OPEN: Stage = {
  name: "open",
  rules: (refuse) => [input(`iifname "inside" tcp dport 3128 ${refuse}`)],
  way: DIRECT,
};
const PROXY_ONLY: Stage = {
  name: "proxy only",
  rules: (refuse) => [forward(refuse)],
  way: BY_PROXY,
};
const PORT_80_ONLY: Stage = {
  name: "80 only, and no Upgrade",
  rules: (refuse) => [
    chain("addresses", "nat hook prerouting", 'iifname "inside" tcp dport 80 redirect'),
    forward(refuse),
    input(`iifname "inside" tcp dport 3128 ${refuse}`),
  ],
  way: PLAIN,
};
const NOTHING: Stage = {
  name: "nothing",
  rules: () => [forward("drop"), input('iifname "inside" drop')],
  way: undefined,
};

/** How long nothing passes, and how long the devices are stopped, in ms. */
const OUTAGE = 10_000;
const STOPPED = 90_000;

/** How long devices get no time of the processor, in ms. */
const STARVED = 70_000;

/** How long a message may take in the end, in ms. */
const PATIENCE = 120_000;

const ALL = ["tcp", "websocket", "longlived", "keepalive", "polling"] as const satisfies TransportName[];
type Used = (typeof ALL)[number];

/** How the old address of an edge behaves, and after how many milliseconds a device has noticed it. */
const OLD_ADDRESSES: readonly {
  readonly what: string;
  readonly rule: string;
  readonly noticed: Readonly<Record<Used, number>>;
}[] = [
  {
    what: "swallows packets",
    rule: "drop",
    noticed: { tcp: 95_000, websocket: 30_000, longlived: 60_000, keepalive: 60_000, polling: 60_000 },
  },
  {
    what: "resets connections",
    rule: "reject with tcp reset",
    // It resets what sends. In the last two a request waits for its answer.
    noticed: { tcp: 0, websocket: 0, longlived: 0, keepalive: 60_000, polling: 60_000 },
  },
];

/** How long a device may take to connect, in ms, on a machine that does other things as well. */
const CONNECT = 20_000;

/** What names proxies in the environment of the tests. */
const PROXY_VARIABLES = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"].flatMap((name) => [
  name,
  name.toLowerCase(),
]);

const skip = whyNot([NEEDS.nft, NEEDS.squid], false);

describe("in a network that changes", { skip, concurrency: true }, () => {
  let internet: Internet;
  before(async () => {
    internet = new Internet();
    await Promise.all([internet.edge("http"), internet.relay()]);
    // One edge for both schemes: a message that was sent by one may be fetched by the other.
    await internet.tlsBeforeEdge();
  });
  after(() => internet.close());

  it("a file arrives, from open to a proxy, to port 80, to nothing and back, twice", {
    timeout: 600_000,
  }, async (t) => {
    const net = internet.network();
    net.letOut();
    await Promise.all([squid(net, "http_access allow all"), boxWithoutUpgrade(net)]);
    net.names(net.outside.ipv4);
    for (const machine of [net.site, net.router])
      machine.run("tc", "qdisc", "add", "dev", "inside", "root", "tbf", ...RATE);
    const transfer = new Transfer(t, net);
    let refuse = "drop";
    const pass = async (stage: Stage) => {
      net.filter(...stage.rules(refuse));
      if (stage.way === undefined) await sleep(OUTAGE);
      else await transfer.goesOn(stage.name, stage.way, stage === OPEN ? CLIMB : FOLLOW);
    };
    net.filter(...OPEN.rules(refuse));
    transfer.start();
    await pass(OPEN);
    for (const stage of [PROXY_ONLY, PORT_80_ONLY, NOTHING]) await pass(stage);
    transfer.signal("SIGSTOP");
    net.filter(...OPEN.rules(refuse));
    await sleep(STOPPED);
    transfer.signal("SIGCONT");
    await transfer.goesOn("open, after 90 s in which both were stopped", DIRECT, CLIMB);
    // The first time what is forbidden disappears; now it is refused.
    refuse = "reject with tcp reset";
    for (const stage of [PROXY_ONLY, PORT_80_ONLY, NOTHING, OPEN]) await pass(stage);
    for (const machine of [net.site, net.router]) machine.run("tc", "qdisc", "delete", "dev", "inside", "root");
    await transfer.end();
  });

  for (const { what, rule, noticed } of OLD_ADDRESSES) {
    it(`messages arrive after the edge has got another address, and the old one ${what}`, {
      timeout: 300_000,
    }, async (t) => {
      const net = internet.network();
      const { ipv4 } = net.outside;
      const next = ipv4.replace(/2$/, "3");
      internet.machine.ip("address", "add", `${next}/24`, "dev", `out${net.number}`);
      net.letOut();
      const talks = await Promise.all(ALL.map((transport) => Talk.begin(net, net.near, transport)));
      for (const talk of talks) await talk.exchange();
      net.filter(forward(`ip daddr ${ipv4} ${rule}`, `ip saddr ${ipv4} ${rule}`));
      net.names(next);
      await Promise.all(
        talks.map(async (talk) => {
          const took = Math.round(await talk.exchange());
          t.diagnostic(`${talk.transport}: a message each way after ${took} ms`);
          assert.ok(took <= noticed[talk.transport] + CONNECT, `${talk.transport} took ${took} ms`);
          await talk.exchange();
          await talk.end();
        }),
      );
    });
  }

  it("connections last while their devices are stopped for 70 s", { timeout: 300_000 }, async (t) => {
    const net = internet.network();
    net.letOut();
    const talks = await Promise.all(ALL.map((transport) => Talk.begin(net, net.open(), transport)));
    for (const talk of talks) await talk.exchange();
    const before = talks.map((talk) => talk.connections());
    for (const talk of talks) process.kill(talk.pid, "SIGSTOP");
    await sleep(STARVED);
    for (const talk of talks) process.kill(talk.pid, "SIGCONT");
    // Where a message waited for a device that has been silent for a minute, the edge would end its WebSocket.
    const took = await Promise.all(talks.map((talk) => talk.exchange()));
    t.diagnostic(talks.map(({ transport }, n) => `${transport}: ${Math.round(took[n] ?? 0)} ms`).join(", "));
    // After a gap a device looks for 35 s whether its connection lives.
    await sleep(40_000);
    for (const talk of talks) await talk.exchange();
    for (const [index, talk] of talks.entries()) {
      // Here the edge itself ends a connection on which nothing has come for 60 s (NetworkReceiveIO of MS-GRVHENC).
      if (talk.transport === "keepalive") continue;
      // Each exchange may be a connection of its own.
      if (talk.transport !== "polling") assert.deepEqual(talk.connections(), before[index], talk.transport);
      assert.deepEqual(await talk.end(), [], talk.transport);
    }
  });
});

/** The TCP connections of a process at the site. */
function connectionsOf({ site }: Network, pid: number): { readonly local: string; readonly peer: string }[] {
  const lines = site.run("ss", "-Htnp", "state", "established").split("\n");
  return lines.flatMap((line) => {
    const [, , local = "", peer = ""] = line.trim().split(/\s+/);
    return line.includes(`pid=${pid},`) ? [{ local, peer }] : [];
  });
}

/** A device at the site, and one outside that nothing happens to. They talk all the time. */
class Talk {
  readonly transport: Used;
  readonly #net: Network;
  readonly #near: Child;
  readonly #addresses: { readonly near: string; readonly far: string };
  #batches = 0;

  private constructor(net: Network, near: Child, transport: Used) {
    this.#net = net;
    this.#near = near;
    this.transport = transport;
    const name = `${net.number}-${transport}`;
    this.#addresses = { near: `near/${name}`, far: `far/${name}` };
  }

  /** Connects both. */
  static async begin(net: Network, near: Child, transport: Used): Promise<Talk> {
    const talk = new Talk(net, near, transport);
    const { ca } = net.internet.certificates;
    const to = transport === "tcp" ? { relay: "relay.test" } : { edge: "https://edge.test", ca };
    for (const [peer, address, by] of [
      [net.internet.far, talk.#addresses.far, transport === "tcp" ? "tcp" : "websocket"],
      [near, talk.#addresses.near, transport],
    ] as const) {
      const argument: ConnectArgument = { options: { address, transport: by, ...to }, patience: PATIENCE };
      const result = await peer.call<Connected>("connect", argument);
      assert.ok("connected" in result, JSON.stringify(result));
    }
    return talk;
  }

  /** The process of the device at the site. */
  get pid(): number {
    const { pid } = this.#near;
    if (pid === undefined) throw new Error("the process of a device was not started");
    return pid;
  }

  /** The local ends of its connections. */
  connections(): string[] {
    return connectionsOf(this.#net, this.pid)
      .map(({ local }) => local)
      .sort();
  }

  /** Exchanges a message, first from the site and then back; returns how long that took, in milliseconds. */
  async exchange(): Promise<number> {
    this.#batches += 1;
    const batch: Batch = { batch: this.#batches, count: 1, bytes: 1000 };
    const { far: outside } = this.#net.internet;
    const { near, far } = this.#addresses;
    const since = performance.now();
    const carry = async (from: Child, to: Child, addresses: { readonly from: string; readonly to: string }) => {
      await from.call("send", { ...addresses, batch });
      return to.call<Tally>("arrived", { at: addresses.to, batch, patience: PATIENCE });
    };
    const tallies = [
      await carry(this.#near, outside, { from: near, to: far }),
      await carry(outside, this.#near, { from: far, to: near }),
    ];
    for (const tally of tallies) assert.deepEqual(tally, { arrived: 1, doubled: 0, wrong: 0 }, this.transport);
    return performance.now() - since;
  }

  /** Ends both; returns why the device at the site has lost connections. */
  async end(): Promise<readonly string[]> {
    const { near, far } = this.#addresses;
    await this.#net.internet.far.call("close", { address: far });
    return (await this.#near.call<{ lost: readonly string[] }>("close", { address: near })).lost;
  }
}

/** A file on its way between two commands at the same site. */
class Transfer {
  readonly #t: TestContext;
  readonly #net: Network;
  readonly #folder: string;
  readonly #file: string;
  readonly #programs: Program[] = [];
  readonly #exits: Promise<unknown[]>[] = [];

  constructor(t: TestContext, net: Network) {
    this.#t = t;
    this.#net = net;
    this.#folder = join(net.internet.folder, "inbox");
    this.#file = join(net.internet.folder, "large.bin");
    writeFileSync(this.#file, randomBytes(FILE_BYTES));
  }

  start(): void {
    this.#run("recv", "bob/site", "--out", this.#folder);
    this.#run("send", "alice/site", "bob/site", this.#file);
  }

  #run(command: string, address: string, ...args: readonly string[]): void {
    const { site, inside, internet } = this.#net;
    const way = [
      "--edge",
      "https://edge.test",
      "--allow-plain",
      "--ca",
      join(internet.folder, "ca.pem"),
      "--as",
      address,
    ];
    const env = {
      ...Object.fromEntries(PROXY_VARIABLES.map((name) => [name, undefined])),
      HTTPS_PROXY: `http://${inside.ipv4}:3128`,
      XDG_CONFIG_HOME: internet.folder,
      GROOVEWAY_STATE: join(internet.folder, `state-${command}`),
    };
    const program = site.start([process.execPath, COMMAND, command, ...way, ...args], { all: true, env });
    this.#programs.push(program);
    this.#exits.push(once(program.process, "exit"));
  }

  signal(signal: NodeJS.Signals): void {
    for (const { process } of this.#programs) process.kill(signal);
  }

  /** Waits until both devices use this way and no other, and the file grows. */
  async goesOn(what: string, way: string, patience = FOLLOW): Promise<void> {
    const since = performance.now();
    const seconds = () => ((performance.now() - since) / 1000).toFixed(1);
    const isThere = () => this.#programs.every(({ process }) => this.#waysOf(process.pid ?? 0) === way);
    await this.#until(isThere, `${way}, ${what}`, patience);
    const followed = seconds();
    const before = this.#arrived();
    await this.#until(() => this.#arrived() >= before + PROGRESS, `progress, ${what}`, FOLLOW);
    const mib = Math.round(this.#arrived() / MIB);
    this.#t.diagnostic(`${what}: ${way} after ${followed} s, more of the file after ${seconds()} s, ${mib} MiB in all`);
    assert.ok(
      this.#programs.every(({ process }) => process.exitCode === null),
      this.#said(),
    );
  }

  async #until(isSo: () => boolean, what: string, patience: number): Promise<void> {
    for (const since = performance.now(); !isSo(); await sleep(LOOK)) {
      if (performance.now() - since > patience) throw new Error(`waited in vain for ${what}: ${this.#state()}`);
    }
  }

  async end(): Promise<void> {
    const codes = await Promise.all(this.#exits);
    assert.deepEqual(
      codes.map(([code]) => code),
      [0, 0],
      this.#said(),
    );
    const hash = (path: string) => createHash("sha256").update(readFileSync(path)).digest("hex");
    assert.equal(hash(join(this.#folder, "large.bin")), hash(this.#file));
  }

  /** The ways of a program's connections. */
  #waysOf(pid: number): string {
    const { inside, outside } = this.#net;
    const names = new Map([
      [`${outside.ipv4}:443`, DIRECT],
      [`${inside.ipv4}:3128`, BY_PROXY],
      [`${outside.ipv4}:80`, PLAIN],
    ]);
    const ways = connectionsOf(this.#net, pid).map(({ peer }) => names.get(peer) ?? peer);
    return [...new Set(ways)].sort().join(" and ");
  }

  /** Bytes of the file that the recipient has on disk. */
  #arrived(): number {
    const folder = join(this.#folder, ".grooveway");
    if (!existsSync(folder)) return 0;
    const parts = readdirSync(folder).filter((name) => name.endsWith(".part"));
    return parts.reduce((sum, name) => sum + statSync(join(folder, name)).blocks * 512, 0);
  }

  #state(): string {
    const ways = this.#programs.map(({ process }) => this.#waysOf(process.pid ?? 0));
    return `${ways.join("; ")}, ${this.#arrived() / MIB} MiB\n${this.#said()}`;
  }

  #said(): string {
    return this.#programs.map(({ lines }) => lines.join("\n")).join("\n---\n");
  }
}
