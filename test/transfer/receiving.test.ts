/** The state machine of an incoming transfer, compared with a list of the bytes present. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { Receiving, SET_ASIDE, Sending } from "../../src/transfer/index.ts";
import { type JournalEntry, journalLine, readJournal } from "../../src/transfer/journal.ts";
import { GAPS } from "../../src/transfer/limits.ts";

const TRANSFER = "0".repeat(32);
const end = (size: number) => ({ type: "end", transfer: TRANSFER, size, sha256: "" }) as const;
const begin = (size: number | null) => ({ type: "begin", transfer: TRANSFER, name: "a", size }) as const;

describe("an incoming transfer", () => {
  it("requests each byte once, and is complete when all are present", () => {
    const part = fc.record({ offset: fc.nat(30), length: fc.integer({ min: 1, max: 12 }) });
    fc.assert(
      fc.property(fc.array(part, { maxLength: 30 }), fc.nat(40), (parts, size) => {
        const receiving = new Receiving();
        receiving.begun(begin(null));
        const there = new Set<number>();
        for (const { offset, length } of parts) {
          const decision = receiving.part({ offset, bytes: new Uint8Array(length) });
          const wanted: number[] = [];
          if (decision.do === "write") {
            for (const [from, to] of decision.ranges) {
              for (let at = from; at <= to; at += 1) wanted.push(at);
              receiving.written(from, to);
            }
          }
          const missing = Array.from({ length }, (_, index) => offset + index).filter((at) => !there.has(at));
          assert.deepEqual(wanted, missing);
          for (const at of missing) there.add(at);
        }
        receiving.ended(end(size));
        const isWhole = Array.from({ length: size }, (_, at) => at).every((at) => there.has(at));
        const isLonger = [...there].some((at) => at >= size);
        const next = receiving.progress();
        assert.equal(next.do, isWhole && !isLonger ? "verify" : "setAside");
        if (next.do === "setAside") assert.equal(next.reason, isLonger ? "SizeMismatch" : "PartMissing");
      }),
    );
  });

  it("tracks a bounded number of gaps, and accepts parts that close one", () => {
    const receiving = new Receiving();
    for (let at = 0; at <= GAPS; at += 1) receiving.written(2 * at, 2 * at);
    assert.deepEqual(receiving.part({ offset: 2 * GAPS + 10, bytes: new Uint8Array(1) }), {
      do: "setAside",
      reason: "TooManyGaps",
    });
    assert.equal(receiving.part({ offset: 1, bytes: new Uint8Array(1) }).do, "write");
    assert.equal(receiving.part({ offset: 2 * GAPS + 1, bytes: new Uint8Array(1) }).do, "write");
  });

  it("is incomplete without its beginning", () => {
    const receiving = new Receiving();
    receiving.ended(end(0));
    assert.deepEqual(receiving.progress(), { do: "setAside", reason: "PartMissing" });
    receiving.begun(begin(0));
    assert.equal(receiving.progress().do, "verify");
  });

  it("keeps the first beginning and the first end", () => {
    const receiving = new Receiving();
    assert.ok(receiving.begun(begin(5)));
    assert.ok(!receiving.begun(begin(6)));
    assert.ok(receiving.ended(end(5)));
    assert.ok(!receiving.ended(end(6)));
    assert.equal(receiving.size, 5);
  });
});

describe("an outgoing transfer", () => {
  it("resumes after the contiguous acknowledged part", () => {
    const sending = new Sending({ transfer: TRANSFER, name: "a", size: null, from: 4 });
    const parts = [3, 3, 2].map((length) => sending.part(new Uint8Array(length)));
    assert.deepEqual(
      parts.map(({ offset }) => offset),
      [4, 7, 10],
    );
    assert.equal(sending.acknowledged, 4);
    for (const [which, safe] of [
      [2, 4],
      [0, 7],
      [1, 12],
    ] as const) {
      const part = parts[which];
      if (part !== undefined) sending.acknowledge(part);
      assert.equal(sending.acknowledged, safe);
    }
    assert.equal(sending.end("").size, 12);
  });
});

describe("the journal of an incoming transfer", () => {
  const entry = fc.oneof<fc.Arbitrary<JournalEntry>[]>(
    fc.record({
      type: fc.constant("transfer" as const),
      transfer: fc.string(),
      from: fc.option(fc.string(), { nil: null }),
      vouched: fc.boolean(),
    }),
    fc.record({
      type: fc.constant("begin" as const),
      name: fc.string({ unit: "binary" }),
      size: fc.option(fc.nat(), { nil: null }),
    }),
    fc.record({
      type: fc.constant("range" as const),
      offset: fc.nat(),
      length: fc.integer({ min: 1 }),
      crc32: fc.nat(),
    }),
    fc.record({ type: fc.constant("end" as const), size: fc.nat(), sha256: fc.string() }),
    fc.record({
      type: fc.constant("setAside" as const),
      reason: fc.constantFrom(...(Object.keys(SET_ASIDE) as (keyof typeof SET_ASIDE)[]), null),
    }),
  );

  it("restores what was written, even with records torn by a crash", () => {
    const torn = fc.oneof(
      fc.string(),
      fc.constant("\0\0\0"),
      entry.map((one) => journalLine(one).slice(0, -3)),
    );
    fc.assert(
      fc.property(fc.array(fc.tuple(entry, torn)), (lines) => {
        const text = lines.map(([one, rest]) => `${journalLine(one)}${rest.replaceAll(/\{.*\}/gsu, "")}\n`).join("");
        assert.equal(readJournal(text).map(journalLine).join(""), lines.map(([one]) => journalLine(one)).join(""));
      }),
    );
  });
});
