import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { describe, test } from "node:test";
import fc from "fast-check";
import { CHUNK_SIZE, ID_OCTETS, REMEMBER_IDS, RETENTION } from "../../src/relay/limits.ts";
import { type Envelope, type Incoming, Store, type Stored } from "../../src/relay/store.ts";
import type { Quota } from "../../src/store-and-forward/sender-share.ts";
import { runs } from "../support/long-form.ts";
import { pattern } from "../support/watch.ts";
import { folderFor } from "./support.ts";

const BOB = "grooveDevice://bob/pc";
const CAROL = "grooveIdentity://carol";

/** An edge that vouches for its devices. */
const EDGE = "grooveDNS://edge.example.com";

let ids = 0;
/** The id of another message of a device of that edge, as the relay writes it. */
function idOf(who: string): string {
  ids += 1;
  return `${ids}@${who}@edge.example.com`;
}

function envelope(changes: Partial<Omit<Envelope, "fields">> & { userRef?: string } = {}): Envelope {
  const { userRef = "", ...rest } = changes;
  return {
    peer: BOB,
    source: "grooveDevice://alice/laptop",
    resourceURL: "message",
    identityURL: "grooveIdentity://bob",
    deviceURL: BOB,
    fields: { userRef, track: false },
    ...rest,
  };
}

function put(store: Store, body: Uint8Array | string, changes: Parameters<typeof envelope>[0] = {}, now = 0): string {
  const incoming = store.begin(envelope(changes));
  const octets = typeof body === "string" ? Buffer.from(body) : body;
  for (let at = 0; at < octets.length; at += 2048) store.append(incoming, octets.subarray(at, at + 2048));
  return store.finish(incoming, now);
}

function bodyOf(store: Store, { seq }: { readonly seq: number }): Buffer {
  const rows: Uint8Array[] = [];
  for (let row = store.body(seq, 0); row !== undefined; row = store.body(seq, rows.length)) rows.push(row);
  return Buffer.concat(rows);
}

/** The size of messages with these bodies in an empty store, including overhead. */
function sizeOf(bodies: readonly (Uint8Array | string)[], changes: Parameters<typeof envelope>[0] = {}): number {
  const store = new Store(undefined);
  for (const body of bodies) put(store, body, { ...changes, peer: changes.peer ?? BOB });
  const { octets } = store.waiting(changes.peer ?? BOB);
  store.close();
  return octets;
}

function textsOf(store: Store, peer = BOB): string[] {
  return store.after(peer, 0, 1000).map((stored) => bodyOf(store, stored).toString());
}

/** The number of rows in a table of a store. */
function rows(file: string, table: "messages" | "chunks" | "seen"): number {
  const database = new DatabaseSync(file, { readOnly: true });
  try {
    return Number(database.prepare(`SELECT count(*) AS n FROM ${table}`).get()?.n);
  } finally {
    database.close();
  }
}

