/** How long streams live. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import {
  ENDLESS,
  endOf,
  forkedLifetime,
  isSameLifetime,
  type Lifetime,
  readLifetime,
} from "../../../src/edge/durable-streams/expiry.ts";

function read(ttl: string | null, expiresAt: string | null): Lifetime {
  const lifetime = readLifetime(ttl, expiresAt);
  return lifetime.ok ? lifetime.value : assert.fail(lifetime.problems);
}

describe("a lifetime", () => {
  it("counts from the last use, or is a time", () => {
    assert.equal(endOf(read("60", null), 1000), 61_000);
    assert.equal(endOf(read(null, "2030-01-31T12:00:00Z"), 1000), Date.UTC(2030, 0, 31, 12));
    assert.equal(endOf(read(null, "2030-01-31T14:00:00.5+02:00"), 0), Date.UTC(2030, 0, 31, 12, 0, 0, 500));
    assert.equal(endOf(read(null, null), 1000), Number.POSITIVE_INFINITY);
  });

  it("is one of the two, and written as the protocol says", () => {
    for (const ttl of ["", "-1", "+1", "01", "1.5", "1e3", " 1", "99999999999", "x"]) {
      assert.equal(readLifetime(ttl, null).ok, false, ttl);
    }
    for (const time of ["", "tomorrow", "2030-01-31", "2030-01-31T12:00:00", "2030-13-31T12:00:00Z", "1893456000"]) {
      assert.equal(readLifetime(null, time).ok, false, time);
    }
    assert.equal(readLifetime("60", "2030-01-31T12:00:00Z").ok, false);
  });

  it("is read or refused, whatever is written", () => {
    fc.assert(
      fc.property(fc.option(fc.string()), fc.option(fc.string()), (ttl, expiresAt) => {
        const lifetime = readLifetime(ttl, expiresAt);
        assert.ok(!lifetime.ok || endOf(lifetime.value, 0) >= Number.MIN_SAFE_INTEGER);
      }),
    );
  });

  it("of a fork is what it asks for, or else its source's", () => {
    const [idle, until] = [read("60", null), read(null, "2030-01-31T12:00:00Z")];
    for (const [source, wanted, expected] of [
      [ENDLESS, ENDLESS, ENDLESS],
      [ENDLESS, idle, idle],
      [idle, ENDLESS, idle],
      [until, ENDLESS, until],
      [idle, until, until],
      [until, idle, idle],
    ] as const) {
      assert.equal(forkedLifetime(source, wanted), expected);
    }
  });

  it("is the same if it ends at the same time", () => {
    assert.ok(isSameLifetime(read(null, "2030-01-31T12:00:00Z"), read(null, "2030-01-31T13:00:00+01:00")));
    assert.ok(!isSameLifetime(read("60", null), read("61", null)));
    assert.ok(!isSameLifetime(read("60", null), ENDLESS));
  });
});
