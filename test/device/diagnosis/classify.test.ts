/** What observations of ways mean. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { DEVICE_ERRORS, type DeviceErrorCode } from "../../../src/device/device-error.ts";
import { classify, recommend, STATUSES, type Status, type Verdict } from "../../../src/device/diagnosis/classify.ts";
import {
  type DnsObservation,
  type PathObservation,
  pathOf,
  type WayObservation,
} from "../../../src/device/diagnosis/observations.ts";
import {
  PROXY_KINDS,
  type ProxyChain,
  TRANSPORTS,
  type TransportName,
  type Way,
} from "../../../src/device/transports/transport.ts";
import { REASON_ADVICE, type ReasonName } from "../../../src/store-and-forward/reason-advice.ts";

const PROXY = { kind: "http", host: "proxy", port: 3128 } as const;

function way(transport: TransportName, proxies: ProxyChain = []): Way {
  return { transport, host: "edge.example.com", port: 443, secure: true, proxies };
}

const ANSWER = { status: 200, roundTrip: 10 };
const OPEN: PathObservation = { connected: 5, secured: 10, answer: { ...ANSWER, by: "edge" } };
const WORKS = { established: 20, roundTrip: 10 };

/** The verdict on a way; `beside` are other ways over the same path that work. */
function judge(
  transport: TransportName,
  seen: Omit<WayObservation, "way">,
  path: PathObservation = OPEN,
  {
    proxies = [],
    beside = [],
    dns,
  }: {
    readonly proxies?: ProxyChain;
    readonly beside?: readonly TransportName[];
    readonly dns?: DnsObservation;
  } = {},
): Verdict {
  const own = way(transport, proxies);
  const ways = [{ ...seen, way: own }, ...beside.map((name) => ({ ...WORKS, way: way(name, proxies) }))];
  const [verdict] = classify({ ways, paths: new Map([[pathOf(own), path]]), dns });
  assert.ok(verdict);
  return verdict;
}

function failed(code: DeviceErrorCode, more: { readonly system?: string; readonly reason?: ReasonName } = {}) {
  return { failure: { code, ...more } };
}

const certificate = { issuer: '"Box"', authority: '"Box Root"' } as const;

