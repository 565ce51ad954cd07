/** What an owner may want of an inbox. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { readNewInbox } from "../../../src/edge/inboxes/new-inbox.ts";

describe("a new inbox", () => {
  it("has the name of its verification and usual limits unless others are given", () => {
    assert.deepEqual(readNewInbox({ verify: "github" }), {
      ok: true,
      value: { name: "github", verify: "github", secret: undefined, largest: 1_048_576, rate: 10, answer: undefined },
    });
    const answer = { status: 200, type: "application/json", body: '{"ok":true}' };
    const given = { name: "shop-1", verify: "hmac:X-A,sha1,hex", secret: "12345678", largest: 1, rate: 200, answer };
    assert.deepEqual(readNewInbox(given), { ok: true, value: { ...given, verify: "hmac:x-a,sha1,hex," } });
  });

  const wrong: [string, Record<string, unknown>][] = [
    ["no verification", {}],
    ["an unknown verification", { verify: "gitlab" }],
    ["a name that is no name", { name: "A b" }],
    ["a name that a path has", { name: "failed" }],
    ["a short secret", { secret: "1234567" }],
    ["a secret that is no text", { secret: 12345678 }],
    ["a secret where none is checked", { verify: "none", secret: "12345678" }],
    ["no size", { largest: 0 }],
    ["a size that no device takes", { largest: 17 * 1024 * 1024 }],
    ["a rate that is too high", { rate: 201 }],
    ["half a request a second", { rate: 0.5 }],
    ["an answer that refuses", { answer: { status: 404 } }],
    ["an answer in HTML", { answer: { type: "text/html", body: "<script>" } }],
    ["an answer that is not the JSON that it says", { answer: { type: "application/json", body: "{" } }],
    ["an answer without content that has some", { answer: { status: 204, body: "x" } }],
    ["a long answer", { answer: { body: "x".repeat(4097) } }],
    ["an answer that is no object", { answer: "ok" }],
  ];
  for (const [what, fields] of wrong) {
    it(`with ${what} is refused with what to change`, () => {
      const read = readNewInbox({ ...(what.includes("verification") ? {} : { verify: "github" }), ...fields });
      assert.ok(!read.ok && /^[A-Za-z].{15,}\.$/.test(read.problems), JSON.stringify(read));
    });
  }

  it("is read or refused, whatever is asked for", () => {
    const fields = fc.dictionary(
      fc.constantFrom("name", "verify", "secret", "largest", "rate", "answer"),
      fc.jsonValue(),
    );
    fc.assert(fc.property(fields, (asked) => void readNewInbox(asked)));
  });
});
