/** The store of a plain stream, on Node's SQLite. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { ANYBODY, type Principal } from "../../../src/auth/principal.ts";
import { ENDLESS } from "../../../src/edge/durable-streams/expiry.ts";
import { asArray, splitMessages } from "../../../src/edge/durable-streams/json-mode.ts";
import { TICKET_REDEEM_TIME, TICKETS } from "../../../src/edge/durable-streams/limits.ts";
import { PRODUCER_AGE, PRODUCERS, ROW_OCTETS } from "../../../src/edge/plain-stream/limits.ts";
import { type Sql, type Stream, StreamStore } from "../../../src/edge/plain-stream/stream-store.ts";
import { database, type TestDatabase } from "../mailbox/sqlite.ts";

function streamOf(contentType: string, from = 0): Stream {
  const own = { name: "a/b/c", incarnation: 2000, from };
  const lineage: Stream["lineage"] = from === 0 ? [own] : [{ name: "a/b/s", incarnation: 1000, from: 0 }, own];
  return { contentType, lifetime: ENDLESS, lineage, closed: false, deleted: false };
}

function opened(db: TestDatabase): StreamStore {
  // The platform's cursors are iterable too.
  const exec: Sql["exec"] = (query, ...bindings) => {
    const { toArray } = db.sql.exec(query, ...bindings);
    return { toArray, [Symbol.iterator]: () => toArray()[Symbol.iterator]() };
  };
  return new StreamStore({ exec }, db.transaction);
}

function tablesOf(db: TestDatabase): unknown[] {
  return db.sql.exec("SELECT name FROM sqlite_master WHERE type = 'table'").toArray();
}

const encode = (text: string) => new TextEncoder().encode(text);
const END = Number.MAX_SAFE_INTEGER;

describe("the store of a stream", () => {
  it("has no tables until a stream is created", () => {
    const db = database();
    const store = opened(db);
    assert.equal(store.stream, undefined);
    assert.deepEqual(store.forks(), []);
    assert.equal(store.producer("alice", "p"), undefined);
    assert.deepEqual(tablesOf(db), []);
  });

  it("reads bytes from any position to any other, in whole rows up to the limit", () => {
    const appends = fc.array(fc.uint8Array({ minLength: 1, maxLength: 50 }), { maxLength: 8 });
    fc.assert(
      fc.property(appends, fc.nat(300), fc.nat(300), fc.integer({ min: 1, max: 100 }), (pieces, one, other, limit) => {
        const store = opened(database());
        store.create(streamOf("text/plain"));
        for (const piece of pieces) store.appendOctets(piece, 0);
        const all = Buffer.concat(pieces);
        assert.equal(store.tail, all.length);
        const [from, end] = [Math.min(one, other, all.length), Math.min(Math.max(one, other), all.length)];
        const { runs, octets, next } = store.read(from, end, limit, false);
        const read = Buffer.concat(runs);
        assert.equal(read.length, octets);
        assert.deepEqual(read, all.subarray(from, next));
        assert.ok(next === end || octets >= limit);
      }),
    );
  });

  it("reads messages of JSON by their number, across batches", () => {
    const batches = fc.array(fc.array(fc.jsonValue({ maxDepth: 1 }), { minLength: 1, maxLength: 5 }), { maxLength: 6 });
    fc.assert(
      fc.property(batches, fc.nat(30), fc.nat(30), (bodies, one, other) => {
        const store = opened(database());
        store.create(streamOf("application/json"));
        for (const body of bodies)
          store.appendMessages(splitMessages(encode(JSON.stringify(body))) ?? assert.fail(), 0);
        const all: unknown[] = JSON.parse(JSON.stringify(bodies.flat()));
        const [from, end] = [Math.min(one, other, all.length), Math.min(Math.max(one, other), all.length)];
        const { runs, next } = store.read(from, end, END, true);
        assert.deepEqual(JSON.parse(Buffer.from(asArray(runs)).toString()), all.slice(from, end));
        assert.equal(next, end);
      }),
    );
  });

  it("cuts a long append into rows that the platform takes", () => {
    const db = database();
    const store = opened(db);
    store.create(streamOf("application/octet-stream"));
    const long = new Uint8Array(2.5 * ROW_OCTETS).map((_, at) => at % 251);
    store.appendOctets(long, 0);
    const lengths = db.sql.exec("SELECT length(octets) AS length FROM log").toArray();
    assert.deepEqual(
      lengths.map(({ length }) => length),
      [ROW_OCTETS, ROW_OCTETS, ROW_OCTETS / 2],
    );
    assert.deepEqual(Buffer.concat(store.read(0, END, END, false).runs), Buffer.from(long));
    const json = opened(database());
    json.create(streamOf("application/json"));
    const messages = Array.from({ length: 30 }, (_, at) => String(at).repeat(50_000));
    json.appendMessages(splitMessages(encode(JSON.stringify(messages))) ?? assert.fail(), 0);
    const { runs } = json.read(0, END, END, true);
    assert.ok(runs.length > 1 && runs.every(({ length }) => length <= ROW_OCTETS));
    assert.deepEqual(JSON.parse(Buffer.from(asArray(runs)).toString()), messages);
  });

  it("is as it was when its object wakes", () => {
    const db = database();
    const before = opened(db);
    before.create(streamOf("text/plain", 100));
    before.appendOctets(encode("abc"), 0);
    before.change({ closed: true, sequence: "7" });
    before.setProducer("alice", "p", { epoch: 1, seq: 2 }, 0);
    before.addFork("x/y/z", 3000);
    const after = opened(db);
    assert.deepEqual(after.stream, { ...streamOf("text/plain", 100), closed: true, sequence: "7" });
    assert.equal(after.tail, 103);
    assert.deepEqual(after.producer("alice", "p"), { epoch: 1, seq: 2 });
    assert.deepEqual(after.forks(), [["x/y/z", 3000]]);
    after.removeFork("x/y/z", 2999);
    assert.equal(after.forks().length, 1, "that was another fork of that name");
  });

  it("writes an append and its producer together, or neither", () => {
    const db = database();
    const store = opened(db);
    store.create(streamOf("text/plain"));
    db.failAt = "INSERT INTO log";
    assert.throws(() =>
      store.together(() => {
        store.setProducer("alice", "p", { epoch: 0, seq: 0 }, 0);
        store.change({ closed: true });
        store.appendOctets(encode("x"), 0);
      }),
    );
    db.failAt = undefined;
    for (const one of [store, opened(db)]) {
      assert.deepEqual([one.tail, one.stream?.closed, one.producer("alice", "p")], [0, false, undefined]);
    }
    store.together(() => store.setProducer("alice", "p", { epoch: 0, seq: 0 }, 0));
    assert.deepEqual(store.producer("alice", "p"), { epoch: 0, seq: 0 });
  });

  /** Adds producers of a writer while there is room for them. Returns how many there were. */
  function fillProducers(store: StreamStore, writer: string, now: number): number {
    let count = 0;
    for (; store.hasRoomForProducer(writer, now); count += 1) {
      store.setProducer(writer, `p${count}`, { epoch: 0, seq: 0 }, now);
    }
    return count;
  }

  it("remembers so many producers of one writer that each other one finds room", () => {
    const store = opened(database());
    store.create(streamOf("text/plain"));
    const counts = ["mallory", "mallor", "mallory2", "bob"].map((writer) => fillProducers(store, writer, 0));
    assert.equal(counts[0], PRODUCERS / 2);
    assert.ok(counts.every((count) => count > 0));
    assert.ok(counts.reduce((one, other) => one + other, 0) < PRODUCERS);
    assert.ok(store.hasRoomForProducer("carol", 0));
    assert.equal(fillProducers(store, "mallory", PRODUCER_AGE - 1), 0);
    assert.deepEqual(store.producer("bob", "p0"), { epoch: 0, seq: 0 });
  });

  it("keeps so many tickets of one reader, whatever its tokens, that each other one finds room", () => {
    const store = opened(database());
    store.create(streamOf("text/plain"));
    let tokens = 0;
    /** Adds tickets of a reader while there is room for them, each got with another token. */
    const fill = (changes: Partial<Principal>, now = 0): number => {
      for (let count = 0; ; count += 1) {
        tokens += 1;
        const principal = { ...ANYBODY, id: `token ${tokens}`, ...changes };
        if (!store.addTicket(`hash ${tokens}`, principal, now)) return count;
      }
    };
    assert.equal(fill({ subject: "mallory" }), TICKETS / 2);
    // Without a subject, a token is a reader of its own. None is taken for a subject.
    const others = [fill({ subject: "bob" }), fill({ subject: "", id: "mallory" }), fill({ subject: "token 1" })];
    assert.ok(others.every((count) => count > 0));
    assert.equal(fill({ subject: "mallory" }), 0);
    assert.ok(store.addTicket("carol's", { ...ANYBODY, subject: "carol" }, 0));
    assert.equal(store.redeemTicket("hash 1", 0)?.subject, "mallory");
    // Those that nobody has used are forgotten.
    assert.equal(fill({ subject: "mallory" }, TICKET_REDEEM_TIME), Math.ceil((TICKETS - 1) / 2) - 1);
  });

  it("forgets producers that were silent for long, if another needs the place", () => {
    const store = opened(database());
    store.create(streamOf("text/plain"));
    store.setProducer("bob", "old", { epoch: 0, seq: 0 }, 0);
    fillProducers(store, "alice", 1);
    assert.ok(store.hasRoomForProducer("carol", PRODUCER_AGE));
    assert.ok(store.producer("bob", "old"), "there is room without it");
    assert.ok(!store.hasRoomForProducer("alice", PRODUCER_AGE - 1));
    assert.ok(store.hasRoomForProducer("alice", PRODUCER_AGE));
    assert.equal(store.producer("bob", "old"), undefined);
    assert.ok(store.producer("alice", "p0"));
  });

  it("keeps of a stream that has ended only what others must still be told", () => {
    const db = database();
    const store = opened(db);
    store.create(streamOf("text/plain"));
    store.appendOctets(encode("x"), 0);
    store.addFork("x/y/z", 3000);
    const leaving = { source: { name: "a/b/s", incarnation: 2000 } };
    store.clear(leaving);
    const after = opened(db);
    assert.deepEqual([after.stream, after.forks(), after.leaving], [undefined, [], leaving]);
    after.create(streamOf("text/plain"));
    assert.equal(after.tail, 0);
  });

  it("is refused if a later release has written it", () => {
    const db = database();
    opened(db).create(streamOf("text/plain"));
    db.sql.exec("UPDATE facts SET value = '99' WHERE name = 'version'").toArray();
    assert.throws(() => opened(db), /NewerSchema/);
  });
});
