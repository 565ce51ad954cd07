/**
 * Devices in the networks of table.ts, with real processes in namespaces: curl first, then each transport.
 *
 * Where there is root and iproute2, the quick ones always run, with little data. All of them run with
 * `GROOVEWAY_NETWORKS=1`, and with 64 MiB each way with `GROOVEWAY_NETWORKS=full`.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Status, TransportName } from "../../src/device/index.ts";
import type { Child } from "../support/rpc.ts";
import { curl } from "./curl.ts";
import type { Batch, Tally } from "./exchange.ts";
import { COMMAND, Internet, type Network } from "./internet.ts";
import { EXTENT, NEEDS, whyNot } from "./needs.ts";
import type { ConnectArgument, Connected } from "./peer.ts";
import { NETWORKS, optionsOf, type Row, type Way } from "./table.ts";

const MIB = 1024 * 1024;

/** The number of the batch that is a device's first message. */
const FIRST_BATCH = 0;

/** Messages each way, and bytes in large messages each way. */
const LITTLE = { messages: 20, bulk: MIB };
const AMOUNT = { "": LITTLE, full: { messages: 200, bulk: 64 * MIB } }[EXTENT] ?? { messages: 200, bulk: 8 * MIB };

/**
 * A device finds its way in at most this time, from `Device.connect()` to the first acknowledgement, in ms. Beside the
 * other tests the machine itself may stand still for longer.
 */
const FIRST_MESSAGE = EXTENT === "" ? 60_000 : 6_000;

/** How long a transport that must not work is tried, in ms: what stops it must be named in this time. */
const STOP_PATIENCE = 6_000;

/** How long an exchange may take, in ms, on a machine that does other things as well. */
const EXCHANGE_PATIENCE = 180_000;

/** How long a device may take to replace a connection that is lost, in ms. */
const CATCH_UP = 60_000;

it(".ci/run installs what the networks need", () => {
  const script = readFileSync(new URL("../../.ci/run", import.meta.url), "utf8");
  for (const need of Object.values(NEEDS)) assert.match(script, new RegExp(` ${need.package}[ "]`));
});

describe("networks", { skip: whyNot([], true) }, () => {
  let internet: Internet;
  before(() => {
    internet = new Internet();
  });
  after(() => internet.close());

  for (const row of NETWORKS) {
    describe(row.name, { skip: whyNot(row.needs ?? [], row.quick === true) }, () => {
      const timeout = 2 * EXCHANGE_PATIENCE;
      let net: Network;
      before(async () => {
        net = internet.network();
        await Promise.all([internet.edge("http"), internet.edge("https"), internet.relay()]);
        await row.build(net);
      });

      it("is as curl expects it", () => {
        const found = row.control.map(({ args }) => ({ args, result: curl(internet, net.site, ...args) }));
        assert.deepEqual(found, row.control);
      });

      for (const [transport, reason] of Object.entries(row.stopped ?? {})) {
        it(`stops ${transport}`, async () => {
          assert.equal(await failure(net, row, transport as TransportName, row.proxy?.(net)), reason);
        });
      }

      if (row.proxy !== undefined) {
        it("lets nothing through without the proxy", async () => {
          assert.equal(await failure(net, row, "keepalive", "direct"), "ConnectFailed");
        });
      }

      for (const transport of row.works) {
        it(`lets ${transport} through`, { timeout }, async (t) => {
          const pair = await Pair.connect(net, row, transport);
          const limit = row.slow?.includes(transport) ? EXCHANGE_PATIENCE : FIRST_MESSAGE;
          t.diagnostic(
            `${await pair.talk(row.thin === true ? LITTLE : AMOUNT)}, lost ${(await pair.close()).length} connections`,
          );
          assert.ok(pair.first <= limit, `the first message took ${pair.first} ms`);
        });
      }

      it("is described by the doctor", { timeout }, async (t) => {
        const seen = await examine(net, row);
        t.diagnostic(JSON.stringify(Object.fromEntries(seen)));
        const usable: readonly (Status | undefined)[] = ["works", "slow"];
        for (const transport of row.works) {
          const isFound = usable.includes(seen.get(transport)) || row.slow?.includes(transport) === true;
          assert.ok(isFound, `${transport} is ${seen.get(transport)}`);
        }
        for (const transport of Object.keys(row.stopped ?? {}) as TransportName[]) {
          assert.equal(seen.get(transport), row.described?.[transport] ?? "blocked", transport);
        }
      });

      const { stay } = row;
      if (stay !== undefined) {
        const losers = row.loses?.join(", ") ?? "none";
        const what = `loses no message in ${stay.seconds} s; connections: ${losers}`;
        it(what, { timeout }, async (t) => {
          const losing = await Promise.all(
            row.works.map(async (transport) => {
              const pair = await Pair.connect(net, row, transport);
              t.diagnostic(`${transport}: the slowest message took ${await pair.tick(stay)} ms`);
              return (await pair.close()).length > 0 ? [transport] : [];
            }),
          );
          const certain = losing.flat().filter((transport) => row.mayLose?.includes(transport) !== true);
          assert.deepEqual(certain, row.loses ?? []);
        });
      }

      if (row.works.length > 0) {
        it("lets a device through that finds its way", { timeout }, async (t) => {
          const pair = await Pair.connect(net, row, undefined);
          const found = row.works.find((transport) => transport === pair.transport);
          t.diagnostic(
            `${await pair.talk(row.thin === true ? LITTLE : AMOUNT)}, by ${pair.transport}, lost ${(await pair.close()).length} connections`,
          );
          assert.ok(found !== undefined, `by ${pair.transport}`);
          assert.ok(pair.first <= FIRST_MESSAGE, `the first message took ${pair.first} ms`);
        });
      } else {
        it("is named to a device that looks for its way", { timeout }, async () => {
          const reasons: readonly (string | undefined)[] = Object.values(row.stopped ?? {});
          assert.ok(reasons.includes(await failure(net, row, undefined, undefined, FIRST_MESSAGE)));
        });
      }
    });
  }
});

