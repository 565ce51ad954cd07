/** Which destinations a list allows, in every spelling, and how refusals are explained. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { judgeAddresses, judgeRelay, type Rules, readRelays } from "../../../src/edge/policy/relay-allow-list.ts";

function rules(list: string): Rules {
  const read = readRelays(list);
  assert(read.ok, "the list is malformed");
  return read.value;
}

/** The verdict on a relay: where it is dialled, with a `?` if its name is resolved first, or why it is refused. */
function verdict(name: string, list: string, permits = { private: false }): string {
  const judged = judgeRelay(name, rules(list), permits);
  if (judged.type === "refused") return judged.reason;
  return `${judged.endpoint.hostname} ${judged.endpoint.port}${judged.resolve ? " ?" : ""}`;
}

const LIST = `relay.example.com, Other.Example.ORG:8443
  *.relays.example.com relay?.example.net,,x*z.example.net:1000
  63.209.254.*, 81.2.69.160/27:2492, 8.8.8.8:53 [2606:4700::7]:9000 2a00:1450::/32 [2a01:1::/32]:7
  !evil.relays.example.com !63.209.254.9, !63.209.254.10:80 !81.2.69.176/28 !2a00:1450:bad::/48
  !*.deny.relays.example.com`;

/** Relay, list, verdict. */
type Row = readonly [string, string, string];

const NAMED: readonly Row[] = [
  ["relay.example.com", LIST, "relay.example.com 2492 ?"],
  ["RELAY.Example.COM", LIST, "relay.example.com 2492 ?"],
  ["relay.example.com.", LIST, "relay.example.com 2492 ?"],
  ["relay.example.com:2492", LIST, "relay.example.com 2492 ?"],
  ["relay.example.com:443", LIST, "relay.example.com 443 ?"],
  ["relay.example.com.:443", LIST, "relay.example.com 443 ?"],
  ["relay.example.com:80", LIST, "relay.example.com 80 ?"],
  ["relay.example.com:81", LIST, "RelayNotAllowed"],
  ["relay.example.com:22", LIST, "RelayNotAllowed"],
  ["relay.example.com:25", LIST, "RelayNotAllowed"],
  ["other.example.org:8443", LIST, "other.example.org 8443 ?"],
  ["other.example.org", LIST, "RelayNotAllowed"],
  ["other.example.org:443", LIST, "RelayNotAllowed"],
  ["a.relays.example.com", LIST, "a.relays.example.com 2492 ?"],
  ["a.b.relays.example.com", LIST, "a.b.relays.example.com 2492 ?"],
  ["relays.example.com", LIST, "RelayNotAllowed"],
  ["xrelays.example.com", LIST, "RelayNotAllowed"],
  ["evil.relays.example.com", LIST, "RelayNotAllowed"],
  ["EVIL.relays.example.com.", LIST, "RelayNotAllowed"],
  ["evil.relays.example.com:443", LIST, "RelayNotAllowed"],
  ["x.deny.relays.example.com", LIST, "RelayNotAllowed"],
  ["y.x.deny.relays.example.com", LIST, "RelayNotAllowed"],
  ["deny.relays.example.com", LIST, "deny.relays.example.com 2492 ?"],
  ["relay1.example.net", LIST, "relay1.example.net 2492 ?"],
  ["relay.example.net", LIST, "RelayNotAllowed"],
  ["relay12.example.net", LIST, "RelayNotAllowed"],
  ["relay..example.net", LIST, "MalformedRelay"],
  ["xz.example.net:1000", LIST, "xz.example.net 1000 ?"],
  ["xyyz.example.net:1000", LIST, "xyyz.example.net 1000 ?"],
  ["xyy.example.net:1000", LIST, "RelayNotAllowed"],
  ["xz.example.net", LIST, "RelayNotAllowed"],
  ["sub.relay.example.com", LIST, "RelayNotAllowed"],
  ["example.com", LIST, "RelayNotAllowed"],
  ["relay.example.com.evil.example", LIST, "RelayNotAllowed"],
  ["relay.example.comevil", LIST, "RelayNotAllowed"],
  ["relay-example.com", LIST, "RelayNotAllowed"],
  ["a.relays.example.com.evil.example", LIST, "RelayNotAllowed"],
  ["xn--bcher-kva.example.com", "xn--bcher-kva.example.com", "xn--bcher-kva.example.com 2492 ?"],
  ["_sstp.example.com", "_sstp.example.com", "_sstp.example.com 2492 ?"],
  ["relay.example.com", "", "RelayNotAllowed"],
  ["relay.example.com", " ,\n,\t ", "RelayNotAllowed"],
  ["relay.example.com", "!relay.example.com", "RelayNotAllowed"],
  ["relay.example.com", "relay.example.com !*", "RelayNotAllowed"],
  ["relay.example.com", "!* relay.example.com", "RelayNotAllowed"],
  ["relay.example.com:443", "relay.example.com !relay.example.com:443", "RelayNotAllowed"],
  ["relay.example.com:80", "relay.example.com !relay.example.com:443", "relay.example.com 80 ?"],
  ["relay.example.com:443", "relay.example.com !*:443", "RelayNotAllowed"],
  ["relay.example.com", "relay.example.com. ", "relay.example.com 2492 ?"],
  ["relay.example.com:9", "*:9", "relay.example.com 9 ?"],
  ["relay.example.com", "*:9", "RelayNotAllowed"],
  ["relay.example.com", "*", "relay.example.com 2492 ?"],
  ["relay.example.com:22", "*", "RelayNotAllowed"],
  ["63.209.254.7.example.com", LIST, "RelayNotAllowed"],
];

