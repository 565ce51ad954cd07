/** Findings about an edge's settings, and what DEV permits. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { forbidden, insecurities } from "../../../src/edge/policy/check-settings.ts";
import { parseDev, readDev } from "../../../src/edge/policy/dev-setting.ts";
import type { Settings } from "../../../src/edge/policy/settings.ts";

describe("DEV", () => {
  for (const [text, permitted, unknown] of [
    [undefined, [], []],
    ["", [], []],
    [" , ", [], []],
    ["1", ["private", "open", "wildcard"], []],
    ["private", ["private"], []],
    ["open", ["open"], []],
    ["wildcard", ["wildcard"], []],
    ["private, open", ["private", "open"], []],
    ["wildcard private", ["private", "wildcard"], []],
    ["0", [], ["0"]],
    ["true", [], ["true"]],
    ["Private", [], ["Private"]],
    ["11", [], ["11"]],
    ["private;open", [], ["private;open"]],
    ["open, all", ["open"], ["all"]],
  ] as const) {
    it(JSON.stringify(text) ?? "not set", () => {
      const names = Object.entries(parseDev(text)).flatMap(([name, on]) => (on ? [name] : []));
      assert.deepEqual(names, permitted);
      const read = readDev(text);
      const problems = read.ok ? [] : read.problems.map(({ problem }) => problem);
      assert.deepEqual(
        problems,
        unknown.map((word) => `has ${JSON.stringify(word)}, which is unknown`),
      );
    });
  }
});

const SECRET = Buffer.alloc(32, 7).toString("base64url");

describe("a finding names the setting, the entry and the fix", () => {
  for (const [settings, text] of [
    [
      { RATE: "octets=1e6" },
      /^RATE has "octets=1e6", .*: write connections, connects, octets, messages, recipients, streams as name=number$/,
    ],
    [{ RATE: "octets=1" }, /^RATE has "octets=1", .*: write at least 32768$/],
    [{ RATE: "connects=1,connects=2" }, /^RATE has "connects=2", which sets connects again: leave one of the two out$/],
    [
      { LINKS: "a.example.com,b.example.com", ORIGIN_RELAYS: "a.example.com", LINK_WAYS: "tls:443" },
      /^LINKS has "b\.example\.com", to which this edge may not .* list.*: add b\.example\.com to ORIGIN_RELAYS .*; or leave it out$/,
    ],
    [
      { LINKS: "a.example.com", ORIGIN_RELAYS: "a.example.com", LINK_WAYS: "tls:8443" },
      /^LINKS has "a\.example\.com", .* on port 8443\): add a\.example\.com:8443 to ORIGIN_RELAYS \(--relay-allow\)/,
    ],
    [
      { LINKS: "[2001:db8::7]", LINK_WAYS: "tls:8443", DEV: "private" },
      /^LINKS has .*: add \[2001:db8::7\]:8443 to ORIGIN_RELAYS/,
    ],
    [
      { LINKS: "a.example.com", ORIGIN_RELAYS: "a.example.com !*.example.com:443", LINK_WAYS: "tls:443" },
      /^LINKS has .*: remove !\*\.example\.com:443 from ORIGIN_RELAYS/,
    ],
    [
      { LINKS: "10.0.0.1", ORIGIN_RELAYS: "10.0.0.1" },
      /^LINKS has "10\.0\.0\.1", .*not public.*: .* DEV=private \(--dev-private\)/,
    ],
    [
      { LINK_SECRETS: `a.example.com=${SECRET}`, ORIGIN_RELAYS: "a.example.com:8443", LINK_WAYS: "sstp:8443" },
      /^LINK_SECRETS has "a\.example\.com", to which .* without TLS/,
    ],
    [
      { LINKS: "a.example.com,b..c", ORIGIN_RELAYS: "a.example.com", LINK_WAYS: "tls:443" },
      /^LINKS has "b\.\.c", .*: write HOST or HOST:PORT/,
    ],
    [
      { RELAY_NAME: "edge.example.com, a b..c/d" },
      /^RELAY_NAME has "b\.\.c\/d", which is not a name that a device could use: write host/,
    ],
    [{ TRUSTED_PROXIES: "10.0.0.1/8" }, /^TRUSTED_PROXIES has "10\.0\.0\.1\/8", .*: write 10\.0\.0\.7 or .*, or none$/],
    [{ ACKNOWLEDGE_TIME: "2m" }, /^ACKNOWLEDGE_TIME is "2m", .*: write a number from 15 to 86400 \(--ack/],
    [{ AUTH_ORIGIN: "true" }, /^AUTH_ORIGIN is "true", which is unknown: write origin \(--auth-origin\), or leave/],
    [
      { REVOKED: '["a","b"]' },
      /^REVOKED has "\[\\"a\\"", which is not the id of a token: write the ids \(jti\) separated by/,
    ],
    [{ REVOKED: "one, two three" }, /^REVOKED has "two three", /],
    [{ LINK_WAYS: "sstp:2492 udp:1" }, /^LINK_WAYS has "udp:1", .*: write sstp:PORT, tls:PORT or http:PORT/],
    [{ LINK_WAYS: "tls:443 sstp:2492 tls:8443" }, /^LINK_WAYS has sstp:2492 beside TLS, .*: write "tls:443 tls:8443"$/],
    [{ LINK_WAYS: "http:80 tls:443" }, /^LINK_WAYS has http:80 beside TLS, .*: write "tls:443"$/],
    [
      { LINK_SECRETS: `a..b=${SECRET}` },
      /^LINK_SECRETS has "a\.\.b", which is not the name of a relay: write NAME=SECRET/,
    ],
    [{ LINK_SECRETS: SECRET }, /^LINK_SECRETS has an entry that is not NAME=SECRET: write NAME=SECRET/],
    [{ LINK_SECRETS: "a.example.com=c2hvcnQ" }, /^LINK_SECRETS has "a\.example\.com", which has a secret that is not/],
    [{ LINK_PLAIN: "a..b" }, /^LINK_PLAIN has "a\.\.b", which is not the name of a relay: write HOST or HOST:PORT/],
    [
      { LINK_SECRETS: `a.example.com=${SECRET}`, ORIGIN_RELAYS: "a.example.com" },
      /^LINK_SECRETS has "a\.example\.com", to which .* without TLS: write LINK_WAYS=tls:443 .*, or a\.example\.com in LINK_PLAIN/,
    ],
    [
      { LINKS: "a.example.com", ORIGIN_RELAYS: "a.example.com" },
      /^LINKS has "a\.example\.com", .* without TLS: write LINK_WAYS=tls:443 .*, or a\.example\.com=none in LINK_SECRETS/,
    ],
  ] as readonly [Settings, RegExp][]) {
    it(JSON.stringify(settings), () => {
      const found = forbidden({ KEYS: "k", ...settings }).map((of) => `${of.setting} ${of.problem}: ${of.cure}`);
      assert.equal(found.length, 1);
      assert.match(found[0] ?? "", text);
    });
  }
});

describe("findings", () => {
  const KEYS = "k";
  for (const [settings, found, stops] of [
    [{ KEYS }, [], []],
    [{ JWKS_URL: "https://id.example.com/keys" }, [], []],
    [{ KEYS, ORIGIN_RELAYS: "relay.example.com, 63.209.254.*" }, [], []],
    [{ KEYS, ORIGIN_RELAYS: "!*" }, [], []],
    [{}, ["NoKeys"], ["NoKeys"]],
    [{ KEYS: "", JWKS_URL: "" }, ["NoKeys"], ["NoKeys"]],
    [{ DEV: "private" }, ["NoKeys", "DevelopmentSettings permitted"], ["NoKeys"]],
    [{ JWKS_URL: "http://id.example.com/keys" }, ["InsecureKeys"], ["InsecureKeys"]],
    [{ JWKS_URL: "http://127.0.0.1:8053/keys", REVOKED_URL: "http://[::1]:8053/revoked" }, [], []],
    [{ KEYS, REVOKED_URL: "http://id.example.com/revoked" }, ["InsecureKeys"], ["InsecureKeys"]],
    [{ DEV: "open" }, ["NoKeys permitted", "DevelopmentSettings permitted"], []],
    [{ KEYS, ORIGIN_RELAYS: "relay.example.com *" }, ["WildcardRelays"], ["WildcardRelays"]],
    [{ KEYS, ORIGIN_RELAYS: "*.com" }, ["WildcardRelays"], ["WildcardRelays"]],
    [{ KEYS, ORIGIN_RELAYS: "0.0.0.0/0" }, ["WildcardRelays"], ["WildcardRelays"]],
    [
      { KEYS, ORIGIN_RELAYS: "*", DEV: "private" },
      ["WildcardRelays", "DevelopmentSettings permitted"],
      ["WildcardRelays"],
    ],
    [{ KEYS, ORIGIN_RELAYS: "*", DEV: "wildcard" }, ["WildcardRelays permitted", "DevelopmentSettings permitted"], []],
    [{ KEYS, ORIGIN_RELAYS: "127.1" }, ["MalformedRelays"], ["MalformedRelays"]],
    [
      { KEYS, ORIGIN_RELAYS: "127.1", DEV: "1" },
      ["MalformedRelays", "DevelopmentSettings permitted"],
      ["MalformedRelays"],
    ],
    [{ KEYS, DEV: "yes" }, ["MalformedDev"], ["MalformedDev"]],
    [{ KEYS, DEV: "1 yes" }, ["DevelopmentSettings permitted", "MalformedDev"], ["MalformedDev"]],
    [{ KEYS, RESOLVER: "https://dns.example.com/resolve" }, [], []],
    [{ KEYS, RESOLVER: "http://127.0.0.1:8053/dns-query" }, [], []],
    [{ KEYS, RESOLVER: "http://[::1]:8053/dns-query" }, [], []],
    [{ KEYS, RESOLVER: "http://localhost:8053/dns-query" }, ["InsecureResolver"], ["InsecureResolver"]],
    [{ KEYS, RESOLVER: "http://dns.example.com/resolve" }, ["InsecureResolver"], ["InsecureResolver"]],
    [{ KEYS, RESOLVER: "dns.example.com" }, ["InsecureResolver"], ["InsecureResolver"]],
    [{ KEYS, RATE: "connections=50, octets=1000000", LINKS: "", LINK_WAYS: "" }, [], []],
    [{ KEYS, RATE: "conections=50" }, ["MalformedRate"], ["MalformedRate"]],
    [{ KEYS, RATE: "octets=1" }, ["MalformedRate"], ["MalformedRate"]],
    [{ KEYS, RATE: "connects=1 connects=2" }, ["MalformedRate"], ["MalformedRate"]],
    [{ KEYS, QUOTA: "octets=64MiB, messages=1000 share=0.25" }, [], []],
    [{ KEYS, QUOTA: "octets=64MB" }, ["MalformedQuota"], ["MalformedQuota"]],
    [
      {
        KEYS,
        LINKS: "relay.example.com, other.example.com:443 63.209.254.7\n[2607:f8b0::7]:2492,",
        LINK_WAYS: "tls:443",
        ORIGIN_RELAYS: "*.example.com:443 63.209.254.* 2607:f8b0::/32",
      },
      [],
      [],
    ],
    [{ KEYS, LINKS: "a.example.com", ORIGIN_RELAYS: "a.example.com:8443", LINK_WAYS: "tls:443 tls:8443" }, [], []],
    [{ KEYS, LINKS: "relay.example.com" }, ["ForbiddenLinks"], ["ForbiddenLinks"]],
    [{ KEYS, LINKS: "127.0.0.1:2492", ORIGIN_RELAYS: "127.0.0.1" }, ["ForbiddenLinks"], ["ForbiddenLinks"]],
    [{ KEYS, LINKS: "relay.example.com", ORIGIN_RELAYS: "a..b" }, ["MalformedRelays"], ["MalformedRelays"]],
    [{ KEYS, LINKS: "relay..example.com" }, ["MalformedLinks"], ["MalformedLinks"]],
    [
      { KEYS, LINKS: "sstp://relay.example.com relay.example.com:0" },
      ["MalformedLinks", "MalformedLinks"],
      ["MalformedLinks", "MalformedLinks"],
    ],
    [{ KEYS, LINK_WAYS: "tls:443 tls:2492" }, [], []],
    [{ KEYS, LINK_WAYS: "tls:443 sstp:2492" }, ["MalformedWays"], ["MalformedWays"]],
    [{ KEYS, LINKS: "a.example.com", ORIGIN_RELAYS: "a.example.com" }, ["LinkInClear"], ["LinkInClear"]],
    [{ KEYS, LINKS: "a.example.com", ORIGIN_RELAYS: "a.example.com", LINK_SECRETS: "a.example.com=none" }, [], []],
    [
      { KEYS, ORIGIN_RELAYS: "a.example.com", LINK_SECRETS: `a.example.com=${SECRET}` },
      ["LinkInClear"],
      ["LinkInClear"],
    ],
    [
      {
        KEYS,
        ORIGIN_RELAYS: "a.example.com",
        LINK_SECRETS: `a.example.com=${SECRET}`,
        LINK_PLAIN: "b.example.com A.example.com",
      },
      [],
      [],
    ],
    // A relay that only connects to this edge is not dialled without TLS.
    [{ KEYS, LINK_SECRETS: `a.example.com=${SECRET}` }, [], []],
    [{ KEYS, ACKNOWLEDGE_TIME: " 15 ", AUTH_ORIGIN: "origin", REVOKED: " one,two ,,t-3/x " }, [], []],
    [{ KEYS, ACKNOWLEDGE_TIME: "", AUTH_ORIGIN: "", REVOKED: "" }, [], []],
    [{ KEYS, ACKNOWLEDGE_TIME: "14" }, ["MalformedAcknowledgeTime"], ["MalformedAcknowledgeTime"]],
    [{ KEYS, ACKNOWLEDGE_TIME: "86401" }, ["MalformedAcknowledgeTime"], ["MalformedAcknowledgeTime"]],
    [{ KEYS, ACKNOWLEDGE_TIME: "1e2" }, ["MalformedAcknowledgeTime"], ["MalformedAcknowledgeTime"]],
    [{ KEYS, KEEP_TIME: "0" }, [], []],
    [{ KEYS, KEEP_TIME: "1209600" }, [], []],
    [{ KEYS, KEEP_TIME: "1209601" }, ["MalformedKeepTime"], ["MalformedKeepTime"]],
    [{ KEYS, KEEP_TIME: "1d" }, ["MalformedKeepTime"], ["MalformedKeepTime"]],
    [{ KEYS, LINK_WAYS: " , " }, [], []],
    [{ KEYS, LINK_WAYS: "2492" }, ["MalformedWays"], ["MalformedWays"]],
    [{ KEYS, LINK_WAYS: "sstp:65536" }, ["MalformedWays"], ["MalformedWays"]],
    [
      { KEYS, RATE: "1", LINKS: "*.example.com", LINK_WAYS: "https:443", DEV: "1" },
      ["DevelopmentSettings permitted", "MalformedRate", "MalformedLinks", "MalformedWays"],
      ["MalformedRate", "MalformedLinks", "MalformedWays"],
    ],
  ] as readonly [Settings, string[], string[]][]) {
    it(JSON.stringify(settings), () => {
      const findings = insecurities(settings);
      assert.deepEqual(
        findings.map(({ code, permitted }) => code + (permitted ? " permitted" : "")),
        found,
      );
      assert.deepEqual(
        forbidden(settings).map(({ code }) => code),
        stops,
      );
      for (const { setting, problem, cure } of findings) assert(setting.length * problem.length * cure.length > 0);
    });
  }
});
