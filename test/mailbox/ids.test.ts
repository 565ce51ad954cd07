/** Ids taken apart, written down, and remembered. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { contentsOf, pack } from "../../src/edge/bundle.ts";
import { countOf, idsOf, KnownIds, NONE, type Written, writtenOf } from "../../src/edge/ids.ts";
import type { Envelope } from "../../src/store-and-forward/envelope.ts";

interface Sent {
  readonly source: string;
  readonly id: string;
}

function envelope(source: string): Envelope {
  return { source, resourceURL: "message", identityURL: "grooveIdentity://bob", deviceURL: "" };
}

/** The ids of messages with one envelope for each source. */
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

function written(sent: readonly Sent[]): Written {
  return writtenOf(idsFrom(sent), [...sent.keys()]);
}

/** What was written down, one by one. */
function spoken(written: Written): Sent[] {
  return written.flatMap(([source, ids]) =>
    ids.flatMap((id) => {
      if (typeof id === "string") return [{ source, id }];
      const [head, tail, from, to] = id;
      return Array.from({ length: to - from + 1 }, (_, n) => ({ source, id: `${head}${from + n}${tail}` }));
    }),
  );
}

const digits = fc.oneof(
  fc.integer({ min: 0, max: 40 }).map(String),
  fc.constantFrom("00", "007", "10", "0100", "999999999999999", "1000000000000000", "90071992547409931", "29", "30"),
);
/** Ids that are alike: with numbers at different places, with zeros in front, with addresses or something like them. */
const id = fc
  .tuple(
    fc.constantFrom("", "a", "a-", "7", "b@c-", "@"),
    fc.oneof(digits, fc.constant("")),
    fc.constantFrom("", "@", "@alice/pc", "@alice/pc2", "x", "@1"),
  )
  .map((parts) => parts.join(""));
const sent: fc.Arbitrary<Sent> = fc.record({ source: fc.constantFrom("one", "two", ""), id });

/** Without what has come before. */
function unique(list: readonly Sent[]): Sent[] {
  return [...new Map(list.map((one) => [JSON.stringify([one.source, one.id]), one])).values()];
}

describe("ids", () => {
  it("are taken apart at the number before the sender's address, or at the end", () => {
    assert.deepEqual(parts("m-17@alice/pc2"), ["m-", 17, "@alice/pc2"]);
    assert.deepEqual(parts("17@"), ["", 17, "@"]);
    assert.deepEqual(parts("b@c-3@alice"), ["b@c-", 3, "@alice"]);
    assert.deepEqual(parts("order 8"), ["order ", 8, ""]);
    assert.deepEqual(parts("0017"), ["00", 17, ""]);
    assert.deepEqual(parts("12345678901234567"), ["12", 345678901234567, ""]);
    for (const plain of ["m", "m-0", "m-000@alice", "8 orders", "@alice1/pc", "x@8"]) {
      assert.deepEqual(parts(plain), [plain, NONE, ""]);
    }
    assert.equal(parts(""), undefined);
  });

  it("can be put together again, whatever they are", () => {
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

  it("are written down by source, those that follow each other as one", () => {
    const count = (from: number, to: number) =>
      Array.from({ length: to - from + 1 }, (_, n) => ({ source: "s", id: `m-${from + n}@a` }));
    const uuid = { source: "t", id: "4f7d-cafe" };
    assert.deepEqual(written([...count(8, 107), uuid, { source: "s", id: "" }, ...count(300, 301), ...count(1, 1)]), [
      ["s", [["m-", "@a", 8, 107], ["m-", "@a", 300, 301], "m-1@a"]],
      ["t", ["4f7d-cafe"]],
    ]);
    fc.assert(
      fc.property(fc.array(sent, { maxLength: 40 }), (some) => {
        const list = unique(some).filter(({ id }) => id !== "");
        const ids = written(list);
        assert.equal(countOf(ids), list.length);
        const sorted = (of: readonly Sent[]) => of.map(({ source, id }) => `${source}\n${id}`).sort();
        assert.deepEqual(sorted(spoken(JSON.parse(JSON.stringify(ids)) as Written)), sorted(list));
      }),
      { numRuns: 1000 },
    );
  });

  it("are known as a set of texts would know them", () => {
    const step = fc.record({
      do: fc.constantFrom("add", "add", "add", "has", "forget", "learn"),
      list: fc.array(sent, { maxLength: 12 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 20 }), (steps) => {
        const known = new KnownIds();
        const model = new Set<string>();
        for (const one of steps) {
          const list = unique(one.list).filter(({ id }) => id !== "");
          const keys = list.map(({ source, id }) => `${source}\n${id}`);
          const { series, numbers } = idsFrom(list);
          for (const [at, key] of keys.entries()) {
            const [of, number] = [series[at], numbers[at] ?? NONE];
            if (of === undefined) throw new Error("it has an id");
            assert.equal(known.has(of, number), model.has(key), `${one.do} ${key}`);
            if (one.do === "add") assert.equal(known.add(of, number), !model.has(key));
          }
          if (one.do === "learn") known.learn(written(list));
          if (one.do === "forget") known.forget(written(list));
          for (const key of keys) {
            if (one.do === "forget") model.delete(key);
            else if (one.do !== "has") model.add(key);
          }
        }
      }),
      { numRuns: 500 },
    );
  });
});
