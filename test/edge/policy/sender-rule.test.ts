/** The sender rule of a mailbox: its grammar and its decisions. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { SENDER_PATTERNS } from "../../../src/edge/policy/limits.ts";
import {
  formatSenderRule,
  maySend,
  parseSenderRule,
  readSenderRule,
  type SenderPattern,
  type SenderRule,
} from "../../../src/edge/policy/sender-rule.ts";
import { deviceURL, formatAddress, identityURL, relayURL } from "../../../src/sstp/index.ts";

/** Names with characters special in rules, addresses or percent-encoding, and few letters, so that parts match. */
const name = fc
  .array(fc.constantFrom("a", "b", "ab", "é", "*", "/", "@", "%", " ", ",", "%2", "20", "💡"), {
    minLength: 1,
    maxLength: 5,
  })
  .map((parts) => parts.join(""));
const glob = fc.array(fc.oneof(fc.constant(""), name), { minLength: 1, maxLength: 4 }).filter(([first, ...more]) => {
  return more.length > 0 || first !== "";
});
const device: fc.Arbitrary<{ identity: string[]; device?: string[] }> = fc.record(
  { identity: glob, device: glob },
  { requiredKeys: ["identity"], noNullPrototype: true },
);
const pattern: fc.Arbitrary<SenderPattern> = fc.oneof(
  { weight: 9, arbitrary: device },
  { weight: 1, arbitrary: fc.constantFrom("r.example.com", "10.0.0.1:443", "[::1]").map((relay) => ({ relay })) },
);
const rule: fc.Arbitrary<SenderRule> = fc.oneof(
  fc.constantFrom<SenderRule>({ kind: "everyone" }, { kind: "nobody" }),
  fc.array(pattern, { minLength: 1, maxLength: 4 }).map((patterns): SenderRule => ({ kind: "only", patterns })),
);

/** The same decision, made by a regular expression. */
function matches(pieces: readonly string[], text: string): boolean {
  const quoted = pieces.map((piece) => piece.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&"));
  return new RegExp(`^${quoted.join("[^]*")}$`, "u").test(text);
}

describe("a sender rule", () => {
  it("is unchanged by formatting and parsing", () => {
    fc.assert(
      fc.property(rule, (given) => {
        assert.deepEqual(parseSenderRule(formatSenderRule(given)), given);
      }),
      { numRuns: 2000 },
    );
  });

  it("admits exactly the senders that a pattern names", () => {
    let admitted = 0;
    fc.assert(
      fc.property(rule, name, name, (given, identity, device) => {
        const expected =
          given.kind === "everyone" ||
          (given.kind === "only" &&
            given.patterns.some(
              (one) =>
                "identity" in one &&
                matches(one.identity, identity) &&
                (one.device === undefined || matches(one.device, device)),
            ));
        if (expected && given.kind === "only") admitted += 1;
        assert.equal(maySend(given, deviceURL({ identity, device })), expected);
      }),
      { numRuns: 5000 },
    );
    assert.ok(admitted > 100, `patterns admitted ${admitted}`);
  });

  it("admits a device by its own address and by its identity's", () => {
    fc.assert(
      fc.property(name, name, name, (identity, device, other) => {
        const url = deviceURL({ identity, device });
        // A name that would be another rule as a whole is written with a star.
        assert.ok(maySend(parseSenderRule(formatAddress({ identity, device })), url));
        assert.ok(maySend(parseSenderRule(`${formatAddress({ identity })}/*`), url));
        assert.equal(maySend(parseSenderRule(formatAddress({ identity, device: other })), url), other === device);
      }),
    );
  });

  it("admits the instances of a device with it", () => {
    const laptop = parseSenderRule("alice/laptop");
    const from = (device: string) => maySend(laptop, deviceURL({ identity: "alice", device }));
    assert.deepEqual(["laptop~k3v90q2a", "phone~k3v90q2a", "laptop~other"].map(from), [true, false, false]);
  });

  it("compares names, not their encoding", () => {
    const alice = parseSenderRule("alice");
    assert.ok(maySend(alice, "grooveDevice://alice/pc"));
    assert.ok(maySend(alice, "GROOVEDEVICE://%61lice/pc"));
    assert.ok(maySend(parseSenderRule("%61lice/*"), "grooveDevice://alice/pc"));
    // The name is "a b": its encoding ends with 20b, the name does not.
    assert.ok(!maySend(parseSenderRule("*20b"), "grooveDevice://a%20b/pc"));
    assert.ok(maySend(parseSenderRule("*%20b"), "grooveDevice://a%20b/pc"));
    assert.ok(!maySend(alice, "grooveDevice://Alice/pc"), "names are case-sensitive");
    assert.ok(!maySend(parseSenderRule("ali*ice"), "grooveDevice://alice/pc"), "parts do not overlap");
  });

  it("admits senders without a device name only through everyone", () => {
    for (const source of [
      "",
      "device2",
      "nonsense://x/y",
      identityURL({ identity: "alice" }),
      relayURL("r.example.com"),
    ]) {
      assert.ok(maySend(parseSenderRule("everyone"), source));
      assert.ok(!maySend(parseSenderRule("*"), source), source);
      assert.ok(!maySend(parseSenderRule("alice */*"), source), source);
      assert.ok(!maySend(parseSenderRule("nobody"), source));
    }
  });

  it("explains what is wrong with an invalid text", () => {
    for (const [text, says] of [
      ["", /empty/],
      [" , ", /empty/],
      ["everyone bob", /everyone cannot be combined.*everyone\/\*/],
      ["bob,nobody", /nobody cannot be combined/],
      ["a/b/c", /more than one \//],
      ["/pc", /identity in the pattern .* empty/],
      ["alice/", /device in the pattern .* empty/],
      ["alice@relay.example.com", /names a relay/],
      ["@*", /not a host name/],
      ["al%zz", /percent/],
      [".", /without dots/],
      ["x".repeat(129), /shorten/],
      [Array.from({ length: SENDER_PATTERNS + 1 }, (_, i) => `p${i}`).join(" "), /too many/],
    ] as const) {
      const read = readSenderRule(text);
      assert.match(read.ok ? "it was read" : read.problems, says, text);
    }
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        const read = readSenderRule(text);
        assert.ok(read.ok || read.problems !== "");
      }),
    );
  });

  it("takes linear time for a hostile pattern", () => {
    const slow = parseSenderRule(`${"*a".repeat(40)}*b`);
    const began = performance.now();
    for (let n = 0; n < 100; n += 1) assert.ok(!maySend(slow, `grooveDevice://${"a".repeat(128)}/pc`));
    assert.ok(performance.now() - began < 1000);
  });
});
