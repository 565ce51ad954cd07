/** Streams outlive the connections of both devices: nothing is lost or duplicated, and neither end sees an error. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { before, describe, it } from "node:test";
import type { LocalEdge } from "../../../src/cli/local-edge/local-edge.ts";
import { type DeviceStream, StreamError } from "../../../src/device/index.ts";
import { afterAll, startEdge } from "../../edge/mailbox/support.ts";
import { FULL } from "../../support/long-form.ts";
import { type Carried, Obstacle } from "../../support/obstacle.ts";
import { admit, digestOf, expectedDigest, piecesOf, sendAll, streamer } from "./support.ts";

const MIB = 1024 * 1024;
/** How often connections are cut during a transfer. */
const CUTS = 8;

describe("a stream", () => {
  let edge: LocalEdge;
  const context = afterAll();
  before(async () => {
    edge = await startEdge(context);
  });

  for (const [transport, carried] of [
    ["websocket", ["websocket"]],
    ["longlived", ["longlived get", "longlived post"]],
    ["polling", ["polling"]],
  ] as const satisfies readonly (readonly [string, readonly Carried[]])[]) {
    const octets = transport === "polling" ? 4 * MIB : FULL ? 64 * MIB : 16 * MIB;

    it(`of ${octets / MIB} MiB goes on while both connections are cut again and again, over ${transport}`, async (t) => {
      const [here, there] = await Promise.all([Obstacle.start(t, edge.url), Obstacle.start(t, edge.url)]);
      const [alice, bob] = await Promise.all([
        streamer(edge, `alice/${transport}`, transport, { edge: here.url }),
        streamer(edge, `bob/${transport}`, transport, { edge: there.url }),
      ]);
      admit(bob, alice);
      let cuts = 0;
      bob.device.serve("digest", async ({ readable, writable }) => {
        const hash = createHash("sha256");
        let came = 0;
        for await (const piece of readable) {
          hash.update(piece);
          came += piece.length;
          // One of the two, or both.
          if (cuts === CUTS || came < ((cuts + 1) * octets) / (CUTS + 1)) continue;
          cuts += 1;
          if (cuts % 3 !== 1) for (const what of carried) here.cut(what);
          if (cuts % 3 !== 2) for (const what of carried) there.cut(what);
        }
        const writer = writable.getWriter();
        await writer.write(hash.digest());
        await writer.close();
      });
      const stream = await alice.device.dial(bob.address, "digest");
      const [, answer] = await Promise.all([
        sendAll(stream, piecesOf(octets, transport)),
        (async () => {
          const pieces: Uint8Array[] = [];
          for await (const piece of stream.readable) pieces.push(piece);
          return Buffer.concat(pieces).toString("hex");
        })(),
      ]);
      assert.equal(answer, expectedDigest(piecesOf(octets, transport)));
      assert.equal(cuts, CUTS);
      await stream.closed;
      await Promise.all([alice.device.close(), bob.device.close()]);
    });
  }

  it("goes on while both connections are used up again and again, and replaced", async () => {
    // Each connection carries a sixteenth of it.
    const options = { messageLimit: MIB, contentLength: 4 * MIB };
    const alice = await streamer(edge, "alice/used", "longlived", options);
    const bob = await streamer(edge, "bob/used", "longlived", options);
    admit(bob, alice);
    bob.device.serve("echo", (stream) => stream.readable.pipeTo(stream.writable));
    const stream = await alice.device.dial(bob.address, "echo");
    const [, came] = await Promise.all([sendAll(stream, piecesOf(32 * MIB, "used")), digestOf(stream)]);
    assert.equal(came.digest, expectedDigest(piecesOf(32 * MIB, "used")));
  });

  it("goes on after the edge was restarted", async (t) => {
    const first = await startEdge(t);
    const port = Number(new URL(first.url).port);
    const [alice, bob] = [await streamer(first, "alice/edge"), await streamer(first, "bob/edge", "longlived")];
    admit(bob, alice);
    let restarting: Promise<unknown> | undefined;
    bob.device.serve("echo", async ({ readable, writable }) => {
      const writer = writable.getWriter();
      let came = 0;
      for await (const piece of readable) {
        came += piece.length;
        await writer.write(piece);
        if (came > 4 * MIB) restarting ??= first.close().then(() => startEdge(t, { port }));
      }
      await writer.close();
    });
    const stream = await alice.device.dial(bob.address, "echo");
    const [, came] = await Promise.all([sendAll(stream, piecesOf(16 * MIB, "edge")), digestOf(stream)]);
    assert.equal(came.digest, expectedDigest(piecesOf(16 * MIB, "edge")));
    assert.ok(restarting !== undefined);
    await restarting;
    await Promise.all([alice.device.close(), bob.device.close()]);
  });

  it("goes on over another transport", async (t) => {
    const obstacle = await Obstacle.start(t, edge.url);
    const alice = await streamer(edge, "alice/auto", "websocket", { edge: obstacle.url, transport: "auto" });
    const bob = await streamer(edge, "bob/auto", "longlived");
    admit(bob, alice);
    bob.device.serve("echo", (stream) => stream.readable.pipeTo(stream.writable));
    const stream = await alice.device.dial(bob.address, "echo");
    assert.equal(alice.device.transport, "websocket");
    obstacle.treat = (carried) => (carried === "websocket" ? "refuse" : "pass");
    obstacle.cut("websocket");
    const [, came] = await Promise.all([sendAll(stream, piecesOf(2 * MIB, "auto")), digestOf(stream)]);
    assert.equal(came.digest, expectedDigest(piecesOf(2 * MIB, "auto")));
    assert.notEqual(alice.device.transport, "websocket");
  });

  it("is reset at both ends, by name, when the other device is away for longer than the resume time", async (t) => {
    const obstacle = await Obstacle.start(t, edge.url);
    const alice = await streamer(edge, "alice/late");
    const bob = await streamer(edge, "bob/late", "websocket", { edge: obstacle.url, resumeTime: 2000 });
    admit(bob, alice);
    const served = Promise.withResolvers<DeviceStream>();
    bob.device.serve("wait", (stream) => {
      stream.accept();
      served.resolve(stream);
    });
    const stream = await alice.device.dial(bob.address, "wait");
    const there = await served.promise;
    obstacle.treat = () => "refuse";
    obstacle.cut("websocket");
    await stream.writable.getWriter().write(new Uint8Array(1));
    const isLate = (error: unknown) => error instanceof StreamError && error.reason === "ResumeTimeout";
    await Promise.all([assert.rejects(stream.closed, isLate), assert.rejects(there.closed, isLate)]);
  });
});
