/** A channel between the engine and the connections of its device. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import type { Destination, RelayConnection } from "../../../src/device/relay-connection.ts";
import { type ChannelHost, DeviceChannel } from "../../../src/device/streams/device-channel.ts";
import { CHACHA_POLY, CreditPool, StreamChannel } from "../../../src/streams/index.ts";

/** A channel with a hello to send, on a connection like this. */
function waiting(carrier: Partial<Record<keyof RelayConnection, unknown>>) {
  const channel = new StreamChannel({
    role: "initiator",
    route: 1,
    pool: new CreditPool(),
    now: performance.now(),
    suites: [CHACHA_POLY],
    initiatorAddress: "alice/pc",
    responderAddress: "bob/pc",
    staticSecret: new Uint8Array(32).fill(1),
    ephemeralSecret: new Uint8Array(32).fill(2),
    judge: () => undefined,
    resumeTime: 1000,
  });
  const host = {
    carrier,
    isRenewing: () => false,
    renew: async () => undefined,
    pause: async () => undefined,
    ended: () => undefined,
  } as unknown as ChannelHost;
  const destination = { key: "bob" } as Destination;
  const made = new DeviceChannel({ host, channel, isDialer: true, destination, address: "bob/pc" });
  made.settle();
  assert.ok(channel.isPending);
  return made;
}

describe("a channel with something to send", () => {
  it("leaves the processor alone while its connection has ended and is being replaced", async () => {
    const channel = waiting({ engine: { closed: {}, pendingOctets: 0 }, transport: { remaining: 1e9 } });
    await turn();
    channel.abandon();
  });

  it("leaves the processor to others while its session is not ready", async () => {
    let asked = 0;
    const channel = waiting({
      engine: { closed: undefined, pendingOctets: 0 },
      transport: { remaining: 1e9 },
      readySession: () => undefined,
      ready: () => false,
      session: async () => {
        asked += 1;
        return { ok: true, sessionId: 1 };
      },
    });
    await turn();
    await turn();
    channel.abandon();
    assert.ok(asked < 10, `it was asked for ${asked} times in two turns`);
  });
});
