import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { Gathering } from "../../src/edge/gathering.ts";

describe("octets that are gathered", () => {
  test("come back whole and in order, however they were cut, and once", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 50 }), (pieces) => {
        const gathering = new Gathering();
        for (const piece of pieces) {
          const brought = piece.slice();
          gathering.add(brought);
          // Whoever brought it uses its memory again.
          brought.fill(0xee);
        }
        const whole = Buffer.concat(pieces);
        assert.equal(gathering.length, whole.length);
        assert.ok(whole.equals(gathering.take()));
        assert.equal(gathering.take().length, 0);
      }),
      { numRuns: 2000 },
    );
  });

  test("a single piece stands in memory of its own length, which is all that a call carries", () => {
    const gathering = new Gathering();
    gathering.add(new Uint8Array(1000));
    assert.equal(gathering.take().buffer.byteLength, 1000);
  });

  test("a million pieces of one octet take little more memory than a million octets", () => {
    const gathering = new Gathering();
    const before = process.memoryUsage().arrayBuffers;
    for (let i = 0; i < 1_000_000; i += 1) gathering.add(Uint8Array.of(i));
    const grown = process.memoryUsage().arrayBuffers - before;
    // The pieces themselves are still there, since nothing has collected them.
    assert.ok(grown < 8_000_000, `${grown} octets`);
    const whole = gathering.take();
    assert.ok(whole.every((octet, i) => octet === (i & 0xff)));
  });
});
