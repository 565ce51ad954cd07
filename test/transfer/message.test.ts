/** The codec of transfers: encoding and decoding round-trips, and any input is decoded or rejected as NotATransfer. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import {
  decodeMessage,
  encodeMessage,
  HEADER_BYTES,
  messageId,
  NotATransfer,
  type TransferMessage,
  transferId,
} from "../../src/transfer/index.ts";

const hex = (bytes: number) =>
  fc.uint8Array({ minLength: bytes, maxLength: bytes }).map((octets) => Buffer.from(octets).toString("hex"));
const count = fc.oneof(fc.maxSafeNat(), fc.nat(3_000_000));
const attributes = {
  name: fc.string({ unit: "binary", maxLength: 300 }),
  modified: fc.option(fc.integer({ min: -8.64e15, max: 8.64e15 }), { nil: undefined }),
  mode: fc.option(fc.nat(0o7777), { nil: undefined }),
};
const bytes = fc.uint8Array({ minLength: 1, maxLength: 100 });

const message: fc.Arbitrary<TransferMessage> = fc.oneof(
  fc
    .record({ type: fc.constant("whole" as const), transfer: hex(16), ...attributes, sha256: hex(32), bytes })
    .map((whole) => ({ ...whole, size: whole.bytes.length })),
  fc.record({
    type: fc.constant("begin" as const),
    transfer: hex(16),
    ...attributes,
    size: fc.option(count, { nil: null }),
  }),
  fc.record({ type: fc.constant("part" as const), transfer: hex(16), offset: fc.nat(2 ** 31 - 1), bytes }),
  fc.record({ type: fc.constant("end" as const), transfer: hex(16), size: count, sha256: hex(32) }),
  fc.record({ type: fc.constant("cancel" as const), transfer: hex(16), reason: fc.string({ maxLength: 100 }) }),
);

/** Without undefined fields, and with comparable contents. */
function plain(from: TransferMessage): unknown {
  const { bytes: contents, ...fields } = { bytes: undefined, ...from };
  return { ...JSON.parse(JSON.stringify(fields)), bytes: contents && Buffer.from(contents).toString("hex") };
}

function bodyOf(header: string, contents = ""): Uint8Array {
  const text = Buffer.from(header);
  return Buffer.concat([Buffer.from([text.length >>> 8, text.length & 0xff]), text, Buffer.from(contents)]);
}

const TRANSFER = "0123456789abcdef0123456789abcdef";
const SHA256 = "0".repeat(64);

