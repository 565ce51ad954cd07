/** The ways by which a relay is tried. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { readWays, type Way, waysTo } from "../../../src/edge/policy/link-ways.ts";

function ways(text: string): readonly Way[] {
  const read = readWays(text);
  assert.ok(read.ok);
  return read.value;
}

describe("LINK_WAYS", () => {
  it("never allows anything weaker than TLS when TLS is named, even for a relay with its own port", () => {
    for (const name of ["relay.example.com", "relay.example.com:2492", "relay.example.com:9", "[::1]:9"]) {
      for (const { way } of waysTo(name, ways("tls:443 tls:8443"))) assert.equal(way.kind, "tls", name);
    }
    assert.deepEqual(waysTo("relay.example.com:9", ways("sstp:2492"))[0]?.way, { kind: "sstp", port: 9 });
  });

  it("yields either TLS only or no TLS, for any input", () => {
    const entry = fc.tuple(fc.constantFrom("tls", "sstp", "http"), fc.integer({ min: 1, max: 65535 }));
    fc.assert(
      fc.property(fc.array(entry, { minLength: 1, maxLength: 5 }), fc.integer({ min: 1, max: 65535 }), (all, port) => {
        const read = readWays(all.map(([kind, at]) => `${kind}:${at}`).join(" "));
        const kinds = new Set(all.map(([kind]) => kind));
        assert.equal(!read.ok, kinds.has("tls") && kinds.size > 1);
        if (!read.ok || !kinds.has("tls")) return;
        for (const { way } of waysTo(`relay.example.com:${port}`, read.value)) assert.equal(way.kind, "tls");
      }),
    );
  });
});
