/** The room that a mailbox reserves in the accounts of its senders. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { LARGE_PIECE, LEAST_PIECE } from "../../../src/edge/admission/limits.ts";
import { pieceFor } from "../../../src/edge/admission/sender-account.ts";
import { Reservations } from "../../../src/edge/mailbox/reservations.ts";
import type { Facts } from "../../../src/edge/mailbox/room-waiters.ts";

function started() {
  const kept = new Map<string, string>();
  const facts: Facts = {
    facts: (prefix) =>
      [...kept].filter(([name]) => name.startsWith(prefix)).map(([name, value]) => [name.slice(prefix.length), value]),
    setFact: (name, value) => void kept.set(name, value),
    removeFact: (name) => void kept.delete(name),
  };
  return { kept, reservations: new Reservations(facts), woken: () => new Reservations(facts) };
}

describe("a reservation", () => {
  it("is a piece that is enough, and at most four times too large", () => {
    assert.equal(pieceFor(0), 0);
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2 ** 32 }), (octets) => {
        const piece = pieceFor(octets);
        assert.ok(piece >= octets && (piece === LEAST_PIECE || piece < 2 * octets || piece - octets < LARGE_PIECE));
      }),
    );
  });

  it("covers what fits, after loss of memory too, and counts exactly only when it must", () => {
    const { reservations, woken } = started();
    reservations.set("alice", 100);
    let counted = 0;
    const inUse = (all: number, own: number) => ({
      all,
      of: () => {
        counted += 1;
        return own;
      },
    });
    assert.ok(reservations.cover("alice", 60, inUse(0, 0)));
    assert.ok(woken().cover("alice", 40, inUse(60, 60)));
    assert.equal(counted, 0);
    assert.ok(!reservations.cover("alice", 41, inUse(60, 60)));
    assert.ok(reservations.cover("alice", 100, inUse(500, 0)), "the rest is of others");
    assert.ok(!reservations.cover("bob", 1, inUse(0, 0)));
    assert.equal(counted, 3);
  });

  it("is due when it is much too large, or when more was stored without asking", () => {
    const { reservations, kept } = started();
    reservations.set("alice", 4 * LEAST_PIECE);
    assert.deepEqual(reservations.due(new Map([["alice", 2 * LEAST_PIECE]]), true), []);
    assert.deepEqual(reservations.due(new Map([["alice", 1]]), false), [["alice", LEAST_PIECE]]);
    const more = new Map([
      ["alice", 5 * LEAST_PIECE],
      ["bob", 1],
    ]);
    assert.deepEqual(reservations.due(more, false), []);
    assert.deepEqual(reservations.due(more, true), [
      ["alice", 8 * LEAST_PIECE],
      ["bob", LEAST_PIECE],
    ]);
    assert.deepEqual(reservations.due(new Map(), false), [["alice", 0]]);
    reservations.set("alice", 0);
    assert.deepEqual([reservations.some, kept.size], [false, 0]);
  });
});
