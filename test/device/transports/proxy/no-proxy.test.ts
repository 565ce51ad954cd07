/** Exceptions from proxies. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { matchesNoProxy } from "../../../../src/device/transports/proxy/no-proxy.ts";

const CASES: readonly (readonly [list: string, host: string, matches: boolean, port?: number])[] = [
  ["", "example.com", false],
  ["*", "example.com", true],
  ["example.com", "example.com", true],
  ["example.com", "EXAMPLE.com.", true],
  ["Example.COM.", "example.com", true],
  ["example.com", "www.example.com", true],
  ["example.com", "notexample.com", false],
  ["example.com", "example.com.evil.net", false],
  [".example.com", "example.com", true],
  [".example.com", "a.b.example.com", true],
  ["*.example.com", "a.example.com", true],
  ["*.example.com", "notexample.com", false],
  ["a.com,b.com", "b.com", true],
  ["a.com, b.com", "b.com", true],
  ["a.com b.com", "b.com", true],
  ["a.com|b.com", "b.com", false],
  [" ,, a.com ;b.com\t", "b.com", true],
  ["example.com:443", "example.com", true],
  ["example.com:8443", "example.com", false],
  ["example.com:8443", "www.example.com", true, 8443],
  ["example.com:0443", "example.com", false],
  ["example.com:", "example.com", false],
  ["192.0.2.1", "192.0.2.1", true],
  ["192.0.2.1", "192.0.2.10", false],
  ["2.1", "192.0.2.1", false],
  ["192.0.2.1:443", "192.0.2.1", true],
  ["192.0.2.1:80", "192.0.2.1", false],
  ["192.0.2.0/24", "192.0.2.200", true],
  ["192.0.2.0/24", "192.0.3.1", false],
  ["192.0.2.77/24", "192.0.2.1", true],
  ["0.0.0.0/0", "203.0.113.9", true],
  ["0.0.0.0/0", "2001:db8::1", false],
  ["192.0.2.0/33", "192.0.2.1", false],
  ["192.0.2.0/", "192.0.2.1", false],
  ["10.0.0.0/8", "ten.example.com", false],
  ["169.254/16", "169.254.7.9", true],
  ["169.254/16", "169.25.4.9", false],
  ["10/8", "10.1.2.3", true],
  ["1.2.3.4.5/8", "1.2.3.4", false],
  ["192.168.*", "192.168.7.9", true],
  ["192.168.*", "192.169.7.9", false],
  ["2001:db8::1", "2001:db8:0:0:0:0:0:1", true],
  ["[2001:db8::1]", "2001:DB8::1", true],
  ["[2001:db8::1]:443", "2001:db8::1", true],
  ["[2001:db8::1]:80", "2001:db8::1", false],
  ["2001:db8::/32", "2001:db8:ffff::1", true],
  ["[2001:db8::]/32", "2001:db8:ffff::1", true],
  ["2001:db8::/32", "2001:db9::1", false],
  ["::ffff:192.0.2.1", "192.0.2.1", true],
  ["192.0.2.0/24", "::ffff:192.0.2.9", true],
  ["::1", "localhost", false],
  ["<local>", "printer", true],
  ["<local>", "printer.example.com", false],
  ["<local>", "::1", false],
  ["example.com/path", "example.com", false],
];

describe("exceptions from proxies", () => {
  for (const [list, host, matches, port = 443] of CASES) {
    it(`${JSON.stringify(list)} ${matches ? "names" : "does not name"} ${host}:${port}`, () => {
      assert.equal(matchesNoProxy(list, { host, port }), matches);
    });
  }

  it("are read from any text, and a listed host is always found", () => {
    fc.assert(
      fc.property(fc.string(), fc.domain(), fc.ipV6(), (noise, name, address) => {
        assert.equal(typeof matchesNoProxy(noise, { host: name, port: 1 }), "boolean");
        for (const host of [name, address])
          assert.ok(matchesNoProxy(`${noise.replace(/\S/g, "x")},${host}`, { host, port: 1 }));
      }),
    );
  });
});
