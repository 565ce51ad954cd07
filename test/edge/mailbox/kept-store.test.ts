/** What a mailbox keeps for readers over HTTP: they miss nothing unawares, and it stays within its limits. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { placeAfter, placeOf } from "../../../src/edge/durable-streams/mailbox-offset.ts";
import { KEPT_OCTETS, KEPT_REST, NOTE_INTERVAL, RETENTION } from "../../../src/edge/mailbox/limits.ts";
import { MailboxStore } from "../../../src/edge/mailbox/mailbox-store.ts";
import { pack } from "../../../src/edge/rpc/message-batch.ts";
import type { Mail } from "../../../src/store-and-forward/envelope.ts";
import { runs } from "../../support/long-form.ts";
import { database, type TestDatabase } from "./sqlite.ts";

const NOW = Date.UTC(2026, 10, 1);
const HOUR = 3600_000;
const DAY = 24 * HOUR;

interface Options {
  readonly time?: number;
  readonly octets?: number;
}

function open(db: TestDatabase, { time = DAY, octets = KEPT_OCTETS }: Options = {}): MailboxStore {
  return new MailboxStore(db.sql, db.transaction, { keep: { time, octets } });
}

/** @param recipients more than a few make an envelope that is stored beside its segment */
function mail(id: string, length = 10, recipients = 0): Mail {
  const entries = Array.from({ length: recipients }, (_, n) => ({
    identityURL: `grooveIdentity://number-${n}-of-many`,
    deviceURL: "",
  }));
  const envelope = {
    source: "grooveDevice://alice/pc",
    resourceURL: "message",
    identityURL: "grooveIdentity://bob",
    deviceURL: "",
    ...(recipients > 0 && { entries }),
  };
  return { envelope, fields: { userRef: `${id}@alice/pc`, track: false }, body: new Uint8Array(length).fill(7) };
}

function append(store: MailboxStore, ...mails: Mail[]): void {
  assert.ok(store.append(pack(mails), NOW).every((outcome) => outcome === "stored"));
}

/** Numbers that a reader gets. */
function log(store: MailboxStore, after = 0): number[] {
  return [...store.log(after)].map(({ number }) => number);
}

function rows(db: TestDatabase, table: string): number {
  const found = db.sql.exec("SELECT 1 FROM sqlite_master WHERE name = ?", table).toArray();
  return found.length === 0 ? 0 : db.sql.exec(`SELECT 1 FROM ${table}`).toArray().length;
}

describe("a mailbox that nobody reads over HTTP", () => {
  it("writes the same rows as one that could not be read at all, and keeps nothing", () => {
    const written = [0, DAY].map((time) => {
      const db = database();
      const store = open(db, { time });
      for (let n = 1; n <= 50; n += 1) {
        append(store, mail(`m-${n}`));
        store.settle([[n, n]], NOW);
      }
      assert.deepEqual([log(store), rows(db, "kept"), rows(db, "segments")], [[], 0, 0]);
      return store.rowsWritten;
    });
    assert.equal(written[0], written[1]);
  });
});

