/** What whoever has a token is told when it does not do: one row for each reason. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type RefusedToken, tokenRefusal } from "../../src/device/token-refusal.ts";

function tokenOf(claims: Record<string, unknown>): string {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ alg: "EdDSA" })}.${part(claims)}.c2lnbmVk`;
}

const GOOD = { address: "alice/*", scope: "connect send:*", aud: "edge.example.com", exp: 1_700_000_000 };
const address = { identity: "bob", device: "pc" };

describe("a token is refused", () => {
  const table: [string, RefusedToken, RegExp][] = [
    ["TokenNeeded", {}, /^the edge asks for a token: .*--token @FILE, GROOVEWAY_TOKEN or the option token/],
    ["TokenNeeded", { by: "relay" }, /^the relay asks for a token: /],
    ["TokenInvalid", { by: "relay" }, /^the relay cannot verify the token: get a new one/],
    [
      "TokenInvalid",
      { detail: "Its alg is not that of the key." },
      /the token \(Its alg is not that of the key\): get/,
    ],
    ["TokenExpired", {}, /^the token has expired: get/],
    ["TokenExpired", { token: tokenOf(GOOD) }, /^the token has expired on 2023-11-14T22:13:20\.000Z: get/],
    ["TokenExpired", { token: tokenOf({ ...GOOD, exp: 1e300 }) }, /^the token has expired: get/],
    ["TokenNotYetValid", { detail: "Its time has not come." }, /not valid yet \(Its time has not come\): wait/],
    ["TokenRevoked", { by: "relay" }, /^the token was revoked: ask the operator of the relay/],
    ["WrongAudience", {}, /^the token is for another edge, and not for this edge: get one for it /],
    [
      "WrongAudience",
      { by: "relay", token: tokenOf(GOOD), name: "relay.example.com" },
      /^the token is for edge\.example\.com, and not for this relay: .* issue --audience relay\.example\.com\)/,
    ],
    ["WrongAudience", { token: tokenOf({ ...GOOD, aud: ["a", 7, "b\u001b[31m"] }) }, /for a, b\\e\[31m, and/],
    [
      "ScopeMissing",
      { token: tokenOf({ ...GOOD, scope: "send:*" }) },
      /^the token lacks the scope connect: .*token issue --scope 'send:\* connect'\)/,
    ],
    [
      "ScopeMissing",
      { token: tokenOf(GOOD), address },
      /^the token is for the address alice\/\*, and this device is bob\/pc: give the right address \(--as\)/,
    ],
    ["ScopeMissing", { token: tokenOf({ ...GOOD, address: undefined }), address }, /^the token is for no address, and/],
    [
      "ScopeMissing",
      { token: "nonsense", address },
      /^the token does not allow this: get one with this device's address/,
    ],
    ["ScopeMissing", { token: tokenOf({ scope: 7 }) }, /^the token does not allow this: /],
  ];
  for (const [reason, refused, expected] of table) {
    it(`${reason} ${JSON.stringify({ ...refused, token: refused.token?.length })}`, () => {
      const error = tokenRefusal(reason, refused);
      assert.equal(error?.code, "TokenRefused");
      assert.equal(error?.retryable, false);
      assert.match(error?.message ?? "", expected);
      assert.ok(error?.message.endsWith(` [${reason}]`));
    });
  }

  it("by no reason that is about something else", () => {
    for (const reason of [undefined, "", "WrongPrefix", "toString"]) assert.equal(tokenRefusal(reason), undefined);
  });
});
