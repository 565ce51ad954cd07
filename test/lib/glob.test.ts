/** Globs against regular expressions. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { matchesGlob, parseGlob } from "../../src/lib/glob.ts";

const text = fc.string({ unit: fc.constantFrom("a", "b", ".", "?"), maxLength: 10 });
const pattern = fc.string({ unit: fc.constantFrom("a", "b", ".", "?", "*"), maxLength: 10 });

/** What a pattern means, in other words. */
function expression(written: string, questionMarks: boolean): RegExp {
  const one = (character: string) => {
    if (character === "*") return ".*";
    if (character === "?" && questionMarks) return "[^.]";
    return `\\${character}`.replace(/\\([ab])/, "$1");
  };
  return new RegExp(`^${[...written].map(one).join("")}$`);
}

describe("a glob", () => {
  for (const questionMarks of [false, true]) {
    it(`matches what it means, with question marks ${questionMarks ? "for one character" : "as they are"}`, () => {
      fc.assert(
        fc.property(pattern, text, (written, name) => {
          const expected = expression(written, questionMarks).test(name);
          assert.equal(matchesGlob(parseGlob(written), name, { questionMarks }), expected);
        }),
        { numRuns: 2000 },
      );
    });
  }

  it("does not match the same characters twice", () => {
    assert.equal(matchesGlob(["ab", "ba"], "aba"), false);
    assert.equal(matchesGlob(["ab", "a", "ba"], "abba"), false);
    assert.equal(matchesGlob(["ab", "ba"], "abba"), true);
  });

  it("takes stars in a piece as they are: pieces may come from decoded names", () => {
    assert.equal(matchesGlob(["a*"], "ab"), false);
    assert.equal(matchesGlob(["a*"], "a*"), true);
  });

  it("takes no longer than its length times the text's", () => {
    const hostile = parseGlob(`${"*a".repeat(60)}b`);
    const begin = performance.now();
    assert.equal(matchesGlob(hostile, "a".repeat(10_000), { questionMarks: true }), false);
    // Backtracking would not end within the age of the universe.
    assert.ok(performance.now() - begin < 1_000);
  });
});
