/** A slow reader blocks its writer, and the edge buffers next to nothing for either. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { after, before, describe, it } from "node:test";
import { PollingDevice } from "./polling-device.ts";
import {
  assertNothingLeft,
  assertOctets,
  assertRefused,
  connect,
  Device,
  edgeMemory,
  eventually,
  sink,
  startTestEdge,
  type TestEdge,
  whenBlocked,
  writeAll,
} from "./support.ts";

const MiB = 1024 * 1024;
const ATTEMPT = 64 * MiB;
/** Two connections on one machine, each with full kernel buffers for sender and receiver. */
const KERNEL = 32 * MiB;

describe("back-pressure", () => {
  let edge: TestEdge;
  const octets = randomBytes(ATTEMPT);
  const hash = createHash("sha256").update(octets).digest("hex");
  before(async () => {
    edge = await startTestEdge(8);
  });
  after(() => edge.close());

  it("LongLived: a relay that stops reading blocks the device; nothing is lost when it resumes", async () => {
    const relay = edge.relay();
    relay.stopped = true;
    const device = await new Device(edge, relay, "LongLived").establish();
    const origin = await relay.next();
    const before = edgeMemory();
    const writing = writeAll(device.post.socket, octets);
    const taken = await whenBlocked(device.post.socket);
    assert(taken < KERNEL, `${taken} octets were taken for a relay that reads none`);
    assert(edgeMemory() - before < ATTEMPT, "the edge does not buffer them");
    // The other direction is unaffected.
    origin.write("still here");
    assertOctets(await device.down(10), "still here");
    const came = sink(origin);
    origin.socket.resume();
    await writing;
    await eventually("all octets come", () => came.count >= octets.length);
    assert.equal(came.hash.digest("hex"), hash);
    device.reset();
    await assertNothingLeft(edge, relay, device.guid);
  });

  it("LongLived: a device that stops reading blocks the relay; nothing is lost when it resumes", async () => {
    const { relay, device, origin } = await connect(edge, "LongLived");
    await device.up("go");
    await origin.take(2);
    device.get.socket.pause();
    const before = edgeMemory();
    const writing = writeAll(origin.socket, octets);
    const taken = await whenBlocked(origin.socket);
    assert(taken < KERNEL, `${taken} octets were taken for a device that reads none`);
    assert(edgeMemory() - before < ATTEMPT, "the edge does not buffer them");
    await device.up("still here");
    assertOctets(await origin.take(10), "still here");
    const came = sink(device.get);
    device.get.socket.resume();
    await writing;
    await eventually("all octets come", () => came.count >= octets.length);
    assert.equal(came.hash.digest("hex"), hash);
    device.reset();
    await assertNothingLeft(edge, relay, device.guid);
  });

  it("KeepAlive: a relay that stops reading delays the POST; nothing is lost when it resumes", async () => {
    const relay = edge.relay();
    relay.stopped = true;
    const device = await new Device(edge, relay, "KeepAlive").establish();
    const origin = await relay.next();
    const before = edgeMemory();
    let sent = 0;
    let held = false;
    while (!held) {
      assert(sent < KERNEL, `${sent} octets were taken for a relay that reads none`);
      const answered = device.up(octets.subarray(sent, sent + 32768));
      sent += 32768;
      held = (await Promise.race([answered, whenBlocked(device.post.socket)])) !== undefined;
      if (!held) continue;
      assert(edgeMemory() - before < ATTEMPT, "the edge does not buffer them");
      origin.write("still here");
      assertOctets(await device.down(10), "still here");
      origin.socket.resume();
      await answered;
    }
    assertOctets(await origin.take(sent), octets.subarray(0, sent));
    await device.leave();
    await assertNothingLeft(edge, relay, device.guid);
  });

  it("KeepAlive: a device that sends no GET blocks the relay; nothing is lost when it resumes", async () => {
    const { relay, device, origin } = await connect(edge, "KeepAlive");
    const before = edgeMemory();
    void writeAll(origin.socket, octets);
    const taken = await whenBlocked(origin.socket);
    assert(taken < KERNEL, `${taken} octets were taken for a device that reads none`);
    assert(edgeMemory() - before < ATTEMPT, "the edge does not buffer them");
    await device.up("still here");
    assertOctets(await origin.take(10), "still here");
    const came = await device.down(4 * MiB);
    assertOctets(came, octets.subarray(0, came.length));
    // What the relay has sent is still delivered when it resumes, and no more.
    origin.reset();
    let at = came.length;
    for (;;) {
      const { status, headers, body } = await (await device.sendGet()).response();
      if (status !== "HTTP/1.0 200 OK") {
        assert.match(headers, /^grooveway-reason: OriginReset$/im);
        break;
      }
      assertOctets(body, octets.subarray(at, at + body.length));
      at += body.length;
      assert(at < ATTEMPT);
    }
    device.reset();
    await assertNothingLeft(edge, relay, device.guid);
  });

  it("Polling: a relay that stops reading delays the request, even when it is repeated", async () => {
    const relay = edge.relay();
    const device = new PollingDevice(edge, relay);
    const origin = await device.establish(relay);
    origin.socket.pause();
    const before = edgeMemory();
    const piece = 32_000;
    for (let sent = 0; ; sent += piece) {
      assert(sent < KERNEL, `${sent} octets were taken for a relay that reads none`);
      const body = device.next(octets.subarray(sent, sent + piece));
      const request = await device.send(body);
      const answered = device.answer(request);
      if ((await Promise.race([answered, whenBlocked(request.socket)])) instanceof Object) continue;
      answered.catch(() => undefined);
      // The device believes that its request was lost: the repeated one replaces the first.
      const again = await device.send(body);
      await whenBlocked(again.socket);
      assert.equal(again.received.length, 0, "no answer before the relay has taken it");
      // A device that sends another anyway has two requests outstanding.
      const next = await device.send(device.next("too early"));
      await assertRefused(next, "400 Bad Request", "SecondPost");
      await assertRefused(again, "400 Bad Request", "SecondPost");
      assert(edgeMemory() - before < ATTEMPT, "the edge does not buffer them");
      for (const socket of [request, again, next]) socket.reset();
      break;
    }
    origin.socket.resume();
    await assertNothingLeft(edge, relay, device.guid);
  });
});
