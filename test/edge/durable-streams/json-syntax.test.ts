/** JSON, checked without making its values. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { isOneValue } from "../../../src/edge/durable-streams/json-syntax.ts";

const encode = (text: string) => new TextEncoder().encode(text);

function parses(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** What JSON is made of, and what is nearly that. */
const PIECES = ["[", "]", "{", "}", ",", ":", '"', "\\", "u00e", "u00e9", "n", "x", " ", "\n", "\t", "\u00a0"].concat([
  "-",
  "+",
  "0",
  "1",
  "01",
  ".",
  "e",
  "E",
  "true",
  "false",
  "null",
  "nul",
  '"a"',
  '"a":',
  "\u0001",
  "\u00e9",
  "\ufeff",
]);

describe("bytes are one value of JSON", () => {
  it("exactly if they parse, whatever they are", () => {
    const text = fc.array(fc.constantFrom(...PIECES), { maxLength: 12 }).map((pieces) => pieces.join(""));
    fc.assert(
      fc.property(text, (bytes) => assert.equal(isOneValue(encode(bytes)), parses(bytes), bytes)),
      { numRuns: 20_000 },
    );
  });

  it("however they are written, and not if one byte is missing or another", () => {
    const written = fc.tuple(fc.json(), fc.constantFrom(undefined, 1, "\t"), fc.nat(), fc.constantFrom("", ...PIECES));
    fc.assert(
      fc.property(written, ([json, indent, place, piece]) => {
        const whole = JSON.stringify(JSON.parse(json), null, indent);
        assert.ok(isOneValue(encode(whole)), whole);
        const at = place % whole.length;
        const changed = whole.slice(0, at) + piece + whole.slice(at + 1);
        assert.equal(isOneValue(encode(changed)), parses(changed), changed);
      }),
      { numRuns: 5000 },
    );
  });

  it("at any depth, and of empty ones a million in little memory", () => {
    const deep = 100_000;
    assert.ok(isOneValue(encode(`${'[{"a":'.repeat(deep)}0${"}]".repeat(deep)}`)));
    assert.ok(!isOneValue(encode(`${"[".repeat(deep)}${"]".repeat(deep - 1)}`)));
    const many = encode(`[${"{},".repeat(1_000_000)}{}]`);
    const before = process.memoryUsage().heapUsed;
    assert.ok(isOneValue(many));
    // As values, they take 28 bytes each or more.
    assert.ok(process.memoryUsage().heapUsed - before < 8 * 1024 * 1024);
  });
});
