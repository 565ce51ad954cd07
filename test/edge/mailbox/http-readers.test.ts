/** A mailbox's object, its readers over HTTP, and what is set over HTTP: in time that the test drives. */
import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { ENDLESS } from "../../../src/edge/durable-streams/expiry.ts";
import {
  NOTE_INTERVAL,
  PRODUCERS,
  REMEMBER_IDS,
  RETENTION,
  SENDER_PRODUCERS,
} from "../../../src/edge/mailbox/limits.ts";
import { ProducerTable } from "../../../src/edge/mailbox/producer-store.ts";
import type { Posted } from "../../../src/edge/rpc/mailbox-rpc.ts";
import { ORDER, packHeader, type ReadAnswer, STATE, unpackHeader } from "../../../src/edge/rpc/plain-stream-rpc.ts";
import { type Driven, drive, messageOf } from "./object.ts";
import { database } from "./sqlite.ts";

const HOUR = 3600_000;
const DAY = 24 * HOUR;

async function read(driven: Driven, offset = "-1"): Promise<{ answer: ReadAnswer; count: number }> {
  const order = packHeader({ offset, resumes: false, live: false, events: false, etag: undefined });
  const response = await driven.mailbox.fetch(new Request("http://stream/", { headers: { [ORDER]: order } }));
  const answer = unpackHeader<ReadAnswer>(response.headers.get(STATE));
  return { answer, count: answer.ok ? ((await response.json()) as unknown[]).length : 0 };
}

async function send(driven: Driven, sender = "alice"): Promise<void> {
  assert.deepEqual((await driven.mailbox.append(messageOf(sender, 100))).refusals, []);
}

/** A device takes and acknowledges what waits. */
async function drain(driven: Driven): Promise<void> {
  const { generation } = await driven.mailbox.attach();
  assert.ok(await driven.mailbox.ready("drainer", generation));
  await driven.letPass(100);
  const { position, last } = await range(driven);
  await driven.mailbox.acknowledge(generation, { done: [[position, last]] });
  await driven.mailbox.detach(generation);
  await driven.letPass(100);
}

async function range({ db }: Driven): Promise<{ position: number; last: number }> {
  const [row] = db.sql.exec("SELECT min(first) AS first, max(first + count - 1) AS last FROM segments").toArray();
  return { position: Number(row?.first ?? 0), last: Number(row?.last ?? 0) };
}

/** Lets time pass until each alarm of that time has run. */
async function pass(driven: Driven, milliseconds: number, t: TestContext): Promise<void> {
  const until = Date.now() + milliseconds;
  while (driven.alarmAt !== undefined && driven.alarmAt <= until) {
    t.mock.timers.setTime(Math.max(Date.now(), driven.alarmAt));
    await driven.letPass(1);
  }
  t.mock.timers.setTime(until);
}

