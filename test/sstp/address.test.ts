import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Address, Named } from "../../src/sstp/index.ts";
import {
  AddressError,
  accountURL,
  deviceURL,
  formatAddress,
  identityURL,
  isSameDevice,
  isURL,
  newInstance,
  parseAddress,
  parseRelayName,
  parseURL,
  recipientOf,
  relayURL,
  withoutInstance,
} from "../../src/sstp/index.ts";
import { runs } from "../support/long-form.ts";

// text, parts, and the formatted text if it differs
const good: [text: string, address: Address, formatted?: string][] = [
  ["alice", { identity: "alice" }],
  ["alice/laptop", { identity: "alice", device: "laptop" }],
  ["alice@relay.example.com", { identity: "alice", relay: "relay.example.com" }],
  ["alice/laptop@relay.example.com", { identity: "alice", device: "laptop", relay: "relay.example.com" }],
  ["alice@relay.example.com:443", { identity: "alice", relay: "relay.example.com:443" }],
  ["alice@relay.example.com:2492", { identity: "alice", relay: "relay.example.com" }, "alice@relay.example.com"],
  [
    "Alice/Laptop@Relay.Example.COM",
    { identity: "Alice", device: "Laptop", relay: "relay.example.com" },
    "Alice/Laptop@relay.example.com",
  ],
  ["alice@127.0.0.1", { identity: "alice", relay: "127.0.0.1" }],
  ["alice@localhost", { identity: "alice", relay: "localhost" }],
  ["alice@[::1]", { identity: "alice", relay: "[::1]" }],
  ["alice@[2001:DB8::1]:80", { identity: "alice", relay: "[2001:db8::1]:80" }, "alice@[2001:db8::1]:80"],
  ["alice@[::ffff:192.0.2.1]", { identity: "alice", relay: "[::ffff:192.0.2.1]" }],
  ["alice@[1:2:3:4:5:6:7:8]", { identity: "alice", relay: "[1:2:3:4:5:6:7:8]" }],
  ["al%20ice", { identity: "al ice" }],
  ["al ice", { identity: "al ice" }, "al%20ice"],
  ["alice%40home/a%2Fb", { identity: "alice@home", device: "a/b" }],
  ["100%25", { identity: "100%" }],
  ["zoë/büro", { identity: "zoë", device: "büro" }, "zo%C3%AB/b%C3%BCro"],
  ["a-b_c.d~e", { identity: "a-b_c.d~e" }],
  ["a!b'(c)*", { identity: "a!b'(c)*" }, "a%21b%27%28c%29%2A"],
  ["a:b", { identity: "a:b" }, "a%3Ab"],
  ["x".repeat(128), { identity: "x".repeat(128) }],
];

for (const [text, address, formatted = text] of good) {
  test(`address ${text.slice(0, 40)}`, () => {
    assert.deepEqual(parseAddress(text), { ok: true, value: address });
    assert.equal(formatAddress(address), formatted);
    assert.deepEqual(parseAddress(formatted), { ok: true, value: address });
  });
}