const ADDRESSED: readonly Row[] = [
  ["63.209.254.7", LIST, "63.209.254.7 2492"],
  ["63.209.254.7.", LIST, "63.209.254.7 2492"],
  ["63.209.254.7:443", LIST, "63.209.254.7 443"],
  ["63.209.254.7:23", LIST, "RelayNotAllowed"],
  ["63.209.254.0", LIST, "63.209.254.0 2492"],
  ["63.209.254.255", LIST, "63.209.254.255 2492"],
  ["63.209.253.255", LIST, "RelayNotAllowed"],
  ["63.209.255.0", LIST, "RelayNotAllowed"],
  ["0x3f.0321.254.7", LIST, "63.209.254.7 2492"],
  ["0x3fd1fe07", LIST, "63.209.254.7 2492"],
  ["1070726663", LIST, "63.209.254.7 2492"],
  ["63.13762055:443", LIST, "63.209.254.7 443"],
  ["[::ffff:63.209.254.7]", LIST, "63.209.254.7 2492"],
  ["[::ffff:3fd1:fe07]:443", LIST, "63.209.254.7 443"],
  ["063.209.254.7", LIST, "RelayNotAllowed"],
  ["63.209.254.9", LIST, "RelayNotAllowed"],
  ["63.209.254.011", LIST, "RelayNotAllowed"],
  ["1070726665", LIST, "RelayNotAllowed"],
  ["[::ffff:63.209.254.9]", LIST, "RelayNotAllowed"],
  ["63.209.254.10", LIST, "63.209.254.10 2492"],
  ["63.209.254.10:80", LIST, "RelayNotAllowed"],
  ["81.2.69.160", LIST, "81.2.69.160 2492"],
  ["81.2.69.160:443", LIST, "RelayNotAllowed"],
  ["81.2.69.175", LIST, "81.2.69.175 2492"],
  ["81.2.69.176", LIST, "RelayNotAllowed"],
  ["81.2.69.192", LIST, "RelayNotAllowed"],
  ["81.2.69.159", LIST, "RelayNotAllowed"],
  ["8.8.8.8:53", LIST, "8.8.8.8 53"],
  ["8.8.8.8", LIST, "RelayNotAllowed"],
  ["8.8.4.4:53", LIST, "RelayNotAllowed"],
  ["[2606:4700::7]:9000", LIST, "[2606:4700::7] 9000"],
  ["[2606:4700:0:0::0007]:9000", LIST, "[2606:4700::7] 9000"],
  ["[2606:4700::7]", LIST, "RelayNotAllowed"],
  ["[2606:4700::8]:9000", LIST, "RelayNotAllowed"],
  ["[2A00:1450:1::A]", LIST, "[2a00:1450:1::a] 2492"],
  ["[2a00:1450:1::a]:443", LIST, "[2a00:1450:1::a] 443"],
  ["[2a00:1450:bad::1]", LIST, "RelayNotAllowed"],
  ["[2a00:1451::1]", LIST, "RelayNotAllowed"],
  ["[2a01:1:2::3]:7", LIST, "[2a01:1:2::3] 7"],
  ["[64:ff9b::63.209.254.7]", "64:ff9b::/96", "[64:ff9b::3fd1:fe07] 2492"],
  ["[64:ff9b::63.209.254.7]", LIST, "RelayNotAllowed"],
  ["[64:ff9b::63.209.254.7]", "64:ff9b::/96 !63.209.254.7", "RelayNotAllowed"],
  ["[2002:3fd1:fe07::1]", "2002:3fd1:fe07::/48", "[2002:3fd1:fe07::1] 2492"],
  ["[2002:3fd1:fe07::1]", "2002:3fd1:fe07::/48 !63.209.254.*", "RelayNotAllowed"],
  ["63.209.254.7", "::ffff:63.209.254.0/120", "63.209.254.7 2492"],
  ["63.209.254.7", "63.209.254.7 !::ffff:63.209.254.7", "RelayNotAllowed"],
  ["63.209.254.7", "*.254.7.example.com", "RelayNotAllowed"],
  ["63.209.254.7", "63.*.*.*", "63.209.254.7 2492"],
  ["63.209.254.7", "*.*.*.*", "63.209.254.7 2492"],
  ["[2606:4700::7]", "*.*.*.*", "RelayNotAllowed"],
  ["63.209.254.7", "*", "63.209.254.7 2492"],
  ["[2606:4700::7]", "*", "[2606:4700::7] 2492"],
  ["63.209.254.7", "0.0.0.0/0", "63.209.254.7 2492"],
  ["[2606:4700::7]", "::/0", "[2606:4700::7] 2492"],
  ["63.209.254.7", "::/0", "RelayNotAllowed"],
];

