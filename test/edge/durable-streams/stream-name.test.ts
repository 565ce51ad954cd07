/** Names in paths of mailboxes. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { NAME_CHARACTERS } from "../../../src/edge/durable-streams/limits.ts";
import { isPublic, readName } from "../../../src/edge/durable-streams/stream-name.ts";

describe("a name", () => {
  it("of one or two segments is a peer's address, and a longer one a stream's name", () => {
    assert.deepEqual(readName("alice"), { type: "peer", address: "alice" });
    assert.deepEqual(readName("alice/laptop"), { type: "peer", address: "alice/laptop" });
    assert.deepEqual(readName("alice%2Flaptop"), { type: "peer", address: "alice/laptop" });
    assert.deepEqual(readName("app/logs/2026"), {
      type: "stream",
      name: "app/logs/2026",
      segments: ["app", "logs", "2026"],
    });
  });

  it("has one spelling, however it was percent-encoded", () => {
    const spellings = ["a/b/caf%C3%A9", "%61/b/caf%c3%a9", "a/%62/caf\u00e9"];
    const names = spellings.map((spelling) => readName(spelling));
    assert.ok(names.every((name) => name.type === "stream" && name.name === "a/b/caf%C3%A9"));
    const slash = readName("a%2Fb/c/d");
    assert.ok(slash.type === "stream" && slash.segments.length === 3 && slash.name === "a%2Fb/c/d");
  });

  it("is refused if a segment is empty, is dots, or is no UTF-8", () => {
    for (const path of ["", "a//b", "a/b/c/", "/a/b/c", "a/../b/c", "a/%2e%2e/b", "a/b/%", "a/b/%ff", "a/b/%E2%82"]) {
      assert.equal(readName(path).type, "malformed", path);
    }
    assert.equal(readName(`a/b/${"x".repeat(NAME_CHARACTERS)}`).type, "malformed");
    assert.equal(readName(Array(33).fill("x").join("/")).type, "malformed");
  });

  it("of a device's rule with a plain slash is no stream's", () => {
    for (const what of ["rule", "lock", "room", "messages"]) assert.equal(readName(`bob/laptop/${what}`).type, "peer");
    assert.equal(readName("bob/laptop/rules").type, "stream");
    assert.equal(readName("a/bob/laptop/rule").type, "stream");
  });

  it("is read or refused, and a stream's spelling is stable", () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: "grapheme" })), (parts) => {
        const named = readName(parts.map((part) => encodeURIComponent(part)).join("/"));
        if (named.type !== "stream") return;
        assert.deepEqual(named.segments, parts);
        assert.deepEqual(readName(named.name), named);
      }),
    );
    fc.assert(fc.property(fc.string(), (path) => void readName(path)));
  });

  it("says whether the stream is public", () => {
    assert.ok(isPublic(["public", "a", "b"]));
    assert.ok(!isPublic(["a", "public", "b"]));
  });
});
