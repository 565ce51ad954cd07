/** What a token allows: patterns checked against a model, and attempts to bypass them. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import {
  EVERYTHING,
  has,
  matches,
  mayAttach,
  mayReach,
  mayReachOrigins,
  maySend,
  mayStream,
  mayUse,
  NOTHING,
  type Peer,
  peerOf,
  type Rights,
  readRights,
  unknownScopes,
} from "../../src/auth/scopes.ts";
import { deviceURL, formatAddress, identityURL } from "../../src/sstp/index.ts";
import { partsOf } from "../support/address.ts";
import { runs } from "../support/long-form.ts";

/** The rights in well-formed claims. */
function rightsOf(claims: Parameters<typeof readRights>[0]): Rights {
  const read = readRights(claims);
  assert(read.ok);
  return read.value;
}

/** What is wrong with claims. */
function problemOf(claims: Parameters<typeof readRights>[0]): string | undefined {
  const read = readRights(claims);
  return read.ok ? undefined : read.problems.code;
}

describe("patterns", () => {
  for (const [pattern, covered, not] of [
    ["alice", ["alice"], ["alice/laptop", "Alice", "alic", "alicea", "bob"]],
    ["alice/laptop", ["alice/laptop"], ["alice", "alice/Laptop", "alice/laptop2", "bob/laptop"]],
    // Its instances, and names that are none.
    ["alice/laptop", ["alice/laptop~k3v90q2a"], ["alice/laptop~k3v90q2", "alice/laptop~K3v90q2a", "alice/~k3v90q2a"]],
    ["alice/laptop~k3v90q2a", ["alice/laptop~k3v90q2a"], ["alice/laptop", "alice/laptop~00000000"]],
    ["alice/*", ["alice/laptop", "alice/%2A", "alice/x%2Fy"], ["alice", "alicea/laptop", "bob/alice"]],
    ["*", ["alice", "alice/laptop", "%2A", "x%2Fy/z"], []],
    ["*/*", ["alice/laptop"], ["alice"]],
    ["*/phone", ["alice/phone", "bob/phone"], ["alice/laptop", "phone"]],
    ["team-*", ["team-", "team-a", "team-a%2Fb"], ["team", "team-a/laptop", "a-team-a"]],
    ["*-bot", ["x-bot", "-bot"], ["bot", "x-bots"]],
    ["a*b*c", ["abc", "axbxc", "abcbc"], ["ab", "acb", "abcd", "ac"]],
    ["a*a", ["aa", "aba"], ["a"]],
    ["**", ["alice"], ["alice/laptop"]],
    ["%2A", ["%2A"], ["alice"]],
    ["al%69ce", ["alice"], ["al%2569ce"]],
    ["x%2Fy", ["x%2Fy"], ["x/y"]],
    ["%C3%BC*", ["%C3%BCber"], ["u", "u%CC%88ber"]],
  ] as const) {
    it(pattern, () => {
      for (const text of covered) assert(matches(pattern, partsOf(text)), `covers ${text}`);
      for (const text of not) assert(!matches(pattern, partsOf(text)), `does not cover ${text}`);
    });
  }

  for (const pattern of [
    "",
    "/",
    "alice/",
    "/laptop",
    "a/b/c",
    "alice@relay",
    "%",
    "%2",
    "a%zz*",
    "%C3*%BC",
    "a\u0000",
  ]) {
    it(`${JSON.stringify(pattern)} is rejected`, () => {
      assert.equal(problemOf({ scope: `send:${pattern}` }), "MalformedPattern");
      assert.equal(problemOf({ scope: "connect", address: pattern }), "MalformedPattern");
    });
  }

  it("are rejected when they are longer than any address", () => {
    assert.equal(problemOf({ scope: `send:${"a".repeat(258)}` }), "MalformedPattern");
  });
});

