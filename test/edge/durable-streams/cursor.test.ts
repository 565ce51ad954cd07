/** Cursors, which keep caches from answering for ever. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { nextCursor } from "../../../src/edge/durable-streams/cursor.ts";
import { CURSOR_INTERVAL, CURSOR_ORIGIN } from "../../../src/edge/durable-streams/limits.ts";

const times = fc.integer({ min: CURSOR_ORIGIN, max: CURSOR_ORIGIN + 1e12 });
const below1 = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

describe("a cursor", () => {
  it("is the number of the interval", () => {
    assert.equal(nextCursor(undefined, CURSOR_ORIGIN + 3 * CURSOR_INTERVAL, 0), "3");
    assert.equal(nextCursor("2", CURSOR_ORIGIN + 3 * CURSOR_INTERVAL, 0.9), "3");
  });

  it("is greater than the one that was sent, by an hour at most", () => {
    fc.assert(
      fc.property(times, below1, fc.nat({ max: 1e9 }), (now, random, ahead) => {
        const sent = Number(nextCursor(undefined, now, random)) + ahead;
        const next = Number(nextCursor(String(sent), now, random));
        assert.ok(next > sent && next <= sent + 180);
      }),
    );
  });

  it("does not go by what is none", () => {
    for (const sent of ["", "x", "-5", "1e9", "99999999999999999999", " 7"]) {
      assert.equal(nextCursor(sent, CURSOR_ORIGIN, 0), "0", sent);
    }
    assert.equal(nextCursor(undefined, 0, 0), "0");
  });
});
