/** File names from other users: a table, and properties for any text. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { collisionKey, harmlessPath, numbered } from "../../src/transfer/file-name.ts";

const bytesIn = (text: string) => Buffer.byteLength(text);
const path = (name: string, allowDotfiles = false) => harmlessPath(name, { allowDotfiles })?.join("/");

describe("a file name from another user", () => {
  const table: [string, string, string][] = [
    ["a plain one", "report.pdf", "report.pdf"],
    ["a path", "photos/2024/a b.jpg", "photos/2024/a b.jpg"],
    ["traversal", "../../etc/passwd", "etc/passwd"],
    ["traversal in the middle", "a/../../b/./c", "a/b/c"],
    ["an absolute path", "/etc/passwd", "etc/passwd"],
    ["an absolute path of Windows", "C:\\Windows\\win.ini", "C__Windows_win.ini"],
    ["traversal of Windows", "..\\..\\boot.ini", "_._.._boot.ini"],
    ["a stream of NTFS", "a.txt::$DATA", "a.txt__$DATA"],
    ["nothing", "", "unnamed"],
    ["only dots", "...", "unnamed"],
    ["only separators", "//..//", "unnamed"],
    ["a device of Windows", "nul", "_nul"],
    ["a device with a suffix", "COM1.txt", "_COM1.txt"],
    ["a device with a blank", "aux .h", "_aux .h"],
    ["a device as a folder", "con/x", "_con/x"],
    ["a device with a superscript", "LPT².log", "_LPT².log"],
    ["no device", "console.log", "console.log"],
    ["characters that Windows refuses", 'a<b>c:d"e|f?g*h', "a_b_c_d_e_f_g_h"],
    ["control characters", "\u001b[2K\rreceived\n.pdf\u0000\u009b", "_[2K_received_.pdf__"],
    ["marks of direction", "report\u202Efdp.exe\u2066", "report_fdp.exe_"],
    ["a line separator", "a\u2028b", "a_b"],
    ["what cannot be seen", "a\u200B\uFEFFb", "a__b"],
    ["half of a surrogate pair", "a\uD800b", "a_b"],
    ["trailing dots and blanks", "a.txt. . \u00A0", "a.txt"],
    ["a dot file", ".bashrc", "_bashrc"],
    ["a dot folder", ".ssh/authorized_keys", "_ssh/authorized_keys"],
    ["emoji and joiners", "👩‍👩‍👧 می‌خواهم.txt", "👩‍👩‍👧 می‌خواهم.txt"],
  ];
  for (const [what, name, harmless] of table) {
    it(`that is ${what} becomes harmless`, () => assert.equal(path(name), harmless));
  }

  it("keeps its dot when allowed, but is never the folder for unfinished transfers", () => {
    assert.equal(path(".ssh/.rc", true), ".ssh/.rc");
    assert.equal(path(".grooveway/x.part", true), "_grooveway/x.part");
    assert.equal(path(".GrooveWay", true), "_GrooveWay");
    assert.equal(path(".groove\u200Cway/x", true), "_groove\u200Cway/x");
  });

  it("that is too long is cut between characters and keeps its suffix", () => {
    assert.equal(path(`${"漢".repeat(100)}.tar.gz`), `${"漢".repeat(82)}.tar.gz`);
    assert.equal(path(`${"a".repeat(250)}👩‍👩‍👧.x`), `${"a".repeat(250)}.x`);
    assert.equal(path(`a.${"b".repeat(300)}`), `a.${"b".repeat(253)}`);
    assert.equal(path(`e${"\u0301".repeat(300)}`), `e${"\u0301".repeat(127)}`);
  });

  it("with too many folders is rejected", () => {
    assert.equal(harmlessPath("a/".repeat(65).concat("b"), { allowDotfiles: false }), undefined);
    assert.equal(path("a/".repeat(64).concat("b"))?.length, 129);
  });

  it("becomes safe path components, and is unchanged when processed again", () => {
    const text = fc.oneof(
      fc.string({ unit: "binary", maxLength: 400 }),
      fc.string({ unit: fc.constantFrom(".", "/", "\\", " ", "\n", "n", "u", "l", "\u202E", "\uD83D", "é", "👩") }),
      fc.string({ unit: "grapheme", minLength: 80, maxLength: 200 }),
    );
    fc.assert(
      fc.property(text, fc.boolean(), fc.nat(2000), (name, allowDotfiles, number) => {
        const components = harmlessPath(name, { allowDotfiles }) ?? [];
        for (const component of components) {
          for (const one of [component, numbered(component, number)]) {
            assert.ok(one.length > 0 && one.isWellFormed());
            assert.ok(bytesIn(one) <= 255, `${bytesIn(one)} bytes`);
            assert.doesNotMatch(one, /[/\\\p{Cc}\u202A-\u202E\u2066-\u2069]/u);
            assert.doesNotMatch(one, /[. ]$/);
            assert.ok(allowDotfiles || !one.startsWith("."));
            assert.notEqual(collisionKey(one), ".grooveway");
          }
          assert.deepEqual(harmlessPath(component, { allowDotfiles }), [component]);
        }
      }),
      { numRuns: 2000 },
    );
  });
});

describe("file names already in use", () => {
  it("get a number before the suffix", () => {
    assert.equal(numbered("report.pdf", 0), "report.pdf");
    assert.equal(numbered("report.pdf", 1), "report (1).pdf");
    assert.equal(numbered("photos.tar.gz", 2), "photos (2).tar.gz");
    assert.equal(numbered("Makefile", 3), "Makefile (3)");
    assert.equal(numbered(".rc", 1), ".rc (1)");
    assert.equal(numbered("v1.2 final draft", 1), "v1.2 final draft (1)");
    assert.equal(numbered("x".repeat(255), 10), `${"x".repeat(250)} (10)`);
  });

  it("are detected regardless of case, normalisation and invisible characters", () => {
    for (const [one, other] of [
      ["README", "readme"],
      ["STRASSE", "straße"],
      ["caf\u00e9", "cafe\u0301"],
      ["a\u200Db", "ab"],
      ["ΑΣ", "ας"],
    ] as const) {
      assert.equal(collisionKey(one), collisionKey(other), `${one} ${other}`);
    }
    assert.notEqual(collisionKey("a.txt"), collisionKey("b.txt"));
  });
});
