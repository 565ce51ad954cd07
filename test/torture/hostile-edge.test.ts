/** An edge that does what it likes with what devices stream to each other: it can end streams, and nothing else. */
import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { DeviceError, MemoryKeyring, StreamError } from "../../src/device/index.ts";
import type { DeviceStream } from "../../src/device/streams/device-stream.ts";
import type { StreamHost } from "../../src/device/streams/stream-host.ts";
import { STREAM_HELD } from "../../src/edge/endpoint/limits.ts";
import { within } from "../../src/lib/runtime/timeout.ts";
import { publicKeyOf } from "../../src/streams/index.ts";
import { RESERVE } from "../../src/streams/limits.ts";
import { KIND } from "../../src/streams/packet.ts";
import { FULL } from "../support/long-form.ts";
import { HostileEdge, type Packet, type Parcel, packetsOf, parcelOf } from "./hostile-edge.ts";
import { Chance, seedOf } from "./support.ts";
import { Tape } from "./tape.ts";

const OVER = new DeviceError("Closed", "over");
/** How long streams may take, in milliseconds: more than the time for a handshake. */
const PATIENCE = 60_000;
/** Runs of each attack, and how many at a time. */
const RUNS = FULL ? 300 : 6;
const BATCH = 6;

interface Party {
  readonly address: string;
  readonly keyring: MemoryKeyring;
  host: StreamHost;
}

/** Devices at an edge, each of which accepts all others. */
function parties(edge: HostileEdge, addresses: readonly string[]): Party[] {
  const all = addresses.map((address) => {
    const keyring = new MemoryKeyring();
    return { address, keyring, host: edge.join(address, keyring) };
  });
  for (const one of all) {
    for (const other of all) one.keyring.accept(other.address, publicKeyOf(other.keyring.secretKey));
  }
  return all;
}

function two(t: TestContext): readonly [edge: HostileEdge, alice: Party, bob: Party] {
  const edge = new HostileEdge();
  const [alice, bob] = parties(edge, ["alice/pc", "bob/pc"]) as [Party, Party];
  t.after(() => {
    for (const { host } of [alice, bob]) host.end(OVER);
  });
  return [edge, alice, bob];
}

/** Two edges in one hand, each with one of two devices, and with a host that plays the other there by a key of its own. */
function impersonated(t: TestContext) {
  const [near, far] = [new HostileEdge(), new HostileEdge()];
  const [alice, bob] = [parties(near, ["alice/pc"])[0] as Party, parties(far, ["bob/pc"])[0] as Party];
  const mallory = new MemoryKeyring();
  const [asBob, asAlice] = [near.join("bob/pc", mallory), far.join("alice/pc", mallory)];
  t.after(() => {
    for (const host of [alice.host, bob.host, asBob, asAlice]) host.end(OVER);
  });
  mallory.accept(alice.address, publicKeyOf(alice.keyring.secretKey));
  bob.keyring.accept(alice.address, publicKeyOf(alice.keyring.secretKey));
  bob.host.serve("echo", () => assert.fail("a stream was opened"));
  return { near, alice, bob, mallory, asBob, asAlice };
}

async function textOf({ readable }: DeviceStream): Promise<string> {
  let text = "";
  for await (const piece of readable) text += Buffer.from(piece).toString();
  return text;
}

async function write({ writable }: DeviceStream, text: string): Promise<void> {
  const writer = writable.getWriter();
  await writer.write(new TextEncoder().encode(text));
  writer.releaseLock();
}

/** Lets everything pass that is on its way. */
async function quiet(): Promise<void> {
  for (let n = 0; n < 50; n += 1) await turn();
}

const because = (reason: string) => (error: unknown) => error instanceof StreamError && error.reason === reason;

