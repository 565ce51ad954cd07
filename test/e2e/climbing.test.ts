/** What a device does about its way in minutes, on a clock that runs twenty times as fast. */
import assert from "node:assert/strict";
import { after, before, describe, type TestContext, test } from "node:test";
import { type LocalEdge, startLocalEdge } from "../../src/cli/local-edge/local-edge.ts";
import { Device, type DeviceError } from "../../src/device/index.ts";
import { failure, take } from "../device/support.ts";
import { Obstacle } from "../support/obstacle.ts";
import { eventually } from "../support/watch.ts";

/** Real milliseconds, times the speed of the clock. */
const PATIENCE = 20 * 60_000;

describe("a device climbs", () => {
  let edge: LocalEdge;
  before(async () => {
    edge = await startLocalEdge({ port: 0, relayAllow: [], dev: "open" });
    // The edge starts by the real clock.
    await import("../support/fast-clock.ts");
  });
  after(() => edge.close());

  async function connected(t: TestContext, url: string, address: string): Promise<Device> {
    const device = await Device.connect({ edge: url, address });
    t.after(() => device.close());
    return device;
  }

  test("to the better way when its obstacle has gone, without losing a message", async (t) => {
    const obstacle = await Obstacle.start(t, edge.url);
    obstacle.treat = (carried) => (carried === "polling" ? "pass" : "refuse");
    const lost: string[] = [];
    const device = await Device.connect({
      edge: obstacle.url,
      address: "climber/pc",
      onReconnect: ({ message }) => lost.push(message),
    });
    t.after(() => device.close());
    const other = await connected(t, edge.url, "watcher/pc");
    const transport = () => device.transport;
    assert.equal(transport(), "polling");
    obstacle.treat = () => "pass";
    lost.length = 0;
    const since = performance.now();
    const sent: string[] = [];
    while (transport() !== "websocket") {
      const text = `message ${sent.length}`;
      sent.push(text);
      await Promise.all([device.send(other.address, text), other.send(device.address, text)]);
      assert.ok(performance.now() - since < 300_000, "5 minutes have passed");
    }
    assert.deepEqual(
      (await take(other, sent.length)).map((message) => message.text()),
      sent,
    );
    assert.deepEqual(
      (await take(device, sent.length)).map((message) => message.text()),
      sent,
    );
    assert.deepEqual(lost, []);
  });

  test("no more to a way that was cut twice and is cut again in its trial", async (t) => {
    const obstacle = await Obstacle.start(t, edge.url);
    // The edge has the real clock, and would hold a GET of KeepAlive for too long.
    obstacle.treat = (carried) => (carried === "websocket" || carried === "polling" ? "pass" : "refuse");
    let losses = 0;
    const device = await Device.connect({
      edge: obstacle.url,
      address: "patient/pc",
      onReconnect: () => {
        losses += 1;
      },
    });
    t.after(() => device.close());
    const transport = () => device.transport;
    while ((await eventually(transport, "a connection", PATIENCE)) !== "polling") {
      const before = losses;
      obstacle.cut("websocket");
      await eventually(() => losses > before, "the loss", PATIENCE);
    }
    for (let probes = 0; probes < 3; probes += 1) {
      await eventually(() => obstacle.open.includes("websocket"), "a probe", PATIENCE);
      assert.equal(transport(), "polling");
      obstacle.cut("websocket");
      await eventually(() => !obstacle.open.includes("websocket"), "the end of the probe", PATIENCE);
    }
    assert.equal(transport(), "polling");
  });

  test("nowhere in a network that swallows everything, and says so within 6 s", async (t) => {
    const obstacle = await Obstacle.start(t, edge.url);
    obstacle.treat = () => "hold";
    const since = performance.now();
    const told: number[] = [];
    const onReconnect = () => told.push(performance.now() - since);
    await assert.rejects(
      Device.connect({ edge: obstacle.url, address: "lost/pc", onReconnect }),
      (error: DeviceError) => {
        assert.match(error.message, /nothing comes back on them: a proxy or firewall in between holds the traffic/);
        return failure("ConnectFailed")(error);
      },
    );
    // A fast clock makes this process slow.
    assert.ok((told[0] ?? Number.POSITIVE_INFINITY) < 15_000, `${told} ms`);
    await eventually(() => obstacle.open.length === 0, "the end of all connections", PATIENCE);
  });
});
