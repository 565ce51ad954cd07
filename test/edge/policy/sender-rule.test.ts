/** The rule of who may send to a mailbox: its grammar, and how it judges. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { SENDER_PATTERNS } from "../../../src/edge/policy/limits.ts";
import {
  formatSenderRule,
  maySend,
  parseSenderRule,
  type SenderPattern,
  type SenderRule,
  SenderRuleError,
} from "../../../src/edge/policy/sender-rule.ts";
import { deviceURL, formatAddress, identityURL, relayURL } from "../../../src/sstp/index.ts";

/** Names with whatever has a meaning in rules, addresses or percent-encoding, and few letters, so that pieces meet. */
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

/** The same question, answered by a regular expression. */
function matches(pieces: readonly string[], text: string): boolean {
  const quoted = pieces.map((piece) => piece.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&"));
  return new RegExp(`^${quoted.join("[^]*")}$`, "u").test(text);
}

describe("rule of who may send", () => {
  it("is the same when it was written down and read again", () => {
    fc.assert(
      fc.property(rule, (given) => {
        assert.deepEqual(parseSenderRule(formatSenderRule(given)), given);
      }),
      { numRuns: 2000 },
    );
  });

  it("lets in exactly whom one of its patterns names", () => {
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
    assert.ok(admitted > 100, `patterns have let in ${admitted}`);
  });

  it("lets in a device by its own address, and by its identity's", () => {
    fc.assert(
      fc.property(name, name, name, (identity, device, other) => {
        const url = deviceURL({ identity, device });
        // What would be another rule as a whole is written with a star.
        assert.ok(maySend(parseSenderRule(formatAddress({ identity, device })), url));
        assert.ok(maySend(parseSenderRule(`${formatAddress({ identity })}/*`), url));
        assert.equal(maySend(parseSenderRule(formatAddress({ identity, device: other })), url), other === device);
      }),
    );
  });

  it("judges by names, not by how they are encoded", () => {
    const alice = parseSenderRule("alice");
    assert.ok(maySend(alice, "grooveDevice://alice/pc"));
    assert.ok(maySend(alice, "GROOVEDEVICE://%61lice/pc"));
    assert.ok(maySend(parseSenderRule("%61lice/*"), "grooveDevice://alice/pc"));
    // The name is "a b": its encoding ends with 20b, and it does not.
    assert.ok(!maySend(parseSenderRule("*20b"), "grooveDevice://a%20b/pc"));
    assert.ok(maySend(parseSenderRule("*%20b"), "grooveDevice://a%20b/pc"));
    assert.ok(!maySend(alice, "grooveDevice://Alice/pc"), "names are told apart by their case");
    assert.ok(!maySend(parseSenderRule("ali*ice"), "grooveDevice://alice/pc"), "pieces do not overlap");
  });

  it("lets in by everyone alone what names no device", () => {
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

  it("says what is wrong with a text that is none", () => {
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
      assert.throws(
        () => parseSenderRule(text),
        (error) => error instanceof SenderRuleError && says.test(error.message),
        text,
      );
    }
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        try {
          parseSenderRule(text);
        } catch (error) {
          assert.ok(error instanceof SenderRuleError);
        }
      }),
    );
  });

  it("takes no longer for a pattern made to be slow", () => {
    const slow = parseSenderRule(`${"*a".repeat(40)}*b`);
    const began = performance.now();
    for (let n = 0; n < 100; n += 1) assert.ok(!maySend(slow, `grooveDevice://${"a".repeat(128)}/pc`));
    assert.ok(performance.now() - began < 1000);
  });
});