describe("a hostile edge", () => {
  it("that changes a bit of a record ends the channel, by name at both ends, and injects nothing", async (t) => {
    const [edge, alice, bob] = two(t);
    const served = Promise.withResolvers<DeviceStream>();
    bob.host.serve("echo", (stream) => {
      stream.accept();
      served.resolve(stream);
    });
    const here = await alice.host.dial(bob.address, "echo");
    const there = await served.promise;
    await quiet();
    edge.treat = (parcel) => {
      if (parcel.from !== alice.address) return [parcel];
      const octets = new Uint8Array(parcel.octets);
      octets[octets.length - 1] = (octets.at(-1) ?? 0) ^ 1;
      return [{ ...parcel, octets }];
    };
    await write(here, "hello");
    await assert.rejects(there.readable.getReader().read(), because("ForgedRecord"));
    await Promise.all([here, there].map(({ closed }) => assert.rejects(closed, because("ForgedRecord"))));
  });

  it("that plays a whole session again opens nothing, at the same device or after that was restarted", async (t) => {
    const [edge, alice, bob] = two(t);
    let opened = 0;
    const serve = (host: StreamHost) =>
      host.serve("echo", (stream) => {
        opened += 1;
        return stream.readable.pipeTo(stream.writable);
      });
    serve(bob.host);
    // By XX, and then by IK, whose first message already identifies the initiator.
    for (const _ of [1, 2]) {
      const stream = await alice.host.dial(bob.address, "echo");
      await write(stream, "hello");
      await stream.writable.close();
      assert.equal(await textOf(stream), "hello");
      await stream.closed;
      alice.host.end(OVER);
      await quiet();
      alice.host = edge.join(alice.address, alice.keyring);
    }
    assert.equal(opened, 2);
    const session = [...edge.seen];
    edge.treat = (parcel) => (parcel.from === bob.address ? [parcel] : []);
    for (const parcel of session) edge.deliver(parcel);
    await quiet();
    bob.host.end(OVER);
    bob.host = edge.join(bob.address, bob.keyring);
    serve(bob.host);
    for (const order of [session, session.toReversed(), session]) {
      for (const parcel of order) edge.deliver(parcel);
      await quiet();
    }
    assert.equal(opened, 2);
  });

  it("that gives packets another sender opens nothing", async (t) => {
    const [edge, alice, bob] = two(t);
    const mallory = new MemoryKeyring();
    bob.keyring.accept("alice/evil", publicKeyOf(mallory.secretKey));
    bob.host.serve("echo", () => assert.fail("a stream was opened"));
    edge.treat = (parcel) => (parcel.to === bob.address ? [{ ...parcel, from: "alice/evil" }] : [parcel]);
    // Answers go to the invented sender, and are given to the real one.
    const evil: Parcel[] = [];
    const pass = edge.treat;
    edge.treat = (parcel) => {
      if (parcel.to !== "alice/evil") return pass(parcel);
      evil.push(parcel);
      return [{ ...parcel, to: alice.address }];
    };
    await assert.rejects(alice.host.dial(bob.address, "echo"), because("HandshakeFailed"));
    assert.ok(evil.length > 0);
  });

  it("that answers and dials by itself has no accepted key, and a pin keeps it off", async (t) => {
    const { alice, bob, asBob, asAlice } = impersonated(t);
    await assert.rejects(asAlice.dial(bob.address, "echo"), because("UnknownKey"));
    asBob.serve("echo", () => assert.fail("alice has told something"));
    alice.keyring.pin(bob.address, publicKeyOf(bob.keyring.secretKey));
    await assert.rejects(alice.host.dial(bob.address, "echo"), because("ChangedKey"));
    assert.deepEqual(alice.keyring.pinned(bob.address), publicKeyOf(bob.keyring.secretKey));
  });

  it("that stands between two devices at first contact is known by its own fingerprint, and opens nothing", async (t) => {
    const { near, alice, bob, mallory, asBob, asAlice } = impersonated(t);
    // What alice asks of it, it asks of bob in her name.
    const outcome = Promise.withResolvers<unknown>();
    asBob.serve("echo", async (stream) => {
      stream.accept();
      await asAlice.dial(bob.address, "echo").then(() => outcome.resolve("opened"), outcome.resolve);
      stream.reset();
    });
    const stream = await alice.host.dial(bob.address, "echo");
    assert.ok(because("UnknownKey")(await outcome.promise));
    // Nobody who compares fingerprints takes one for the other, and an honest edge shows it from then on.
    assert.deepEqual(stream.peer.key, publicKeyOf(mallory.secretKey));
    asBob.end(OVER);
    const honest = near.join("bob/pc", bob.keyring);
    t.after(() => honest.end(OVER));
    honest.serve("echo", () => assert.fail("a stream was opened"));
    await assert.rejects(alice.host.dial(bob.address, "echo"), because("ChangedKey"));
  });

  it("that puts its own key into a handshake makes it fail, whichever message it is", async (t) => {
    const mallory = publicKeyOf(new Uint8Array(32).fill(3));
    // The ephemeral keys of both sides, and the static key of the responder, which is sealed.
    for (const [kind, at] of [
      [KIND.hello, 3],
      [KIND.answer, 1],
      [KIND.answer, 33],
      [KIND.finish, 1],
    ] as const) {
      for (const isPinned of [false, true]) {
        if (isPinned && (kind === KIND.finish || at === 33)) continue;
        const [edge, alice, bob] = two(t);
        if (isPinned) alice.keyring.pin(bob.address, publicKeyOf(bob.keyring.secretKey));
        bob.host.serve("echo", () => assert.fail("a stream was opened"));
        let swapped = 0;
        edge.treat = (parcel) =>
          packetsOf(parcel).map((packet) => {
            if (packet.body[0] !== kind) return parcelOf(packet);
            swapped += 1;
            packet.body.set(mallory, at);
            return parcelOf(packet);
          });
        // Who has finished its part of the handshake learns only that there is no channel.
        const reason = kind === KIND.finish ? "ChannelUnknown" : "HandshakeFailed";
        await assert.rejects(alice.host.dial(bob.address, "echo"), because(reason));
        assert.ok(swapped > 0);
        const pin = alice.keyring.pinned(bob.address);
        if (pin !== undefined) assert.deepEqual(pin, publicKeyOf(bob.keyring.secretKey));
      }
    }
  });

  it("that lets only handshakes through opens nothing: the first record of the dialing device opens", async (t) => {
    for (const isPinned of [false, true]) {
      const [edge, alice, bob] = two(t);
      if (isPinned) alice.keyring.pin(bob.address, publicKeyOf(bob.keyring.secretKey));
      bob.host.serve("echo", () => assert.fail("a stream was opened"));
      const held: Packet[] = [];
      edge.treat = (parcel) =>
        packetsOf(parcel).flatMap((packet) => {
          if (packet.body[0] !== KIND.record) return [parcelOf(packet)];
          held.push(packet);
          return [];
        });
      const dialing = alice.host.dial(bob.address, "echo");
      await quiet();
      assert.ok(held.some(({ from }) => from === alice.address));
      assert.ok(
        held.every(({ from }) => from === alice.address),
        "nothing is sealed for a device that is not there",
      );
      alice.host.end(OVER);
      await assert.rejects(dialing);
    }
  });

  it("that looks sees neither names of services nor data, ends, resets or their reasons", async (t) => {
    const [edge, alice, bob] = two(t);
    bob.host.serve("secret-service", (stream) => stream.readable.pipeTo(stream.writable));
    bob.host.serve("secret-refusal", (stream) => stream.reset("ServiceUnreachable"));
    for (const _ of [1, 2]) {
      const stream = await alice.host.dial(bob.address, "secret-service");
      await write(stream, "secret-data");
      await stream.writable.close();
      assert.equal(await textOf(stream), "secret-data");
      await stream.closed;
    }
    await assert.rejects(alice.host.dial(bob.address, "secret-refusal"), because("ServiceUnreachable"));
    await assert.rejects(alice.host.dial(bob.address, "secret-nothing"), because("ServiceUnknown"));
    for (const { octets } of edge.seen) assert.ok(!Buffer.from(octets).includes("secret"));
    const packets = edge.seen.flatMap(packetsOf);
    const kinds = new Set(packets.map(({ body }) => body[0]));
    assert.deepEqual([...kinds].sort(), [KIND.hello, KIND.answer, KIND.finish, KIND.record]);
    // In clear a record has its kind and its number, which counts.
    for (const { address } of [alice, bob]) {
      const numbers = packets
        .filter(({ from, body }) => from === address && body[0] === KIND.record)
        .map(({ body }) => Buffer.from(body).readUIntBE(2, 6));
      assert.deepEqual(
        numbers,
        numbers.map((_, index) => index),
      );
    }
  });

  it("that acknowledges nothing gets no more than an edge holds of a device, whatever the number of channels", async (t) => {
    const edge = new HostileEdge();
    const all = parties(edge, ["alice/pc", ...Array.from({ length: 8 }, (_, n) => `bob/${n}`)]);
    t.after(() => {
      for (const { host } of all) host.end(OVER);
    });
    const [alice, ...bobs] = all as [Party, ...Party[]];
    const streams: DeviceStream[] = [];
    for (const { host, address } of bobs) {
      host.serve("unread", (stream) => stream.accept());
      for (let n = 0; n < 10; n += 1) streams.push(await alice.host.dial(address, "unread"));
    }
    await quiet();
    edge.acknowledges = false;
    const before = edge.seen.length;
    for (const { writable } of streams)
      void writable
        .getWriter()
        .write(new Uint8Array(RESERVE))
        .catch(() => undefined);
    await quiet();
    const sent = edge.seen.slice(before).filter(({ from }) => from === alice.address);
    const octets = sent.reduce((sum, parcel) => sum + parcel.octets.length, 0);
    assert.ok(octets > STREAM_HELD / 2 && octets <= STREAM_HELD, `${octets} bytes are on their way`);
  });

  it("that spoils handshakes by a pin learns no more than that the device dials again", async (t) => {
    const [edge, alice, bob] = two(t);
    alice.keyring.pin(bob.address, publicKeyOf(bob.keyring.secretKey));
    bob.host.serve("echo", (stream) => stream.readable.pipeTo(stream.writable));
    let spoilt = 0;
    edge.treat = (parcel) => {
      if (parcel.from !== alice.address || spoilt > 0) return [parcel];
      spoilt += 1;
      const octets = new Uint8Array(parcel.octets);
      octets[octets.length - 1] = (octets.at(-1) ?? 0) ^ 1;
      return [{ ...parcel, octets }];
    };
    const stream = await alice.host.dial(bob.address, "echo");
    assert.deepEqual(stream.peer.key, publicKeyOf(bob.keyring.secretKey));
  });
});

