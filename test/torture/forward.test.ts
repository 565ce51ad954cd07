/** Programs speak TCP through an edge, while connections are cut, the edge is killed, and only polling gets through. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect } from "node:net";
import { describe, it } from "node:test";
import { FULL } from "../support/long-form.ts";
import type { Obstacle } from "../support/obstacle.ts";
import { forwarded, service } from "./forwarded.ts";
import { Mortal } from "./support.ts";

const MIB = 1024 * 1024;
const [OCTETS, CUTS, KILLS] = FULL ? [1024 * MIB, 50, 3] : [24 * MIB, 9, 1];
/** What is sent after all faults, and in the long form by a better transport than polling. */
const REST = OCTETS / 16;

describe("a program that speaks TCP through an edge", () => {
  it("gets all bytes while connections are cut, the edge is killed, and only polling gets through", {
    timeout: 3_000_000,
  }, async (t) => {
    const edge = await Mortal.start();
    t.after(() => edge.close());
    const errors: unknown[] = [];
    const echo = await service(t, (socket) => {
      socket.on("error", (error) => errors.push(error));
      socket.pipe(socket);
    });
    const { here, there, port } = await forwarded(t, edge, echo);
    const cut = (...obstacles: Obstacle[]) => {
      for (const obstacle of obstacles) for (const what of obstacle.open) obstacle.cut(what);
    };
    let killing: Promise<unknown> = Promise.resolve();
    const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    socket.on("error", (error) => errors.push(error));
    t.after(() => socket.destroy());
    const [sent, came] = [createHash("sha256"), createHash("sha256")];
    const climbing = Promise.withResolvers<void>();
    const writing = (async () => {
      for (let at = 0; at < OCTETS; at += MIB) {
        // The device looks for a better way some 30 to 240 s after the last one failed. The rest travels on that. The
        // short form ends before.
        if (FULL && at === OCTETS - REST) await climbing.promise;
        const piece = randomBytes(MIB);
        sent.update(piece);
        if (!socket.write(piece)) await once(socket, "drain");
      }
      socket.end();
    })();
    let [got, faults, climbed] = [0, 0, false];
    const all = CUTS + KILLS;
    const look = () => {
      if (faults < all || here.open.length === 0 || here.open.includes("polling")) return;
      climbed = true;
      climbing.resolve();
    };
    const looking = setInterval(look, 100);
    t.after(() => clearInterval(looking));
    for await (const piece of socket.iterator({ destroyOnReturn: false })) {
      came.update(piece as Buffer);
      got += (piece as Buffer).length;
      if (faults === all || got < ((faults + 1) * (OCTETS - REST)) / (all + 1)) continue;
      faults += 1;
      if (faults === Math.ceil(all * 0.6)) here.treat = (carried) => (carried === "polling" ? "pass" : "refuse");
      if (faults === Math.ceil(all * 0.8)) here.treat = () => "pass";
      if (faults % Math.ceil(all / KILLS) === 2) killing = killing.then(() => edge.kill());
      else cut(...(faults % 3 === 0 ? [here] : faults % 3 === 1 ? [there] : [here, there]));
    }
    await Promise.all([writing, killing]);
    t.diagnostic(`${got / MIB} MiB each way, ${faults - edge.kills} cuts, ${edge.kills} kills`);
    assert.deepEqual(errors, []);
    assert.equal(came.digest("hex"), sent.digest("hex"));
    assert.deepEqual([got, edge.kills], [OCTETS, KILLS]);
    assert.ok(here.seen.includes("polling"), "the forward found polling");
    if (FULL) assert.ok(climbed, "the forward found a better transport again");
  });
});
