/** Numbers, times and names as people read them. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { countText, peerName, sizeText, spanText } from "../../../src/edge/status-page/text.ts";

describe("text of the status page", () => {
  it("has numbers with a unit that suits them", () => {
    assert.deepEqual([0, 1234567, 0.25].map(countText), ["0", "1,234,567", "0.3"]);
    assert.deepEqual([0, 1023, 1536, 5 * 2 ** 30].map(sizeText), ["0 B", "1,023 B", "1.5 KiB", "5 GiB"]);
    assert.deepEqual([0, 0.4, 119, 600, 7200, 500_000].map(spanText), [
      "0 s",
      "less than a second",
      "119 s",
      "10 min",
      "2 h",
      "6 days",
    ]);
  });

  it("has names decoded, with escapes for what cannot be seen", () => {
    assert.deepEqual(peerName("grooveDevice://b%C3%BCro/%3Cb%3E"), { kind: "device", name: "büro/<b>" });
    assert.deepEqual(peerName("grooveIdentity://%E2%80%AEevil"), { kind: "identity", name: "\\u{202e}evil" });
    assert.deepEqual(peerName("grooveDNS://relay.example.com"), { kind: "relay", name: "relay.example.com" });
    assert.deepEqual(peerName("grooveDynamics://peer"), { kind: "peer", name: "grooveDynamics://peer" });
    assert.equal(peerName("grooveDevice://100%/x").name, "100%/x");
  });

  it("has no control character in a name, whatever the URL", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        const { name } = peerName(`grooveDevice://${text}`);
        // biome-ignore lint/suspicious/noControlCharactersInRegex: these must not be there
        assert.doesNotMatch(name, /[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/);
      }),
    );
  });
});
