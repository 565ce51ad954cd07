/** What happens to a virtual connection whose object has lost its memory: a new version, a new machine, a crash. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { Tunnel } from "../support/driven-worker.ts";
import { PollingDevice } from "./polling-device.ts";
import {
  assertNothingLeft,
  assertRead,
  assertRefused,
  connect,
  finish,
  startDrivenEdge,
  type TestEdge,
} from "./support.ts";

describe("when the object loses its memory", { concurrency: true }, () => {
  let edge: TestEdge;
  before(async () => {
    edge = await startDrivenEdge(3);
  });
  after(() => edge.close());

  async function crash(guid: string): Promise<void> {
    const tunnels = await edge.edge.miniflare.getDurableObjectNamespace("TUNNEL");
    const stub = tunnels.getByName(guid) as unknown as Pick<Tunnel, "crash">;
    await assert.rejects(stub.crash());
  }

  it("LongLived: both requests end, and the relay's socket is closed", async () => {
    const { relay, device, origin } = await connect(edge, "LongLived");
    await device.talk(origin);
    await crash(device.guid);
    await device.get.closed();
    assert.equal(device.get.received.length, 0);
    await assertRefused(device.post, "404 Not Found", "ConnectionLost");
    await finish(edge, relay, device);
  });

  it("KeepAlive: the parked GET and later requests are refused", async () => {
    const { relay, device, origin } = await connect(edge, "KeepAlive");
    await device.talk(origin);
    await assertRead(edge, await device.sendGet());
    await crash(device.guid);
    await assertRefused(device.get, "404 Not Found", "ConnectionLost");
    await assertRefused(await device.sendPost("late"), "404 Not Found", "ConnectionLost");
    await finish(edge, relay, device);
  });

  it("Polling: the next request is refused", async () => {
    const relay = edge.relay();
    const device = new PollingDevice(edge, relay);
    await device.establish(relay);
    await crash(device.guid);
    await device.assertRefused(device.next("late"), "404 Not Found", "ConnectionLost");
    await assertNothingLeft(edge, relay, device.guid);
  });
});