describe("transfer messages", () => {
  it("are unchanged by encoding and decoding", () => {
    fc.assert(
      fc.property(message, (sent) => {
        assert.deepEqual(plain(decodeMessage(encodeMessage(sent))), plain(sent));
      }),
    );
  });

  it("are encoded alike before their contents, and overwrite nothing else", () => {
    fc.assert(
      fc.property(message, fc.nat(400), fc.nat(400), (sent, before, headroom) => {
        const contents = "bytes" in sent ? sent.bytes : new Uint8Array(0);
        const buffer = new Uint8Array(before + contents.length + 3).fill(7);
        buffer.set(contents, before);
        const bytes = buffer.subarray(before, before + contents.length);
        const body = encodeMessage("bytes" in sent ? { ...sent, bytes } : sent, headroom);
        assert.deepEqual(body, encodeMessage(sent));
        const kept = buffer.subarray(0, Math.max(0, before - headroom));
        assert.ok([...kept, ...buffer.subarray(before + contents.length)].every((byte) => byte === 7));
      }),
    );
  });

  it("are decoded from any bytes, or rejected with NotATransfer", () => {
    const body = fc.oneof(
      fc.uint8Array({ maxLength: 200 }),
      fc.json().map((json) => bodyOf(json)),
      fc
        .tuple(
          message.map((one) => encodeMessage(one)),
          fc.array(fc.tuple(fc.nat(400), fc.nat(255)), { maxLength: 4 }),
          fc.nat(500),
        )
        .map(([whole, changes, cut]) => {
          const changed = whole.slice(0, cut);
          for (const [at, byte] of changes) if (at < changed.length) changed[at] = byte;
          return changed;
        }),
    );
    fc.assert(
      fc.property(body, (octets) => {
        try {
          const read = decodeMessage(octets);
          assert.deepEqual(plain(decodeMessage(encodeMessage(read))), plain(read));
        } catch (error) {
          assert.ok(error instanceof NotATransfer, String(error));
        }
      }),
      { numRuns: 1000 },
    );
  });

  const refused: [string, Uint8Array, RegExp][] = [
    ["nothing", new Uint8Array(0), /no header/],
    ["a header that is longer than allowed", Uint8Array.of(0xff, 0xff), /65535 bytes; at most 8192/],
    ["a header that is cut off", Uint8Array.of(0, 9, 0x7b), /cut off/],
    ["a header that is no UTF-8", Uint8Array.of(0, 1, 0xff), /not JSON in UTF-8/],
    ["a list", bodyOf("[]"), /not a JSON object/],
    ["another type", bodyOf(`{"transfer":"${TRANSFER}","type":"chunk"}`), /none of whole/],
    ["a short identifier", bodyOf('{"transfer":"abc","type":"end"}'), /transfer is not 32/],
    [
      "a path as identifier",
      bodyOf('{"transfer":"../../../../../../../../../../etc","type":"end"}'),
      /transfer is not/,
    ],
    [
      "a name that is a number",
      bodyOf(`{"transfer":"${TRANSFER}","type":"begin","name":7,"size":1}`),
      /name is not a string/,
    ],
    [
      "a size that is negative",
      bodyOf(`{"transfer":"${TRANSFER}","type":"begin","name":"","size":-1}`),
      /size is not an integer/,
    ],
    [
      "a size beyond 2^53",
      bodyOf(`{"transfer":"${TRANSFER}","type":"begin","name":"","size":1e17}`),
      /size is not an integer/,
    ],
    ["no size", bodyOf(`{"transfer":"${TRANSFER}","type":"begin","name":""}`), /size is not an integer/],
    [
      "a mode with more bits",
      bodyOf(`{"transfer":"${TRANSFER}","type":"begin","name":"","size":1,"mode":65535}`),
      /mode/,
    ],
    ["a part without contents", bodyOf(`{"transfer":"${TRANSFER}","type":"part","offset":0}`), /no contents/],
    [
      "a part that ends behind 2^53",
      bodyOf(`{"transfer":"${TRANSFER}","type":"part","offset":9007199254740991}`, "x"),
      /2\^53/,
    ],
    [
      "an end with contents",
      bodyOf(`{"transfer":"${TRANSFER}","type":"end","size":0,"sha256":"${SHA256}"}`, "x"),
      /only a part/,
    ],
    [
      "a whole file of another length",
      bodyOf(`{"transfer":"${TRANSFER}","type":"whole","name":"a","size":2,"sha256":"${SHA256}"}`, "x"),
      /states 2 bytes but has 1/,
    ],
  ];
  for (const [what, body, why] of refused) {
    it(`are rejected if malformed: ${what}`, () => {
      assert.throws(
        () => decodeMessage(body),
        (error) => error instanceof NotATransfer && why.test(error.message),
      );
    });
  }

  it("may contain unknown keys, which are ignored", () => {
    const read = decodeMessage(bodyOf(`{"transfer":"${TRANSFER}","type":"cancel","reason":"x","later":[1]}`));
    assert.deepEqual(read, { type: "cancel", transfer: TRANSFER, reason: "x" });
  });

  it("cannot carry a name that exceeds the header", () => {
    const begin = { type: "begin", transfer: TRANSFER, name: "\u0001".repeat(HEADER_BYTES / 4), size: 0 } as const;
    assert.throws(() => encodeMessage(begin), RangeError);
  });

  it("have an id that depends on place and contents", () => {
    const part = { type: "part", transfer: TRANSFER, offset: 10, bytes: new Uint8Array(5) } as const;
    assert.equal(messageId(part), messageId({ ...part, bytes: new Uint8Array(5).fill(1) }));
    assert.notEqual(messageId(part), messageId({ ...part, bytes: new Uint8Array(6) }));
    assert.notEqual(messageId(part), messageId({ ...part, offset: 11 }));
  });

  it("belong to a transfer named by 16 random bytes", () => {
    assert.equal(transferId(Uint8Array.from({ length: 16 }, (_, i) => i)), "000102030405060708090a0b0c0d0e0f");
    assert.throws(() => transferId(new Uint8Array(15)), RangeError);
  });
});
