/** What a diagnosis says besides the ways. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { CHECKS, type Check, findingsOf } from "../../../src/device/diagnosis/findings.ts";
import { type Observations, type PathObservation, pathOf } from "../../../src/device/diagnosis/observations.ts";
import type { Way } from "../../../src/device/transports/transport.ts";

const WAY: Way = { transport: "polling", host: "edge.example.com", port: 443, secure: true, proxies: [] };
const NOTHING: Observations = {
  edge: "https://edge.example.com",
  relay: undefined,
  ways: [{ way: WAY }],
  paths: new Map(),
  dns: undefined,
  portal: undefined,
  token: { type: "none" },
  proxyFailure: undefined,
  proxyProblem: undefined,
};
const EDGE = { by: "edge", status: 200, roundTrip: 1 } as const;
const OTHER = { by: "other", status: 200, roundTrip: 1 } as const;

function find(check: Check, seen: Partial<Observations>, path?: PathObservation): string {
  const paths = path === undefined ? NOTHING.paths : new Map([[pathOf(WAY), path]]);
  const found = findingsOf({ ...NOTHING, paths, ...seen });
  assert.deepEqual(
    found.map((one) => one.check),
    CHECKS,
  );
  const { outcome, text } = found.find((one) => one.check === check) ?? {};
  return `${outcome}: ${text}`;
}

describe("a finding about", () => {
  it("proxies names each once, and where it was found", () => {
    const proxies = [{ kind: "http", host: "proxy", port: 3128 }] as const;
    const way = { ...WAY, proxies, source: "HTTPS_PROXY" };
    const ways = [{ way }, { way: { ...way, transport: "longlived" as const } }];
    const paths = new Map([[pathOf(way), { reached: 1, connected: 2 }]]);
    assert.equal(find("proxy", { ways, paths }), "ok: http://proxy:3128 (HTTPS_PROXY)");
    assert.equal(find("proxy", { ways: [{ way, roundTrip: 5 }] }), "ok: http://proxy:3128 (HTTPS_PROXY)");
    assert.equal(find("proxy", {}), "ok: none is set for this edge");
    assert.match(find("proxy", { proxyFailure: { code: "ProxyFailed" } }), /^failed: the PAC file/);
    const problem = "the PAC file at pac cannot be fetched: no answer (ECONNRESET)";
    assert.match(
      find("proxy", { proxyProblem: problem }),
      /^warning: .*ECONNRESET\); without it, connections are direct/,
    );
  });

  it("a proxy says if no connection comes through it", () => {
    const way = { ...WAY, proxies: [{ kind: "http", host: "proxy", port: 3128 }] as const, source: "HTTPS_PROXY" };
    for (const path of [{}, { reached: 1 }, { failure: { code: "ProxyRefuses" } }] as const) {
      assert.equal(
        find("proxy", { ways: [{ way }], paths: new Map([[pathOf(way), path]]) }),
        "failed: http://proxy:3128 (HTTPS_PROXY): no connection comes through; see the ways",
      );
    }
  });

  it("DNS has the addresses, or why there are none", () => {
    const host = "edge.example.com";
    assert.equal(find("dns", { dns: { host, addresses: ["192.0.2.1"] } }), `ok: ${host} has 192.0.2.1`);
    assert.match(
      find("dns", { dns: { host, addresses: [], system: "ENOTFOUND" } }),
      /^failed: .*no address \(ENOTFOUND\)/,
    );
    assert.match(find("dns", { dns: { host, addresses: [] } }), /^failed: .*does not answer/);
    assert.match(find("dns", { dns: { host, addresses: [], system: "EAI_AGAIN" } }), /^failed: .*does not answer/);
    assert.match(find("dns", {}), /^unknown/);
  });

  it("the clock counts only an edge's", () => {
    assert.match(find("clock", {}, { answer: { ...EDGE, skew: -29_000 } }), /^ok/);
    assert.match(find("clock", {}, { answer: { ...EDGE, skew: -31_000 } }), /^warning: .* is 31 s behind/);
    assert.match(find("clock", {}, { answer: { ...EDGE, skew: 3600_000 } }), /^warning: .* is 60 minutes ahead of/);
    assert.match(find("clock", {}, { answer: { ...EDGE, skew: 864_000_000 } }), /is 10 days ahead/);
    assert.match(find("clock", {}, { answer: { ...OTHER, skew: 3600_000 } }), /^unknown/);
    assert.match(find("clock", {}, { answer: EDGE }), /^unknown/);
  });

  it("a login page is a page or redirect from elsewhere, on the way or at plain HTTP", () => {
    assert.match(
      find("portal", {}, { answer: { ...OTHER, redirect: "login.example" } }),
      /^failed: a redirect to login/,
    );
    assert.match(find("portal", {}, { answer: { ...OTHER, status: 511 } }), /^failed: a page \(status 511\)/);
    assert.match(find("portal", { portal: OTHER }), /^failed/);
    assert.match(find("portal", { portal: { ...OTHER, status: 404 } }), /^ok/);
    const own = { ...OTHER, status: 301, redirect: "edge.example.com" };
    assert.match(find("portal", { portal: own }), /^ok/, "a server that sends to its own HTTPS");
    assert.match(find("portal", {}, { answer: EDGE }), /^ok/);
    assert.match(find("portal", {}), /^unknown/);
  });

  it("TLS names the authority and who trusts it", () => {
    const certificate = { issuer: '"CA 1"', authority: '"Root"' };
    const of = (trust: "public" | "given" | "machine" | "none", refused?: string) =>
      find("tls", {}, { certificate: { ...certificate, trust, refused } });
    assert.equal(of("public"), 'ok: the certificate is from "CA 1" ("Root"), a public authority');
    assert.match(of("given"), /^ok: .*given with --ca/);
    assert.match(of("machine"), /^warning: .*TLS to edge\.example\.com is inspected/);
    assert.match(of("none", "CERT_HAS_EXPIRED"), /^failed: .*CERT_HAS_EXPIRED/);
    assert.match(find("tls", { ways: [{ way: { ...WAY, secure: false } }] }), /^warning: not used/);
    assert.match(find("tls", {}), /^unknown/);
  });

  it("the edge says if its disk is full", () => {
    assert.match(find("edge", {}, { answer: EDGE }), /^ok/);
    assert.match(find("edge", {}, { answer: { ...EDGE, status: 503 } }), /^warning: its disk is full/);
    assert.match(find("edge", {}, { answer: { ...EDGE, status: 404 } }), /^warning: .*answers 404/);
    assert.match(find("edge", {}, { answer: OTHER }), /^unknown/);
    assert.match(find("edge", { edge: undefined }), /^unknown: no edge is named/);
  });

  it("the token says why it is refused, and that it was not sent", () => {
    assert.match(
      find("token", { token: { type: "refused", reason: "TokenExpired", text: "expired" } }),
      /^failed: expired \(TokenExpired\)$/,
    );
    assert.match(find("token", { token: { type: "kept" } }), /^unknown: not sent/);
    assert.match(find("token", { token: { type: "accepted" } }), /^ok/);
    assert.match(find("token", { token: { type: "unanswered" } }), /^unknown/);
    assert.match(find("token", {}), /^unknown: none is given/);
  });
});