describe("the store", () => {
  test("limits what one sender has waiting in all queues, unless a connected consumer drains", () => {
    const sender = 8 * sizeOf([new Uint8Array(1000)]);
    const store = new Store(undefined, { octets: 1e9, messages: 1000, share: 0.5, sender });
    const give = (to: number, from = "alice", awaited = false) => {
      const incoming = store.begin(envelope({ peer: `grooveDevice://b/${to}`, source: `grooveDevice://${from}/pc` }));
      store.append(incoming, new Uint8Array(1000));
      return store.finish(incoming, 0, { awaited });
    };
    const outcomes = Array.from({ length: 12 }, (_, n) => give(n));
    const stored = outcomes.filter((outcome) => outcome === "stored").length;
    assert.ok(stored >= 7 && stored <= 8, `${stored}`);
    assert.deepEqual(outcomes.slice(stored), new Array(12 - stored).fill("quota"));
    assert.equal(give(20, "carol"), "stored");
    assert.equal(give(20, "alice", true), "stored");
    store.remove(Array.from({ length: 2 }, (_, n) => store.after(`grooveDevice://b/${n}`, 0, 1)[0] as Stored));
    assert.equal(give(11), "stored");
    store.close();
  });

  test("limits what one sender leaves behind with recipients that connect and take nothing", () => {
    const sender = 8 * sizeOf([new Uint8Array(1000)]);
    const store = new Store(undefined, { octets: 1e9, messages: 1000, share: 0.5, sender });
    const outcomes = Array.from({ length: 40 }, (_, n) => {
      const incoming = store.begin(envelope({ peer: `grooveDevice://b/${n}` }));
      store.append(incoming, new Uint8Array(1000));
      return store.finish(incoming, 0, { awaited: true });
    });
    const stored = outcomes.filter((outcome) => outcome === "stored").length;
    assert.ok(stored >= 12 && stored <= 16, `${stored}`);
    assert.deepEqual(outcomes.slice(stored), new Array(40 - stored).fill("quota"));
    store.close();
  });

  test("keeps the order of arrival per peer, and returns pages after a given number", () => {
    const store = new Store(undefined);
    for (let n = 0; n < 10; n += 1) put(store, `${n}`, { peer: n % 2 === 0 ? BOB : CAROL });
    assert.deepEqual(textsOf(store), ["0", "2", "4", "6", "8"]);
    assert.deepEqual(textsOf(store, CAROL), ["1", "3", "5", "7", "9"]);
    const [first, second] = store.after(BOB, 0, 2) as [Stored, Stored];
    assert.equal(store.after(BOB, 0, 2).length, 2);
    assert.ok(first.seq < second.seq);
    assert.deepEqual(
      store.after(BOB, second.seq, 10).map((stored) => bodyOf(store, stored).toString()),
      ["4", "6", "8"],
    );
    store.close();
  });

  test("returns every field unchanged", () => {
    const store = new Store(undefined);
    const whole = {
      ...envelope({ resourceURL: "file?name=a", peer: CAROL, identityURL: CAROL, deviceURL: "" }),
      fields: {
        userRef: "one@alice/laptop",
        track: true,
        ephemeral: 0xffffffff,
        streamSize: [0xffff_ffff_ffff_ffffn, 1n, 0n] as const,
        fragmentation: new Uint8Array([0, 1, 254, 255]),
      },
    };
    const incoming = store.begin(whole);
    store.append(incoming, Buffer.from("body"));
    assert.equal(store.finish(incoming, 0), "stored");
    const [stored] = store.after(CAROL, 0, 10) as [Stored];
    const { seq, size, ...back } = stored;
    assert.deepEqual(back, whole);
    assert.equal(size, 4);
    assert.equal(bodyOf(store, { seq }).toString(), "body");
    store.close();
  });

  test("never reuses a sequence number, even that of the newest message after its removal", (t) => {
    const file = join(folderFor(t), "relay.db");
    let store = new Store(file);
    const used = new Set<number>();
    for (let round = 0; round < 3; round += 1) {
      put(store, "message");
      const [stored] = store.after(BOB, 0, 1) as [Stored];
      assert.ok(!used.has(stored.seq), `${stored.seq} again`);
      used.add(stored.seq);
      store.remove([stored]);
      store.close();
      store = new Store(file);
    }
    store.close();
  });

  test("returns bodies of every length, in rows little longer than a chunk", () => {
    const store = new Store(undefined);
    const lengths = [0, 1, 2047, 2048, 2049, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, 3 * CHUNK_SIZE, 3_000_001];
    for (const length of lengths) assert.equal(put(store, pattern(length, length)), "stored");
    for (const stored of store.after(BOB, 0, 100)) {
      const length = lengths.shift();
      assert.equal(stored.size, length);
      assert.ok(bodyOf(store, stored).equals(pattern(stored.size, stored.size)), `body of ${length}`);
      for (let n = 0; store.body(stored.seq, n) !== undefined; n += 1) {
        assert.ok((store.body(stored.seq, n)?.length ?? 0) < CHUNK_SIZE + 2048);
      }
    }
    store.close();
  });

  test("uses no more memory for a body in tiny pieces than for one in large pieces", () => {
    const store = new Store(undefined);
    const incoming = store.begin(envelope());
    const body = pattern(100_000, 1);
    let most = 0;
    for (let at = 0; at < body.length; at += 1) {
      store.append(incoming, body.subarray(at, at + 1));
      most = Math.max(most, incoming.held.length);
    }
    assert.ok(most <= 512, `${most} pieces were held`);
    assert.equal(store.finish(incoming, 0), "stored");
    assert.ok(bodyOf(store, store.after(BOB, 0, 1)[0] as Stored).equals(body));
    store.close();
  });

  test("can write a partial message to disk at any point", () => {
    const store = new Store(undefined);
    const incoming = store.begin(envelope());
    for (const text of ["a", "bc", "def"]) {
      store.append(incoming, Buffer.from(text));
      store.spill(incoming);
      assert.equal(incoming.heldOctets, 0);
    }
    assert.equal(store.finish(incoming, 0), "stored");
    assert.deepEqual(textsOf(store), ["abcdef"]);
    store.close();
  });

  test("drops a repeated id from the same source to the same peer, even after delivery", () => {
    const store = new Store(undefined);
    assert.equal(put(store, "one", { userRef: "1" }), "stored");
    assert.equal(put(store, "one", { userRef: "1" }), "duplicate");
    assert.equal(put(store, "other source", { userRef: "1", source: "grooveDevice://eve/pc" }), "stored");
    assert.equal(put(store, "other peer", { userRef: "1", peer: CAROL }), "stored");
    assert.equal(put(store, "no id"), "stored");
    assert.equal(put(store, "no id"), "stored");
    assert.deepEqual(textsOf(store), ["one", "other source", "no id", "no id"]);
    store.remove(store.after(BOB, 0, 10));
    assert.equal(put(store, "one", { userRef: "1" }), "duplicate");
    assert.deepEqual(textsOf(store), []);
    store.close();
  });

  test("counts octets and messages against each peer's quota, and frees them on delivery", () => {
    const three = sizeOf(["12345", "12345", ""]);
    const store = new Store(undefined, { share: 0.5, octets: 2 * three, messages: 6 });
    assert.equal(put(store, "12345"), "stored");
    assert.equal(put(store, pattern(three, 1)), "quota");
    assert.equal(put(store, "12345"), "stored");
    assert.equal(put(store, ""), "stored");
    assert.equal(put(store, ""), "quota");
    assert.equal(put(store, "1234567890", { peer: CAROL }), "stored");
    assert.deepEqual(store.waiting(BOB), { octets: three, messages: 3 });
    store.remove(store.after(BOB, 0, 1));
    assert.deepEqual(store.waiting(BOB), { octets: sizeOf(["12345", ""]), messages: 2 });
    assert.equal(put(store, "12345"), "stored");
    store.close();
  });

  test("limits a sender with all its devices to a share of the free space, and the next to a share of the rest", (t) => {
    const file = join(folderFor(t), "relay.db");
    let store = new Store(file, { share: 0.5, octets: 1_000_000, messages: 32 });
    const fill = (source: string) => {
      let stored = 0;
      while (put(store, "", { source: `grooveDevice://${source}` }) === "stored") stored += 1;
      return stored;
    };
    assert.deepEqual([fill("mallory/1"), fill("mallory/2")], [16, 0]);
    store.close();
    store = new Store(file, { share: 0.5, octets: 1_000_000, messages: 32 });
    assert.deepEqual([fill("mallory/3"), fill("alice/pc"), fill("bob/pc")], [0, 8, 4]);
    store.close();
  });

  test("accepts an id again if its message was over quota", () => {
    const store = new Store(undefined, { share: 0.5, octets: 2 * sizeOf(["12345"], { userRef: "1" }), messages: 10 });
    put(store, "12345");
    assert.equal(put(store, "again", { userRef: "1" }), "quota");
    store.remove(store.after(BOB, 0, 1));
    assert.equal(put(store, "again", { userRef: "1" }), "stored");
    store.close();
  });

  test("counts a message that is removed twice once", () => {
    const store = new Store(undefined);
    put(store, "one");
    put(store, "two");
    const [one] = store.after(BOB, 0, 1) as [Stored];
    store.remove([one, one]);
    store.remove([one]);
    assert.deepEqual(store.waiting(BOB), { octets: sizeOf(["two"]), messages: 1 });
    assert.equal(store.body(one.seq, 0), undefined);
    store.close();
  });

  test("keeps nothing of unfinished messages that are discarded, refused or lost with their process", (t) => {
    const file = join(folderFor(t), "relay.db");
    const store = new Store(file, { share: 0.5, octets: 3 * CHUNK_SIZE, messages: 10 });
    const long = pattern(CHUNK_SIZE + 5000, 7);
    put(store, long, { userRef: "kept" });
    for (const end of ["discard", "leave"] as const) {
      const incoming = store.begin(envelope());
      store.append(incoming, long);
      store.append(incoming, Buffer.from("more"));
      assert.notEqual(incoming.key, undefined);
      if (end === "discard") store.discard(incoming);
    }
    assert.equal(put(store, long, { userRef: "kept" }), "duplicate");
    assert.equal(put(store, long), "quota");
    store.close();
    assert.equal(rows(file, "chunks"), 3, "two rows of the stored message, one of the unfinished one");

    const again = new Store(file);
    assert.deepEqual(again.waiting(BOB), { octets: sizeOf([long], { userRef: "kept" }), messages: 1 });
    const [stored] = again.after(BOB, 0, 10) as [Stored];
    assert.ok(bodyOf(again, stored).equals(long));
    again.remove([stored]);
    again.close();
    assert.equal(rows(file, "chunks"), 0);
    assert.equal(rows(file, "messages"), 0);
  });

  test("loses what was not committed when its process ends, and nothing else", (t) => {
    const file = join(folderFor(t), "relay.db");
    const store = new Store(file);
    put(store, "committed");
    store.commit();
    put(store, "not committed");
    const other = new DatabaseSync(file, { readOnly: true });
    assert.deepEqual({ ...other.prepare("SELECT count(*) AS n FROM messages").get() }, { n: 1 });
    other.close();
    store.close();
  });

  test("remembers waiting messages and ids after reopening", (t) => {
    const file = join(folderFor(t), "relay.db");
    const store = new Store(file);
    put(store, "12345", { userRef: "1" });
    put(store, "1234567", { peer: CAROL });
    store.close();
    const again = new Store(file);
    assert.deepEqual(again.waiting(BOB), { octets: sizeOf(["12345"], { userRef: "1" }), messages: 1 });
    assert.deepEqual(again.waiting(CAROL), { octets: sizeOf(["1234567"], { peer: CAROL }), messages: 1 });
    assert.deepEqual(again.waiting("grooveDevice://nobody/pc"), { octets: 0, messages: 0 });
    assert.equal(put(again, "12345", { userRef: "1" }), "duplicate");
    again.close();
  });

  test("rejects a file that is not a database", (t) => {
    assert.throws(() => new Store(folderFor(t)), /unable to open/);
  });
});

