/** Streams of devices to TCP services that the edge dials: what a socket between the two would do. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { MemoryKeyring } from "../../../src/device/index.ts";
import { digestOf, expectedDigest, piecesOf, sendAll } from "../../device/streams/support.ts";
import type { InspectedEdge } from "../../support/inspected-edge.ts";
import { objectOf } from "../../support/objects.ts";
import { Obstacle } from "../../support/obstacle.ts";
import { listen } from "../../support/sockets.ts";
import { Chance, seedOf } from "../../torture/support.ts";
import { AUDIENCE, ed25519 } from "../issuer.ts";
import { afterAll, connect, startEdge, TRANSPORTS, until } from "../mailbox/support.ts";
import { edgeMemory } from "../support.ts";
import {
  dialler,
  type EgressStub,
  echo,
  isEchoed,
  isReset,
  joined,
  LISTED,
  service,
  startDialling,
} from "./support.ts";

const MIB = 1024 * 1024;
/** How often connections are cut during a transfer. */
const CUTS = 6;

/** Pieces of random lengths. */
function* cutAtRandom(octets: number, seed: string): Generator<Uint8Array> {
  const chance = new Chance(seedOf());
  for (const piece of piecesOf(octets, seed)) {
    for (let at = 0; at < piece.length; ) {
      const length = chance.next() < 0.1 ? 1 + chance.below(100) : 1 + chance.below(piece.length);
      yield piece.subarray(at, at + length);
      at += length;
    }
  }
}

