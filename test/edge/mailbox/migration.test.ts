/**
 * Data stored by earlier releases: `schema-1.sql` is the text of what 234613b has written, `schema-2.sql` of what 7a10599
 * has.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { describe, it, type TestContext } from "node:test";
import { RETENTION } from "../../../src/edge/mailbox/limits.ts";
import { MailboxStore } from "../../../src/edge/mailbox/mailbox-store.ts";
import { pack, unpack } from "../../../src/edge/rpc/message-batch.ts";
import type { Mail } from "../../../src/store-and-forward/envelope.ts";
import { runHere } from "../../cli/support.ts";
import type { InspectedEdge } from "../../support/inspected-edge.ts";
import { temporaryFolder } from "../../support/temporary-folder.ts";
import { database } from "./sqlite.ts";
import { connect, mailboxOf, receive, startEdge } from "./support.ts";

const NOW = Date.UTC(2026, 10, 1);
const [first, second] = ["schema-1.sql", "schema-2.sql"].map((name) =>
  readFileSync(new URL(name, import.meta.url), "utf8"),
) as [string, string];

function written(schema = first) {
  const db = database();
  db.sql.exec(schema).toArray();
  return db;
}

function mail(source: string, id: string): Mail {
  const envelope = { source: `grooveDevice://${source}`, resourceURL: "grooveway", identityURL: "", deviceURL: "" };
  return { envelope, fields: { userRef: id, track: false }, body: new Uint8Array(3) };
}

describe("a mailbox of the first schema", () => {
  it("keeps waiting messages with order, numbers, bodies and envelopes", () => {
    const db = written();
    for (const store of [new MailboxStore(db.sql, db.transaction), new MailboxStore(db.sql, db.transaction)]) {
      assert.deepEqual([store.position, store.last, store.messages], [3, 8, 5]);
      const kept = store.read(0, Number.POSITIVE_INFINITY, 100).flatMap(({ first, bundle }) =>
        unpack(bundle).map(({ envelope, fields, body }, at) => ({
          seq: first + at,
          id: fields.userRef,
          source: envelope.source.slice("grooveDevice://".length),
          entries: envelope.entries?.length,
          body: body.length > 100 ? body.length : new TextDecoder().decode(body),
        })),
      );
      const [alice, carol, entries] = ["alice/laptop", "carol/pc", undefined];
      assert.deepEqual(kept, [
        { seq: 4, id: "gw-4@alice/laptop", source: alice, entries, body: "first" },
        { seq: 5, id: "4f7d-cafe", source: carol, entries, body: "second" },
        { seq: 6, id: "gw-5@alice/laptop", source: alice, entries, body: "third" },
        { seq: 7, id: "", source: carol, entries, body: 600_000 },
        { seq: 8, id: "gw-6@alice/laptop", source: alice, entries: 120, body: "to many" },
      ]);
      assert.equal(store.waiting().oldest, NOW + 1000);
      assert.ok(store.waiting().octets > 600_000 + 5 * 50);
    }
  });

  it("keeps the ids it has seen, with or without their messages, and no others", () => {
    const db = written();
    const store = new MailboxStore(db.sql, db.transaction);
    const again = ["gw-1@alice/laptop", "gw-3@alice/laptop", "gw-5@alice/laptop", "gw-6@alice/laptop"];
    const outcomes = store.append(pack(again.map((id) => mail("alice/laptop", id))), NOW + 3000);
    assert.deepEqual(new Set(outcomes), new Set(["duplicate"]));
    const others = [
      mail("carol/pc", "4f7d-cafe"),
      mail("alice/laptop", "gw-7@alice/laptop"),
      mail("carol/pc", "gw-1@alice/laptop"),
    ];
    assert.deepEqual(store.append(pack(others), NOW + 3000), ["duplicate", "stored", "stored"]);
  });

  it("keeps its rule, generation and counters, and is settled as usual", () => {
    const db = written();
    const store = new MailboxStore(db.sql, db.transaction);
    assert.deepEqual(
      ["generation", "senders", "locked", "dropped", "version"].map((name) => store.fact(name)),
      ["7", "alice carol", "0", '{"DuplicateMessage":2}', "4"],
    );
    store.remove([[5, 7]]);
    assert.equal(db.sql.exec("SELECT seq FROM bodies").toArray().length, 0);
    assert.equal(store.expire(NOW + RETENTION + 3_000), 2);
    assert.deepEqual([store.position, store.waiting().octets, store.empty], [8, 0, true]);
    assert.equal(db.sql.exec("SELECT number FROM envelopes").toArray().length, 0);
  });

  it("is unchanged when the disk is full, and migrates on the next attempt", () => {
    const db = written();
    const before = db.sql.exec("SELECT first, count, ids FROM segments").toArray();
    db.failAt = "INSERT INTO segments";
    assert.throws(() => new MailboxStore(db.sql, db.transaction), /disk is full/);
    db.failAt = undefined;
    assert.deepEqual(db.sql.exec("SELECT first, count, ids FROM segments").toArray(), before);
    assert.equal(new MailboxStore(db.sql, db.transaction).messages, 5);
  });
});

describe("a mailbox of the second schema", () => {
  it("keeps waiting messages, ids, facts and what is settled, and is read over HTTP", () => {
    const db = written(second);
    for (const store of [new MailboxStore(db.sql, db.transaction), new MailboxStore(db.sql, db.transaction)]) {
      assert.deepEqual([store.position, store.last, store.messages], [3, 9, 5]);
      assert.deepEqual([store.fact("version"), store.fact("generation"), store.fact("next")], ["4", "7", "1"]);
      const settled = mail("alice/laptop", "gw-2@alice/laptop");
      assert.deepEqual(store.append(pack([settled]), NOW + 5000), ["duplicate"]);
    }
    const store = new MailboxStore(db.sql, db.transaction);
    const log = () =>
      [...store.log(0)].map(({ number, mail: { envelope, body } }) => [
        number,
        envelope.entries?.length ?? 0,
        body.length > 100 ? body.length : new TextDecoder().decode(body),
      ]);
    const waiting = [
      [4, 0, "first"],
      [6, 0, "second"],
      [7, 0, 600_000],
      [8, 120, "to many"],
      [9, 120, "to many, again"],
    ];
    assert.deepEqual(log(), waiting);
    store.noteRead(NOW + 6000);
    // What it had settled in part before it was read is not kept.
    store.settle([[4, 9]], NOW + 7000);
    assert.deepEqual([log(), store.messages, store.octets], [waiting.slice(2), 0, 0]);
    assert.equal(store.purge(NOW + 8000), 0);
    for (const table of ["segments", "done", "kept", "bodies", "envelopes"]) {
      assert.deepEqual(db.sql.exec(`SELECT * FROM ${table}`).toArray(), [], table);
    }
  });

  it("is unchanged when the disk is full, and migrates on the next attempt", () => {
    const db = written(second);
    db.failAt = "INSERT INTO facts";
    assert.throws(() => new MailboxStore(db.sql, db.transaction), /disk is full/);
    db.failAt = undefined;
    assert.equal(db.sql.exec("SELECT value FROM facts WHERE name = 'version'").toArray()[0]?.value, "2");
    assert.equal(new MailboxStore(db.sql, db.transaction).messages, 5);
  });
});

describe("a state folder of the second schema", () => {
  it("is read by this release: waiting messages are read over HTTP, and delivered", { timeout: 300_000 }, async (t) => {
    const { edge } = await startOn(t, second);
    const read = async () => {
      const answer = await fetch(`${edge.url}/mailboxes/bob/pc?offset=-1`);
      assert.equal(answer.status, 200);
      return ((await answer.json()) as { id: string }[]).map(({ id }) => id);
    };
    const ids = [
      "gw-4@alice/laptop",
      "gw-6@alice/laptop",
      "4f7d-cafe@carol/pc",
      "gw-7@alice/laptop",
      "gw-8@alice/laptop",
    ];
    assert.deepEqual(await read(), ids);
    const device = await connect(edge, "bob/pc", "websocket");
    t.after(() => device.close());
    const received = await receive(device, 5);
    assert.deepEqual(new Set(received.map(({ id }) => id)), new Set(ids));
    await device.close();
    assert.deepEqual(await read(), ids.slice(2));
  });
});

/** An edge whose only mailbox is as an earlier release has written it. */
async function startOn(t: TestContext, schema: string): Promise<{ edge: InspectedEdge }> {
  const state = temporaryFolder();
  const before = await startEdge(t, { state });
  const sender = await connect(before, "alice/laptop", "websocket");
  await sender.send("bob/pc", "so that the object has a file");
  await sender.close();
  await before.close();
  assert.equal(asWrittenBefore(state, schema), 1);
  return { edge: await startEdge(t, { state }) };
}

