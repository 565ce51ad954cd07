/** KeepAlive and Polling with bodies over 32768 octets, between the product's transports and its edge. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { after, before, describe, it } from "node:test";
import { openTransport, type TransportName } from "../../src/device/index.ts";
import type { Transport } from "../../src/device/transports/transport.ts";
import { type WayLimit, wayLimits } from "../../src/device/transports/way-limits.ts";
import { ECHO_STRING, HELD_BODY, STREAMED_BODY } from "../../src/encapsulation/index.ts";
import { PollingDevice } from "./polling-device.ts";
import {
  assertBody,
  assertEmpty,
  assertNothingLeft,
  assertOctets,
  assertRead,
  assertRefused,
  Device,
  ECHO,
  eventually,
  startTestEdge,
  type TestEdge,
  type TestRelay,
  tunnelStatus,
} from "./support.ts";

const MANY = 16 * 1024 * 1024;

describe("bodies over 32768 octets", () => {
  let edge: TestEdge;
  before(async () => {
    edge = await startTestEdge(9);
  });
  after(() => edge.close());

  const defaults = wayLimits(() => "here");

  function connect(transport: TransportName, relay: TestRelay, bodies?: WayLimit): Transport {
    const limits = bodies && { ...defaults, body: bodies };
    return openTransport({ transport, relay: relay.name, edge: `http://127.0.0.1:${edge.port}`, wayLimits: limits });
  }

  for (const kind of ["keepalive", "polling"] as const) {
    it(`${kind}: 16 MiB arrive intact in both directions at once`, async () => {
      const relay = edge.relay();
      relay.serve = (socket) => {
        socket.pipe(socket);
      };
      const transport = connect(kind, relay);
      const octets = randomBytes(MANY);
      const writing = (async () => {
        for (let from = 0; from < MANY; ) {
          const piece = octets.subarray(from, from + 1 + Math.floor(2 ** (Math.random() * 20)));
          await transport.write([piece]);
          from += piece.length;
        }
      })();
      const hash = createHash("sha256");
      for (let came = 0; came < MANY; ) {
        const piece = await transport.read();
        assert(piece !== undefined, JSON.stringify(transport.lost));
        hash.update(piece);
        came += piece.length;
      }
      await writing;
      assert.equal(hash.digest("hex"), createHash("sha256").update(octets).digest("hex"));
      transport.close();
      await assertNothingLeft(edge, undefined);
    });
  }

  it("polling: data of the device does not wait for an exchange that is held", async () => {
    const relay = edge.relay();
    const transport = connect("polling", relay);
    await transport.write([Buffer.from("hello")]);
    const origin = await relay.next();
    assertOctets(await origin.take(5), "hello");
    const began = performance.now();
    for (let turn = 0; turn < 30; turn++) {
      origin.write("?");
      assertOctets((await transport.read()) ?? Buffer.alloc(0), "?");
      await transport.write([Buffer.from("!")]);
      assertOctets(await origin.take(1), "!");
    }
    // Each answer follows data, so that a poll is held when the device writes.
    const each = (performance.now() - began) / 30;
    assert.ok(each < 90, `${each} ms`);
    transport.close();
  });

  it("keepalive: a smaller limit is kept to", async () => {
    const relay = edge.relay();
    const asked: string[] = [];
    const transport = connect("keepalive", relay, {
      limit(origin) {
        asked.push(origin);
        return 100_000;
      },
      shrink: () => undefined,
    });
    await transport.established;
    const origin = await relay.next();
    const octets = randomBytes(2_000_000);
    const writing = transport.write([octets]);
    assertOctets(await origin.take(octets.length), octets);
    await writing;
    assert.deepEqual(asked, [`http://127.0.0.1:${edge.port}`]);
    transport.close();
  });

  it("polling: requests that are reset leave their part of the memory to others", async () => {
    const device = new PollingDevice(edge, edge.closedRelay);
    for (let time = 0; time < 20; time++) {
      const socket = await device.send(Buffer.alloc(10_000), HELD_BODY);
      await assertRead(edge, socket);
      socket.reset();
    }
    await eventually("a large body is read", async () => {
      const socket = await device.send(Buffer.alloc(HELD_BODY));
      const { body } = await socket.response();
      socket.reset();
      return JSON.parse(body.toString()).code === "MalformedPoll";
    });
  });

  /** A device by hand that has been granted large bodies, the target of its n-th requests, and its relay. */
  async function grown(): Promise<{ device: Device; nth: (n: number) => string; relay: TestRelay }> {
    const relay = edge.relay();
    const device = new Device(edge, relay, "KeepAlive");
    const nth = (n: number) => `${device.target},ID=gw-${n}`;
    await device.sendGet(`${nth(1)}?Body=${STREAMED_BODY}`);
    await device.known();
    await device.sendPost(ECHO, { target: nth(1) });
    assertEmpty(await device.post.response());
    assertBody(await device.get.response(), `${Buffer.from(ECHO_STRING)}Grooveway-Body: ${STREAMED_BODY}\r\n`);
    return { device, nth, relay };
  }

  it("keepalive: a large POST that breaks off and is repeated arrives once", async () => {
    const { device, nth, relay } = await grown();
    const origin = await relay.next();
    const octets = randomBytes(1_000_000);
    await device.sendPost(octets.subarray(0, 400_000), { target: nth(2), length: octets.length });
    assertOctets(await origin.take(400_000), octets.subarray(0, 400_000));
    device.post.reset();
    const again = await device.open();
    await device.sendPost(octets, { target: nth(2), on: again });
    assertEmpty(await again.response());
    assertOctets(await origin.take(600_000), octets.subarray(400_000));
    // Complete, and repeated again.
    await device.sendPost(octets, { target: nth(2), on: again });
    assertEmpty(await again.response());
    await device.sendPost("next", { target: nth(3), on: again });
    assertEmpty(await again.response());
    assertOctets(await origin.take(4), "next");
    again.reset();
    device.reset();
  });

  it("keepalive: a large POST that breaks off and does not come again ends the virtual connection", async () => {
    const { device, nth, relay } = await grown();
    const origin = await relay.next();
    await device.sendPost(randomBytes(100_000), { target: nth(2), length: 1_000_000 });
    // A request that is reset before the Tunnel knows of it has never been.
    await origin.take(100_000);
    device.post.reset();
    await assertNothingLeft(edge, relay, device.guid);
    assert.equal((await tunnelStatus(edge, device.guid)).ended, "DeviceGone");
    device.reset();
  });

  it("keepalive: a body that a proxy has refused in the middle continues with a shorter one", async () => {
    const { device, nth, relay } = await grown();
    const origin = await relay.next();
    const octets = randomBytes(200_000);
    await device.sendPost(octets.subarray(0, 10_000), { target: nth(2), length: octets.length });
    assertOctets(await origin.take(10_000), octets.subarray(0, 10_000));
    device.post.reset();
    const again = await device.open();
    await device.sendPost(octets.subarray(0, 30_000), { target: nth(2), on: again });
    assertEmpty(await again.response());
    assertOctets(await origin.take(20_000), octets.subarray(10_000, 30_000));
    again.reset();
    device.reset();
  });

  it("keepalive: a device that has not asked may not send more than 32768 octets, nor one that asked more than that", async () => {
    const { device, nth, relay } = await grown();
    await device.sendPost(Buffer.alloc(40_000), { target: nth(2), length: STREAMED_BODY + 1 });
    await assertRefused(device.post, "400 Bad Request", "BodyTooLong");
    await assertNothingLeft(edge, relay, device.guid);
    const other = await new Device(edge, edge.relay(), "KeepAlive").establish();
    await other.sendPost(Buffer.alloc(32_769));
    await assertRefused(other.post, "400 Bad Request", "BodyTooLong");
    other.reset();
    device.reset();
  });
});
