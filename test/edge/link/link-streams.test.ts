/** TCP streams between devices over links: from one edge to an origin relay or to another edge, and back. */
import assert from "node:assert/strict";
import { connect, type Socket } from "node:net";
import { before, describe, it, type TestContext } from "node:test";
import { freePort } from "../../../src/cli/local-edge/listening-address.ts";
import { type Device, type DeviceOptions, MemoryKeyring } from "../../../src/device/index.ts";
import { startRelay } from "../../../src/relay/index.ts";
import { publicKeyOf } from "../../../src/streams/index.ts";
import { digestOf, expectedDigest, piecesOf, sendAll } from "../../device/streams/support.ts";
import { DelayingProxy } from "../../support/delaying-proxy.ts";
import type { InspectedEdge } from "../../support/inspected-edge.ts";
import { FULL } from "../../support/long-form.ts";
import { listen } from "../../support/sockets.ts";
import { ed25519, jwks } from "../issuer.ts";
import { afterAll, fresh, mailboxOf, startEdge, until } from "../mailbox/support.ts";
import { atEdge, atRelay, type Context, edgeFor, linkOf, originRelay } from "./link-support.ts";

const MIB = 1024 * 1024;
/** Milliseconds each way: long enough that even a machine that is busy with other things fills it with more than HELD. */
const DELAY = 250;
/** The name of an edge that no other knows how to reach. */
const HERE = "here.example.com";
/** What the edge holds of a device each way. */
const HELD = 512 * 1024;
/** What a stream carries there and back: several times that. */
const ECHOED = FULL ? 8 * MIB : 2 * MIB;

interface Streaming {
  readonly device: Device;
  readonly keyring: MemoryKeyring;
}

async function streaming(connecting: (options: Partial<DeviceOptions>) => Promise<Device>): Promise<Streaming> {
  const keyring = new MemoryKeyring();
  return { device: await connecting({ keyring, receive: "streams" }), keyring };
}

/** Lets a device dial another. @param address as the other one sees it */
function admit(server: Streaming, client: Streaming, address: string): void {
  server.keyring.accept(address, publicKeyOf(client.keyring.secretKey));
}

function serveEcho({ device }: Streaming): void {
  device.serve("echo", (stream) => stream.readable.pipeTo(stream.writable));
}

async function echoed({ device }: Streaming, to: string, octets: number): Promise<void> {
  const stream = await device.dial(to, "echo");
  const [, came] = await Promise.all([sendAll(stream, piecesOf(octets, to)), digestOf(stream)]);
  assert.equal(came.digest, expectedDigest(piecesOf(octets, to)));
  await stream.closed;
}

/** A way to a relay that can stop passing on what comes from it. */
class Valve {
  readonly port: number;
  readonly #sockets: readonly Socket[];
  /** Bytes that came from the relay. */
  passed = 0;

  private constructor(port: number, sockets: readonly Socket[]) {
    this.port = port;
    this.#sockets = sockets;
  }

  /** @param port of the relay, which may start later */
  static async before(t: TestContext, port: number): Promise<Valve> {
    const sockets: Socket[] = [];
    const server = await listen((device) => {
      const relay = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
      sockets.push(relay);
      relay.on("data", (octets: Buffer) => {
        valve.passed += octets.length;
        device.write(octets);
      });
      relay.on("error", () => device.destroy());
      relay.on("close", () => device.destroySoon());
      device.on("close", () => relay.destroy());
      device.pipe(relay);
    });
    const valve = new Valve(server.port, sockets);
    t.after(() => server.close());
    return valve;
  }

