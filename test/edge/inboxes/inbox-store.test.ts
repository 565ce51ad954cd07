/** The store of inboxes, on Node's SQLite. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { describe, it } from "node:test";
import { InboxStore, type StoredInbox } from "../../../src/edge/inboxes/inbox-store.ts";
import { FAILED_OCTETS, FAILED_PAGE, FAILED_REQUESTS } from "../../../src/edge/inboxes/limits.ts";
import { database } from "../mailbox/sqlite.ts";

const PEER = "grooveDevice://bob/pc";
const NOW = Date.UTC(2026, 10, 1);

function opened(db = database()): InboxStore {
  const store = new InboxStore(db.sql, db.transaction);
  store.make(PEER);
  return store;
}

function added(store: InboxStore, name = "github"): StoredInbox {
  const inbox = { name, verify: "github", secret: "secret-1", largest: 100, rate: 1, answer: undefined };
  store.add(inbox, { hash: `hash of ${name}`, last: "abcd" }, NOW);
  const found = store.inbox(name);
  assert.ok(found);
  return found;
}

const mark = (text: string, until = NOW + 1000) => ({ text, until });

describe("the store of inboxes", () => {
  it("that was never written to has no tables", () => {
    const db = database();
    const store = new InboxStore(db.sql, db.transaction);
    assert.deepEqual([store.peer, store.inboxes(), store.isEmpty, store.failed(0)], [undefined, [], true, []]);
    assert.deepEqual(db.sql.exec("SELECT name FROM sqlite_master").toArray(), []);
  });

  it("finds an inbox by the hash of its capability, and by no other", () => {
    const store = opened();
    added(store);
    assert.equal(store.inboxOfCapability("hash of github")?.name, "github");
    store.setCapability("github", { hash: "another", last: "wxyz" });
    assert.equal(store.inboxOfCapability("hash of github"), undefined);
    assert.equal(store.inboxOfCapability("another")?.last, "wxyz");
    store.remove("github");
    assert.deepEqual([store.inboxOfCapability("another"), store.isEmpty], [undefined, true]);
  });

  it("of a newer release is refused", () => {
    const db = database();
    opened(db);
    db.sql.exec("UPDATE facts SET value = ? WHERE name = 'version'", "2").toArray();
    assert.throws(() => new InboxStore(db.sql, db.transaction), /^NewerSchemaError: NewerSchema:/);
  });
});

describe("a request to an inbox", () => {
  it("keeps its id until it is known to be stored, and then until it is forgotten", () => {
    const db = database();
    const store = opened(db);
    const inbox = added(store);
    const first = store.begin(inbox, mark("m"), NOW);
    assert.deepEqual(store.begin(inbox, mark("m"), NOW), { unique: first.unique, isDone: false });
    // The object loses its memory.
    const again = new InboxStore(db.sql, db.transaction);
    assert.deepEqual(again.begin(inbox, mark("m"), NOW), { unique: first.unique, isDone: false });
    again.finish(inbox, mark("m"), NOW);
    assert.deepEqual(again.begin(inbox, mark("m"), NOW + 999), { unique: first.unique, isDone: true });
    const later = again.begin(inbox, mark("m", NOW + 5000), NOW + 1000);
    assert.notEqual(later.unique, first.unique);
    assert.equal(later.isDone, false);
    assert.deepEqual([again.inbox("github")?.stored, again.inbox("github")?.latest], [1, NOW]);
  });

  it("without a signature has an id of its own each time", () => {
    const store = opened();
    const inbox = added(store);
    const [one, other] = [store.begin(inbox, undefined, NOW), store.begin(inbox, undefined, NOW)];
    assert.notEqual(one.unique, other.unique);
  });

  it("has no id of an inbox of the same name that was removed", () => {
    const store = opened();
    const { unique } = store.begin(added(store), mark("m"), NOW);
    store.remove("github");
    assert.notEqual(store.begin(added(store), mark("m"), NOW).unique, unique);
  });

  it("is forgotten when its time is over", () => {
    const store = opened();
    const inbox = added(store);
    store.begin(inbox, mark("early", NOW + 10), NOW);
    store.begin(inbox, mark("late", NOW + 20), NOW);
    assert.equal(store.forgetMarks(NOW + 10), true);
    assert.equal(store.forgetMarks(NOW + 20), false);
  });
});

describe("requests that were set aside", () => {
  const why = (id: string) => ({ inbox: "github", id, reason: "TimedOut", detail: "it did not answer", tries: 6 });

  it("are kept whole and in order, each once, until they are removed", () => {
    const store = opened();
    const long = randomBytes(1_200_000);
    assert.ok(store.setAside(why("a"), "POST /", long, NOW));
    assert.ok(store.setAside(why("b"), "POST /b", Buffer.from("b"), NOW + 1));
    assert.ok(store.setAside(why("a"), "POST /", long, NOW + 2), "the same again is no error");
    const [first, second, ...more] = store.failed(0);
    assert.ok(first && second && more.length === 0);
    assert.deepEqual([first.id, first.octets, first.at, second.target], ["a", long.length, NOW, "POST /b"]);
    assert.deepEqual(Buffer.from(store.failedMessage(first.number)), long);
    assert.deepEqual(
      store.failed(first.number).map(({ id }) => id),
      ["b"],
    );
    assert.equal(store.removeFailed(first.number), true);
    assert.equal(store.removeFailed(first.number), false);
    assert.equal(store.failedMessage(first.number).length, 0);
    assert.equal(store.isEmpty, false);
  });

  it("are no more than there may be, by number and by bytes", () => {
    const store = opened();
    for (let n = 0; n < FAILED_REQUESTS; n += 1) assert.ok(store.setAside(why(`${n}`), "", Buffer.from("x"), NOW));
    assert.equal(store.setAside(why("one more"), "", Buffer.from("x"), NOW), false);
    assert.equal(store.failed(0).length, FAILED_PAGE);
    const other = opened();
    assert.equal(other.setAside(why("a"), "", new Uint8Array(FAILED_OCTETS + 1), NOW), false);
    assert.deepEqual({ ...other.failedTotal() }, { requests: 0, octets: 0 });
  });

  it("have ids to be put back under that no other object of the same peer gives", () => {
    assert.notEqual(opened().replayId(1), opened().replayId(1));
  });
});