const CASES: readonly [name: string, verdict: Verdict, status: Status, text: RegExp][] = [
  ["an answer", judge("websocket", WORKS), "works", /^$/],
  ["a late answer", judge("websocket", { ...WORKS, roundTrip: 2500 }), "slow", /takes 2\.5 s/],
  ["little data a second", judge("websocket", { ...WORKS, rate: 2048 }), "slow", /2 KiB a second/],
  [
    "an authority of this machine only",
    judge("websocket", WORKS, { ...OPEN, certificate: { ...certificate, trust: "machine" } }),
    "inspected",
    /"Box", which only this machine trusts.*exempt edge\.example\.com/,
  ],
  [
    "an authority that the user has given",
    judge("websocket", WORKS, { ...OPEN, certificate: { ...certificate, trust: "given" } }),
    "works",
    /^$/,
  ],
  [
    "an authority that nobody trusts",
    judge("polling", failed("CertificateRefused"), {
      connected: 5,
      failure: { code: "CertificateRefused" },
      certificate: { ...certificate, trust: "none", refused: "SELF_SIGNED_CERT_IN_CHAIN" },
    }),
    "inspected",
    /"Box".*--ca FILE/,
  ],
  [
    "an expired certificate",
    judge("polling", failed("CertificateRefused", { system: "CERT_HAS_EXPIRED" }), { connected: 5 }),
    "blocked",
    /expired.*clock/,
  ],
  [
    "a certificate for another name",
    judge("polling", failed("CertificateRefused", { system: "ERR_TLS_CERT_ALTNAME_INVALID" }), { connected: 5 }),
    "blocked",
    /Another server answers.*login page/,
  ],
  ["no DNS", judge("polling", failed("ConnectFailed", { system: "ENOTFOUND" }), {}), "blocked", /DNS has no address/],
  [
    "a closed port",
    judge("polling", failed("ConnectFailed", { system: "ECONNREFUSED" }), {}),
    "blocked",
    /refused.*let TCP to edge\.example\.com:443 out/,
  ],
  ["a silent port", judge("polling", {}, {}), "blocked", /Nothing answers at edge\.example\.com:443/],
  [
    "a name that DNS does not answer",
    judge("polling", {}, {}, { dns: { host: "edge.example.com", addresses: [] } }),
    "blocked",
    /No DNS server answers for edge\.example\.com.*check the DNS server/,
  ],
  [
    "a silent port of a name that DNS knows",
    judge("polling", {}, {}, { dns: { host: "edge.example.com", addresses: ["192.0.2.1"] } }),
    "blocked",
    /Nothing answers at edge\.example\.com:443/,
  ],
  [
    "a silent proxy",
    judge("polling", {}, {}, { proxies: [PROXY] }),
    "blocked",
    /Nothing answers at the proxy proxy:3128.*let TCP to proxy:3128 out/,
  ],
  [
    "a proxy that takes the connection and then is silent, as when the destination does not answer it",
    judge("polling", {}, { reached: 3 }, { proxies: [PROXY] }),
    "blocked",
    /proxy:3128 does not answer.*or not in time.*check host, port and kind.*that it reaches edge\.example\.com:443/,
  ],
  ["silence in the handshake", judge("polling", {}, { connected: 5 }), "blocked", /handshake is not answered.*let TLS/],
  [
    "a reset in the handshake",
    judge("polling", failed("TlsFailed", { system: "ECONNRESET" }), { connected: 5 }),
    "blocked",
    /handshake is cut off/,
  ],
  [
    "a proxy that wants a password",
    judge("polling", failed("ProxyNeedsCredentials"), {}, { proxies: [PROXY] }),
    "needs authentication",
    /http:\/\/proxy:3128 requires a user name.*--proxy-credentials/,
  ],
  [
    "a wrong password",
    judge("polling", failed("ProxyRefusesCredentials"), {}, { proxies: [PROXY] }),
    "needs authentication",
    /refuses the user name or password/,
  ],
  [
    "407 to an absolute target",
    judge(
      "polling",
      failed("NotAnEdge"),
      { ...OPEN, answer: { ...ANSWER, by: "other", status: 407 } },
      { proxies: [PROXY] },
    ),
    "needs authentication",
    /requires a user name/,
  ],
  [
    "407 from a proxy that nobody has named",
    judge("polling", failed("NotAnEdge"), { ...OPEN, answer: { ...ANSWER, by: "other", status: 407 } }),
    "needs authentication",
    /^A proxy in between requires.*name the proxy with --proxy/,
  ],
  [
    "a refused CONNECT",
    judge("polling", failed("ProxyRefuses"), {}, { proxies: [PROXY] }),
    "blocked",
    /allow the method CONNECT to edge\.example\.com:443 in the proxy http:\/\/proxy:3128/,
  ],
  [
    "a refusal by SOCKS",
    judge("polling", failed("ProxyRefuses"), {}, { proxies: [{ ...PROXY, kind: "socks5" }] }),
    "blocked",
    /allow connections to/,
  ],
  [
    "no proxy",
    judge("polling", failed("ProxyFailed"), {}, { proxies: [PROXY] }),
    "blocked",
    /check host, port and kind/,
  ],
  [
    "an untrusted proxy",
    judge("polling", failed("CertificateRefused"), {}, { proxies: [{ ...PROXY, kind: "https" }] }),
    "blocked",
    /certificate of the proxy https:\/\/proxy:3128/,
  ],
  [
    "a redirect",
    judge("polling", {}, { ...OPEN, answer: { by: "other", status: 302, roundTrip: 1, redirect: "login.example" } }),
    "blocked",
    /redirect to login\.example.*log in to the network/,
  ],
  [
    "a page",
    judge("polling", {}, { ...OPEN, answer: { ...ANSWER, by: "other" } }),
    "blocked",
    /with 200: most likely the login page/,
  ],
  [
    "an upgrade that nobody has asked for",
    judge("polling", {}, { ...OPEN, answer: { by: "other", status: 101, roundTrip: 1 } }),
    "blocked",
    /in place of the edge, with 101\./,
  ],
  [
    "a refusal by a stranger",
    judge("polling", {}, { ...OPEN, answer: { by: "other", status: 403, roundTrip: 1 } }),
    "blocked",
    /with 403\..*let HTTPS to edge\.example\.com:443 through/,
  ],
  ["no Upgrade", judge("websocket", failed("Refused", { reason: "UpgradeNeeded" })), "blocked", /removes .* Upgrade/],
  ["a held WebSocket", judge("websocket", {}), "blocked", /held back.*GET with Upgrade: websocket/],
  ["a refused WebSocket", judge("websocket", failed("NotAnEdge")), "blocked", /refused or cut off.*GET with Upgrade/],
  [
    "an edge that refuses",
    judge("polling", failed("Refused", { reason: "TooManyHalfOpen" })),
    "blocked",
    /The edge is reached, and refuses \(TooManyHalfOpen\)/,
  ],
  [
    "another name of the edge",
    judge("polling", failed("Refused", { reason: "RelayNotAllowed" })),
    "blocked",
    /does not know itself by the name edge\.example\.com \(RelayNotAllowed\)\. use the URL/,
  ],
  ["no echo beside polls", judge("longlived", {}, OPEN, { beside: ["polling"] }), "buffered", /turn off buffering/],
  ["no echo beside KeepAlive", judge("longlived", {}, OPEN, { beside: ["keepalive"] }), "buffered", /GET and POST/],
  ["a held GET beside polls", judge("keepalive", {}, OPEN, { beside: ["polling"] }), "buffered", /turn off buffering/],
  ["an echo without an answer", judge("keepalive", { established: 5 }), "buffered", /held back on the way/],
  ["no POST", judge("polling", {}, OPEN, { beside: ["websocket"] }), "blocked", /POST requests are held back/],
  [
    "a refused POST",
    judge("longlived", failed("NotAnEdge"), OPEN, { beside: ["polling"] }),
    "blocked",
    /bodies of any/,
  ],
  [
    "a connection on which nothing is answered",
    judge("websocket", {}, { connected: 5, secured: 10 }),
    "blocked",
    /connection to edge\.example\.com:443 is made, but a request is not answered\. let HTTPS/,
  ],
  [
    "a connection that is cut when something is asked",
    judge("polling", failed("ConnectFailed"), { connected: 5, secured: 10, failure: { code: "ConnectFailed" } }),
    "blocked",
    /a request is cut off/,
  ],
  [
    "an echo and then a cut",
    judge("websocket", { established: 5, ...failed("ConnectFailed") }),
    "blocked",
    /then cut off/,
  ],
  [
    "a redirect of a server to itself",
    judge("polling", {}, { ...OPEN, answer: { by: "other", status: 301, roundTrip: 1, redirect: "edge.example.com" } }),
    "blocked",
    /^edge\.example\.com answers with a redirect to itself.*check the path/,
  ],
  ["a reset", judge("polling", failed("ConnectFailed", { system: "ECONNRESET" }), {}), "blocked", /cut off at once/],
  ["a local firewall", judge("polling", failed("ConnectFailed", { system: "EPERM" }), {}), "blocked", /this machine/],
  ["no DNS server", judge("polling", failed("ConnectFailed", { system: "EAI_AGAIN" }), {}), "blocked", /No DNS server/],
  [
    "a wrong password that another connection has tried",
    judge("polling", {}, { failure: { code: "ProxyRefusesCredentials" } }, { proxies: [PROXY] }),
    "needs authentication",
    /refuses the user name or password/,
  ],
  ["a relay without an answer", judge("tls", {}, { connected: 5, secured: 6 }), "blocked", /SSTP gets no answer/],
  ["no relay", judge("tls", failed("NotAnEdge"), { connected: 5, secured: 6 }), "blocked", /no SSTP relay/],
];

