/** The ids that a mailbox remembers: which it knows, their size, and which are forgotten. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { ID_OCTETS, KEPT_RANGES, RANGE_TIME } from "../../../src/edge/mailbox/limits.ts";
import { MailboxStore } from "../../../src/edge/mailbox/mailbox-store.ts";
import { pack } from "../../../src/edge/rpc/message-batch.ts";
import type { Mail } from "../../../src/store-and-forward/envelope.ts";
import { runs } from "../../support/long-form.ts";
import { database, type TestDatabase } from "./sqlite.ts";

const NOW = Date.UTC(2026, 10, 1);

function mail(id: string, source: string): Mail {
  return {
    envelope: { source, resourceURL: "message", identityURL: "grooveIdentity://bob", deviceURL: "" },
    fields: { userRef: id, track: false },
    body: new Uint8Array(0),
  };
}

/** Sends messages that are settled at once; returns how many were new. */
function pass(store: MailboxStore, source: string, ids: readonly string[], now = NOW): number {
  const { envelope } = mail("", source);
  const outcomes = store.append(pack(ids.map((id) => ({ ...mail(id, source), envelope }))), now);
  store.remove([[1, store.last]]);
  return outcomes.filter((outcome) => outcome === "stored").length;
}

function idRows(db: TestDatabase): Record<string, unknown>[] {
  return db.sql.exec("SELECT head, tail, low, high FROM ids").toArray();
}

function idOctets(db: TestDatabase): number {
  return idRows(db).reduce((sum, { head, tail }) => sum + String(head).length + String(tail).length, 0);
}

/** Ids without a number, which differ only in their whole text. */
function plain(count: number, length: number, seed: string): string[] {
  return Array.from({ length: count }, (_, i) => `${seed}${i}x`.padEnd(length, "y"));
}

const ALICE = "grooveDevice://alice/pc";
const MALLORY = "grooveDevice://mallory/pc";

