/** An exception in an object of the edge, or state of another version, ends the connection with a reason. */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { Miniflare } from "miniflare";
import { Device, type TransportName } from "../../src/device/index.ts";
import { SAVED_FORMAT } from "../../src/edge/tunnel/hibernation.ts";
import { PING_SILENCE } from "../../src/edge/tunnel/limits.ts";
import { Connection, relayURL } from "../../src/sstp/index.ts";
import type { Meter, Tunnel } from "../support/driven-worker.ts";
import { fresh, type MailboxStub, receive, until } from "./mailbox/support.ts";
import { PollingDevice } from "./polling-device.ts";
import {
  assertCut,
  assertNothingLeft,
  assertRefused,
  newGuid,
  Device as RawDevice,
  startDrivenEdge,
  type TestEdge,
  type TestRelay,
} from "./support.ts";

type TunnelStub = Pick<Tunnel, "fail" | "left" | "status" | "lastSign" | "deliver">;
type MeterStub = Pick<Meter, "left">;

let edge: TestEdge;
let miniflare: Miniflare;
const connected: Device[] = [];

before(async () => {
  edge = await startDrivenEdge(3);
  ({ miniflare } = edge.edge);
});
after(async () => {
  await Promise.all(connected.map((device) => device.close()));
  await edge.close();
});

async function tunnelOf(guid: string): Promise<TunnelStub> {
  return (await miniflare.getDurableObjectNamespace("TUNNEL")).getByName(guid) as unknown as TunnelStub;
}

async function assertNothingKept(tunnel: TunnelStub): Promise<void> {
  const { keys, alarm } = await tunnel.left();
  assert.deepEqual({ keys: [...keys], alarm }, { keys: [], alarm: false });
}

/** What an object finds when it next wakes: an attachment of its sockets, and its stored values. */
async function plan(name: string, attachment: unknown, stored: unknown): Promise<void> {
  const body = JSON.stringify([attachment, stored]);
  assert((await fetch(`${edge.edge.url}/plan/${name}`, { method: "POST", body })).ok);
}

describe("an exception in a Tunnel ends its virtual connection with InternalError", () => {
  async function assertEnded(guid: string, relay: TestRelay): Promise<void> {
    await assertNothingLeft(edge, relay, guid);
    const tunnel = await tunnelOf(guid);
    assert.equal((await tunnel.status()).ended, "InternalError");
    await assertNothingKept(tunnel);
  }

  it("LongLived: both requests end", async () => {
    const relay = edge.relay();
    const device = await new RawDevice(edge, relay, "LongLived").establish();
    await device.talk(await relay.next());
    await (await tunnelOf(device.guid)).fail();
    await device.up("octets");
    await assertCut(device);
    await assertRefused(device.post, "500 Internal Server Error", "InternalError");
    await assertEnded(device.guid, relay);
    device.reset();
  });

  it("KeepAlive: the POST, the parked GET and later requests are refused", async () => {
    const relay = edge.relay();
    const device = await new RawDevice(edge, relay, "KeepAlive").establish();
    await device.talk(await relay.next());
    await device.sendGet();
    await (await tunnelOf(device.guid)).fail();
    await assertRefused(await device.sendPost("octets"), "500 Internal Server Error", "InternalError");
    await assertRefused(device.get, "500 Internal Server Error", "InternalError");
    await assertEnded(device.guid, relay);
    device.reset();
  });

  it("Polling: the request is refused", async () => {
    const relay = edge.relay();
    const device = new PollingDevice(edge, relay);
    await device.establish(relay);
    await (await tunnelOf(device.guid)).fail();
    await device.assertRefused(device.next("octets"), "500 Internal Server Error", "InternalError");
    await assertEnded(device.guid, relay);
  });
});

