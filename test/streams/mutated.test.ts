/**
 * Mutated octets at every layer of streams, from a packet to a channel: what does not fit is refused by its name, and
 * nothing else is thrown.
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { NODE_AES_GCM } from "../../src/device/streams/node-ciphers.ts";
import { type Frame, RecordReader, RecordWriter } from "../../src/streams/frame.ts";
import { Handshake } from "../../src/streams/handshake.ts";
import { BODY_OCTETS, PACKET_HEADER, PacketDecoder, publicKeyOf, RESUME_TIME } from "../../src/streams/index.ts";
import { encodePacket, RECORD_HEADER } from "../../src/streams/packet.ts";
import { type Reason, Violation } from "../../src/streams/reasons.ts";
import { recordNumber, Sealer, sealRecord } from "../../src/streams/records.ts";
import { FULL } from "../support/long-form.ts";
import {
  anyFrame,
  bodyOf,
  bytes,
  End,
  generator,
  initiatorOptions,
  Liar,
  Pair,
  RESPONDER_SECRET,
  ROUTE,
  responderOptions,
  secret,
} from "./support.ts";

/** Seed of the mutations: in the long form another one each time, unless it is given. */
const SEED = Number(process.env.GROOVEWAY_SEED ?? (FULL ? Date.now() & 0xffff : 1));

/** Mutations for each layer: in the short form, what takes half a second. */
const RUNS = FULL ? 100_000 : 8_000;

/** Mutations of handshakes, each of which takes milliseconds: multiplications on the curve. */
const HANDSHAKES = FULL ? RUNS : 100;

/** Channels, each with a handshake that succeeds. */
const CHANNELS = FULL ? 2000 : 20;

type Random = ReturnType<typeof generator>;

/** Changes octets as a liar or a fault would; sometimes not at all, since a change may be undone by another. */
function mutated(samples: readonly Uint8Array[], random: Random): Uint8Array {
  let octets: Uint8Array = new Uint8Array(samples[random(samples.length)] ?? []);
  for (let changes = 1 + random(3); changes > 0; changes -= 1) {
    const at = random(octets.length + 1);
    const other = samples[random(samples.length)] ?? octets;
    switch (random(8)) {
      case 0:
        octets = octets.subarray(0, at);
        break;
      case 1:
        octets = Buffer.concat([octets.subarray(0, at), octets.subarray(at + 1 + random(4))]);
        break;
      case 2:
        octets = Buffer.concat([octets.subarray(0, at), bytes("\0".repeat(1 + random(4))), octets.subarray(at)]);
        break;
      case 3:
        octets = Buffer.concat([octets.subarray(0, at), other.subarray(random(other.length + 1))]);
        break;
      case 4:
        if (at < octets.length) octets[at] = random(2) === 0 ? 0 : 0xff;
        break;
      case 5:
        if (at < octets.length) octets[at] = (octets[at] ?? 0) ^ (1 << random(8));
        break;
      default:
        if (at < octets.length) octets[at] = random(256);
    }
  }
  return new Uint8Array(octets);
}

function isSame(one: Uint8Array, other: Uint8Array): boolean {
  return Buffer.compare(one, other) === 0;
}

/** The reason of what was thrown, which must be one of these; undefined if nothing was. */
function refusal(act: () => void, reasons: readonly Reason[]): Reason | undefined {
  try {
    act();
    return undefined;
  } catch (error) {
    if (error instanceof Violation && reasons.includes(error.reason)) return error.reason;
    throw error;
  }
}