describe("a stream to a service beside the edge", () => {
  let edge: InspectedEdge;
  const context = afterAll();
  before(async () => {
    edge = await startDialling(context);
  });

  for (const transport of TRANSPORTS) {
    it(`carries 8 MiB each way in random pieces, and half-closes of both ends, over ${transport}`, async (t) => {
      const device = await dialler(edge, `alice/${transport}`, transport);
      const { stream, socket } = await joined(t, device);
      const up = createHash("sha256");
      const [octets, seeds] = [8 * MIB, { up: `up ${transport}`, down: `down ${transport}` }];
      const answered = (async () => {
        for await (const piece of socket.iterator({ destroyOnReturn: false })) up.update(piece as Uint8Array);
        // The device has half-closed, and still reads.
        for (const piece of cutAtRandom(octets, seeds.down)) {
          if (!socket.write(piece)) await once(socket, "drain");
        }
        socket.end();
      })();
      await sendAll(stream, cutAtRandom(octets, seeds.up));
      const down = await digestOf(stream);
      await answered;
      assert.equal(up.digest("hex"), expectedDigest(piecesOf(octets, seeds.up)));
      assert.deepEqual(down, { octets, digest: expectedDigest(piecesOf(octets, seeds.down)) });
      await stream.closed;
      await device.close();
    });
  }

  it("is read after the service has half-closed, and can still be written", async (t) => {
    const device = await dialler(edge, "alice/service-first");
    const { stream, socket, raw } = await joined(t, device);
    assert.deepEqual(stream.peer, { address: "the edge", key: undefined });
    socket.end("bye");
    assert.equal((await digestOf(stream)).octets, 3);
    await sendAll(stream, [Buffer.from("and more")]);
    assert.equal(String(await raw.until((received) => received.length >= 8)), "and more");
    await stream.closed;
    await device.close();
  });

  it("is reset when the service resets, and the service sees the end when the device does", async (t) => {
    const device = await dialler(edge, "alice/reset");
    const one = await joined(t, device);
    one.raw.reset();
    await assert.rejects(one.stream.closed, isReset("ConnectionReset"));
    const other = await joined(t, device);
    other.stream.reset();
    await other.raw.closed();
    assert.ok(other.raw.ended);
    await device.close();
  });

  it("is refused by name: not listed, dead, unknown by name, and by an edge that dials nothing", async (t) => {
    const device = await dialler(edge, "alice/refused");
    const { at } = await service(t, () => assert.fail("it is not dialled"));
    const port = at.split(":")[1];
    for (const unlisted of [`127.0.0.2:${port}`, `[::1]:${port}`, `localhost:${port}`, "127.0.0.1:80"]) {
      await assert.rejects(device.dialOrigin(unlisted), isReset("OriginNotAllowed"), unlisted);
    }
    const closed = await listen(() => undefined);
    await closed.close();
    await assert.rejects(device.dialOrigin(`127.0.0.1:${closed.port}`), isReset("OriginUnreachable"));
    await assert.rejects(device.dialOrigin("nothing"), { code: "InvalidOption" });
    const none = await startEdge(t);
    const other = await dialler(none, "alice/none");
    await assert.rejects(other.dialOrigin(at), isReset("OriginNotAllowed"));
    await Promise.all([device.close(), other.close()]);
  });

  it("is refused where a listed name leads to an address that must be listed itself", async (t) => {
    const resolving = await startEdge(t, { streamAllow: ["private.example.com:22", "localhost:1024-65535"] });
    const { at } = await service(t, echo);
    const device = await dialler(resolving, "alice/names");
    // The resolver of this machine knows no such name.
    await assert.rejects(device.dialOrigin("private.example.com:22"), isReset("OriginUnreachable"));
    const stream = await device.dialOrigin(at.replace("127.0.0.1", "localhost"));
    assert.ok(await isEchoed(stream, "by name"));
    await device.close();
  });

  it("that is not read holds up no other, and little is taken from its service", async (t) => {
    const device = await dialler(edge, "alice/slow");
    let written = 0;
    const pour = await service(t, (socket) => {
      const more = () => {
        while (socket.write(new Uint8Array(64 * 1024))) written += 64 * 1024;
        written += 64 * 1024;
      };
      socket.on("drain", more);
      more();
    });
    const echoing = await service(t, echo);
    const unread = await device.dialOrigin(pour.at);
    const stream = await device.dialOrigin(echoing.at);
    const [, came] = await Promise.all([sendAll(stream, piecesOf(4 * MIB, "other")), digestOf(stream)]);
    assert.equal(came.digest, expectedDigest(piecesOf(4 * MIB, "other")));
    let before = -1;
    await until("the service is stopped", async () => {
      const still = written === before;
      before = written;
      await sleep(200);
      return still;
    });
    // Of two kernels' buffers, and of what the edge and the device hold.
    assert.ok(written < 16 * MIB, `${written} bytes were written`);
    unread.reset();
    await device.close();
  });

  it("may be one of a hundred that are not read: they cost the edge little memory, and the next goes on", async (t) => {
    const device = await dialler(edge, "alice/hundred");
    const pour = await service(t, (socket) => {
      const more = () => {
        while (socket.write(new Uint8Array(64 * 1024)));
      };
      socket.on("drain", more);
      more();
    });
    const { at } = await service(t, echo);
    const before = edgeMemory();
    const unread = await Promise.all(Array.from({ length: 100 }, () => device.dialOrigin(pour.at)));
    const stream = await device.dialOrigin(at);
    const [, came] = await Promise.all([sendAll(stream, piecesOf(MIB, "next")), digestOf(stream)]);
    assert.equal(came.digest, expectedDigest(piecesOf(MIB, "next")));
    const grown = edgeMemory() - before;
    t.diagnostic(`the edge has grown by ${(grown / MIB).toFixed(1)} MiB`);
    assert.ok(grown < 64 * MIB, `the edge has grown by ${grown} bytes`);
    for (const each of unread) each.reset();
    await device.close();
  });

  it("stops its writer when the service does not read", async (t) => {
    const device = await dialler(edge, "alice/unread");
    const { stream, socket } = await joined(t, device);
    socket.pause();
    let written = 0;
    const writer = stream.writable.getWriter();
    void (async () => {
      for (;;) {
        await writer.write(new Uint8Array(64 * 1024));
        written += 64 * 1024;
      }
    })().catch(() => undefined);
    let before = -1;
    await until("the writer is stopped", async () => {
      const still = written === before;
      before = written;
      await sleep(200);
      return still;
    });
    assert.ok(written < 16 * MIB, `${written} bytes were written`);
    stream.reset();
    await device.close();
  });

  for (const [transport, carried] of [
    ["websocket", ["websocket"]],
    ["longlived", ["longlived get", "longlived post"]],
    ["polling", ["polling"]],
  ] as const) {
    const octets = transport === "polling" ? 2 * MIB : 16 * MIB;

    it(`goes on while the device's connection is cut again and again, over ${transport}`, async (t) => {
      const obstacle = await Obstacle.start(t, edge.url);
      const device = await dialler(edge, `alice/cut-${transport}`, transport, { edge: obstacle.url });
      let came = 0;
      let cuts = 0;
      const { at } = await service(t, (socket) => {
        socket.on("data", (piece: Buffer) => {
          came += piece.length;
          if (cuts === CUTS || came < ((cuts + 1) * octets) / (CUTS + 1)) return;
          cuts += 1;
          for (const what of carried) obstacle.cut(what);
        });
        echo(socket);
      });
      const stream = await device.dialOrigin(at);
      const [, back] = await Promise.all([sendAll(stream, piecesOf(octets, transport)), digestOf(stream)]);
      assert.equal(back.digest, expectedDigest(piecesOf(octets, transport)));
      assert.equal(cuts, CUTS);
      await stream.closed;
      await device.close();
    });
  }

  it("is reset by name within 5 s after the edge was killed, and its service sees the end", async (t) => {
    const first = await startDialling(t);
    const port = Number(new URL(first.url).port);
    const device = await dialler(first, "alice/killed");
    const { stream, raw } = await joined(t, device);
    await first.close();
    await raw.closed();
    await startDialling(t, { port });
    const back = performance.now();
    await assert.rejects(stream.closed, isReset("ChannelUnknown"));
    assert.ok(performance.now() - back < 5000, "it has taken too long");
    const { at } = await service(t, echo);
    assert.ok(await isEchoed(await device.dialOrigin(at), "a new one"));
    await device.close();
  });

  it("is closed by the edge, and reset at the device, when the device is away for longer than the resume time", async (t) => {
    const short = await startDialling(t, { streamResume: "1" });
    const obstacle = await Obstacle.start(t, short.url);
    const device = await dialler(short, "alice/away", "websocket", { edge: obstacle.url });
    const { stream, raw } = await joined(t, device);
    obstacle.treat = () => "refuse";
    obstacle.cut("websocket");
    await raw.closed();
    await assert.rejects(stream.closed, isReset("ResumeTimeout"));
    const egress = await objectOf<EgressStub>(short.miniflare, "EGRESS", "grooveDevice://alice/away");
    assert.deepEqual([(await egress.status()).channels, (await egress.status()).streams], [0, 0]);
    await device.close();
  });

  it("ends with the program that has opened it, when another takes its address", async (t) => {
    const one = await dialler(edge, "alice/again");
    const { raw } = await joined(t, one);
    const other = await dialler(edge, "alice/again");
    const { at } = await service(t, echo);
    assert.ok(await isEchoed(await other.dialOrigin(at), "mine"));
    await raw.closed();
    await Promise.all([one.close(), other.close()]);
  });

  it("needs a device that takes streams", async (t) => {
    const { at } = await service(t);
    const device = await connect(edge, "alice/send-only", "websocket", {
      keyring: new MemoryKeyring(),
      receive: false,
    });
    await assert.rejects(device.dialOrigin(at), { code: "InvalidOption" });
    await device.close();
  });
});

