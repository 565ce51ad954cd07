/** What becomes of a virtual connection whose object has lost its memory: a new version, a new machine, a crash. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { Miniflare, NoOpLog } from "miniflare";
import { listen } from "../support/sockets.ts";
import type { Tunnel } from "./crashing-worker.ts";
import { PollingDevice } from "./polling-device.ts";
import {
  assertNothingLeft,
  assertRead,
  assertRefused,
  Device,
  devicesOf,
  type TestEdge,
  TestRelay,
} from "./support.ts";

describe("the object loses its memory", { concurrency: true }, () => {
  let edge: TestEdge;
  const relays: TestRelay[] = [];
  const all: TestRelay[] = [];
  before(async () => {
    for (let count = 0; count < 3; count++) {
      const server = await listen((socket) => relay.came(socket));
      const relay: TestRelay = new TestRelay(server);
      relays.push(relay);
      all.push(relay);
    }
    const { outputFiles } = await build({
      entryPoints: [fileURLToPath(new URL("./crashing-worker.ts", import.meta.url))],
      bundle: true,
      write: false,
      format: "esm",
      target: "es2024",
      external: ["cloudflare:*"],
    });
    const contents = outputFiles[0]?.text ?? "";
    const miniflare = new Miniflare({
      host: "127.0.0.1",
      port: 0,
      cf: false,
      telemetry: { enabled: false },
      log: new NoOpLog(),
      // Of a crash the runtime says what it must.
      handleStructuredLogs: () => undefined,
      workers: [
        {
          config: {
            name: "grooveway",
            compatibilityDate: "2026-11-09",
            compatibilityFlags: ["enable_request_signal"],
            manifest: { mainModule: "worker.js", modules: { "worker.js": { type: "esm", contents } } },
            exports: {
              Tunnel: { type: "durable-object", storage: "sqlite" },
              Meter: { type: "durable-object", storage: "sqlite" },
            },
            env: {
              TUNNEL: { type: "durable-object", worker: "grooveway", exportName: "Tunnel" },
              METER: { type: "durable-object", worker: "grooveway", exportName: "Meter" },
              ORIGIN_RELAYS: { type: "text", value: relays.map(({ name }) => name).join(",") },
              DEV: { type: "text", value: "private open" },
            },
          },
        },
      ],
    });
    const url = await miniflare.ready;
    const port = Number(url.port);
    const devices = devicesOf(port);
    const close = async () => {
      devices.close();
      await miniflare.dispose();
      for (const { server } of all) await server.close();
    };
    edge = {
      port,
      open: devices.open,
      edge: { url: url.origin, names: [], miniflare, close },
      closedRelay: "",
      relay: () => relays.pop() as TestRelay,
      close,
    };
  });
  after(() => edge.close());

  async function crash(guid: string): Promise<void> {
    const tunnels = await edge.edge.miniflare.getDurableObjectNamespace("TUNNEL");
    const stub = tunnels.getByName(guid) as unknown as Pick<Tunnel, "crash">;
    await assert.rejects(stub.crash());
  }

  it("LongLived: both requests end, the relay's socket goes", async () => {
    const relay = edge.relay();
    const device = await new Device(edge, relay, "LongLived").establish();
    await device.talk(await relay.next());
    await crash(device.guid);
    await device.get.closed();
    assert.equal(device.get.received.length, 0);
    await assertRefused(device.post, "404 Not Found", "ConnectionLost");
    await assertNothingLeft(edge, relay, device.guid);
    device.reset();
  });

  it("KeepAlive: a parked GET is told, and so is what comes later", async () => {
    const relay = edge.relay();
    const device = await new Device(edge, relay, "KeepAlive").establish();
    await device.talk(await relay.next());
    await assertRead(edge, await device.sendGet());
    await crash(device.guid);
    await assertRefused(device.get, "404 Not Found", "ConnectionLost");
    await assertRefused(await device.sendPost("late"), "404 Not Found", "ConnectionLost");
    await assertNothingLeft(edge, relay, device.guid);
    device.reset();
  });

  it("Polling: the next request is told", async () => {
    const relay = edge.relay();
    const device = new PollingDevice(edge, relay);
    await device.establish(relay);
    await crash(device.guid);
    await device.assertRefused(device.next("late"), "404 Not Found", "ConnectionLost");
    await assertNothingLeft(edge, relay, device.guid);
  });
});
