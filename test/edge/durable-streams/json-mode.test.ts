/** Messages of streams of JSON. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { asArray, sliceMessages, splitMessages } from "../../../src/edge/durable-streams/json-mode.ts";

const encode = (text: string) => new TextEncoder().encode(text);
const decode = (octets: Uint8Array) => new TextDecoder().decode(octets);

function messagesOf(text: string): string[] {
  const split = splitMessages(encode(text)) ?? assert.fail(`${text} is not JSON`);
  return split.ends.map((_, at) => decode(sliceMessages(split, at, at + 1)));
}

/** White space between the tokens of JSON. */
const space = fc.stringMatching(/^[ \t\r\n]{0,3}$/);

describe("a body of JSON", () => {
  it("is one message, or as many as its array has elements", () => {
    for (const [body, messages] of [
      ['{"event":"created"}', ['{"event":"created"}']],
      ['[{"event":"a"}, {"event":"b"}]', ['{"event":"a"}', '{"event":"b"}']],
      ["[[1,2], [3,4]]", ["[1,2]", "[3,4]"]],
      ["[[[1,2,3]]]", ["[[1,2,3]]"]],
      ["[]", []],
      [" [ ] ", []],
      ['"a,b]"', ['"a,b]"']],
      ['["a,\\"]", "\\\\"]', ['"a,\\"]"', '"\\\\"']],
    ] as const) {
      assert.deepEqual(messagesOf(body), messages, body);
    }
  });

  it("keeps the very text of its messages", () => {
    const texts = ["1.0", "12345678901234567890", '{"b":1,"a":2,"b":3}', '"\\u0041\\/"', "-0", "1E+2"];
    assert.deepEqual(messagesOf(`[ ${texts.join(" ,\n")}\t]`), texts);
  });

  it("takes little memory for each of many messages", () => {
    const body = encode(`[${"0,".repeat(2_000_000)}0]`);
    const before = process.memoryUsage().heapUsed;
    const split = splitMessages(body);
    const grown = process.memoryUsage().heapUsed - before;
    assert.equal(split?.ends.length, 2_000_001);
    // A view for each would take a hundred bytes or more.
    assert.ok(grown < 100 * 1024 * 1024, `${grown} bytes`);
  });

  it("is split as it is parsed, whatever is in it", () => {
    fc.assert(
      fc.property(fc.array(fc.jsonValue({ maxDepth: 4 })), space, space, (values, before, between) => {
        const body = `${before}[${values.map((value) => JSON.stringify(value)).join(`${between},${between}`)}${before}]`;
        assert.deepEqual(
          messagesOf(body).map((text) => JSON.parse(text)),
          JSON.parse(body),
        );
      }),
    );
  });

  it("that is no JSON in UTF-8 is refused", () => {
    for (const body of ["", " ", "{", "[1,]", "[1 2]", "nul", '{"a":1}{"b":2}', "\ufeff1", "'a'"]) {
      assert.equal(splitMessages(encode(body)), undefined, body);
    }
    assert.equal(splitMessages(Uint8Array.of(0x22, 0xff, 0x22)), undefined);
    fc.assert(
      fc.property(fc.string(), (text) => {
        const isJson = (() => {
          try {
            JSON.parse(text);
            return true;
          } catch {
            return false;
          }
        })();
        assert.equal(splitMessages(encode(text)) !== undefined, isJson);
      }),
    );
  });

  it("as deep as it may be nested takes no stack", () => {
    const deep = 1_000_000;
    assert.equal(messagesOf(`[${"[".repeat(deep)}${"]".repeat(deep)}]`).length, 1);
  });
});

describe("a read of JSON", () => {
  it("is one array of all messages, however they were appended", () => {
    fc.assert(
      fc.property(fc.array(fc.array(fc.jsonValue({ maxDepth: 2 }))), (batches) => {
        const runs = batches.map((batch) => splitMessages(encode(JSON.stringify(batch)))?.octets ?? assert.fail());
        assert.deepEqual(JSON.parse(decode(asArray(runs))), JSON.parse(JSON.stringify(batches.flat())));
      }),
    );
  });

  it("may begin and end within a batch", () => {
    fc.assert(
      fc.property(fc.array(fc.jsonValue({ maxDepth: 2 })), fc.nat(20), fc.nat(20), (values, one, other) => {
        const all = splitMessages(encode(JSON.stringify(values))) ?? assert.fail();
        const [from, to] = [Math.min(one, other, values.length), Math.min(Math.max(one, other), values.length)];
        const part = JSON.parse(decode(asArray([sliceMessages(all, from, to)])));
        assert.deepEqual(part, JSON.parse(JSON.stringify(values.slice(from, to))));
      }),
    );
  });
});
