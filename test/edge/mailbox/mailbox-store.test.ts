/** The log of a mailbox: contents, order, numbers, and cost. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import {
  PURGED_IDS_AGE,
  RANGE_TIME,
  REMEMBER_IDS,
  RETENTION,
  UNSENT_OCTETS,
} from "../../../src/edge/mailbox/limits.ts";
import { MailboxStore } from "../../../src/edge/mailbox/mailbox-store.ts";
import { MESSAGE_LIMIT } from "../../../src/edge/policy/limits.ts";
import type { Outcome } from "../../../src/edge/rpc/mailbox-rpc.ts";
import { pack, unpack } from "../../../src/edge/rpc/message-batch.ts";
import { type Range, Ranges } from "../../../src/lib/ranges.ts";
import type { Envelope, Mail } from "../../../src/store-and-forward/envelope.ts";
import { type Amount, RESERVE } from "../../../src/store-and-forward/sender-share.ts";
import { runs } from "../../support/long-form.ts";
import { database, type TestDatabase } from "./sqlite.ts";

const MIB = 1024 * 1024;
const NOW = Date.UTC(2026, 10, 1);

function open(db: TestDatabase, quota?: Amount, share = 0.5): MailboxStore {
  return quota === undefined
    ? new MailboxStore(db.sql, db.transaction)
    : new MailboxStore(db.sql, db.transaction, { quota: { ...quota, share } });
}

const envelopes = new Map<string, Envelope>();

/** One envelope per source, as the messages of a session share one. */
function envelopeOf(source: string): Envelope {
  const known = envelopes.get(source);
  if (known !== undefined) return known;
  const envelope = { source, resourceURL: "message", identityURL: "grooveIdentity://bob", deviceURL: "" };
  envelopes.set(source, envelope);
  return envelope;
}

function mail(id: string, body: Uint8Array | number = 10, source = "grooveDevice://alice/laptop"): Mail {
  return {
    envelope: envelopeOf(source),
    fields: { userRef: id, track: false },
    body: typeof body === "number" ? pattern(body, id) : body,
  };
}

function append(store: MailboxStore, mails: readonly Mail[], now: number, reserve = false): Outcome[] {
  return store.append(pack(mails), now, { reserve });
}

/** The size of a message without its envelope, and of its envelope, as stored and sent. */
function lengthOf(mail: Mail): number {
  return pack([mail]).octets.length;
}

function shareOf({ envelope }: Mail): number {
  return new TextEncoder().encode(JSON.stringify(envelope)).length;
}

/** The size of a batch in an empty store: each envelope counts once. */
function sizeOf(mails: readonly Mail[]): number {
  const envelopes = new Map(mails.map((one) => [JSON.stringify(one.envelope), shareOf(one)]));
  return [...envelopes.values(), ...mails.map(lengthOf)].reduce((sum, octets) => sum + octets, 0);
}

/** The result of `read`, message by message, with the size of each. */
function read(
  store: MailboxStore,
  after: number,
  octets: number,
  count: number,
  excluded?: Ranges,
): { seq: number; size: number; mail: Mail }[] {
  return store.read(after, octets, count, { excluded }).flatMap(({ first, bundle, sizes }) => {
    const mails = unpack(bundle);
    const envelopes = new Set(mails.map(({ envelope }) => envelope));
    assert.equal(envelopes.size, bundle.envelopes.length, "no unused envelope is sent");
    assert.deepEqual(
      sizes.reduce((sum, size) => sum + size, 0),
      bundle.octets.length + JSON.stringify(bundle.envelopes).length - 1 - bundle.envelopes.length,
    );
    return mails.map((mail, at) => ({ seq: first + at, size: sizes[at] ?? 0, mail }));
  });
}

function all(store: MailboxStore, after = 0): { seq: number; mail: Mail }[] {
  return read(store, after, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY);
}

/** Octets that differ between messages and between positions within one. */
function pattern(length: number, id: string): Uint8Array {
  const octets = new Uint8Array(length);
  let state = [...id].reduce((sum, c) => (sum * 31 + c.charCodeAt(0)) | 0, 7);
  for (let i = 0; i < length; i += 1) {
    state = (state * 1103515245 + 12345) | 0;
    octets[i] = state >>> 16;
  }
  return octets;
}

function ids(store: MailboxStore, after = 0): string[] {
  return all(store, after).map((one) => one.mail.fields.userRef);
}

function numbers(store: MailboxStore, after = 0): number[] {
  return all(store, after).map((one) => one.seq);
}

