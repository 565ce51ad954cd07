/** Devices that misuse the way to destinations, and names that lead elsewhere. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { before, describe, it, type TestContext } from "node:test";
import fc from "fast-check";
import { CloseReasonId, deviceURL, identityURL, ORIGIN_RESOURCE } from "../../../src/sstp/index.ts";
import { encodePacket } from "../../../src/streams/packet.ts";
import type { InspectedEdge } from "../../support/inspected-edge.ts";
import { objectOf } from "../../support/objects.ts";
import { afterAll, RawClient, startEdge } from "../mailbox/support.ts";
import { dialler, type EgressStub, echo, isEchoed, isReset, service, startDialling } from "./support.ts";

const IDENTITY = identityURL({ identity: "eve" });
const DEVICE = deviceURL({ identity: "eve", device: "pc" });
const FLAG_D = { doNotDeliverIfOffline: true };

describe("a device that misuses the way to destinations", () => {
  let edge: InspectedEdge;
  const context = afterAll();
  before(async () => {
    edge = await startDialling(context);
  });
  const egress = () => objectOf<EgressStub>(edge.miniflare, "EGRESS", DEVICE);

  it("cannot speak for another device, nor for an identity, nor to several at a time", async () => {
    const eve = await RawClient.open(edge, "websocket", DEVICE, "eve");
    const other = deviceURL({ identity: "alice", device: "pc" });
    for (const [identity, device] of [
      [identityURL({ identity: "alice" }), other],
      [IDENTITY, ""],
      [identityURL({ identity: "alice" }), DEVICE],
    ] as const) {
      const sessionId = eve.engine.open({ resourceURL: ORIGIN_RESOURCE, identityURL: identity, deviceURL: device });
      eve.flush();
      await eve.event("sessionRefused", (event) => event.sessionId === sessionId);
    }
    const entry = { identityURL: IDENTITY, deviceURL: DEVICE, relayURL: "" };
    const fanout = eve.engine.openFanout({ resourceURL: ORIGIN_RESOURCE, entries: [entry, entry] });
    eve.flush();
    await eve.event("sessionClosed", (event) => event.sessionId === fanout);
    eve.close();
  });

  it("cannot have anything stored there", async () => {
    const eve = await RawClient.open(edge, "websocket", DEVICE, "eve");
    const sessionId = await eve.session(ORIGIN_RESOURCE, IDENTITY, DEVICE);
    eve.send(sessionId, "to be kept");
    const closed = await eve.event("sessionClosed", (event) => event.sessionId === sessionId);
    assert.equal(closed.reasonId, CloseReasonId.QuotaWouldBeExceeded);
    eve.close();
  });

  it("may send anything: nothing is dialled, and the next channel works", { timeout: 120_000 }, async (t) => {
    const eve = await RawClient.open(edge, "websocket", DEVICE, "eve");
    const sessionId = await eve.session(ORIGIN_RESOURCE, IDENTITY, DEVICE);
    const kinds = fc.constantFrom(0, 1, 2, 3, 4, 5, 255);
    const body = fc.tuple(kinds, fc.uint8Array({ maxLength: 200 })).map(([kind, rest]) => [kind, ...rest]);
    const packet = fc.tuple(fc.integer({ min: 0, max: 3 }), body).map(([route, body]) => {
      return encodePacket(route, Uint8Array.from(body));
    });
    let last = 0;
    for (const octets of fc.sample(fc.oneof(packet, fc.uint8Array({ maxLength: 300 })), 500)) {
      last = eve.send(sessionId, octets, FLAG_D);
    }
    await eve.event("acknowledged", ({ messages }) => messages.includes(last));
    assert.equal((await (await egress()).status()).streams, 0);
    eve.close();
    const { at } = await service(t, echo);
    const device = await dialler(edge, "eve/pc");
    assert.ok(await isEchoed(await device.dialOrigin(at), "still there"));
    await device.close();
  });
});

/** A resolver that says of each name that it has this address. */
async function resolver(t: TestContext, address: string): Promise<string> {
  const server = createServer((request, response) => {
    const isV4 = new URL(request.url ?? "/", "http://resolver").searchParams.get("type") === "A";
    response.end(JSON.stringify({ Status: 0, Answer: isV4 ? [{ type: 1, data: address }] : [] }));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/dns-query`;
}

describe("a listed name", () => {
  for (const address of ["127.0.0.1", "169.254.169.254", "0.0.0.0"]) {
    it(`that leads to ${address} is not dialled, unless that is listed too`, async (t) => {
      const { at } = await service(t, echo);
      const port = at.split(":")[1];
      const to = `db.example.com:${port}`;
      const edge = await startEdge(t, { streamAllow: [to], resolver: await resolver(t, address) });
      const device = await dialler(edge, "alice/named");
      await assert.rejects(device.dialOrigin(to), isReset("OriginNotAllowed"));
      await device.close();
    });
  }

  it("is dialled at the address that it leads to", async (t) => {
    const { at } = await service(t, echo);
    const to = `db.example.com:${at.split(":")[1]}`;
    const edge = await startEdge(t, { streamAllow: [to, at], resolver: await resolver(t, "127.0.0.1") });
    const device = await dialler(edge, "alice/named");
    assert.ok(await isEchoed(await device.dialOrigin(to), "by name"));
    await device.close();
  });
});
