/** Destinations, a hundred thousand in the long form: nothing private is allowed, `!` takes precedence, nothing throws. */
import assert from "node:assert/strict";
import { BlockList, isIP } from "node:net";
import { describe, it } from "node:test";
import fc from "fast-check";
import { judgeAddresses, judgeRelay, type Rules, readRelays } from "../../../src/edge/policy/relay-allow-list.ts";
import { runs } from "../../support/long-form.ts";

const RUNS = runs(25_000);

/** Networks that are not public, as classified by Node itself: an independent implementation. */
const PRIVATE_4 = [
  ...[
    ["0.0.0.0", 8],
    ["10.0.0.0", 8],
    ["100.64.0.0", 10],
    ["127.0.0.0", 8],
    ["169.254.0.0", 16],
    ["172.16.0.0", 12],
  ],
  ...[
    ["192.0.0.0", 24],
    ["192.0.2.0", 24],
    ["192.168.0.0", 16],
    ["198.18.0.0", 15],
    ["198.51.100.0", 24],
  ],
  ...[
    ["203.0.113.0", 24],
    ["224.0.0.0", 4],
    ["240.0.0.0", 4],
    ["168.63.129.16", 32],
  ],
] as [string, number][];
const PRIVATE_6 = [
  ...[
    ["::", 128],
    ["::1", 128],
    ["fe80::", 10],
    ["fec0::", 10],
    ["fc00::", 7],
    ["ff00::", 8],
    ["2001:db8::", 32],
  ],
  ...[
    ["3fff::", 20],
    ["2001::", 23],
    ["100::", 64],
    ["64:ff9b:1::", 48],
    ["4000::", 2],
    ["8000::", 1],
  ],
] as [string, number][];

const blocked = new BlockList();
for (const [base, bits] of PRIVATE_4) {
  blocked.addSubnet(base, bits, "ipv4");
  for (const prefix of ["::ffff:", "64:ff9b::", "::ffff:0:"]) blocked.addSubnet(`${prefix}${base}`, 96 + bits, "ipv6");
}
for (const [base, bits] of PRIVATE_6) blocked.addSubnet(base, bits, "ipv6");

function isPrivate(host: string): boolean {
  const plain = host.replace(/^\[|\]$/g, "");
  const family = isIP(plain);
  assert(family !== 0, `${host} is dialled as an address, but Node does not parse it`);
  return blocked.check(plain, family === 4 ? "ipv4" : "ipv6");
}

function value4(base: string): number {
  return base.split(".").reduce((value, part) => value * 256 + Number(part), 0);
}

const number4 = fc
  .tuple(fc.constantFrom(...PRIVATE_4), fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }))
  .map(([[base, bits], where]) => value4(base) + Math.floor(where * 2 ** (32 - bits)));

function quad(value: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join(".");
}

/** One part of an address as inet_aton accepts it. */
const base = fc.constantFrom(
  (n: number) => String(n),
  (n: number) => `0${n.toString(8)}`,
  (n: number) => `000${n.toString(8)}`,
  (n: number) => `0x${n.toString(16)}`,
  (n: number) => `0X${n.toString(16).toUpperCase()}`,
  (n: number) => `0x000${n.toString(16)}`,
);

/** A private IPv4 address in one to four parts of any base. */
const spelled4 = fc
  .tuple(number4, fc.integer({ min: 1, max: 4 }), fc.tuple(base, base, base, base), fc.constantFrom("", "."))
  .map(([value, count, bases, end]) => {
    const parts = Array.from({ length: count }, (_, n) =>
      n === count - 1 ? value % 256 ** (5 - count) : Math.floor(value / 256 ** (3 - n)) % 256,
    );
    return parts.map((part, n) => (bases[n] ?? String)(part)).join(".") + end;
  });

const group = fc.integer({ min: 0, max: 0xffff });

function hex(value: number, width: number): string {
  return value.toString(16).padStart(width, "0");
}

/** A private IPv4 address inside an IPv6 one. */
const tunnelled = fc
  .tuple(number4, fc.integer({ min: 1, max: 4 }), group, fc.boolean())
  .chain(([value, width, tail, up]) => {
    const [high, low] = [Math.floor(value / 65536), value % 65536].map((part) => hex(part, width));
    const texts = [
      ...[
        "::ffff:",
        "0:0:0:0:0:ffff:",
        "0000::ffff:",
        "64:ff9b::",
        "64:ff9b:0:0:0:0:",
        "::ffff:0:",
        "2a00:1450:4001:81b:0:5efe:",
      ],
      ...["::", "2a00:1450::200:5efe:"],
    ].flatMap((prefix) => [`${prefix}${high}:${low}`, `${prefix}${quad(value)}`]);
    texts.push(`2002:${high}:${low}::${hex(tail, width)}`, `2002:${high}:${low}:1:2:3:4:${hex(tail, 1)}`);
    return fc.constantFrom(...texts).map((text) => `[${up ? text.toUpperCase() : text}]`);
  });

/** A native private IPv6 address. */
const plain6 = fc
  .tuple(
    fc.constantFrom("fe80", "febf", "fc00", "fdab", "ff02", "ff05", "2001:db8", "3fff", "fec0", "8000", "4000", "5f00"),
    group,
  )
  .map(([head, tail]) => `[${head}::${tail.toString(16)}]`);

const privateName = fc.oneof(
  fc.constantFrom(
    "localhost",
    "LOCALHOST.",
    "a.localhost",
    "x.local",
    "metadata.google.internal",
    "relay",
    "a.b.home.arpa",
  ),
  fc.stringMatching(/^[a-z][a-z0-9-]{0,20}[a-z0-9]$/),
  fc.stringMatching(/^[a-z][a-z0-9]{0,9}\.(local|internal|localhost|localdomain)\.?$/),
);

