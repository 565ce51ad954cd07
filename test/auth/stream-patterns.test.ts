/** Patterns of names of streams in scopes. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { mayOnStream, readRights, unknownScopes } from "../../src/auth/scopes.ts";
import { matchesStream, readStreamPattern } from "../../src/auth/stream-patterns.ts";

describe("a pattern of streams", () => {
  it("covers names of as many segments, or of any number", () => {
    for (const [pattern, covered, others] of [
      ["app/logs/*", ["app/logs/a"], ["app/logs", "app/logs/a/b", "app/log/a"]],
      ["app/*/2026-*", ["app/x/2026-01"], ["app/x/2025-01", "app/x/y/2026-01"]],
      ["app/**", ["app/a/b", "app/a/b/c", "app/a"], ["app", "apps/a/b"]],
      ["*", ["a/b/c", "a/b/c/d"], []],
      ["a/b/%2A", ["a/b/*"], ["a/b/c"]],
    ] as const) {
      for (const name of covered) assert.ok(matchesStream(pattern, name.split("/")), `${pattern} ${name}`);
      for (const name of others) assert.ok(!matchesStream(pattern, name.split("/")), `${pattern} ${name}`);
    }
  });

  it("without a star covers the name that it is", () => {
    const segment = fc
      .string({ unit: "grapheme", minLength: 1, maxLength: 8 })
      .filter((text) => !/^\.{1,2}$/.test(text));
    fc.assert(
      fc.property(fc.array(segment, { minLength: 3, maxLength: 5 }), fc.array(segment), (name, other) => {
        const pattern = name.map((part) => encodeURIComponent(part).replaceAll("*", "%2A")).join("/");
        assert.ok(matchesStream(pattern, name));
        assert.equal(matchesStream(pattern, other), JSON.stringify(other) === JSON.stringify(name));
      }),
    );
  });

  it("is refused if it could not be a name's", () => {
    for (const pattern of ["", "a//b", "a/../b", "a/**/b", "a**", "a/b/%zz", `a/${"x".repeat(600)}`]) {
      assert.equal(readStreamPattern(pattern).ok, false, pattern);
      assert.equal(readRights({ scope: `read:${pattern}` }).ok, false, pattern);
    }
  });
});

describe("scopes of streams", () => {
  it("allow what they name, and nothing by default", () => {
    const read = readRights({ scope: "read:a/** write:a/b/c connect" });
    const rights = read.ok ? read.value : assert.fail(read.problems.message);
    assert.ok(mayOnStream(rights, "read", ["a", "x", "y"]));
    assert.ok(mayOnStream(rights, "write", ["a", "b", "c"]));
    assert.ok(!mayOnStream(rights, "write", ["a", "b", "d"]));
    assert.ok(!mayOnStream(rights, "create", ["a", "b", "c"]));
    const none = readRights({ scope: "connect receive send:* stream:* admin" });
    for (const right of ["create", "read", "write"] as const) {
      assert.ok(none.ok && !mayOnStream(none.value, right, ["a", "b", "c"]));
    }
  });

  it("are known words", () => {
    assert.deepEqual(unknownScopes("create:* read:a/** write:* reed:*"), ["reed:*"]);
  });
});
