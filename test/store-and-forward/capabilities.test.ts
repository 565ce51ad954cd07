/** Capabilities that a relay announces, and how those of others are read. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { formatCapabilities, parseCapabilities } from "../../src/store-and-forward/capabilities.ts";

describe("capabilities", () => {
  it("are parsed as written, among other words", () => {
    const expected = { vouched: true, longestMessage: 16_777_216 };
    assert.deepEqual(parseCapabilities(formatCapabilities(16_777_216)), expected);
    assert.deepEqual(parseCapabilities(`other=1 ${formatCapabilities(16_777_216)} more`), expected);
  });

  it("that are malformed mean nothing", () => {
    for (const text of ["", "vouchedx unvouched", "Vouched", "message=", "message=0", "message=016", "message=1e6"]) {
      assert.deepEqual(parseCapabilities(text), { vouched: false, longestMessage: undefined }, text);
    }
    for (const text of ["message=-1", "message=1.5", "message=16MiB", "xmessage=5", "message=9999999999999999"]) {
      assert.equal(parseCapabilities(text).longestMessage, undefined, text);
    }
  });

  it("with several message limits mean the lowest", () => {
    assert.equal(parseCapabilities("message=500 message=300 message=x").longestMessage, 300);
  });

  it("may be any text", () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        const { longestMessage } = parseCapabilities(text);
        assert.ok(longestMessage === undefined || (Number.isSafeInteger(longestMessage) && longestMessage > 0));
      }),
    );
  });
});
