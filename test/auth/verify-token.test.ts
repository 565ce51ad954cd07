/** Which tokens are accepted, by their claims and by the operator's keys and lists. */

import assert from "node:assert/strict";
import { createHmac, createPublicKey, sign as signBy } from "node:crypto";
import { createServer, type Server } from "node:http";
import { after, before, describe, it, mock } from "node:test";
import fc from "fast-check";
import { calculateJwkThumbprint, type JWK } from "jose";
import { parseKeySet } from "../../src/auth/key-set.ts";
import { FETCHED_AGE, JWKS_OCTETS, REFETCH_COOLDOWN, STALE, TOKEN_OCTETS } from "../../src/auth/limits.ts";
import { authenticate, current, type TokenSettings } from "../../src/auth/verify-token.ts";
import { AUDIENCE, ed25519, forged, hs256, type Issuer, jwks } from "../edge/issuer.ts";
import { runs } from "../support/long-form.ts";

const first = await ed25519("first");
const second = await ed25519("second");
const secret = await hs256("secret");
const stranger = await ed25519("first");
const KEYS = jwks(first, second, secret);
const settings: TokenSettings = { KEYS, RELAY_NAME: AUDIENCE };
const NOW = Math.floor(Date.now() / 1000) * 1000;
const seconds = (offset: number) => NOW / 1000 + offset;

/** "ok", or the reason of the refusal. The message must not contain any part of the token. */
async function outcome(token: string, with_: TokenSettings = settings, now = NOW): Promise<string> {
  const answer = await authenticate(token, with_, now);
  if (answer.type === "ok") return "ok";
  for (const part of token.split(".")) if (part.length > 8) assert(!answer.detail.includes(part), answer.detail);
  return answer.reason;
}

