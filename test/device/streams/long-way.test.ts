/** Streams over long ways: far more is under way than the edge holds. */
import assert from "node:assert/strict";
import { before, describe, it } from "node:test";
import type { LocalEdge } from "../../../src/cli/local-edge/local-edge.ts";
import { afterAll, startEdge } from "../../edge/mailbox/support.ts";
import { DelayingProxy } from "../../support/delaying-proxy.ts";
import { admit, digestOf, expectedDigest, piecesOf, sendAll, streamer } from "./support.ts";

const MIB = 1024 * 1024;
/** Milliseconds each way: long enough that even a machine that is busy with other things fills it with more than HELD. */
const DELAY = 250;
/** What the edge holds of a device each way. */
const HELD = 512 * 1024;
const OCTETS = 16 * MIB;

describe("a stream over a long way", () => {
  let edge: LocalEdge;
  const context = afterAll();
  before(async () => {
    edge = await startEdge(context);
  });

  for (const [one, other] of [
    ["websocket", "websocket"],
    ["longlived", "longlived"],
    ["longlived", "websocket"],
  ] as const) {
    it(`keeps it full in both directions, over ${one} and ${other}`, async (t) => {
      const port = Number(new URL(edge.url).port);
      const here = await DelayingProxy.start(t, port, DELAY);
      const there = await DelayingProxy.start(t, port, DELAY);
      const alice = await streamer(edge, `alice/${one}-${other}`, one, { edge: here.url });
      const bob = await streamer(edge, `bob/${one}-${other}`, other, { edge: there.url });
      admit(bob, alice);
      bob.device.serve("echo", (stream) => stream.readable.pipeTo(stream.writable));
      const stream = await alice.device.dial(bob.address, "echo");
      const began = performance.now();
      const [, came] = await Promise.all([sendAll(stream, piecesOf(OCTETS, one)), digestOf(stream)]);
      const seconds = (performance.now() - began) / 1000;
      assert.equal(came.digest, expectedDigest(piecesOf(OCTETS, one)));
      t.diagnostic(`${(OCTETS / MIB / seconds).toFixed(1)} MiB/s each way`);
      const ways = [here.most.there, here.most.back, there.most.there, there.most.back];
      t.diagnostic(`under way at most, in MiB: ${ways.map((most) => (most / MIB).toFixed(1)).join(", ")}`);
      for (const most of ways) assert.ok(most > 1.5 * HELD, `${most} bytes were under way at most`);
      await Promise.all([alice.device.close(), bob.device.close()]);
    });
  }
});