describe("a token", () => {
  it("needs a scope for each destination, and has so many connections at a time", async (t) => {
    const issuer = await ed25519();
    const { at } = await service(t, echo);
    const edge = await startEdge(t, {
      keys: JSON.stringify({ keys: [issuer.jwk] }),
      streamAllow: [LISTED],
      relayName: AUDIENCE,
      rate: "streams=2",
    });
    const scope = "connect receive send:* stream:*";
    const without = await dialler(edge, "alice/without", "websocket", {
      token: await issuer.issue({ address: "alice/*", scope }),
    });
    await assert.rejects(without.dialOrigin(at), isReset("OriginScopeMissing"));
    const other = await dialler(edge, "alice/other", "longlived", {
      token: await issuer.issue({ address: "alice/*", scope: `${scope} origin:127.0.0.1:1` }),
    });
    await assert.rejects(other.dialOrigin(at), isReset("OriginScopeMissing"));
    const device = await dialler(edge, "alice/with", "websocket", {
      token: await issuer.issue({ address: "alice/*", scope: `${scope} origin:${at}` }),
    });
    const streams = [await device.dialOrigin(at), await device.dialOrigin(at)];
    for (const stream of streams) assert.ok(await isEchoed(stream, "with a scope"));
    await assert.rejects(device.dialOrigin(at), isReset("TooManyStreams"));
    streams[0]?.reset();
    await until("there is room again", () =>
      device.dialOrigin(at).then(
        () => true,
        () => false,
      ),
    );
    await Promise.all([without.close(), other.close(), device.close()]);
  });
});
