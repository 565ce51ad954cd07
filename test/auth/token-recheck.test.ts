/** How long a token check is valid, and what happens when it expires. */
import assert from "node:assert/strict";
import { beforeEach, describe, it, mock, type TestContext } from "node:test";
import { CONNECTED_AGE, CONNECTING_AGE, FETCH_TIMEOUT, FETCHED_AGE, RENEWAL_AGE } from "../../src/auth/limits.ts";
import { isSameBearer, NOBODY, type Principal } from "../../src/auth/principal.ts";
import { Standing } from "../../src/auth/token-recheck.ts";
import { authenticate, type TokenSettings } from "../../src/auth/verify-token.ts";
import { AUDIENCE, type Claims, ed25519, jwks } from "../edge/issuer.ts";

const issuer = await ed25519();
const NOW = 1_800_000_000_000;
const seconds = (offset: number) => NOW / 1000 + offset;

async function bearerOf(claims: Claims = {}): Promise<Principal> {
  const token = await issuer.issue({ jti: "one", exp: seconds(3600), ...claims });
  const answer = await authenticate(token, { KEYS: jwks(issuer), RELAY_NAME: AUDIENCE }, NOW);
  assert(answer.type === "ok", JSON.stringify(answer));
  return answer.principal;
}

/** A connection whose bearer is checked with settings that the test may change. */
class Line {
  readonly settings: { -readonly [K in keyof TokenSettings]: TokenSettings[K] } = { KEYS: jwks(issuer), REVOKED: "" };
  readonly ended: string[] = [];
  readonly renewals: Promise<unknown>[] = [];
  readonly standing: Standing;

  constructor(bearer?: Principal, asOf = NOW) {
    this.standing = new Standing(
      this.settings,
      (promise) => this.renewals.push(promise),
      (reason) => this.ended.push(reason),
    );
    if (bearer !== undefined) this.standing.show(bearer, asOf);
  }

  connected(): this {
    this.standing.connected();
    return this;
  }
}

function clock(t: TestContext): { to(offset: number): void } {
  t.mock.timers.enable({ apis: ["Date"], now: NOW });
  return { to: (offset) => t.mock.timers.setTime(NOW + offset) };
}

