import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { IDLE_CUT_LEAST, IDLE_CUT_MOST, IDLE_CUT_SPREAD } from "../../../src/device/limits.ts";
import { IdleCuts, keptAlive } from "../../../src/device/transports/idle-cuts.ts";
import { openTransport } from "../../../src/device/transports/open-transport.ts";
import { listen } from "../../support/sockets.ts";
import { soon } from "../../support/watch.ts";

const NEVER = Number.POSITIVE_INFINITY;

describe("cuts of idle connections", () => {
  it("count when two in a row come after the same time", () => {
    const cuts = new IdleCuts(undefined);
    assert.deepEqual([cuts.cut(10_000), cuts.limit], [false, NEVER]);
    assert.deepEqual([cuts.cut(10_000 - IDLE_CUT_SPREAD), cuts.limit], [true, 9000]);
    assert.deepEqual([cuts.cut(9000), cuts.limit], [false, 9000]);
  });

  it("are accidents when they come after different times, or when the connection was in use", () => {
    const cuts = new IdleCuts(undefined);
    for (const idle of [5000, 10_000, 20_000, 3000, IDLE_CUT_LEAST - 1, IDLE_CUT_LEAST - 1, IDLE_CUT_MOST + 1]) {
      assert.equal(cuts.cut(idle), false, `${idle}`);
    }
    assert.equal(cuts.limit, NEVER);
  });

  it("lower what was known, and do not raise it", () => {
    const cuts = new IdleCuts(10_000);
    for (const idle of [20_000, 20_000]) assert.equal(cuts.cut(idle), false);
    assert.equal(cuts.cut(5000), false);
    assert.deepEqual([cuts.cut(5000), cuts.limit], [true, 5000]);
  });

  it("are not believed from a file that says nonsense", () => {
    for (const known of [0, -1, Number.NaN, IDLE_CUT_LEAST - 1]) assert.equal(new IdleCuts(known).limit, NEVER);
  });

  it("are prevented by heartbeats in half the time", () => {
    assert.deepEqual([keptAlive(25_000), keptAlive(25_000, 10_000), keptAlive(2000, 10_000)], [25_000, 5000, 2000]);
  });

  it("are prevented on KeepAlive by a shorter hold time", async (t) => {
    const asked = Promise.withResolvers<string>();
    const server = await listen((socket) => {
      socket.on("data", (octets: Buffer) => {
        if (octets.toString().startsWith("GET")) asked.resolve(octets.toString());
      });
      socket.on("end", () => socket.end());
    });
    t.after(() => server.close());
    const edge = `http://127.0.0.1:${server.port}`;
    const transport = openTransport({ transport: "keepalive", relay: "127.0.0.1", edge, idleLimit: 10_000 });
    transport.established.catch(() => undefined);
    t.after(() => transport.close());
    assert.match(await soon(asked.promise, "the request"), /&Hold=5 HTTP/);
  });

  it("that a proxy reports are no sign of life", async (t) => {
    const server = await listen((socket) => {
      socket.once("data", () => {
        setTimeout(() => socket.end("HTTP/1.1 504 Gateway Time-out\r\nContent-Length: 0\r\n\r\n"), 100);
      });
    });
    t.after(() => server.close());
    const edge = `http://127.0.0.1:${server.port}`;
    const transport = openTransport({ transport: "keepalive", relay: "127.0.0.1", edge });
    await assert.rejects(transport.established);
    assert.equal(transport.lost?.status, 504);
    assert.ok(performance.now() - transport.heardAt >= 90, "the answer counts");
  });
});