describe("purge", () => {
  test("removes only messages older than the retention", (t) => {
    const file = join(folderFor(t), "relay.db");
    const store = new Store(file);
    put(store, pattern(2 * CHUNK_SIZE, 1), {}, 1000);
    put(store, "old", { peer: CAROL }, 1000);
    put(store, "young", {}, 1001);
    assert.equal(store.purge(1000 + RETENTION), 0);
    assert.equal(store.purge(1001 + RETENTION), 2);
    assert.deepEqual(textsOf(store), ["young"]);
    assert.deepEqual(store.waiting(BOB), { octets: sizeOf(["young"]), messages: 1 });
    assert.deepEqual(store.waiting(CAROL), { octets: 0, messages: 0 });
    assert.equal(store.purge(5000, 3000), 1);
    store.close();
    assert.equal(rows(file, "chunks"), 0);
  });

  test("forgets ids by age", () => {
    const store = new Store(undefined);
    put(store, "one", { userRef: "1" }, 0);
    put(store, "two", { userRef: "2" }, 1);
    store.purge(1 + REMEMBER_IDS);
    assert.equal(put(store, "one", { userRef: "1" }), "stored");
    assert.equal(put(store, "two", { userRef: "2" }), "duplicate");
    store.close();
  });

  test("limits the octets of ids per sender: a sender with too many loses its own oldest ids", (t) => {
    const file = join(folderFor(t), "relay.db");
    const store = new Store(file);
    put(store, "", { userRef: "other", source: "grooveDevice://carol/pc" });
    const ids = Array.from({ length: 6000 }, (_, i) => `${i}-`.padEnd(2000, "y"));
    for (const userRef of ids) {
      put(store, "", { userRef });
      store.remove(store.after(BOB, 0, 10));
    }
    store.commit();
    const database = new DatabaseSync(file, { readOnly: true });
    const octets = Number(database.prepare("SELECT sum(length(id)) AS octets FROM seen").get()?.octets);
    database.close();
    assert.ok(octets < ID_OCTETS / 2 && octets > ID_OCTETS / 4, `${octets} octets of ids`);
    assert.equal(put(store, "", { userRef: ids[0] ?? "" }), "stored");
    assert.equal(put(store, "", { userRef: ids.at(-1) ?? "" }), "duplicate");
    assert.equal(put(store, "", { userRef: "other", source: "grooveDevice://carol/pc" }), "duplicate");
    store.close();
  });
});

