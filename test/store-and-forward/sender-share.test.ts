/** The shares of senders: who is suspended, refused or resumed, and that there is always room for the next. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import {
  type Amount,
  hasRoom,
  isAtMark,
  isEasy,
  isPlenty,
  longestIn,
  mayGoOn,
  QUOTA,
  type Quota,
  RESERVE,
  roomFor,
  senderOf,
} from "../../src/store-and-forward/sender-share.ts";

const MIB = 1024 * 1024;

function sum(amounts: readonly Amount[]): Amount {
  return amounts.reduce((all, one) => ({ octets: all.octets + one.octets, messages: all.messages + one.messages }), {
    octets: 0,
    messages: 0,
  });
}

const plus = (one: Amount, octets: number): Amount => ({ octets: one.octets + octets, messages: one.messages + 1 });

/** Lets senders add messages of a size in turn until none may add another. Returns the totals per sender. */
function filled(quota: Quota, senders: number, size: number, reserve: boolean): Amount[] {
  const own = Array.from({ length: senders }, (): Amount => ({ octets: 0, messages: 0 }));
  for (let more = true; more; ) {
    more = false;
    for (const [at, one] of own.entries()) {
      const after = plus(one, size);
      if (!hasRoom(after, plus(sum(own), size), quota, reserve)) continue;
      own[at] = after;
      more = true;
    }
  }
  return own;
}

const quotas = fc.record({
  octets: fc.integer({ min: MIB, max: 512 * MIB }),
  messages: fc.integer({ min: 16, max: 200_000 }),
  share: fc.double({ min: 0.01, max: 0.9, noNaN: true }),
});
const amounts = (quota: Quota) =>
  fc.record({
    octets: fc.integer({ min: 0, max: quota.octets }),
    messages: fc.integer({ min: 0, max: quota.messages }),
  });

describe("a share", () => {
  it("is the part of the quota one sender may fill, and the same part of the rest for the next", () => {
    const quota = { octets: 1000 * MIB, messages: 1000, share: 0.5 };
    assert.equal(filled(quota, 1, 1, false)[0]?.messages, 500);
    assert.deepEqual(
      filled({ ...quota, share: 0.75 }, 1, 1, false).map(({ messages }) => messages),
      [750],
    );
    const three = filled(quota, 3, 1, false);
    assert.ok(three.every(({ messages }) => messages === 250));
  });

  it("leaves room for the next sender, however many ignore suspension", () => {
    for (const quota of [QUOTA, { ...QUOTA, octets: 16 * MIB }, { ...QUOTA, share: 0.1 }]) {
      for (const senders of [1, 3, 12]) {
        const all = sum(filled(quota, senders, 256 * 1024, true));
        assert.ok(all.octets < quota.octets);
        const size = 10_000;
        assert.ok(hasRoom(plus({ octets: 0, messages: 0 }, size), plus(all, size), quota, false), `${senders}`);
      }
    }
  });

  it("has a reserve for a device's outstanding messages and the longest message", () => {
    const at = { octets: QUOTA.octets * QUOTA.share, messages: 1 };
    assert.ok(isAtMark(at, at, QUOTA));
    const more = { octets: at.octets + 20 * MIB - 1000, messages: 100 };
    assert.ok(hasRoom(more, more, QUOTA, true) && !hasRoom(more, more, QUOTA, false));
    const tooMuch = { octets: at.octets + RESERVE.octets + 1, messages: 100 };
    assert.ok(!hasRoom(tooMuch, tooMuch, QUOTA, true));
    // In a small queue, what is in flight without the longest message.
    const small = { ...QUOTA, octets: 16 * MIB };
    const nearly = { octets: 12.5 * MIB, messages: 13 };
    assert.ok(hasRoom(nearly, nearly, small, true));
  });

  it("is consistent: a refused sender was at its mark, one that may resume is not, and the quota is never exceeded", () => {
    fc.assert(
      fc.property(
        quotas.chain((quota) => fc.tuple(fc.constant(quota), amounts(quota), amounts(quota))),
        ([quota, own, others]) => {
          const all = sum([own, others]);
          const room = roomFor(own, all, quota);
          if (hasRoom(own, all, quota, false)) {
            assert.ok(all.octets <= quota.octets && all.messages <= quota.messages);
            assert.ok(hasRoom(own, all, quota, true), "a reserve never reduces the room");
            const full = { octets: own.octets + room.octets, messages: own.messages + room.messages };
            assert.ok(hasRoom(full, sum([full, others]), quota, false), "the reported room is available");
            const over = { octets: full.octets + 2, messages: full.messages };
            assert.ok(!hasRoom(over, sum([over, others]), quota, false), "and no more");
          } else assert.ok(own.messages === 0 || isAtMark(own, all, quota) || all.octets > quota.octets);
          if (own.messages > 0 && mayGoOn(own, all, quota)) assert.ok(!isAtMark(own, all, quota) || own.octets === 0);
          if (isPlenty(all, quota)) assert.ok(!isAtMark(own, all, quota));
          if (isEasy(all, quota)) assert.ok(mayGoOn(own, all, quota));
          if (own.messages === 0 && own.octets === 0 && all.octets <= quota.octets && all.messages <= quota.messages)
            assert.ok(mayGoOn(own, all, quota), "a sender with nothing waiting is not suspended");
        },
      ),
      { numRuns: 2000 },
    );
  });

  it("is available as reported, although its figures are fractions", () => {
    const quota = { octets: 1_048_599, messages: 96_607, share: 0.8999999999999999 };
    const others = { octets: 0, messages: 96_597 };
    const room = roomFor({ octets: 0, messages: 0 }, others, quota);
    assert.ok(hasRoom(room, sum([room, others]), quota, false));
  });

  it("is counted per identity with all its devices, and per relay with all its peers", () => {
    assert.equal(senderOf("grooveDevice://alice/pc"), "grooveDevice://alice");
    assert.equal(senderOf("grooveDevice://alice/phone"), "grooveDevice://alice");
    assert.equal(senderOf("grooveDNS://relay.example.com"), "grooveDNS://relay.example.com");
    assert.equal(longestIn({ ...QUOTA, octets: 8 * MIB }), 4 * MIB);
  });
});
