/** Where a request comes from, and who is believed about it. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { sourceOf } from "../../../src/edge/policy/source.ts";

/** What is used of a request of the platform. */
function request(said: string | undefined, peer?: string): Parameters<typeof sourceOf>[0] {
  const headers = new Headers(said === undefined ? {} : { "CF-Connecting-IP": said });
  return { headers, cf: peer === undefined ? undefined : { clientIp: peer } } as never;
}

describe("source of a request", () => {
  for (const [address, source] of [
    ["192.0.2.1", "192.0.2.1"],
    ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
    ["2001:DB8:0001:0002::6", "2001:db8:1:2::/64"],
    ["2001:db8::1", "2001:db8:0:0::/64"],
    ["2001:db8:0:0:9::", "2001:db8:0:0::/64"],
    ["::1", "0:0:0:0::/64"],
    ["", ""],
  ] as const) {
    it(`${address || "nothing"} is ${source || "nowhere"}`, () => {
      assert.equal(sourceOf(request(address)), source);
    });
  }

  it("is what the platform says, when it does not tell of the connection", () => {
    assert.equal(sourceOf(request("203.0.113.9")), "203.0.113.9");
    assert.equal(sourceOf(request(undefined)), "");
  });

  for (const peer of ["8.8.8.8:4000", "[2001:4860:4860::8888]:4000"]) {
    it(`is ${peer} itself, whatever it says`, () => {
      const alone = sourceOf(request(undefined, peer));
      assert.notEqual(alone, "");
      assert.equal(sourceOf(request("203.0.113.9", peer)), alone);
    });
  }

  for (const peer of ["127.0.0.1:4000", "10.1.2.3:4000", "192.168.0.7:4000", "[::1]:4000", "[fd00::1]:4000"]) {
    it(`is what the proxy ${peer} says, and the proxy when it says nothing`, () => {
      assert.equal(sourceOf(request("203.0.113.9", peer)), "203.0.113.9");
      assert.notEqual(sourceOf(request(undefined, peer)), "");
    });
  }
});
