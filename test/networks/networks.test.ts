/**
 * Devices in the networks of table.ts, with real processes in namespaces: curl first, then each transport.
 *
 * Where there is root and iproute2, the quick ones always run, with little data. All of them run with
 * `GROOVEWAY_NETWORKS=1`, and with 64 MiB each way with `GROOVEWAY_NETWORKS=full`.
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { TransportName } from "../../src/device/index.ts";
import { curl } from "./curl.ts";
import type { Batch, Tally } from "./exchange.ts";
import { Internet, type Network } from "./internet.ts";
import { EXTENT, whyNoProxy, whyNot } from "./needs.ts";
import type { ConnectArgument, Connected } from "./peer.ts";
import { NETWORKS, type Row } from "./table.ts";

const MIB = 1024 * 1024;

/** Messages each way, and bytes in large messages each way. */
const AMOUNT = {
  "": { messages: 20, bulk: MIB },
  full: { messages: 200, bulk: 64 * MIB },
}[EXTENT] ?? { messages: 200, bulk: 8 * MIB };

/** A device finds its way in at most this time, from `Device.connect()` to the first acknowledgement, in ms. */
const FIRST_MESSAGE = 6_000;

/** How long a transport that must not work is tried, in ms. A lost SYN alone takes one second. */
const STOP_PATIENCE = 4_000;

/** How long an exchange may take, in ms, on a machine that does other things as well. */
const EXCHANGE_PATIENCE = 180_000;

/** How long a device may take to replace a connection that is lost, in ms. */
const CATCH_UP = 60_000;

describe("networks", { skip: whyNot([], true) }, () => {
  let internet: Internet;
  before(() => {
    internet = new Internet();
  });
  after(() => internet.close());

  for (const row of NETWORKS) {
    // What takes long by waiting waits for all transports at once.
    describe(row.name, {
      skip: whyNot(row.needs ?? [], row.quick === true),
      concurrency: row.stay !== undefined,
    }, () => {
      let net: Network;
      before(async () => {
        net = internet.network();
        await Promise.all([internet.edge(row.scheme), internet.edge("http"), internet.edge("https"), internet.relay()]);
        await row.build(net);
      });

      it("is as curl expects it", () => {
        const found = row.control.map(({ args }) => ({ args, result: curl(internet, net.site, ...args) }));
        assert.deepEqual(found, row.control);
      });

      for (const [transport, reason] of Object.entries(row.stopped ?? {})) {
        it(`stops ${transport}`, async () => {
          assert.equal(await stopped(net, row, transport as TransportName), reason);
        });
      }

      if (row.proxy !== undefined) {
        it("lets nothing through without the proxy", async () => {
          assert.equal(await stopped(net, row, "keepalive"), "ConnectFailed");
        });
      }

      for (const transport of row.works) {
        const skip = row.proxy !== undefined && whyNoProxy();
        it(`lets ${transport} through`, { skip, timeout: 2 * EXCHANGE_PATIENCE }, (t) =>
          exchange(net, row, transport, (text) => t.diagnostic(text)),
        );
      }
    });
  }
});

/** The options by which a device uses a transport: TCP goes to the relay itself. */
function optionsOf(net: Network, row: Row, transport: TransportName, address: string): ConnectArgument["options"] {
  const { ca } = net.internet.certificates;
  if (transport === "tcp") return { address, transport, relay: "relay.test" };
  return { address, transport, edge: `${row.scheme}://edge.test`, ...(row.scheme === "https" && { ca }) };
}

/** How a device reports that it does not get through. */
async function stopped(net: Network, row: Row, transport: TransportName): Promise<string> {
  const options = optionsOf(net, row, transport, `stopped${net.number}/${transport}`);
  const argument: ConnectArgument = { options, patience: STOP_PATIENCE };
  const result = await net.near.call<Connected>("connect", argument);
  return "failed" in result ? result.failed : `connected by ${result.transport}`;
}

/** Connects a device at the site and one on the internet, and lets them talk. */
async function exchange(net: Network, row: Row, transport: TransportName, say: (text: string) => void): Promise<void> {
  const { near, internet } = net;
  const { far } = internet;
  const [alice, bob] = [`alice${net.number}/${transport}`, `bob${net.number}/${transport}`];
  const hub = transport === "tcp" ? "tcp" : "websocket";
  await connect(far, { options: optionsOf(net, row, hub, bob), patience: EXCHANGE_PATIENCE });
  const proxy = row.proxy?.(net);
  const options = { ...optionsOf(net, row, transport, alice), ...(proxy !== undefined && { proxy }) };
  const { connected, first } = await connect(near, {
    options,
    first: { to: bob, batch: 0 },
    patience: EXCHANGE_PATIENCE,
  });
  const limit = row.slow?.includes(transport) ? EXCHANGE_PATIENCE : FIRST_MESSAGE;
  assert.ok(first <= limit, `the first message took ${first} ms`);

  const { messages, bulk } = AMOUNT;
  const small: Batch = { batch: 1, count: messages, bytes: 1000 };
  const large: Batch = { batch: 2, count: bulk / MIB, bytes: MIB };
  const times: string[] = [];
  for (const batch of [small, large]) {
    const began = performance.now();
    await bothWays(net, alice, bob, batch, EXCHANGE_PATIENCE);
    times.push(`${batch.count} x ${batch.bytes} bytes each way in ${Math.round(performance.now() - began)} ms`);
  }

  const { seconds, every } = row.stay ?? { seconds: 0, every: 0 };
  const until = performance.now() + seconds * 1000;
  for (let batch = 3; performance.now() < until; batch += 1) {
    await sleep(every * 1000);
    await bothWays(net, alice, bob, { batch, count: 1, bytes: 100 }, CATCH_UP);
  }

  // Behind everything else: what comes twice has come by now.
  await bothWays(net, alice, bob, { batch: 0xffff, count: 1, bytes: 100 }, CATCH_UP);
  for (const batch of [small, large]) {
    for (const [peer, at] of [
      [near, alice],
      [far, bob],
    ] as const) {
      const tally = await peer.call<Tally>("arrived", { at, batch, patience: 0 });
      assert.deepEqual(tally, { arrived: batch.count, doubled: 0, wrong: 0 }, `at ${at}`);
    }
  }
  const { lost } = await near.call<{ lost: readonly string[] }>("close", { address: alice });
  await far.call("close", { address: bob });
  say(
    `connected in ${connected} ms, first message in ${first} ms, ${times.join(", ")}, lost ${lost.length} connections`,
  );
  assert.equal(lost.length > 0, row.loses?.includes(transport) ?? false, `lost connections: ${lost.join(", ")}`);
}

async function connect(
  peer: Network["near"],
  argument: ConnectArgument,
): Promise<Extract<Connected, { first: number }>> {
  const result = await peer.call<Connected>("connect", argument);
  if ("failed" in result) throw new Error(`${result.failed}: ${result.message}`);
  return result;
}

/** Sends a batch each way at once; resolves when all has arrived. */
async function bothWays(net: Network, alice: string, bob: string, batch: Batch, patience: number): Promise<void> {
  const { near, internet } = net;
  const { far } = internet;
  const [, , atBob, atAlice] = await Promise.all([
    near.call("send", { from: alice, to: bob, batch }),
    far.call("send", { from: bob, to: alice, batch }),
    far.call<Tally>("arrived", { at: bob, batch, patience }),
    near.call<Tally>("arrived", { at: alice, batch, patience }),
  ]);
  assert.deepEqual(
    [atBob, atAlice].map(({ arrived }) => arrived),
    [batch.count, batch.count],
  );
}
