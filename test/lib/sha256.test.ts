import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import { sha256 } from "../../src/lib/sha256.ts";

test("SHA-256 matches node:crypto, for every length around a block and for random input", () => {
  const same = (octets: Uint8Array) =>
    assert.equal(Buffer.from(sha256(octets)).toString("hex"), createHash("sha256").update(octets).digest("hex"));
  for (let length = 0; length <= 130; length += 1) same(new Uint8Array(length).fill(length));
  fc.assert(fc.property(fc.uint8Array({ maxLength: 1000 }), same));
});
