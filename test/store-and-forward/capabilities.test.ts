/** Capabilities that relays and devices announce, and how those of others are read. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { formatCapabilities, parseCapabilities, SEND_ONLY } from "../../src/store-and-forward/capabilities.ts";

describe("capabilities", () => {
  it("are parsed as written, among other words", () => {
    const expected = { vouched: true, longestMessage: 16_777_216, origins: false, sendOnly: false };
    assert.deepEqual(parseCapabilities(formatCapabilities(16_777_216)), expected);
    assert.deepEqual(parseCapabilities(`other=1 ${formatCapabilities(16_777_216)} more`), expected);
    const sender = { vouched: false, longestMessage: undefined, origins: false, sendOnly: true };
    assert.deepEqual(parseCapabilities(SEND_ONLY), sender);
    assert.deepEqual(parseCapabilities(`other=1 ${SEND_ONLY} more`), sender);
  });

  it("say whether an edge dials destinations", () => {
    assert.ok(parseCapabilities(formatCapabilities(1, true)).origins);
  });

  it("that are malformed mean nothing", () => {
    const nothing = { vouched: false, longestMessage: undefined, origins: false, sendOnly: false };
    for (const text of ["", "vouchedx unvouched", "Vouched", "message=", "message=0", "message=016", "message=1e6"]) {
      assert.deepEqual(parseCapabilities(text), nothing, text);
    }
    for (const text of ["send", "send-only=1", "Send-Only", "send-onlyx", "xsend-only", "send-only,vouched"]) {
      assert.deepEqual(parseCapabilities(text), nothing, text);
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
