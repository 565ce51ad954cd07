/** What a device does with packets of others, honest or not. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import fc from "fast-check";
import { DeviceError, MemoryKeyring } from "../../../src/device/index.ts";
import type { Destination, RelayConnection } from "../../../src/device/relay-connection.ts";
import { CHANNELS, CHANNELS_OF_IDENTITY, LAST_PACKET, NOTICES } from "../../../src/device/streams/limits.ts";
import { StreamHost } from "../../../src/device/streams/stream-host.ts";
import {
  ALL_ROUTES,
  CHACHA_POLY,
  CreditPool,
  encodeNotice,
  PACKET_HEADER,
  StreamChannel,
} from "../../../src/streams/index.ts";
import { encodePacket, KIND } from "../../../src/streams/packet.ts";
import { runs } from "../../support/long-form.ts";

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
    peer: "bob",
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

  it("ends the channels of a device whose token has ended, at the word of the edge, and no others", () => {
    const bob = device();
    const notice = encodeNotice(ALL_ROUTES, "TokenEnded");
    for (const from of ["alice/pc", "eve/pc"]) for (const route of [7, 8]) bob.say(from, hello(from, route));
    bob.say("eve/pc", notice);
    // A channel that goes on takes its hello again; one that has ended begins anew.
    for (const from of ["alice/pc", "eve/pc"]) for (const route of [7, 8]) bob.say(from, hello(from, route));
    assert.equal(bob.begun, 6);
    bob.end();
  });

  it("survives whatever packets come from whomever, in pieces", () => {
    const senders = fc.constantFrom("alice/pc", "alice/2", "eve/pc", "eve", "bob/pc", undefined);
    const route = fc.oneof(fc.constant(ALL_ROUTES), fc.constantFrom(7, 8), fc.nat(0xffffffff));
    const body = fc.oneof(
      fc.uint8Array({ minLength: 1, maxLength: 80 }),
      fc.tuple(fc.constantFrom(...Object.values(KIND)), fc.uint8Array({ maxLength: 80 })).map(([kind, rest]) => {
        return Uint8Array.of(kind, ...rest);
      }),
      fc.constant(hello("alice/pc", 7).subarray(PACKET_HEADER)),
    );
    const packet = fc.tuple(route, body).map(([to, octets]) => encodePacket(to, octets));
    const message = fc.record({ from: senders, packets: fc.array(packet, { maxLength: 5 }), cut: fc.nat(200) });
    fc.assert(
      fc.property(fc.array(message, { maxLength: 40 }), (messages) => {
        const bob = device();
        const receivers = [bob.host.receiver(BOB), bob.host.receiver("grooveIdentity://bob"), bob.host.edgeReceiver()];
        for (const [n, { from, packets, cut }] of messages.entries()) {
          const octets = Buffer.concat(packets);
          const receiver = receivers[n % receivers.length];
          receiver?.begin(from);
          receiver?.data(octets.subarray(0, cut));
          receiver?.data(octets.subarray(cut));
          if (cut % 2 === 0) receiver?.end();
        }
        const offered = messages.length * 5;
        assert.ok(bob.begun <= Math.min(offered, CHANNELS / 2));
        bob.end();
      }),
      { numRuns: runs(1000) },
    );
  });

  it("answers others though the sessions to some are never opened", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const bob = device();
    const asked: string[] = [];
    const carrier = {
      transport: { capabilities: {} },
      engine: { closed: undefined },
      session: ({ key }: Destination) => {
        asked.push(key);
        return new Promise(() => undefined);
      },
    } as unknown as RelayConnection;
    bob.host.attach(carrier);
    const unknown = hello("eve/pc", 7);
    unknown[PACKET_HEADER] = 4;
    for (let n = 0; n < 2 * NOTICES; n += 1) bob.say(`eve/${n}`, unknown);
    assert.equal(asked.length, NOTICES);
    t.mock.timers.tick(LAST_PACKET);
    await turn();
    bob.say("alice/pc", unknown);
    assert.deepEqual(asked.slice(NOTICES), ["alice/pc"]);
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