const bad: [text: string, says: RegExp][] = [
  ["", /identity is empty/],
  ["/laptop", /identity is empty/],
  ["@relay", /identity is empty/],
  ["alice/", /device is empty/],
  ["alice/@relay", /device is empty/],
  ["alice@", /not a host name/],
  ["alice/a/b", /more than one \//],
  ["alice@a@b", /more than one @/],
  ["alice/laptop@relay/x", /not a host name/],
  [".", /without dots/],
  ["alice/..", /without dots/],
  ["%2e%2e", /without dots/],
  ["a%zz", /percent/],
  ["a%", /percent/],
  ["a%ff", /percent/],
  ["a\u0000b", /control/],
  ["a%0Ab", /control/],
  ["\ud800", /surrogate/],
  ["x".repeat(129), /128/],
  ["ë".repeat(22), /132 bytes/],
  [`alice/${"x".repeat(129)}`, /128/],
  ["alice@relay:0", /65535/],
  ["alice@relay:65536", /65535/],
  ["alice@relay:080", /65535/],
  ["alice@relay:", /65535/],
  ["alice@relay:x", /65535/],
  ["alice@-relay", /host name/],
  ["alice@relay-", /host name/],
  ["alice@re lay", /host name/],
  ["alice@a..b", /host name/],
  [`alice@${"a.".repeat(127)}abc`, /host name/],
  ["alice@::1", /host name/],
  ["alice@[::1", /IPv6/],
  ["alice@\u212a", /host name/],
  ["alice@[]", /IPv6/],
  ["alice@[1:2:3]", /IPv6/],
  ["alice@[1::2::3]", /IPv6/],
  ["alice@[1:2:3:4:5:6:7:8:9]", /IPv6/],
  ["alice@[12345::]", /IPv6/],
  ["alice@[::256.0.0.1]", /IPv6/],
  ["alice@[fe80::1%eth0]", /IPv6/],
];

for (const [text, says] of bad) {
  test(`not an address: ${JSON.stringify(text.slice(0, 40))}`, () => {
    const parsed = parseAddress(text);
    assert.ok(!parsed.ok && says.test(parsed.problems));
  });
}

const urls: [url: string, named: Named][] = [
  ["grooveIdentity://alice", { kind: "identity", identity: "alice" }],
  ["grooveAccount://al%20ice", { kind: "account", identity: "al ice" }],
  ["grooveDevice://alice/laptop", { kind: "device", identity: "alice", device: "laptop" }],
  ["grooveDNS://relay.example.com", { kind: "relay", relay: "relay.example.com" }],
  ["grooveDNS://relay.example.com:443", { kind: "relay", relay: "relay.example.com:443" }],
  ["GROOVEDNS://Relay.example.com:2492", { kind: "relay", relay: "relay.example.com" }],
];

for (const [url, named] of urls) test(`URL ${url}`, () => assert.deepEqual(parseURL(url), { ok: true, value: named }));

for (const url of [
  "",
  "alice",
  "http://alice",
  "grooveIdentity:alice",
  "grooveIdentity://",
  "grooveIdentity://alice/laptop",
  "grooveAccount://a@b",
  "grooveDevice://alice",
  "grooveDevice://alice/",
  "grooveDevice://alice/a/b",
  "grooveDNS://",
  "grooveDNS://a/b",
  `grooveIdentity://${"x".repeat(500)}`,
]) {
  test(`not an SSTP URL: ${JSON.stringify(url.slice(0, 40))}`, () => assert.ok(!parseURL(url).ok));
}

test("a device URL requires a device", () => {
  assert.throws(() => deviceURL({ identity: "alice" }), AddressError);
});

const name = fc
  .string({ unit: "grapheme", minLength: 1, maxLength: 9 })
  .filter((text) => !/^\.\.?$|\p{Cc}/u.test(text) && encodeURIComponent(text).length <= 100);
const relay = fc.oneof(fc.domain(), fc.constantFrom("[::1]", "localhost:1", "10.0.0.1:65535"));

test("formatting and parsing addresses and URLs round-trips", () => {
  fc.assert(
    fc.property(
      name,
      name,
      relay.map((text) => text.toLowerCase()),
      (identity, device, host) => {
        const address = { identity, device, relay: host };
        assert.deepEqual(parseAddress(formatAddress(address)), { ok: true, value: address });
        const named: [url: string, named: Named][] = [
          [identityURL(address), { kind: "identity", identity }],
          [accountURL(address), { kind: "account", identity }],
          [deviceURL(address), { kind: "device", identity, device }],
          [relayURL(host), { kind: "relay", relay: host }],
        ];
        for (const [url, value] of named) assert.deepEqual(parseURL(url), { ok: true, value });
        for (const url of [identityURL(address), accountURL(address), deviceURL(address), relayURL(host)]) {
          assert.ok(isURL(url) && url.length <= 512);
        }
      },
    ),
    { numRuns: runs(1000) },
  );
});

/** Text that resembles addresses and URLs. */
const likely = fc
  .array(
    fc.oneof(
      fc.constantFrom("alice", "/", "@", "%", "%3A", "%2F", "%3A%2F%2F", ".", ":", "[::1]", "\ud800", "x".repeat(128)),
      fc.constantFrom("grooveIdentity", "grooveAccount", "grooveDevice", "grooveDNS", "://", "GROOVEDNS%3A%2F%2F"),
    ),
    { maxLength: 8 },
  )
  .map((parts) => parts.join(""));

test("no text makes a parser throw, and what one accepts can be written", () => {
  fc.assert(
    fc.property(fc.oneof(likely, fc.string({ unit: "binary" }), fc.string()), (text) => {
      const address = parseAddress(text);
      if (address.ok) assert.deepEqual(parseAddress(formatAddress(address.value)), address);
      const named = parseURL(text);
      if (named.ok && named.value.kind === "device") assert.deepEqual(parseURL(deviceURL(named.value)), named);
      const recipient = recipientOf(text);
      if (recipient.ok) assert.ok(isURL(recipient.value.identityURL));
      const relay = parseRelayName(text);
      if (relay.ok)
        assert.deepEqual(parseURL(relayURL(relay.value)), { ok: true, value: { kind: "relay", relay: relay.value } });
    }),
    { numRuns: runs(5000) },
  );
});

test("isURL accepts what RFC 3986 allows, including bare names", () => {
  for (const url of ["apphandler", "device2", "grooveDNS://a.b:1", "a%20b", "x?y#z"]) assert.ok(isURL(url), url);
  for (const url of ["", "a b", "a%2", "a%zz", "<a>", 'a"b', "a\u0001"]) assert.ok(!isURL(url), url);
});

test("device URLs are equal if identical, or if they differ only in the case of a relay's name", () => {
  assert.ok(isSameDevice("grooveDNS://A.example", "groovedns://a.EXAMPLE"));
  assert.ok(isSameDevice("device2", "device2"));
  assert.ok(!isSameDevice("device2", "Device2"));
  assert.ok(!isSameDevice("grooveDevice://alice/x", "grooveDevice://Alice/x"));
});

test("an instance is a new name of a device, and of no other", () => {
  fc.assert(
    fc.property(fc.string({ minLength: 1, maxLength: 20 }), (device) => {
      const instance = newInstance(device);
      assert.notEqual(instance, newInstance(device));
      assert.equal(withoutInstance(instance), withoutInstance(device));
      assert.equal(withoutInstance(newInstance(instance)), withoutInstance(device), "an instance has none of its own");
    }),
  );
  for (const device of ["laptop", "~k3v90q2a", "laptop~k3v90q2", "laptop~k3v90q2ab", "laptop~k3v90q2z", "laptop~"]) {
    assert.equal(withoutInstance(device), device);
  }
});