describe("rights", () => {
  const alice: Rights = rightsOf({ address: "alice/laptop", scope: "connect receive send:bob stream:office/ssh" });

  it("include exactly what the claims grant", () => {
    const peer = (text: string): Peer => partsOf(text);
    assert.deepEqual(
      [has(alice, "connect"), has(alice, "receive"), has(alice, "admin")],
      [true, true, false],
      "scopes without a pattern",
    );
    assert(mayUse(alice, peer("alice/laptop")));
    assert(!mayUse(alice, peer("alice/phone")) && !mayUse(alice, peer("alice")) && !mayUse(alice, peer("bob/laptop")));
    assert(mayAttach(alice, "alice") && !mayAttach(alice, "bob"));
    assert(maySend(alice, peer("bob")) && !maySend(alice, peer("bob/phone")) && !maySend(alice, peer("alice")));
    assert(
      mayStream(alice, peer("office/ssh")) && !mayStream(alice, peer("bob")) && !maySend(alice, peer("office/ssh")),
    );
  });

  it("default to none when no claim grants them", () => {
    for (const rights of [NOTHING, rightsOf({ scope: "" }), rightsOf({ scope: "openid Connect CONNECT send" })]) {
      for (const text of ["alice", "alice/laptop"]) {
        const peer = partsOf(text);
        assert(!mayUse(rights, peer) && !maySend(rights, peer) && !mayStream(rights, peer));
      }
      assert(
        !mayAttach(rights, "alice") && !has(rights, "connect") && !has(rights, "receive") && !has(rights, "admin"),
      );
    }
    assert(!mayAttach(rightsOf({ address: "alice/*", scope: "connect" }), "alice"), "without receive");
    assert(!mayAttach(rightsOf({ scope: "receive" }), "alice"), "without an address");
  });

  it("of an open edge include everything but admin", () => {
    assert(mayUse(EVERYTHING, partsOf("a/b")) && maySend(EVERYTHING, partsOf("a")) && !has(EVERYTHING, "admin"));
  });

  it("reject malformed claims", () => {
    const many = Array.from({ length: 65 }, (_, i) => `send:x${i}`).join(" ");
    for (const [claims, code] of [
      [{}, "MalformedScope"],
      [{ scope: ["connect"] }, "MalformedScope"],
      [{ scope: null }, "MalformedScope"],
      [{ scope: "connect", address: 7 }, "MalformedAddress"],
      [{ scope: "connect", address: ["alice/laptop"] }, "MalformedAddress"],
      [{ scope: "connect send:a/b/c" }, "MalformedPattern"],
      [{ scope: many }, "ScopeTooLong"],
    ] as const) {
      assert.equal(problemOf(claims), code);
    }
  });

  it("report scopes that are misspelled", () => {
    const scope = "connect recieve send:* sent:bob stream:x origin:a:1 admin  ";
    assert.deepEqual(unknownScopes(scope), ["recieve", "sent:bob"]);
  });
});

describe("destinations", () => {
  for (const [pattern, covered, not] of [
    [
      "db.example.com:5432",
      [["db.example.com", 5432]],
      [
        ["db.example.com", 5433],
        ["db.example.com.eve.com", 5432],
      ],
    ],
    ["DB.example.com:5432", [["db.example.com", 5432]], []],
    [
      "*.example.com:443",
      [
        ["a.example.com", 443],
        ["a.b.example.com", 443],
      ],
      [
        ["example.com", 443],
        ["a.example.org", 443],
      ],
    ],
    [
      "10.1.2.3:*",
      [
        ["10.1.2.3", 1],
        ["10.1.2.3", 65535],
      ],
      [["10.1.2.30", 1]],
    ],
    ["10.1.*:22", [["10.1.2.3", 22]], [["10.2.2.3", 22]]],
    ["[2001:db8::7]:22", [["2001:db8::7", 22]], [["2001:db8::8", 22]]],
    [
      "*",
      [
        ["anything", 1],
        ["::1", 2],
      ],
      [],
    ],
  ] as const) {
    it(`origin:${pattern}`, () => {
      const rights = rightsOf({ scope: `connect origin:${pattern}` });
      assert(mayReachOrigins(rights));
      for (const [host, port] of covered) assert(mayReach(rights, { host, port }), `covers ${host} ${port}`);
      for (const [host, port] of not) assert(!mayReach(rights, { host, port }), `does not cover ${host} ${port}`);
    });
  }

  it("are granted by no other scope, nor by what an earlier release has stored", () => {
    const { origin: _, ...stored } = EVERYTHING;
    for (const rights of [rightsOf({ scope: "connect receive send:* stream:* admin" }), NOTHING, stored]) {
      assert(!mayReachOrigins(rights) && !mayReach(rights, { host: "db.example.com", port: 5432 }));
    }
  });

  it("are rejected without a port, and where the host is none", () => {
    for (const pattern of [
      "",
      "db.example.com",
      "db.example.com:0",
      "db.example.com:http",
      "a/b:1",
      "2001:db8::7:22",
      "ü:1",
    ]) {
      assert.equal(problemOf({ scope: `origin:${pattern}` }), "MalformedPattern", pattern);
    }
  });
});

describe("SSTP URLs", () => {
  it("have one accepted spelling for each peer", () => {
    assert.deepEqual(peerOf("grooveIdentity://alice"), { kind: "identity", identity: "alice" });
    assert.deepEqual(peerOf("grooveDevice://al%20ice/lap%2Ftop"), {
      kind: "device",
      identity: "al ice",
      device: "lap/top",
    });
    for (const url of [
      "",
      "alice",
      "grooveidentity://alice",
      "GROOVEIDENTITY://alice",
      "grooveIdentity://%61lice",
      "grooveIdentity://al%c3%bc",
      "grooveIdentity://alice/",
      "grooveIdentity://alice/laptop",
      "grooveIdentity://*",
      "grooveDevice://alice",
      "grooveDevice://alice/laptop/",
      "grooveDevice://alice%2Flaptop",
      "groovedevice://alice/laptop",
      "grooveAccount://alice",
      "grooveDNS://relay.example.com",
      "grooveIdentity://alice?x",
      " grooveIdentity://alice",
    ]) {
      assert.equal(peerOf(url), undefined, url);
    }
  });
});

