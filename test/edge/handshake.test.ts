/** How a virtual connection is opened and carries data in both directions, for each encapsulation. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { RawSocket } from "../support/sockets.ts";
import { PollingDevice } from "./polling-device.ts";
import {
  assertBody,
  assertEmpty,
  assertNothingLeft,
  assertOctets,
  assertRead,
  assertRefused,
  connect,
  Device,
  ECHO,
  finish,
  newGuid,
  startTestEdge,
  type TestEdge,
} from "./support.ts";

describe("handshakes", { concurrency: true }, () => {
  let edge: TestEdge;
  before(async () => {
    edge = await startTestEdge(11);
  });
  after(() => edge.close());

  it("KeepAlive follows the example exactly [4.2]", async () => {
    const relay = edge.relay();
    const guid = newGuid();
    const GET = [
      `GET /2.0/${relay.name}/${guid},ConnType=KeepAlive HTTP/1.0`,
      "Accept: */*",
      "Content-Type: application/octet-stream",
      "User-Agent: Mozilla/4.0 (compatible; MSIE 5.5; Win32)",
      "Host: 10.150.1.226",
      "Pragma: no-cache",
      "Cache-Control: no-cache",
      "Expires: 0",
      "Connection: Keep-Alive",
      "Cache-Control: max-age=0",
      "\r\n",
    ].join("\r\n");
    const POST = [
      `POST /2.0/${relay.name}/${guid},ConnType=KeepAlive HTTP/1.0`,
      "Accept: */*",
      "Content-Type: application/octet-stream",
      "User-Agent: Mozilla/4.0 (compatible; MSIE 5.5; Win32)",
      "UserAgent: server.domain.net",
      // The example has the previous line here instead, most likely by mistake. The platform requires this one.
      "Host: 10.150.1.226",
      "Connection: Keep-Alive",
      "Content-Length: 22",
      "Pragma: no-cache",
      "Cache-Control: no-cache",
      "Expires: 0",
      "Cache-Control: max-age=0",
      "\r\nGroovePing: 1.0,Ping\r\n",
    ].join("\r\n");
    const get = await edge.open();
    get.write(GET);
    const post = await edge.open();
    post.write(POST);
    assertEmpty(await post.response());
    const echo = await get.response();
    assertBody(echo, ECHO);
    assert.match(echo.headers, /^content-length: 22$/im);
    assert.match(echo.headers, /^server: /im);
    assert.match(echo.headers, /^date: (Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT$/im);

    const origin = await relay.next();
    post.write(POST.replace("Content-Length: 22", "Content-Length: 5").replace(ECHO, "hello"));
    assertEmpty(await post.response());
    assertOctets(await origin.take(5), "hello");
    origin.write("world");
    get.write(GET);
    assertBody(await get.response(), "world");
    origin.fin();
    get.write(GET);
    await assertRefused(get, "404 Not Found", "OriginClosed");
    await assertNothingLeft(edge, relay, guid);
    get.reset();
    post.reset();
  });

  for (const kind of ["LongLived", "KeepAlive"] as const) {
    const section = kind === "LongLived" ? "3.2.5.1.1" : "3.4.5.1.1";
    it(`${kind}: the GET may come first [${section}]`, async () => {
      const relay = edge.relay();
      const device = new Device(edge, relay, kind);
      await device.sendGet();
      await device.known();
      await device.sendPost(ECHO);
      await device.established();
      await device.talk(await relay.next());
      await device.leave();
      await assertNothingLeft(edge, relay, device.guid);
    });

    it(`${kind}: the POST may come first [${section}]`, async () => {
      const relay = edge.relay();
      const device = new Device(edge, relay, kind);
      await device.sendPost(ECHO);
      await device.known();
      await device.sendGet();
      await device.established();
      await device.talk(await relay.next());
      await device.leave();
      await assertNothingLeft(edge, relay, device.guid);
    });

    it(`${kind}: absolute form and a space before ID= are accepted [2.2.2.1.1, 2.2.3.1.1]`, async () => {
      const relay = edge.relay();
      const device = new Device(edge, relay, kind);
      const target = `http://${relay.name}${device.target},%20ID=ugqrvphxsc2yqfjqh8ijah6crkziz8qrspvh9ja`;
      await device.sendGet(target);
      await device.sendPost(ECHO, { target });
      await device.established();
      // No ID from here on: a server must ignore it [3.2.5.1.1, 3.4.5.1.2].
      await device.talk(await relay.next());
      await device.leave();
      await assertNothingLeft(edge, relay, device.guid);
    });
  }

  it("LongLived: the echo string arrives in pieces, followed directly by data [2.2.2.2.3]", async () => {
    const relay = edge.relay();
    const device = new Device(edge, relay, "LongLived");
    await device.sendGet();
    await device.known();
    await device.sendPost(ECHO.slice(0, 7));
    await assertReadThen(device.post, ECHO.slice(7, 21));
    await assertReadThen(device.post, `${ECHO.slice(21)}behind`);
    await device.established();
    const origin = await relay.next();
    assertOctets(await origin.take(6), "behind");
    await device.talk(origin);
    await device.leave();
    await assertNothingLeft(edge, relay, device.guid);
  });

  it("LongLived: the relay's data is held until the device has sent data [3.2.5.2.2]", async () => {
    const { relay, device, origin } = await connect(edge, "LongLived");
    origin.write("early");
    const other = await new Device(edge, relay, "LongLived").establish();
    await other.talk(await relay.next());
    assert.equal(device.get.received.length, 0, "nothing has arrived after a whole exchange of another device");
    await device.up("go");
    assertOctets(await device.down(5), "early");
    await device.leave();
    await other.leave();
    await assertNothingLeft(edge, relay, device.guid, other.guid);
  });

  it("LongLived: a relay that closes before the device has sent data ends both requests", async () => {
    const relay = edge.relay();
    const device = await new Device(edge, relay, "LongLived").establish();
    (await relay.next()).fin();
    await device.get.closed();
    await assertRefused(device.post, "404 Not Found", "OriginClosed");
    await finish(edge, relay, device);
  });

  it("Polling: a probe, a handshake and exchanges succeed [3.6.5.1 to 3.6.5.3]", async () => {
    const relay = edge.relay();
    const device = new PollingDevice(edge, relay);
    const origin = await device.establish(relay);
    assert.deepEqual(await device.exchange(""), [1, ""]);
    assert.deepEqual(await device.exchange("up"), [2, ""]);
    assertOctets(await origin.take(2), "up");
    origin.write("down");
    assert.deepEqual(await device.exchange(""), [3, "down"]);
    origin.fin();
    await device.assertRefused(device.next(""), "404 Not Found", "OriginClosed");
    await assertNothingLeft(edge, relay, device.guid);
  });

  /** Writes once the edge has read the previous write, so that it arrives as a separate piece. */
  async function assertReadThen(socket: RawSocket, octets: string): Promise<void> {
    await assertRead(edge, socket);
    socket.write(octets);
  }
});