/** Whatever the list says. */
const PRIVATE = [
  ...[
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "2130706433",
    "017700000001",
    "0x7f000001",
    "0177.0.0.1",
    "0x7f.1",
    "0X7F.0.0.1",
  ],
  ...[
    "127.0.0.1.",
    "0",
    "0.0.0.0",
    "0.0.0.1",
    "10.0.0.7",
    "10.7",
    "012.7",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
  ],
  ...["192.168.257", "3232235777", "100.64.0.1", "169.254.1.1", "169.254.169.254", "2852039166", "0xa9fea9fe"],
  ...["0251.0376.0251.0376", "169.16689662", "192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1"],
  ...["224.0.0.1", "240.0.0.1", "255.255.255.255", "4294967295", "168.63.129.16", "100.100.100.200"],
  ...["[::]", "[::1]", "[0:0:0:0:0:0:0:1]", "[::0.0.0.1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::FFFF:7F00:1]"],
  ...["[0:0:0:0:0:ffff:7f00:0001]", "[::ffff:10.0.0.7]", "[::ffff:169.254.169.254]", "[::127.0.0.1]", "[::7f00:1]"],
  ...[
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b::10.0.0.1]",
    "[64:ff9b:1::1.1.1.1]",
  ],
  ...[
    "[2002:7f00:1::]",
    "[2002:a00:1::1]",
    "[2002:a9fe:a9fe::1]",
    "[2001:0:1::1]",
    "[fe80::1]",
    "[fec0::1]",
    "[fc00::1]",
  ],
  ...["[fd12:3456::1]", "[fd00:ec2::254]", "[ff02::1]", "[2001:db8::7]", "[3fff::1]", "[100::1]", "[4000::1]"],
  ...[
    "localhost",
    "LOCALHOST",
    "localhost.",
    "a.localhost",
    "printer.local",
    "metadata.google.internal",
    "x.home.arpa",
  ],
  ...["localhost.localdomain", "relay", "relay.", "internal", "local"],
];