describe("a token", () => {
  it("states its bearer, its expiry and its rights", async () => {
    const token = await first.issue({ jti: "one", sub: "alice", exp: seconds(60), scope: "connect send:bob" });
    assert.deepEqual(await authenticate(token, settings, NOW), {
      type: "ok",
      asOf: NOW,
      principal: {
        key: await calculateJwkThumbprint(first.jwk),
        id: "jti:one",
        subject: "alice",
        rights: { address: "alice/laptop", connect: true, receive: false, admin: false, send: ["bob"], stream: [] },
        expires: NOW + 90_000,
      },
    });
  });

  it("is accepted with either kind of key when its audience includes RELAY_NAME, in any case", async () => {
    for (const issuer of [first, second, secret]) assert.equal(await outcome(await issuer.issue()), "ok", issuer.kid);
    assert.equal(await outcome(await first.issue({ aud: ["other", AUDIENCE] })), "ok");
    const named = { ...settings, RELAY_NAME: "Edge.Example.com" };
    assert.equal(await outcome(await first.issue({ aud: "edge.example.com" }), named), "ok");
  });

  it("may name any one of the edge's names as audience, and no other", async () => {
    const several = { ...settings, RELAY_NAME: "one.example.com, Two.example.com" };
    for (const aud of ["one.example.com", "two.example.com", "Two.example.com", ["other", "one.example.com"]]) {
      assert.equal(await outcome(await first.issue({ aud }), several), "ok", String(aud));
    }
    for (const aud of [
      "three.example.com",
      "one.example.com, Two.example.com",
      "one.example.com,",
      "example.com",
      "",
    ]) {
      assert.equal(await outcome(await first.issue({ aud }), several), "WrongAudience", aud);
    }
  });

  it("without jti gets a stable id", async () => {
    const [one, other] = [await first.issue({ jti: undefined }), await first.issue({ jti: undefined, sub: "x" })];
    const ids = await Promise.all(
      [one, one, other].map(async (token) => {
        const answer = await authenticate(token, settings, NOW);
        assert(answer.type === "ok");
        return answer.principal.id;
      }),
    );
    assert.match(ids[0] ?? "", /^sha256:[0-9a-f]{64}$/);
    assert.equal(ids[0], ids[1]);
    assert.notEqual(ids[0], ids[2]);
    assert.equal(await outcome(one, { ...settings, REVOKED: ids[0] ?? "" }), "TokenRevoked");
  });

  for (const [what, claims, expected] of [
    ["no aud", { aud: undefined }, "WrongAudience"],
    ["another aud", { aud: "other.example.com" }, "WrongAudience"],
    ["an aud with the same prefix", { aud: `${AUDIENCE}.example.com` }, "WrongAudience"],
    ["an aud that is a number", { aud: 7 }, "WrongAudience"],
    ["an empty aud", { aud: [] }, "WrongAudience"],
    ["no exp", { exp: undefined }, "TokenInvalid"],
    ["an exp that is a string", { exp: "2099-01-01" }, "TokenInvalid"],
    ["an exp that is null", { exp: null }, "TokenInvalid"],
    ["an exp in the past", { exp: seconds(-3600) }, "TokenExpired"],
    ["an exp just beyond the tolerance", { exp: seconds(-30) }, "TokenExpired"],
    ["an exp within the tolerance", { exp: seconds(-29) }, "ok"],
    ["an nbf in the future", { nbf: seconds(3600) }, "TokenNotYetValid"],
    ["an nbf just beyond the tolerance", { nbf: seconds(31) }, "TokenNotYetValid"],
    ["an nbf within the tolerance", { nbf: seconds(30) }, "ok"],
    ["an nbf that is a string", { nbf: "0" }, "TokenInvalid"],
    ["an iat more than five minutes ahead", { iat: seconds(301) }, "TokenNotYetValid"],
    ["an iat of an issuer whose clock is five minutes ahead", { iat: seconds(300) }, "ok"],
    ["an iat that is a string", { iat: "0" }, "TokenInvalid"],
    ["no scope", { scope: undefined }, "TokenInvalid"],
    ["a scope that is a list", { scope: ["connect"] }, "TokenInvalid"],
    ["a scope with a malformed pattern", { scope: "send:%" }, "TokenInvalid"],
    ["no address", { address: undefined }, "ok"],
    ["an address that is a list", { address: ["a/b"] }, "TokenInvalid"],
    ["a malformed address", { address: "a/b/c" }, "TokenInvalid"],
    ["a jti that is a number", { jti: 1 }, "TokenInvalid"],
    ["an empty jti", { jti: "" }, "TokenInvalid"],
    ["a sub that is a number", { sub: 1 }, "TokenInvalid"],
  ] as const) {
    it(`with ${what}: ${expected}`, async () => {
      assert.equal(await outcome(await first.issue(claims)), expected);
    });
  }

  it("whose exp is not finite is rejected", async () => {
    const claims = `{"aud":"${AUDIENCE}","scope":"connect","exp":1e400}`;
    const header = Buffer.from(JSON.stringify({ alg: "HS256", kid: secret.kid })).toString("base64url");
    const signed = `${header}.${Buffer.from(claims).toString("base64url")}`;
    const key = Buffer.from(secret.jwk.k ?? "", "base64url");
    const token = `${signed}.${createHmac("sha256", key).update(signed).digest("base64url")}`;
    assert.equal(await outcome(token), "TokenInvalid");
  });

  it("expires even while it is cached", async () => {
    const token = await first.issue({ exp: seconds(10) });
    assert.equal(await outcome(token), "ok");
    assert.equal(await outcome(token, settings, NOW + 39_999), "ok");
    assert.equal(await outcome(token, settings, NOW + 40_000), "TokenExpired");
  });

  it("is rejected by an edge without a name or with another name", async () => {
    const token = await first.issue();
    assert.equal(await outcome(token), "ok");
    assert.equal(await outcome(token, { KEYS }), "WrongAudience");
    assert.equal(await outcome(token, { KEYS, RELAY_NAME: "other" }), "WrongAudience");
    assert.equal(await outcome(await first.issue({ aud: "" }), { KEYS, RELAY_NAME: "" }), "WrongAudience");
  });
});