// -------------------------------------------------------------------------------------------------- against a model

/** Few characters, so that patterns often match; includes those special in patterns, URLs and regular expressions. */
/** How many patterns are compared with the model. */
const RUNS = runs(20_000);

const letter = fc.constantFrom("a", "b", "A", "*", "/", "%", ".", "@", "ü", "😀", " ", "+");
const plainName = fc
  .array(letter, { minLength: 1, maxLength: 4 })
  .map((letters) => letters.join(""))
  .filter((name) => name !== "." && name !== "..");
const peer: fc.Arbitrary<Peer> = fc.record({ identity: plainName, device: plainName }, { requiredKeys: ["identity"] });

/** A pattern as a list of literal parts and stars, from which both its text and its meaning are derived. */
const glob = fc.array(fc.oneof(plainName, fc.constant(undefined)), { minLength: 1, maxLength: 4 });
const pattern = fc.record({ identity: glob, device: fc.option(glob, { nil: undefined }) });

function encodeSomehow(text: string, all: boolean): string {
  const encoded = encodeURIComponent(text).replace(/\*/g, "%2A");
  return all && /^[\x20-\x7e]*$/.test(text)
    ? Array.from(text, (c) => `%${c.charCodeAt(0).toString(16).padStart(2, "0")}`).join("")
    : encoded;
}

function textOf(parts: readonly (string | undefined)[], all: boolean): string {
  return parts.map((part) => (part === undefined ? "*" : encodeSomehow(part, all))).join("");
}

/** The model: a regular expression over plain names. */
function modelOf(parts: readonly (string | undefined)[]): RegExp {
  const source = parts.map((part) => (part === undefined ? "[^]*" : part.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&")));
  return new RegExp(`^${source.join("")}$`);
}

describe("scopes, with random input", () => {
  it("a pattern covers exactly what the model covers, however it is spelled", () => {
    let covered = 0;
    fc.assert(
      fc.property(pattern, peer, fc.boolean(), ({ identity, device }, who, all) => {
        const text = textOf(identity, all) + (device === undefined ? "" : `/${textOf(device, all)}`);
        const read = readRights({ address: text, scope: `receive send:${text} stream:${text}` });
        // A name such as ".." cannot be expressed.
        if (!read.ok) return;
        const rights = read.value;
        const everybody = text === "*";
        const expected =
          everybody ||
          ((device === undefined) === (who.device === undefined) &&
            modelOf(identity).test(who.identity) &&
            (device === undefined || modelOf(device).test(who.device ?? "")));
        if (expected) covered += 1;
        assert.equal(maySend(rights, who), expected, text);
        assert.equal(mayStream(rights, who), expected, text);
        assert.equal(mayUse(rights, who), expected && who.device !== undefined, text);
        assert.equal(mayAttach(rights, who.identity), everybody || modelOf(identity).test(who.identity), text);
      }),
      { numRuns: RUNS },
    );
    assert(covered > RUNS / 40, `the model covered ${covered}: too few to test anything`);
  });

  it("a URL that is accepted is the canonical URL of its peer", () => {
    const spelling = fc.constantFrom(
      (url: string) => url,
      (url: string) => url.toLowerCase(),
      (url: string) => url.toUpperCase(),
      (url: string) => url.replace(/a/, "%61"),
      (url: string) => url.replace(/%([0-9A-F]{2})/, (_, hex: string) => `%${hex.toLowerCase()}`),
      (url: string) => url.replace(/%2F/, "/"),
      (url: string) => url.replace(/%/, "%25"),
      (url: string) => `${url}/`,
      (url: string) => `${url}@relay`,
    );
    fc.assert(
      fc.property(peer, spelling, (who, spell) => {
        const url = spell(who.device === undefined ? identityURL(who) : deviceURL(who));
        const named = peerOf(url);
        if (named === undefined) return;
        assert.equal(named.device === undefined ? identityURL(named) : deviceURL(named), url);
      }),
      { numRuns: runs(5000) },
    );
  });

  it("an exact address covers only itself", () => {
    fc.assert(
      fc.property(peer, peer, (one, other) => {
        const rights = rightsOf({ scope: `send:${formatAddress(one)}` });
        assert(maySend(rights, one));
        assert.equal(maySend(rights, other), formatAddress(one) === formatAddress(other));
      }),
      { numRuns: runs(5000) },
    );
  });

  it("malformed claims are rejected, or grant no more than their words", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), fc.string(), (address, scope) => {
        const read = readRights({ address, scope });
        if (!read.ok) {
          assert.match(read.problems.code, /^(MalformedPattern|ScopeTooLong)$/);
          return;
        }
        const granted = [...read.value.send, ...read.value.stream];
        for (const pattern of granted) assert(scope.includes(`:${pattern}`), `grants ${pattern}`);
        for (const word of ["connect", "receive", "admin"] as const) {
          assert.equal(has(read.value, word), scope.split(" ").includes(word), word);
        }
      }),
      { numRuns: runs(5000) },
    );
  });
});