function tables({ db }: Driven): string[] {
  return db.sql
    .exec("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
    .toArray()
    .map(({ name }) => String(name));
}

describe("what a device has acknowledged", () => {
  it("is kept for a day for readers, and then removed by the alarm", async (t) => {
    const driven = drive(t);
    await send(driven);
    const first = await read(driven);
    assert.equal(first.count, 1);
    await drain(driven);
    assert.equal((await read(driven)).count, 1);
    assert.ok(((await driven.mailbox.status()).kept ?? 0) > 0);
    await pass(driven, DAY - HOUR, t);
    driven.wake();
    assert.equal((await read(driven)).count, 1);
    await pass(driven, 5 * HOUR, t);
    driven.wake();
    assert.equal((await read(driven)).count, 0);
    assert.equal((await driven.mailbox.status()).kept, 0);
    assert.ok(first.answer.ok);
    assert.equal((await read(driven, first.answer.state.next)).answer.ok, true);
    assert.deepEqual((await read(driven, first.answer.from)).answer, { ok: false, reason: "OffsetGone" });
  });

  it("is kept in a mailbox that was made by PUT, though nobody has read it yet", async (t) => {
    const driven = drive(t);
    assert.equal((await driven.mailbox.create({ lifetime: ENDLESS, closed: false })).ok, true);
    for (let times = 0; times < 3; times += 1) {
      await send(driven);
      await drain(driven);
    }
    driven.wake();
    assert.equal((await read(driven)).count, 3);
  });

  it("is not kept in a mailbox that nobody has read", async (t) => {
    const driven = drive(t);
    await send(driven);
    await drain(driven);
    assert.equal((await read(driven)).count, 0);
  });

  it("is not kept if KEEP_TIME is 0", async (t) => {
    const off = drive(t, { keepTime: "0" });
    await send(off);
    const { answer } = await read(off);
    await drain(off);
    assert.equal((await read(off)).count, 0);
    assert.deepEqual((await read(off, answer.ok ? answer.from : "")).answer, { ok: false, reason: "OffsetGone" });
  });

  it("does not keep a mailbox for ever: two weeks after the last read everything is deleted", async (t) => {
    const driven = drive(t);
    await send(driven);
    await read(driven);
    await drain(driven);
    await pass(driven, REMEMBER_IDS + DAY, t);
    assert.ok(tables(driven).length > 0);
    assert.equal((await read(driven)).count, 0);
    await pass(driven, RETENTION + NOTE_INTERVAL + DAY, t);
    assert.deepEqual(tables(driven), []);
    assert.equal(driven.alarmAt, undefined);
  });
});

describe("a mailbox that is to end", () => {
  it("ends when it was not used for the time: what waits is dropped by name, and it is as any other", async (t) => {
    const driven = drive(t);
    await driven.mailbox.create({ lifetime: { type: "idle", seconds: 3600 }, closed: false });
    for (let times = 0; times < 3; times += 1) {
      await send(driven);
      await pass(driven, 40 * 60_000, t);
      driven.wake();
    }
    assert.equal((await read(driven)).count, 3);
    await pass(driven, 69 * 60_000, t);
    driven.wake();
    assert.equal((await driven.mailbox.status()).dropped.Expired, 3);
    assert.equal((await read(driven)).count, 0);
    await pass(driven, 2 * DAY, t);
    await send(driven);
    await pass(driven, 2 * DAY, t);
    assert.equal((await read(driven)).count, 1);
  });

  it("ends before the next message is stored, even if its alarm is late", async (t) => {
    const driven = drive(t);
    const time = Date.now() + HOUR;
    await driven.mailbox.create({ lifetime: { type: "until", time, text: "then" }, closed: true });
    t.mock.timers.setTime(time);
    await send(driven);
    assert.equal((await read(driven)).count, 1);
    const found = await driven.mailbox.metadata();
    assert.deepEqual(found.ok && [found.state.closed, found.state.lifetime], [false, ENDLESS]);
  });

  it("is deleted like any other if nothing is set but that it exists", async (t) => {
    const driven = drive(t);
    const created = await driven.mailbox.create({ lifetime: ENDLESS, closed: false });
    assert.ok(created.ok && created.isNew);
    const again = await driven.mailbox.create({ lifetime: ENDLESS, closed: false });
    assert.ok(again.ok && !again.isNew);
    await pass(driven, RETENTION + NOTE_INTERVAL + DAY, t);
    assert.deepEqual(tables(driven), []);
  });
});

describe("producers of a mailbox", () => {
  const post = (driven: Driven, seq: number, sender = "alice"): Promise<Posted> => {
    const source = `grooveDevice://${sender}/pc`;
    const producer = { id: "w", epoch: 0, seq };
    return driven.mailbox.post({
      bundle: messageOf(sender, 10),
      source,
      producer,
      sequence: undefined,
      closes: false,
    });
  };

  it("are not counted on when the mailbox has no room: the request may be sent again", async (t) => {
    const driven = drive(t, { quota: "messages=100" });
    let seq = 0;
    let posted = await post(driven, seq);
    while (posted.ok && seq < 5000) {
      seq += 1;
      posted = await post(driven, seq);
    }
    assert.ok(!posted.ok && posted.reason === "refused" && seq > 0);
    await driven.mailbox.purge();
    driven.wake();
    const again = await post(driven, seq);
    assert.ok(again.ok && !again.isDuplicate);
    const repeated = await post(driven, seq);
    assert.ok(repeated.ok && repeated.isDuplicate);
  });

  it("are forgotten with DELETE, and after a week", async (t) => {
    const driven = drive(t);
    await post(driven, 0);
    await driven.mailbox.remove();
    assert.equal((await post(driven, 0)).ok, true);
    await pass(driven, REMEMBER_IDS + HOUR, t);
    await send(driven);
    await pass(driven, REMEMBER_IDS + DAY, t);
    await send(driven);
    assert.deepEqual(await post(driven, 1).then((posted) => posted.ok || posted.reason), "ProducerGap");
  });

  it("are not forgotten for the Stream-Seq of a device that the mailbox has not heard of", async (t) => {
    const driven = drive(t);
    for (let n = 0; n < PRODUCERS; n += 1) assert.ok((await post(driven, 0, `sender-${n}`)).ok);
    const source = "grooveDevice://mallory/pc";
    const order = { bundle: messageOf("mallory", 10), source, producer: undefined, sequence: "a", closes: false };
    const posted = await driven.mailbox.post(order);
    assert.equal(posted.ok || posted.reason, "TooManyProducers");
    assert.ok((await post(driven, 1, "sender-0")).ok);
  });

  it("are bounded: of one sender the oldest is forgotten, of all only what was silent for a week", () => {
    const db = database();
    const sql = {
      all: <Row extends object>(query: string, ...bindings: (string | number)[]) =>
        db.sql.exec(query, ...bindings).toArray() as object[] as Row[],
      add: (query: string, ...bindings: (string | number | Uint8Array)[]) => void db.sql.exec(query, ...bindings),
      change: (query: string, ...bindings: (string | number | Uint8Array)[]) => void db.sql.exec(query, ...bindings),
    };
    const table = new ProducerTable(sql);
    const state = { epoch: 0, seq: 0 };
    const add = (sender: string, id: string, now: number) => {
      if (!table.hasRoom(`grooveDevice://${sender}/pc`, id, now)) return false;
      table.set(`grooveDevice://${sender}/pc`, id, state, now);
      return true;
    };
    const count = () => db.sql.exec("SELECT 1 FROM producers").toArray().length;
    for (let n = 0; n < 3 * SENDER_PRODUCERS; n += 1) assert.ok(add("mallory", `m-${n}`, 1000 + n));
    assert.equal(count(), SENDER_PRODUCERS);
    assert.deepEqual(table.state("grooveDevice://mallory/pc", `m-${3 * SENDER_PRODUCERS - 1}`), state);
    for (let n = SENDER_PRODUCERS; n < PRODUCERS; n += 1) assert.ok(add(`sender-${n}`, "w", 5000 + n));
    assert.equal(count(), PRODUCERS);
    assert.equal(add("late", "w", 10_000), false);
    assert.ok(add("mallory", "another", 10_000));
    assert.ok(add("sender-500", "w", 10_000));
    assert.equal(count(), PRODUCERS);
    assert.ok(add("late", "w", 10_000 + REMEMBER_IDS));
    assert.equal(count(), PRODUCERS);
    table.expire(20_000 + REMEMBER_IDS);
    assert.equal(count(), 1);
    assert.deepEqual(new ProducerTable(sql).state(`grooveDevice://late/pc`, "w"), state);
  });
});