const MALFORMED = [
  ...[
    "",
    ":2492",
    ".",
    "..",
    ":",
    "[]",
    "[]:1",
    "relay.example.com:",
    "relay.example.com:0",
    "relay.example.com:65536",
  ],
  ...[
    "relay.example.com:02492",
    "relay.example.com:+80",
    "relay.example.com:8e1",
    "relay.example.com:2492:2492",
    "::1",
  ],
  ...["2606:4700::7", "relay.example.com..", ".relay.example.com", "user@relay.example.com", "relay.example.com/x"],
  ...[
    "relay.example.com?x",
    "relay.example.com#x",
    "relay.example.com\\x",
    "relay.example.com,10.0.0.7",
    "*",
    "a*b.example.com",
  ],
  ...[
    "!relay.example.com",
    "relay .example.com",
    " relay.example.com",
    "relay.example.com\n",
    "relay%2eexample.com",
    "%31%32%37.1",
  ],
  ...[
    "relay.example.com\u0000.evil.example",
    "-relay.example.com",
    "relay-.example.com",
    `${"a".repeat(64)}.example.com`,
  ],
  ...[
    `${"a.".repeat(126)}example.com`,
    "256.0.0.1",
    "1.2.3.4.5",
    "127.0.0.256",
    "4294967296",
    "08.0.0.1",
    "relay.0x7f",
    "a.1",
  ],
  ...[
    "[::1",
    "::1]",
    "[::1]x",
    "[::1]:",
    "[::1]:x",
    "[fe80::1%eth0]",
    "[fe80::1%25eth0]:443",
    "[127.0.0.1]",
    "[relay.example.com]",
  ],
  ...[
    "[:::1]",
    "[1:2:3:4:5:6:7:8:9]",
    "[12345::]",
    "[::1]]",
    "[[::1]]",
    "[::1].",
    "127.0.0.1:80:80",
    "1.2.3.4..",
    "127..1",
  ],
  ...[
    "１２７.０.０.１",
    "１２７.0.0.1",
    "127。0。0。1",
    "127．0．0．1",
    "127｡0｡0｡1",
    "①②⑦.0.0.1",
    "relay。example.com",
  ],
  ...[
    "ｒelay.example.com",
    "rélay.example.com",
    "loca\u212Ahost",
    "\u212Aelvin.example.com",
    "lo\u00adcalhost",
    "a\u200b.example.com",
  ],
];

describe("named relays", () => {
  for (const [name, list, expected] of [...NAMED, ...ADDRESSED]) {
    it(`${name} with ${list === LIST ? "the list" : JSON.stringify(list)}: ${expected}`, () => {
      assert.equal(verdict(name, list), expected);
      // Development permits private destinations, and nothing else.
      assert.equal(verdict(name, list, { private: true }), expected);
    });
  }
});

