/** The endpoint of a Tunnel that has woken, which is restored when something is to be done with it. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { SstpEndpoint, SstpEndpointSnapshot } from "../../../src/edge/endpoint/sstp-endpoint.ts";
import { RestingEndpoint } from "../../../src/edge/tunnel/resting-endpoint.ts";
import { FakeRelay } from "./connections.ts";

const SNAPSHOT = { source: "grooveDevice://alice/pc" } as SstpEndpointSnapshot;

function resting() {
  const endpoint = new FakeRelay();
  let made = 0;
  const channel = new RestingEndpoint(SNAPSHOT, (snapshot) => {
    assert.equal(snapshot, SNAPSHOT);
    made += 1;
    return endpoint as unknown as SstpEndpoint;
  });
  return { channel, endpoint, made: () => made };
}

describe("a resting endpoint", () => {
  it("has nothing for the device, and is not restored to find that out", () => {
    const { channel, made } = resting();
    void channel.ready();
    assert.deepEqual([channel.peek(), channel.take(100), made(), channel.rests], [undefined, undefined, 0, true]);
  });

  it("is restored once by what the device sends", async () => {
    const { channel, endpoint, made } = resting();
    await channel.write(Uint8Array.of(1));
    await channel.write(Uint8Array.of(2));
    assert.deepEqual([made(), channel.rests, endpoint.came.length], [1, false, 2]);
  });

  it("tells who waited before it was restored of its output", async () => {
    const { channel, endpoint } = resting();
    const ready = channel.ready();
    channel.wake();
    endpoint.send(Uint8Array.of(7));
    await ready;
    assert.deepEqual(channel.take(10), { kind: "octets", octets: Uint8Array.of(7) });
  });
});