describe("the ids that a mailbox remembers", () => {
  it("match a set model in any order, across reopening", () => {
    const id = fc
      .tuple(
        fc.constantFrom("", "a", "a-", "7", "@"),
        fc.oneof(fc.integer({ min: 0, max: 25 }).map(String), fc.constantFrom("", "007", "90071992547409931")),
        fc.constantFrom("", "@", "@alice/pc", "x"),
      )
      .map((parts) => parts.join(""))
      .filter((text) => text !== "");
    const source = fc.constantFrom(ALICE, "grooveDevice://alice/phone", MALLORY, "grooveDNS://relay");
    const step = fc.record({
      batch: fc.array(fc.record({ id, source }), { maxLength: 25 }),
      reopen: fc.boolean(),
      later: fc.constantFrom(0, 1000, RANGE_TIME),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 15 }), (steps) => {
        const db = database();
        let store = new MailboxStore(db.sql, db.transaction);
        const known = new Set<string>();
        let now = NOW;
        for (const { batch, reopen, later } of steps) {
          now += later;
          if (reopen) store = new MailboxStore(db.sql, db.transaction);
          const expected = batch.map((one) => {
            const key = `${one.source} ${one.id}`;
            if (known.has(key)) return "duplicate";
            known.add(key);
            return "stored";
          });
          const outcomes = store.append(pack(batch.map((one) => mail(one.id, one.source))), now);
          assert.deepEqual(outcomes, expected);
          store.remove([[1, store.last]]);
        }
      }),
      { numRuns: runs(300) },
    );
  });

  it("take one row per counting sender and hour", () => {
    const db = database();
    const store = new MailboxStore(db.sql, db.transaction);
    const count = (from: number, to: number) =>
      Array.from({ length: to - from + 1 }, (_, i) => `m-${from + i}@alice/pc`);
    for (let from = 1; from < 100_000; from += 1000) pass(store, ALICE, count(from, from + 999));
    assert.deepEqual(
      idRows(db).map(({ low, high }) => [low, high]),
      [[1, 100_000]],
    );
    assert.equal(pass(store, ALICE, count(99_990, 100_010), NOW + RANGE_TIME), 10);
    assert.deepEqual(
      idRows(db).map(({ low, high }) => [low, high]),
      [
        [1, 100_000],
        [100_001, 100_010],
      ],
    );
  });

  it("are bounded in octets, whatever their length, and are looked up without loading them", () => {
    const db = database();
    const store = new MailboxStore(db.sql, db.transaction);
    for (let i = 0; i < 25; i += 1) pass(store, MALLORY, plain(1000, 2000, `${i}-`));
    assert.ok(idOctets(db) <= ID_OCTETS / 2, `${idOctets(db)} octets of ids are stored`);
    assert.equal(pass(store, MALLORY, plain(1000, 2000, "24-")), 0, "the newest are known");
    assert.equal(pass(store, MALLORY, plain(10, 2000, "0-")), 10, "the oldest are forgotten");
    const [{ kept } = {}] = db.sql.exec("SELECT count(*) AS kept FROM ids").toArray();
    assert.ok(Number(kept) > 6000, `${kept} ids are stored: a long one takes no more room than a UUID`);
    // The object wakes: what it reads for one message is far less than everything stored.
    let read = 0;
    const counting: typeof db.sql = {
      exec(query, ...bindings) {
        const cursor = db.sql.exec(query, ...bindings);
        return {
          rowsWritten: cursor.rowsWritten,
          toArray: () => {
            const rows = cursor.toArray();
            read += rows.length;
            return rows;
          },
        };
      },
    };
    pass(new MailboxStore(counting, db.transaction), ALICE, ["one"]);
    assert.ok(read < 30, `${read} rows were read`);
  });

  it("of refused messages are cached in bounded number", () => {
    const db = database();
    let asked = 0;
    const counting: typeof db.sql = {
      exec(query, ...bindings) {
        if (query.startsWith("SELECT low, high, at FROM ids")) asked += 1;
        return db.sql.exec(query, ...bindings);
      },
    };
    const store = new MailboxStore(counting, db.transaction);
    pass(store, MALLORY, ["1"]);
    const from = { ...mail("", ALICE).envelope };
    const send = (id: string) => store.append(pack([{ ...mail(id, ALICE), envelope: from }]), NOW);
    // The second number is in memory only, until its message leaves.
    for (const id of ["a1", "a2"]) assert.deepEqual(send(id), ["stored"]);
    const { envelope } = mail("", MALLORY);
    const refused = (some: number) => {
      const mails = Array.from({ length: 1000 }, (_, n) => ({ ...mail(`${some * 1000 + n}-x1`, MALLORY), envelope }));
      store.append(pack(mails), NOW, { shutOut: () => true });
    };
    const batches = 2 + KEPT_RANGES / 1000;
    for (let some = 0; some < batches; some += 1) refused(some);
    asked = 0;
    refused(0);
    assert.ok(asked >= 1000, "the first ones are looked up again");
    assert.deepEqual(send("a2"), ["duplicate"]);
    assert.deepEqual(send("a3"), ["stored"]);
    store.remove([[1, store.last]]);
    assert.deepEqual(["a1", "a2", "a3"].flatMap(send), ["duplicate", "duplicate", "duplicate"]);
    assert.deepEqual(
      idRows(db).flatMap(({ head, low, high }) => (head === "a" ? [[low, high]] : [])),
      [[1, 3]],
    );
  });

  it("of one sender do not evict another's", () => {
    const db = database();
    const store = new MailboxStore(db.sql, db.transaction, { idOctets: 100_000 });
    pass(store, ALICE, ["a", "b", ...plain(50, 100, "c")]);
    for (let i = 0; i < 50; i += 1) {
      pass(store, `grooveDevice://mallory/${i % 3}`, plain(100, 500, `m${i}`), NOW + i);
      pass(store, `grooveDevice://eve${i}/pc`, plain(5, 200, "e"), NOW + i);
    }
    assert.ok(idOctets(db) < 100_000);
    assert.equal(pass(store, ALICE, ["a", "b", ...plain(50, 100, "c")]), 0, "all of them are known");
    const left = db.sql.exec("SELECT sum(octets) AS octets FROM senders").toArray()[0]?.octets;
    assert.ok(Number(left) < 100_000);
  });

  it("are purged, except those of the last hour, and then count for nobody", () => {
    const db = database();
    const store = new MailboxStore(db.sql, db.transaction);
    pass(store, MALLORY, plain(500, 1000, "old"));
    pass(store, MALLORY, plain(5, 100, "new"), NOW + 2 * RANGE_TIME);
    store.purge(NOW + 2 * RANGE_TIME + 1000);
    assert.equal(idRows(db).length, 5);
    const [{ octets } = {}] = db.sql.exec("SELECT octets FROM senders").toArray();
    assert.ok(Number(octets) < 1000, `${octets} octets are counted`);
    assert.equal(pass(store, MALLORY, plain(5, 100, "new")), 0);
    store.purge(NOW + 20 * RANGE_TIME);
    assert.deepEqual(db.sql.exec("SELECT name FROM senders").toArray(), []);
  });
});