describe("private relays", () => {
  const ALL = "*, 0.0.0.0/0, ::/0";
  for (const name of PRIVATE) {
    it(name, () => {
      assert.equal(verdict(name, ALL), "RelayPrivate");
      assert.equal(verdict(name, ""), "RelayNotAllowed");
      const permitted = judgeRelay(`${name}:443`, rules(ALL), { private: true });
      assert.equal(permitted.type, "allowed");
      assert.equal(verdict(name, `${ALL} !*`, { private: true }), "RelayNotAllowed");
    });
  }

  it("are denied with the kind of their address", () => {
    const judged = judgeRelay("0xa9fea9fe", rules(ALL), { private: false });
    assert(judged.type === "refused" && judged.detail.includes("metadata"));
  });

  it("are denied even by name", () => {
    for (const [name, list] of [
      ["10.1.2.3", "10.1.0.0/16"],
      ["127.0.0.1:2492", "127.0.0.1:2492"],
      ["localhost", "localhost"],
      ["[::1]:443", "[::1]:443"],
      ["db.corp.internal", "*.corp.internal"],
    ] as const) {
      assert.equal(verdict(name, list), "RelayPrivate");
      assert.match(verdict(name, list, { private: true }), / (2492|443)( \?)?$/);
    }
  });
});

describe("invalid relays", () => {
  for (const name of MALFORMED) {
    it(JSON.stringify(name.slice(0, 60)), () => {
      for (const list of ["*", "", LIST]) assert.equal(verdict(name, list, { private: true }), "MalformedRelay");
    });
  }
});

describe("the addresses of a name", () => {
  const judge = (addresses: readonly string[], list = "*", port = 2492, permitted = false) => {
    const judged = judgeAddresses(addresses, rules(list), { private: permitted, port });
    return judged.type === "allowed" ? judged.hosts.join(" ") : judged.reason;
  };
  for (const [addresses, expected] of [
    [["63.209.254.7"], "63.209.254.7"],
    [["2606:4700::7", "63.209.254.7"], "[2606:4700::7] 63.209.254.7"],
    [["2606:4700:0::0007"], "[2606:4700::7]"],
    [["::ffff:63.209.254.7"], "63.209.254.7"],
    [[], "DNSLookupFailed"],
    [["127.0.0.1"], "RelayPrivate"],
    [["63.209.254.7", "10.0.0.1"], "RelayPrivate"],
    [["63.209.254.7", "::1"], "RelayPrivate"],
    [["63.209.254.7", "64:ff9b::a9fe:a9fe"], "RelayPrivate"],
    [["::ffff:127.0.0.1"], "RelayPrivate"],
    [["127.1"], "DNSLookupFailed"],
    [["0x3f.209.254.7"], "DNSLookupFailed"],
    [["63.209.254.7", "relay.example.com"], "DNSLookupFailed"],
    [[""], "DNSLookupFailed"],
    [["[::1]"], "DNSLookupFailed"],
    [["fe80::1%1"], "DNSLookupFailed"],
  ] as const) {
    it(`${addresses.join(" ") || "nothing"}: ${expected}`, () => assert.equal(judge(addresses), expected));
  }

  it("are denied if one is denied for the port", () => {
    assert.equal(judge(["63.209.254.7", "63.209.254.9"], "* !63.209.254.9"), "RelayNotAllowed");
    assert.equal(judge(["63.209.254.9"], "* !63.209.254.9:443"), "63.209.254.9");
    assert.equal(judge(["63.209.254.9"], "* !63.209.254.9:443", 443), "RelayNotAllowed");
    assert.equal(judge(["64:ff9b::63.209.254.9"], "* !63.209.254.9"), "RelayNotAllowed");
  });

  it("may be private where that is permitted", () => {
    assert.equal(judge(["127.0.0.1", "::1"], "*", 2492, true), "127.0.0.1 [::1]");
    assert.equal(judge(["127.0.0.1"], "* !127.0.0.0/8", 2492, true), "RelayNotAllowed");
  });
});