// ------------------------------------------------------------------------------------------------------- at random

/** What it does to one packet. Gets all that it has seen before. */
type Attack = (packet: Packet, chance: Chance, before: readonly Packet[]) => readonly Packet[];

function changed(body: Uint8Array, chance: Chance): Uint8Array {
  const copy = body.slice();
  const at = chance.below(chance.next() < 0.3 ? Math.min(12, copy.length) : copy.length);
  copy[at] = (copy[at] ?? 0) ^ (1 << chance.below(8));
  return copy;
}

const ATTACKS: Readonly<Record<string, Attack>> = {
  "drops packets": () => [],
  "changes packets": (packet, chance) => [{ ...packet, body: changed(packet.body, chance) }],
  "truncates packets": (packet, chance) => [
    { ...packet, body: packet.body.subarray(0, 1 + chance.below(packet.body.length)) },
  ],
  "extends packets": (packet) => [
    { ...packet, body: Buffer.concat([packet.body.subarray(0, 65_000), Buffer.alloc(9)]) },
  ],
  "replays packets": (packet, chance, before) => [packet, ...(before.length > 0 ? [chance.of(before)] : [])],
  "doubles packets": (packet) => [packet, packet],
  "reorders packets": (packet, chance, before) => [...(before.length > 0 ? [chance.of(before.slice(-4))] : []), packet],
  "swaps channels": (packet, chance, before) => [{ ...packet, route: (chance.of(before) ?? packet).route }],
  "swaps contents": (packet, chance, before) => [{ ...packet, body: (chance.of(before) ?? packet).body }],
  "returns packets to their sender": (packet) => [{ ...packet, from: packet.to, to: packet.from }],
  "sends packets elsewhere": (packet) => [{ ...packet, to: "carol/pc" }],
  "invents a sender": (packet) => [{ ...packet, from: "alice/evil" }],
  "swaps senders": (packet) => [{ ...packet, from: "carol/pc" }],
  "denies channels": (packet) => [{ ...packet, body: Uint8Array.of(5, 7) }],
};

