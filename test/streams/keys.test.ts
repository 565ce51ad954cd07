import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { formatFingerprint, isSameKey, parseFingerprint } from "../../src/streams/index.ts";
import { secret } from "./support.ts";

describe("a fingerprint", () => {
  it("has all 256 bits in 13 groups", () => {
    const text = formatFingerprint(new Uint8Array(32).fill(0xff));
    assert.equal(text, `${"7777-".repeat(12)}777q`);
    assert.equal(formatFingerprint(new Uint8Array(32)), `${"aaaa-".repeat(12)}aaaa`);
  });

  it("is read as it was written, however people write it", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (key) => {
        const text = formatFingerprint(key);
        assert.deepEqual(parseFingerprint(text), key);
        assert.deepEqual(parseFingerprint(` ${text.toUpperCase().replaceAll("-", " ")}\n`), key);
      }),
    );
  });

  it("is refused if a digit is missing, wrong or has bits that no key has", () => {
    const text = formatFingerprint(secret(1));
    for (const wrong of ["", text.slice(1), `${text}a`, text.replace(/^./, "1"), text.replace(/.$/, "b")]) {
      assert.equal(parseFingerprint(wrong), undefined);
    }
  });
});

describe("keys", () => {
  it("are the same if all octets are", () => {
    assert.ok(isSameKey(secret(1), secret(1)));
    assert.ok(!isSameKey(secret(1), secret(2)));
    assert.ok(!isSameKey(secret(1), secret(1).subarray(1)));
  });
});