describe("a store of another release", () => {
  const schema = readFileSync(new URL("schema-1.sql", import.meta.url), "utf8");

  function written(t: Parameters<typeof folderFor>[0]): string {
    const file = join(folderFor(t), "relay.db");
    const database = new DatabaseSync(file);
    database.exec(schema);
    database.close();
    return file;
  }

  test("keeps waiting messages, ids and counts if it is the first release", (t) => {
    const file = written(t);
    for (let turn = 0; turn < 2; turn += 1) {
      const store = new Store(file);
      const bodies = store.after(BOB, 0, 10).map((stored) => bodyOf(store, stored));
      assert.deepEqual(
        bodies.map((body) => (body.length > 100 ? body.length : body.toString())),
        ["first", 300_000, "third"],
      );
      assert.ok(store.waiting(BOB).octets > 300_000 + 3 * 100);
      assert.equal(put(store, "", { userRef: "gw-1@alice/laptop" }), "duplicate");
      assert.equal(put(store, "", { userRef: "4f7d-cafe", source: "grooveDevice://carol/pc" }), "duplicate");
      store.close();
    }
    const small = new Store(file, { share: 0.5, octets: 1_000_000, messages: 8 });
    assert.deepEqual(
      [put(small, ""), put(small, ""), put(small, ""), put(small, "")],
      ["stored", "stored", "quota", "quota"],
    );
    small.close();
  });

  test("is rejected by its version, and left unchanged, if it is a later one", (t) => {
    const file = written(t);
    const database = new DatabaseSync(file);
    database.exec("PRAGMA user_version = 3");
    database.close();
    assert.throws(() => new Store(file), /NewerSchema: the relay's store has version 3/);
    assert.equal(rows(file, "messages"), 3);
  });
});

/** A minimal model of the store. */
interface Model {
  messages: { seq: number; peer: string; sender: string; body: Buffer; octets: number; at: number }[];
  seen: { peer: string; source: string; id: string; at: number }[];
}

type Step =
  | { step: "put"; peer: string; source: string; id: string; length: number; pieces: number }
  | { step: "unfinished"; length: number; discard: boolean }
  | { step: "fetch"; peer: string; count: number }
  | { step: "purge"; retention: number }
  | { step: "reopen" };

const peers = fc.constantFrom(BOB, CAROL);
const steps: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      step: fc.constant("put" as const),
      peer: peers,
      source: fc.constantFrom("grooveDevice://alice/laptop", "grooveDevice://eve/pc"),
      id: fc.constantFrom("", "a", "b", "c", "d"),
      length: fc.oneof(fc.integer({ min: 0, max: 300 }), fc.constantFrom(CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 9)),
      pieces: fc.integer({ min: 1, max: 9 }),
    }),
  },
  fc.record({
    step: fc.constant("unfinished" as const),
    length: fc.constantFrom(10, CHUNK_SIZE + 10),
    discard: fc.boolean(),
  }),
  fc.record({ step: fc.constant("fetch" as const), peer: peers, count: fc.integer({ min: 0, max: 3 }) }),
  fc.record({ step: fc.constant("purge" as const), retention: fc.integer({ min: 0, max: 20 }) }),
  fc.record({ step: fc.constant("reopen" as const) }),
);