describe("a signature", () => {
  const claims = () => ({ aud: AUDIENCE, scope: "connect", exp: seconds(60) });
  const hmac = (key: Uint8Array) => (octets: Uint8Array) => createHmac("sha256", key).update(octets).digest();
  const nothing = () => new Uint8Array(0);

  it("by another key with the same kid is rejected", async () => {
    assert.equal(await outcome(await stranger.issue()), "TokenInvalid");
    assert.equal(await outcome(await first.issue({}, { kid: second.kid })), "TokenInvalid");
  });

  it("needs a known kid; without a kid there must be a single key", async () => {
    const token = await first.issue({}, { kid: undefined });
    assert.equal(await outcome(token), "TokenInvalid");
    assert.equal(await outcome(token, { ...settings, KEYS: jwks(first) }), "ok");
    assert.equal(await outcome(await first.issue({}, { kid: "third" })), "TokenInvalid");
    assert.equal(await outcome(await first.issue({}, { kid: "FIRST" })), "TokenInvalid");
    const single = { ...settings, KEYS: jwks(first) };
    assert.equal(
      await outcome(await first.issue({}, { kid: "third" }), single),
      "TokenInvalid",
      "a wrong kid is no kid",
    );
    for (const kid of [7, null, ["first"], { first: true }]) {
      assert.equal(await outcome(await forged({ alg: "EdDSA", kid }, claims(), nothing), single), "TokenInvalid");
    }
  });

  for (const alg of ["none", "None", "NONE", "", "HS256", "HS512", "RS256", "ES256", "EdDSA ", 7, null, undefined]) {
    it(`that is empty is rejected with alg ${JSON.stringify(alg)}`, async () => {
      for (const kid of [first.kid, secret.kid, undefined]) {
        assert.equal(await outcome(await forged({ alg, kid }, claims(), nothing)), "TokenInvalid");
        const token = await forged({ alg, kid }, claims(), nothing);
        assert.equal(await outcome(token.slice(0, -1)), "TokenInvalid", "two parts");
      }
    });
  }

  it("by HMAC with the public key as secret is rejected, in every form of the key", async () => {
    const jwk = first.jwk;
    const pem = createPublicKey({ key: jwk as never, format: "jwk" });
    const forms = [
      Buffer.from(jwk.x ?? "", "base64url"),
      Buffer.from(jwk.x ?? ""),
      Buffer.from(JSON.stringify(jwk)),
      pem.export({ type: "spki", format: "pem" }),
      pem.export({ type: "spki", format: "der" }),
    ];
    for (const form of forms) {
      for (const alg of ["HS256", "EdDSA"]) {
        for (const keys of [KEYS, jwks(first)]) {
          const token = await forged({ alg, kid: first.kid }, claims(), hmac(Buffer.from(form)));
          assert.equal(await outcome(token, { ...settings, KEYS: keys }), "TokenInvalid");
        }
      }
    }
  });

  it("of one algorithm is not accepted for the other", async () => {
    const key = Buffer.from(secret.jwk.k ?? "", "base64url");
    assert.equal(await outcome(await forged({ alg: "HS256", kid: secret.kid }, claims(), hmac(key))), "ok");
    assert.equal(await outcome(await forged({ alg: "EdDSA", kid: secret.kid }, claims(), hmac(key))), "TokenInvalid");
    assert.equal(await outcome(await forged({ alg: "HS256", kid: first.kid }, claims(), hmac(key))), "TokenInvalid");
    const own = (octets: Uint8Array) => signBy(null, octets, { key: first.privateJwk as never, format: "jwk" });
    assert.equal(await outcome(await forged({ alg: "EdDSA", kid: first.kid }, claims(), own)), "ok");
    assert.equal(await outcome(await forged({ alg: "HS256", kid: first.kid }, claims(), own)), "TokenInvalid");
    assert.equal(await outcome(await forged({ alg: "none", kid: first.kid }, claims(), own)), "TokenInvalid");
  });

  it("cannot bring its own key or critical headers", async () => {
    const own = (octets: Uint8Array) => signBy(null, octets, { key: stranger.privateJwk as never, format: "jwk" });
    const jwk = { kty: "OKP", crv: "Ed25519", x: stranger.jwk.x };
    assert.equal(await outcome(await forged({ alg: "EdDSA", jwk }, claims(), own)), "TokenInvalid");
    assert.equal(await outcome(await forged({ alg: "EdDSA", kid: first.kid, jwk }, claims(), own)), "TokenInvalid");
    const good = (octets: Uint8Array) => signBy(null, octets, { key: first.privateJwk as never, format: "jwk" });
    for (const more of [{ crit: ["x"], x: 1 }, { crit: [] }, { b64: false, crit: ["b64"] }]) {
      assert.equal(
        await outcome(await forged({ alg: "EdDSA", kid: first.kid, ...more }, claims(), good)),
        "TokenInvalid",
      );
    }
  });
});

