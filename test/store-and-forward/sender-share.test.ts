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
  relayOfSender,
  roomFor,
  senderOf,
  senderOfMessage,
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
      if (!hasRoom({ own: after, all: plus(sum(own), size) }, quota, reserve)) continue;
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
        assert.ok(
          hasRoom({ own: plus({ octets: 0, messages: 0 }, size), all: plus(all, size) }, quota, false),
          `${senders}`,
        );
      }
    }
  });

  it("has a reserve for a device's outstanding messages and the longest message", () => {
    const at = { octets: QUOTA.octets * QUOTA.share, messages: 1 };
    assert.ok(isAtMark({ own: at, all: at }, QUOTA));
    const more = { octets: at.octets + 20 * MIB - 1000, messages: 100 };
    assert.ok(hasRoom({ own: more, all: more }, QUOTA, true) && !hasRoom({ own: more, all: more }, QUOTA, false));
    const tooMuch = { octets: at.octets + RESERVE.octets + 1, messages: 100 };
    assert.ok(!hasRoom({ own: tooMuch, all: tooMuch }, QUOTA, true));
    // In a small queue, what is in flight without the longest message.
    const small = { ...QUOTA, octets: 16 * MIB };
    const nearly = { octets: 12.5 * MIB, messages: 13 };
    assert.ok(hasRoom({ own: nearly, all: nearly }, small, true));
  });

  it("is consistent: a refused sender was at its mark, one that may resume is not, and the quota is never exceeded", () => {
    fc.assert(
      fc.property(
        quotas.chain((quota) => fc.tuple(fc.constant(quota), amounts(quota), amounts(quota))),
        ([quota, own, others]) => {
          const all = sum([own, others]);
          const room = roomFor(own, all, quota);
          if (hasRoom({ own, all }, quota, false)) {
            assert.ok(all.octets <= quota.octets && all.messages <= quota.messages);
            assert.ok(hasRoom({ own, all }, quota, true), "a reserve never reduces the room");
            const full = { octets: own.octets + room.octets, messages: own.messages + room.messages };
            assert.ok(hasRoom({ own: full, all: sum([full, others]) }, quota, false), "the reported room is available");
            const over = { octets: full.octets + 2, messages: full.messages };
            assert.ok(!hasRoom({ own: over, all: sum([over, others]) }, quota, false), "and no more");
          } else assert.ok(own.messages === 0 || isAtMark({ own, all }, quota) || all.octets > quota.octets);
          if (own.messages > 0 && mayGoOn({ own, all }, quota)) {
            assert.ok(!isAtMark({ own, all }, quota) || own.octets === 0);
          }
          if (isPlenty(all, quota)) assert.ok(!isAtMark({ own, all }, quota));
          if (isEasy(all, quota)) assert.ok(mayGoOn({ own, all }, quota));
          if (own.messages === 0 && own.octets === 0 && all.octets <= quota.octets && all.messages <= quota.messages)
            assert.ok(mayGoOn({ own, all }, quota), "a sender with nothing waiting is not suspended");
        },
      ),
      { numRuns: 2000 },
    );
  });

  it("is available as reported, although its figures are fractions", () => {
    const quota = { octets: 1_048_599, messages: 96_607, share: 0.8999999999999999 };
    const others = { octets: 0, messages: 96_597 };
    const room = roomFor({ octets: 0, messages: 0 }, others, quota);
    assert.ok(hasRoom({ own: room, all: sum([room, others]) }, quota, false));
  });

  it("of a relay is shared by the identities that it speaks for, and none of them can fill it", () => {
    const quota = { octets: 1000 * MIB, messages: 1000, share: 0.5 };
    const add = (own: Amount[], at: number): boolean => {
      const after = plus(own[at] ?? sum([]), 1);
      const ofRelay = plus(sum(own), 1);
      if (!hasRoom({ own: after, ofRelay, all: ofRelay }, quota, false)) return false;
      own[at] = after;
      return true;
    };
    const fill = (own: Amount[], at: number): number => {
      while (add(own, at));
      return own[at]?.messages ?? 0;
    };
    const own: Amount[] = [];
    assert.equal(fill(own, 0), 250, "the first has half of what the relay may have");
    assert.ok(isAtMark({ own: sum(own), ofRelay: sum(own), all: sum(own) }, quota));
    assert.equal(fill(own, 1), 125, "the next has half of the rest");
    for (let at = 2; at < 8; at += 1) assert.ok(fill(own, at) > 0);
    assert.ok(sum(own).messages <= 500, "all of them have no more than the relay alone");
    const other = { messages: 250, octets: 250 };
    assert.ok(hasRoom({ own: other, all: sum([...own, other]) }, quota, false), "and others have their share");
  });

  it("of a relay lets an identity resume when it has half of its own, whatever the others have", () => {
    const quota = { octets: 1000 * MIB, messages: 1000, share: 0.5 };
    const others = { messages: 200, octets: 0 };
    const held = (messages: number) => {
      const own = { messages, octets: 0 };
      return { own, ofRelay: sum([own, others]), all: sum([own, others]) };
    };
    const mark = 150;
    assert.ok(isAtMark(held(mark), quota) && !isAtMark(held(mark - 1), quota));
    assert.ok(!mayGoOn(held(101), quota) && mayGoOn(held(99), quota));
  });

  it("is that of the identity for which a relay vouches", () => {
    const relay = "grooveDNS://relay.example.com";
    const of = (id: string) => senderOfMessage(relay, id);
    assert.equal(of("1@alice/pc@relay.example.com"), `${relay} alice`);
    assert.equal(of("2@alice@relay.example.com"), `${relay} alice`);
    assert.equal(relayOfSender(of("1@alice/pc@relay.example.com")), relay);
    assert.equal(of("1@grooveDNS%3A%2F%2Frelay.example.com"), relay, "for which it does not vouch");
    assert.equal(of(""), relay);
    assert.equal(relayOfSender(relay), undefined);
    assert.equal(senderOfMessage("grooveDevice://alice/pc", "1@bob/pc@relay.example.com"), "grooveDevice://alice");
    assert.equal(relayOfSender("grooveDevice://alice"), undefined);
    const long = of(`1@${"a".repeat(500)}/pc@relay.example.com`);
    assert.ok(long.length < 100 && long !== of(`1@${"b".repeat(500)}/pc@relay.example.com`));
  });

  it("is counted per identity with all its devices, and per relay with all its peers", () => {
    assert.equal(senderOf("grooveDevice://alice/pc"), "grooveDevice://alice");
    assert.equal(senderOf("grooveDevice://alice/phone"), "grooveDevice://alice");
    assert.equal(senderOf("grooveDNS://relay.example.com"), "grooveDNS://relay.example.com");
    assert.equal(longestIn({ ...QUOTA, octets: 8 * MIB }), 4 * MIB);
  });
});