const port = fc.constantFrom("", ":2492", ":443", ":80", ":22", ":1", ":65535", ":0", ":65536", ":x");

const somewhere = fc.oneof(spelled4, tunnelled, plain6, privateName);

const entry = fc.oneof(
  fc.constantFrom(
    "*",
    "0.0.0.0/0",
    "::/0",
    "*.*.*.*",
    "*:22",
    "*.com",
    "*.example.com",
    "relay?.example.com",
    "10.0.0.0/8",
  ),
  fc.constantFrom("127.0.0.1", "[::1]:443", "::1", "localhost", "63.209.254.*", "169.254.169.254", "fc00::/7", "relay"),
  somewhere,
  fc.tuple(somewhere, port).map(([host, end]) => host + end),
);

/** A valid text with a few characters changed, removed or inserted. */
function mutated(texts: fc.Arbitrary<string>): fc.Arbitrary<string> {
  const change = fc.tuple(
    fc.nat(40),
    fc.nat(2),
    fc.oneof(fc.constantFrom(...".:[]%*?!@/\\0x ,\n１。\u212A\u00ad"), fc.string({ maxLength: 2 })),
  );
  return fc
    .tuple(texts, fc.array(change, { maxLength: 3 }))
    .map(([text, changes]) =>
      changes.reduce((now, [at, gone, put]) => now.slice(0, at) + put + now.slice(at + gone), text),
    );
}

function list(text: string): Rules | undefined {
  const read = readRelays(text);
  if (read.ok) return read.value;
  assert.match(read.problems[0].problem, /^has the entry ".+": ./s, "the error says what is wrong");
  return undefined;
}

const production = { private: false };
const ALL = list("*, *:22, *:1, *:65535, 0.0.0.0/0, ::/0") as Rules;

const check = (property: fc.IProperty<unknown[]> | fc.IRawProperty<unknown>) =>
  fc.assert(property as fc.IRawProperty<unknown>, { numRuns: RUNS });

describe("fuzzed destinations", () => {
  it("a private destination is denied in every spelling, whatever the list says", () => {
    check(
      fc.property(somewhere, port, fc.array(entry, { maxLength: 4 }), (host, end, entries) => {
        assert.equal(judgeRelay(host + end, ALL, production).type, "refused");
        const rules = list([...entries, host, host + end].join(" "));
        if (rules !== undefined) assert.equal(judgeRelay(host + end, rules, production).type, "refused");
      }),
    );
  });

  it("each spelling is allowed where private destinations are: the spellings are real", () => {
    check(
      fc.property(somewhere, (host) => {
        const judged = judgeRelay(host, ALL, { private: true });
        assert(judged.type === "allowed", host);
        if (judged.resolve) return;
        // Node is not asked about IPv6 addresses, since it does not unpack tunnels.
        assert.equal(isPrivate(judged.endpoint.hostname) || judged.endpoint.hostname.startsWith("["), true, host);
        assert.equal(
          judgeAddresses([judged.endpoint.hostname.replace(/^\[|\]$/g, "")], ALL, { ...production, port: 443 }).type,
          "refused",
        );
      }),
    );
  });

  it("nothing private is dialled, and what is dialled has a single interpretation", () => {
    const real = fc.constantFrom(
      "relay.example.com",
      "63.209.254.7",
      "[2606:4700::7]:443",
      "a.relays.example.com:80",
      "127.0.0.1",
    );
    check(
      fc.property(fc.oneof(mutated(fc.oneof(real, somewhere)), fc.string({ unit: "binary" })), (name) => {
        const judged = judgeRelay(name, ALL, production);
        if (judged.type === "refused") return;
        const { hostname } = judged.endpoint;
        if (!judged.resolve) return assert.equal(isPrivate(hostname), false, name);
        assert.match(hostname, /^[a-z0-9_-]+(\.[a-z0-9_-]+)+$/);
        // What a browser accepts as an address in any spelling is none of these.
        assert.equal(URL.canParse(`http://${hostname}`) && isIP(new URL(`http://${hostname}`).hostname), 0, name);
      }),
    );
  });

  it("`!` takes precedence wherever it stands; no list makes the parser throw", () => {
    const target = fc.constantFrom(
      ...[
        "relay.example.com",
        "a.relays.example.com",
        "63.209.254.7",
        "[2606:4700::7]",
        "[64:ff9b::63.209.254.7]",
        "0x3fd1fe07",
      ],
    );
    const denials = [
      "*",
      "relay.example.com",
      "*.example.com",
      "63.209.254.*",
      "63.0.0.0/8",
      "2606:4700::/32",
      "64:ff9b::/96",
    ];
    check(
      fc.property(
        target,
        port,
        fc.array(mutated(entry), { maxLength: 5 }),
        fc.array(entry, { maxLength: 3 }),
        fc.constantFrom(...denials),
        fc.nat(8),
        (name, end, wild, entries, denied, at) => {
          list([...wild, ...entries].join(","));
          const all = ["*", ...entries.filter((text) => list(text) !== undefined)];
          const without = list(all.join(" ")) as Rules;
          all.splice(at, 0, `!${denied}`);
          const withDenial = list(all.join(" ")) as Rules;
          const alone = list(denied) as Rules;
          const permits = { private: true };
          const before = judgeRelay(name + end, without, permits).type;
          const after = judgeRelay(name + end, withDenial, permits).type;
          // By the entry itself, which states its hosts; and an address with what it embeds.
          const meant =
            judgeRelay(name, alone, permits).type === "allowed" ||
            (name.startsWith("[64:ff9b::63.") && denied.startsWith("63."));
          assert.equal(after, meant ? "refused" : before);
        },
      ),
    );
  });
});
