/** A message batch returns what was put in. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import {
  contentsOf,
  envelopeAt,
  followedByBody,
  ID_AT,
  idLengthAt,
  isElsewhere,
  pack,
  unpack,
  withoutBody,
} from "../../../src/edge/rpc/message-batch.ts";
import { textOf } from "../../../src/sstp/index.ts";
import type { Envelope, Mail } from "../../../src/store-and-forward/envelope.ts";

/** Like objects of the product, with a prototype. */
function record<T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> {
  return fc.record(model, { noNullPrototype: true }) as fc.Arbitrary<T>;
}

const u64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
const ascii = fc.string({ unit: "binary-ascii", maxLength: 40 });

const envelopes: fc.Arbitrary<Envelope[]> = fc.array(
  fc.record(
    {
      source: fc.string(),
      resourceURL: fc.string(),
      identityURL: fc.string(),
      deviceURL: fc.string(),
      entries: fc.array(record({ identityURL: fc.string(), deviceURL: fc.string() }), { maxLength: 3 }),
    },
    { requiredKeys: ["source", "resourceURL", "identityURL", "deviceURL"], noNullPrototype: true },
  ),
  { minLength: 1, maxLength: 4 },
);

const mails: fc.Arbitrary<Mail[]> = envelopes.chain((list) =>
  fc.array(
    record({
      envelope: fc.constantFrom(...list),
      fields: record({
        userRef: fc.oneof(
          ascii,
          fc.integer({ min: 4000, max: 9000 }).map((length) => "x".repeat(length)),
        ),
        track: fc.boolean(),
        ephemeral: fc.option(fc.integer({ min: 0, max: 0xffffffff }), { nil: undefined }),
        streamSize: fc.option(fc.tuple(u64, u64, u64), { nil: undefined }),
        fragmentation: fc.option(fc.uint8Array({ maxLength: 300 }), { nil: undefined }),
      }),
      body: fc.uint8Array({ maxLength: 3000 }),
    }),
    { maxLength: 12 },
  ),
);

function idAt(octets: Uint8Array, start: number): string {
  return textOf(octets, start + ID_AT, start + ID_AT + idLengthAt(octets, start));
}

/** The same octets elsewhere in memory. */
function moved(octets: Uint8Array, offset: number): Uint8Array {
  const memory = new Uint8Array(offset + octets.length + 3).fill(0xee);
  memory.set(octets, offset);
  return memory.subarray(offset, offset + octets.length);
}

describe("a message batch", () => {
  it("returns messages unchanged, wherever it lies in memory", () => {
    fc.assert(
      fc.property(mails, fc.integer({ min: 0, max: 7 }), (list, offset) => {
        const { envelopes, octets } = pack(list);
        assert.equal(octets.length, octets.buffer.byteLength, "it has its own memory");
        assert.deepEqual(unpack({ envelopes, octets: moved(octets, offset) }), list);
      }),
      { numRuns: 300 },
    );
  });

  it("can be inspected, and split between any two messages", () => {
    fc.assert(
      fc.property(mails, fc.nat(12), fc.nat(12), (list, a, b) => {
        const { envelopes, octets } = pack(list);
        const { starts, sizes } = contentsOf(octets);
        assert.equal(starts.length, list.length + 1);
        assert.deepEqual(
          sizes.map((size, at) => [
            size,
            idAt(octets, starts[at] ?? 0),
            envelopes[envelopeAt(octets, starts[at] ?? 0)],
          ]),
          list.map(({ body, fields, envelope }) => [body.length, fields.userRef, envelope]),
        );
        const [from, to] = [Math.min(a, b, list.length), Math.min(Math.max(a, b), list.length)];
        assert.deepEqual(
          unpack({ envelopes, octets: octets.subarray(starts[from], starts[to]) }),
          list.slice(from, to),
        );
      }),
      { numRuns: 300 },
    );
  });

  it("keeps messages apart while bodies are stored elsewhere, and restores them", () => {
    fc.assert(
      fc.property(mails, fc.infiniteStream(fc.boolean()), (list, aways) => {
        const { envelopes, octets } = pack(list);
        const { starts, sizes } = contentsOf(octets);
        const away = sizes.map(() => aways.next().value === true);
        const pieces = sizes.map((size, at) => {
          const message = octets.subarray(starts[at], starts[at + 1]);
          return away[at] ? withoutBody(message, size) : message;
        });
        const without = Buffer.concat(pieces);
        const left = contentsOf(without);
        assert.deepEqual(left.sizes, sizes);
        assert.deepEqual(
          left.sizes.map((_, at) => isElsewhere(without, left.starts[at] ?? 0)),
          away,
        );
        const again = pieces.flatMap((piece, at) =>
          away[at] ? [followedByBody(piece), list[at]?.body ?? piece] : [piece],
        );
        assert.deepEqual(unpack({ envelopes, octets: new Uint8Array(Buffer.concat(again)) }), list);
      }),
      { numRuns: 200 },
    );
  });

  it("reports a message without an envelope", () => {
    const { octets } = pack([
      {
        envelope: { source: "", resourceURL: "", identityURL: "", deviceURL: "" },
        fields: { userRef: "1", track: false },
        body: new Uint8Array(3),
      },
    ]);
    assert.throws(() => unpack({ envelopes: [], octets }), /no envelope/);
  });
});
