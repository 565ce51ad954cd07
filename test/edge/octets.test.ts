/** Data arrives complete, once, and in order. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { PollingDevice } from "./polling-device.ts";
import {
  assertNothingLeft,
  assertOctets,
  assertRefused,
  connect,
  Device,
  eventually,
  sink,
  startTestEdge,
  type TestEdge,
  writeAll,
} from "./support.ts";

const MANY = 32 * 1024 * 1024;

describe("data", () => {
  let edge: TestEdge;
  before(async () => {
    edge = await startTestEdge(12);
  });
  after(() => edge.close());

  it("LongLived: 32 MiB arrive intact in both directions at once, in pieces of all sizes and with pauses", async () => {
    const relay = edge.relay();
    relay.serve = (socket) => {
      socket.pipe(socket);
    };
    const device = await new Device(edge, relay, "LongLived").establish();
    const came = sink(device.get);
    const octets = randomBytes(MANY);
    // Small pieces with pauses are carried by single calls, bulk by a stream: this covers both, and every switch.
    let pauses = 60;
    const pieceSize = () => {
      const most = 2 ** (Math.random() * 20);
      return 1 + Math.floor(Math.random() * most);
    };
    for (let from = 0; from < octets.length; ) {
      const run = octets.subarray(from, from + Math.floor(Math.random() * 1_500_000));
      from += run.length;
      await writeAll(device.post.socket, run, pieceSize);
      if (pauses-- > 0) await sleep(Math.random() * 50);
    }
    await eventually("all octets come back", () => came.count >= octets.length, 60_000);
    assert.equal(came.count, octets.length);
    assert.equal(came.hash.digest("hex"), createHash("sha256").update(octets).digest("hex"));
    device.reset();
    await assertNothingLeft(edge, relay, device.guid);
  });

  it("LongLived: each small message arrives at once, even after the pump changes its mode", async () => {
    const { relay, device, origin } = await connect(edge, "LongLived");
    for (let turn = 0; turn < 20; turn++) {
      await device.talk(origin);
      const bulk = randomBytes(200_000);
      device.post.write(bulk);
      assertOctets(await origin.take(bulk.length), bulk);
      origin.write(bulk);
      assertOctets(await device.down(bulk.length), bulk);
    }
    device.reset();
    await assertNothingLeft(edge, relay, device.guid);
  });

  it("KeepAlive: 10,000 small writes of the relay keep their order among POSTs of the device", async () => {
    const { relay, device, origin } = await connect(edge, "KeepAlive");
    const down = Buffer.concat(Array.from({ length: 10_000 }, (_, index) => Buffer.from(`${index} `)));
    const up = Buffer.concat(Array.from({ length: 300 }, (_, index) => Buffer.from(`${index}-`)));
    const writing = (async () => {
      for (let index = 0; index < 10_000; index++) {
        origin.write(`${index} `);
        // Sometimes the relay waits, so that a GET is parked when the next octets arrive.
        if (index % 50 === 0) await sleep(1);
      }
    })();
    const posting = (async () => {
      for (let index = 0; index < 300; index++) await device.up(`${index}-`);
    })();
    assertOctets(await device.down(down.length), down);
    await Promise.all([writing, posting]);
    assertOctets(await origin.take(up.length), up);
    await device.leave();
    await assertNothingLeft(edge, relay, device.guid);
  });

  it("KeepAlive: 8 MiB arrive intact in both directions at once, in bodies of at most 32768 octets", async () => {
    const relay = edge.relay();
    relay.serve = (socket) => {
      socket.pipe(socket);
    };
    const device = await new Device(edge, relay, "KeepAlive").establish();
    const octets = randomBytes(8 * 1024 * 1024);
    const posting = (async () => {
      for (let from = 0; from < octets.length; from += 32768) await device.up(octets.subarray(from, from + 32768));
    })();
    const hash = createHash("sha256");
    for (let count = 0; count < octets.length; ) {
      const { status, body } = await (await device.sendGet()).response();
      assert.equal(status, "HTTP/1.0 200 OK");
      assert(body.length <= 32768, `a body of ${body.length} octets`);
      hash.update(body);
      count += body.length;
    }
    await posting;
    assert.equal(hash.digest("hex"), createHash("sha256").update(octets).digest("hex"));
    await device.leave();
    await assertNothingLeft(edge, relay, device.guid);
  });

  it("Polling: a repeated request gets the same answer, and the relay gets its data once", async () => {
    const relay = edge.relay();
    const device = new PollingDevice(edge, relay);
    // The probe's answer is lost.
    const probe = device.next("");
    const first = await device.answer(await device.send(probe));
    assertOctets((await device.answer(await device.send(probe))).body, first.body);
    const last = device.next("hello");
    const held = await device.send(last);
    const origin = await relay.next();
    await origin.take(5);
    // The last request of the handshake is repeated while it is held: the older one is replaced.
    const again = await device.send(last);
    await assertRefused(held, "400 Bad Request", "SecondPost");
    origin.write("world");
    const answered = await device.answer(again);
    assert.deepEqual([answered.sequence, answered.data], [0, "world"]);
    assertOctets((await device.answer(await device.send(last))).body, answered.body);
    // And an ordinary request, also when the relay has sent more meanwhile.
    for (const data of ["one", "two", "three"]) {
      const body = device.next(data);
      const answer = await device.answer(await device.send(body));
      assert.equal(answer.sequence, device.sequence - 1);
      origin.write(data);
      for (let time = 0; time < 2; time++) {
        assertOctets((await device.answer(await device.send(body))).body, answer.body);
      }
      assert.equal((await device.exchange(""))[1], data);
    }
    assertOctets(await origin.take(11), "onetwothree");
    origin.fin();
    await device.assertRefused(device.next(""), "404 Not Found", "OriginClosed");
    assert.equal(origin.received.length, 0);
    await assertNothingLeft(edge, relay, device.guid);
  });

  it("Polling: what a relay sends in bulk comes without an answer of a few octets between two full ones", async () => {
    const relay = edge.relay();
    const device = new PollingDevice(edge, relay);
    const origin = await device.establish(relay);
    const octets = 1024 * 1024;
    void writeAll(origin.socket, randomBytes(octets));
    const sizes: number[] = [];
    for (let came = 0; came < octets; ) {
      const [, data] = await device.exchange("");
      came += data.length;
      if (data.length > 0) sizes.push(data.length);
    }
    const crumbs = sizes.slice(0, -1).filter((size) => size < 1000);
    assert.deepEqual(crumbs, [], `of ${sizes.length} answers`);
    origin.fin();
    await device.assertRefused(device.next(""), "404 Not Found", "OriginClosed");
    await assertNothingLeft(edge, relay, device.guid);
  });

  it("Polling: 2 MiB arrive intact in each direction", async () => {
    const relay = edge.relay();
    const device = new PollingDevice(edge, relay);
    const origin = await device.establish(relay);
    const octets = randomBytes(2 * 1024 * 1024);
    const up = sink(origin);
    void writeAll(origin.socket, octets);
    const down = createHash("sha256");
    let sent = 0;
    for (let came = 0; came < octets.length || sent < octets.length; ) {
      const piece = octets.subarray(sent, sent + 32_000);
      sent += piece.length;
      const data = Buffer.from((await device.exchange(piece))[1], "latin1");
      down.update(data);
      came += data.length;
    }
    const hash = createHash("sha256").update(octets).digest("hex");
    assert.equal(down.digest("hex"), hash);
    await eventually("all octets come up", () => up.count >= octets.length);
    assert.equal(up.hash.digest("hex"), hash);
    origin.fin();
    await device.assertRefused(device.next(""), "404 Not Found", "OriginClosed");
    await assertNothingLeft(edge, relay, device.guid);
  });
});
