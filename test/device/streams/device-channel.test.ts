/** A channel between the engine and the connections of its device. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import type { Destination, RelayConnection } from "../../../src/device/relay-connection.ts";
import { type ChannelHost, DeviceChannel } from "../../../src/device/streams/device-channel.ts";
import { Flight } from "../../../src/device/streams/flight.ts";
import { LAST_PACKET } from "../../../src/device/streams/limits.ts";
import { CHACHA_POLY, CreditPool, StreamChannel } from "../../../src/streams/index.ts";

/** A channel with a hello to send, on a connection like this. */
function waiting(carrier: Partial<Record<keyof RelayConnection, unknown>>, ended: () => void = () => undefined) {
  const channel = new StreamChannel({
    role: "initiator",
    route: 1,
    pool: new CreditPool(),
    peer: "bob",
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
    flight: new Flight(),
    isRenewing: () => false,
    renew: async () => undefined,
    pause: async () => undefined,
    sent: () => undefined,
    ended,
  } as unknown as ChannelHost;
  const destination = { key: "bob", newId: () => "" } as Destination;
  const made = new DeviceChannel({ host, channel, isDialer: true, destination, address: "bob/pc" });
  made.settle();
  assert.ok(channel.isPending);
  return made;
}

/** A connection that takes what there is to send. */
function writable(data: () => void) {
  return {
    engine: {
      closed: undefined,
      pendingOctets: 0,
      expectMessage: () => undefined,
      beginMessage: () => undefined,
      data,
      endMessage: () => 1,
    },
    transport: { remaining: 1e9 },
    readySession: () => 1,
    ready: () => true,
  };
}

describe("a channel with something to send", () => {
  it("leaves the processor alone while its connection has ended and is being replaced", async () => {
    const channel = waiting({ engine: { closed: {}, pendingOctets: 0 }, transport: { remaining: 1e9 } });
    await turn();
    channel.abandon();
  });

  it("has it written in the same turn", async () => {
    const done: string[] = [];
    const channel = waiting({
      ...writable(() => done.push("given")),
      flushNow: async () => void done.push("written"),
    });
    await Promise.resolve();
    await Promise.resolve();
    assert.deepEqual(done, ["given", "written"]);
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

describe("a channel that is ended", () => {
  it("says so at once, and does not wait for something else to send", () => {
    const done: string[] = [];
    const channel = waiting({
      ...writable(() => done.push("written")),
      flush: async () => void done.push("sent"),
    });
    channel.close("NotPermitted");
    assert.deepEqual(done, ["written", "sent"]);
    channel.abandon();
  });

  it("is forgotten after half a minute if its session is never opened", async (t) => {
    let now = 0;
    t.mock.method(performance, "now", () => now);
    t.mock.timers.enable({ apis: ["setTimeout"] });
    let forgotten = 0;
    const forget = () => {
      forgotten += 1;
    };
    const never = new Promise(() => undefined);
    const channel = waiting(
      {
        engine: { closed: undefined, pendingOctets: 0 },
        transport: { remaining: 1e9 },
        readySession: () => undefined,
        ready: () => false,
        session: () => never,
      },
      forget,
    );
    await turn();
    channel.close("NotPermitted");
    const pass = (milliseconds: number) => {
      now += milliseconds;
      t.mock.timers.tick(milliseconds);
    };
    pass(LAST_PACKET - 1000);
    assert.equal(forgotten, 0);
    pass(1001);
    // A timer that is late lets what has arrived be read first.
    await turn();
    assert.equal(forgotten, 1);
  });
});
