/** Every spelling of an address is parsed, and every kind is classified. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  classify,
  embedded,
  formatAddress,
  readAddress,
  readStrictAddress,
} from "../../../src/edge/policy/ip-address.ts";

/** Spelling, canonical form, kind. */
const ADDRESSES: readonly (readonly [string, string, string])[] = [
  ["127.0.0.1", "127.0.0.1", "loopback"],
  ["127.0.0.1.", "127.0.0.1", "loopback"],
  ["127.1", "127.0.0.1", "loopback"],
  ["127.0.1", "127.0.0.1", "loopback"],
  ["127.65535", "127.0.255.255", "loopback"],
  ["127.255.255.255", "127.255.255.255", "loopback"],
  ["2130706433", "127.0.0.1", "loopback"],
  ["017700000001", "127.0.0.1", "loopback"],
  ["0x7f000001", "127.0.0.1", "loopback"],
  ["0X7F000001", "127.0.0.1", "loopback"],
  ["0177.0.0.1", "127.0.0.1", "loopback"],
  ["0x7f.1", "127.0.0.1", "loopback"],
  ["0x7f.0x1", "127.0.0.1", "loopback"],
  ["0177.0.0x1", "127.0.0.1", "loopback"],
  ["00000177.0000.0.01", "127.0.0.1", "loopback"],
  ["127.0x", "127.0.0.0", "loopback"],
  ["0", "0.0.0.0", "unspecified"],
  ["0x", "0.0.0.0", "unspecified"],
  ["0.0.0.0", "0.0.0.0", "unspecified"],
  ["0.1.2.3", "0.1.2.3", "unspecified"],
  ["10.0.0.7", "10.0.0.7", "private"],
  ["10.7", "10.0.0.7", "private"],
  ["012.0.0.7", "10.0.0.7", "private"],
  ["172.16.0.1", "172.16.0.1", "private"],
  ["172.31.255.255", "172.31.255.255", "private"],
  ["192.168.1.1", "192.168.1.1", "private"],
  ["192.168.257", "192.168.1.1", "private"],
  ["3232235777", "192.168.1.1", "private"],
  ["100.64.0.1", "100.64.0.1", "shared"],
  ["100.127.255.255", "100.127.255.255", "shared"],
  ["169.254.1.1", "169.254.1.1", "link-local"],
  ["169.254.169.254", "169.254.169.254", "metadata"],
  ["2852039166", "169.254.169.254", "metadata"],
  ["0xa9.254.0251.0xfe", "169.254.169.254", "metadata"],
  ["169.254.170.2", "169.254.170.2", "metadata"],
  ["100.100.100.200", "100.100.100.200", "metadata"],
  ["168.63.129.16", "168.63.129.16", "metadata"],
  ["192.0.0.192", "192.0.0.192", "metadata"],
  ["192.0.0.8", "192.0.0.8", "ietf-protocol"],
  ["192.88.99.1", "192.88.99.1", "ietf-protocol"],
  ["192.0.2.1", "192.0.2.1", "documentation"],
  ["198.51.100.1", "198.51.100.1", "documentation"],
  ["203.0.113.1", "203.0.113.1", "documentation"],
  ["198.18.0.1", "198.18.0.1", "benchmarking"],
  ["198.19.255.255", "198.19.255.255", "benchmarking"],
  ["224.0.0.1", "224.0.0.1", "multicast"],
  ["239.255.255.255", "239.255.255.255", "multicast"],
  ["240.0.0.1", "240.0.0.1", "reserved"],
  ["255.255.255.255", "255.255.255.255", "broadcast"],
  ["4294967295", "255.255.255.255", "broadcast"],
  ["63.209.254.7", "63.209.254.7", "public"],
  ["1.1.1.1", "1.1.1.1", "public"],
  ["9.255.255.255", "9.255.255.255", "public"],
  ["11.0.0.0", "11.0.0.0", "public"],
  ["126.255.255.255", "126.255.255.255", "public"],
  ["128.0.0.0", "128.0.0.0", "public"],
  ["172.15.255.255", "172.15.255.255", "public"],
  ["172.32.0.0", "172.32.0.0", "public"],
  ["100.63.255.255", "100.63.255.255", "public"],
  ["100.128.0.0", "100.128.0.0", "public"],
  ["169.253.255.255", "169.253.255.255", "public"],
  ["169.255.0.0", "169.255.0.0", "public"],
  ["192.167.255.255", "192.167.255.255", "public"],
  ["192.169.0.0", "192.169.0.0", "public"],
  ["198.17.255.255", "198.17.255.255", "public"],
  ["198.20.0.0", "198.20.0.0", "public"],
  ["223.255.255.255", "223.255.255.255", "public"],
  ["1.0", "1.0.0.0", "public"],
  ["::", "::", "unspecified"],
  ["::1", "::1", "loopback"],
  ["[::1]", "::1", "loopback"],
  ["0:0:0:0:0:0:0:1", "::1", "loopback"],
  ["0000:0000::0001", "::1", "loopback"],
  ["::0.0.0.1", "::1", "loopback"],
  ["::ffff:127.0.0.1", "127.0.0.1", "loopback"],
  ["::ffff:7f00:1", "127.0.0.1", "loopback"],
  ["[::FFFF:7F00:1]", "127.0.0.1", "loopback"],
  ["0:0:0:0:0:ffff:10.0.0.7", "10.0.0.7", "private"],
  ["::ffff:169.254.169.254", "169.254.169.254", "metadata"],
  ["::ffff:63.209.254.7", "63.209.254.7", "public"],
  ["::127.0.0.1", "::7f00:1", "loopback"],
  ["::7f00:1", "::7f00:1", "loopback"],
  ["::10.0.0.1", "::a00:1", "private"],
  ["::63.209.254.7", "::3fd1:fe07", "public"],
  ["::ffff:0:127.0.0.1", "::ffff:0:7f00:1", "loopback"],
  ["64:ff9b::127.0.0.1", "64:ff9b::7f00:1", "loopback"],
  ["64:ff9b::a9fe:a9fe", "64:ff9b::a9fe:a9fe", "metadata"],
  ["64:ff9b::192.168.1.1", "64:ff9b::c0a8:101", "private"],
  ["64:ff9b::63.209.254.7", "64:ff9b::3fd1:fe07", "public"],
  ["64:ff9b:1::63.209.254.7", "64:ff9b:1::3fd1:fe07", "translation"],
  ["2002:7f00:1::", "2002:7f00:1::", "loopback"],
  ["2002:a00:1::1", "2002:a00:1::1", "private"],
  ["2002:a9fe:a9fe::1", "2002:a9fe:a9fe::1", "metadata"],
  ["2002:3fd1:fe07::1", "2002:3fd1:fe07::1", "public"],
  ["2001:0:3fd1:fe07::1", "2001:0:3fd1:fe07::1", "ietf-protocol"],
  ["2001:4860:4860::5efe:10.0.0.1", "2001:4860:4860::5efe:a00:1", "private"],
  ["2001:4860:4860::200:5efe:127.0.0.1", "2001:4860:4860:0:200:5efe:7f00:1", "loopback"],
  ["2001:4860:4860::5efe:63.209.254.7", "2001:4860:4860::5efe:3fd1:fe07", "public"],
  ["fe80::1", "fe80::1", "link-local"],
  ["febf::1", "febf::1", "link-local"],
  ["fec0::1", "fec0::1", "site-local"],
  ["fc00::1", "fc00::1", "unique-local"],
  ["fdff::1", "fdff::1", "unique-local"],
  ["FD00:EC2::254", "fd00:ec2::254", "metadata"],
  ["fd20:ce::254", "fd20:ce::254", "metadata"],
  ["ff02::1", "ff02::1", "multicast"],
  ["2001:db8::7", "2001:db8::7", "documentation"],
  ["3fff:fff::1", "3fff:fff::1", "documentation"],
  ["2001:2::1", "2001:2::1", "benchmarking"],
  ["2001:20::1", "2001:20::1", "ietf-protocol"],
  ["100::1", "100::1", "discard"],
  ["4000::1", "4000::1", "reserved"],
  ["5f00::1", "5f00::1", "reserved"],
  ["1::1", "1::1", "reserved"],
  ["2606:4700:4700::1111", "2606:4700:4700::1111", "public"],
  ["2001:4860:4860:0:0:0:0:8888", "2001:4860:4860::8888", "public"],
  ["2a00:1450:0:0:1:0:0:1", "2a00:1450::1:0:0:1", "public"],
  ["2a00:1:2:3:4:5:6:0", "2a00:1:2:3:4:5:6:0", "public"],
  ["2a00:1:2:3:4:5:6::", "2a00:1:2:3:4:5:6:0", "public"],
];

