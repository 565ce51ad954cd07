/** IP addresses as text, against Node's own parser. */
import assert from "node:assert/strict";
import { isIPv4, isIPv6 } from "node:net";
import { describe, it } from "node:test";
import fc from "fast-check";
import { parseIPv4, parseIPv6 } from "../../src/lib/ip-literal.ts";

const near = fc
  .array(fc.constantFrom("0", "1", "01", "255", "256", "ffff", "10000", "::", ":", ":", ".", "g", "192.0.2.1", "%1"), {
    maxLength: 17,
  })
  .map((pieces) => pieces.join(""));

describe("an IP address", () => {
  it("is what Node takes for one, but for zones", () => {
    fc.assert(
      fc.property(fc.oneof(near, fc.ipV4(), fc.ipV6()), (written) => {
        const text = written.toLowerCase();
        assert.equal(parseIPv4(text) !== undefined, isIPv4(text), text);
        assert.equal(parseIPv6(text) !== undefined, isIPv6(text) && !text.includes("%"), text);
      }),
      { numRuns: 5000 },
    );
  });

  it("is a number", () => {
    assert.equal(parseIPv4("192.0.2.1"), 0xc0000201n);
    assert.equal(parseIPv6("2001:db8::1"), 0x20010db8000000000000000000000001n);
    assert.equal(parseIPv6("::ffff:192.0.2.1"), 0xffffc0000201n);
    assert.equal(parseIPv6("::"), 0n);
  });
});