describe("a state folder of the first release", () => {
  it("is read by this release: waiting messages are delivered", { timeout: 300_000 }, async (t) => {
    const { edge } = await startOn(t, first);
    const device = await connect(edge, "bob/pc", "websocket");
    t.after(() => device.close());
    const received = await receive(device, 5);
    const bodies = received.map(({ body }) => (body.length > 100 ? body.length : text(body)));
    // Each session of the device has its own order.
    assert.deepEqual(new Set(bodies), new Set(["first", "second", "third", 600_000, "to many"]));
    // Their ids name the sender, whatever was stored then.
    assert.deepEqual(
      new Map(
        received.map(({ body, id, from, vouched }) => [body.length > 100 ? "long" : text(body), [id, from, vouched]]),
      ),
      new Map(
        [
          ["first", "gw-4@alice/laptop", "alice/laptop"],
          ["second", "4f7d-cafe@carol/pc", "carol/pc"],
          ["third", "gw-5@alice/laptop", "alice/laptop"],
          ["long", "%s7@carol/pc", "carol/pc"],
          ["to many", "gw-6@alice/laptop", "alice/laptop"],
        ].map(([body = "", id, from]) => [body, [id, from, true]]),
      ),
    );
    const { generation, senders } = await (await mailboxOf(edge, "grooveDevice://bob/pc")).status();
    assert.ok(generation > 7 && senders === "alice carol");
  });
});

