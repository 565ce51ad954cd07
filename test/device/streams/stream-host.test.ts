/** What a device does with packets of others, honest or not. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { DeviceError, MemoryKeyring } from "../../../src/device/index.ts";
import type { Destination } from "../../../src/device/relay-connection.ts";
import { CHANNELS, CHANNELS_OF_IDENTITY } from "../../../src/device/streams/limits.ts";
import { StreamHost } from "../../../src/device/streams/stream-host.ts";
import { CHACHA_POLY, CreditPool, StreamChannel } from "../../../src/streams/index.ts";

const BOB = "grooveDevice://bob/pc";

/** A device without a connection, and the addresses whose keys it was asked to judge or answered. */
function device() {
  let begun = 0;
  const keyring = new MemoryKeyring();
  const host = new StreamHost({
    address: "bob/pc",
    keyring: {
      // Each channel that begins uses it once.
      get secretKey() {
        begun += 1;
        return keyring.secretKey;
      },
      pinned: () => undefined,
      meet: () => undefined,
      admit: () => "UnknownKey",
    },
    suites: [CHACHA_POLY],
    destination: (to) => ({ to, key: to, relayURL: "" }) as Destination,
    isRenewing: () => false,
    renew: async () => undefined,
    pause: async () => undefined,
  });
  return {
    host,
    get begun() {
      return begun;
    },
    /** A message from a device. */
    say(from: string, octets: Uint8Array) {
      const packets = host.receiver(BOB);
      packets.begin(from);
      packets.data(octets);
      packets.end();
    },
    end: () => host.end(new DeviceError("Closed", "over")),
  };
}

function hello(from: string, route: number): Uint8Array {
  const channel = new StreamChannel({
    role: "initiator",
    route,
    pool: new CreditPool(),
    now: 0,
    suites: [CHACHA_POLY],
    initiatorAddress: from,
    responderAddress: "bob/pc",
    staticSecret: new Uint8Array(32).fill(1),
    ephemeralSecret: new Uint8Array(32).fill(route),
    judge: () => undefined,
    resumeTime: 1000,
  });
  channel.attach(0);
  return channel.output(1, 0)[0] ?? new Uint8Array(0);
}

describe("a device that others dial", () => {
  it("lets one identity begin some channels, under whatever names, and others too", () => {
    const bob = device();
    for (let n = 1; n <= 2 * CHANNELS_OF_IDENTITY; n += 1) bob.say(`eve/${n}`, hello(`eve/${n}`, n));
    assert.equal(bob.begun, CHANNELS_OF_IDENTITY);
    bob.say("alice/pc", hello("alice/pc", 1));
    assert.equal(bob.begun, CHANNELS_OF_IDENTITY + 1);
    bob.end();
  });

  it("keeps half of its channels for the devices that it dials itself", () => {
    const bob = device();
    for (let n = 0; n < CHANNELS; n += 1) bob.say(`eve${n}/pc`, hello(`eve${n}/pc`, 1));
    assert.equal(bob.begun, CHANNELS / 2);
    void bob.host.dial("alice/pc", "echo").catch(() => undefined);
    assert.equal(bob.begun, CHANNELS / 2 + 1);
    bob.end();
  });

  it("takes a repeated hello for the same channel, and the same route of another device for another", () => {
    const bob = device();
    for (const from of ["alice/pc", "alice/pc", "eve/pc", "alice/pc"]) bob.say(from, hello("alice/pc", 7));
    assert.equal(bob.begun, 2);
    bob.end();
  });

  it("begins nothing for other packets, cut ones, or senders without an address", () => {
    const bob = device();
    const whole = hello("alice/pc", 7);
    bob.say("alice/pc", whole.subarray(0, whole.length - 1));
    // The rest of a cut packet does not go with the next message.
    bob.say("alice/pc", whole.subarray(whole.length - 1));
    for (const kind of [0, 2, 3, 4, 5, 255]) {
      const packet = whole.slice();
      packet[6] = kind;
      bob.say("alice/pc", packet);
    }
    const packets = bob.host.receiver(BOB);
    packets.begin(undefined);
    packets.data(whole);
    assert.equal(bob.begun, 0);
    bob.end();
  });

  it("ends with its channels, and leaves no timer", () => {
    const bob = device();
    bob.say("alice/pc", hello("alice/pc", 7));
    bob.end();
    bob.say("alice/pc", hello("alice/pc", 8));
    assert.equal(bob.begun, 1);
    assert.ok(!process.getActiveResourcesInfo().includes("Timeout"));
  });
});
