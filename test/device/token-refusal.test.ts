/** What the bearer of a refused token is told: one row for each reason. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { DeviceError } from "../../src/device/device-error.ts";
import { type RefusedToken, sendRefusal, tokenRefusal } from "../../src/device/token-refusal.ts";

function tokenOf(claims: Record<string, unknown>): string {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ alg: "EdDSA" })}.${part(claims)}.c2lnbmVk`;
}

const GOOD = { address: "alice/*", scope: "connect send:*", aud: "edge.example.com", exp: 1_700_000_000 };
const address = { identity: "bob", device: "pc" };

describe("a token is refused", () => {
  const table: [string, RefusedToken, RegExp][] = [
    ["TokenNeeded", {}, /^the edge requires a token: .*--token @FILE, GROOVEWAY_TOKEN or the option token/],
    ["TokenNeeded", { by: "relay" }, /^the relay requires a token: /],
    ["TokenInvalid", { by: "relay" }, /^the relay cannot verify the token: get a new one/],
    [
      "TokenInvalid",
      { detail: "The alg is not that of the key." },
      /the token \(The alg is not that of the key\): get/,
    ],
    ["TokenInvalid", { token: "alice.token" }, /: get a new one.*; if that is the name of a file, write --token @FILE/],
    ["TokenInvalid", { token: tokenOf(GOOD) }, /: get a new one from its operator \[TokenInvalid\]$/],
    ["TokenExpired", {}, /^the token has expired: get/],
    ["TokenExpired", { token: tokenOf(GOOD) }, /^the token has expired on 2023-11-14T22:13:20\.000Z: get/],
    ["TokenExpired", { token: tokenOf({ ...GOOD, exp: 1e300 }) }, /^the token has expired: get/],
    [
      "TokenExpired",
      { token: tokenOf({ ...GOOD, exp: 4e9 }) },
      /^the edge says that the token has expired, but by this machine's clock it is valid until 2096-10-02T07:06:40\.000Z: correct/,
    ],
    [
      "TokenNotYetValid",
      { detail: "The claim nbf is in the future." },
      /not valid yet \(The claim nbf is in the future\): wait/,
    ],
    ["TokenRevoked", { by: "relay" }, /^the token has been revoked: ask the operator of the relay/],
    [
      "WrongAudience",
      {},
      /^the token is for another edge, not for this edge: .* --audience with one of the edge's names/,
    ],
    [
      "WrongAudience",
      { by: "relay", token: tokenOf(GOOD), name: "relay.example.com" },
      /^the token is for edge\.example\.com, not for this relay: .* issue --audience relay\.example\.com\)/,
    ],
    ["WrongAudience", { token: tokenOf({ ...GOOD, aud: ["a", 7, "b\u001b[31m"] }) }, /for a, b\\e\[31m, not for/],
    [
      "ScopeMissing",
      { token: tokenOf({ ...GOOD, scope: "send:*" }) },
      /^the token lacks the scope connect: .*token issue --scope 'send:\* connect'\)/,
    ],
    [
      "ScopeMissing",
      { token: tokenOf(GOOD), address },
      /^the token is for the address alice\/\*, but this device is bob\/pc: use an address of the token \(--as\)/,
    ],
    ["ScopeMissing", { token: tokenOf({ ...GOOD, address: undefined }), address }, /^the token is for no address, but/],
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

  it("is not reported for unrelated reasons", () => {
    for (const reason of [undefined, "", "WrongPrefix", "toString"]) assert.equal(tokenRefusal(reason), undefined);
  });
});

describe("a recipient is refused", () => {
  const refused = new DeviceError("RecipientRefused", "the relay takes no messages for this recipient");
  const bob = { identityURL: "grooveIdentity://bob", deviceURL: "" };
  const phone = { identityURL: "grooveIdentity://bob", deviceURL: "grooveDevice://bob/my%20phone" };
  for (const [scope, recipient, missing] of [
    [
      "connect receive",
      bob,
      /^the token lacks the scope send:bob: .* --scope 'connect receive send:bob'\) \[ScopeMissing\]$/,
    ],
    [
      "connect send:bob",
      phone,
      /^the token lacks the scope send:bob\/my%20phone: .* --scope 'connect send:bob send:bob\/my%20phone'/,
    ],
    ["connect send:*", bob, undefined],
    ["connect send:bob/*", phone, undefined],
  ] as const) {
    it(`with a token for ${scope}: ${missing === undefined ? "the error is unchanged" : "the error names the missing scope"}`, () => {
      const error = sendRefusal(refused, tokenOf({ ...GOOD, scope }), recipient);
      if (missing === undefined) assert.equal(error, refused);
      else assert.match(error.message, missing);
      assert.equal(error.code, "RecipientRefused");
    });
  }

  it("for a stream: the error names the missing scope stream, whatever may be sent", () => {
    const token = (scope: string) => tokenOf({ ...GOOD, scope });
    const error = sendRefusal(refused, token("connect send:*"), phone, "stream");
    assert.match(error.message, /^the token lacks the scope stream:bob\/my%20phone: .*'connect send:\* stream:bob/);
    assert.equal(sendRefusal(refused, token("connect stream:bob/*"), phone, "stream"), refused);
  });

  it("without a readable token, or for another reason: the error is unchanged", () => {
    const full = new DeviceError("QuotaWouldBeExceeded", "full");
    assert.equal(sendRefusal(full, tokenOf({ ...GOOD, scope: "" }), bob), full);
    for (const token of [undefined, "nonsense"]) assert.equal(sendRefusal(refused, token, bob), refused);
    const foreign = { identityURL: "apphandler", deviceURL: "device2" };
    assert.equal(sendRefusal(refused, tokenOf({ ...GOOD, scope: "" }), foreign), refused);
  });
});