/** The state folder of an edge that has ended, with two mailboxes in which a message waits. */
async function stateOfTwo(t: TestContext): Promise<string> {
  const state = temporaryFolder();
  const edge = await startEdge(t, { state });
  const sender = await connect(edge, "alice/pc", "websocket", { receive: false });
  for (const to of ["bob/pc", "carol/pc"]) await sender.send(to, "waits");
  await sender.close();
  await edge.close();
  return state;
}

describe("a state folder of a later release", () => {
  it("is left alone, with a reason, and the other mailboxes work", { timeout: 300_000 }, async (t) => {
    const state = await stateOfTwo(t);
    const [file = "", ...others] = mailboxFiles(state);
    assert.equal(others.length, 1);
    const versionIs = (version: number) => {
      const db = new DatabaseSync(file);
      db.prepare("UPDATE facts SET value = ? WHERE name = 'version'").run(String(version));
      db.close();
    };
    versionIs(5);
    const logged: string[] = [];
    const log = (_level: string, line: string) => logged.push(line);
    const edge = await startEdge(t, { state, adminToken: "secret", log });
    const list = await fetch(`${edge.url}/admin/mailboxes`, { headers: { Authorization: "Bearer secret" } });
    const all = (await list.json()) as { peer: string; messages: number; reason?: string }[];
    assert.deepEqual(new Set(all.map(({ messages, reason }) => reason ?? messages)), new Set(["NewerSchema", 1]));
    const newer = all.find(({ reason }) => reason !== undefined)?.peer.slice("grooveDevice://".length) ?? "";
    const alice = await connect(edge, "alice/pc", "websocket", { receive: false });
    const refused = { code: "QuotaWouldBeExceeded", retryable: true };
    for (let time = 0; time < 2; time += 1) await assert.rejects(alice.send(newer, "no"), refused);
    await alice.send(newer === "bob/pc" ? "carol/pc" : "bob/pc", "yes");
    const room = await fetch(`${edge.url}/mailboxes/${encodeURIComponent(newer)}/room?from=alice%2Fpc`);
    assert.equal(room.headers.get("Grooveway-Reason"), "NewerSchema");
    assert.equal(logged.filter((line) => line.includes("NewerSchema")).length, 1, logged.join("\n"));
    await alice.close();
    await edge.close();
    versionIs(4);
    const later = await startEdge(t, { state });
    const reader = await connect(later, newer, "websocket");
    assert.equal((await receive(reader, 1))[0]?.text(), "waits");
    await reader.close();
  });
});

