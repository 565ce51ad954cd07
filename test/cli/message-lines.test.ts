/** Messages on the screen: no part of a message can look like another sender's. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { messageLines } from "../../src/cli/message-lines.ts";
import { columnsOf } from "../../src/lib/printable.ts";

const SENDER = "alice/pc";

function shown(body: string | Uint8Array, columns?: number, sender = SENDER): string {
  return [...messageLines(sender, typeof body === "string" ? Buffer.from(body) : body, columns)].join("");
}

test("a message is one line after its sender, and its further lines are marked", () => {
  const cases: readonly (readonly [name: string, body: string | Uint8Array, lines: string])[] = [
    ["a line", "hello", "alice/pc: hello\n"],
    ["nothing", "", "alice/pc: \n"],
    ["a line with its end", "hello\n", "alice/pc: hello\n"],
    ["another sender's line", "line one\nboss/pc: pay now", "alice/pc: line one\n    | boss/pc: pay now\n"],
    ["line ends of Windows", "a\r\nb\r\n", "alice/pc: a\n    | b\n"],
    ["an empty line", "a\n\nb", "alice/pc: a\n    | \n    | b\n"],
    ["a line that is written over", "a\rboss/pc: pay now", "alice/pc: a\\rboss/pc: pay now\n"],
    ["tabs", "a\tb", "alice/pc: a\tb\n"],
    ["an ANSI sequence", "\x1b[2Jx", "alice/pc: \\e[2Jx\n"],
    [
      "octets that are not UTF-8",
      Uint8Array.of(0x61, 0xff, 0xc3, 0xa9, 0xc3, 0x0a, 0x80),
      "alice/pc: a\\xffé\\xc3\n    | \\x80\n",
    ],
    ["half a surrogate pair in three octets", Uint8Array.of(0xed, 0xa0, 0x80), "alice/pc: \\xed\\xa0\\x80\n"],
    ["a mark of byte order", "\ufeffhi", "alice/pc: \\u{feff}hi\n"],
  ];
  for (const [name, body, lines] of cases) assert.equal(shown(body), lines, name);
});

test("a line wider than the terminal is broken and marked", () => {
  assert.equal(shown(`${"x".repeat(20)}boss/pc: pay now`, 30), `alice/pc: ${"x".repeat(20)}\n    | boss/pc: pay now\n`);
});

test("only the first line starts at the margin and none is too long, for any message and terminal", () => {
  const unit = fc.constantFrom(
    "a",
    " ",
    "\n",
    "\r",
    "\t",
    "日",
    "é",
    "\u0301",
    "\x1b",
    "👍",
    "boss/pc: ",
    "\u2028",
    "\x9b",
  );
  const body = fc.oneof(
    fc.string({ unit, maxLength: 200 }).map((text) => Buffer.from(text)),
    fc.uint8Array(),
  );
  fc.assert(
    fc.property(body, fc.option(fc.integer({ min: 20, max: 80 }), { nil: undefined }), (octets, columns) => {
      const [first = "", ...others] = shown(octets, columns).slice(0, -1).split("\n");
      assert(first.startsWith("alice/pc: "));
      for (const line of others) assert(line.startsWith("    | "), line);
      for (const line of [first, ...others]) {
        const wide = [...line].reduce((sum, character) => sum + columnsOf(character), 0);
        // A tab is wider than the rest of the narrowest terminals, but never reaches a margin.
        assert(wide <= (columns ?? Number.POSITIVE_INFINITY), line);
      }
    }),
    { numRuns: 1000 },
  );
});

test("a long message is shown in pieces, split between characters", () => {
  const body = Buffer.from(`${"x".repeat(16 * 1024 - 1)}日本${"é".repeat(40_000)}`);
  const pieces = [...messageLines(SENDER, body)];
  assert(pieces.length > 3);
  assert.equal(pieces.join(""), `alice/pc: ${body}\n`);
});

test("the sender is escaped as well", () => {
  assert.equal(shown("hi", undefined, "al\nice\x1b[2K"), "al\\nice\\e[2K: hi\n");
});