describe("a modified token", () => {
  it("is rejected with a reason, whatever was modified", async () => {
    const tokens = [await first.issue(), await secret.issue()];
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...tokens),
        fc.nat(),
        fc.constantFrom("cut", "change", "insert", "double"),
        fc.constantFrom(..."Aa0-_.=+/ \n\u0000é"),
        async (token, where, how, character) => {
          const at = where % token.length;
          const changed = {
            cut: token.slice(0, at),
            change: token.slice(0, at) + character + token.slice(at + 1),
            insert: token.slice(0, at) + character + token.slice(at),
            double: token + token.slice(at),
          }[how];
          if (changed === token) return;
          assert.notEqual(await outcome(changed), "ok", changed);
        },
      ),
      { numRuns: runs(1500) },
    );
  });

  it("is rejected even if only unused base64 bits differ", async () => {
    const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for (const token of [await first.issue(), await secret.issue()]) {
      const good: string[] = [];
      for (const last of alphabet) if ((await outcome(token.slice(0, -1) + last)) === "ok") good.push(last);
      assert.deepEqual(good, [token.at(-1)]);
    }
  });

  it("is rejected when it is garbage", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(
          fc.string({ unit: "binary" }),
          fc.tuple(fc.base64String(), fc.base64String(), fc.base64String()).map((parts) => parts.join(".")),
          fc
            .tuple(fc.json(), fc.json(), fc.base64String())
            .map(([header, claims, end]) =>
              [Buffer.from(header).toString("base64url"), Buffer.from(claims).toString("base64url"), end].join("."),
            ),
        ),
        async (garbage) => assert.equal(await outcome(garbage), "TokenInvalid"),
      ),
      { numRuns: runs(1000) },
    );
  });

  it("is rejected for its length before it is parsed", async () => {
    assert.equal(await outcome(await first.issue({ sub: "x".repeat(TOKEN_OCTETS) })), "TokenInvalid");
  });
});

describe("a key set", () => {
  const jwk = (change: Record<string, unknown>): JWK => ({ ...first.jwk, ...change });
  for (const [what, text] of [
    ["must be JSON", "first"],
    ["must have keys", "{}"],
    ["must have a list of keys", '{"keys":{}}'],
    ["must have at least one key", '{"keys":[]}'],
    ["must have objects as keys", '{"keys":[7]}'],
    ["must have a key of a supported kind", JSON.stringify({ keys: [{ kty: "RSA", n: "AQAB", e: "AQAB" }] })],
    ["must not have a private key", JSON.stringify({ keys: [first.privateJwk] })],
    ["must have complete keys", JSON.stringify({ keys: [jwk({ x: "AAAA" })] })],
    ["must have key material", JSON.stringify({ keys: [jwk({ x: undefined })] })],
    ["must have a key for verification", JSON.stringify({ keys: [jwk({ use: "enc" }), jwk({ key_ops: ["sign"] })] })],
    [
      "must have a key for a supported algorithm",
      JSON.stringify({ keys: [jwk({ alg: "HS256" }), jwk({ alg: "none" })] }),
    ],
    ["must have secrets of sufficient length", JSON.stringify({ keys: [{ kty: "oct", k: "c2hvcnQ" }] })],
    ["must have unique kids", JSON.stringify({ keys: [first.jwk, second.jwk, { ...second.jwk, kid: "first" }] })],
    ["must have kids that are strings", JSON.stringify({ keys: [jwk({ kid: 7 })] })],
    [
      "must have a limited number of keys",
      JSON.stringify({ keys: Array.from({ length: 33 }, (_, i) => jwk({ kid: `k${i}` })) }),
    ],
  ] as const) {
    it(what, async (context) => {
      const log = context.mock.method(console, "error", () => undefined);
      await assert.rejects(parseKeySet(text), (error: Error) => {
        assert.equal(error.name, "KeySetError");
        assert(!error.message.includes(first.jwk.x ?? ""), "no part of a key is shown");
        return true;
      });
      assert.equal(await outcome(await first.issue(), { ...settings, KEYS: text }), "KeysUnavailable");
      assert.equal(log.mock.callCount(), 1);
      const line = String(log.mock.calls[0]?.arguments[0]);
      assert(!line.includes(first.jwk.x ?? "") && !line.includes(String(first.privateJwk.d)), line);
    });
  }

  it("may contain keys of other kinds", async () => {
    const text = JSON.stringify({ keys: [{ kty: "RSA", n: "AQAB", e: "AQAB", kid: "rsa" }, first.jwk] });
    assert.equal(await outcome(await first.issue({}, { kid: undefined }), { ...settings, KEYS: text }), "ok");
  });
});

