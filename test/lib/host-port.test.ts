/** One grammar of `host:port`, and what each place that uses it accepts. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { readWays } from "../../src/edge/policy/link-ways.ts";
import { judgeRelay, readRelays } from "../../src/edge/policy/relay-allow-list.ts";
import { readProxies } from "../../src/edge/policy/trusted-proxies.ts";
import { parseRelay } from "../../src/encapsulation/index.ts";
import {
  bracketed,
  formatHostPort,
  isHostName,
  LONGEST_HOST,
  parseHostPort,
  parsePort,
  splitHostPort,
  unbracketed,
  withoutFinalDot,
} from "../../src/lib/host-port.ts";
import { parseRelayName } from "../../src/sstp/index.ts";

const LONG = `${"a".repeat(60)}.`.repeat(5).slice(0, LONGEST_HOST);

/** The places: a target of a request, an address, an allow list that has the text, and one that has everything. */
const PLACES = {
  target: (text: string) => parseRelay(text) !== undefined,
  address: (text: string) => parseRelayName(text).ok,
  entry: (text: string) => readRelays(text).ok,
  dialled: (text: string) => {
    const read = readRelays("*:1,*:2492,*:65535");
    if (!read.ok) throw new Error("the list is well formed");
    return judgeRelay(text, read.value, { private: true }).type === "allowed";
  },
};

/** What a place accepts, by the first letters of the places: target, address, entry of the list, dialled. */
const TABLE: readonly (readonly [text: string, accepted: string])[] = [
  ["relay", "t a e d"],
  ["Relay.Example.COM", "t a e d"],
  ["relay_1.example.com:1", "t a e d"],
  ["relay.example.com:65535", "t a e d"],
  ["192.0.2.1", "t a e d"],
  ["192.0.2.1:1", "t a e d"],
  ["[::1]", "t a e d"],
  ["[2001:DB8::1]:1", "t a e d"],
  ["[::ffff:192.0.2.1]:1", "t a e d"],
  [LONG, "t a e d"],
  [`${LONG}:65535`, "t a e d"],
  // A final dot: refused where names are compared.
  ["relay.example.com.", "t e d"],
  ["relay.example.com.:1", "t e d"],
  [`${LONG}.`, "t e d"],
  ["relay..", ""],
  [".", ""],
  // Spellings of addresses: a target is only passed on, and a list must be unequivocal.
  ["127.1", "t a d"],
  ["0177.0.0.1", "t a d"],
  ["0x7f.1", "t a d"],
  ["127.0.0.1.", "t d"],
  ["192.0.2.256", "t a"],
  ["relay.1", "t a"],
  ["::1", "e"],
  ["2001:db8::1", "e"],
  ["2001:db8::1:443", "e"],
  ["[::ffff:192.0.2.01]", ""],
  ["[192.0.2.1]", "e"],
  ["[256]", ""],
  ["[::::]", ""],
  ["[1:2:3:4:5:6:7:8:9]", ""],
  ["[fe80::1%eth0]", ""],
  ["[relay]", ""],
  ["[]", ""],
  ["[]:1", ""],
  ["[::1", ""],
  ["::1]", ""],
  ["[::1]1", ""],
  ["[[::1]]", ""],
  ["[::1]:", ""],
  ["a[::1]", ""],
  // Ports.
  ["relay:", ""],
  ["relay:0", ""],
  ["relay:01", ""],
  ["relay:65536", ""],
  ["relay:123456", ""],
  ["relay:+1", ""],
  ["relay:1e3", ""],
  ["relay:0x1", ""],
  ["relay:١", ""],
  [":1", ""],
  ["a:b:1", ""],
  ["relay:1:1", ""],
  // Names.
  ["", "e"],
  ["-relay", ""],
  ["relay-", ""],
  ["a..b", ""],
  [".a", ""],
  ["a".repeat(64), ""],
  [`a${LONG}`, ""],
  ["user@relay", ""],
  ["relay/x", ""],
  ["http://relay", ""],
  ["relay\0", ""],
  ["relay*", ""],
  // Lower-casing makes a k of a Kelvin sign, and IDNA an address of full-width digits.
  ["\u212aelay", ""],
  ["１２７.0.0.1", ""],
  ["zoë.example.com", ""],
  // Only the list has globs and ranges, and several entries.
  ["*.example.com", "e"],
  ["192.0.2.0/24:1", "e"],
  ["a b", "e"],
];

