/** Envelopes of messages, as readers over HTTP see them. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { formatEnvelope, isEnvelope } from "../../../src/edge/durable-streams/message-envelope.ts";

const HEAD = { id: "1@alice/pc", from: "alice/pc", to: "bob", resource: "message", time: 0 };

function written(contentType: string | undefined, body: Uint8Array) {
  const text = formatEnvelope({ ...HEAD, contentType, body });
  const { encoding, body: given } = JSON.parse(text) as { encoding: string; body: unknown };
  return { text, encoding, given };
}

describe("a body of text", () => {
  it("is a text, also if it is long, or short and full of control characters", () => {
    for (const text of ["\u0001\u0002", "a line\n".repeat(100_000), '"quoted" \\ '.repeat(50_000)]) {
      const { encoding, given } = written("text/plain", new TextEncoder().encode(text));
      assert.deepEqual([encoding, given === text], ["text", true], text.slice(0, 10));
    }
  });

  it("does not take six times its bytes if it is long and nothing but control characters", () => {
    const body = new Uint8Array(1024 * 1024).fill(1);
    const { text, encoding, given } = written("text/plain", body);
    assert.equal(encoding, "base64");
    assert.ok(Buffer.from(String(given), "base64").equals(body));
    assert.ok(text.length < 1.4 * body.length, `${text.length} characters`);
  });
});

describe("what pretends to be an envelope", () => {
  const judge = (text: string) => isEnvelope(new TextEncoder().encode(text));

  it("has the members that the edge writes, however their names are written and wherever they are", () => {
    for (const text of [
      '{"id":1,"from":2,"time":3}',
      ' {"time" : {"x":[1,"}"]} , "\\u0069d":"a\\"b", "fro\\u006D":[{"id":2}], "body":1}\n',
      '{"x":{},"\\u0074\\u0069\\u006d\\u0065":0,"id":"","from":null}',
    ]) {
      assert.ok(judge(text), text);
    }
  });

  it("is not what has them elsewhere, or not all of them", () => {
    for (const text of [
      '{"id":1,"from":2}',
      '[{"id":1,"from":2,"time":3}]',
      '{"x":{"id":1,"from":2,"time":3}}',
      '{"id":"from","x":"time","from":1}',
      '{"id":1,"from":2,"\\u005ctime":3}',
      '"id from time"',
      "{}",
      "null",
    ]) {
      assert.ok(!judge(text), text);
    }
  });

  it("is the same as after parsing", () => {
    const name = fc.constantFrom("id", "from", "time", "i", "\u00e9", "__proto__", '"', "\\");
    const value = fc.letrec<{ value: unknown }>((tie) => ({
      value: fc.oneof(
        { depthSize: "small" },
        fc.constantFrom<unknown>(1, "time", '"from":', "}{", null),
        fc.array(tie("value"), { maxLength: 3 }),
        fc.array(fc.tuple(name, tie("value")), { maxLength: 6 }).map((members) => Object.fromEntries(members)),
      ),
    })).value;
    fc.assert(
      fc.property(value, fc.constantFrom(undefined, 1), (made, indent) => {
        const text = JSON.stringify(made, undefined, indent);
        const parsed = JSON.parse(text) as unknown;
        const expected =
          typeof parsed === "object" &&
          parsed !== null &&
          ["id", "from", "time"].every((member) => Object.hasOwn(parsed, member));
        assert.equal(judge(text), expected, text);
      }),
      { numRuns: 500 },
    );
  });

  it("is found out without making values of it, which would take some thirty times its bytes", () => {
    const deep = `{"x":${"[".repeat(4_000_000)}${"]".repeat(4_000_000)},"id":1,"from":2,"time":3}`;
    const octets = new TextEncoder().encode(deep);
    const before = process.memoryUsage().heapUsed;
    assert.ok(isEnvelope(octets));
    assert.ok(process.memoryUsage().heapUsed - before < octets.length);
  });
});
