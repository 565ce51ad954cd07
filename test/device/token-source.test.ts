/** Where a device gets its token. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { tokenFrom } from "../../src/device/token-source.ts";

test("a token that is empty or damaged is refused with the cause, and not repeated", async () => {
  const { signal } = new AbortController();
  const refused = (source: string | (() => string), message: RegExp) =>
    assert.rejects(tokenFrom(source, signal), { code: "InvalidOption", message });
  await refused("", /^the token is empty/);
  await refused(() => "", /^the token is empty/);
  await refused(
    "secret token",
    /^the token contains characters that are invalid in a token: check that it is complete$/,
  );
  assert.equal(await tokenFrom("a.b-c_d", signal), "a.b-c_d");
});