/** What the doctor says about each transport at the site, with the same options as a device. */
async function examine(net: Network, row: Row): Promise<Map<TransportName, Status>> {
  const { internet } = net;
  const isSecure = row.scheme === "https";
  const proxy = row.proxy?.(net);
  const isRelayTried = proxy === undefined && ("tcp" in (row.stopped ?? {}) || row.works.includes("tcp"));
  const options = [
    ...(isSecure ? ["--ca", internet.file(`authority-${net.number}.pem`, net.authority)] : []),
    ...(isRelayTried ? ["--relay", "relay.test"] : []),
    ...(isRelayTried || !isSecure ? ["--allow-plain"] : []),
    ...(proxy === undefined ? [] : ["--proxy", proxy]),
  ];
  const variables = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "GROOVEWAY_PAC",
  ];
  const env = {
    ...Object.fromEntries(variables.map((name) => [name, undefined])),
    XDG_CONFIG_HOME: internet.folder,
    GROOVEWAY_STATE: internet.folder,
  };
  const command = [process.execPath, COMMAND, "doctor", `${row.scheme}://edge.test`, ...options, "--json"];
  const program = net.site.start(command, { all: true, env });
  const { ways } = JSON.parse(await program.line(/^\{/)) as { readonly ways: readonly DescribedWay[] };
  const ours = ways.filter(({ transport, secure }) => transport === "tcp" || secure === isSecure);
  return new Map(ours.map(({ transport, status }) => [transport, status]));
}

interface DescribedWay {
  readonly transport: TransportName;
  readonly secure: boolean;
  readonly status: Status;
}

/** How a device reports that it does not get through. */
async function failure(
  net: Network,
  row: Row,
  way: Way,
  proxy: string | undefined,
  patience = STOP_PATIENCE,
): Promise<string> {
  const options = { ...optionsOf(net, row, way, `stopped${net.number}/${way ?? "any"}`), ...(proxy && { proxy }) };
  const argument: ConnectArgument = { options, patience };
  const result = await net.near.call<Connected>("connect", argument);
  return "failed" in result ? result.failed : `connected by ${result.transport}`;
}

/** A device at the site and one on the internet. */
class Pair {
  /** After how many milliseconds the device at the site was connected, and its first message acknowledged. */
  readonly connected: number;
  readonly first: number;
  /** The transport of the device at the site. */
  readonly transport: string;
  readonly #near: { readonly peer: Child; readonly address: string };
  readonly #far: { readonly peer: Child; readonly address: string };
  readonly #batches: Batch[] = [];