const NAMES = [
  "relay.example.com",
  "localhost",
  "",
  ".",
  "127.0.0.1.nip.io",
  "a.0x7g",
  "0x7f.example",
  "1.2.3.4a",
  "１２７.０.０.１",
];

const MALFORMED = [
  ["127.0.0.256", /ends in a number/],
  ["256.0.0.1", /ends in a number/],
  ["1.2.3.4.5", /ends in a number/],
  ["127.0.0.1.1.", /ends in a number/],
  ["4294967296", /ends in a number/],
  ["127.16777216", /ends in a number/],
  ["1.2.65536", /ends in a number/],
  ["08.0.0.1", /ends in a number/],
  ["127.0.0.09", /ends in a number/],
  ["127..1", /ends in a number/],
  [".127.0.0.1", /ends in a number/],
  ["relay.example.1", /ends in a number/],
  ["relay.0x7f", /ends in a number/],
  ["-1.0.0.1", /ends in a number/],
  [`${"0".repeat(100)}1`, /ends in a number/],
  ["fe80::1%eth0", /zone/],
  ["[fe80::1%25eth0]", /zone/],
  ["[::1", /bracket/],
  ["[::1]x", /bracket/],
  ["::1]", /not an IPv6/],
  [":::", /not an IPv6/],
  ["::1::", /not an IPv6/],
  [":1", /not an IPv6/],
  ["1:2:3:4:5:6:7", /not an IPv6/],
  ["1:2:3:4:5:6:7:8:9", /not an IPv6/],
  ["1:2:3:4:5:6:7:8::", /not an IPv6/],
  ["12345::", /not an IPv6/],
  ["::g", /not an IPv6/],
  ["::1.2.3", /not an IPv6/],
  ["::127.1", /not an IPv6/],
  ["::0177.0.0.1", /not an IPv6/],
  ["1.2.3.4::", /not an IPv6/],
  ["::1.2.3.4:5", /not an IPv6/],
  ["1:2:3:4:5:6:7:1.2.3.4", /not an IPv6/],
  [`::${"0".repeat(100)}`, /not an IPv6/],
  ["[]", /not an IPv6/],
  ["[127.0.0.1]", /not an IPv6/],
] as const;

