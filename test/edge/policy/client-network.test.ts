/** The source of a request, and which headers are trusted. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { sourceOf } from "../../../src/edge/policy/client-network.ts";

/** What is used of the platform's request. */
function request(headers: Record<string, string>, peer?: string): Parameters<typeof sourceOf>[0] {
  return { headers: new Headers(headers), cf: peer === undefined ? undefined : { clientIp: peer } } as never;
}

const cloudflare = (address: string) => request({ "CF-Connecting-IP": address });

/** The ways in which a proxy states the source of a request. */
const SAID = [
  ["X-Forwarded-For", "203.0.113.9"],
  ["Forwarded", "for=203.0.113.9"],
] as const;

describe("the source of a request", () => {
  for (const [address, source] of [
    ["192.0.2.1", "192.0.2.1"],
    ["::ffff:192.0.2.1", "192.0.2.1"],
    ["::FFFF:c000:201", "192.0.2.1"],
    ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
    ["2001:DB8:0001:0002::6", "2001:db8:1:2::/64"],
    ["2001:db8::1", "2001:db8:0:0::/64"],
    ["2001:db8:0:0:9::", "2001:db8:0:0::/64"],
    ["::1", "0:0:0:0::/64"],
    ["", ""],
  ] as const) {
    it(`${address || "nothing"} is ${source || "nowhere"}`, () => {
      assert.equal(sourceOf(cloudflare(address)), source);
    });
  }

  it("is what the platform reports without connection details, whatever the headers say", () => {
    assert.equal(sourceOf(cloudflare("203.0.113.9")), "203.0.113.9");
    const forged = request({ "CF-Connecting-IP": "203.0.113.9", "X-Forwarded-For": "192.0.2.1" });
    assert.equal(sourceOf(forged), "203.0.113.9");
    assert.equal(sourceOf(request({})), "");
  });

  it("distinguishes IPv4 clients on a socket that listens on ::", () => {
    assert.equal(sourceOf(request({}, "[::ffff:192.0.2.1]:4000")), "192.0.2.1");
    assert.equal(sourceOf(request({}, "[::ffff:192.0.2.2]:4000")), "192.0.2.2");
  });

  for (const peer of [
    "8.8.8.8:4000",
    "[2001:4860:4860::8888]:4000",
    "10.1.2.3:4000",
    "192.168.0.7:4000",
    "[fd00::1]:4000",
  ]) {
    it(`is ${peer} itself, whatever its headers say: a machine on the same network is not a trusted proxy`, () => {
      const alone = sourceOf(request({}, peer));
      assert.notEqual(alone, "");
      for (const [header, value] of SAID) assert.equal(sourceOf(request({ [header]: value }, peer)), alone, header);
      assert.equal(sourceOf(request({ "CF-Connecting-IP": "203.0.113.9" }, peer)), alone);
    });
  }

  for (const peer of ["127.0.0.1:4000", "127.0.0.9:4000", "[::1]:4000", "[::ffff:127.0.0.1]:4000"]) {
    it(`is what the proxy ${peer} on this machine reports, or the proxy if it reports nothing`, () => {
      for (const [header, value] of SAID) {
        assert.equal(sourceOf(request({ [header]: value }, peer)), "203.0.113.9", header);
      }
      assert.notEqual(sourceOf(request({}, peer)), "");
    });
  }

  it("is the proxy when it only passes on a CF-Connecting-IP header written by a client", () => {
    assert.equal(sourceOf(request({ "CF-Connecting-IP": "203.0.113.9" }, "127.0.0.1:1")), "127.0.0.1");
    const both = request({ "CF-Connecting-IP": "203.0.113.9", "X-Forwarded-For": "203.0.113.10" }, "127.0.0.1:1");
    assert.equal(sourceOf(both), "203.0.113.10");
  });

  const proxies = "10.0.0.7, 2001:db8:1::/48";
  for (const [forwarded, source] of [
    ["for=203.0.113.9", "203.0.113.9"],
    ["for=192.0.2.66, For=203.0.113.9;proto=https;by=10.0.0.7", "203.0.113.9"],
    ['for=203.0.113.9, for="10.0.0.7:4711"', "203.0.113.9"],
    ['for="[2001:db8:2::1]:4711"', "2001:db8:2:0::/64"],
    ['for="\\203.0.113.9:_port"', "203.0.113.9"],
    // A hop with an unknown address, and a header that is not one: only the proxy is known.
    ["for=192.0.2.66, for=unknown", "10.0.0.7"],
    ["for=192.0.2.66, for=_hidden", "10.0.0.7"],
    ["for=192.0.2.66, proto=https", "10.0.0.7"],
    ['for="192.0.2.66, for=203.0.113.9', "10.0.0.7"],
    ['for=192.0.2.66;x=", for="[2001:db8:2::1]"', "10.0.0.7"],
    ["for=203.0.113.9;for=192.0.2.66", "10.0.0.7"],
    ["203.0.113.9", "10.0.0.7"],
    ["", "10.0.0.7"],
  ] as const) {
    it(`is ${source} when the trusted proxy sends Forwarded: ${forwarded}`, () => {
      assert.equal(sourceOf(request({ Forwarded: forwarded }, "10.0.0.7:1"), proxies), source);
    });
  }

  it("is the proxy when X-Forwarded-For and Forwarded disagree, since a client wrote one of them", () => {
    const said = (xForwardedFor: string, forwarded: string) =>
      sourceOf(request({ "X-Forwarded-For": xForwardedFor, Forwarded: forwarded }, "10.0.0.7:1"), proxies);
    assert.equal(said("203.0.113.9", "for=192.0.2.66"), "10.0.0.7");
    assert.equal(said("203.0.113.9", "for=192.0.2.66, for=203.0.113.9"), "203.0.113.9");
    assert.equal(said("203.0.113.9", "nonsense"), "10.0.0.7");
  });

  for (const [forwarded, peer, source] of [
    ["203.0.113.9", "10.0.0.7:1", "203.0.113.9"],
    ["192.0.2.66, 203.0.113.9", "10.0.0.7:1", "203.0.113.9"],
    ["203.0.113.9, 10.0.0.7", "[2001:db8:1::2]:1", "203.0.113.9"],
    ["203.0.113.9:55", "10.0.0.7:1", "203.0.113.9"],
    ["[2001:db8:2::1]:55", "10.0.0.7:1", "2001:db8:2:0::/64"],
    ["10.0.0.7", "10.0.0.7:1", "10.0.0.7"],
    ["192.0.2.66, unknown", "10.0.0.7:1", "10.0.0.7"],
    ["203.0.113.9", "10.0.0.8:1", "10.0.0.8"],
    ["203.0.113.9", "127.0.0.1:1", "127.0.0.1"],
  ] as const) {
    it(`${peer} sends ${forwarded}: ${source} when ${proxies} are trusted`, () => {
      assert.equal(sourceOf(request({ "X-Forwarded-For": forwarded }, peer), proxies), source);
    });
  }

  it("is never an address that the client itself wrote, however many it wrote", () => {
    const address = fc.ipV4();
    fc.assert(
      fc.property(fc.array(fc.oneof(address, fc.ipV6(), fc.string())), address, (written, client) => {
        fc.pre(client !== "10.0.0.7");
        const headers = {
          "X-Forwarded-For": [...written.map((text) => text.replace(/[^\w.:]/g, "")), client].join(", "),
        };
        assert.equal(sourceOf(request(headers, "10.0.0.7:1"), "10.0.0.7"), client);
        const elements = written.map((text) => text.replace(/[^ -~]/g, "").replace(/^/, "for="));
        const source = sourceOf(
          request({ Forwarded: [...elements, `for=${client}`].join(", ") }, "10.0.0.7:1"),
          "10.0.0.7",
        );
        assert.ok(source === client || source === "10.0.0.7", source);
      }),
    );
  });

  it("comes from no header when no proxy is trusted or the setting is invalid", () => {
    for (const setting of ["none", "10.0.0.1/8", "proxy.example.com", "10.0.0.0/33", "10.0.0.7 none"]) {
      const said = request({ "X-Forwarded-For": "203.0.113.9" }, "127.0.0.1:1");
      assert.equal(sourceOf(said, setting), "127.0.0.1", setting);
    }
  });
});
