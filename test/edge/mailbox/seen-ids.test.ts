/** Splitting message ids. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { idsOf, NONE } from "../../../src/edge/mailbox/seen-ids.ts";
import { contentsOf, pack } from "../../../src/edge/rpc/message-batch.ts";
import type { Envelope } from "../../../src/store-and-forward/envelope.ts";

interface Sent {
  readonly source: string;
  readonly id: string;
}

function envelope(source: string): Envelope {
  return { source, resourceURL: "message", identityURL: "grooveIdentity://bob", deviceURL: "" };
}

/** The ids of messages with one envelope per source. */
function idsFrom(sent: readonly Sent[]) {
  const envelopes = new Map(sent.map(({ source }) => [source, envelope(source)]));
  const bundle = pack(
    sent.map(({ source, id }, at) => ({
      envelope: envelopes.get(source) ?? envelope(source),
      fields: { userRef: id, track: at % 2 === 0 },
      body: new Uint8Array(at % 5).fill(0x39),
    })),
  );
  return idsOf(bundle, contentsOf(bundle.octets));
}

function parts(id: string): [string, number, string] | undefined {
  const { series, numbers } = idsFrom([{ source: "a", id }]);
  const [one] = series;
  return one && [one.head, numbers[0] ?? NONE, one.tail];
}

const digits = fc.oneof(
  fc.integer({ min: 0, max: 40 }).map(String),
  fc.constantFrom("00", "007", "10", "0100", "999999999999999", "1000000000000000", "90071992547409931", "29", "30"),
);
/** Similar ids: numbers at different places, leading zeros, addresses and look-alikes. */
const id = fc
  .tuple(
    fc.constantFrom("", "a", "a-", "7", "b@c-", "@"),
    fc.oneof(digits, fc.constant("")),
    fc.constantFrom("", "@", "@alice/pc", "@alice/pc2", "x", "@1"),
  )
  .map((parts) => parts.join(""));
const sent: fc.Arbitrary<Sent> = fc.record({ source: fc.constantFrom("one", "two", ""), id });

describe("message ids", () => {
  it("without a number are hashed when long", () => {
    const [first, second] = [parts("x".repeat(200)), parts(`${"x".repeat(199)}y`)];
    assert.deepEqual(first, parts("x".repeat(200)));
    assert.match(String(first?.[0]), /^#.{24}$/);
    assert.notDeepEqual(first, second);
    assert.deepEqual(parts("x".repeat(40)), ["x".repeat(40), NONE, ""]);
    assert.deepEqual(parts(`${"x".repeat(200)}-3@alice`), [`${"x".repeat(200)}-`, 3, "@alice"]);
  });

  it("are split at the number before the sender's address, or at the end", () => {
    assert.deepEqual(parts("m-17@alice/pc2"), ["m-", 17, "@alice/pc2"]);
    assert.deepEqual(parts("17@"), ["", 17, "@"]);
    assert.deepEqual(parts("m-17@alice/pc2@relay.example"), ["m-", 17, "@alice/pc2@relay.example"]);
    assert.deepEqual(parts("b4@c-3@alice"), ["b", 4, "@c-3@alice"]);
    assert.deepEqual(parts("m-17%40alice2@%3Arelay"), ["m-", 17, "%40alice2@%3Arelay"], "even an escaped one");
    assert.deepEqual(parts("order 8"), ["order ", 8, ""]);
    assert.deepEqual(parts("0017"), ["00", 17, ""]);
    assert.deepEqual(parts("12345678901234567"), ["12", 345678901234567, ""]);
    for (const plain of ["m", "m-0", "m-000@alice", "8 orders", "@alice1/pc", "x@8"]) {
      assert.deepEqual(parts(plain), [plain, NONE, ""]);
    }
    assert.equal(parts(""), undefined);
  });

  it("can be reassembled, for any input", () => {
    fc.assert(
      fc.property(fc.array(sent, { maxLength: 30 }), (list) => {
        const { series, numbers } = idsFrom(list);
        assert.deepEqual(
          series.map((one, at) => {
            const number = numbers[at] ?? NONE;
            return one === undefined
              ? { source: list[at]?.source, id: "" }
              : { source: one.source, id: one.head + (number === NONE ? "" : number) + one.tail };
          }),
          list.map(({ source, id }) => ({ source, id })),
        );
      }),
      { numRuns: 1000 },
    );
  });
});