describe("mutated octets", { concurrency: false }, () => {
  const random = generator(SEED);

  it(`of ${RUNS} frames are refused as malformed or unknown, or are other frames`, (t) => {
    t.diagnostic(`GROOVEWAY_SEED=${SEED}`);
    const writer = new RecordWriter();
    const written = (received: number, frames: readonly Frame[]) => {
      writer.begin(received);
      for (const frame of frames) assert.ok(writer.append(frame));
      return writer.contents.slice();
    };
    const samples = fc
      .sample(fc.array(anyFrame, { minLength: 1, maxLength: 6 }), { numRuns: 200, seed: SEED })
      .map((frames) => written(random(1000), frames));
    let read = 0;
    for (let run = 0; run < RUNS; run += 1) {
      const contents = mutated(samples, random);
      const frames: Frame[] = [];
      let received = 0;
      const refused = refusal(() => {
        const reader = new RecordReader(contents);
        received = reader.received;
        for (let frame = reader.next(); frame !== undefined; frame = reader.next()) frames.push(frame);
      }, ["MalformedFrame", "UnknownFrame"]);
      if (refused !== undefined) continue;
      read += 1;
      // Unknown reasons become a known one.
      if (frames.every(({ type }) => type !== "reset" && type !== "close")) {
        assert.ok(isSame(written(received, frames), contents), "what was read is not what was written");
      }
    }
    assert.ok(read > 0 && read < RUNS, `${read} were read`);
  });

  it(`of ${RUNS} messages with packets are other packets, wherever they are split`, () => {
    const samples = Array.from({ length: 50 }, () => {
      const packets = Array.from({ length: 1 + random(4) }, () =>
        encodePacket(random(2 ** 32), new Uint8Array(1 + random(40)).fill(random(256))),
      );
      return new Uint8Array(Buffer.concat(packets));
    });
    const decoder = new PacketDecoder();
    const packetsIn = (chunks: readonly Uint8Array[]) => {
      const packets: string[] = [];
      for (const chunk of chunks) {
        decoder.push(chunk, (route, body) => {
          assert.ok(route < 2 ** 32 && body.length <= BODY_OCTETS);
          packets.push(`${route} ${Buffer.from(body).toString("latin1")}`);
        });
        assert.ok(decoder.held < PACKET_HEADER + BODY_OCTETS);
      }
      decoder.clear();
      return packets;
    };
    for (let run = 0; run < RUNS; run += 1) {
      const message = mutated(samples, random);
      const at = random(message.length + 1);
      const split = packetsIn([message.subarray(0, at), message.subarray(at)]);
      assert.deepEqual(split, packetsIn([message]));
    }
  });

  it(`of ${HANDSHAKES} messages of handshakes agree on nothing, and fail by name or are ignored`, () => {
    const reasons: Reason[] = ["HandshakeFailed", "SuiteRefused"];
    const [key, other] = [publicKeyOf(RESPONDER_SECRET), publicKeyOf(secret(90))];
    const stages = [key, undefined].flatMap((peerKey) => {
      const initiator = () => new Handshake(initiatorOptions({ peerKey }));
      const responder = () => new Handshake(responderOptions());
      const [one, two] = [initiator(), responder()];
      const hello = new Uint8Array(one.message ?? []);
      two.receive(hello);
      const answer = new Uint8Array(two.message ?? []);
      one.receive(answer);
      const greeted = () => {
        const handshake = responder();
        handshake.receive(hello);
        return handshake;
      };
      const finish = new Uint8Array(one.message ?? []);
      return [
        { make: responder, right: hello },
        { make: initiator, right: answer },
        ...(peerKey === undefined ? [{ make: greeted, right: finish }] : []),
      ];
    });
    // Keys of low order, and those of somebody else, where keys are.
    const keys = [new Uint8Array(32), Uint8Array.of(1, ...new Uint8Array(31)), other];
    const swapped = (octets: Uint8Array) => {
      const made = octets.slice();
      made.set(keys[random(keys.length)] ?? [], Math.min(made.length - 32, [1, 3, 33, 35][random(4)] ?? 0));
      return made;
    };
    const all = stages.map(({ right }) => right);
    for (let run = 0; run < HANDSHAKES; run += 1) {
      const { make, right } = stages[run % stages.length] ?? { make: () => assert.fail(), right: key };
      const message = random(5) === 0 ? swapped(right) : mutated([right, right, right, ...all], random);
      // That of another stage may be right here too.
      if (all.some((one) => isSame(one, message))) continue;
      const handshake = make();
      refusal(() => handshake.receive(message), reasons);
      assert.equal(handshake.agreement, undefined, Buffer.from(message).toString("hex"));
    }
  });

  it(`of ${RUNS} sealed records are never opened`, () => {
    const sealer = new Sealer(NODE_AES_GCM, secret(6));
    const samples = [0, 1, 2, 3].map((number) =>
      bodyOf(sealRecord(sealer, ROUTE, number, new Uint8Array(10 + 30 * number).fill(number))),
    );
    const opener = new Sealer(NODE_AES_GCM, secret(6));
    let tried = 0;
    for (let run = 0; run < RUNS; run += 1) {
      const record = mutated(samples, random);
      const number = recordNumber(record);
      // The first octet is the kind, which the channel has read.
      if (number === undefined || samples.some((sample) => isSame(sample.subarray(1), record.subarray(1)))) continue;
      assert.equal(opener.open(number, record.subarray(RECORD_HEADER)), undefined);
      tried += 1;
    }
    assert.ok(tried > RUNS / 2, `${tried} were tried`);
  });

  it(`of ${RUNS} records end a channel as forged, or are old or behind a gap, and nothing else`, () => {
    /** An end whose handshake is done, with sealed records, and what seals those of its peer. */
    const sealed = (): { readonly end: End; readonly peer: Sealer } => {
      const [send, receive] = [secret(5), secret(6)];
      const agreement = {
        suite: NODE_AES_GCM,
        keys: { send, receive },
        peerKey: secret(7),
        resumeTime: RESUME_TIME,
        refusal: undefined,
      };
      const end = new End(initiatorOptions(), { message: undefined, agreement, receive: () => false });
      end.channel.attach(0);
      end.channel.receive(Uint8Array.of(0), 0);
      return { end, peer: new Sealer(NODE_AES_GCM, receive) };
    };
    const { peer } = sealed();
    const samples = [0, 1].map((number) => bodyOf(sealRecord(peer, ROUTE, number, new Uint8Array(40).fill(6, 8))));
    const [first = new Uint8Array()] = samples;
    let { end } = sealed();
    end.channel.receive(first, 0);
    for (let run = 0; run < RUNS; run += 1) {
      end.channel.receive(mutated(samples, random), run);
      end.channel.output(1e6, run);
      const { ended } = end.channel;
      if (ended === undefined) continue;
      assert.ok(ended.reason === "ForgedRecord" || ended.by === "edge", ended.reason);
      ({ end } = sealed());
      end.channel.receive(first, run);
    }
  });

  it(`of ${RUNS} records in the clear end a channel once and by name, which answers little`, () => {
    const frames: Frame[] = [
      { type: "open", stream: 1, service: "ssh" },
      { type: "data", stream: 1, data: new Uint8Array(30) },
      { type: "credit", stream: 1, limit: 70_000 },
      { type: "credit", stream: 2, limit: 70_000 },
      { type: "data", stream: 2, data: new Uint8Array(5) },
      { type: "end", stream: 1 },
      { type: "open", stream: 3, service: "web" },
      { type: "reset", stream: 3, reason: "Closed" },
      { type: "ping" },
      { type: "resume" },
    ];
    const samples = [new Liar().record(frames, { received: 1, number: 1 })];
    for (let run = 0; run < RUNS; run += 1) {
      const liar = new Liar();
      const { channel } = liar.end;
      liar.say({ type: "ping" });
      channel.open("mine");
      channel.output(1e6, 0);
      channel.receive(mutated(samples, random), 0);
      const octets = channel.output(1e6, 0).reduce((sum, { length }) => sum + length, 0);
      assert.ok(octets < 400, `${octets}`);
      const ends = liar.end.of("ended");
      assert.equal(ends.length, channel.ended === undefined ? 0 : 1);
      assert.equal(liar.end.log.at(-1)?.type === "ended", ends.length === 1);
      if (channel.ended === undefined) assert.ok(channel.streams >= 1 && channel.streams <= 6);
      else assert.equal(channel.streams, 0);
    }
  });

  it(`of packets of any kind, at any stage of ${CHANNELS} channels, end these by name or not at all`, () => {
    for (let run = 0; run < CHANNELS; run += 1) {
      const pair = new Pair(random(2) === 0 ? { peerKey: undefined } : {});
      const seen: Uint8Array[] = [Uint8Array.of(5, random(256))];
      for (let stage = random(6); stage > 0; stage -= 1) {
        for (const end of pair.ends) {
          if (stage === 1) end.channel.open("ssh");
          for (const packet of pair.take(end)) {
            seen.push(bodyOf(packet));
            pair.give(pair.other(end), [packet]);
          }
        }
      }
      for (const end of pair.ends) {
        for (let count = 0; count < 4; count += 1) end.channel.receive(mutated(seen, random), pair.now);
        pair.take(end);
        assert.equal(end.of("ended").length, end.channel.ended === undefined ? 0 : 1);
      }
    }
  });
});
