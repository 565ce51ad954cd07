/** Hold times and timeouts in real time, all at once. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import type { Socket } from "node:net";
import { execPath } from "node:process";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { RawSocket } from "../support/sockets.ts";
import { PollingDevice } from "./polling-device.ts";
import {
  assertBody,
  assertCut,
  assertEmpty,
  assertNothingLeft,
  assertOctets,
  assertRead,
  assertRefused,
  connect,
  Device,
  ECHO,
  eventually,
  finish,
  sink,
  startTestEdge,
  type TestEdge,
  tunnelStatus,
  writeAll,
} from "./support.ts";

const KINDS = ["LongLived", "KeepAlive"] as const;
/** Seconds of the edge's timeouts, and how late one may be on a busy machine. */
const HOLD = 25_000;
const ESTABLISHMENT = 30_000;
const RECEIVE = 60_000;
const LATE = 30_000;
/** Longer than the time after which the runtime evicts an idle object. */
const SLEEP = 20_000;

describe("timeouts", { concurrency: true }, () => {
  let edge: TestEdge;
  let silent: SilentRelay;
  before(async () => {
    silent = await startSilentRelay();
    edge = await startTestEdge(24, [silent.name]);
  });
  after(async () => {
    silent.stop();
    await edge.close();
  });

  /**
   * Waits for something that must happen this long after its cause, and asserts that it does not happen earlier.
   *
   * @param began a moment before the cause
   */
  async function assertAfter<T>(began: number, time: number, what: Promise<T>): Promise<T> {
    const value = await what;
    const took = Date.now() - began;
    // Timers of different processes may round differently.
    assert(took > time - 100, `after ${took} ms, not ${time}`);
    return value;
  }

  async function assertEnded(began: number, guid: string, reason: string, time: number): Promise<void> {
    const over = async () => !(await tunnelStatus(edge, guid)).live;
    await assertAfter(began, time, eventually("the virtual connection ends", over, time + LATE));
    assert.equal((await tunnelStatus(edge, guid)).ended, reason);
  }

  for (const kind of KINDS) {
    it(`${kind}: a GET without a POST is refused after 30 s [3.2.2.1, 3.4.2.1]`, async () => {
      const relay = edge.relay();
      const device = new Device(edge, relay, kind);
      const began = Date.now();
      await device.sendGet();
      const refused = assertRefused(device.get, "408 Request Time-out", "EstablishmentTimeout", ESTABLISHMENT + LATE);
      await assertAfter(began, ESTABLISHMENT, refused);
      await assertRefused(await device.sendPost(ECHO), "408 Request Time-out", "EstablishmentTimeout");
      await finish(edge, relay, device);
    });

    it(`${kind}: a POST without a GET is refused after 30 s`, async () => {
      const relay = edge.relay();
      const device = new Device(edge, relay, kind);
      const began = Date.now();
      await device.sendPost(ECHO);
      if (kind === "KeepAlive") {
        assertEmpty(await device.post.response());
        await assertEnded(began, device.guid, "EstablishmentTimeout", ESTABLISHMENT);
      } else {
        const refused = assertRefused(
          device.post,
          "408 Request Time-out",
          "EstablishmentTimeout",
          ESTABLISHMENT + LATE,
        );
        await assertAfter(began, ESTABLISHMENT, refused);
      }
      await assertRefused(await device.sendGet(), "408 Request Time-out", "EstablishmentTimeout");
      await finish(edge, relay, device);
    });

    it(`${kind}: both requests are refused when the relay does not answer within 10 s`, async () => {
      const device = new Device(edge, silent.name, kind);
      await device.sendGet();
      await device.known();
      await device.sendPost(ECHO);
      await assertRefused(device.get, "500 Internal Server Error", "OriginUnreachable");
      await assertRefused(device.post, "500 Internal Server Error", "OriginUnreachable");
      await assertNothingLeft(edge, undefined, device.guid);
      device.reset();
    });

    for (const first of ["GET", "POST"] as const) {
      it(`${kind}: a device that resets its ${first === "GET" ? "POST" : "GET"} while the relay is dialled leaves nothing behind`, async () => {
        const device = new Device(edge, silent.name, kind);
        if (first === "GET") await device.sendGet();
        else await device.sendPost(ECHO);
        await device.known();
        if (kind === "KeepAlive" && first === "POST") assertEmpty(await device.post.response());
        const second = first === "GET" ? await device.sendPost(ECHO) : await device.sendGet();
        await assertRead(edge, second);
        second.reset();
        await assertNothingLeft(edge, undefined, device.guid);
        if (first === "GET") await device.get.until((received) => received.length > 0);
        device.reset();
      });
    }
  }

  for (const kind of KINDS) {
    for (const first of ["GET", "POST"] as const) {
      it(`${kind}: a ${first} waits for a slow second request`, async () => {
        const relay = edge.relay();
        const device = new Device(edge, relay, kind);
        // The edge is not queried meanwhile: an idle object hibernates.
        if (first === "GET") await device.sendGet();
        else await device.sendPost(ECHO);
        await sleep(SLEEP);
        if (first === "GET") await device.sendPost(ECHO);
        else await device.sendGet();
        await device.established();
        const origin = await relay.next();
        if (kind === "KeepAlive") device.post = await device.open();
        await device.talk(origin);
        await device.leave();
        await assertNothingLeft(edge, relay, device.guid);
      });
    }
  }

  it("Polling: a probe waits for a slow last handshake request", async () => {
    const relay = edge.relay();
    const device = new PollingDevice(edge, relay);
    assert.deepEqual(await device.exchange(""), [0, ""]);
    await sleep(SLEEP);
    const last = device.exchange("hello");
    const origin = await relay.next();
    assertOctets(await origin.take(5), "hello");
    origin.write("world");
    assert.deepEqual(await last, [0, "world"]);
    origin.fin();
    await device.assertRefused(device.next(""), "404 Not Found", "OriginClosed");
    await assertNothingLeft(edge, relay, device.guid);
  });

  it("KeepAlive: a virtual connection without an outstanding request stays open", async () => {
    const { relay, device, origin } = await connect(edge, "KeepAlive");
    await device.talk(origin);
    await sleep(SLEEP);
    device.reset();
    device.post = await device.open();
    device.get = await device.open();
    await device.talk(origin);
    await device.leave();
    await assertNothingLeft(edge, relay, device.guid);
  });

  it("Polling: a virtual connection survives a long pause between polls", async () => {
    const relay = edge.relay();
    const device = new PollingDevice(edge, relay);
    const origin = await device.establish(relay);
    origin.write("down");
    assert.deepEqual(await device.exchange(""), [1, "down"]);
    await sleep(SLEEP);
    const meanwhile = device.exchange("up");
    assertOctets(await origin.take(2), "up");
    assert.deepEqual(await meanwhile, [2, ""]);
    origin.fin();
    await device.assertRefused(device.next(""), "404 Not Found", "OriginClosed");
    await assertNothingLeft(edge, relay, device.guid);
  });

  it("Polling: a probe without a handshake is forgotten after 30 s [3.6.5.1]", async () => {
    const relay = edge.relay();
    const device = new PollingDevice(edge, relay);
    const began = Date.now();
    assert.deepEqual(await device.exchange(""), [0, ""]);
    await assertEnded(began, device.guid, "EstablishmentTimeout", ESTABLISHMENT);
    await device.assertRefused(device.next("late"), "408 Request Time-out", "EstablishmentTimeout");
    await assertNothingLeft(edge, relay, device.guid);
  });

  it("Polling: the last handshake request waits 30 s for the relay's first octets", async () => {
    const relay = edge.relay();
    const device = new PollingDevice(edge, relay);
    const began = Date.now();
    assert.deepEqual(await device.exchange(""), [0, ""]);
    const held = await device.send(device.next("hello"));
    const refused = assertRefused(held, "408 Request Time-out", "EstablishmentTimeout", ESTABLISHMENT + LATE);
    await assertAfter(began, ESTABLISHMENT, refused);
    await assertNothingLeft(edge, relay, device.guid);
    held.reset();
  });

  it("KeepAlive: a device that disappears between two requests is dropped after 60 s", async () => {
    const relay = edge.relay();
    const device = await new Device(edge, relay, "KeepAlive").establish();
    const began = Date.now();
    await device.talk(await relay.next());
    device.reset();
    await assertEnded(began, device.guid, "ReceiveTimeout", RECEIVE);
    await assertNothingLeft(edge, relay, device.guid);
  });

  it("KeepAlive: a device that silently drops its parked GET is dropped after 60 s", async () => {
    const relay = edge.relay();
    const device = await new Device(edge, relay, "KeepAlive").establish();
    const began = Date.now();
    await device.talk(await relay.next());
    await assertRead(edge, await device.sendGet());
    // The platform does not report a half-close by itself.
    device.get.fin();
    device.post.fin();
    await assertEnded(began, device.guid, "ReceiveTimeout", RECEIVE);
    await finish(edge, relay, device);
  });

  it("LongLived: a silent device is dropped after 60 s", async () => {
    const relay = edge.relay();
    const device = await new Device(edge, relay, "LongLived").establish();
    const began = Date.now();
    await device.talk(await relay.next());
    await assertAfter(began, RECEIVE, device.get.closed(RECEIVE + LATE));
    await assertCut(device);
    await assertRefused(device.post, "408 Request Time-out", "ReceiveTimeout");
    await finish(edge, relay, device);
  });

  it("LongLived: a device that is blocked for more than 60 s does not count as silent", async () => {
    const relay = edge.relay();
    relay.stopped = true;
    const device = await new Device(edge, relay, "LongLived").establish();
    const origin = await relay.next();
    const octets = randomBytes(48 * 1024 * 1024);
    const writing = writeAll(device.post.socket, octets);
    await sleep(RECEIVE + 2000);
    const came = sink(origin);
    origin.socket.resume();
    await writing;
    await eventually("all octets come", () => came.count >= octets.length);
    assert.equal(came.hash.digest("hex"), createHash("sha256").update(octets).digest("hex"));
    device.reset();
    await assertNothingLeft(edge, relay, device.guid);
  });

  it("KeepAlive: a GET is held for 25 s, then answered with an empty body [3.4.5.1.2]", async () => {
    const { relay, device, origin } = await connect(edge, "KeepAlive");
    const began = Date.now();
    await device.sendGet();
    assertEmpty(await assertAfter(began, HOLD, device.get.response(HOLD + LATE)));
    // The platform, like any server, may have closed the idle POST connection meanwhile.
    device.post.reset();
    device.post = await device.open();
    await device.talk(origin);
    // A late GET also finds what the relay has sent meanwhile.
    origin.write("meanwhile");
    await eventually("it is sent", () => origin.socket.writableLength === 0);
    assertBody(await (await device.sendGet()).response(), "meanwhile");
    await device.leave();
    await assertNothingLeft(edge, relay, device.guid);
  });

  it("KeepAlive: a GET is held for as long as the device asks for, if that is less", async () => {
    const relay = edge.relay();
    const device = await new Device(edge, relay, "KeepAlive").establish();
    const began = Date.now();
    await device.sendGet(`${device.target}?Hold=2`);
    assertEmpty(await assertAfter(began, 2000, device.get.response(HOLD - 2000)));
    await device.leave();
    await assertNothingLeft(edge, relay, device.guid);
  });

  it("KeepAlive: octets that arrive just as the hold time ends are not lost", async () => {
    const relay = edge.relay();
    const origins: Socket[] = [];
    relay.serve = (socket) => {
      origins.push(socket);
      socket.resume();
      socket.on("end", () => socket.end());
    };
    const devices = await Promise.all(
      Array.from({ length: 32 }, () => new Device(edge, relay, "KeepAlive").establish()),
    );
    for (const device of devices) await device.sendGet();
    const time = Date.now() + HOLD;
    await eventually("the relay knows of all", () => origins.length === devices.length);
    const texts = origins.map((_, index) => `octets of ${index}`);
    // Around the deadline, mostly before it: the first GETs were sent some time before the last.
    const writing = origins.map(async (socket, index) => {
      await sleep(time - Date.now() + index * 15 - 400);
      socket.write(texts[index] ?? "");
    });
    let empty = 0;
    const came = await Promise.all(
      devices.map(async (device) => {
        const first = await device.get.response(HOLD + LATE);
        if (first.body.length > 0) return first.body.toString();
        empty += 1;
        assertEmpty(first);
        return (await (await device.sendGet()).response(HOLD + LATE)).body.toString();
      }),
    );
    await Promise.all(writing);
    assert.deepEqual(came.toSorted(), texts.toSorted());
    assert(empty < devices.length, "some octets arrived in time");
    await Promise.all(devices.map((device) => device.leave()));
    await assertNothingLeft(edge, relay, ...devices.map(({ guid }) => guid));
  });
});

interface SilentRelay {
  readonly name: string;
  stop(): void;
}

/** A relay whose host no longer accepts connections: the process listens but never accepts, with a full backlog. */
async function startSilentRelay(): Promise<SilentRelay> {
  const program = `
    const server = require("node:net").createServer().listen({ port: 0, host: "127.0.0.1", backlog: 1 }, () => {
      require("node:fs").writeSync(1, String(server.address().port));
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    });`;
  const child: ChildProcess = spawn(execPath, ["-e", program], { stdio: ["ignore", "pipe", "inherit"] });
  assert(child.stdout);
  const [port] = await once(child.stdout, "data");
  const name = `127.0.0.1:${port}`;
  const waiting = await Promise.all([RawSocket.open(Number(port)), RawSocket.open(Number(port))]);
  return {
    name,
    stop() {
      for (const socket of waiting) socket.reset();
      child.kill("SIGKILL");
    },
  };
}