describe("a token check", () => {
  beforeEach(() => mock.method(console, "warn", () => undefined));

  it("is valid for less than 30 s while the device connects, then for less than 60 s", async (t) => {
    const time = clock(t);
    const line = new Line(await bearerOf());
    time.to(CONNECTING_AGE - 1);
    assert(line.standing.fresh());
    time.to(CONNECTING_AGE);
    assert(!line.standing.fresh());
    line.connected();
    assert(line.standing.fresh());
    time.to(CONNECTED_AGE);
    assert(!line.standing.fresh());
    assert(FETCHED_AGE < CONNECTING_AGE && CONNECTING_AGE <= 30_000);
    assert(FETCHED_AGE < RENEWAL_AGE && RENEWAL_AGE + 3 * FETCH_TIMEOUT < CONNECTED_AGE && CONNECTED_AGE < 60_000);
  });

  it("is renewed once in the background before it expires", async (t) => {
    const time = clock(t);
    const line = new Line(await bearerOf()).connected();
    time.to(RENEWAL_AGE - 1);
    assert(line.standing.fresh());
    assert.equal(line.renewals.length, 0);
    time.to(RENEWAL_AGE);
    for (let i = 0; i < 3; i += 1) assert(line.standing.fresh());
    assert.equal(new Set(line.renewals).size, 1);
    await Promise.all(line.renewals);
    time.to(RENEWAL_AGE + RENEWAL_AGE - 1);
    assert(line.standing.fresh());
    assert.equal(new Set(line.renewals).size, 1);
  });

  it("that has expired is repeated before data is delivered, once for all waiters", async (t) => {
    const time = clock(t);
    const line = new Line(await bearerOf()).connected();
    line.settings.REVOKED = "one";
    time.to(CONNECTED_AGE);
    assert(!line.standing.fresh());
    assert.deepEqual(line.ended, [], "not before the result is known");
    assert.deepEqual(await Promise.all([line.standing.judge(), line.standing.judge()]), [false, false]);
    assert.deepEqual(line.ended, ["TokenRevoked"]);
  });

  for (const [what, change, reason] of [
    ["revoked", (line: Line) => (line.settings.REVOKED = "one"), "TokenRevoked"],
    ["verified by a key that is gone", (line: Line) => (line.settings.KEYS = ""), "TokenInvalid"],
    ["impossible to check", (line: Line) => (line.settings.REVOKED_URL = "no URL"), "KeysUnavailable"],
  ] as const) {
    it(`ends the connection with a reason when the token is ${what}`, async (t) => {
      clock(t);
      const line = new Line(await bearerOf(), 0).connected();
      assert(!line.standing.fresh(), "the age of an earlier check is unknown");
      change(line);
      assert(!(await line.standing.judge()));
      assert.deepEqual(line.ended, [reason]);
    });
  }

  it("expires with the token", async (t) => {
    const time = clock(t);
    const bearer = await bearerOf({ exp: seconds(-20) });
    const line = new Line(bearer).connected();
    time.to(9999);
    assert(line.standing.fresh());
    time.to(10_000);
    assert(!line.standing.fresh() && !(await line.standing.judge()));
    assert.deepEqual(line.ended, ["TokenExpired"]);
  });

  it("is repeated after the clock was set back", async (t) => {
    const time = clock(t);
    time.to(1000);
    const line = new Line(await bearerOf(), NOW + 1000).connected();
    assert(line.standing.fresh());
    time.to(999);
    assert(!line.standing.fresh());
    assert(await line.standing.judge());
    assert(line.standing.fresh());
  });

  it("is repeated by the patrol until the token is rejected", async (t) => {
    t.mock.timers.enable({ apis: ["Date", "setTimeout"], now: NOW });
    const line = new Line(await bearerOf()).connected();
    line.standing.patrol();
    const pass = async (milliseconds: number) => {
      t.mock.timers.tick(milliseconds);
      for (let i = 0; i < 50; i += 1) await Promise.resolve();
    };
    for (let i = 0; i < 3; i += 1) await pass(RENEWAL_AGE);
    assert(line.standing.fresh());
    line.settings.REVOKED = "one";
    await pass(RENEWAL_AGE - 1);
    assert.deepEqual(line.ended, []);
    await pass(1);
    assert.deepEqual(line.ended, ["TokenRevoked"]);
    await pass(10 * RENEWAL_AGE);
    assert.equal(line.ended.length, 1);
  });

  it("is not needed for a bearer without a token", async (t) => {
    const time = clock(t);
    const line = new Line(NOBODY).connected();
    time.to(3600_000);
    assert(line.standing.fresh());
    assert(await line.standing.judge());
    t.mock.timers.reset();
    line.standing.patrol();
  });

  it("uses the token with the latest expiry of those the bearer has shown", async (t) => {
    const time = clock(t);
    const [old, newer] = [await bearerOf(), await bearerOf({ jti: "two", exp: seconds(7200) })];
    const line = new Line(old).connected();
    line.standing.show(newer, NOW);
    line.standing.show(old, NOW);
    assert.equal(line.standing.bearer, newer);
    line.settings.REVOKED = "one";
    time.to(3700_000);
    assert(await line.standing.judge(), "the earlier token is no longer checked");
    line.settings.REVOKED = "two";
    assert(!(await line.standing.judge()));
  });

  it("of an older token does not end a connection that has shown a newer one", async (t) => {
    clock(t);
    const [old, newer] = [await bearerOf(), await bearerOf({ jti: "two", exp: seconds(7200) })];
    const line = new Line(old, 0).connected();
    line.settings.REVOKED = "one";
    const judging = line.standing.judge();
    line.standing.show(newer, NOW);
    assert(await judging);
    assert.deepEqual(line.ended, []);
  });
});

describe("two tokens", () => {
  it("belong to the same bearer when subject and rights are equal", async () => {
    const one = await bearerOf({ sub: "alice" });
    for (const [claims, expected] of [
      [{}, true],
      [{ jti: undefined, exp: seconds(7200) }, true],
      [{ sub: "bob" }, false],
      [{ sub: undefined }, false],
      [{ address: "alice/phone" }, false],
      [{ scope: "connect receive" }, false],
      [{ scope: "connect receive send:* admin" }, false],
    ] as const) {
      const other = await bearerOf({ sub: "alice", jti: "two", ...claims });
      assert.equal(isSameBearer(one, other), expected, JSON.stringify(claims));
    }
    assert(!isSameBearer(one, NOBODY) && !isSameBearer(NOBODY, one));
  });
});