describe("a way", () => {
  for (const [name, { status, why = "", need = "" }, expected, text] of CASES) {
    it(`is ${expected} with ${name}`, () => {
      assert.equal(status, expected);
      assert.match(`${why} ${need}`.trim(), text);
    });
  }

  it("is not judged by what works over another path", () => {
    const ways = [{ way: way("longlived") }, { ...WORKS, way: way("polling", [PROXY]) }];
    const [verdict] = classify({ ways, paths: new Map([[pathOf(way("longlived")), OPEN]]), dns: undefined });
    assert.equal(verdict?.status, "blocked");
  });
});

const failures = fc.record(
  {
    code: fc.constantFrom(...(Object.keys(DEVICE_ERRORS) as DeviceErrorCode[])),
    system: fc.constantFrom("ENOTFOUND", "ECONNREFUSED", "ENETUNREACH", "CERT_HAS_EXPIRED", "OTHER"),
    reason: fc.constantFrom(...(Object.keys(REASON_ADVICE) as ReasonName[])),
  },
  { requiredKeys: ["code"] },
);
const time = fc.double({ min: 0, max: 10_000, noNaN: true });
const ways = fc.record({
  transport: fc.constantFrom(...TRANSPORTS),
  host: fc.constantFrom("a", "2001:db8::1"),
  port: fc.constantFrom(443, 80),
  secure: fc.boolean(),
  proxies: fc.array(fc.record({ kind: fc.constantFrom(...PROXY_KINDS), host: fc.string(), port: fc.constant(1) }), {
    maxLength: 2,
  }),
});
const seen = fc.record(
  { way: ways, established: time, roundTrip: time, rate: time, failure: failures },
  { requiredKeys: ["way"] },
);
const paths = fc.record(
  {
    connected: time,
    secured: time,
    failure: failures,
    certificate: fc.record({
      issuer: fc.string(),
      authority: fc.string(),
      trust: fc.constantFrom("public", "given", "machine", "none"),
    }),
    answer: fc.record(
      { by: fc.constantFrom("edge", "other"), status: fc.nat(599), redirect: fc.string(), roundTrip: time, skew: time },
      { requiredKeys: ["by", "status", "roundTrip"] },
    ),
  },
  { requiredKeys: [] },
);