describe("malformed lists", () => {
  for (const [entry, detail] of [
    ["!", /no host|not a host name/],
    ["!!relay.example.com", /not a host name/],
    [":443", /no host/],
    ["relay.example.com:0", /port/],
    ["relay.example.com:65536", /port/],
    ["relay.example.com:", /port/],
    ["relay.example.com:443x", /port/],
    ["[::1]:", /port/],
    ["https://relay.example.com", /two slashes/],
    ["relay.example.com/x", /not an address.*63\.209\.254\.0\/24/],
    ["127.1", /write 127\.0\.0\.1$/],
    ["0x7f.0.0.1", /write 127\.0\.0\.1$/],
    ["127.0.0.1.", /write 127\.0\.0\.1$/],
    ["010.0.0.1", /write 8\.0\.0\.1$/],
    ["1.2.3.256", /four numbers/],
    ["10.1.2.3/16", /write 10\.1\.0\.0\/16/],
    ["2001:db8::1/32", /write 2001:db8::\/32/],
    ["10.0.0.0/33", /0 to 32/],
    ["10.0.0.0/", /0 to 32/],
    ["10.0.0.0/08", /0 to 32/],
    ["10.0.0.0/8/8", /two slashes/],
    ["10.0.0.0/8:0", /port/],
    ["10/8", /not an address/],
    ["2001:db8::/129", /0 to 128/],
    ["::ffff:0.0.0.0/95", /0\.0\.0\.0\/0/],
    ["63.209.*", /63\.209\.254\.\*/],
    ["63.*.254.1", /63\.209\.254\.\*/],
    ["63.209.254.?", /63\.209\.254\.\*/],
    ["63.209.254.2*", /63\.209\.254\.\*/],
    ["063.209.254.*", /63\.209\.254\.\*/],
    ["63.209.254.*.*", /63\.209\.254\.\*/],
    ["relay.*", /last label/],
    ["relay.example.c?m", /last label/],
    ["**", /63\.209\.254\.\*/],
    ["[relay.example.com]", /not an IPv6|brackets/],
    ["[::1", /bracket/],
    ["fe80::1%eth0", /zone/],
    ["rélay.example.com", /xn--/],
    ["１２７.0.0.1", /xn--/],
    ["loca\u212A.example.com", /xn--/],
    ["relay..example.com", /labels/],
    [`${"a".repeat(64)}.example.com`, /labels/],
    ["a;b.example.com", /labels/],
  ] as const) {
    it(JSON.stringify(entry.slice(0, 40)), () => {
      for (const written of [entry, `!${entry}`]) {
        const read = readRelays(`relay.example.com, ${written} other.example.com`);
        assert(!read.ok, "it was parsed");
        const [{ problem }] = read.problems;
        const begin = `has the entry ${JSON.stringify(written)}: `;
        assert.equal(problem.slice(0, begin.length), begin);
        assert.match(problem.slice(begin.length), detail);
      }
    });
  }
});

describe("lists with wildcards that a third party can register under", () => {
  for (const [entry, wild] of [
    ["*", true],
    ["*:2492", true],
    ["*.com", true],
    ["*example.com", true],
    ["relay?.com", true],
    ["*.*.*.*", true],
    ["0.0.0.0/0", true],
    ["0.0.0.0/1", true],
    ["128.0.0.0/7:443", true],
    ["::/0", true],
    ["2000::/3", true],
    ["::ffff:0:0/96", true],
    ["*.example.com", false],
    ["relay?.example.com", false],
    ["*.*.example.com", false],
    ["63.0.0.0/8", false],
    ["2002::/16", false],
    ["relay.example.com", false],
    ["!*", false],
    ["!0.0.0.0/0", false],
  ] as const) {
    it(`${entry}: ${wild}`, () => assert.equal(rules(entry).wildcards.length, wild ? 1 : 0));
  }
});

it("matching a pattern takes linear time, whatever the pattern", () => {
  const list = rules(`${"*a".repeat(31)}.example.com`);
  const started = performance.now();
  for (let n = 0; n < 1000; n += 1)
    judgeRelay(`${"a".repeat(59)}.${"a".repeat(63)}.${"a".repeat(63)}.example.org`, list, { private: false });
  assert(performance.now() - started < 2000);
});
