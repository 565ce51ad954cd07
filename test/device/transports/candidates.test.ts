/** Which ways a device may try. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { DeviceError } from "../../../src/device/device-error.ts";
import {
  type CandidateOptions,
  candidates,
  hasAbsoluteTargets,
  mayFollow,
  type ProxyChoice,
  pathText,
  tellingError,
  wayText,
} from "../../../src/device/transports/candidates.ts";
import { PROXY_KINDS, TRANSPORTS, type TransportName, type Way } from "../../../src/device/transports/transport.ts";

const HTTP = { kind: "http", host: "proxy", port: 3128 } as const;
const SOCKS = { kind: "socks5", host: "socks", port: 1080 } as const;
const choice = (isForced: boolean, ...chains: ProxyChoice["chains"]): ProxyChoice => ({
  chains,
  source: "test",
  isForced,
});

const texts = (options: CandidateOptions, found?: ProxyChoice) =>
  candidates(options, { edge: found, relay: found }).map((way) => wayText(way));

describe("the ways to an edge", () => {
  it("are those of the HTTP transports, by TLS, best first", () => {
    assert.deepEqual(texts({ edge: "https://edge.example.com/groove" }), [
      "websocket to edge.example.com:443 over TLS",
      "longlived to edge.example.com:443 over TLS",
      "keepalive to edge.example.com:443 over TLS",
      "polling to edge.example.com:443 over TLS",
    ]);
  });

  it("go through the proxy first, and directly only if it is not forced", () => {
    const options = { edge: "https://edge.example.com", transport: "websocket" } as const;
    const through = "websocket to edge.example.com:443 over TLS through http://proxy:3128";
    assert.deepEqual(texts(options, choice(true, [HTTP])), [through]);
    assert.deepEqual(texts(options, choice(false, [HTTP])), [through, "websocket to edge.example.com:443 over TLS"]);
  });

  it("do not go past a proxy that has answered, also if one before it was out of reach", () => {
    const [gone, refusing] = [HTTP, SOCKS].map(
      (proxy) =>
        candidates({ edge: "https://edge.example.com", transport: "websocket" }, { edge: choice(true, [proxy]) })[0],
    );
    const [direct] = candidates({ edge: "https://edge.example.com", transport: "websocket" });
    assert.ok(gone && refusing && direct);
    const unreachable = { way: gone, error: new DeviceError("ConnectFailed", "gone") };
    const refused = { way: refusing, error: new DeviceError("ProxyRefuses", "no") };
    assert.equal(mayFollow([], direct), true);
    assert.equal(mayFollow([unreachable], refusing), true);
    assert.equal(mayFollow([unreachable, refused], direct), false);
    assert.equal(tellingError([unreachable, refused]), refused.error);
    assert.equal(tellingError([unreachable]), unreachable.error);
  });

  it("share a path only if one connection serves both: a proxy may forbid tunnels and forward requests", () => {
    const proxies = [{ kind: "http", host: "proxy.test", port: 3128 }] as const;
    const way = (transport: TransportName, secure = false): Way => {
      return { transport, host: "edge.test", port: secure ? 443 : 80, secure, proxies };
    };
    assert.notEqual(pathText(way("websocket")), pathText(way("longlived")));
    assert.equal(pathText(way("longlived")), pathText(way("polling")));
    assert.equal(pathText(way("websocket", true)), pathText(way("longlived", true)));
  });

  it("include plain HTTP on port 80 only with allowPlain", () => {
    const options = { edge: "https://edge.example.com", transport: "polling", allowPlain: true } as const;
    assert.deepEqual(texts(options), ["polling to edge.example.com:443 over TLS", "polling to edge.example.com:80"]);
    assert.deepEqual(texts({ ...options, edge: "https://edge.example.com:8443" }).length, 1);
    assert.deepEqual(texts({ ...options, allowPlain: false }).length, 1);
  });
});

describe("the ways to a relay", () => {
  it("are tcp, tcp443 and tls, and through proxies connect, socks and tls", () => {
    assert.deepEqual(texts({ relay: "relay.example.com" }, choice(false, [HTTP], [SOCKS])), [
      "tcp to relay.example.com:2492",
      "tcp443 to relay.example.com:443",
      "tls to relay.example.com:443 over TLS through http://proxy:3128",
      "tls to relay.example.com:443 over TLS through socks5://socks:1080",
      "tls to relay.example.com:443 over TLS",
      "connect to relay.example.com:443 through http://proxy:3128",
      "connect to relay.example.com:2492 through http://proxy:3128",
      "socks to relay.example.com:2492 through socks5://socks:1080",
      "socks to relay.example.com:443 through socks5://socks:1080",
    ]);
  });

  it("keep to the port that the user wrote", () => {
    assert.deepEqual(texts({ relay: "[2001:db8::1]:7000" }, choice(true, [HTTP], [])), [
      "tcp to [2001:db8::1]:7000",
      "tls to [2001:db8::1]:7000 over TLS through http://proxy:3128",
      "tls to [2001:db8::1]:7000 over TLS",
      "connect to [2001:db8::1]:7000 through http://proxy:3128",
    ]);
  });
});

it("no way is weaker than what the user wrote", () => {
  const proxies = fc.record({
    kind: fc.constantFrom(...PROXY_KINDS),
    host: fc.domain(),
    port: fc.integer({ min: 1, max: 65535 }),
  });
  const chains = fc.array(fc.array(proxies, { maxLength: 2 }), { minLength: 1, maxLength: 3 });
  const relays = fc.option(fc.constantFrom("relay.example.com", "relay.example.com:443"), { nil: undefined });
  const transports = fc.option(fc.constantFrom(...TRANSPORTS), { nil: undefined });
  fc.assert(
    fc.property(chains, relays, transports, fc.boolean(), (found, relay, transport, isForced) => {
      const proxy = { chains: found, source: "test", isForced };
      const ways = candidates({ edge: "https://edge.example.com", relay, transport }, { edge: proxy, relay: proxy });
      for (const way of ways) {
        assert.ok(way.secure, wayText(way));
        assert.equal(hasAbsoluteTargets(way), false);
        if (isForced) assert.ok(found.some((chain) => chain === way.proxies));
      }
    }),
  );
});
