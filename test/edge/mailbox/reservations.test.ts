/** The room that a mailbox reserves in the accounts of its senders. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { LARGE_PIECE, LEAST_PIECE } from "../../../src/edge/admission/limits.ts";
import { pieceFor } from "../../../src/edge/admission/sender-account.ts";
import { UNRESERVED } from "../../../src/edge/mailbox/limits.ts";
import { MailboxStore } from "../../../src/edge/mailbox/mailbox-store.ts";
import { Reservations, SenderAccounts } from "../../../src/edge/mailbox/reservations.ts";
import type { Facts } from "../../../src/edge/mailbox/room-waiters.ts";
import { pack } from "../../../src/edge/rpc/message-batch.ts";
import type { Reservation, Reserved } from "../../../src/edge/rpc/meter-rpc.ts";
import { senderOf } from "../../../src/store-and-forward/sender-share.ts";
import { database } from "./sqlite.ts";

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

describe("the accounts of senders", () => {
  const source = (name: string) => `grooveDevice://${name}/pc`;
  const sender = (name: string) => senderOf(source(name));
  let ids = 0;

  /** Accounts of an empty mailbox, of which a Meter is asked that grants what is wanted, up to a limit. */
  function mailbox({ limit = Number.POSITIVE_INFINITY, isConsumed = false } = {}) {
    const db = database();
    const store = new MailboxStore(db.sql, db.transaction);
    const asked: (Reservation & { readonly account: string })[] = [];
    const alarms: number[] = [];
    const meter = { isSilent: false };
    const accounts = new SenderAccounts({
      peer: "grooveDevice://bob/pc",
      store,
      isConsumed: () => isConsumed,
      unaskedTime: () => 1000,
      alarmBy: (at) => alarms.push(at),
      meterOf: (account) => ({
        reserve: async (_, reservation): Promise<Reserved | undefined> => {
          asked.push({ account, ...reservation });
          if (meter.isSilent) throw new Error("the Meter is gone");
          if (!reservation.stored && reservation.needed > limit) return undefined;
          return { octets: Math.min(reservation.wanted, limit), isAmple: false, isSpent: false };
        },
      }),
    });
    const batch = (name: string, size: number) => {
      ids += 1;
      const envelope = { source: source(name), resourceURL: "r", identityURL: "", deviceURL: "grooveDevice://bob/pc" };
      return pack([{ envelope, fields: { userRef: `${ids}`, track: false }, body: new Uint8Array(size) }]);
    };
    const keep = (bundle: ReturnType<typeof batch>) => assert.deepEqual(store.append(bundle, Date.now()), ["stored"]);
    return { store, accounts, asked, alarms, meter, batch, keep };
  }

  it("are asked for a piece, which covers what comes after, and has back what does not wait", async () => {
    const { store, accounts, asked, batch, keep } = mailbox();
    const [one, other] = [batch("ann", 1000), batch("ann", 2000)];
    assert.ok(!accounts.covers(one));
    // The second waits for the call of the first, and is covered by its piece.
    assert.deepEqual(await Promise.all([accounts.reserve(one), accounts.reserve(other)]), [true, true]);
    assert.deepEqual(
      asked.map(({ account, wanted, stored }) => [account, wanted, stored]),
      [[sender("ann"), LEAST_PIECE, false]],
    );
    keep(one);
    keep(other);
    assert.ok(accounts.some && accounts.left(sender("ann")) < LEAST_PIECE - 3000);
    assert.equal(await accounts.settle(), true);
    assert.equal(asked.length, 1, "the piece still fits");
    store.purge(Date.now());
    await accounts.settle();
    assert.deepEqual([asked.at(-1)?.wanted, accounts.some], [0, false]);
    assert.equal(await accounts.settle(), false, "there is nothing to adjust");
  });

  it("that have no room refuse what no consumer drains", async () => {
    for (const isConsumed of [false, true]) {
      const { accounts, batch } = mailbox({ limit: 500, isConsumed });
      const long = batch(`cas ${isConsumed}`, UNRESERVED);
      assert.deepEqual([await accounts.reserve(long), accounts.drains(long)], [false, isConsumed]);
    }
  });

  it("that do not answer keep nothing out, and are asked again by the alarm", async () => {
    const { accounts, asked, alarms, meter, batch, keep } = mailbox();
    meter.isSilent = true;
    const one = batch("dee", 1000);
    assert.equal(await accounts.reserve(one), true);
    keep(one);
    assert.equal(alarms.length, 1);
    await accounts.settle();
    assert.equal(alarms.length, 2, "it is still silent");
    meter.isSilent = false;
    await accounts.settle();
    assert.deepEqual([asked.length, alarms.length], [3, 2]);
    assert.ok(accounts.left(sender("dee")) > 0);
  });
});