describe("a WebSocket ends with a reason", () => {
  /** A device that speaks SSTP over its own socket, and consumes its mailbox. */
  async function wired(): Promise<{ socket: WebSocket; closed: Promise<string>; guid: string; mailbox: MailboxStub }> {
    const peer = `grooveDevice://${fresh("wired")}/pc`;
    const guid = newGuid();
    const socket = new WebSocket(`ws://127.0.0.1:${edge.port}/2.0/localhost/${guid},ConnType=WebSocket`);
    socket.binaryType = "arraybuffer";
    const closed = new Promise<string>((resolve) => {
      socket.addEventListener("close", ({ reason }) => resolve(reason));
    });
    await new Promise((resolve) => socket.addEventListener("open", resolve));
    const engine = new Connection({ role: "client", outbound: true, localDeviceURLs: [peer], now: 0 });
    socket.addEventListener("message", ({ data }) => {
      if (data instanceof ArrayBuffer) engine.receive(new Uint8Array(data), 0);
    });
    engine.connect(relayURL("localhost"));
    for (const block of engine.output()) socket.send(block);
    const mailboxes = await miniflare.getDurableObjectNamespace("MAILBOX");
    const mailbox = mailboxes.getByName(peer) as unknown as MailboxStub;
    await until("it is consumed", async () => (await mailbox.status()).consumer === guid);
    return { socket, closed, guid, mailbox };
  }

  it("when messages wait for a device that has pinged before and is silent for too long", async () => {
    const { socket, closed, guid, mailbox } = await wired();
    const clock = (ahead: number) => fetch(`${edge.edge.url}/clock/${ahead}`);
    const pinged = new Promise((resolve) => {
      socket.addEventListener("message", ({ data }) => data === "pong" && resolve(data));
    });
    socket.send("ping");
    await pinged;
    const lastSign = async () => (await tunnelOf(guid)).lastSign();
    await clock(PING_SILENCE - 10_000);
    assert.ok((await lastSign()) > 0, "it is still waited for");
    await clock(PING_SILENCE + 1000);
    const { generation } = await mailbox.status();
    const tunnel = await tunnelOf(guid);
    assert.equal(await tunnel.deliver((await mailbox.status()).peer, generation, [], 0), "gone");
    assert.equal(await closed, "NoSignOfLife");
    assert.equal((await tunnel.status()).ended, "NoSignOfLife");
    await until("the mailbox knows", async () => (await mailbox.status()).consumer === undefined);
    await clock(0);
  });

  it("when a delivery to it throws", async () => {
    const { closed, guid, mailbox } = await wired();
    const { peer, generation } = await mailbox.status();
    const tunnel = await tunnelOf(guid);
    const bundle = { envelopes: [], octets: new Uint8Array(100).fill(255) };
    assert.equal(await tunnel.deliver(peer, generation, [{ first: 1, bundle }], 0), "gone");
    assert.equal(await closed, "InternalError");
    assert.equal((await tunnel.status()).ended, "InternalError");
  });
});

describe("a virtual connection ends with a reason when its object wakes to", () => {
  const other = { format: SAVED_FORMAT + 1, endpoint: { of: "another version" } };
  const broken = { format: SAVED_FORMAT, endpoint: { nothing: "of an endpoint" }, owner: {} };
  const cases: readonly (readonly [string, TransportName, unknown, unknown])[] = [
    ["a snapshot of another format with its socket", "websocket", { rest: other }, undefined],
    ["a snapshot of another format in storage", "websocket", { stored: true }, other],
    ["a snapshot that is not what its format says", "websocket", { rest: broken }, undefined],
    ["an attachment that cannot be read", "websocket", "unreadable", undefined],
    ["an attachment that is something else", "websocket", 7, undefined],
    ["a snapshot of another format with its GET", "longlived", { rest: other }, undefined],
    ["an attachment of its GET that cannot be read", "keepalive", "unreadable", undefined],
    ["a snapshot of another format, between its requests", "polling", null, other],
  ];
  for (const [what, transport, attachment, stored] of cases) {
    it(`${what}, by ${transport}`, { timeout: 300_000 }, async () => {
      const address = `${fresh("woken")}/pc`;
      const lost: string[] = [];
      const onReconnect = (error: Error) => lost.push(error.message);
      const device = await Device.connect({ edge: edge.edge.url, address, transport, onReconnect });
      connected.push(device);
      const mailboxes = await miniflare.getDurableObjectNamespace("MAILBOX");
      const mailbox = mailboxes.getByName(`grooveDevice://${address}`) as unknown as MailboxStub;
      await until("it is connected", async () => (await mailbox.status()).consumer !== undefined);
      const guid = (await mailbox.status()).consumer ?? "";
      await plan(guid, attachment, stored);
      await miniflare.unsafeEvictDurableObject("grooveway", "Tunnel", { name: guid });
      const sender = await Device.connect({
        edge: edge.edge.url,
        address: `${fresh("sender")}/pc`,
        transport: "websocket",
        receive: false,
      });
      connected.push(sender);
      await sender.send(address, "wake up");
      assert.equal((await receive(device, 1))[0]?.text(), "wake up");
      // LongLived has no room for a reason: its GET just ends.
      assert.match(lost.join(), transport === "longlived" ? /lost/ : /ConnectionLost/);
      assert.notEqual((await mailbox.status()).consumer, guid);
      // It answers any later request, and has nothing left that could fail again.
      for (let time = 0; time < 3; time += 1) {
        const { live, ended } = await (await tunnelOf(guid)).status();
        assert.deepEqual([live, ended], [false, "ConnectionLost"]);
      }
      await assertNothingKept(await tunnelOf(guid));
      await device.close();
      await sender.close();
    });
  }
});

it("a meter stored by an older version without an alarm is deleted after its next event", async () => {
  const name = fresh("meter");
  await plan(name, null, { connects: { level: 3, at: Date.now() - 3600_000 }, "connection:of long ago": true });
  const meter = (await miniflare.getDurableObjectNamespace("METER")).getByName(name) as unknown as MeterStub;
  assert.equal((await meter.left()).found, 2);
  await until("nothing is left", async () => {
    const { keys, alarm } = await meter.left();
    return [...keys].length === 0 && !alarm;
  });
});
