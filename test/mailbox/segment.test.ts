/** What is written into a segment comes out of it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { decodeSegment, type Entry, encodeEntry, type Mail } from "../../src/edge/segment.ts";

const u64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });

const entries: fc.Arbitrary<Entry> = fc
  .record({
    plain: fc.record({
      source: fc.string({ unit: "binary" }),
      id: fc.string({ unit: "binary" }),
      resourceURL: fc.string(),
      identityURL: fc.string(),
      deviceURL: fc.string(),
      track: fc.boolean(),
    }),
    ephemeral: fc.option(fc.nat(), { nil: undefined }),
    streamSize: fc.option(fc.tuple(u64, u64, u64), { nil: undefined }),
    fragmentation: fc.option(fc.uint8Array({ maxLength: 300 }), { nil: undefined }),
    body: fc.uint8Array({ maxLength: 3000 }),
    rows: fc.integer({ min: 0, max: 3 }),
  })
  .map(({ plain, ephemeral, streamSize, fragmentation, body, rows }) => {
    const mail: Mail = {
      ...plain,
      ...(ephemeral !== undefined && { ephemeral }),
      ...(streamSize !== undefined && { streamSize }),
      ...(fragmentation !== undefined && { fragmentation }),
      body: rows === 0 ? body : new Uint8Array(0),
    };
    return { mail, size: rows === 0 ? body.length : 600_000 * rows, rows };
  });

test("messages come out of a segment as they went in, wherever the segment lies in memory", () => {
  fc.assert(
    fc.property(fc.array(entries, { maxLength: 12 }), fc.integer({ min: 0, max: 7 }), (list, offset) => {
      const parts = list.map(encodeEntry);
      const length = parts.reduce((sum, part) => sum + part.length, 0);
      const memory = new Uint8Array(offset + length);
      let at = offset;
      for (const part of parts) {
        memory.set(part, at);
        at += part.length;
      }
      const decoded = decodeSegment(memory.subarray(offset));
      assert.deepEqual(decoded, list);
    }),
    { numRuns: 300 },
  );
});
