/** The link between an edge and a relay is cut again and again while streams pass over it: their devices see no error. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { MemoryKeyring } from "../../src/device/index.ts";
import { type Relay, startRelay } from "../../src/relay/index.ts";
import { publicKeyOf } from "../../src/streams/index.ts";
import { digestOf, expectedDigest, piecesOf, sendAll } from "../device/streams/support.ts";
import { atEdge, atRelay, edgeFor } from "../edge/link/link-support.ts";
import { FULL } from "../support/long-form.ts";
import { Chance, CuttingProxy, seedOf } from "./support.ts";

const MIB = 1024 * 1024;
const OCTETS = FULL ? 256 * MIB : 24 * MIB;
const CUTS = FULL ? 50 : 6;

test("a stream goes on while its link is cut, in both directions", { timeout: 900_000 }, async (t) => {
  const seed = seedOf();
  t.diagnostic(`GROOVEWAY_SEED=${seed}`);
  const chance = new Chance(seed);
  let relay: Relay | undefined;
  const proxy = await CuttingProxy.before(() => relay?.port ?? 0);
  t.after(() => proxy.close());
  const name = `127.0.0.1:${proxy.port}`;
  relay = await startRelay({ port: 0, names: [name, "127.0.0.1"] });
  t.after(() => relay?.close());
  const edge = await edgeFor(t, [proxy.port]);
  const keyrings = { alice: new MemoryKeyring(), bob: new MemoryKeyring() };
  const alice = await atEdge(t, edge, "alice/pc", "websocket", { keyring: keyrings.alice, receive: "streams" });
  const bob = await atRelay(t, relay.port, "bob/pc", { keyring: keyrings.bob, receive: "streams" });
  keyrings.bob.accept("alice/pc@localhost", publicKeyOf(keyrings.alice.secretKey));
  let came = 0;
  const cutIfDue = (octets: number) => {
    came += octets;
    if (proxy.cuts < CUTS && came >= ((proxy.cuts + 1) * 2 * OCTETS) / (CUTS + 2)) proxy.cut(chance);
  };
  async function* watched(readable: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const piece of readable) {
      cutIfDue(piece.length);
      yield piece;
    }
  }
  const served = Promise.withResolvers<string>();
  bob.serve("both", async (stream) => {
    const [, received] = await Promise.all([
      sendAll(stream, piecesOf(OCTETS, "down")),
      digestOf({ readable: watched(stream.readable) }),
    ]);
    served.resolve(received.digest);
  });
  const stream = await alice.dial(`bob/pc@${name}`, "both");
  const [, received] = await Promise.all([
    sendAll(stream, piecesOf(OCTETS, "up")),
    digestOf({ readable: watched(stream.readable) }),
  ]);
  assert.equal(received.digest, expectedDigest(piecesOf(OCTETS, "down")));
  assert.equal(await served.promise, expectedDigest(piecesOf(OCTETS, "up")));
  assert.equal(proxy.cuts, CUTS);
  await stream.closed;
  await Promise.all([alice.close(), bob.close()]);
});
