/** Programs speak TCP through an edge, while connections are cut, the edge is killed, and only polling gets through. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { describe, it, type TestContext } from "node:test";
import { folder, type Running, run, start } from "../cli/support.ts";
import { FULL } from "../support/long-form.ts";
import { Obstacle } from "../support/obstacle.ts";
import { Mortal, tokenFor } from "./support.ts";

const MIB = 1024 * 1024;
const [OCTETS, CUTS, KILLS] = FULL ? [1024 * MIB, 50, 3] : [24 * MIB, 9, 1];

/** A service and its forward, each behind an obstacle. */
async function forwarded(t: TestContext, edge: Mortal, handle: (socket: Socket) => void) {
  const server = createServer({ allowHalfOpen: true }, handle);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  const { port: service } = server.address() as { port: number };
  const [here, there, mine, theirs] = await Promise.all([
    Obstacle.start(t, edge.url),
    Obstacle.start(t, edge.url),
    folder(t),
    folder(t),
  ]);
  const asAlice = { XDG_CONFIG_HOME: mine, GROOVEWAY_TOKEN: await tokenFor("alice/pc") };
  const asOffice = { XDG_CONFIG_HOME: theirs, GROOVEWAY_TOKEN: await tokenFor("office/desk") };
  const fingerprint = (await run(t, ["id"], undefined, asAlice)).stdout.trim();
  const trust = ["--trust", `alice/pc=${fingerprint}`];
  const offer = ["expose", "--edge", there.url, "--as", "office/desk", ...trust, `echo=127.0.0.1:${service}`];
  const expose: Running = start(t, offer, undefined, asOffice);
  await expose.line(/:echo is /);
  const take = ["forward", "--edge", here.url, "--as", "alice/pc", "0", "office/desk:echo"];
  const forward: Running = start(t, take, undefined, asAlice);
  const [, port = ""] = await forward.line(/127\.0\.0\.1:([0-9]+) is /);
  return { here, there, port: Number(port) };
}

describe("a program that speaks TCP through an edge", () => {
  it("gets all bytes while connections are cut, the edge is killed, and only polling gets through", {
    timeout: 3_000_000,
  }, async (t) => {
    const edge = await Mortal.start();
    t.after(() => edge.close());
    const errors: unknown[] = [];
    const { here, there, port } = await forwarded(t, edge, (socket) => {
      socket.on("error", (error) => errors.push(error));
      socket.pipe(socket);
    });
    const cut = (...obstacles: Obstacle[]) => {
      for (const obstacle of obstacles) for (const what of obstacle.open) obstacle.cut(what);
    };
    let killing: Promise<unknown> = Promise.resolve();
    const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    socket.on("error", (error) => errors.push(error));
    t.after(() => socket.destroy());
    const [sent, came] = [createHash("sha256"), createHash("sha256")];
    const writing = (async () => {
      for (let at = 0; at < OCTETS; at += MIB) {
        const piece = randomBytes(MIB);
        sent.update(piece);
        if (!socket.write(piece)) await once(socket, "drain");
      }
      socket.end();
    })();
    let [got, faults] = [0, 0];
    const all = CUTS + KILLS;
    for await (const piece of socket.iterator({ destroyOnReturn: false })) {
      came.update(piece as Buffer);
      got += (piece as Buffer).length;
      if (faults === all || got < ((faults + 1) * OCTETS) / (all + 1)) continue;
      faults += 1;
      if (faults === Math.ceil(all * 0.6)) here.treat = (carried) => (carried === "polling" ? "pass" : "refuse");
      if (faults === Math.ceil(all * 0.8)) here.treat = () => "pass";
      if (faults % Math.floor(all / KILLS) === 2) killing = killing.then(() => edge.kill());
      else cut(...(faults % 3 === 0 ? [here] : faults % 3 === 1 ? [there] : [here, there]));
    }
    await Promise.all([writing, killing]);
    t.diagnostic(`${got / MIB} MiB each way, ${faults - edge.kills} cuts, ${edge.kills} kills`);
    assert.deepEqual(errors, []);
    assert.equal(came.digest("hex"), sent.digest("hex"));
    assert.deepEqual([got, edge.kills], [OCTETS, KILLS]);
    assert.ok(here.seen.includes("polling"), "the forward found polling");
  });
});
