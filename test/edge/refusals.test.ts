/** What the edge refuses, and that a refusal affects only the refused client. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { RawSocket } from "../support/sockets.ts";
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
  finish,
  LONG,
  newGuid,
  RELAY_NAME,
  startTestEdge,
  type TestEdge,
} from "./support.ts";

const KINDS = ["LongLived", "KeepAlive"] as const;

describe("refusals", { concurrency: true }, () => {
  let edge: TestEdge;
  before(async () => {
    edge = await startTestEdge(40);
  });
  after(() => edge.close());

  /** Sends a request of any method to a target and expects a refusal. */
  async function assertTarget(target: string, pair: string, reason: string, methods = ["GET", "POST"]): Promise<void> {
    for (const method of methods) {
      const socket = await edge.open();
      const body = method === "GET" ? "\r\n" : `Content-Length: ${ECHO.length}\r\n\r\n${ECHO}`;
      socket.write(`${method} ${target} HTTP/1.0\r\nHost: server.domain.net\r\n${body}`);
      await assertRefused(socket, pair, reason);
      socket.reset();
    }
  }

  function targets(relay: string, guid: string, version = "2.0"): string[] {
    return [
      `/${version}/${relay}/${guid},ConnType=LongLived,ContentLength=${LONG}`,
      `/${version}/${relay}/${guid},ConnType=KeepAlive`,
    ];
  }

  it("a relay that is not allowed is refused [3.2.5.1.1 step 4]", async () => {
    const guid = newGuid();
    for (const relay of ["relay.elsewhere.example", "127.0.0.1:1", "127.0.0.9", "[::2]:2492", "169.254.169.254"]) {
      for (const target of targets(relay, guid)) await assertTarget(target, "403 Not Valid", "RelayNotAllowed");
    }
    const polling = new PollingDevice(edge, "relay.elsewhere.example", guid);
    await polling.assertRefused(polling.body(""), "403 Not Valid", "RelayNotAllowed");
    await assertNothingLeft(edge, undefined, guid);
  });

  it("a wrong version is refused [3.2.5.1.1.2, 3.4.5.1.1.2, 3.6.5]", async () => {
    const guid = newGuid();
    const relay = edge.relay();
    for (const target of [...targets(relay.name, guid, "1.0"), ...targets(relay.name, guid, "2.1")]) {
      await assertTarget(target, "400 Bad Request", "WrongVersion");
    }
    const polling = new PollingDevice(edge, relay, guid);
    const body = Buffer.from(polling.body("").toString("latin1").replace("1.2", "1.1"), "latin1");
    await polling.assertRefused(body, "400 Bad Request", "WrongVersion");
    await assertNothingLeft(edge, relay, guid);
  });

  it("a malformed target is refused [3.2.5.1.1 step 1]", async () => {
    const guid = newGuid();
    const relay = edge.relay();
    const stem = `/2.0/${relay.name}`;
    for (const target of [
      `${stem}/${guid}`,
      `${stem}/short,ConnType=KeepAlive`,
      `${stem}/${guid},ConnType=LongLived`,
      `${stem}/${guid},ConnType=LongLived,ContentLength=2147479553`,
      `${stem}/${guid},ConnType=LongLived,ContentLength=0`,
      `${stem}/${guid},ConnType=KeepAlive,Other=1`,
      `${stem}/${guid},ConnType=KeepAlive,ID=`,
      `${stem}/more/${guid},ConnType=KeepAlive`,
      `/2.0/not%20a%20name/${guid},ConnType=KeepAlive`,
      "/2.0/",
      "/2.0",
    ]) {
      await assertTarget(target, "400 Bad Request", "MalformedTarget");
    }
    await assertNothingLeft(edge, relay, guid);
  });

  it("an unknown ConnType is refused [3.2.5.1.1 step 3]", async () => {
    const guid = newGuid();
    const relay = edge.relay();
    for (const type of ["LongDead", "Polling", ""]) {
      const target = `/2.0/${relay.name}/${guid},ConnType=${type}`;
      await assertTarget(target, "400 Bad Request", "WrongEncapsulation");
    }
    // A WebSocket, Grooveway's own transport, ends at an edge: an origin relay does not speak it.
    await assertTarget(`/2.0/${relay.name}/${guid},ConnType=WebSocket`, "501 Not Implemented", "WebSocketNotPassed");
    await assertTarget(`/2.0/${RELAY_NAME}/${guid},ConnType=WebSocket`, "400 Bad Request", "UpgradeNeeded");
    await assertNothingLeft(edge, relay, guid);
  });

  for (const kind of KINDS) {
    it(`${kind}: a wrong method is refused, without effect on other virtual connections`, async () => {
      const relay = edge.relay();
      const device = await new Device(edge, relay, kind).establish();
      await assertTarget(device.target, "501 Not Implemented", "MethodNotImplemented", ["PUT", "DELETE", "OPTIONS"]);
      const socket = await device.open();
      socket.write(`HEAD ${device.target} HTTP/1.0\r\nHost: server.domain.net\r\n\r\n`);
      assert.equal((await socket.head()).status, "HTTP/1.0 501 Not Implemented");
      socket.reset();
      await device.talk(await relay.next());
      await device.leave();
      await assertNothingLeft(edge, relay, device.guid);
    });

    it(`${kind}: a relay that refuses TCP leads to refusal of both requests`, async () => {
      for (const first of ["get", "post"]) {
        const device = new Device(edge, edge.closedRelay, kind);
        if (first === "get") await device.sendGet();
        else await device.sendPost(ECHO);
        await device.known();
        if (first === "post") await device.sendGet();
        else await device.sendPost(ECHO);
        await assertRefused(device.get, "500 Internal Server Error", "OriginUnreachable");
        // The POST of a KeepAlive handshake is answered on arrival, with or without a GET.
        if (kind === "KeepAlive" && first === "post") assertEmpty(await device.post.response());
        else await assertRefused(device.post, "500 Internal Server Error", "OriginUnreachable");
        await assertNothingLeft(edge, undefined, device.guid);
        device.reset();
      }
    });

    it(`${kind}: a second concurrent GET ends the virtual connection`, async () => {
      const { relay, device, origin } = await connect(edge, kind);
      await device.talk(origin);
      if (kind === "KeepAlive") await assertRead(edge, await device.sendGet());
      const second = await device.sendGet(device.target, await device.open());
      // The order in which two KeepAlive GETs reach the virtual connection is not defined.
      const [one, other] = kind === "LongLived" ? [second, undefined] : [second, device.get];
      await assertRefused(one, "400 Bad Request", "SecondGet");
      if (other === undefined) {
        await assertCut(device);
        await assertRefused(device.post, "400 Bad Request", "SecondGet");
      } else {
        await assertRefused(other, "400 Bad Request", "SecondGet");
      }
      await finish(edge, relay, device);
      second.reset();
    });

    it(`${kind}: a duplicate GUID with other properties is refused; the existing connection is unaffected`, async () => {
      const relay = edge.relay();
      const elsewhere = edge.relay();
      const device = await new Device(edge, relay, kind).establish();
      const origin = await relay.next();
      const { guid } = device;
      const others = [
        new Device(edge, elsewhere, kind, LONG, guid),
        new Device(edge, relay, kind === "LongLived" ? "KeepAlive" : "LongLived", LONG, guid),
        ...(kind === "LongLived" ? [new Device(edge, relay, kind, 4096, guid)] : []),
      ];
      for (const other of others) {
        await assertRefused(await other.sendGet(), "400 Bad Request", "DuplicateConnection");
        await assertRefused(await other.sendPost(ECHO), "400 Bad Request", "DuplicateConnection");
        // Nor when the request is malformed as well.
        const long = await other.open();
        await other.sendPost(Buffer.alloc(40_000), { length: 40_000, on: long });
        await assertRefused(long, "400 Bad Request", "DuplicateConnection");
        const gone = await other.open();
        await assertRead(edge, await other.sendPost("Gr", { length: 22, on: gone }));
        gone.reset();
        long.reset();
        other.reset();
        await device.talk(origin);
      }
      const polling = new PollingDevice(edge, relay, guid);
      await polling.assertRefused(polling.body(""), "400 Bad Request", "DuplicateConnection");
      await device.talk(origin);
      await device.leave();
      await assertNothingLeft(edge, relay, guid);
      await assertNothingLeft(edge, elsewhere);
    });

    it(`${kind}: anything but the echo string is refused`, async () => {
      const relay = edge.relay();
      const device = new Device(edge, relay, kind);
      await device.sendGet();
      await device.known();
      await device.sendPost("GroovePing: 2.0,Ping\r\n");
      await assertRefused(device.post, "400 Bad Request", "BadEcho");
      await assertRefused(device.get, "400 Bad Request", "BadEcho");
      await finish(edge, relay, device);
      // Without a GET the GUID is unknown, and a POST that cannot start it is told so.
      const stranger = new Device(edge, relay, kind);
      await assertRefused(await stranger.sendPost("data"), "404 Not Found", "UnknownConnection");
      await assertNothingLeft(edge, relay, stranger.guid);
      stranger.reset();
    });
  }

  it("LongLived: a second POST ends the virtual connection", async () => {
    const { relay, device, origin } = await connect(edge, "LongLived");
    await device.talk(origin);
    const second = await device.sendPost(ECHO, { on: await device.open() });
    await assertRefused(second, "400 Bad Request", "SecondPost");
    await assertRefused(device.post, "400 Bad Request", "SecondPost");
    await assertCut(device);
    await finish(edge, relay, device);
    second.reset();
  });

  it("KeepAlive: a second POST before the relay has taken the first ends the virtual connection", async () => {
    const relay = edge.relay();
    relay.stopped = true;
    const device = await new Device(edge, relay, "KeepAlive").establish();
    await relay.next();
    const body = Buffer.alloc(32768, 1);
    // One POST at a time is answered until the kernel's buffers to the relay are full.
    const { outstanding } = await fillUntilHeld(device, body);
    const second = await device.open();
    await device.sendPost(body, { on: second });
    await assertRefused(second, "400 Bad Request", "SecondPost");
    await assertRefused(outstanding, "400 Bad Request", "SecondPost");
    for (const socket of relay.server.connections) socket.resume();
    await finish(edge, relay, device);
    second.reset();
  });

  it("LongLived: data before 'Established' ends the virtual connection [3.2.5.2.2]", async () => {
    const relay = edge.relay();
    const device = new Device(edge, relay, "LongLived");
    await device.sendPost(`${ECHO}data`);
    await assertRefused(device.post, "400 Bad Request", "DataBeforeEstablished");
    await assertRefused(await device.sendGet(), "400 Bad Request", "DataBeforeEstablished");
    await finish(edge, relay, device);
  });

  it("KeepAlive: data before 'Established' ends the virtual connection", async () => {
    const relay = edge.relay();
    const device = new Device(edge, relay, "KeepAlive");
    assertEmpty(await (await device.sendPost(ECHO)).response());
    await assertRefused(await device.sendPost("data"), "400 Bad Request", "DataBeforeEstablished");
    await finish(edge, relay, device);
    // The echo string and data in one body are not a handshake either.
    const other = new Device(edge, relay, "KeepAlive");
    await other.sendGet();
    await other.known();
    await assertRefused(await other.sendPost(`${ECHO}data`), "400 Bad Request", "BadEcho");
    await assertRefused(other.get, "400 Bad Request", "BadEcho");
    await assertNothingLeft(edge, relay, other.guid);
    other.reset();
  });

  it("KeepAlive: a body of 32768 octets is accepted, a longer one ends the virtual connection [3.4.4.3]", async () => {
    const relay = edge.relay();
    const most = Buffer.alloc(32768, 7);
    const tooMuch = Buffer.alloc(32769, 8);
    const chunked = (octets: Buffer) =>
      Buffer.concat([Buffer.from(`${octets.length.toString(16)}\r\n`), octets, Buffer.from("\r\n0\r\n\r\n")]);
    for (const withLength of [true, false]) {
      const options = { version: "1.1", length: undefined, more: "Transfer-Encoding: chunked\r\n" };
      const device = await new Device(edge, relay, "KeepAlive").establish();
      const origin = await relay.next();
      if (withLength) await device.sendPost(most);
      else await device.sendPost(chunked(most), options);
      assertEmpty(await device.post.response());
      assertOctets(await origin.take(32768), most);
      if (withLength) await device.sendPost(tooMuch);
      else await device.sendPost(chunked(tooMuch), options);
      await assertRefused(device.post, "400 Bad Request", "BodyTooLong");
      await assertNothingLeft(edge, relay, device.guid);
      assert.equal(origin.received.length, 0);
      device.reset();
    }
  });

  it("LongLived: exceeding ContentLength upwards ends the virtual connection [3.2.5.2.2]", async () => {
    const { relay, device, origin } = await connect(edge, "LongLived", 1000);
    await device.up(Buffer.alloc(1000 - ECHO.length, 1));
    await origin.take(1000 - ECHO.length);
    await device.up("2");
    await assertRefused(device.post, "400 Bad Request", "ContentLengthExceeded");
    await assertCut(device);
    await assertNothingLeft(edge, relay, device.guid);
    assert.equal(origin.received.length, 0);
    device.reset();
    // Too short for the echo string.
    const short = new Device(edge, relay, "LongLived", 21);
    await assertRefused(await short.sendGet(), "400 Bad Request", "ContentLengthExceeded");
    await assertNothingLeft(edge, relay, short.guid);
    short.reset();
  });

  for (const chunked of [false, true]) {
    const how = chunked ? "in chunks without Content-Length" : "under a larger Content-Length";
    it(`LongLived: exceeding ContentLength upwards in bulk ends the virtual connection, ${how}`, async () => {
      const relay = edge.relay();
      const limit = 1_000_000;
      const device = new Device(edge, relay, "LongLived", limit);
      await device.sendGet();
      await device.known();
      const bulk = Buffer.alloc(5_000_000, 1);
      const chunk = (octets: string | Buffer) =>
        Buffer.concat([Buffer.from(`${octets.length.toString(16)}\r\n`), Buffer.from(octets), Buffer.from("\r\n")]);
      if (chunked) {
        await device.sendPost(chunk(ECHO), {
          version: "1.1",
          length: undefined,
          more: "Transfer-Encoding: chunked\r\n",
        });
      } else {
        await device.sendPost(ECHO);
      }
      await device.established();
      const origin = await relay.next();
      device.post.write(chunked ? chunk(bulk) : bulk);
      await device.get.closed();
      await assertNothingLeft(edge, relay, device.guid);
      assert(origin.received.length <= limit - ECHO.length, `the relay has ${origin.received.length} octets`);
      assertOctets(origin.received, bulk.subarray(0, origin.received.length));
      device.reset();
    });
  }

  for (const [how, first, second] of [
    ["exactly used up", 978, 1],
    ["that would be passed by a small write", 900, 79],
    ["that would be passed by a large write", 900, 300_000],
  ] as const) {
    it(`LongLived: a downward limit ${how} closes, and the device can open a new connection [3.2.4.2]`, async () => {
      const { relay, device, origin } = await connect(edge, "LongLived", 1000);
      await device.up("go");
      origin.write(Buffer.alloc(first, 1));
      assertOctets(await device.down(first), Buffer.alloc(first, 1));
      origin.write(Buffer.alloc(second, 2));
      await assertRefused(device.post, "404 Not Found", "ContentLengthReached");
      await assertCut(device);
      await assertNothingLeft(edge, relay, device.guid);
      assert(device.get.received.length <= 1000);
      device.reset();
      const next = await new Device(edge, relay, "LongLived", 1000).establish();
      await next.talk(await relay.next());
      await next.leave();
      await assertNothingLeft(edge, relay, next.guid);
    });
  }

  it("Polling: a wrong sequence number or checksum, a long body or no body is refused [3.6.5.3]", async () => {
    for (const [pair, reason, spoil] of [
      ["400 Bad Request", "BadSequence", (device: PollingDevice) => device.body("", device.sequence + 1)],
      ["400 Bad Request", "BadSequence", (device: PollingDevice) => device.body("x", device.sequence - 1)],
      ["400 Bad Request", "BadChecksum", (device: PollingDevice) => flipLast(device.body("data"))],
    ] as const) {
      const relay = edge.relay();
      const device = new PollingDevice(edge, relay);
      await device.establish(relay);
      await device.assertRefused(spoil(device), pair, reason);
      await assertNothingLeft(edge, relay, device.guid);
    }
    const relay = edge.relay();
    const device = new PollingDevice(edge, relay);
    const origin = await device.establish(relay);
    // A malformed request names no virtual connection, so it stays open.
    await device.assertRefused(Buffer.alloc(32769, 1), "400 Bad Request", "MalformedPoll");
    await device.assertRefused(Buffer.concat([device.body(""), Buffer.alloc(32768)]), "400 Bad Request", "BodyTooLong");
    await device.assertRefused(Buffer.alloc(0), "400 Bad Request", "MalformedPoll");
    await device.assertRefused(Buffer.from("nonsense"), "400 Bad Request", "MalformedPoll");
    assert.deepEqual(await device.exchange("on"), [1, ""]);
    origin.fin();
    await device.assertRefused(device.next(""), "404 Not Found", "OriginClosed");
    await assertNothingLeft(edge, relay, device.guid);
  });

  it("Polling: an unknown GUID, a handshake without data or a relay that refuses TCP is refused", async () => {
    const relay = edge.relay();
    const stranger = new PollingDevice(edge, relay);
    await stranger.assertRefused(stranger.body("data", 7), "404 Not Found", "UnknownConnection");
    await assertNothingLeft(edge, relay, stranger.guid);
    const silent = new PollingDevice(edge, relay);
    assert.deepEqual(await silent.exchange(""), [0, ""]);
    // A repetition of the probe has the octets of a handshake without data: it is answered like the probe.
    assert.deepEqual((await silent.answer(await silent.send(silent.body("")))).sequence, 0);
    await silent.assertRefused(silent.body("", 1), "400 Bad Request", "BadSequence");
    await assertNothingLeft(edge, relay, silent.guid);
    const alone = new PollingDevice(edge, edge.closedRelay);
    assert.deepEqual(await alone.exchange(""), [0, ""]);
    await alone.assertRefused(alone.next("hello"), "500 Internal Server Error", "OriginUnreachable");
    await assertNothingLeft(edge, undefined, alone.guid);
  });

  it("more than one Host header is refused on any path [RFC 9112 3.2]", async () => {
    const [target = ""] = targets(RELAY_NAME, newGuid());
    for (const path of ["/health", target]) {
      for (const second of ["server.domain.net", "elsewhere.example"]) {
        const socket = await edge.open();
        socket.write(`GET ${path} HTTP/1.1\r\nHost: server.domain.net\r\nHost: ${second}\r\n\r\n`);
        const { status, headers } = await socket.head();
        assert.equal(status, "HTTP/1.1 400 Bad Request");
        assert.match(headers, /^Grooveway-Reason: MalformedHead$/im);
        socket.reset();
      }
    }
  });

  it("a Host header that names no host is refused on any path", async () => {
    const [target = ""] = targets(RELAY_NAME, newGuid());
    for (const path of ["/", "/health", target, "/mailboxes/bob/room?from=alice/pc"]) {
      for (const host of ["server.domain.net:a9495", "127.0.0.1495", "server.domain.net:29:29"]) {
        const socket = await edge.open();
        socket.write(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
        const { status, headers } = await socket.head();
        assert.equal(status, "HTTP/1.1 400 Bad Request", `${host} ${path}`);
        assert.match(headers, /^Grooveway-Reason: MalformedHead$/im);
        socket.reset();
      }
    }
  });

  it("paths under a missing prefix are refused with the fix", async () => {
    for (const target of targets(RELAY_NAME, newGuid())) {
      await assertTarget(`/groove${target}`, "404 Not Found", "WrongPrefix");
      await assertTarget(`/a/b${target}`, "404 Not Found", "WrongPrefix");
    }
    await assertTarget("/groove/", "404 Not Found", "WrongPrefix", ["POST"]);
    for (const path of ["/groove/health", "/groove/admin/mailboxes"]) {
      await assertTarget(path, "404 Not Found", "WrongPrefix");
    }
  });

  it("unknown paths are refused, and known ones are answered", async () => {
    for (const path of ["/nothing", "/a.b/c", "/mailboxes", "/health/x"]) {
      await assertTarget(path, "404 Not Found", "NotFound");
    }
    const socket = await edge.open();
    socket.write("GET /health HTTP/1.1\r\nHost: server.domain.net\r\n\r\n");
    const health = await socket.response();
    assert.equal(health.status, "HTTP/1.1 200 OK");
    assert.equal(JSON.parse(health.body.toString()).status, "ok");
    socket.write("GET / HTTP/1.1\r\nHost: server.domain.net\r\n\r\n");
    const page = await socket.response();
    assert.equal(page.status, "HTTP/1.1 200 OK");
    assert.match(page.headers, /^content-type: text\/html/im);
    assert.match(page.body.toString(), /Grooveway/);
    socket.reset();
  });

  /** Sends POSTs one after the other until one is held. */
  async function fillUntilHeld(device: Device, body: Buffer): Promise<{ outstanding: RawSocket; posts: number }> {
    for (let posts = 1; ; posts++) {
      assert(posts < 2000, "the edge accepts more than 64 MiB for a relay that does not read");
      await device.sendPost(body);
      // However busy the machine, the edge accepts one within this time.
      const answer = await device.post.response(5000).catch(() => undefined);
      if (answer === undefined) return { outstanding: device.post, posts };
      assertBody(answer, "");
    }
  }
});

function flipLast(body: Buffer): Buffer {
  body[body.length - 1] = (body.at(-1) ?? 0) ^ 1;
  return body;
}