describe("a mailbox that is read over HTTP", () => {
  it("keeps what is settled afterwards, as it was, and does not count it among what waits", () => {
    const db = database();
    const store = open(db);
    append(store, mail("m-1"));
    store.settle([[1, 1]], NOW);
    append(store, mail("m-2"), mail("m-3", 600_000), mail("m-4", 10, 200));
    store.noteRead(NOW);
    const before = [...store.log(0)];
    store.settle([[2, 2]], NOW);
    store.settle([[3, 4]], NOW);
    assert.deepEqual([store.messages, store.octets, store.position], [0, 0, 4]);
    assert.ok(store.keptOctets > 600_000);
    for (const again of [store, open(db)]) {
      assert.deepEqual([...again.log(0)], before);
      assert.equal(again.keptOctets, store.keptOctets);
      assert.deepEqual(again.losses, { floor: 1, epoch: 1 });
    }
  });

  it("keeps it for the time that is set, and tells readers who were slower", () => {
    const db = database();
    const store = open(db, { time: DAY });
    store.setFact("entered", "1");
    store.noteRead(NOW);
    append(store, mail("m-1"), mail("m-2", 600_000));
    const place = placeOf("beginning", store.losses, store.last);
    store.settle([[1, 2]], NOW + HOUR);
    const due = store.expiry() ?? 0;
    assert.ok(due > NOW + HOUR + DAY && due <= NOW + HOUR + DAY * (2 - KEPT_REST));
    store.expire(due - DAY / 4);
    assert.deepEqual(log(store), [1, 2]);
    store.expire(due);
    assert.deepEqual([log(store), store.keptOctets, rows(db, "kept"), rows(db, "bodies")], [[], 0, 0, 0]);
    assert.ok(place !== undefined);
    const offset = { incarnation: place.epoch, position: 0 };
    assert.equal(placeOf({ ...offset, position: 1 }, store.losses, store.last), undefined);
    assert.ok(placeOf({ ...offset, position: 2 }, store.losses, store.last) !== undefined);
  });

  it("keeps no more bytes than it may, the newest ones, and no sender has less room for it", () => {
    const db = database();
    const octets = 100_000;
    const store = open(db, { octets });
    store.setFact("entered", "1");
    store.noteRead(NOW);
    for (let n = 1; n <= 200; n += 1) {
      append(store, mail(`m-${n}`, 2000));
      store.settle([[n, n]], NOW);
      assert.ok(store.keptOctets <= octets);
    }
    const kept = log(store);
    assert.ok(store.keptOctets > octets * KEPT_REST - 5000);
    assert.equal(kept.at(-1), 200);
    assert.deepEqual(
      kept,
      Array.from(kept, (_, at) => 200 - kept.length + 1 + at),
    );
    assert.equal(store.roomFor("grooveDevice://alice").octets, open(database()).roomFor("grooveDevice://alice").octets);
  });

  it("keeps settled messages of a segment of which another waits, within the same limit", () => {
    const db = database();
    const store = open(db, { octets: 1_000_000 });
    append(store, mail("m-0"));
    store.noteRead(NOW);
    append(store, mail("m-2"), mail("m-3", 600_000), mail("m-4", 9000));
    store.settle([[3, 4]], NOW);
    assert.deepEqual([log(store), store.messages], [[1, 2, 3, 4], 2]);
    append(store, mail("m-5", 600_000));
    store.settle([[5, 5]], NOW);
    // The first segment is below the floor now; what waits in it is still there.
    assert.deepEqual([log(store), store.messages, rows(db, "bodies")], [[1, 2, 5], 2, 1]);
    assert.ok(store.losses.floor === 4);
    store.settle([[1, 2]], NOW);
    assert.deepEqual([log(open(db)), store.messages, store.octets], [[5], 0, 0]);
  });

  it("tells a reader that had not come so far when an older message is settled that it did not keep", () => {
    const store = open(database());
    for (let n = 1; n <= 4; n += 1) append(store, mail(`m-${n}`));
    store.noteRead(NOW);
    store.settle([[4, 4]], NOW);
    store.expire(NOW + 2 * DAY);
    assert.deepEqual([log(store), store.losses.floor], [[1, 2, 3], 4]);
    const offsets = [1, 2, 4].map((position) => ({ incarnation: store.losses.epoch, position }));
    const isGone = () => offsets.map((offset) => placeOf(offset, store.losses, store.last) === undefined);
    assert.deepEqual(isGone(), [false, false, false]);
    store.settle([[2, 2]], NOW + 2 * DAY);
    assert.deepEqual(
      [log(store), isGone()],
      [
        [1, 3],
        [true, true, false],
      ],
    );
  });

  it("does not show what its sender has taken back, nor what was purged", () => {
    const db = database();
    const store = open(db);
    append(store, mail("m-0"));
    store.noteRead(NOW);
    append(store, mail("m-2"), mail("m-3", 600_000), mail("m-4"), mail("m-5"));
    store.settle([[2, 2]], NOW);
    store.remove([[3, 3]]);
    assert.deepEqual([log(store), rows(db, "bodies")], [[1, 2, 4, 5], 0]);
    store.settle([[5, 5]], NOW);
    store.remove([[4, 4]]);
    assert.deepEqual(
      [log(store), log(open(db))],
      [
        [1, 2, 5],
        [1, 2, 5],
      ],
    );
    assert.equal(rows(db, "segments"), 1);
    assert.equal(store.purge(NOW), 1);
    assert.deepEqual([log(store), rows(db, "kept"), store.keptOctets], [[], 0, 0]);
    append(store, mail("m-6"));
    store.settle([[6, 6]], NOW);
    assert.deepEqual(log(store), [6]);
  });

  it("keeps nothing more when nobody has read it for two weeks, and can be deleted", () => {
    const db = database();
    const store = open(db, { time: RETENTION });
    store.setFact("entered", "1");
    store.noteRead(NOW);
    append(store, mail("m-1", 600_000), mail("m-2", 10, 200));
    store.settle([[1, 1]], NOW);
    for (let days = 1; days <= 3; days += 1) store.noteRead(NOW + days * DAY);
    store.settle([[2, 2]], NOW + 10 * DAY);
    store.expire(NOW + 16 * DAY);
    assert.equal(store.empty, false);
    const due = store.expiry() ?? 0;
    assert.ok(due <= NOW + 3 * DAY + RETENTION + NOTE_INTERVAL);
    store.expire(due);
    assert.deepEqual(
      ["kept", "bodies", "envelopes", "segments", "done"].map((table) => rows(db, table)),
      [0, 0, 0, 0, 0],
    );
    assert.deepEqual([store.empty, store.expiry()], [true, undefined]);
    assert.equal(placeOf({ incarnation: 0, position: 1 }, store.losses, store.last), undefined);
  });

  it("writes one row a day for its readers", () => {
    const store = open(database());
    store.setFact("entered", "1");
    store.noteRead(NOW);
    const before = store.rowsWritten;
    for (let minute = 0; minute < 3 * 24 * 60; minute += 1) store.noteRead(NOW + minute * 60_000);
    assert.ok(store.rowsWritten - before <= 3);
  });

  it("is as before if the disk is full", () => {
    const db = database();
    const store = open(db);
    append(store, mail("m-0"));
    store.noteRead(NOW);
    append(store, mail("m-2"), mail("m-3"));
    db.failAt = "INSERT INTO kept";
    assert.throws(() => store.settle([[1, 3]], NOW), /disk is full/);
    db.failAt = undefined;
    assert.deepEqual([store.messages, log(store)], [3, [1, 2, 3]]);
    store.settle([[1, 3]], NOW);
    assert.deepEqual([store.messages, log(store)], [0, [1, 2, 3]]);
  });

  it("has readers who miss nothing without being told, whatever happens", () => {
    const size = fc.oneof(
      { weight: 6, arbitrary: fc.integer({ min: 0, max: 3000 }) },
      { weight: 1, arbitrary: fc.integer({ min: 525_000, max: 700_000 }) },
    );
    const message = fc.record({ size, recipients: fc.constantFrom(0, 0, 0, 200) });
    const range = fc.tuple(fc.nat(30), fc.nat(6));
    const step = fc.oneof(
      { weight: 6, arbitrary: fc.record({ do: fc.constant("append"), batch: fc.array(message, { maxLength: 6 }) }) },
      { weight: 5, arbitrary: fc.record({ do: fc.constant("settle"), ranges: fc.array(range, { maxLength: 3 }) }) },
      { weight: 2, arbitrary: fc.record({ do: fc.constant("remove"), ranges: fc.array(range, { maxLength: 2 }) }) },
      {
        weight: 5,
        arbitrary: fc.record({ do: fc.constant("read"), reader: fc.nat(2), count: fc.integer({ min: 1, max: 6 }) }),
      },
      { weight: 2, arbitrary: fc.record({ do: fc.constant("pass"), hours: fc.nat(30) }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constant("purge") }) },
      { weight: 2, arbitrary: fc.record({ do: fc.constant("reopen") }) },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const db = database();
        const limits = { time: DAY, octets: 1_000_000 };
        let store = open(db, limits);
        store.setFact("entered", "1");
        let now = NOW;
        let next = 1;
        const waiting = new Set<number>();
        /** Messages that no reader must be told of: taken back, purged or expired. */
        const dropped = new Set<number>();
        const readers: { offset: { incarnation: number; position: number } | undefined; began: Set<number> }[] = [
          { offset: undefined, began: new Set() },
          { offset: undefined, began: new Set() },
          { offset: undefined, began: new Set() },
        ];
        const numbers = (ranges: readonly (readonly [number, number])[]) =>
          ranges.map(([back, length]) => [next - back, next - back + length] as const);
        const forget = (ranges: readonly (readonly [number, number])[], into?: Set<number>) => {
          for (const [from, to] of ranges) {
            for (let n = from; n <= to; n += 1) if (waiting.delete(n)) into?.add(n);
          }
        };
        for (const one of steps as readonly Step[]) {
          if (one.do === "append" && one.batch.length > 0) {
            const mails = one.batch.map(({ size: length, recipients }, at) =>
              mail(`m-${next + at}`, length, recipients),
            );
            store.append(pack(mails), now).forEach((outcome) => {
              assert.equal(outcome, "stored");
              waiting.add(next);
              next += 1;
            });
          }
          if (one.do === "settle") {
            store.settle(numbers(one.ranges), now);
            forget(numbers(one.ranges));
          }
          if (one.do === "remove") {
            store.remove(numbers(one.ranges));
            forget(numbers(one.ranges), dropped);
          }
          if (one.do === "purge") {
            assert.equal(store.purge(now), waiting.size);
            waiting.clear();
          }
          if (one.do === "reopen") store = open(db, limits);
          if (one.do === "pass") {
            now += one.hours * HOUR;
            store.expire(now);
            const left = new Set([...store.log(0)].map(({ number }) => number));
            for (const n of [...waiting]) if (!left.has(n)) waiting.delete(n);
          }
          const reader = one.do === "read" ? readers[one.reader] : undefined;
          if (one.do === "read" && reader !== undefined) {
            store.noteRead(now);
            const { losses, last } = store;
            let place = placeOf(reader.offset ?? "beginning", losses, last);
            if (place === undefined || reader.offset === undefined) {
              place = placeOf("beginning", losses, last);
              // What is not there any more when it begins is nothing that it can miss.
              const there = new Set(log(store));
              reader.began = new Set();
              for (let n = 1; n < next; n += 1) if (!there.has(n)) reader.began.add(n);
            }
            assert.ok(place !== undefined);
            const from = place.position;
            const got: number[] = [];
            for (const { number, mail: found } of store.log(from)) {
              assert.ok(found.fields.userRef === `m-${number}@alice/pc` && found.body.every((octet) => octet === 7));
              got.push(number);
              if (got.length === one.count) break;
            }
            const to = got.length < one.count ? last : (got.at(-1) ?? from);
            const seen = new Set(got);
            for (let n = from + 1; n <= to; n += 1) {
              if (seen.has(n)) assert.ok(!dropped.has(n), `${n} was taken back, and is shown`);
              else assert.ok(dropped.has(n) || reader.began.has(n), `${n} is missed`);
            }
            const after = placeAfter(place, to, losses);
            const offset = { incarnation: after.epoch, position: after.position };
            if (reader.offset !== undefined && place.position > 0) {
              assert.ok(offset.incarnation >= reader.offset.incarnation && offset.position >= reader.offset.position);
            }
            reader.offset = offset;
          }
          assert.equal(store.messages, waiting.size);
          const again = open(db, limits);
          assert.deepEqual([again.waiting(), again.losses], [store.waiting(), store.losses]);
          assert.deepEqual([again.keptOctets, log(again)], [store.keptOctets, log(store)]);
          assert.ok(one.do !== "settle" || store.keptOctets <= limits.octets);
        }
        store.settle([[1, next]], now);
        store.purge(now);
        assert.deepEqual(
          ["kept", "bodies", "envelopes", "segments", "done"].map((table) => rows(db, table)),
          [0, 0, 0, 0, 0],
        );
        assert.deepEqual([store.octets, store.keptOctets], [0, 0]);
      }),
      { numRuns: runs(300) },
    );
  });
});

type Step =
  | { do: "append"; batch: readonly { size: number; recipients: number }[] }
  | { do: "settle"; ranges: readonly [number, number][] }
  | { do: "remove"; ranges: readonly [number, number][] }
  | { do: "read"; reader: number; count: number }
  | { do: "pass"; hours: number }
  | { do: "purge" }
  | { do: "reopen" };
