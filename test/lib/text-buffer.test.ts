import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { encodeText } from "../../src/lib/text-buffer.ts";

const encoder = new TextEncoder();
const text = fc.oneof(
  fc.string({ maxLength: 300 }),
  fc.string({ unit: "binary", maxLength: 300 }),
  // With halves of characters.
  fc.array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 300 }).map((codes) => String.fromCharCode(...codes)),
);

describe("a text in a shared buffer", () => {
  it("is encoded as TextEncoder encodes it, and stays so when others are encoded", () => {
    fc.assert(
      fc.property(fc.array(text, { maxLength: 60 }), (texts) => {
        const encoded = texts.map((one) => encodeText(one));
        assert.deepEqual(
          encoded,
          texts.map((one) => encoder.encode(one)),
        );
      }),
    );
  });

  it("shares its buffer if it is short", () => {
    const texts = Array.from({ length: 1000 }, (_, number) => encodeText(`message ${number}`));
    assert.ok(new Set(texts.map(({ buffer }) => buffer)).size <= 10);
  });

  it("keeps at most 4 KiB", () => {
    for (let length = 0; length < 300; length += 1) {
      const { buffer } = encodeText("€".repeat(length));
      assert.ok(buffer.byteLength <= 4096, `${buffer.byteLength} bytes for ${length} characters`);
    }
  });
});
