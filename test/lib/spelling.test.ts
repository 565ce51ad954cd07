/** Suggestions for misspelled words. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { nearest } from "../../src/lib/spelling.ts";

const WORDS = ["port", "host", "transport", "tls-key", "tls-cert", "relay"];

test("a misspelled or abbreviated word is recognized", () => {
  const table: readonly (readonly [string, string | undefined])[] = [
    ["prot", "port"],
    ["prt", "port"],
    ["hots", "host"],
    ["trasnprot", "transport"],
    ["transp", "transport"],
    ["tls-crt", "tls-cert"],
    ["tlskey", "tls-key"],
    ["relays", "relay"],
    ["p", undefined],
    ["json", undefined],
    ["verbose", undefined],
    ["", undefined],
  ];
  for (const [written, expected] of table) assert.equal(nearest(written, WORDS), expected, written);
});

test("a word is nearest to itself, also with two letters swapped or one added", () => {
  const word = fc.stringMatching(/^[a-z]{6,12}$/);
  fc.assert(
    fc.property(word, fc.nat(), fc.constantFrom("a", "z"), (right, place, letter) => {
      const i = place % (right.length - 1);
      const swapped = right.slice(0, i) + right.charAt(i + 1) + right.charAt(i) + right.slice(i + 2);
      const longer = right.slice(0, i) + letter + right.slice(i);
      assert.equal(nearest(right, ["0123456789", right]), right);
      assert.equal(nearest(swapped, ["0123456789", right]), right);
      assert.equal(nearest(longer, ["0123456789", right]), right);
    }),
  );
});
