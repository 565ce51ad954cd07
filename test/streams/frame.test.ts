import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { type Frame, isServiceName, RecordReader, RecordWriter } from "../../src/streams/frame.ts";
import { REASONS, reasonOf, Violation } from "../../src/streams/reasons.ts";
import { anyFrame, bytes } from "./support.ts";

function written(received: number, frames: readonly Frame[]): Uint8Array {
  const writer = new RecordWriter();
  writer.begin(received);
  for (const frame of frames) assert.ok(writer.append(frame));
  return writer.contents.slice();
}

function read(contents: Uint8Array): { received: number; frames: Frame[] } {
  const reader = new RecordReader(contents);
  const frames: Frame[] = [];
  for (let frame = reader.next(); frame !== undefined; frame = reader.next()) frames.push(frame);
  return { received: reader.received, frames };
}

/** The reason why contents are refused. */
function refusal(contents: readonly number[]): string {
  try {
    read(Uint8Array.from([...new Array<number>(8).fill(0), ...contents]));
  } catch (error) {
    return (error as Violation).reason;
  }
  return "";
}

describe("frames", () => {
  it("are read as they were written", () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), fc.array(anyFrame, { maxLength: 20 }), (received, frames) => {
        assert.deepEqual(read(written(received, frames)), { received, frames });
      }),
    );
  });

  it("have this layout", () => {
    const frames: Frame[] = [
      { type: "open", stream: 1, service: "ssh" },
      { type: "data", stream: 1, data: bytes("hi") },
      { type: "credit", stream: 1, limit: 2 ** 40 + 5 },
      { type: "end", stream: 2 },
      { type: "reset", stream: 2, reason: "ServiceUnknown" },
      { type: "ping" },
      { type: "resume" },
      { type: "close", reason: "Closed" },
    ];
    const expected = [
      "0000000000000009",
      "01 00000001 03 737368",
      "02 00000001 0002 6869",
      "03 00000001 0000010000000005",
      "04 00000002",
      "05 00000002 21",
      "06",
      "07",
      "08 01",
    ];
    assert.equal(Buffer.from(written(9, frames)).toString("hex"), expected.join("").replaceAll(" ", ""));
  });

  it("are appended only if they fit", () => {
    const writer = new RecordWriter();
    writer.begin(0);
    const { room } = writer;
    assert.ok(!writer.append({ type: "data", stream: 1, data: new Uint8Array(room) }));
    assert.ok(writer.empty);
    assert.ok(writer.append({ type: "data", stream: 1, data: new Uint8Array(room - 11) }));
    for (const frame of [
      { type: "end", stream: 1 },
      { type: "reset", stream: 1, reason: "Closed" },
      { type: "credit", stream: 1, limit: 1 },
      { type: "open", stream: 1, service: "a" },
    ] as const) {
      assert.ok(!writer.append(frame));
    }
    for (const frame of [{ type: "ping" }, { type: "resume" }, { type: "close", reason: "Closed" }] as const) {
      assert.ok(writer.append(frame));
    }
    assert.equal(writer.room, 0);
  });

  it("that are cut off, empty or too large are refused by name", () => {
    assert.equal(refusal([9]), "UnknownFrame");
    assert.equal(refusal([0]), "UnknownFrame");
    assert.equal(refusal([4, 0, 0, 0]), "MalformedFrame");
    assert.equal(refusal([2, 0, 0, 0, 1, 0, 0]), "MalformedFrame");
    assert.equal(refusal([2, 0, 0, 0, 1, 0xff, 0xff, 1]), "MalformedFrame");
    assert.equal(refusal([1, 0, 0, 0, 1, 0]), "MalformedFrame");
    assert.equal(refusal([1, 0, 0, 0, 1, 1, 0x20]), "MalformedFrame");
    assert.equal(refusal([3, 0, 0, 0, 1, 0, 0x20, 0, 0, 0, 0, 0, 0]), "MalformedFrame");
    assert.equal(refusal([3, 0, 0, 0, 1, 0, 0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), "");
    assert.throws(() => new RecordReader(new Uint8Array(7)), Violation);
  });
});

describe("a service", () => {
  it("has 1 to 255 visible ASCII characters", () => {
    for (const name of ["ssh", "socks", "[::1]:443", "a".repeat(255)]) assert.ok(isServiceName(name));
    for (const name of ["", "a b", "é", "a\n", "a".repeat(256)]) assert.ok(!isServiceName(name));
  });
});

describe("reasons", () => {
  it("have different codes of one octet", () => {
    const codes = Object.values(REASONS).map(({ code }) => code);
    assert.equal(new Set(codes).size, codes.length);
    for (const code of codes) assert.ok(code > 0 && code < 256);
  });

  it("of later versions are those of a reset connection", () => {
    assert.equal(reasonOf(255), "ConnectionReset");
    assert.equal(reasonOf(REASONS.UnknownKey.code), "UnknownKey");
  });
});
