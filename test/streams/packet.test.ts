import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { BODY_OCTETS, encodeNotice, isHello, isNotice, PACKET_HEADER, PacketDecoder } from "../../src/streams/index.ts";
import { encodePacket } from "../../src/streams/packet.ts";
import { bodyOf, bytes, generator, text } from "./support.ts";

type Packet = readonly [route: number, body: string];

/** Decodes chunks, each in memory that is used again afterwards. */
function decoded(decoder: PacketDecoder, chunks: readonly Uint8Array[]): Packet[] {
  const packets: Packet[] = [];
  for (const chunk of chunks) {
    const memory = Buffer.from(chunk);
    decoder.push(memory, (route, body) => packets.push([route, text(body) ?? ""]));
    memory.fill(0xff);
  }
  return packets;
}

describe("packets", () => {
  it("have a route, a length and a body", () => {
    assert.deepEqual([...encodePacket(0x01020304, bytes("abc"))], [1, 2, 3, 4, 0, 3, 97, 98, 99]);
  });

  it("are decoded wherever they are split", () => {
    const packet = fc.tuple(fc.nat(0xffffffff), fc.string({ minLength: 1, maxLength: 300 }).map(ascii));
    fc.assert(
      fc.property(fc.array(packet, { maxLength: 8 }), fc.array(fc.nat(40)), (packets, sizes) => {
        const octets = Buffer.concat(packets.map(([route, body]) => encodePacket(route, bytes(body))));
        const chunks: Uint8Array[] = [];
        for (let at = 0; at < octets.length; at += chunks.at(-1)?.length ?? 0) {
          chunks.push(octets.subarray(at, at + 1 + (sizes[chunks.length] ?? 1000)));
        }
        const decoder = new PacketDecoder();
        assert.deepEqual(decoded(decoder, chunks), packets);
        assert.equal(decoder.held, 0);
      }),
    );
  });

  it("of the greatest length are decoded", () => {
    const decoder = new PacketDecoder();
    assert.deepEqual(decoded(decoder, [Uint8Array.of(0, 0, 0, 1, 0xff, 0xff, 4)]), []);
    assert.equal(decoder.held, 7);
    assert.equal(decoded(decoder, [new Uint8Array(BODY_OCTETS)]).length, 1);
    assert.equal(decoder.held, 1);
  });

  it("of several senders do not mix, however long and however their pieces alternate", () => {
    const bodies = [40_000, 65_535, 200, 65_000].map((length, at) => generatedBody(length, at));
    const senders = bodies.map((body, at) => ({ decoder: new PacketDecoder(), octets: encodePacket(at, body), at: 0 }));
    const came: { readonly route: number; readonly body: Uint8Array }[] = [];
    while (senders.some(({ octets, at }) => at < octets.length)) {
      for (const sender of senders) {
        const piece = sender.octets.slice(sender.at, sender.at + 2048);
        sender.at += piece.length;
        sender.decoder.push(piece, (route, body) => came.push({ route, body: new Uint8Array(body) }));
      }
    }
    assert.deepEqual(came.map(({ route }) => route).sort(), [0, 1, 2, 3]);
    for (const { route, body } of came) assert.ok(Buffer.compare(body, bodies[route] as Uint8Array) === 0);
  });

  it("that are cut off are forgotten with their message", () => {
    const decoder = new PacketDecoder();
    decoded(decoder, [encodePacket(1, bytes("lost")).subarray(0, 8)]);
    decoder.clear();
    assert.deepEqual(decoded(decoder, [encodePacket(2, bytes("whole"))]), [[2, "whole"]]);
  });

  it("come out of any octets: at most one is held", () => {
    const random = generator(21);
    const decoder = new PacketDecoder();
    for (let run = 0; run < 20_000; run += 1) {
      const chunk = Uint8Array.from({ length: random(40) }, () => random(random(3) === 0 ? 256 : 3));
      decoder.push(chunk, (route, body) => assert.ok(route < 2 ** 32 && body.length <= BODY_OCTETS));
      assert.ok(decoder.held < PACKET_HEADER + BODY_OCTETS);
    }
  });

  it("refuse what does not fit", () => {
    assert.throws(() => encodePacket(2 ** 32, bytes("a")), /below 2\^32/);
    assert.throws(() => encodePacket(-1, bytes("a")), RangeError);
    assert.throws(() => encodePacket(1, new Uint8Array(0)), /use 1 to 65535/);
    assert.throws(() => encodePacket(1, new Uint8Array(BODY_OCTETS + 1)), RangeError);
  });
});

describe("a notice", () => {
  it("is shorter than any record, and no answer to it is needed", () => {
    const notice = encodeNotice(7, "ChannelUnknown");
    assert.equal(notice.length, PACKET_HEADER + 2);
    assert.ok(isNotice(bodyOf(notice)));
    assert.ok(!isHello(bodyOf(notice)));
  });
});

function generatedBody(length: number, seed: number): Uint8Array {
  const random = generator(seed + 5);
  return Uint8Array.from({ length }, () => random(256));
}

function ascii(one: string): string {
  return one.replace(/[^\x20-\x7e]/g, "?");
}
