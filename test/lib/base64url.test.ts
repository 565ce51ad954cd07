/** Base64url against Node's own. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { decodeBase64url, encodeBase64url } from "../../src/lib/base64url.ts";

test("base64url is encoded and decoded as Node does it", () => {
  fc.assert(
    fc.property(fc.uint8Array(), (octets) => {
      const text = encodeBase64url(octets);
      assert.equal(text, Buffer.from(octets).toString("base64url"));
      assert.deepEqual(decodeBase64url(text), octets);
    }),
  );
});
