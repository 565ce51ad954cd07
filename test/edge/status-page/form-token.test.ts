/** Tokens of forms: good for one form of one session, for an hour. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { FORM_LIFE } from "../../../src/edge/operator-sessions/limits.ts";
import { makeFormToken, readFormToken } from "../../../src/edge/status-page/form-token.ts";

const NOW = 1_800_000_000_000;

describe("the token of a form", () => {
  it("is read with its session and form for an hour, and is another each time", async () => {
    const [one, other] = [await makeFormToken("s", "lock bob", NOW), await makeFormToken("s", "lock bob", NOW)];
    const read = await readFormToken("s", "lock bob", one, NOW + FORM_LIFE);
    assert.equal(read, one.slice(0, 22));
    assert.notEqual(read, await readFormToken("s", "lock bob", other, NOW));
  });

  it("is not good for another session, form or time", async () => {
    const token = await makeFormToken("s", "lock bob", NOW);
    for (const [session, form, at] of [
      ["t", "lock bob", NOW],
      ["s", "purge bob", NOW],
      ["s", "lock bo", NOW],
      ["s", "lock bob", NOW + FORM_LIFE + 1],
      ["s", "lock bob", NOW - FORM_LIFE - 1],
    ] as const) {
      assert.equal(await readFormToken(session, form, token, at), undefined);
    }
    const [number, time, signature] = token.split(".");
    for (const forged of [`${number}.${Number(time) + 1}.${signature}`, `${number}.${time}.${"A".repeat(43)}`]) {
      assert.equal(await readFormToken("s", "lock bob", forged, NOW), undefined);
    }
  });

  it("has one spelling, or it could be taken twice", async () => {
    const token = await makeFormToken("s", "x", NOW);
    const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const at = letters.indexOf(token[21] ?? "");
    // The last character has four bits that are not used.
    const same = `${token.slice(0, 21)}${letters[at ^ 1]}${token.slice(22)}`;
    assert.equal(await readFormToken("s", "x", same, NOW), undefined);
    assert.equal(await readFormToken("s", "x", token.replace(".", ".0"), NOW), undefined);
  });

  it("is none if it was not made here, whatever it is", async () => {
    const like = fc.stringMatching(/^[\w.-]{0,90}$/);
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.string(), like), async (text) => {
        assert.equal(await readFormToken("s", "x", text, NOW), undefined);
      }),
    );
  });
});