describe("whatever is seen", () => {
  it("a way can be used exactly if it has an answer, and otherwise the verdict says why and what to change", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(seen, paths), { maxLength: 6 }), (all) => {
        const known = new Map(all.map(([one, path]) => [pathOf(one.way), path as PathObservation]));
        const observed = all.map(([one]) => one as WayObservation);
        const verdicts = classify({ ways: observed, paths: known, dns: undefined });
        assert.equal(verdicts.length, observed.length);
        for (const [i, { status, isUsable, why, need }] of verdicts.entries()) {
          assert.equal(isUsable, observed[i]?.roundTrip !== undefined);
          assert.ok(STATUSES.includes(status));
          if (isUsable) assert.ok(["works", "slow", "inspected"].includes(status));
          else assert.ok(!["works", "slow"].includes(status) && why !== undefined && need !== undefined);
          if (status === "works") assert.equal(why, undefined);
          for (const text of [why, need]) assert.doesNotMatch(text ?? "", /undefined|NaN|\[object/);
        }
        const best = recommend(verdicts);
        assert.equal(
          best === undefined,
          verdicts.every(({ isUsable }) => !isUsable),
        );
        if (best !== undefined) assert.equal(verdicts[best]?.isUsable, true);
      }),
    );
  });

  it("what works is recommended before what is inspected or slow, and else the first", () => {
    const of = (...statuses: Status[]) =>
      recommend(statuses.map((status) => ({ status, isUsable: status !== "blocked" && status !== "buffered" })));
    assert.equal(of("blocked", "slow", "inspected", "works", "works"), 3);
    assert.equal(of("slow", "inspected"), 1);
    assert.equal(of("buffered", "slow"), 1);
    assert.equal(of("blocked"), undefined);
    assert.equal(of(), undefined);
    assert.equal(recommend([{ status: "inspected", isUsable: false }]), undefined);
  });
});