describe("the mailbox store", () => {
  it("returns messages in order of arrival with consecutive numbers", () => {
    const store = open(database());
    assert.deepEqual(append(store, [mail("a"), mail("b")], NOW), ["stored", "stored"]);
    assert.deepEqual(append(store, [mail("c")], NOW), ["stored"]);
    assert.deepEqual(ids(store), ["a", "b", "c"]);
    assert.deepEqual(numbers(store), [1, 2, 3]);
    assert.deepEqual(ids(store, 2), ["c"]);
    assert.deepEqual(ids(store, 3), []);
  });

  it("reads no more than requested, but at least one message of any length", () => {
    const store = open(database());
    append(store, [mail("a", 100), mail("b", 100), mail("c", 100)], NOW);
    append(store, [mail("d", 100)], NOW);
    const numbersOf = (after: number, octets: number, count: number) =>
      read(store, after, octets, count).map((m) => m.seq);
    const two = sizeOf([mail("a", 100), mail("b", 100)]);
    const three = sizeOf([mail("a", 100), mail("b", 100), mail("c", 100)]);
    assert.deepEqual(numbersOf(0, two, 10), [1, 2]);
    assert.deepEqual(numbersOf(0, three - 1, 10), [1, 2]);
    assert.deepEqual(numbersOf(0, three, 10), [1, 2, 3]);
    assert.deepEqual(numbersOf(0, 1, 10), [1]);
    assert.deepEqual(numbersOf(1, 10_000, 2), [2, 3]);
    assert.deepEqual(numbersOf(1, 10_000, 0), []);
    assert.deepEqual(numbersOf(2, 10_000, 10), [3, 4]);
  });

  it("never reuses a number, even if everything was removed and the store was reopened", () => {
    const db = database();
    let store = open(db);
    append(store, [mail("a"), mail("b"), mail("c")], NOW);
    store.remove([[1, 3]]);
    assert.equal(store.position, 3);
    store = open(db);
    assert.equal(store.position, 3);
    append(store, [mail("d")], NOW);
    assert.deepEqual(numbers(store), [4]);
    store.purge(NOW);
    store.purge(NOW);
    store = open(db);
    append(store, [mail("e")], NOW);
    assert.deepEqual(numbers(store), [5]);
    store.remove([[1, 1000]]);
    append(store, [mail("f")], NOW);
    assert.deepEqual(numbers(store), [6], "unknown numbers cannot be settled");
  });

  it("keeps counts and sizes with a partly settled segment, across reopening", () => {
    const db = database();
    let store = open(db);
    append(store, [mail("a", 1), mail("b", 10), mail("c", 100)], NOW);
    append(store, [mail("d", 1000), mail("e", 10_000)], NOW + 5);
    store.remove([[1, 2]]);
    const left = sizeOf([mail("c", 100)]) + sizeOf([mail("d", 1000), mail("e", 10_000)]);
    for (const turn of ["before", "after"]) {
      const { messages, octets, oldest } = store.waiting();
      assert.deepEqual([messages, octets, oldest], [3, left, NOW], `${turn} reopening`);
      assert.deepEqual(ids(store), ["c", "d", "e"]);
      store = open(db);
    }
  });

  it("removes messages in any order, across reopening", () => {
    const db = database();
    let store = open(db);
    append(store, [mail("a"), mail("b"), mail("c"), mail("d")], NOW);
    append(store, [mail("e"), mail("f")], NOW);
    append(store, [mail("g")], NOW);
    store.remove([
      [2, 3],
      [5, 7],
    ]);
    for (const turn of ["before", "after"]) {
      assert.deepEqual(ids(store), ["a", "d"], `${turn} reopening`);
      assert.deepEqual([store.position, store.last], [0, 7]);
      const { messages, octets } = store.waiting();
      assert.deepEqual([messages, octets], [2, sizeOf([mail("a"), mail("d")])]);
      store = open(db);
    }
    store.remove([[1, 1]]);
    assert.equal(store.position, 3);
    store.remove([[1, 7]]);
    assert.deepEqual([store.position, store.messages, store.waiting().octets], [7, 0, 0]);
    store = open(db);
    append(store, [mail("h")], NOW);
    assert.deepEqual(numbers(store), [8], "the last numbers are not reused though they were removed first");
  });

  it("returns waiting messages around holes in runs, without excluded ones", () => {
    const store = open(database());
    append(
      store,
      ["a", "b", "c", "d", "e", "f"].map((id) => mail(id)),
      NOW,
    );
    append(store, [mail("g"), mail("h")], NOW);
    store.remove([[2, 2]]);
    const runs = (after: number, count: number, ...excluded: Range[]) =>
      store
        .read(after, MIB, count, { excluded: new Ranges(excluded) })
        .map(({ first, sizes }) => [first, sizes.length]);
    assert.deepEqual(runs(0, 10), [
      [1, 1],
      [3, 4],
      [7, 2],
    ]);
    assert.deepEqual(runs(0, 3, [4, 5]), [
      [1, 1],
      [3, 1],
      [6, 1],
    ]);
    assert.deepEqual(runs(1, 10, [3, 6], [8, 20]), [[7, 1]]);
    assert.deepEqual(runs(0, 10, [1, 8]), []);
  });

  it("removes expired messages behind a settled one", () => {
    const store = open(database());
    append(store, [mail("a"), mail("b"), mail("c")], NOW);
    append(store, [mail("d")], NOW + 1000);
    store.remove([[2, 2]]);
    assert.equal(store.expire(NOW + RETENTION + 1), 2);
    assert.deepEqual(ids(store), ["d"]);
    assert.equal(store.position, 3);
  });

  it("drops an id that the same source has used, even after the message is gone and the store was reopened", () => {
    const db = database();
    let store = open(db);
    append(store, [mail("a"), mail("b")], NOW);
    assert.deepEqual(append(store, [mail("b"), mail("c"), mail("c")], NOW), ["duplicate", "stored", "duplicate"]);
    assert.deepEqual(append(store, [mail("a", 10, "grooveDevice://carol/pc")], NOW), ["stored"]);
    store.remove([[1, 2]]);
    store = open(db);
    assert.deepEqual(append(store, [mail("a"), mail("d")], NOW), ["duplicate", "stored"]);
    assert.deepEqual(append(store, [mail("a", 10, "grooveDevice://carol/pc")], NOW), ["duplicate"]);
    assert.deepEqual(append(store, [mail(""), mail("")], NOW), ["stored", "stored"], "without an id they are distinct");
  });

  it("refuses messages over the quota of octets or messages, and all later ones of their source in the batch", () => {
    const first = [mail("a", 60)];
    const more = [mail("c", 40), mail("d", 0), mail("e", 0), mail("f", 0)];
    const octets = 2 * (sizeOf(first) + sizeOf(more)) + 300;
    const store = open(database(), { octets, messages: 8 });
    const others = mail("c", 1, "grooveDevice://carol/pc");
    const outcomes: Outcome[] = append(
      store,
      [...first, mail("b", Math.floor(octets / 2)), mail("c", 1), others, mail("a", 60)],
      NOW,
    );
    assert.deepEqual(outcomes, ["stored", "quota", "quota", "stored", "duplicate"]);
    store.remove([[2, 2]]);
    assert.deepEqual(append(store, more, NOW), ["stored", "stored", "stored", "quota"]);
    store.remove([[1, 1]]);
    assert.deepEqual(append(store, [mail("b", 60)], NOW), ["stored"], "a refused id is not remembered");
    assert.deepEqual(ids(store), ["c", "d", "e", "b"]);
  });

  it("leaves a later sender as much room as the one before has taken", () => {
    const db = database();
    let store = open(db, { octets: 100 * MIB, messages: 64 });
    const fill = (name: string, device = "pc") =>
      append(
        store,
        Array.from({ length: 64 }, (_, i) => mail(`${i}`, 0, `grooveDevice://${name}/${device}`)),
        NOW,
      ).filter((outcome) => outcome === "stored").length;
    assert.equal(fill("mallory"), 32);
    assert.equal(fill("mallory", "phone"), 0, "devices of an identity share their room");
    store = open(db, { octets: 100 * MIB, messages: 64 });
    assert.deepEqual(
      ["alice", "bob", "carol"].map((name) => fill(name)),
      [16, 8, 4],
    );
    assert.equal(store.messages, 60);
    store.remove([[1, 32]]);
    assert.equal(fill("dora"), 18, "half of what is free");
  });

  it("counts exactly what waits of a relay, also while segments are settled in part, and after a restart", () => {
    const relay = "grooveDNS://relay.example.com";
    const quota = { octets: 64 * MIB, messages: 1000 };
    const db = database();
    let store = open(db, quota);
    let n = 0;
    const some = (...names: string[]) => names.map((name) => mail(`${++n}@${name}@relay.example.com`, 2000, relay));
    const check = (whose: string, messages: number) => {
      const octets = messages * lengthOf(some("alice")[0] as Mail);
      const counted = store.octetsOf(whose);
      assert.ok(counted >= octets && counted < octets + 4000, `${whose}: ${counted} of ${octets}`);
    };
    for (const reopen of [false, true]) {
      // So much that what waits of each sender stays in memory.
      const others = Array.from({ length: 300 }, (_, i) => mail(`other-${reopen}-${i}`, 2000));
      append(store, others, NOW);
      for (const names of [["alice"], ["alice", "bob"]]) {
        const before = store.last;
        append(store, some(...Array.from({ length: 20 }, (_, i) => names[i % names.length] ?? "")), NOW);
        check(relay, 20);
        // One by one: first with the body, and from some point on the rest is rewritten.
        for (let settled = 1; settled < 20; settled += 1) {
          store.remove([[before + settled, before + settled]]);
          if (reopen) store = open(db, quota);
          check(relay, 20 - settled);
        }
        store.remove([[before + 20, before + 20]]);
        check(relay, 0);
        check(`${relay} alice`, 0);
      }
    }
  });

  it("leaves as much room to the next of those for whom a relay vouches, and all of them have what it may have", () => {
    const relay = "grooveDNS://relay.example.com";
    const db = database();
    const quota = { octets: 100 * MIB, messages: 64 };
    let store = open(db, quota);
    const fill = (name: string, device = "pc") =>
      append(
        store,
        Array.from({ length: 64 }, (_, i) => mail(`${i}@${name}/${device}@relay.example.com`, 0, relay)),
        NOW,
      ).filter((outcome) => outcome === "stored").length;
    assert.equal(fill("mallory"), 16);
    assert.equal(fill("mallory", "phone"), 0, "devices of an identity share their room");
    store = open(db, quota);
    assert.deepEqual(
      ["alice", "bob", "carol"].map((name) => fill(name)),
      [8, 4, 2],
    );
    const atMark = (...names: string[]) =>
      store.atMark(pack(names.map((name) => mail(`9@${name}@relay.example.com`, 0, relay))));
    assert.deepEqual(atMark("mallory", "dora"), [`${relay} mallory`]);
    assert.ok(!store.isAtMark(relay) && !store.mayGoOn(`${relay} mallory`));
    assert.deepEqual([...store.octetsBySender().keys()], [relay], "its account is the relay's");
    const made = Array.from({ length: 64 }, (_, i) => mail(`1@made-up-${i}@relay.example.com`, 0, relay));
    append(store, made, NOW);
    assert.ok(store.messages <= 32, "made-up senders get no more");
    assert.deepEqual(append(store, [mail("1", 0, "grooveDevice://erin/pc")], NOW), ["stored"]);
    store.remove([[1, 12]]);
    store.remove([[17, 32]]);
    assert.ok(store.mayGoOn(`${relay} mallory`));
  });

  it("refuses messages of an excluded envelope, and accepts others", () => {
    const store = open(database());
    const batch = [mail("a"), mail("b", 10, "grooveDevice://mallory/pc"), mail("c")];
    const outcomes = store.append(pack(batch), NOW, { shutOut: ({ source }) => source.includes("mallory") });
    assert.deepEqual(outcomes, ["stored", "locked", "stored"]);
    assert.deepEqual(ids(store), ["a", "c"]);
    assert.deepEqual(append(store, batch, NOW), ["duplicate", "stored", "duplicate"]);
  });

  it("acknowledges a stored message again even if its sender is now excluded", () => {
    const store = open(database());
    append(store, [mail("a")], NOW);
    const outcomes = store.append(pack([mail("a"), mail("b")]), NOW, { shutOut: () => true });
    assert.deepEqual(outcomes, ["duplicate", "locked"]);
  });

  it("refuses a message that can never be stored, and nothing else", () => {
    const store = open(database());
    const entries = Array.from({ length: 20_000 }, (_, i) => ({
      identityURL: `grooveIdentity://somebody-with-a-long-name-${i}`,
      deviceURL: "",
    }));
    const huge: Mail = { ...mail("b"), envelope: { ...mail("b").envelope, entries } };
    const batch = [mail("a"), huge, mail("c", MESSAGE_LIMIT + 1), mail("d")];
    assert.deepEqual(append(store, batch, NOW), ["stored", "tooLong", "tooLong", "stored"]);
    assert.deepEqual(ids(store), ["a", "d"]);
  });

  it("stores a long envelope once for all segments, as long as one uses it", () => {
    const db = database();
    let store = open(db);
    const entries = Array.from({ length: 1000 }, (_, i) => ({ identityURL: `grooveIdentity://u${i}`, deviceURL: "" }));
    const envelope = { ...mail("").envelope, identityURL: "", entries };
    const long = (id: string): Mail => ({ ...mail(id), envelope: { ...envelope } });
    const rows = () => db.sql.exec("SELECT segments FROM envelopes").toArray();
    append(store, [long("a"), mail("b")], NOW);
    const { octets } = store.waiting();
    append(store, [long("c")], NOW);
    assert.deepEqual(
      rows().map(({ segments }) => segments),
      [2],
    );
    assert.equal(store.waiting().octets - octets, lengthOf(long("c")));
    store = open(db);
    assert.deepEqual(
      all(store).map((one) => one.mail.envelope.entries?.length),
      [1000, undefined, 1000],
    );
    store.remove([[1, 1]]);
    store.remove([[3, 3]]);
    assert.equal(rows().length, 1);
    store.remove([[2, 2]]);
    assert.deepEqual([rows().length, store.waiting().octets], [0, 0]);
  });

  it("keeps each row far below the platform's limit for any input", () => {
    const many = (count: number, resource: number, id: string, size: number) =>
      Array.from({ length: count }, (_, i) => ({
        ...mail(`${id}${i}x`, size),
        envelope: { ...mail("").envelope, resourceURL: "r".repeat(resource) + i },
      }));
    for (const batch of [
      many(1000, 2000, "i", 0),
      many(1000, 5000, "i", 100),
      many(1000, 200, "\u0001".repeat(1990), 0),
      many(40, 100_000, "i", 30_000),
    ]) {
      const db = database();
      const store = open(db);
      append(store, batch, NOW);
      assert.equal(all(open(db)).length, batch.length);
      for (const table of ["segments", "envelopes", "ids", "bodies", "senders"]) {
        for (const row of db.sql.exec(`SELECT * FROM ${table}`).toArray()) {
          const octets = Object.values(row).reduce<number>((sum, one) => sum + sizeOfCell(one), 0);
          assert.ok(octets < 1_500_000, `${octets} octets in a row of ${table}`);
        }
      }
    }
  });

  it("frees the space of settled messages behind one that still waits", () => {
    const db = database();
    let store = open(db);
    const batch = [mail("a", 20_000), mail("b", 100), mail("c", 30_000), mail("d", 2 * MIB)];
    append(store, batch, NOW);
    store.remove([
      [1, 1],
      [3, 4],
    ]);
    const stored = () => Number(db.sql.exec("SELECT sum(length(body)) AS octets FROM segments").toArray()[0]?.octets);
    assert.ok(stored() < 1000, `${stored()} octets are kept`);
    assert.equal(store.waiting().octets, sizeOf([mail("b", 100)]));
    store = open(db);
    assert.deepEqual(store.waiting(), { messages: 1, octets: sizeOf([mail("b", 100)]), oldest: NOW });
    assert.deepEqual(
      all(store).map(({ seq, mail: { fields, body } }) => [seq, fields.userRef, body.length]),
      [[2, "b", 100]],
    );
    store.remove([[2, 2]]);
    assert.deepEqual([store.position, store.waiting().octets], [4, 0]);
  });

  it("splits long bodies over rows, and deletes the rows with them", () => {
    const db = database();
    let store = open(db);
    const sizes = [512 * 1024, 512 * 1024 + 1, MIB, 3 * MIB + 17, 16 * MIB];
    append(
      store,
      sizes.map((size, i) => mail(`m${i}`, size)),
      NOW,
    );
    store = open(db);
    assert.equal(store.waiting().octets, sizeOf(sizes.map((size, i) => mail(`m${i}`, size))));
    const kept = all(store);
    for (const [i, size] of sizes.entries()) {
      assert.ok(Buffer.from(kept[i]?.mail.body ?? []).equals(pattern(size, `m${i}`)), `body of ${size} octets`);
    }
    const rows = db.sql.exec("SELECT seq, count(*) AS rows FROM bodies GROUP BY seq ORDER BY seq").toArray();
    assert.deepEqual(
      rows.map(({ seq, rows }) => [seq, rows]),
      [
        [2, 1],
        [3, 1],
        [4, 3],
        [5, 16],
      ],
    );
    store.remove([[1, 4]]);
    assert.deepEqual(
      db.sql
        .exec("SELECT DISTINCT seq FROM bodies")
        .toArray()
        .map(({ seq }) => seq),
      [5],
    );
    store.purge(NOW);
    assert.deepEqual(db.sql.exec("SELECT seq FROM bodies").toArray(), []);
  });

  it("sends long bodies as they came, and reads them back only to send them again", () => {
    const db = database();
    const queries: string[] = [];
    const sql = {
      exec(query: string, ...bindings: Parameters<typeof db.sql.exec> extends [string, ...infer Rest] ? Rest : never) {
        queries.push(query);
        return db.sql.exec(query, ...bindings);
      },
    };
    const store = new MailboxStore(sql, db.transaction);
    const bodiesRead = () => queries.splice(0).filter((query) => /SELECT.*FROM bodies/.test(query)).length;
    const sent = [mail("1", MIB), mail("2", 10), mail("3", MIB)];
    const bodies = sent.map(({ body }) => body);
    append(store, sent, NOW);
    const bodiesOf = (after: number, count: number) => read(store, after, 9 * MIB, count).map((one) => one.mail.body);
    assert.deepEqual([...bodiesOf(0, 1), ...bodiesOf(1, 2)], bodies);
    assert.equal(bodiesRead(), 0);
    assert.deepEqual(bodiesOf(0, 3), bodies);
    assert.equal(bodiesRead(), 2);
    // What is kept is bounded.
    const most = Math.floor(UNSENT_OCTETS / MIB);
    for (let n = 0; n < most + 4; n += 1) append(store, [mail(String(n + 4), MIB)], NOW);
    assert.equal(read(store, 3, 2 * UNSENT_OCTETS, most + 4).length, most + 4);
    assert.ok(bodiesRead() >= 4);
  });

  it("splits a batch into segments that fit a row", () => {
    const db = database();
    const store = open(db);
    append(
      store,
      Array.from({ length: 30 }, (_, i) => mail(`m${i}`, 100_000)),
      NOW,
    );
    const rows = db.sql.exec("SELECT length(body) AS octets, count FROM segments ORDER BY first").toArray();
    assert.ok(rows.length > 1);
    for (const { octets } of rows) assert.ok(Number(octets) <= MIB, `${octets} octets in a row`);
    assert.equal(ids(open(db)).length, 30);
  });

  it("removes messages older than the retention, and reports the next expiry", () => {
    const db = database();
    const store = open(db);
    assert.equal(store.expiry(), undefined);
    append(store, [mail("", 1), mail("", 2)], NOW);
    append(store, [mail("", 3)], NOW + 1000);
    assert.equal(store.expiry(), NOW + RETENTION + 1);
    assert.equal(store.expire(NOW + RETENTION), 0);
    assert.equal(store.expire(NOW + RETENTION + 1), 2);
    assert.deepEqual(
      all(store).map((one) => one.mail.body.length),
      [3],
    );
    assert.equal(store.expiry(), NOW + 1000 + RETENTION + 1);
    assert.equal(store.expire(store.expiry() ?? 0), 1);
    assert.equal(store.expiry(), undefined);
    assert.deepEqual(store.waiting(), { messages: 0, octets: 0, oldest: undefined });
  });

  it("always has something to remove at the reported expiry", () => {
    const db = database();
    const store = open(db);
    for (let i = 0; i < 20; i += 1) append(store, [mail(`m${i}`)], NOW + i * 3600_000 * 17);
    let steps = 0;
    for (let due = store.expiry(); due !== undefined; due = store.expiry()) {
      store.expire(due);
      const next = store.expiry();
      assert.ok(next === undefined || next > due, "an alarm must not repeat without anything to do");
      steps += 1;
      assert.ok(steps < 100);
    }
    assert.equal(store.waiting().messages, 0);
  });

  it("forgets ids by age", () => {
    const db = database();
    let store = open(db);
    append(store, [mail("a")], NOW);
    append(store, [mail("b")], NOW + 1000);
    store.purge(NOW);
    const kept = REMEMBER_IDS + RANGE_TIME;
    assert.equal(store.expiry(), NOW + kept + 1);
    store.expire(NOW + kept + 1);
    assert.equal(store.expiry(), NOW + 1000 + kept + 1);
    assert.deepEqual(append(store, [mail("a"), mail("b")], NOW + kept + 1), ["stored", "duplicate"]);
    store = open(db);
    assert.deepEqual(append(store, [mail("b")], NOW), ["duplicate"]);
  });

  it("forgets ids by age even while their messages wait, across reopening", () => {
    const db = database();
    let store = open(db);
    append(store, [mail("a")], NOW);
    // After the third their messages are too old as well.
    for (const turn of [1]) {
      const now = NOW + turn * (REMEMBER_IDS + RANGE_TIME + 1);
      store.expire(now);
      assert.deepEqual(append(store, [mail("a")], now), ["stored"]);
      store = open(db);
      assert.deepEqual(append(store, [mail("a")], now), ["duplicate"]);
    }
    assert.deepEqual(ids(store), ["a", "a"]);
  });

  it("keeps nothing of settled messages without an id", () => {
    const db = database();
    const store = open(db);
    append(store, [mail(""), mail("")], NOW);
    append(store, [mail(""), mail("x")], NOW);
    store.purge(NOW);
    assert.equal(db.sql.exec("SELECT head FROM ids").toArray().length, 1);
    assert.deepEqual(append(store, [mail(""), mail("x")], NOW), ["stored", "duplicate"]);
  });

  it("remembers nothing of a batch that failed to write: it is stored when resent", () => {
    const db = database();
    const store = open(db);
    append(store, [mail("a")], NOW);
    for (const statement of ["INSERT INTO bodies", "INSERT INTO segments", "INSERT INTO ids", "UPDATE senders"]) {
      db.failAt = statement;
      assert.throws(() => append(store, [mail("b"), mail("c", 2 * MIB)], NOW), /disk is full/);
    }
    for (const statement of ["DELETE FROM segments", "DELETE FROM bodies"]) {
      db.failAt = statement;
      assert.throws(() => store.remove([[1, 1]]), /disk is full/);
    }
    db.failAt = undefined;
    assert.deepEqual(store.waiting(), { messages: 1, octets: sizeOf([mail("a")]), oldest: NOW });
    assert.deepEqual(append(store, [mail("b"), mail("c", 2 * MIB)], NOW), ["stored", "stored"]);
    assert.deepEqual(numbers(store), [1, 2, 3]);
    assert.deepEqual(ids(open(db)), ["a", "b", "c"]);
    assert.deepEqual(append(store, [mail("m-1")], NOW), ["stored"]);
    db.failAt = "UPDATE ids";
    let number = 2;
    const appendAll = () => {
      for (; number < 200; number += 1) append(store, [mail(`m-${number}`)], NOW);
    };
    assert.throws(appendAll, /disk is full/);
    db.failAt = undefined;
    assert.equal(ids(open(db)).at(-1), `m-${number - 1}`, "it is not stored in part");
    assert.deepEqual(append(store, [mail(`m-${number - 1}`)], NOW), ["duplicate"]);
    assert.deepEqual(append(store, [mail(`m-${number}`)], NOW), ["stored"]);
    assert.deepEqual(numbers(store).length, 3 + number);
  });

  it("leaves no table behind if nothing was written", () => {
    const db = database();
    const store = open(db);
    assert.deepEqual([store.expire(NOW), store.purge(NOW), store.expiry()], [0, 0, undefined]);
    store.remove([[1, 5]]);
    assert.deepEqual([all(store), store.fact("locked"), store.waiting().messages, store.last], [[], undefined, 0, 0]);
    assert.deepEqual(db.sql.exec("SELECT name FROM sqlite_master").toArray(), []);
  });

  it("is searched without reading what others have sent", () => {
    const db = database();
    const store = open(db);
    const [alice, bob] = ["grooveDevice://alice/pc", "grooveDevice://bob/pc"];
    for (let n = 0; n < 5; n += 1) append(store, [mail(`a${n}`, 1000, alice)], NOW);
    append(store, [mail("b0", 1000, bob), mail("b1", 1000, bob)], NOW);
    const nobodys = store.find({ source: "grooveDevice://carol/pc", idPrefix: "" }, 0);
    assert.deepEqual(nobodys, { found: [], next: undefined, read: { octets: 0, messages: 6 } });
    const bobs = store.find({ source: bob, idPrefix: "b1" }, 0);
    const octets = lengthOf(mail("b0", 1000, bob)) + lengthOf(mail("b1", 1000, bob));
    assert.deepEqual(bobs, { found: [[7, 7]], next: undefined, read: { octets, messages: 8 } });
  });

  it("starts at the given number, and rejects data of a later release", () => {
    const db = database();
    const made = new MailboxStore(db.sql, db.transaction, { firstNumber: () => 7000 });
    append(made, [mail("a")], NOW);
    assert.deepEqual(numbers(made), [7000]);
    made.purge(NOW);
    assert.deepEqual([open(db).position, open(db).last], [7000, 7000]);
    made.setFact("version", "5");
    assert.throws(() => open(db), /NewerSchema: a mailbox has version 5/);
  });

  it("has no tables of messages until the first, and changes nothing without them", () => {
    const db = database();
    const store = open(db);
    const tables = () => db.sql.exec("SELECT name FROM sqlite_master WHERE type = 'table'").toArray().length;
    store.setFact("generation", "7");
    assert.equal(tables(), 1);
    assert.deepEqual([store.purge(NOW), store.expire(NOW), store.messages, store.empty], [0, 0, 0, true]);
    store.settle([[1, 9]], NOW);
    assert.equal(tables(), 1);
    assert.deepEqual(append(open(db), [mail("a")], NOW), ["stored"]);
    assert.ok(tables() > 5);
    assert.deepEqual([open(db).messages, open(db).fact("generation")], [1, "7"]);
  });

  it("makes its tables again if making them failed", () => {
    const db = database();
    const store = open(db);
    store.setFact("generation", "7");
    db.failAt = "CREATE TABLE segments";
    assert.throws(() => append(store, [mail("a")], NOW), /disk is full/);
    db.failAt = undefined;
    assert.deepEqual(append(store, [mail("a")], NOW), ["stored"]);
  });

  it("writes at most a tenth of a row per message of a batch, including its removal", () => {
    const db = database();
    const store = open(db);
    append(store, [mail("first", 100)], NOW);
    const before = store.rowsWritten;
    const rounds = 10;
    for (let round = 0; round < rounds; round += 1) {
      append(
        store,
        Array.from({ length: 100 }, (_, i) => mail(`${round}-${i}`, 100)),
        NOW,
      );
      store.remove([[1, all(store).at(-1)?.seq ?? 0]]);
    }
    const each = (store.rowsWritten - before) / (rounds * 100);
    assert.ok(each <= 0.1, `${each} rows for a message`);
  });

  it("counts only what waits per sender, when a batch of several is partly settled", () => {
    const db = database();
    const quota = { octets: 3 * MIB, messages: 40 };
    const store = open(db, quota);
    const [alice, carol] = ["grooveDevice://alice/laptop", "grooveDevice://carol/pc"];
    append(store, [mail("0", MIB, alice), mail("0", 0, carol)], NOW);
    store.remove([[1, 1]]);
    assert.deepEqual(append(store, [mail("1", MIB, alice)], NOW), ["stored"]);
    store.remove([[3, 3]]);
    // Less than one sender's share waits after this, however the settled messages are counted.
    assert.deepEqual(append(store, [mail("2", 700_000, alice), mail("3", 700_000, alice)], NOW), ["stored", "stored"]);
  });

  it("knows what waits of each sender as if it were counted anew, also of those for whom a relay vouches", () => {
    const [relay, alice] = ["grooveDNS://relay.example.com", "grooveDevice://alice/laptop"];
    const vouched = fc.constantFrom("mallory/pc", "carol/pc").map((who) => ({ source: relay, who }));
    const sender = fc.oneof(vouched, fc.constant({ source: relay, who: "" }), fc.constant({ source: alice, who: "" }));
    const size = fc.oneof(fc.nat(300), fc.integer({ min: 3000, max: 40_000 }));
    const step = fc.oneof(
      { weight: 2, arbitrary: fc.array(fc.tuple(sender, size), { minLength: 1, maxLength: 6 }) },
      { weight: 3, arbitrary: fc.record({ from: fc.nat(30), count: fc.nat(4), keep: fc.boolean() }) },
      { weight: 1, arbitrary: fc.constant("read over HTTP" as const) },
    );
    const names = [relay, `${relay} mallory`, `${relay} carol`, "grooveDevice://alice"];
    fc.assert(
      fc.property(fc.array(step, { maxLength: 20 }), (steps) => {
        const db = database();
        const store = open(db);
        let sent = 0;
        for (const one of steps) {
          if (one === "read over HTTP") {
            if (store.exists) store.noteRead(NOW);
          } else if (Array.isArray(one)) {
            const mails = one.map(([{ source, who }, length]) => {
              sent += 1;
              return mail(who === "" ? "" : `${sent}@${who}@relay.example.com`, length, source);
            });
            append(store, mails, NOW);
          } else {
            const range: Range[] = [[one.from + 1, one.from + 1 + one.count]];
            if (one.keep) store.settle(range, NOW);
            else store.remove(range);
          }
          const counted = open(db);
          for (const name of names) assert.equal(store.octetsOf(name), counted.octetsOf(name), name);
          assert.equal(store.messages, counted.messages);
        }
      }),
      { numRuns: runs(200) },
    );
  });

  it("remembers consecutive ids without a row per message, across reopening", () => {
    const device = fc.constantFrom("grooveDevice://alice/laptop", "grooveDevice://carol/pc");
    const step = fc.oneof(
      { weight: 8, arbitrary: fc.record({ do: fc.constant("append"), source: device, count: fc.nat(90) }) },
      {
        weight: 2,
        arbitrary: fc.record({ do: fc.constant("remove"), part: fc.double({ min: 0, max: 1, noNaN: true }) }),
      },
      { weight: 1, arbitrary: fc.record({ do: fc.constant("expire") }) },
      { weight: 3, arbitrary: fc.record({ do: fc.constant("reopen") }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constant("spill") }) },
      { weight: 3, arbitrary: fc.record({ do: fc.constant("repeat"), source: device }) },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
        const db = database();
        let store = open(db);
        const sent = new Map<string, number>();
        for (const one of steps) {
          if (one.do === "append") {
            for (let left = one.count; left > 0; left -= 1) {
              const number: number = (sent.get(one.source) ?? 0) + 1;
              assert.deepEqual(append(store, [mail(`m-${number}`, 10, one.source)], NOW), ["stored"]);
              sent.set(one.source, number);
            }
          }
          if (one.do === "remove") {
            const { position, last } = store;
            store.remove([[1, position + Math.floor(one.part * (last - position))]]);
          }
          if (one.do === "expire") store.expire(NOW);
          if (one.do === "reopen") store = open(db);
          if (one.do === "repeat") {
            for (let number = sent.get(one.source) ?? 0; number > 0; number -= 7) {
              assert.deepEqual(append(store, [mail(`m-${number}`, 10, one.source)], NOW), ["duplicate"]);
            }
          }
        }
      }),
      { numRuns: runs(60) },
    );
    const db = database();
    const store = open(db);
    append(store, [mail("m-1")], NOW);
    const before = store.rowsWritten;
    for (let number = 2; number <= 1001; number += 1) append(store, [mail(`m-${number}`)], NOW);
    assert.ok(store.rowsWritten - before <= 1020, `${store.rowsWritten - before} rows for 1,000 messages`);
  });

  describe("when it may hold a long message", () => {
    const hold = (store: MailboxStore, ...held: Mail[]) =>
      held.flatMap((one) => store.append(pack([one]), NOW, { hold: true }));
    const long = (id: string, source?: string) => mail(id, 600_000, source);

    it("writes no row for it, and reads it like others", () => {
      const store = open(database());
      append(store, [mail("1")], NOW);
      hold(store, long("2"));
      const before = store.rowsWritten;
      assert.deepEqual(hold(store, long("3")), ["stored"]);
      assert.deepEqual([store.rowsWritten, store.messages, store.held?.number], [before, 3, 2]);
      assert.deepEqual(ids(store), ["1", "2", "3"]);
      assert.ok(
        all(store).every(({ mail: { fields, body } }) =>
          pattern(body.length, fields.userRef).every((octet, at) => body[at] === octet),
        ),
      );
    });

    it("loses it with its memory, and uses neither its number nor its id again", () => {
      const db = database();
      const store = open(db);
      hold(store, long("1"), long("2"));
      const { run } = store;
      const again = open(db);
      assert.deepEqual([again.messages, again.run === run], [0, false]);
      assert.deepEqual(append(again, [long("1"), long("2")], NOW), ["stored", "stored"], "they may be sent again");
      assert.ok((numbers(again)[0] ?? 0) > 2);
    });

    it("remembers its id once it is settled, and not the ids of those that are held", () => {
      const db = database();
      const store = open(db);
      hold(store, long("1"), long("2"), long("3"));
      store.settle([[2, 2]], NOW);
      assert.deepEqual(ids(store), ["1", "3"]);
      const again = open(db);
      assert.deepEqual(append(again, [mail("1"), mail("2"), mail("3")], NOW), ["stored", "duplicate", "stored"]);
    });

    it("writes it before a duplicate of it is known, and before any other message is stored", () => {
      const db = database();
      const store = open(db);
      hold(store, long("1"), long("2"));
      assert.deepEqual(hold(store, long("1")), ["duplicate"]);
      assert.deepEqual([store.held, ids(open(db))], [undefined, ["1", "2"]]);
      hold(store, long("3"));
      append(store, [mail("4")], NOW);
      assert.deepEqual([store.held, ids(open(db))], [undefined, ["1", "2", "3", "4"]]);
    });

    it("writes it in its place, with its number", () => {
      const db = database();
      const store = open(db);
      hold(store, long("1"), long("2"), long("3"));
      store.settle([[2, 2]], NOW);
      store.spill();
      for (const opened of [store, open(db)]) {
        assert.deepEqual(
          [ids(opened), numbers(opened)],
          [
            ["1", "3"],
            [1, 3],
          ],
        );
        assert.deepEqual(append(opened, [mail("2"), mail("3")], NOW), ["duplicate", "duplicate"]);
      }
    });

    it("forgets it if it cannot be written", () => {
      const db = database();
      const store = open(db);
      hold(store, long("1"), long("2"));
      const { run } = store;
      db.failAt = "INSERT INTO bodies";
      assert.throws(() => store.spill());
      db.failAt = undefined;
      assert.deepEqual([store.messages, store.run === run], [0, false]);
      assert.deepEqual(append(store, [mail("1")], NOW), ["stored"]);
    });

    it("holds no short message, none without a number in its id, and none of which readers would see nothing", () => {
      const store = open(database());
      const isHeld = (...mails: Mail[]) => {
        hold(store, ...mails);
        return store.held !== undefined;
      };
      assert.equal(isHeld(mail("1"), mail("", 600_000), mail("a", 600_000)), false);
      assert.equal(isHeld(long("2")), true);
      store.noteRead(NOW);
      assert.equal(store.held, undefined);
      assert.equal(isHeld(long("3")), false);
    });

    it("holds what one device has in flight, and no more", () => {
      const store = open(database());
      for (let n = 1; n <= 4; n += 1) hold(store, mail(`${n}`, MIB));
      assert.equal(store.held?.number, 1);
      hold(store, mail("5", MIB));
      assert.equal(store.held, undefined);
    });
  });

  it("matches a model through any operations, across reopening", () => {
    let held = 0;
    const size = fc.oneof(
      { weight: 6, arbitrary: fc.integer({ min: 0, max: 300 }) },
      { weight: 2, arbitrary: fc.integer({ min: 100_000, max: 400_000 }) },
      { weight: 1, arbitrary: fc.integer({ min: 520_000, max: 1_200_000 }) },
    );
    const fields = {
      id: fc.oneof({ weight: 1, arbitrary: fc.constant("") }, { weight: 8, arbitrary: fc.nat(60).map(String) }),
      source: fc.constantFrom("grooveDevice://alice/laptop", "grooveDevice://carol/pc"),
    };
    const message = fc.record({ ...fields, size });
    const step = fc.oneof(
      {
        weight: 6,
        arbitrary: fc.record({
          do: fc.constant("append"),
          batch: fc.array(message, { maxLength: 15 }),
          reserve: fc.boolean(),
          hold: fc.constant(false),
        }),
      },
      {
        weight: 4,
        arbitrary: fc.record({
          do: fc.constant("append"),
          batch: fc.tuple(fc.record({ ...fields, size: fc.integer({ min: 530_000, max: 600_000 }) })),
          reserve: fc.boolean(),
          hold: fc.constant(true),
        }),
      },
      {
        weight: 3,
        arbitrary: fc.record({ do: fc.constant("remove"), part: fc.double({ min: 0, max: 1, noNaN: true }) }),
      },
      {
        weight: 4,
        arbitrary: fc.record({
          do: fc.constant("remove some"),
          ranges: fc.array(fc.tuple(fc.nat(40), fc.nat(6)), { maxLength: 5 }),
        }),
      },
      {
        weight: 3,
        arbitrary: fc.record({
          do: fc.constant("read"),
          skip: fc.nat(30),
          octets: fc.nat(MIB),
          count: fc.nat(20),
          excluded: fc.array(fc.tuple(fc.nat(40), fc.nat(6)), { maxLength: 3 }),
        }),
      },
      { weight: 3, arbitrary: fc.record({ do: fc.constant("reopen") }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constant("spill") }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constant("purge") }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constant("expire"), days: fc.nat(9) }) },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), fc.constantFrom(3 * MIB, 12 * MIB), (steps, room) => {
        const quota = { octets: room, messages: 40 };
        const db = database();
        let store = open(db, quota);
        let now = NOW;
        let next = 1;
        let waiting: { seq: number; at: number; mail: Mail }[] = [];
        let known: { key: string; at: number }[] = [];
        const isHeld = (seq: number) => seq >= (store.held?.number ?? Number.POSITIVE_INFINITY);
        const keyOf = ({ envelope, fields }: Mail) => `${envelope.source} ${fields.userRef}`;
        for (const one of steps as readonly Step[]) {
          switch (one.do) {
            case "append": {
              const batch = one.batch.map(({ id, source, size }) => mail(id, size, source));
              const full = new Set<string>();
              let { octets } = store.waiting();
              const own = sharesIn(db);
              for (const each of waiting.filter(({ seq }) => isHeld(seq))) {
                const sender = each.mail.envelope.source.replace(/\/[^/]*$/, "");
                const of = own.get(sender) ?? { messages: 0, octets: 0 };
                const size = lengthOf(each.mail) + shareOf(each.mail);
                own.set(sender, { messages: of.messages + 1, octets: of.octets + size });
              }
              // No sender has more than all that waits.
              for (const of of own.values()) {
                of.messages = Math.min(of.messages, waiting.length);
                of.octets = Math.min(of.octets, octets);
              }
              const counted = new Set<string>();
              const expected = batch.map((each): Outcome => {
                const id = each.fields.userRef;
                const key = keyOf(each);
                if (id !== "" && known.some((other) => other.key === key)) return "duplicate";
                const share = counted.has(each.envelope.source) ? 0 : shareOf(each);
                const size = lengthOf(each) + share;
                const sender = each.envelope.source.replace(/\/[^/]*$/, "");
                const of = own.get(sender) ?? { messages: 0, octets: 0 };
                own.set(sender, of);
                const room = (free: number, reserve: number) =>
                  one.reserve ? Math.min(free * FOUR_TIMES, free + 2 * reserve) : free;
                const free = { messages: quota.messages - waiting.length - 1, octets: quota.octets - octets - size };
                const fits =
                  of.messages + 1 <= room(free.messages, RESERVE.messages) &&
                  of.octets + size <= room(free.octets, RESERVE.octets);
                if (!fits) full.add(each.envelope.source);
                if (full.has(each.envelope.source)) return "quota";
                of.messages += 1;
                of.octets += size;
                octets += size;
                counted.add(each.envelope.source);
                waiting.push({ seq: next, at: now, mail: each });
                next += 1;
                if (id !== "") known.push({ key, at: now });
                return "stored";
              });
              const { reserve, hold } = one;
              assert.deepEqual(store.append(pack(batch), now, { reserve, hold }), expected);
              held += store.held === undefined ? 0 : 1;
              break;
            }
            case "remove": {
              const seq = waiting[Math.floor(one.part * waiting.length)]?.seq ?? next - 1;
              store.remove([[1, seq]]);
              waiting = waiting.filter((each) => each.seq > seq);
              break;
            }
            case "remove some": {
              const done = new Ranges(one.ranges.map(([back, length]) => [next - back, next - back + length]));
              store.remove(done);
              // Numbers not yet assigned are not settled.
              waiting = waiting.filter(({ seq }) => !done.has(seq));
              break;
            }
            case "read": {
              const after = Math.max(0, next - one.skip);
              const excluded = new Ranges(one.excluded.map(([back, length]) => [next - back, next - back + length]));
              const candidates = waiting.filter(({ seq }) => seq > after && !excluded.has(seq));
              const found = read(store, after, one.octets, one.count, excluded);
              assert.deepEqual(
                found.map(({ seq }) => seq),
                candidates.slice(0, found.length).map(({ seq }) => seq),
              );
              const octets = found.reduce((sum, { size }) => sum + size, 0);
              assert.ok(found.length <= one.count && (found.length <= 1 || octets <= one.octets));
              const more = candidates[found.length]?.mail;
              const wanted = found.length < one.count && more !== undefined;
              // No message that had room is left out.
              if (wanted) assert.ok(found.length > 0 && octets + lengthOf(more) + shareOf(more) > one.octets);
              break;
            }
            case "reopen": {
              // Of what is held nothing is left, and its numbers are not used again.
              const lost = waiting.filter(({ seq }) => isHeld(seq)).map(({ mail }) => keyOf(mail));
              waiting = waiting.filter(({ seq }) => !isHeld(seq));
              known = known.filter(({ key }) => !lost.includes(key));
              store = open(db, quota);
              assert.ok(store.last + 1 >= next);
              next = store.last + 1;
              break;
            }
            case "spill":
              store.spill();
              assert.equal(store.held, undefined);
              break;
            case "purge":
              assert.equal(store.purge(now), waiting.length);
              waiting = [];
              known = known.filter(({ at }) => at >= now - PURGED_IDS_AGE - RANGE_TIME);
              break;
            case "expire": {
              now += one.days * 24 * 3600_000;
              const old = waiting.filter(({ at }) => at < now - RETENTION).length;
              assert.equal(store.expire(now), old);
              waiting = waiting.slice(old);
              known = known.filter(({ at }) => at >= now - REMEMBER_IDS - RANGE_TIME);
              break;
            }
          }
          const { messages, octets, oldest } = store.waiting();
          assert.deepEqual([messages, oldest], [waiting.length, waiting[0]?.at]);
          const least = waiting.reduce((sum, each) => sum + lengthOf(each.mail), 0);
          assert.ok(waiting.length === 0 ? octets === 0 : octets > least, `${octets} octets of ${least} are counted`);
          assert.equal(store.position, (waiting[0]?.seq ?? next) - 1);
          const again = open(db, quota);
          assert.equal(again.waiting().messages, waiting.filter(({ seq }) => !isHeld(seq)).length);
          assert.ok(again.last >= store.last);
          if (store.held !== undefined || again.last > store.last) continue;
          assert.deepEqual(again.waiting(), store.waiting());
          assert.deepEqual([again.position, again.last], [store.position, store.last]);
        }
        store.spill();
        for (const opened of [store, open(db, quota)]) {
          const kept = all(opened);
          const headOf = ({ seq, mail: { envelope, fields } }: { seq: number; mail: Mail }) => [
            seq,
            fields.userRef,
            envelope.source,
          ];
          assert.deepEqual(kept.map(headOf), waiting.map(headOf));
          for (const [i, one] of kept.entries())
            assert.ok(Buffer.from(one.mail.body).equals(waiting[i]?.mail.body ?? new Uint8Array()));
        }
      }),
      { numRuns: runs(60) },
    );
    assert.ok(held > 0, "some messages were held");
  });
});

