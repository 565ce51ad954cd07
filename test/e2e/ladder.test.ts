/** A device finds a way through whatever is between it and its edge. */
import assert from "node:assert/strict";
import { after, before, describe, type TestContext, test } from "node:test";
import { type LocalEdge, startLocalEdge } from "../../src/cli/local-edge/local-edge.ts";
import { Device, type DeviceError, type DeviceOptions, type TransportName } from "../../src/device/index.ts";
import { failure, take } from "../device/support.ts";
import { type Carried, Obstacle, type Treatment } from "../support/obstacle.ts";
import { eventually, soon } from "../support/watch.ts";

describe("a device finds its way", () => {
  let edge: LocalEdge;
  before(async () => {
    edge = await startLocalEdge({ port: 0, relayAllow: [], dev: "open" });
  });
  after(() => edge.close());

  let devices = 0;
  async function connected(t: TestContext, url: string, options: Partial<DeviceOptions> = {}): Promise<Device> {
    devices += 1;
    const device = await Device.connect({ edge: url, address: `device-${devices}/pc`, ...options });
    t.after(() => device.close());
    return device;
  }

  /** Sends messages both ways between the device and another that nothing stands in the way of. */
  async function talk(t: TestContext, device: Device, rounds = 3): Promise<void> {
    const other = await connected(t, edge.url, { transport: "websocket" });
    for (let n = 0; n < rounds; n += 1) {
      await Promise.all([device.send(other.address, `to ${n}`), other.send(device.address, `from ${n}`)]);
      assert.equal((await take(other, 1))[0]?.text(), `to ${n}`);
      assert.equal((await take(device, 1))[0]?.text(), `from ${n}`);
    }
  }

  test("on an open network by one connection", async (t) => {
    const obstacle = await Obstacle.start(t, edge.url);
    const device = await connected(t, obstacle.url);
    assert.equal(device.transport, "websocket");
    await talk(t, device);
    assert.deepEqual(obstacle.seen, ["websocket"]);
  });

  /** Treatments by the beginning of what is carried; the rest passes. */
  const OBSTACLES: readonly (readonly [name: string, by: Readonly<Record<string, Treatment>>, found: TransportName])[] =
    [
      ["that refuses upgrades", { websocket: "refuse" }, "longlived"],
      ["that never answers upgrades", { websocket: "hold" }, "longlived"],
      ["that buffers bodies", { websocket: "refuse", longlived: "buffer" }, "keepalive"],
      ["that holds POST", { longlived: "hold", "keepalive post": "hold", polling: "hold" }, "websocket"],
      ["that lets only short requests through", { websocket: "hold", longlived: "hold", keepalive: "hold" }, "polling"],
    ];

  function obstruct(obstacle: Obstacle, by: Readonly<Record<string, Treatment>>): void {
    obstacle.treat = (carried: Carried) => Object.entries(by).find(([what]) => carried.startsWith(what))?.[1] ?? "pass";
  }

  for (const [name, by, found] of OBSTACLES) {
    test(`through a proxy ${name}: ${found}`, async (t) => {
      const obstacle = await Obstacle.start(t, edge.url);
      obstruct(obstacle, by);
      const device = await connected(t, obstacle.url);
      assert.equal(device.transport, found);
      await talk(t, device);
      // The others are closed, and polling opens a connection for each exchange.
      const own = (carried: Carried) => carried.startsWith(found);
      await eventually(() => obstacle.open.every(own), `the end of the others; open are ${obstacle.open}`);
    });
  }

  test("and tries the way first that last worked in this network", async (t) => {
    const obstacle = await Obstacle.start(t, edge.url);
    obstruct(obstacle, { websocket: "refuse" });
    const remembered = new Map<string, string>();
    const ways = {
      recall: (network: string) => remembered.get(network),
      remember: (network: string, way: string) => void remembered.set(network, way),
    };
    await connected(t, obstacle.url, { ways });
    obstacle.seen.length = 0;
    const again = await connected(t, obstacle.url, { ways });
    assert.equal(again.transport, "longlived");
    assert.deepEqual(new Set(obstacle.seen), new Set(["longlived get", "longlived post"]));
  });

  test("away from one that is cut again and again, without losing a message", async (t) => {
    const obstacle = await Obstacle.start(t, edge.url);
    const device = await connected(t, obstacle.url);
    const other = await connected(t, edge.url, { transport: "websocket" });
    const texts = Array.from({ length: 60 }, (_, n) => `message ${n}`);
    const sending = Promise.all(texts.map((text) => device.send(other.address, text)));
    for (let cuts = 1; cuts <= 2; cuts += 1) {
      obstacle.cut("websocket");
      await obstacle.watch.until(() => obstacle.seen.length > cuts, `connection ${cuts + 1}`);
      await eventually(() => device.transport, "the next connection");
    }
    await sending;
    assert.deepEqual(
      (await take(other, texts.length)).map((message) => message.text()),
      texts,
    );
    assert.equal(device.transport, "longlived");
  });

  test("and says what answers where no way works", async (t) => {
    const obstacle = await Obstacle.start(t, edge.url);
    obstacle.treat = () => "refuse";
    const refused = connected(t, obstacle.url);
    await assert.rejects(soon(refused, "the refusal"), (error: DeviceError) => {
      assert.match(error.message, /answered 403 Forbidden .*tried: websocket to .*longlived.*keepalive.*polling/);
      return failure("NotAnEdge")(error);
    });
    await eventually(() => obstacle.open.length === 0, "the end of all connections");
  });

  test("unless the edge refuses the device itself: then no other way is tried", async (t) => {
    const obstacle = await Obstacle.start(t, edge.url);
    const refused = connected(t, obstacle.url, { relay: "relay.example.com" });
    await assert.rejects(soon(refused, "the refusal"), failure("Refused"));
    assert.deepEqual(new Set(obstacle.seen), new Set(["longlived get", "longlived post"]));
  });
});
