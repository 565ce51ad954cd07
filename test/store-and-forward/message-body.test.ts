import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import {
  AHEAD_MOST,
  ARENA_BLOCK,
  ARENA_PIECE,
  Arena,
  kept,
  MessageBody,
} from "../../src/store-and-forward/message-body.ts";

describe("a message body", () => {
  test("is returned whole, in order and once, however it was split", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 50 }), (pieces) => {
        const body = new MessageBody(new Arena());
        for (const piece of pieces) {
          const brought = piece.slice();
          body.add(brought);
          // The caller reuses its memory.
          brought.fill(0xee);
        }
        const whole = Buffer.concat(pieces);
        assert.equal(body.length, whole.length);
        assert.ok(whole.equals(body.take()));
        assert.equal(body.take().length, 0);
      }),
      { numRuns: 2000 },
    );
  });

  test("frees its memory at once when it is discarded, and what it was joined from when it is taken", () => {
    const MIB = 1024 * 1024;
    const piece = new Uint8Array(MIB / 2);
    const filled = () => {
      const body = new MessageBody(new Arena());
      for (let n = 0; n < 64; n += 1) body.add(piece);
      return body;
    };
    const before = process.memoryUsage().arrayBuffers;
    filled().drop();
    const whole = filled().take();
    const held = process.memoryUsage().arrayBuffers - before;
    assert.equal(whole.length, 32 * MIB);
    assert.ok(held < 33 * MIB, `${held} bytes are held`);
  });

  test("stores small pieces together, and longer ones separately", () => {
    const arena = new Arena();
    const taken = [100, 200, ARENA_PIECE + 1, 300].map((length, i) => {
      const body = new MessageBody(arena);
      body.add(new Uint8Array(length).fill(i));
      return body.take();
    });
    assert.deepEqual(
      taken.map(({ buffer }) => buffer.byteLength),
      [ARENA_BLOCK, ARENA_BLOCK, ARENA_PIECE + 1, ARENA_BLOCK],
    );
    assert.equal(taken[0]?.buffer, taken[3]?.buffer);
    assert.ok(taken.every((octets, i) => octets.every((octet) => octet === i)));
  });

  test("that follows a long one is gathered in one piece of memory", () => {
    const arena = new Arena();
    const bodyOf = (length: number) => {
      const body = new MessageBody(arena);
      const whole = Uint8Array.from({ length }, (_, at) => at % 251);
      for (let at = 0; at < length; at += 2048) body.add(whole.subarray(at, at + 2048));
      return { body, whole };
    };
    const buffers = [500_000, 400_000, 100, 400_000, 500_000, AHEAD_MOST + 10_000, 400_000].map((length) => {
      const { body, whole } = bodyOf(length);
      const taken = body.take();
      assert.ok(Buffer.from(whole).equals(taken));
      return taken.buffer.byteLength;
    });
    // As long as the one before, unless that was shorter; a short one between them does not count.
    assert.deepEqual(buffers, [500_000, 500_000, ARENA_BLOCK, 400_000, 500_000, AHEAD_MOST + 10_000, 400_000]);
    assert.deepEqual(bodyOf(200_000).body.take().buffer.byteLength, 400_000);
    bodyOf(500_000).body.take();
    const [first, second] = [bodyOf(300_000).body, bodyOf(300_000).body];
    assert.equal(second.take().buffer.byteLength, 300_000, "one body at a time has memory in advance");
    assert.equal(first.take().buffer.byteLength, 500_000);
  });

  test("in a shared arena stays separate from others, in whatever order their pieces arrive", () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ who: fc.nat(5), piece: fc.uint8Array({ maxLength: 2 * ARENA_PIECE }) }), {
          maxLength: 60,
        }),
        (steps) => {
          const arena = new Arena();
          const all = Array.from({ length: 6 }, () => ({ body: new MessageBody(arena), came: [] as Uint8Array[] }));
          for (const { who, piece } of steps) {
            all[who]?.body.add(piece);
            all[who]?.came.push(piece);
          }
          for (const { body, came } of all) assert.ok(Buffer.concat(came).equals(body.take()));
        },
      ),
      { numRuns: 300 },
    );
  });

  test("in a million pieces of one octet takes little more memory than a million octets", () => {
    const body = new MessageBody(new Arena());
    const before = process.memoryUsage().arrayBuffers;
    for (let i = 0; i < 1_000_000; i += 1) body.add(Uint8Array.of(i));
    const grown = process.memoryUsage().arrayBuffers - before;
    // The pieces themselves still exist, since nothing has been collected.
    assert.ok(grown < 8_000_000, `${grown} octets`);
    const whole = body.take();
    assert.ok(whole.every((octet, i) => octet === (i & 0xff)));
  });
});

test("a stored body retains only its own memory, not that of its chunk or a Buffer", () => {
  const chunk = Buffer.from(new ArrayBuffer(64 * 1024));
  for (const length of [0, 1, 10, ARENA_PIECE, ARENA_PIECE + 1, 2048]) {
    const body = new MessageBody(new Arena());
    body.add(chunk.subarray(5, 5 + length));
    const whole = body.take();
    assert.notEqual(whole.buffer, chunk.buffer);
    assert.ok(whole.buffer.byteLength <= Math.max(length, ARENA_BLOCK));
    const one = kept(chunk.subarray(5, 5 + length));
    assert.equal(one.buffer.byteLength, length);
  }
  const most = chunk.subarray(1);
  assert.equal(kept(most), most);
});