/** Messages that it invents from those that it has seen: in the short form, what takes a second. */
const INVENTED = FULL ? 100_000 : 5_000;
/** After so many a device has as many channels as others may begin. */
const OF_A_DEVICE = 500;

describe("a hostile edge that invents messages", () => {
  it(`opens nothing, and makes no device fail: ${INVENTED} made of a whole session`, async (t) => {
    const seed = seedOf();
    t.diagnostic(`GROOVEWAY_SEED=${seed}`);
    const chance = new Chance(seed);
    const [edge, alice, bob] = two(t);
    bob.host.serve("echo", (stream) => stream.readable.pipeTo(stream.writable));
    const stream = await alice.host.dial(bob.address, "echo");
    await write(stream, "hello");
    await stream.writable.close();
    assert.equal(await textOf(stream), "hello");
    const session = [...edge.seen];
    edge.treat = () => [];
    for (let count = 0; count < INVENTED; count += 1) {
      if (count % OF_A_DEVICE === 0) {
        for (const party of [alice, bob]) {
          party.host.end(OVER);
          party.host = edge.join(party.address, party.keyring);
          party.host.serve("echo", () => assert.fail("a stream was opened"));
        }
      }
      const { from, to, octets } = chance.of(session);
      const other = chance.of(session).octets;
      const cut = chance.below(octets.length + 1);
      const joined = Buffer.concat([octets.subarray(0, cut), other.subarray(chance.below(other.length + 1))]);
      for (let changes = chance.below(4); changes > 0 && joined.length > 0; changes -= 1) {
        joined[chance.below(joined.length)] = chance.below(256);
      }
      const sender = chance.next() < 0.9 ? from : chance.of(["alice/evil", "carol/pc", to]);
      edge.deliver({ from: sender, to, octets: joined });
      if (count % 50 === 0) await turn();
    }
    await quiet();
  });
});