  shut(): void {
    for (const socket of this.#sockets) socket.pause();
  }

  open(): void {
    for (const socket of this.#sockets) socket.resume();
  }
}

describe("a stream over a link", () => {
  let edge: InspectedEdge;
  const unused: number[] = [];
  const all = afterAll();
  before(async () => {
    while (unused.length < 7) unused.push(await freePort("127.0.0.1", 0));
    edge = await edgeFor(all, unused);
  });

  async function relayFor(t: Context): Promise<{ readonly port: number; readonly name: string }> {
    const port = unused.pop();
    assert.ok(port !== undefined, "there are not enough relays");
    await originRelay(t, { port });
    return { port, name: `127.0.0.1:${port}` };
  }

  for (const transport of ["websocket", "longlived", "keepalive", "polling"] as const) {
    it(`carries bytes between a device over ${transport} and one of a relay, past every mailbox`, async (t) => {
      const { port, name } = await relayFor(t);
      const identity = fresh("alice");
      const alice = await streaming((options) => atEdge(t, edge, `${identity}/pc`, transport, options));
      const bob = await streaming((options) => atRelay(t, port, "bob/pc", options));
      admit(bob, alice, `${identity}/pc@localhost`);
      admit(alice, bob, `bob/pc@${name}`);
      serveEcho(alice);
      serveEcho(bob);
      await echoed(alice, `bob/pc@${name}`, ECHOED);
      // The relay knows the edge by its link.
      await echoed(bob, `${identity}/pc@localhost`, ECHOED);
      for (const peer of [`grooveDNS://${name}`, `grooveDevice://${identity}/pc`]) {
        const { dropped, rowsWritten } = await (await mailboxOf(edge, peer)).status();
        assert.ok(rowsWritten < 20, `${rowsWritten} rows are written for ${peer}`);
        assert.equal(dropped.SlowPeer, 0);
      }
    });
  }

  it("holds up no other while its device does not read, and goes on when that reads again", async (t) => {
    const port = unused.pop() ?? assert.fail("there are not enough relays");
    const valve = await Valve.before(t, port);
    const name = `127.0.0.1:${port}`;
    const relay = await startRelay({ port, names: ["127.0.0.1", name, `127.0.0.1:${valve.port}`] });
    t.after(() => relay.close());
    const alice = await streaming((options) => atEdge(t, edge, "alice/stalled", "websocket", options));
    const dora = await streaming((options) => atEdge(t, edge, "dora/stalled", "longlived", options));
    const bob = await streaming((options) =>
      atRelay(t, valve.port, "bob/pc", { ...options, relay: `127.0.0.1:${valve.port}` }),
    );
    const carol = await streaming((options) => atRelay(t, port, "carol/pc", options));
    for (const server of [bob, carol]) {
      admit(server, alice, "alice/stalled@localhost");
      admit(server, dora, "dora/stalled@localhost");
      serveEcho(server);
    }
    await echoed(dora, `carol/pc@${name}`, MIB);
    const octets = 32 * MIB;
    const stream = await alice.device.dial(`bob/pc@${name}`, "echo");
    const moving = Promise.all([sendAll(stream, piecesOf(octets, "stalled")), digestOf(stream)]);
    await until("some of it has come", () => valve.passed > 2 * MIB);
    valve.shut();
    for (let n = 0; n < 3; n += 1) await echoed(dora, `carol/pc@${name}`, 4 * MIB);
    valve.open();
    const [, came] = await moving;
    assert.equal(came.digest, expectedDigest(piecesOf(octets, "stalled")));
  });

  it("is refused by name to a relay that cannot be reached, and to one that is not allowed", async (t) => {
    const port = unused.pop();
    const alice = await streaming((options) => atEdge(t, edge, "alice/refused", "websocket", options));
    await assert.rejects(alice.device.dial(`bob/pc@127.0.0.1:${port}`, "echo"), { code: "RelayUnreachable" });
    await assert.rejects(alice.device.dial("bob/pc@63.209.254.7:9", "echo"), { code: "RelayUnreachable" });
  });
});

describe("a stream between devices of two edges", () => {
  it("carries bytes both ways over the one connection that the first edge makes", async (t) => {
    // The other edge could not connect to the first one.
    const there = await startEdge(t, { relayName: "127.0.0.1", relayAllow: [`${HERE}:7`], linkWays: "sstp:7" });
    const port = Number(new URL(there.url).port);
    const edge = await edgeFor(t, [port], {
      relayName: HERE,
      relayAllow: ["127.0.0.1", `127.0.0.1:${port}`],
      linkWays: `http:${port}`,
    });
    const alice = await streaming((options) => atEdge(t, edge, "alice/pc", "websocket", options));
    const bob = await streaming((options) => atEdge(t, there, "bob/pc", "longlived", options));
    admit(bob, alice, `alice/pc@${HERE}`);
    admit(alice, bob, "bob/pc@127.0.0.1");
    serveEcho(alice);
    serveEcho(bob);
    await echoed(alice, "bob/pc@127.0.0.1", ECHOED);
    await echoed(bob, `alice/pc@${HERE}`, ECHOED);
    await (await mailboxOf(there, "grooveDevice://carol/pc")).setLocked(true);
    await assert.rejects(alice.device.dial("carol/pc@127.0.0.1", "echo"), { code: "RecipientRefused" });
  });
});

describe("a stream over a long link", () => {
  it("keeps it full, whatever the edge holds", async (t) => {
    const relay = await startRelay({ port: 0, names: ["127.0.0.1"] });
    t.after(() => relay.close());
    const way = await DelayingProxy.start(t, relay.port, DELAY);
    const edge = await edgeFor(t, [way.port], {
      relayAllow: ["127.0.0.1", `127.0.0.1:${way.port}`],
      linkWays: `sstp:${way.port}`,
    });
    const alice = await streaming((options) => atEdge(t, edge, "alice/pc", "longlived", options));
    const bob = await streaming((options) =>
      atRelay(t, relay.port, "bob/pc", { ...options, relay: `127.0.0.1:${relay.port}` }),
    );
    admit(bob, alice, "alice/pc@localhost");
    serveEcho(bob);
    await echoed(alice, "bob/pc@127.0.0.1", 16 * MIB);
    t.diagnostic(`under way at most, in MiB: ${way.most.there / MIB} there and ${way.most.back / MIB} back`);
    assert.ok(
      way.most.there > 1.5 * HELD && way.most.back > 1.5 * HELD,
      `${way.most.there} and ${way.most.back} bytes`,
    );
  });
});

describe("the limits of a token", () => {
  it("bound what is streamed over a link as well", async (t) => {
    const relay = await originRelay(t);
    const octets = 1_000_000;
    const edge = await edgeFor(t, [relay.port], { rate: `octets=${octets}` });
    const name = `127.0.0.1:${relay.port}`;
    const alice = await streaming((options) => atEdge(t, edge, "alice/pc", "websocket", options));
    const bob = await streaming((options) => atRelay(t, relay.port, "bob/pc", options));
    admit(bob, alice, "alice/pc@localhost");
    bob.device.serve("sink", async (stream) => {
      const { octets } = await digestOf(stream);
      await sendAll(stream, [Buffer.from(`${octets}`)]);
    });
    const stream = await alice.device.dial(`bob/pc@${name}`, "sink");
    const began = performance.now();
    await sendAll(stream, piecesOf(4 * octets, "rate"));
    assert.equal((await digestOf(stream)).octets, `${4 * octets}`.length);
    const seconds = (performance.now() - began) / 1000;
    assert.ok(seconds > 2, `4 MB took ${seconds} s at 1 MB/s`);
    assert.equal((await (await linkOf(edge, relay.port)).status()).connected, true);
  });

  it("are the scope stream: too, for a device behind a relay", async (t) => {
    const relay = await originRelay(t);
    const issuer = await ed25519();
    const edge = await edgeFor(t, [relay.port], { keys: jwks(issuer) });
    const to = `bob/pc@127.0.0.1:${relay.port}`;
    const bob = await streaming((options) => atRelay(t, relay.port, "bob/pc", options));
    serveEcho(bob);
    const as = async (address: string, scope: string) => {
      const token = await issuer.issue({ address, scope });
      return streaming((options) => atEdge(t, edge, address, "websocket", { ...options, token }));
    };
    const alice = await as("alice/pc", "connect receive send:* stream:carol/pc");
    await assert.rejects(alice.device.dial(to, "echo"), { code: "RecipientRefused" });
    const dora = await as("dora/pc", "connect receive stream:bob/pc");
    admit(bob, dora, "dora/pc@localhost");
    await echoed(dora, to, MIB);
  });
});
