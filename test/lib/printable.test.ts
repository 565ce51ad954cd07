/** Foreign text on a terminal: everything is visible, and nothing has an effect. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { columnsOf, fitted, jsonLine, printable, visible } from "../../src/lib/printable.ts";

/** What a terminal may act on or hide, in any context; joiners are tested separately. */
const OBEYED = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\u{e0000}-\u{e007f}]/u;

const anyText = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.string({ unit: "grapheme" }),
  fc.string({
    unit: fc.constantFrom("a", "é", "\u0301", "\u200d", "\ufe0f", "1", "\x1b", "\n", "\x9b", "\ud83d", "👨", "\u202e"),
  }),
);

test("control and invisible characters are escaped", () => {
  const cases: readonly (readonly [name: string, text: string, shown: string])[] = [
    [
      "an ANSI sequence that clears the line",
      "\x1b[2K\rreceived report.pdf from boss",
      "\\e[2K\\rreceived report.pdf from boss",
    ],
    ["its form in one character", "\x9b2K", "\\u{9b}2K"],
    ["a title of the terminal", "\x1b]0;owned\x07", "\\e]0;owned\\u{7}"],
    ["a newline", "one\nboss/pc: pay now", "one\\nboss/pc: pay now"],
    ["line ends of Unicode", "a\u0085b\u2028c\u2029d", "a\\u{85}b\\u{2028}c\\u{2029}d"],
    ["a backspace", "good\b\b\b\bevil", "good\\u{8}\\u{8}\\u{8}\\u{8}evil"],
    ["a bidi override", "report\u202efdp.exe", "report\\u{202e}fdp.exe"],
    ["a bidi isolate", "\u2066a\u2069", "\\u{2066}a\\u{2069}"],
    ["blanks without a width", "al\u200bice\ufeff", "al\\u{200b}ice\\u{feff}"],
    ["a letter without a shape", "al\u3164ice", "al\\u{3164}ice"],
    ["tags", "a\u{e0041}", "a\\u{e0041}"],
    ["half a surrogate pair", "a\ud800b", "a\\u{d800}b"],
    ["a mark that stands on nothing", "\u0338 \u0338", "\\u{338} \\u{338}"],
    ["a tower of marks", `e${"\u0301".repeat(9)}`, `e${"\u0301".repeat(8)}\\u{301}`],
    ["a joiner between ASCII letters", "ali\u200dce", "ali\\u{200d}ce"],
    ["two joiners", "é\u200d\u200dé", "é\\u{200d}\\u{200d}é"],
    ["a form sign on a digit", "file1\ufe0f.txt", "file1\\u{fe0f}.txt"],
  ];
  for (const [name, text, shown] of cases) assert.equal(visible(text), shown, name);
});

test("text of all scripts and emoji is unchanged", () => {
  for (const text of [
    "Grüße, ё",
    "日本語　テスト",
    "नमस्ते",
    "می‌خواهم",
    "שלום",
    "e\u0301",
    "👨‍👩‍👧 ❤️ 1️⃣ 🏳️‍🌈",
    "C:\\new",
  ]) {
    assert.equal(visible(text), text);
  }
});

test("escaping is complete and idempotent for any text", () => {
  fc.assert(
    fc.property(anyText, (text) => {
      const shown = visible(text);
      assert.doesNotMatch(shown, OBEYED);
      assert.equal(visible(shown), shown);
      assert.match(printable(text), /^"[ -~]*"$/);
    }),
    { numRuns: 2000 },
  );
});

test("a long run of one character takes linear time", () => {
  const began = performance.now();
  for (const character of ["\u0301", "\u200d", "é"]) visible(character.repeat(100_000));
  assert(performance.now() - began < 10_000);
});

test("an escaped line of JSON parses to the same value", () => {
  fc.assert(
    fc.property(anyText, (text) => {
      const line = jsonLine({ text });
      assert.doesNotMatch(line, OBEYED);
      assert.equal(JSON.parse(line).text, JSON.parse(JSON.stringify({ text })).text);
    }),
    { numRuns: 2000 },
  );
});

test("column widths are never underestimated", () => {
  assert.deepEqual(["a", "é", "\u0301", "д", "日", "👍", "\t"].map(columnsOf), [1, 1, 0, 1, 2, 2, 8]);
});

test("a text that is too wide is cut with a mark", () => {
  for (const [text, columns, expected] of [
    ["abcdef", 6, "abcdef"],
    ["abcdefg", 6, "abc..."],
    ["日本語", 6, "日本語"],
    ["日本語x", 6, "日..."],
    ["ab", 1, ""],
    ["", -5, ""],
  ] as const) {
    assert.equal(fitted(text, columns), expected);
  }
});