/** These lose and change nothing for good. */
const HARMLESS = ["drops packets", "replays packets", "doubles packets", "reorders packets"];

const PAIRS = [
  ["alice/pc", "bob/pc"],
  ["alice/pc", "bob/pc"],
  ["carol/pc", "bob/pc"],
  ["bob/pc", "alice/pc"],
] as const;
/** Bytes of a stream in each direction, at most. */
const MOST = 150_000;
const PIECE = 40_000;

interface Verdict {
  /** What must never happen. */
  readonly wrong: string[];
  /** How each stream ended: "whole", a reason, or "stalled". */
  readonly ends: string[];
}

/** Streams between three devices, while some packets are attacked. */
async function attacked(attack: Attack, chance: Chance): Promise<Verdict> {
  const edge = new HostileEdge();
  const all = parties(edge, ["alice/pc", "bob/pc", "carol/pc"]);
  const party = (address: string) => all.find((one) => one.address === address) as Party;
  if (chance.next() < 0.5) {
    for (const one of all) {
      for (const other of all) one.keyring.pin(other.address, publicKeyOf(other.keyring.secretKey));
    }
  }
  const wrong: string[] = [];
  const sizes = PAIRS.map(() => [chance.below(MOST), chance.below(MOST)] as const);

  async function read(stream: DeviceStream, tape: Tape): Promise<number> {
    let at = 0;
    for await (const piece of stream.readable) {
      if (!tape.has(at, piece)) wrong.push(`${stream.service} got wrong bytes at ${at}`);
      at += piece.length;
    }
    return at;
  }

  async function send({ writable }: DeviceStream, tape: Tape, octets: number): Promise<void> {
    const writer = writable.getWriter();
    for (let at = 0; at < octets; at += PIECE) await writer.write(tape.cut(at, Math.min(PIECE, octets - at)));
    await writer.close();
  }

  for (const { host, address } of all) {
    for (const [n, [from, to]] of PAIRS.entries()) {
      host.serve(`s${n}`, async (stream) => {
        const key = publicKeyOf(party(from).keyring.secretKey);
        const isRight =
          address === to && stream.peer.address === from && Buffer.from(key).equals(stream.peer.key ?? key);
        if (!isRight) wrong.push(`${address} was told that ${stream.peer.address} opens s${n}`);
        const [upload, download] = sizes[n] ?? [0, 0];
        const [got] = await Promise.all([read(stream, new Tape(n)), send(stream, new Tape(n + 50), download)]);
        if (got !== upload) wrong.push(`s${n} ended after ${got} of ${upload} bytes`);
      });
    }
  }

  // The first packets are of handshakes.
  const begin = chance.below(40);
  let [passed, attacks] = [0, 1 + chance.below(3)];
  const before: Packet[] = [];
  edge.treat = (parcel) =>
    packetsOf(parcel).flatMap((packet) => {
      passed += 1;
      const isHit = passed > begin && attacks > 0 && before.length > 0 && chance.next() < 0.5;
      if (isHit) attacks -= 1;
      const result = isHit ? attack(packet, chance, before) : [packet];
      before.push(packet);
      return result.map(parcelOf);
    });

  const ending = PAIRS.map(async ([from, to], n) => {
    const [upload, download] = sizes[n] ?? [0, 0];
    try {
      const stream = await party(from).host.dial(to, `s${n}`);
      // An end that is written to a stream that was reset is refused without its reason.
      const sending = send(stream, new Tape(n), upload).catch(() => undefined);
      const [got] = await Promise.all([read(stream, new Tape(n + 50)), sending]);
      if (got !== download) wrong.push(`s${n} ended after ${got} of ${download} bytes`);
      await stream.closed;
      return "whole";
    } catch (error) {
      return error instanceof StreamError ? error.reason : String(error);
    }
  });
  const ends = await Promise.all(ending.map(async (end) => (await within(PATIENCE, end))?.value ?? "stalled"));
  for (const { host } of all) host.end(OVER);
  await Promise.all(ending);
  return { wrong, ends };
}