/** The database files of mailboxes that have messages. */
function mailboxFiles(state: string): string[] {
  const names = readdirSync(join(state, "do", "grooveway-Mailbox")).filter((name) => name.endsWith(".sqlite"));
  return names
    .map((name) => join(state, "do", "grooveway-Mailbox", name))
    .filter((file) => {
      const db = new DatabaseSync(file, { readOnly: true });
      const made = db.prepare("SELECT 1 FROM sqlite_master WHERE name = 'segments'").get() !== undefined;
      const some = made && db.prepare("SELECT 1 FROM segments").get() !== undefined;
      db.close();
      return some;
    });
}

/** Replaces each mailbox that has messages by what an earlier release stored. Returns how many. */
function asWrittenBefore(state: string, schema: string): number {
  let count = 0;
  for (const name of readdirSync(state, { recursive: true, encoding: "utf8" })) {
    if (!name.endsWith(".sqlite")) continue;
    const db = new DatabaseSync(join(state, name));
    const tables = db
      .prepare("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '\\_%' ESCAPE '\\'")
      .all();
    const names = tables.map((row) => String(row.name)).filter((table) => !table.startsWith("sqlite"));
    if (names.includes("segments") && Number(db.prepare("SELECT count(*) AS n FROM segments").get()?.n) > 0) {
      for (const table of names) db.exec(`DROP TABLE ${table}`);
      db.exec(schema);
      // The messages have come just now, or they would expire.
      db.prepare("UPDATE segments SET at = ?").run(Date.now());
      db.prepare("UPDATE ids SET at = ?").run(schema === first ? Date.now() : Date.now() * 1000);
      count += 1;
    }
    db.close();
  }
  return count;
}

function text(body: Uint8Array): string {
  return new TextDecoder().decode(body);
}

describe("a mailbox whose database is damaged", () => {
  it("hides no other from the operator", { timeout: 300_000 }, async (t) => {
    const state = await stateOfTwo(t);
    const [file = ""] = mailboxFiles(state);
    const db = new DatabaseSync(file);
    db.exec("DROP TABLE done");
    db.close();
    const edge = await startEdge(t, { state, adminToken: "secret" });
    const list = await fetch(`${edge.url}/admin/mailboxes`, { headers: { Authorization: "Bearer secret" } });
    assert.equal(list.status, 200);
    const all = (await list.json()) as { messages: number; reason?: string }[];
    assert.deepEqual(new Set(all.map(({ messages, reason }) => reason ?? messages)), new Set(["InternalError", 1]));
    const { stdout } = await runHere(["mailbox", "ls", "--edge", edge.url, "--token", "secret"]);
    assert.match(stdout, /\/pc {2}cannot be read \[InternalError\]$/m);
    assert.match(stdout, /\/pc {2}1 messages, /);
  });
});