  private constructor(net: Network, [near, far]: readonly [string, string], result: Success) {
    this.#near = { peer: net.near, address: near };
    this.#far = { peer: net.internet.far, address: far };
    this.connected = result.connected;
    this.first = result.first;
    this.transport = result.transport;
  }

  static async connect(net: Network, row: Row, way: Way): Promise<Pair> {
    pairs += 1;
    const [near, far] = [`near/${pairs}`, `far/${pairs}`];
    const hub = optionsOf(net, row, way === "tcp" ? "tcp" : "websocket", far);
    const { ca } = net.internet.certificates;
    await connected(net.internet.far, { options: { ...hub, ...(hub.ca && { ca }) }, patience: EXCHANGE_PATIENCE });
    const proxy = row.proxy?.(net);
    const options = { ...optionsOf(net, row, way, near), ...(proxy !== undefined && { proxy }) };
    const first = { to: far, batch: FIRST_BATCH };
    return new Pair(net, [near, far], await connected(net.near, { options, first, patience: EXCHANGE_PATIENCE }));
  }

  /** Exchanges all messages; returns how fast. */
  async talk({ messages, bulk }: typeof LITTLE): Promise<string> {
    const times: string[] = [];
    for (const [count, bytes] of [
      [messages, 1000],
      [bulk / MIB, MIB],
    ] as const) {
      const began = performance.now();
      await this.#bothWays(count, bytes, EXCHANGE_PATIENCE);
      times.push(`${count} x ${bytes} bytes each way in ${Math.round(performance.now() - began)} ms`);
    }
    return `connected in ${this.connected} ms, first message in ${this.first} ms, ${times.join(", ")}`;
  }

  /** Exchanges a message every so many seconds; returns how long the slowest took, in milliseconds. */
  async tick({ seconds, every }: { readonly seconds: number; readonly every: number }): Promise<number> {
    const until = performance.now() + seconds * 1000;
    let slowest = 0;
    while (performance.now() < until) {
      await sleep(every * 1000);
      const began = performance.now();
      await this.#bothWays(1, 100, CATCH_UP);
      slowest = Math.max(slowest, performance.now() - began);
    }
    return Math.round(slowest);
  }

  /** Ends both; returns how the device at the site has lost connections. */
  async close(): Promise<readonly string[]> {
    // Behind everything else: what comes twice has come by now.
    await this.#bothWays(1, 100, CATCH_UP);
    for (const { peer, address } of [this.#near, this.#far]) {
      for (const batch of this.#batches) {
        const tally = await peer.call<Tally>("arrived", { at: address, batch, patience: 0 });
        assert.deepEqual(tally, { arrived: batch.count, doubled: 0, wrong: 0 }, `batch ${batch.batch} at ${address}`);
      }
    }
    const { lost } = await this.#near.peer.call<{ lost: readonly string[] }>("close", { address: this.#near.address });
    await this.#far.peer.call("close", { address: this.#far.address });
    return lost;
  }

  /** Sends messages each way at once; resolves when all have arrived. */
  async #bothWays(count: number, bytes: number, patience: number): Promise<void> {
    const batch: Batch = { batch: FIRST_BATCH + 1 + this.#batches.length, count, bytes };
    this.#batches.push(batch);
    const [near, far] = [this.#near, this.#far];
    const [, , ...tallies] = await Promise.all([
      near.peer.call("send", { from: near.address, to: far.address, batch }),
      far.peer.call("send", { from: far.address, to: near.address, batch }),
      near.peer.call<Tally>("arrived", { at: near.address, batch, patience }),
      far.peer.call<Tally>("arrived", { at: far.address, batch, patience }),
    ]);
    for (const { arrived } of tallies) assert.equal(arrived, count, `of batch ${batch.batch}`);
  }
}

/** Every pair has addresses of its own: mailboxes outlive it. */
let pairs = 0;

type Success = Extract<Connected, { first: number }>;

async function connected(peer: Child, argument: ConnectArgument): Promise<Success> {
  const result = await peer.call<Connected>("connect", argument);
  if ("failed" in result) throw new Error(`${result.failed}: ${result.message}`);
  return result;
}
