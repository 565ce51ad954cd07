/** How a virtual connection ends when the device, the relay or the edge's memory is lost, leaving nothing behind. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, describe, it } from "node:test";
import { PollingDevice } from "./polling-device.ts";
import {
  assertCame,
  assertCut,
  assertNothingLeft,
  assertOctets,
  assertRead,
  assertRefused,
  connect,
  Device,
  ECHO,
  eventually,
  finish,
  flood,
  heldTowards,
  startTestEdge,
  type TestEdge,
  tunnelStatus,
  whenBlocked,
} from "./support.ts";

const KINDS = ["LongLived", "KeepAlive"] as const;

describe("when the device disconnects", { concurrency: true }, () => {
  let edge: TestEdge;
  before(async () => {
    edge = await startTestEdge(24);
  });
  after(() => edge.close());

  async function assertEnded(guid: string, reason: string): Promise<void> {
    await eventually("the virtual connection ends", async () => !(await tunnelStatus(edge, guid)).live);
    assert.equal((await tunnelStatus(edge, guid)).ended, reason);
  }

  for (const kind of KINDS) {
    it(`${kind}: a GET reset before the handshake ends the virtual connection`, async () => {
      const relay = edge.relay();
      const device = new Device(edge, relay, kind);
      await device.sendGet();
      await device.known();
      device.get.reset();
      await assertEnded(device.guid, "DeviceGone");
      await assertRefused(await device.sendPost(ECHO), "404 Not Found", "DeviceGone");
      await finish(edge, relay, device);
    });

    it(`${kind}: a reset of an idle GET ends the virtual connection`, async () => {
      const { relay, device, origin } = await connect(edge, kind);
      await device.talk(origin);
      if (kind === "KeepAlive") await assertRead(edge, await device.sendGet());
      device.get.reset();
      await assertEnded(device.guid, "DeviceGone");
      if (kind === "LongLived") await assertRefused(device.post, "404 Not Found", "DeviceGone");
      else await assertRefused(await device.sendPost("late"), "404 Not Found", "DeviceGone");
      await finish(edge, relay, device);
    });

    it(`${kind}: a POST reset in the middle of its body ends the virtual connection`, async () => {
      const { relay, device, origin } = await connect(edge, kind);
      await device.talk(origin);
      if (kind === "LongLived") {
        device.post.write("half");
        await origin.take(4);
      } else {
        await assertRead(edge, await device.sendPost("half", { length: 100 }));
      }
      device.post.reset();
      await assertEnded(device.guid, "DeviceGone");
      if (kind === "LongLived") await assertCut(device);
      else await assertRefused(await device.sendGet(), "404 Not Found", "DeviceGone");
      await assertNothingLeft(edge, relay, device.guid);
      assert.equal(origin.received.length, 0, "half a KeepAlive body is not passed on");
      device.reset();
    });
  }

  it("LongLived: a POST reset before the handshake ends the virtual connection", async () => {
    const relay = edge.relay();
    const device = new Device(edge, relay, "LongLived");
    await device.sendPost(ECHO);
    await device.known();
    device.post.reset();
    await assertEnded(device.guid, "DeviceGone");
    await assertRefused(await device.sendGet(), "404 Not Found", "DeviceGone");
    await finish(edge, relay, device);
  });

  it("LongLived: a reset of an idle POST ends the GET", async () => {
    const { relay, device, origin } = await connect(edge, "LongLived");
    await device.talk(origin);
    device.post.reset();
    await assertCut(device);
    await finish(edge, relay, device);
  });

  it("LongLived: a half-close of the POST ends the GET", async () => {
    const { relay, device, origin } = await connect(edge, "LongLived");
    await device.talk(origin);
    device.post.fin();
    await assertCut(device);
    await finish(edge, relay, device);
  });

  it("LongLived: a POST that completes its Content-Length ends the GET", async () => {
    const relay = edge.relay();
    const device = new Device(edge, relay, "LongLived");
    await device.sendGet();
    await device.known();
    await device.sendPost(ECHO, { length: ECHO.length + 4 });
    await device.established();
    const origin = await relay.next();
    device.post.write("last");
    assertOctets(await origin.take(4), "last");
    await assertRefused(device.post, "404 Not Found", "DeviceGone");
    await assertCut(device);
    await finish(edge, relay, device);
  });

  it("LongLived: a POST reset during bulk transfer ends the virtual connection", async () => {
    const { relay, device, origin } = await connect(edge, "LongLived");
    device.post.write(Buffer.alloc(8_000_000, 1));
    await origin.until((received) => received.length >= 1_000_000);
    device.post.reset();
    await assertCut(device);
    await finish(edge, relay, device);
  });

  it("LongLived: a GET reset during bulk transfer ends the virtual connection", async () => {
    const { relay, device, origin } = await connect(edge, "LongLived");
    await device.up("go");
    origin.write(Buffer.alloc(16_000_000, 1));
    await device.get.until((received) => received.length >= 1_000_000);
    device.get.reset();
    await assertRefused(device.post, "404 Not Found", "DeviceGone");
    await finish(edge, relay, device);
  });

  it("LongLived: a GET that is not read ends with its POST", async () => {
    const { relay, device, origin } = await connect(edge, "LongLived");
    await device.up("go");
    device.get.socket.pause();
    flood(origin.socket);
    await eventually("octets pile up at the device", () => origin.socket.writableLength > 0);
    device.post.reset();
    // The relay's socket closes although nobody reads, and the GET's connection with it.
    await assertNothingLeft(edge, relay, device.guid);
    device.get.socket.resume();
    await device.get.closed();
    device.reset();
  });

  for (const how of ["resets its GET", "resets its POST", "goes"] as const) {
    it(`LongLived: a device that ${how} while the relay does not read leaves nothing behind`, async () => {
      const relay = edge.relay();
      relay.stopped = true;
      const device = await new Device(edge, relay, "LongLived").establish();
      await relay.next();
      flood(device.post.socket);
      await whenBlocked(device.post.socket);
      if (how === "resets its GET") {
        device.get.reset();
        await device.post.closed();
      } else if (how === "resets its POST") {
        device.post.reset();
        await assertCut(device);
      } else {
        device.reset();
      }
      await eventually("the edge lets go of the relay, which still does not read", () => heldTowards(relay) === 0);
      for (const socket of relay.server.connections) socket.resume();
      await finish(edge, relay, device);
    });
  }

  it("KeepAlive: a device that resets while the relay does not read leaves nothing behind", async () => {
    const relay = edge.relay();
    relay.stopped = true;
    const device = await new Device(edge, relay, "KeepAlive").establish();
    await relay.next();
    await assertRead(edge, await device.sendGet());
    for (let held = false; !held; ) {
      const answered = device.up(Buffer.alloc(32768)).catch(() => undefined);
      held = (await Promise.race([answered, whenBlocked(device.post.socket)])) !== undefined;
    }
    device.reset();
    await eventually("the edge lets go of the relay, which still does not read", () => heldTowards(relay) === 0);
    for (const socket of relay.server.connections) socket.resume();
    await assertNothingLeft(edge, relay, device.guid);
  });

  it("LongLived: a POST reset after bulk transfer in both directions ends the GET", async () => {
    const { relay, device, origin } = await connect(edge, "LongLived");
    const bulk = randomBytes(2_000_000);
    device.post.write(bulk);
    assertOctets(await origin.take(bulk.length), bulk);
    origin.write(bulk);
    assertOctets(await device.down(bulk.length), bulk);
    await device.talk(origin);
    device.post.reset();
    await assertCut(device);
    await finish(edge, relay, device);
  });

  it("KeepAlive: a POST connection reset between two requests is reopened [3.3.4.3, 3.3.4.5]", async () => {
    const { relay, device, origin } = await connect(edge, "KeepAlive");
    await device.talk(origin);
    device.post.reset();
    device.post = await device.open();
    await device.talk(origin);
    device.get.reset();
    device.get = await device.open();
    await device.talk(origin);
    await device.leave();
    await assertNothingLeft(edge, relay, device.guid);
  });

  it("Polling: a request reset midway is repeated", async () => {
    const relay = edge.relay();
    const device = new PollingDevice(edge, relay);
    const origin = await device.establish(relay);
    const body = device.next("data");
    const half = await device.send(body.subarray(0, -2), body.length);
    await assertRead(edge, half);
    half.reset();
    const { sequence, data } = await device.answer(await device.send(body));
    assert.deepEqual([sequence, data], [1, ""]);
    assertOctets(await origin.take(4), "data");
    origin.fin();
    await device.assertRefused(device.next(""), "404 Not Found", "OriginClosed");
    await assertNothingLeft(edge, relay, device.guid);
  });
});

describe("when the relay disconnects", { concurrency: true }, () => {
  let edge: TestEdge;
  before(async () => {
    edge = await startTestEdge(24);
  });
  after(() => edge.close());

  for (const size of [4, 30_000, 300_000, 8_000_000]) {
    it(`LongLived: ${size} octets and a half-close are delivered, then both requests end`, async () => {
      const relay = edge.relay();
      for (let turn = 0; turn < (size > 1_000_000 ? 1 : 3); turn++) {
        const device = await new Device(edge, relay, "LongLived").establish();
        const origin = await relay.next();
        await device.up("go");
        await origin.take(2);
        const tail = randomBytes(size);
        origin.socket.end(tail);
        // A device that takes the POST's answer for the end must have received the rest by then, read or not.
        await assertRefused(device.post, "404 Not Found", "OriginClosed");
        await assertCame(device.get, size);
        await assertCut(device, tail);
        await finish(edge, relay, device);
      }
    });
  }

  it("LongLived: a half-close does not truncate what the device still sends", async () => {
    const relay = edge.relay();
    relay.stopped = true;
    const device = await new Device(edge, relay, "LongLived").establish();
    const origin = await relay.next();
    await device.up("on its way");
    await assertCame(origin, 10);
    origin.fin();
    await assertCut(device);
    origin.socket.resume();
    assertOctets(await origin.take(10), "on its way");
    await finish(edge, relay, device);
  });

  it("LongLived: a close after bulk transfer in both directions ends both requests", async () => {
    const { relay, device, origin } = await connect(edge, "LongLived");
    const bulk = randomBytes(2_000_000);
    device.post.write(bulk);
    assertOctets(await origin.take(bulk.length), bulk);
    origin.write(bulk);
    assertOctets(await device.down(bulk.length), bulk);
    await device.talk(origin);
    origin.socket.end("the last");
    await assertRefused(device.post, "404 Not Found", "OriginClosed");
    await assertCut(device, "the last");
    await finish(edge, relay, device);
  });

  for (const kind of KINDS) {
    it(`${kind}: a reset ends the virtual connection`, async () => {
      const { relay, device, origin } = await connect(edge, kind);
      await device.talk(origin);
      if (kind === "KeepAlive") await assertRead(edge, await device.sendGet());
      origin.reset();
      if (kind === "LongLived") await assertCut(device);
      else await assertRefused(device.get, "404 Not Found", "OriginReset");
      if (kind === "KeepAlive") await device.sendPost("late");
      await assertRefused(device.post, "404 Not Found", "OriginReset");
      await finish(edge, relay, device);
    });

    it(`${kind}: a reset while the relay does not read ends the virtual connection`, async () => {
      const relay = edge.relay();
      relay.stopped = true;
      const device = await new Device(edge, relay, kind).establish();
      const origin = await relay.next();
      if (kind === "LongLived") {
        device.post.write(Buffer.alloc(32_000_000));
        await eventually("octets pile up at the device", () => device.post.socket.bytesWritten > 4_000_000);
      } else {
        await device.up(Buffer.alloc(32768));
        await device.up(Buffer.alloc(32768));
      }
      origin.reset();
      if (kind === "KeepAlive") {
        await assertRefused(await device.sendGet(), "404 Not Found", "OriginReset");
      } else {
        await assertCut(device);
        await device.post.closed();
      }
      await finish(edge, relay, device);
    });
  }

  it("KeepAlive: a close ends a parked GET", async () => {
    const { relay, device, origin } = await connect(edge, "KeepAlive");
    await device.talk(origin);
    await assertRead(edge, await device.sendGet());
    origin.fin();
    await assertRefused(device.get, "404 Not Found", "OriginClosed");
    await assertRefused(await device.sendPost("late"), "404 Not Found", "OriginClosed");
    await finish(edge, relay, device);
  });

  it("KeepAlive: a close without a parked GET delivers the last octets first", async () => {
    const { relay, device, origin } = await connect(edge, "KeepAlive");
    const tail = randomBytes(100_000);
    origin.socket.end(tail);
    assertOctets(await device.down(tail.length), tail);
    await assertRefused(await device.sendGet(), "404 Not Found", "OriginClosed");
    await finish(edge, relay, device);
  });

  it("Polling: a close delivers the last octets first", async () => {
    const relay = edge.relay();
    const device = new PollingDevice(edge, relay);
    const origin = await device.establish(relay);
    const tail = randomBytes(50_000).toString("hex");
    origin.socket.end(tail);
    let came = "";
    while (came.length < tail.length) came += (await device.exchange(""))[1];
    assert.equal(came, tail);
    await device.assertRefused(device.next(""), "404 Not Found", "OriginClosed");
    await assertNothingLeft(edge, relay, device.guid);
  });

  it("Polling: a reset ends the virtual connection", async () => {
    const relay = edge.relay();
    const device = new PollingDevice(edge, relay);
    const origin = await device.establish(relay);
    origin.reset();
    await device.assertRefused(device.next(""), "404 Not Found", "OriginReset");
    await assertNothingLeft(edge, relay, device.guid);
  });

  it("Polling: a close before the first octets ends the virtual connection", async () => {
    const relay = edge.relay();
    const device = new PollingDevice(edge, relay);
    assert.deepEqual(await device.exchange(""), [0, ""]);
    const held = await device.send(device.next("hello"));
    const origin = await relay.next();
    assertOctets(await origin.take(5), "hello");
    origin.fin();
    await assertRefused(held, "404 Not Found", "OriginClosed");
    await assertNothingLeft(edge, relay, device.guid);
    held.reset();
  });
});
