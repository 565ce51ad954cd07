/** Lists of TCP destinations, and what may be reached because of them. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  type Destination,
  judgeAddresses,
  judgeTarget,
  parseDestination,
} from "../../../src/edge/policy/destinations.ts";

function listOf(...texts: readonly string[]): Destination[] {
  return texts.map((text) => {
    const parsed = parseDestination(text);
    assert.ok(parsed.ok, text);
    return parsed.value;
  });
}

/** What happens to `host`, with the port 80. */
function judged(list: readonly Destination[], host: string, port = 80): string {
  const judgement = judgeTarget(list, { host, port });
  if (judgement.type === "refused") return "refused";
  return judgement.type === "look-up" ? `look up ${judgement.name}` : judgement.addresses.join(" ");
}

function judgedAddresses(list: readonly Destination[], name: string, ...addresses: string[]): string {
  const judgement = judgeAddresses(list, { name, port: 80 }, addresses);
  return judgement.type === "dial" ? judgement.addresses.join(" ") : "refused";
}

describe("the list of destinations", () => {
  for (const [text, wrong] of [
    ["*", /"\*" covers every host/],
    ["*:443", /"\*:443" covers every host/],
    ["*.com", /"\*\.com" covers all names under com/],
    ["*.com:443", /covers all names under com/],
    ["0.0.0.0/1", /"0\.0\.0\.0\/1" is wider than \/16/],
    ["0.0.0.0/0:80", /is wider than \/16/],
    ["10.0.0.0/15:80", /is wider than \/16/],
    ["[2001:db8::]/47:80", /is wider than \/48/],
    ["::/0:80", /within IPv6/],
    // All of IPv4, through a translator.
    ["[64:ff9b::]/96:80", /within IPv6/],
    ["[64:ff9b:1::]/48:80", /within IPv6/],
    ["[::ffff:0:0]/96:80", /within IPv6/],
    ["[2002::]/48:80", /within IPv6/],
    ["[::]/48:80", /within IPv6/],
    ["*.*.com:80", /is no domain/],
    ["*.example.*:80", /is no domain/],
    ["db*.example.com:80", /star that is not the first label/],
    ["*.168.1:80", /is no domain/],
    ["10.1.0.5/16:80", /write 10\.1\.0\.0\/16/],
    ["10.1.0.0/33:80", /is no range/],
    ["10.1.0.0/:80", /is no range/],
    ["10.1.0.0/016:80", /is no range/],
    ["0x7f.1:80", /write 127\.0\.0\.1/],
    ["010.0.0.1:80", /write 8\.0\.0\.1/],
    ["300.0.0.1:80", /is no destination/],
    ["db.example.com", /has no port/],
    ["10.1.0.0/16", /has no port/],
    ["2001:db8::7", /has no port/],
    ["db.example.com:*", /port/],
    ["db.example.com:0", /port/],
    ["db.example.com:", /port/],
    ["db.example.com:80,", /port/],
    ["db.example.com:90-80", /port/],
    ["db.example.com:1-2-3", /port/],
    ["http://db.example.com:80", /is no range|is no destination/],
    ["\u212aelvin.example.com:80", /beyond ASCII/],
    ["", /is no destination/],
  ] as const) {
    it(`refuses ${JSON.stringify(text)}`, () => {
      const parsed = parseDestination(text);
      assert.match(parsed.ok ? "accepted" : parsed.problems, wrong);
    });
  }

  it("admits hosts, names under a domain and ranges, each with their ports", () => {
    const list = listOf(
      "DB.example.com:80,5432",
      "*.corp.example.com:79-81",
      "10.1.0.0/16:80",
      "2001:db8::/48:80",
      "[fd00::7]:80",
    );
    for (const [host, port, judgement] of [
      ["db.example.com", 80, "look up db.example.com"],
      ["DB.Example.com.", 5432, "look up db.example.com"],
      ["db.example.com", 81, "refused"],
      ["db.example.com..", 80, "refused"],
      ["adb.example.com", 80, "refused"],
      ["example.com", 80, "refused"],
      ["a.corp.example.com", 79, "look up a.corp.example.com"],
      ["a.b.corp.example.com", 81, "look up a.b.corp.example.com"],
      ["a.corp.example.com", 82, "refused"],
      ["corp.example.com", 80, "refused"],
      [".corp.example.com", 80, "refused"],
      ["acorp.example.com", 80, "refused"],
      ["10.1.2.3", 80, "10.1.2.3"],
      ["10.1.2.3", 443, "refused"],
      ["10.2.2.3", 80, "refused"],
      ["0xa.0x01.515", 80, "10.1.2.3"],
      ["::ffff:10.1.2.3", 80, "10.1.2.3"],
      ["2001:db8:0:1::7", 80, "2001:db8:0:1::7"],
      ["2001:db8:1::7", 80, "refused"],
      ["[fd00::7]", 80, "fd00::7"],
      ["fd00::8", 80, "refused"],
      ["", 80, "refused"],
      ["a\0.corp.example.com", 80, "refused"],
      ["\u00e9.corp.example.com", 80, "refused"],
    ] as const) {
      assert.equal(judged(list, host, port), judgement, `${JSON.stringify(host)} ${port}`);
    }
  });
});