/** How a stream may end when packets are changed. */
const NAMES = [
  "whole",
  "HandshakeTimeout",
  "ForgedRecord",
  "HandshakeFailed",
  "SuiteRefused",
  "ChannelUnknown",
  "TokenEnded",
  "ChangedKey",
  "ConnectionReset",
];

describe("a hostile edge that", { concurrency: 4 }, () => {
  const seed = seedOf();
  for (const [index, [name, attack]] of Object.entries(ATTACKS).entries()) {
    it(`${name} at random opens no stream for others, and injects nothing`, async (t) => {
      t.diagnostic(`GROOVEWAY_SEED=${seed}`);
      const verdicts: Verdict[] = [];
      for (let first = 0; first < RUNS; first += BATCH) {
        const seeds = Array.from({ length: BATCH }, (_, n) => seed + index * 1_000_003 + (first + n) * 7919);
        verdicts.push(...(await Promise.all(seeds.map((each) => attacked(attack, new Chance(each))))));
      }
      assert.deepEqual(
        verdicts.flatMap(({ wrong }) => wrong),
        [],
      );
      const ends = new Map<string, number>();
      for (const end of verdicts.flatMap((verdict) => verdict.ends)) ends.set(end, (ends.get(end) ?? 0) + 1);
      t.diagnostic([...ends].map(([end, count]) => `${count} ${end}`).join(", "));
      const names = HARMLESS.includes(name) ? ["whole"] : NAMES;
      assert.deepEqual(
        [...ends.keys()].filter((end) => !names.includes(end)),
        [],
      );
    });
  }
});