describe("host:port", () => {
  for (const [text, accepted] of TABLE) {
    it(`is accepted where it may: ${JSON.stringify(text.slice(0, 40))}`, () => {
      const places = Object.entries(PLACES).filter(([, accepts]) => accepts(text));
      assert.equal(places.map(([name]) => name[0]).join(" "), accepted);
    });
  }

  it("says what is wrong", () => {
    assert.equal(parseHostPort("2001:db8::7"), "host");
    assert.equal(parseHostPort("[2001:db8]:80"), "address");
    assert.equal(parseHostPort("relay:65536"), "port");
    assert.equal(parseHostPort("relay."), "host");
    assert.deepEqual(parseHostPort("relay.:80", { finalDot: true }), { host: "relay.", port: 80 });
  });

  it("of a way to a relay has the same ports", () => {
    for (const [text, good] of [
      ["1", true],
      ["65535", true],
      ["0", false],
      ["01", false],
      ["65536", false],
      ["1:1", false],
      ["", false],
    ] as const) {
      assert.equal(readWays(`tls:${text}`).ok, good, text);
    }
  });

  it("of a proxy may have brackets, and no port", () => {
    for (const [text, good] of [
      ["[::1]", true],
      ["[10.0.0.7]", true],
      ["[::1]/128", true],
      ["[::1]:80", false],
      ["10.0.0.7:80", false],
      ["[[::1]]", false],
      ["127.1", false],
    ] as const) {
      assert.equal(readProxies(text).ok, good, text);
    }
  });

  const label = fc.stringMatching(/^[a-z0-9_]([a-z0-9_-]{0,10}[a-z0-9_])?$/);
  const name = fc.array(label, { minLength: 1, maxLength: 5 }).map((labels) => labels.join("."));
  const host = fc.oneof(
    name,
    fc.ipV4(),
    fc.ipV6().map((text) => `[${text.toLowerCase()}]`),
  );
  const port = fc.integer({ min: 1, max: 65535 });

  it("parses to what was formatted", () => {
    fc.assert(
      fc.property(host, port, (written, number) => {
        const text = formatHostPort({ host: unbracketed(written), port: number });
        assert.deepEqual(parseHostPort(text.toUpperCase()), { host: written, port: number });
        assert.deepEqual(parseHostPort(written), { host: written });
      }),
    );
  });

  it("never parses anything but a host name or an IPv6 address, and a port", () => {
    const noise = fc.array(
      fc.oneof(host, fc.constantFrom(":", "::", "[", "]", ".", "-", "/", "0", "80", "65536", "@", "%", "é", "\u212a")),
      { maxLength: 6 },
    );
    fc.assert(
      fc.property(noise, fc.boolean(), (pieces, finalDot) => {
        const text = pieces.join("");
        const parsed = parseHostPort(text, { finalDot });
        if (typeof parsed === "string") return;
        const { host: found, port: number } = parsed;
        assert.equal(text.toLowerCase(), number === undefined ? found : `${found}:${number}`);
        assert.match(found, /^(?:\[[0-9a-f:.]+\]|[a-z0-9_.-]+)$/);
        assert.ok(number === undefined || (number >= 1 && number <= 65535));
        assert.ok(found.startsWith("[") || isHostName(finalDot ? withoutFinalDot(found) : found));
      }),
    );
  });

  it("is split without a loss", () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom("[", "]", ":", "a", "1") }), (text) => {
        const { host: before, digits } = splitHostPort(text);
        assert.equal(digits === undefined ? before : `${before}:${digits}`, text);
      }),
    );
  });
});

describe("a port", () => {
  it("is 1 to 65535 in decimal, or 0 where that means any", () => {
    fc.assert(
      fc.property(fc.integer({ min: -1, max: 70_000 }), (number) => {
        const isPort = number >= 1 && number <= 65535;
        assert.equal(parsePort(String(number)), isPort ? number : undefined);
        assert.equal(parsePort(String(number), 0), isPort || number === 0 ? number : undefined);
        assert.equal(parsePort(`0${number}`, 0), undefined);
      }),
    );
  });
});

describe("brackets", () => {
  it("are put around IPv6 addresses only, and once", () => {
    for (const [text, written] of [
      ["::1", "[::1]"],
      ["[::1]", "[::1]"],
      ["192.0.2.1", "192.0.2.1"],
      ["relay", "relay"],
    ] as const) {
      assert.equal(bracketed(text), written);
      assert.equal(unbracketed(written), unbracketed(text));
    }
  });
});