describe("a fetched key set", () => {
  let server: Server;
  let base: string;
  interface Answer {
    readonly status?: number;
    readonly body?: string;
    readonly headers?: Record<string, string>;
    /** Delay in milliseconds. */
    readonly after?: number;
  }
  const answers: Record<string, Answer> = {};
  let asked: string[] = [];
  before(async () => {
    mock.method(console, "warn", () => undefined);
    server = createServer((request, response) => {
      const path = request.url ?? "";
      asked.push(path);
      const { status = 200, body = "", headers = {}, after = 0 } = answers[path] ?? { status: 404 };
      setTimeout(() => response.writeHead(status, headers).end(body), after);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    assert(typeof address === "object" && address !== null);
    base = `http://127.0.0.1:${address.port}`;
  });
  after(() => {
    mock.restoreAll();
    server.close();
  });

  /** Settings of an edge that has fetched nothing yet; each has its own path. */
  let count = 0;
  function fresh(...issuers: Issuer[]): { path: string; settings: TokenSettings } {
    count += 1;
    const path = `/keys/${count}`;
    asked = [];
    answers[path] = { body: jwks(...issuers) };
    return { path, settings: { JWKS_URL: `${base}${path}`, RELAY_NAME: AUDIENCE } };
  }

  it("is cached: many tokens cause one fetch", async () => {
    const { path, settings } = fresh(first, second);
    const tokens = await Promise.all(Array.from({ length: 20 }, (_, i) => (i % 2 ? first : second).issue()));
    const outcomes = await Promise.all(tokens.map((token) => outcome(token, settings)));
    assert.deepEqual(new Set(outcomes), new Set(["ok"]));
    assert.equal(await outcome(tokens[0] ?? "", settings, NOW + FETCHED_AGE - 1), "ok");
    assert.deepEqual(asked, [path]);
  });

  it("is fetched again when a token names a new key; old keys expire", async () => {
    const { path, settings } = fresh(first);
    const [old, later] = [await first.issue(), await second.issue()];
    assert.equal(await outcome(old, settings), "ok");
    answers[path] = { body: jwks(second) };
    assert.equal(await outcome(later, settings, NOW + REFETCH_COOLDOWN), "ok", "an unknown kid triggers a fetch");
    assert.equal(await outcome(old, settings, NOW + REFETCH_COOLDOWN), "TokenInvalid", "although it is cached");
    answers[path] = { body: jwks(first) };
    assert.equal(await outcome(later, settings, NOW + REFETCH_COOLDOWN + FETCHED_AGE - 1), "ok", "not yet");
    assert.equal(await outcome(later, settings, NOW + REFETCH_COOLDOWN + FETCHED_AGE), "TokenInvalid");
    assert.equal(await outcome(old, settings, NOW + REFETCH_COOLDOWN + FETCHED_AGE), "ok");
    assert.equal(asked.length, 3);
  });

  it("is not fetched again for every unknown kid", async () => {
    const { settings } = fresh(first);
    assert.equal(await outcome(await first.issue(), settings), "ok");
    for (let i = 0; i < 50; i += 1) {
      const token = await stranger.issue({}, { kid: `made-up-${i}` });
      assert.equal(await outcome(token, settings, NOW + i), "TokenInvalid");
    }
    assert.equal(asked.length, 1, "within the cooldown of the first fetch");
    await outcome(await stranger.issue({}, { kid: "x" }), settings, NOW + REFETCH_COOLDOWN);
    await outcome(await stranger.issue({}, { kid: "y" }), settings, NOW + REFETCH_COOLDOWN + 1);
    assert.equal(asked.length, 2);
  });

  it("stays in use for a while when the server fails, and is refreshed when it is back", async () => {
    const { path, settings } = fresh(first);
    const token = await first.issue({ exp: seconds(100_000) });
    assert.equal(await outcome(token, settings), "ok");
    const good = answers[path];
    for (const [i, bad] of [
      { status: 500, body: "" },
      { status: 302, body: "", headers: { Location: "/elsewhere" } },
      { body: "no keys" },
      { body: " ".repeat(JWKS_OCTETS) + jwks(first) },
    ].entries()) {
      answers[path] = bad;
      assert.equal(await outcome(token, settings, NOW + FETCHED_AGE * (i + 1)), "ok");
    }
    assert(!asked.includes("/elsewhere"), "redirects are not followed");
    assert.equal(await outcome(token, settings, NOW + STALE), "ok");
    assert.equal(await outcome(token, settings, NOW + STALE + REFETCH_COOLDOWN), "KeysUnavailable");
    if (good) answers[path] = good;
    assert.equal(await outcome(token, settings, NOW + STALE + 2 * REFETCH_COOLDOWN), "ok");
  });

  for (const [what, change, reason] of [
    ["a revoked token", (path: string) => (answers[`${path}/revoked`] = { body: '["r"]', after: 100 }), "TokenRevoked"],
    ["a removed key", (path: string) => (answers[path] = { body: jwks(second), after: 100 }), "TokenInvalid"],
  ] as const) {
    it(`is awaited by all concurrent requests, which are all refused (${what})`, async () => {
      const { path, settings } = fresh(first, second);
      answers[`${path}/revoked`] = { body: "[]" };
      const listed = { ...settings, REVOKED_URL: `${base}${path}/revoked` };
      const token = await first.issue({ jti: "r" });
      const letIn = await authenticate(token, listed, NOW);
      assert(letIn.type === "ok");
      change(path);
      const later = NOW + 112_000;
      const outcomes = await Promise.all(Array.from({ length: 4 }, () => outcome(token, listed, later)));
      assert.deepEqual(outcomes, Array(4).fill(reason));
      assert.equal(asked.filter((one) => one === path).length, 2, "one of them fetched the key set again");
      const connected = await current(letIn.principal, listed, later);
      assert.equal(connected.type === "refused" && connected.reason, reason, "a connected device must leave too");
    });
  }

  it("is fetched by a waiting request when the request that started the fetch is gone", {
    timeout: 20_000,
  }, async (t) => {
    const { path, settings } = fresh(first);
    const token = await first.issue();
    const real = globalThis.fetch;
    let calls = 0;
    // When the platform cancels a request, the promises it started never settle.
    t.mock.method(globalThis, "fetch", (...args: Parameters<typeof fetch>) => {
      calls += 1;
      return calls === 1 ? new Promise(() => undefined) : real(...args);
    });
    void outcome(token, settings);
    const outcomes = await Promise.all(Array.from({ length: 4 }, (_, at) => outcome(token, settings, NOW + at)));
    assert.deepEqual(outcomes, Array(4).fill("ok"));
    assert.deepEqual([calls, asked], [2, [path]], "one of them fetched it");
  });

  it("is fetched again after the clock was set back", async () => {
    const { path, settings } = fresh(first);
    const token = await first.issue();
    assert.equal(await outcome(token, settings, NOW + 1_800_000), "ok");
    answers[path] = { body: jwks(second) };
    assert.equal(await outcome(token, settings, NOW), "TokenInvalid");
    answers[path] = { status: 500 };
    assert.equal(await outcome(token, settings, NOW - 1_800_000), "TokenInvalid");
    answers[path] = { body: jwks(first) };
    assert.equal(await outcome(token, settings, NOW - 3_000_000), "ok");
  });

  it("dates the token check by the older of key set and revocation list", async () => {
    const { path, settings } = fresh(first);
    answers[`${path}/revoked`] = { body: "[]" };
    const token = await first.issue({ exp: seconds(100_000) });
    const asOf = async (with_: TokenSettings, now: number) => {
      const answer = await authenticate(token, with_, now);
      assert(answer.type === "ok");
      const connected = await current(answer.principal, with_, now);
      assert(connected.type === "ok");
      assert.equal(connected.asOf, answer.asOf);
      return answer.asOf - NOW;
    };
    assert.equal(await asOf(settings, NOW), 0);
    const listed = { ...settings, REVOKED_URL: `${base}${path}/revoked` };
    assert.equal(await asOf(listed, NOW + 15_000), 0, "the keys are older");
    assert.equal(await asOf(listed, NOW + FETCHED_AGE), 15_000, "now it is the list");
    answers[`${path}/revoked`] = { status: 500 };
    assert.equal(await asOf(listed, NOW + 36_000), FETCHED_AGE, "the failure is known since 36 s");
    assert.equal(await asOf({ KEYS, RELAY_NAME: AUDIENCE }, NOW + 7), 7, "what is not fetched is always current");
  });

  it("is reported and counted in the log when the fetch fails", async (t) => {
    const { path, settings } = fresh(first);
    const token = await first.issue();
    assert.equal(await outcome(token, settings), "ok");
    answers[path] = { status: 503 };
    const warned = t.mock.method(console, "warn", () => undefined);
    for (const at of [0, 1, REFETCH_COOLDOWN]) await outcome(token, settings, NOW + FETCHED_AGE + at);
    const lines = warned.mock.calls.map((call) => JSON.parse(String(call.arguments[0])));
    const why = { reason: "KeysUnavailable", what: "key set", why: "the server answered with status 503" };
    assert.deepEqual(lines, [
      { ...why, failures: 1, judgedByTheLast: 0, seconds: 20 },
      { ...why, failures: 2, judgedByTheLast: 2, seconds: 25 },
    ]);
  });

  it("that was never available rejects every token", async () => {
    const { path, settings } = fresh(first);
    answers[path] = { status: 500, body: "" };
    assert.equal(await outcome(await first.issue(), settings), "KeysUnavailable");
    assert.equal(
      await outcome(await first.issue(), { ...settings, JWKS_URL: "http://127.0.0.1:1/" }),
      "KeysUnavailable",
    );
    assert.equal(await outcome(await first.issue(), { ...settings, JWKS_URL: "no URL" }), "KeysUnavailable");
  });

  it("complements the keys of KEYS", async () => {
    const { settings } = fresh(second);
    const both = { ...settings, KEYS: jwks(first) };
    assert.equal(await outcome(await first.issue(), both), "ok");
    assert.equal(await outcome(await second.issue(), both), "ok");
    assert.equal(await outcome(await first.issue({}, { kid: undefined }), both), "TokenInvalid", "there are several");
  });

  it("can be combined with a revocation list that is fetched periodically", async () => {
    const url = `${base}/revoked`;
    const listed = { ...settings, REVOKED_URL: url };
    const [one, other] = [await first.issue({ jti: "r1" }), await first.issue({ jti: "r2" })];
    answers["/revoked"] = { body: "[]" };
    assert.equal(await outcome(one, listed), "ok");
    answers["/revoked"] = { body: '["r1"]' };
    assert.equal(await outcome(one, listed, NOW + FETCHED_AGE - 1), "ok");
    assert.equal(await outcome(one, listed, NOW + FETCHED_AGE), "TokenRevoked", "although it is cached");
    assert.equal(await outcome(other, listed, NOW + FETCHED_AGE), "ok");
    for (const body of ["", "{}", "[1]", '"r2"']) {
      answers["/revoked"] = { body };
      assert.equal(await outcome(one, listed, NOW + 3 * FETCHED_AGE), "TokenRevoked", "a broken list is ignored");
    }
    assert.equal(await outcome(other, { ...settings, REVOKED_URL: `${base}/nothing` }), "KeysUnavailable");
  });
});

describe("REVOKED", () => {
  it("lists revoked tokens by jti, separated by commas", async () => {
    const token = await first.issue({ jti: "r3" });
    for (const [REVOKED, expected] of [
      ["", "ok"],
      ["r", "ok"],
      ["r33,R3,jti:r3", "ok"],
      ["r3", "TokenRevoked"],
      ["x, r3 ,y", "TokenRevoked"],
    ] as const) {
      assert.equal(await outcome(token, { ...settings, REVOKED }), expected, REVOKED);
    }
  });
});