test("the store matches a simple model", () => {
  const quota: Quota = { share: 0.5, octets: 4 * CHUNK_SIZE + 5000, messages: 12 };
  const folder = mkdtempSync(join(tmpdir(), "grooveway-store-"));
  let run = 0;
  try {
    fc.assert(
      fc.property(fc.array(steps, { maxLength: 30 }), (todo) => {
        run += 1;
        const file = join(folder, `${run}.db`);
        let store = new Store(file, quota);
        const model: Model = { messages: [], seen: [] };
        let now = 0;
        const of = (peer: string) => model.messages.filter((message) => message.peer === peer);
        for (const step of todo) {
          now += 1;
          if (step.step === "put") putBoth(store, model, quota, step, now);
          else if (step.step === "unfinished") {
            const incoming = store.begin(envelope());
            for (const part of split(pattern(step.length, now), 3)) store.append(incoming, part);
            if (step.discard) store.discard(incoming);
          } else if (step.step === "fetch") {
            const fetched = store.after(step.peer, 0, step.count);
            store.remove(fetched);
            const gone = new Set(fetched.map(({ seq }) => seq));
            assert.equal(gone.size, Math.min(step.count, of(step.peer).length));
            model.messages = model.messages.filter(({ seq }) => !gone.has(seq));
          } else if (step.step === "purge") {
            const before = now - step.retention;
            const old = model.messages.filter(({ at }) => at < before);
            assert.equal(store.purge(now, step.retention), old.length);
            model.messages = model.messages.filter(({ at }) => at >= before);
          } else {
            store.close();
            store = new Store(file, quota);
          }
          for (const peer of [BOB, CAROL]) {
            const octets = of(peer).reduce((sum, message) => sum + message.octets, 0);
            assert.deepEqual(store.waiting(peer), { octets, messages: of(peer).length });
            const listed = store.after(peer, 0, 100);
            assert.deepEqual(
              listed.map(({ seq, size }) => [seq, size]),
              of(peer).map(({ seq, body }) => [seq, body.length]),
            );
          }
        }
        for (const { seq, body } of model.messages) assert.ok(bodyOf(store, { seq }).equals(body));
        store.close();
      }),
      { numRuns: runs(60) },
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

function split(body: Uint8Array, pieces: number): Uint8Array[] {
  const size = Math.max(1, Math.ceil(body.length / pieces));
  return Array.from({ length: Math.ceil(body.length / size) }, (_, n) => body.subarray(n * size, (n + 1) * size));
}

function putBoth(store: Store, model: Model, quota: Quota, step: Step & { step: "put" }, now: number): void {
  const { peer, source, id, length, pieces } = step;
  const body = pattern(length, now);
  const incoming: Incoming = store.begin(envelope({ peer, source, userRef: id }));
  for (const part of split(body, pieces)) store.append(incoming, part);
  const outcome = store.finish(incoming, now);

  const waits = model.messages.filter((message) => message.peer === peer);
  const sender = source.replace(/\/[^/]*$/, "");
  const own = waits.filter((message) => message.sender === sender);
  const sum = (of: readonly { octets: number }[]) => of.reduce((octets, message) => octets + message.octets, 0);
  const octets = sizeOf([body], { peer, source, userRef: id });
  const seen = model.seen.some((one) => one.peer === peer && one.source === source && one.id === id);
  const full =
    own.length + 1 > quota.messages - waits.length - 1 || sum(own) + octets > quota.octets - sum(waits) - octets;
  assert.equal(outcome, id !== "" && seen ? "duplicate" : full ? "quota" : "stored");
  if (outcome !== "stored") return;
  const seq = store.after(peer, 0, 100).at(-1)?.seq ?? assert.fail("the message is not there");
  assert.ok(
    model.messages.every((message) => message.seq < seq),
    "sequence numbers grow",
  );
  model.messages.push({ seq, peer, sender, body: Buffer.from(body), octets, at: now });
  if (id !== "") model.seen.push({ peer, source, id, at: now });
}

describe("queues of made-up peers", () => {
  const toPeer = (n: number, source = "grooveDevice://mallory/pc") => ({
    source,
    peer: `grooveDevice://nobody${n}/pc`,
    identityURL: `grooveIdentity://nobody${n}`,
    deviceURL: `grooveDevice://nobody${n}/pc`,
  });

  test("are bounded per sender, and the others have room", (t) => {
    const file = join(folderFor(t), "store.db");
    const quota = { octets: 1_000_000, messages: 1000, share: 0.5 };
    let store = new Store(file, quota, 100);
    const sent = () => Array.from({ length: 200 }, (_, n) => put(store, "x", toPeer(n)));
    const stored = (outcomes: readonly string[]) => outcomes.filter((outcome) => outcome === "stored").length;
    assert.equal(stored(sent()), 50, "one sender has half of all");
    assert.equal(put(store, "x", toPeer(0)), "stored", "in queues that it has, it goes on");
    store.close();
    store = new Store(file, quota, 100);
    assert.equal(put(store, "x", toPeer(60)), "quota", "across a restart");
    assert.equal(put(store, "x", toPeer(60, "grooveDevice://mallory/phone")), "quota", "by any of its devices");
    assert.equal(put(store, "x", toPeer(60, "grooveDevice://alice/pc")), "stored");
    const { peer } = toPeer(0);
    store.remove(store.after(peer, 0, 10));
    assert.equal(put(store, "x", toPeer(60)), "quota", "the share has shrunk with what the others have");
    const { peer: another } = toPeer(1);
    store.remove(store.after(another, 0, 10));
    assert.equal(put(store, "x", toPeer(60)), "stored", "when a queue is empty, another may begin");
    store.close();
  });

  test("are shared by those for whom an edge vouches, so that one of them does not take them from all", (t) => {
    const file = join(folderFor(t), "store.db");
    const quota = { octets: 1_000_000, messages: 1000, share: 0.5 };
    let store = new Store(file, quota, 100);
    const from = (who: string, n: number) => ({ ...toPeer(n, EDGE), userRef: idOf(who) });
    const outcomes = Array.from({ length: 200 }, (_, n) => put(store, "x", from("mallory/pc", n)));
    assert.equal(outcomes.filter((outcome) => outcome === "stored").length, 25, "half of what the edge may have");
    store.close();
    store = new Store(file, quota, 100);
    assert.equal(put(store, "x", from("mallory/phone", 60)), "quota", "across a restart, and by any device");
    assert.equal(put(store, "x", from("alice/pc", 60)), "stored");
    assert.equal(put(store, "x", toPeer(61, "grooveDevice://bob/pc")), "stored", "a device of the relay's own");
    // An edge that makes up senders has no more than it may have alone.
    const made = Array.from({ length: 100 }, (_, n) => put(store, "x", from(`made-up-${n}`, 1000 + n)));
    assert.ok(made.filter((outcome) => outcome === "stored").length <= 25);
    assert.equal(put(store, "x", toPeer(62, "grooveDevice://bob/pc")), "stored");
    for (let n = 0; n < 25; n += 1) store.remove(store.after(toPeer(n).peer, 0, 10));
    assert.equal(put(store, "x", from("mallory/pc", 60)), "stored", "when they are taken");
    store.close();
  });
});

describe("those for whom an edge vouches", () => {
  const from = (who: string) => ({ source: EDGE, userRef: idOf(who) });

  test("share what the edge may have in a queue, and what one of them has does not keep the others out", (t) => {
    const file = join(folderFor(t), "store.db");
    const quota = { share: 0.5, octets: 1_000_000, messages: 64 };
    let store = new Store(file, quota);
    const fill = (who: string) => {
      let stored = 0;
      while (put(store, "", from(who)) === "stored") stored += 1;
      return stored;
    };
    assert.deepEqual([fill("mallory/1"), fill("mallory/2")], [16, 0]);
    assert.ok(store.isAtMark(BOB, `${EDGE} mallory`) && !store.isAtMark(BOB, `${EDGE} alice`));
    store.close();
    store = new Store(file, quota);
    assert.deepEqual([fill("mallory/3"), fill("alice/pc"), fill("bob/pc")], [0, 8, 4]);
    assert.equal(put(store, "", { source: "grooveDevice://carol/pc" }), "stored");
    assert.ok(!store.mayGoOn(BOB, `${EDGE} mallory`));
    store.remove(store.after(BOB, 0, 14));
    assert.ok(store.mayGoOn(BOB, `${EDGE} mallory`));
    store.close();
  });

  test("have one share with what it sends without vouching, in this and earlier releases", (t) => {
    const file = join(folderFor(t), "store.db");
    const quota = { share: 0.5, octets: 1_000_000, messages: 64 };
    let store = new Store(file, quota);
    const fill = (from: { source: string; userRef: string }, give: () => string) => {
      let stored = 0;
      while (put(store, "", { ...from, userRef: give() }) === "stored") stored += 1;
      return stored;
    };
    // As messages of a relay were stored, whoever they were from, before each of its identities was a sender.
    assert.equal(
      fill(from("grooveDNS%3A%2F%2Fedge.example.com"), () => `${++ids}@grooveDNS%3A%2F%2Fedge`),
      32,
    );
    store.close();
    store = new Store(file, quota);
    assert.ok(store.isAtMark(BOB, EDGE) && store.isAtMark(BOB, `${EDGE} alice`));
    assert.equal(
      fill(from("alice"), () => idOf("alice/pc")),
      0,
      "the relay has no second share",
    );
    assert.ok(!store.mayGoOn(BOB, `${EDGE} alice`));
    assert.equal(put(store, "", { source: "grooveDevice://carol/pc" }), "stored");
    store.remove(store.after(BOB, 0, 20));
    assert.ok(store.mayGoOn(BOB, EDGE) && store.mayGoOn(BOB, `${EDGE} alice`));
    assert.ok(fill(from("alice"), () => idOf("alice/pc")) > 0);
    store.close();
  });

  test("lose no message that is in transit when others have used up the share of the edge", () => {
    const store = new Store(undefined, { share: 0.5, octets: 1e9, messages: 10_000 });
    const give = (who: string) => store.finish(store.begin(envelope(from(who))), 0, { reserve: true });
    let n = 0;
    while (n < 100 && !store.isAtMark(BOB, EDGE)) {
      n += 1;
      for (let of = 0; of < 100; of += 1) give(`made-up-${n}/pc`);
    }
    // Nothing of theirs waits, so nothing has suspended their sessions.
    for (let late = 0; late < 500; late += 1) assert.equal(give(`late-${late}/pc`), "stored");
    assert.ok(store.isAtMark(BOB, `${EDGE} late-500`), "the session of the next is suspended all the same");
    for (let more = 0; more < 20_000; more += 1) give(`more-${more}/pc`);
    assert.ok(store.waiting(BOB).messages < 9000, "and the edge has no more than its share and the reserve");
    assert.equal(put(store, "", { source: "grooveDevice://carol/pc" }), "stored");
    store.close();
  });

  test("share what it may leave behind in all queues", () => {
    const sender = 8 * sizeOf([new Uint8Array(1000)]);
    const store = new Store(undefined, { octets: 1e9, messages: 1000, share: 0.5, sender });
    const give = (who: string, n: number) =>
      put(store, new Uint8Array(1000), { ...from(who), peer: `grooveDevice://b/${n}` });
    const stored = (who: string, first: number) =>
      Array.from({ length: 12 }, (_, n) => give(who, first + n)).filter((outcome) => outcome === "stored").length;
    assert.equal(stored("mallory/pc", 0), 3);
    assert.ok(stored("alice/pc", 20) > 0);
    store.close();
  });

  test("do not make each other's ids forgotten, across a restart too", (t) => {
    const file = join(folderFor(t), "store.db");
    const quota = { octets: 1e9, messages: 1e6, share: 0.5 };
    let store = new Store(file, quota);
    const long = "x".repeat(250);
    const first = { source: EDGE, userRef: `first@alice/pc@edge.example.com` };
    assert.equal(put(store, "", first), "stored");
    const count = ID_OCTETS / 2 / long.length;
    for (let n = 0; n < count; n += 1)
      put(store, "", { source: EDGE, userRef: `${long}${n}@mallory/pc@edge.example.com` });
    assert.equal(put(store, "", first), "duplicate");
    store.commit();
    const kept = rows(file, "seen");
    store.close();
    store = new Store(file, quota);
    for (let n = 0; n < count / 4; n += 1)
      put(store, "", { source: EDGE, userRef: `${long}-${n}@mallory/pc@edge.example.com` });
    store.commit();
    assert.ok(rows(file, "seen") <= 1.2 * kept, "it has its share already");
    assert.equal(put(store, "", first), "duplicate");
    store.close();
  });
});