const SPELLINGS = {
  loopback: [
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "127.255.255.254",
    "2130706433",
    "0x7f000001",
    "0X7F.1",
    "0177.0.0.1",
    "017700000001",
    "0x7f.0.0.0x1",
    "::1",
    "[::1]",
    "0:0:0:0:0:0:0:1",
    "::ffff:127.0.0.1",
    "::FFFF:7f00:1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::127.0.0.1",
    "2002:7f00:1::",
    "::ffff:0:127.0.0.1",
  ],
  // What systems connect to this machine.
  unspecified: ["0.0.0.0", "0", "0x0", "00", "0.0", "::", "::ffff:0.0.0.0"],
  "link-local": ["169.254.1.1", "0251.0376.1.1", "fe80::1", "::ffff:169.254.1.1", "fe80::1%eth0"],
  metadata: [
    "169.254.169.254",
    "169.254.169.254.",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "169.254.43518",
    "::ffff:a9fe:a9fe",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::",
    "fd00:ec2::254",
    "100.100.100.200",
    "168.63.129.16",
  ],
} as const;

describe("addresses of this machine, its link and metadata services", () => {
  // Ranges around them, and a name that leads to them.
  const list = listOf(
    "app.example.com:80",
    "*.corp.example.com:80",
    "100.100.0.0/16:80",
    "168.63.0.0/16:80",
    "[fd00:ec2::]/48:80",
  );
  for (const [kind, spellings] of Object.entries(SPELLINGS)) {
    it(`are refused in every spelling: ${kind}`, () => {
      for (const host of spellings) assert.equal(judged(list, host), "refused", host);
    });
  }

  it("are refused if a listed name leads to them, with all its addresses", () => {
    for (const address of ["127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "169.254.169.254", "fe80::1%eth0"]) {
      assert.equal(judgedAddresses(list, "app.example.com", "192.0.2.1", address), "refused", address);
    }
    assert.equal(judgedAddresses(list, "app.example.com", "192.0.2.1", "10.0.0.1"), "192.0.2.1 10.0.0.1");
  });

  it("can be listed, and then are reached in every spelling", () => {
    const listed = listOf("127.0.0.1:80", "169.254.169.254:80", "app.example.com:80");
    for (const host of ["127.0.0.1", "0x7f.1", "127.0.0.1.", "::ffff:7f00:1"]) {
      assert.equal(judged(listed, host), "127.0.0.1", host);
    }
    assert.equal(judged(listed, "127.0.0.2"), "refused");
    assert.equal(judged(listed, "127.0.0.1", 81), "refused");
    assert.equal(judged(listed, "169.254.169.254"), "169.254.169.254");
    assert.equal(judgedAddresses(listed, "app.example.com", "127.0.0.1"), "127.0.0.1");
    assert.equal(judgedAddresses(listed, "app.example.com", "::1"), "refused");
  });

  it("are in a range only if it begins with one of their kind", () => {
    const listed = listOf("127.0.0.0/16:80", "169.254.0.0/16:80");
    assert.equal(judged(listed, "127.0.5.5"), "127.0.5.5");
    assert.equal(judged(listed, "169.254.1.1"), "169.254.1.1");
    assert.equal(judged(listed, "169.254.169.254"), "refused");
  });

  it("are reached as localhost if that is listed, and only by this name", () => {
    const listed = listOf("localhost:80", "app.example.com:80");
    assert.equal(judged(listed, "localhost."), "look up localhost");
    assert.equal(judgedAddresses(listed, "localhost", "::1", "127.0.0.1"), "::1 127.0.0.1");
    assert.equal(judgedAddresses(listed, "localhost", "169.254.169.254"), "refused");
    assert.equal(judgedAddresses(listed, "app.example.com", "127.0.0.1"), "refused");
    assert.equal(judged(listed, "127.0.0.1"), "refused");
  });
});
