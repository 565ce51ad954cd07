/** Peers that lie, and an edge that does what it likes with the packets that pass through it. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import type { Frame } from "../../src/streams/frame.ts";
import type { ChannelOptions } from "../../src/streams/index.ts";
import { CreditPool, PACKET_HEADER, publicKeyOf } from "../../src/streams/index.ts";
import { KEPT_RECORDS, RESERVE, SMALL_BLOCK, WAITING_RESETS } from "../../src/streams/limits.ts";
import { RECORD_HEADER } from "../../src/streams/packet.ts";
import { ReceiveBuffer } from "../../src/streams/stream.ts";
import { bodyOf, bytes, connected, endings, generator, heard, Liar, Pair, secret, text } from "./support.ts";

const OPEN: Frame = { type: "open", stream: 1, service: "ssh" };

function data(stream: number, length: number): Frame {
  return { type: "data", stream, data: new Uint8Array(length) };
}

describe("a peer that", () => {
  const lies: readonly (readonly [what: string, reason: string, ...frames: Frame[]])[] = [
    ["sends more than was granted", "CreditExceeded", OPEN, data(1, RESERVE), data(1, 1)],
    ["sends on a stream that was never opened", "UnknownStream", data(1, 1)],
    ["sends on stream 0", "UnknownStream", data(0, 1)],
    ["sends on a stream that this side did not open", "UnknownStream", data(2, 1)],
    ["resets a stream that was never opened", "UnknownStream", { type: "reset", stream: 3, reason: "Closed" }],
    ["ends a stream that was never opened", "UnknownStream", { type: "end", stream: 2 ** 32 - 1 }],
    ["opens a stream twice", "UnknownStream", OPEN, OPEN],
    ["opens streams out of turn", "UnknownStream", { ...OPEN, stream: 3 }],
    ["opens streams with numbers of this side", "UnknownStream", { ...OPEN, stream: 2 }],
    ["sends after its end", "DataAfterEnd", OPEN, { type: "end", stream: 1 }, data(1, 1)],
    ["ends twice", "DataAfterEnd", OPEN, { type: "end", stream: 1 }, { type: "end", stream: 1 }],
    ["takes credit back", "CreditWithdrawn", OPEN, { type: "credit", stream: 1, limit: RESERVE - 1 }],
  ];

  for (const [what, reason, ...frames] of lies) {
    it(`${what} ends its channel by ${reason}, and is told`, () => {
      const liar = new Liar().say(...frames);
      assert.equal(liar.ending, reason);
      const [last] = heard(liar.end.channel.output(1e6, 0)).slice(-1);
      assert.deepEqual(last?.frames, [{ type: "close", reason }]);
      assert.equal(liar.end.of("ended").length, 1);
    });
  }

  it("acknowledges records that were never sealed ends its channel by AcknowledgedUnsent", () => {
    const liar = new Liar();
    liar.end.channel.receive(liar.record([], { received: 1 }), 0);
    assert.equal(liar.ending, "AcknowledgedUnsent");
  });

  it("sends unknown or broken frames ends its channel by name", () => {
    for (const [contents, reason] of [
      [[0, 0, 0, 0, 0, 0, 0, 0, 77], "UnknownFrame"],
      [[0, 0, 0, 0, 0, 0, 0, 0, 2, 0], "MalformedFrame"],
      [[0, 0, 0], "MalformedFrame"],
      [[0xff, 0, 0, 0, 0, 0, 0, 0], "MalformedFrame"],
    ] as const) {
      const liar = new Liar();
      liar.end.channel.receive(liar.raw(Uint8Array.from(contents)), 0);
      assert.equal(liar.ending, reason);
    }
  });

  it("sends on a stream that is gone is no liar: it may not know yet", () => {
    const liar = new Liar().say(OPEN, data(1, 10));
    liar.end.channel.reset(1);
    liar.say(data(1, RESERVE), data(1, RESERVE), { type: "credit", stream: 1, limit: 5 }, { type: "end", stream: 1 });
    liar.say({ type: "reset", stream: 1, reason: "Closed" });
    assert.equal(liar.ending, undefined);
  });

  it("opens streams without reading the refusals ends its channel by TooManyResets", () => {
    const liar = new Liar({ pool: new CreditPool({ streams: 1 }) });
    for (let id = 1; id < 2 * WAITING_RESETS + 10 && liar.ending === undefined; id += 2) {
      liar.say({ type: "open", stream: id, service: "a" });
    }
    assert.equal(liar.ending, "TooManyResets");
    assert.equal(liar.end.of("opened").length, 1);
  });

  it("reads its refusals can open streams for ever", () => {
    const liar = new Liar({ pool: new CreditPool({ streams: 1 }) });
    let received = 0;
    for (let count = 0; count < 2 * WAITING_RESETS; count += 1) {
      liar.end.channel.receive(liar.record([{ type: "open", stream: 2 * count + 1, service: "a" }], { received }), 0);
      received += liar.end.channel.output(1e6, 0).length;
      assert.equal(liar.ending, undefined);
    }
  });

  it("pings and acknowledges nothing makes this side keep a bounded number of records", () => {
    const liar = new Liar();
    let packets = 0;
    for (let count = 0; count < 3 * KEPT_RECORDS; count += 1) {
      liar.say({ type: "ping" });
      packets += liar.end.channel.output(1e6, 0).length;
    }
    assert.equal(packets, 2 * KEPT_RECORDS);
    assert.ok(!liar.end.channel.isPending);
  });

  it("asks for records again gets them once for each question", () => {
    const liar = new Liar({ role: "initiator" });
    const { channel } = liar.end;
    channel.open("a");
    const first = channel.output(1e6, 0);
    const question = liar.record([{ type: "resume" }]);
    channel.receive(question, 0);
    assert.deepEqual(channel.output(1e6, 0).slice(0, 1), first.slice(0, 1));
    channel.receive(question, 0);
    assert.equal(channel.stats.old, 1);
    // The same after a gap, where the record stays to come.
    const later = liar.record([{ type: "resume" }], { number: 9 });
    for (let count = 0; count < 3; count += 1) channel.receive(later, 0);
    const { resent } = channel.stats;
    channel.output(1e6, 0);
    for (let count = 0; count < 3; count += 1) channel.receive(later, 0);
    channel.output(1e6, 0);
    assert.ok(channel.stats.resent - resent <= 4);
  });

  it("leaves gaps is asked once, not for each record", () => {
    const liar = new Liar();
    const packets = [];
    for (let number = 5; number < 100; number += 1) {
      liar.end.channel.receive(liar.record([{ type: "ping" }], { number }), 0);
      packets.push(...heard(liar.end.channel.output(1e6, 0)));
    }
    assert.equal(packets.flatMap(({ frames }) => frames).filter(({ type }) => type === "resume").length, 1);
    assert.equal(liar.end.channel.stats.gaps, 95);
  });

  it("opens and sends after a gap opens nothing", () => {
    const liar = new Liar();
    liar.end.channel.receive(liar.record([OPEN, data(1, 10), data(7, 1)], { number: 3 }), 0);
    assert.deepEqual(liar.end.of("opened"), []);
    assert.equal(liar.ending, undefined);
  });
});

describe("received data", () => {
  it("costs about as much memory as it has octets, however it comes", () => {
    const buffer = new ReceiveBuffer();
    const record = new Uint8Array(60_000);
    const memory = new Set<ArrayBufferLike>();
    const random = generator(3);
    let octets = 0;
    for (let count = 0; count < 3000; count += 1) {
      const length = 1 + random(random(4) === 0 ? 5000 : 20);
      buffer.push(record.slice().subarray(0, length), record.length);
      octets += length;
    }
    assert.equal(buffer.length, octets);
    let pieces = 0;
    for (let piece = buffer.take(1e9); piece !== undefined; piece = buffer.take(1e9)) {
      memory.add(piece.buffer);
      pieces += 1;
      octets -= piece.length;
    }
    assert.equal(octets, 0);
    const held = [...memory].reduce((sum, { byteLength }) => sum + byteLength, 0);
    assert.ok(held < 2 * 3000 * 700 + SMALL_BLOCK, `${held}`);
    assert.ok(pieces < 1700, `${pieces}`);
  });

  it("is not copied if it fills its record", () => {
    const buffer = new ReceiveBuffer();
    const octets = new Uint8Array(60_000);
    buffer.push(octets, octets.length + 15);
    assert.equal(buffer.take(1e9)?.buffer, octets.buffer);
  });

  it("comes out as it went in, whatever the sizes", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(3000), fc.nat(4000))), (steps) => {
        const buffer = new ReceiveBuffer();
        const sent: number[] = [];
        const got: number[] = [];
        for (const [length, most] of steps) {
          const octets = Uint8Array.from({ length }, () => sent.length & 0xff);
          if (length > 0) buffer.push(octets, length);
          sent.push(...octets);
          got.push(...(buffer.take(most + 1) ?? []));
          assert.equal(buffer.length, sent.length - got.length);
        }
        for (let piece = buffer.take(9999); piece !== undefined; piece = buffer.take(9999)) got.push(...piece);
        assert.deepEqual(got, sent);
      }),
    );
  });
});

describe("an edge that", () => {
  /** A pair with a stream, and one record of each side on its way. */
  function midway(): { pair: Pair; id: number; up: Uint8Array; down: Uint8Array } {
    const pair = connected();
    const id = pair.stream();
    pair.wait(1000);
    pair.initiator.channel.write(id, bytes("secret up"));
    pair.responder.channel.write(id, bytes("secret down"));
    const [up = new Uint8Array()] = pair.take(pair.initiator);
    const [down = new Uint8Array()] = pair.take(pair.responder);
    return { pair, id, up, down };
  }

  /** What both ends are told when one has got a forged record. */
  const FORGED = [
    { reason: "ForgedRecord", by: "peer" },
    { reason: "ForgedRecord", by: "self" },
  ];

  it("looks sees neither services nor data", () => {
    const { up, down } = midway();
    for (const packet of [up, down]) assert.ok(!text(packet)?.includes("secret"));
    const pair = connected();
    pair.initiator.channel.open("very-secret-service");
    assert.ok(!pair.take(pair.initiator).some((packet) => text(packet)?.includes("secret")));
  });

  it("changes an octet of a record ends the channel by name at both ends", () => {
    const { up } = midway();
    for (let at = PACKET_HEADER + 5; at < up.length; at += 11) {
      const { pair, id, up: fresh } = midway();
      fresh[at] = (fresh[at] as number) ^ 0x40;
      pair.give(pair.responder, [fresh]);
      assert.equal(pair.responder.channel.read(id, 99, 0), undefined);
      pair.settle();
      assert.deepEqual(endings(pair), FORGED);
    }
  });

  it("cuts or extends a record ends the channel", () => {
    for (const change of [
      (body: Uint8Array) => body.subarray(0, body.length - 1),
      (body: Uint8Array) => body.subarray(0, RECORD_HEADER),
      (body: Uint8Array) => body.subarray(0, 3),
      (body: Uint8Array) => Buffer.concat([body, Uint8Array.of(0)]),
    ]) {
      const { pair, up } = midway();
      pair.responder.channel.receive(change(bodyOf(up)), pair.now);
      pair.settle();
      assert.deepEqual(endings(pair), FORGED);
    }
  });

  it("returns a record to its sender ends the channel", () => {
    const { pair, up } = midway();
    pair.give(pair.initiator, [up]);
    assert.equal(pair.initiator.channel.ended?.reason, "ForgedRecord");
  });

  it("puts the contents of one record under the number of another ends the channel", () => {
    const { pair, id, up } = midway();
    pair.initiator.channel.write(id, bytes("other text"));
    const [other = new Uint8Array()] = pair.take(pair.initiator);
    const swapped = other.slice();
    swapped.set(up.subarray(PACKET_HEADER, PACKET_HEADER + RECORD_HEADER), PACKET_HEADER);
    pair.give(pair.responder, [swapped]);
    assert.equal(pair.responder.channel.ended?.reason, "ForgedRecord");
  });

  it("passes a record of one channel into another ends that", () => {
    const { up } = midway();
    const other = connected({ ephemeralSecret: secret(50) });
    other.stream();
    other.wait(1000);
    other.give(other.responder, [up]);
    assert.equal(other.responder.channel.ended?.reason, "ForgedRecord");
  });

  it("repeats and reorders records gains nothing, and loses nothing", () => {
    const { pair, id, up } = midway();
    pair.initiator.channel.write(id, bytes(", and more"));
    const [more = new Uint8Array()] = pair.take(pair.initiator);
    pair.give(pair.responder, [more, up, up, more, up]);
    pair.wait(100);
    assert.equal(text(pair.readAll(pair.responder, id).octets), "secret up, and more");
    assert.deepEqual(endings(pair), []);
  });

  it("plays itself between two devices is refused by a pin", () => {
    const pair = new Pair({}, { staticSecret: secret(66) }).settle();
    assert.equal(pair.initiator.channel.ended?.reason, "HandshakeFailed");
    assert.deepEqual(pair.initiator.of("established"), []);
  });

  it("plays itself at first contact is known by its own key only", () => {
    const judged: Uint8Array[] = [];
    const judge = (key: Uint8Array) => {
      judged.push(key);
      return undefined;
    };
    new Pair({ peerKey: undefined, judge }, { staticSecret: secret(66) }).settle();
    assert.deepEqual(judged, [publicKeyOf(secret(66))]);
  });
});

describe("options", () => {
  it("of a pool without streams refuse every stream", () => {
    const options: Partial<ChannelOptions> = { pool: new CreditPool({ streams: 0 }) };
    const liar = new Liar(options).say(OPEN);
    const frames = heard(liar.end.channel.output(1e6, 0)).flatMap((record) => record.frames);
    assert.deepEqual(frames, [{ type: "reset", stream: 1, reason: "TooManyStreams" }]);
  });
});