/** The limit of a sender that ignores suspension, as a multiple of its share. */
const FOUR_TIMES = 4;

function sizeOfCell(cell: unknown): number {
  if (typeof cell === "string") return new TextEncoder().encode(cell).length;
  return cell instanceof Uint8Array ? cell.length : 8;
}

/** What each sender has in a store, as stored. */
function sharesIn(db: TestDatabase): Map<string, { messages: number; octets: number }> {
  const shares = new Map<string, { messages: number; octets: number }>();
  if (db.sql.exec("SELECT name FROM sqlite_master").toArray().length === 0) return shares;
  const rows = db.sql.exec(
    "SELECT senders, messages, octets FROM (SELECT first, senders FROM segments) LEFT JOIN done USING (first)",
  );
  for (const row of rows.toArray()) {
    const all = JSON.parse(String(row.senders)) as [string, number, number][];
    for (const [sender, messages, octets] of all) {
      const share = shares.get(sender) ?? { messages: 0, octets: 0 };
      // With several senders it is unknown whose messages are settled.
      const done = all.length === 1 ? row : {};
      shares.set(sender, {
        messages: share.messages + messages - Number(done.messages ?? 0),
        octets: share.octets + octets - Number(done.octets ?? 0),
      });
    }
  }
  return shares;
}

type Step =
  | { do: "append"; batch: readonly { id: string; source: string; size: number }[]; reserve: boolean; hold: boolean }
  | { do: "remove"; part: number }
  | { do: "remove some"; ranges: readonly [number, number][] }
  | { do: "read"; skip: number; octets: number; count: number; excluded: readonly [number, number][] }
  | { do: "reopen" }
  | { do: "spill" }
  | { do: "purge" }
  | { do: "expire"; days: number };