describe("addresses", () => {
  for (const [text, canonical, kind] of ADDRESSES) {
    it(`${text} is ${canonical}, ${kind}`, () => {
      const reading = readAddress(text);
      assert(reading.type === "address", reading.type);
      assert.equal(formatAddress(reading.address), canonical);
      assert.equal(classify(reading.address), kind);
      assert.deepEqual(readStrictAddress(canonical), reading.address, "the dialled form parses to the same address");
    });
  }

  for (const text of NAMES) {
    it(`${JSON.stringify(text)} is not an address`, () => assert.deepEqual(readAddress(text), { type: "name" }));
  }

  for (const [text, detail] of MALFORMED) {
    it(`${text.slice(0, 40)} is neither an address nor a name`, () => {
      const reading = readAddress(text);
      assert(reading.type === "malformed", reading.type);
      assert.match(reading.detail, detail);
    });
  }

  it("are parsed strictly: ambiguous forms are rejected", () => {
    for (const text of [
      "127.1",
      "0177.0.0.1",
      "0x7f.0.0.1",
      "2130706433",
      "127.0.0.1.",
      "[::1]",
      "01.2.3.4",
      "",
      "::1%1",
    ]) {
      assert.equal(readStrictAddress(text), undefined, text);
    }
  });

  it("reveal embedded addresses", () => {
    for (const [text, inner] of [
      ["64:ff9b::63.209.254.7", ["63.209.254.7"]],
      ["2002:3fd1:fe07::1", ["63.209.254.7"]],
      ["2002:3fd1:fe07::5efe:10.0.0.1", ["63.209.254.7", "10.0.0.1"]],
      ["2001:4860:4860::8888", []],
      ["63.209.254.7", []],
    ] as const) {
      const address = readStrictAddress(text);
      assert(address);
      assert.deepEqual(embedded(address).map(formatAddress), inner);
    }
  });
});
