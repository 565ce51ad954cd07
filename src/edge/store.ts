/**
 * A mailbox's store: the log of what waits for one peer, in the SQLite of its object. The only file of the edge with SQL.
 *
 *   segments  a batch of messages in a row, keyed by the sequence number of its first
 *   bodies    the body of a message longer than a row, row by row, keyed by its sequence number
 *   ids       ids that sources have used, a batch in a row
 *   facts     what else must survive: position, next sequence number, generation, rule, counters
 *
 * Every call is one synchronous turn: what it writes is one transaction, and the platform's output gate keeps every
 * answer back until that is durable. Memory is a cache of the tables, filled again when the object wakes.
 *
 * @module
 */
import {
  BODY_ROW_OCTETS,
  CACHED_SEGMENTS,
  QUOTA_MESSAGES,
  QUOTA_OCTETS,
  REMEMBER_IDS,
  REMEMBERED_IDS,
  REMEMBERED_SLACK,
  RETENTION,
  SEGMENT_OCTETS,
} from "./defaults.ts";
import { decodeSegment, type Entry, encodeEntry, type Mail } from "./segment.ts";

/** What is used of the platform's SqlStorage, so that the store can be tested on any SQLite. */
export interface Sql {
  exec(
    query: string,
    ...bindings: (string | number | null | ArrayBuffer | Uint8Array)[]
  ): {
    toArray(): Record<string, unknown>[];
    readonly rowsWritten: number;
  };
}

/**
 * What became of a message. One that is locked came from somebody who may not send to this mailbox. The last three are of one that cannot wait for an origin relay that is out of reach.
 */
export type Outcome =
  | "stored"
  | "duplicate"
  | "quota"
  | "locked"
  | "DNSLookupFailed"
  | "HostNotReachable"
  | "ConnectionClosed";

export interface Quota {
  readonly octets: number;
  readonly messages: number;
}

/** A message with its number in the mailbox. */
export interface Numbered {
  readonly seq: number;
  readonly mail: Mail;
}

/** What waits. */
export interface Waiting {
  readonly messages: number;
  readonly octets: number;
  /** When the oldest came, in milliseconds since 1970; undefined when nothing waits. */
  readonly oldest: number | undefined;
}

interface Segment {
  readonly first: number;
  readonly entries: readonly Entry[];
}

const schema = `
  CREATE TABLE IF NOT EXISTS segments (
    first INTEGER PRIMARY KEY, count INTEGER NOT NULL, octets INTEGER NOT NULL, at INTEGER NOT NULL, body BLOB NOT NULL);
  CREATE TABLE IF NOT EXISTS bodies (seq INTEGER NOT NULL, n INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (seq, n)) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS ids (n INTEGER PRIMARY KEY, at INTEGER NOT NULL, count INTEGER NOT NULL, body TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
`;

export class MailboxStore {
  readonly #sql: Sql;
  readonly #transaction: <T>(run: () => T) => T;
  readonly #quota: Quota;
  /** The last message that is done with: everything up to it is gone. */
  #position = 0;
  #next = 1;
  #messages = 0;
  #octets = 0;
  /** Ids by source, loaded when the first message comes, and how many they are. */
  #ids: Map<string, Set<string>> | undefined;
  #remembered = 0;
  /** Segments that were read last: a reader takes one in several slices, and acknowledgements follow behind. */
  readonly #cache = new Map<number, Segment>();
  /** Rows written since the object woke, as the platform bills them. */
  rowsWritten = 0;

  /** @param transaction runs a function whose writes happen all or not at all */
  constructor(
    sql: Sql,
    transaction: <T>(run: () => T) => T,
    quota: Quota = { octets: QUOTA_OCTETS, messages: QUOTA_MESSAGES },
  ) {
    this.#sql = sql;
    this.#transaction = transaction;
    this.#quota = quota;
    sql.exec(schema).toArray();
    this.#load();
  }

  /** Fills memory from the tables. */
  #load(): void {
    this.#cache.clear();
    this.#ids = undefined;
    this.#position = Number(this.fact("position") ?? 0);
    this.#next = Number(this.fact("next") ?? 1);
    const [last] = this.#all("SELECT first + count AS next FROM segments ORDER BY first DESC LIMIT 1");
    if (last !== undefined) this.#next = Math.max(this.#next, Number(last.next));
    const [sums] = this.#all(
      "SELECT coalesce(sum(count), 0) AS messages, coalesce(sum(octets), 0) AS octets FROM segments",
    );
    this.#messages = Number(sums?.messages ?? 0);
    this.#octets = Number(sums?.octets ?? 0);
    // The first segment may be done with in part. The position may also be older than it: then nothing of it is.
    const first = this.#segmentAt(this.#position + 1);
    for (const entry of first?.entries.slice(0, Math.max(0, this.#position + 1 - first.first)) ?? []) {
      this.#messages -= 1;
      this.#octets -= entry.size;
    }
  }

  /**
   * Takes a batch of messages, in order.
   *
   * @returns for each what became of it
   */
  append(batch: readonly Mail[], now: number): Outcome[] {
    return this.#atomically(() => {
      const seen = this.#seen();
      const fresh: [string, string][] = [];
      const kept: Mail[] = [];
      let octets = this.#octets;
      let messages = this.#messages;
      let full = false;
      const outcomes = batch.map((mail): Outcome => {
        const ids = seen.get(mail.source);
        if (mail.id !== "" && ids?.has(mail.id)) return "duplicate";
        // What follows one that is refused must not overtake it.
        full ||= messages + 1 > this.#quota.messages || octets + mail.body.length > this.#quota.octets;
        if (full) return "quota";
        messages += 1;
        octets += mail.body.length;
        kept.push(mail);
        if (mail.id !== "") {
          fresh.push([mail.source, mail.id]);
          if (ids === undefined) seen.set(mail.source, new Set([mail.id]));
          else ids.add(mail.id);
        }
        return "stored";
      });
      this.#write(kept, now);
      if (fresh.length > 0)
        this.#run("INSERT INTO ids (at, count, body) VALUES (?, ?, ?)", now, fresh.length, JSON.stringify(fresh));
      this.#remembered += fresh.length;
      if (this.#remembered > REMEMBERED_IDS + REMEMBERED_SLACK) this.#forgetIds(now);
      this.#messages = messages;
      this.#octets = octets;
      return outcomes;
    });
  }

  /**
   * Messages after `seq`, oldest first, until there are `octets` of them or `count`; one is given however long it is.
   */
  read(seq: number, octets: number, count: number): Numbered[] {
    const found: Numbered[] = [];
    let taken = 0;
    for (let from = Math.max(seq, this.#position) + 1; found.length < count; ) {
      const segment = this.#segmentAt(from);
      if (segment === undefined) break;
      for (const [index, entry] of segment.entries.entries()) {
        const number = segment.first + index;
        if (number < from) continue;
        if (found.length >= count || (found.length > 0 && taken + entry.size > octets)) return found;
        taken += entry.size;
        found.push({
          seq: number,
          mail: entry.rows === 0 ? entry.mail : { ...entry.mail, body: this.#body(number, entry.size) },
        });
      }
      from = segment.first + segment.entries.length;
    }
    return found;
  }

  /** Everything up to `seq` is done with. */
  remove(seq: number): void {
    if (seq <= this.#position) return;
    this.#atomically(() => this.#forget(Math.min(seq, this.#next - 1)));
  }

  /** Removes all that waits. Returns how many messages that were. */
  purge(): number {
    const messages = this.#messages;
    this.remove(this.#next - 1);
    return messages;
  }

  /**
   * Removes what came too long ago, and ids that nobody will use again.
   *
   * @returns how many messages were removed
   */
  expire(now: number): number {
    const before = this.#messages;
    const [old] = this.#all("SELECT max(first + count - 1) AS last FROM segments WHERE at < ?", now - RETENTION);
    if (old?.last !== null && old?.last !== undefined) this.remove(Number(old.last));
    this.#atomically(() => this.#forgetIds(now));
    return before - this.#messages;
  }

  /** When `expire` will have something to do; undefined when nothing waits and no id is remembered. */
  expiry(): number | undefined {
    const [segment] = this.#all("SELECT at FROM segments ORDER BY first LIMIT 1");
    const [ids] = this.#all("SELECT at FROM ids ORDER BY n LIMIT 1");
    const times = [
      ...(segment === undefined ? [] : [Number(segment.at) + RETENTION]),
      ...(ids === undefined ? [] : [Number(ids.at) + REMEMBER_IDS]),
    ];
    return times.length === 0 ? undefined : Math.min(...times) + 1;
  }

  waiting(): Waiting {
    const [first] = this.#all("SELECT at FROM segments ORDER BY first LIMIT 1");
    return {
      messages: this.#messages,
      octets: this.#octets,
      oldest: first === undefined ? undefined : Number(first.at),
    };
  }

  /** The number of the last message that is done with. */
  get position(): number {
    return this.#position;
  }

  fact(name: string): string | undefined {
    const [row] = this.#all("SELECT value FROM facts WHERE name = ?", name);
    return row === undefined ? undefined : String(row.value);
  }

  setFact(name: string, value: string): void {
    this.#run(
      "INSERT INTO facts (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
      name,
      value,
    );
  }

  /** When the writes fail none of them has happened, and memory must not be ahead: an id in it would drop its message. */
  #atomically<T>(run: () => T): T {
    try {
      return this.#transaction(run);
    } catch (error) {
      this.#load();
      throw error;
    }
  }

  #write(mails: readonly Mail[], now: number): void {
    let entries: Uint8Array[] = [];
    let held: Entry[] = [];
    let length = 0;
    let octets = 0;
    const flush = () => {
      if (entries.length === 0) return;
      const body = new Uint8Array(length);
      let at = 0;
      for (const entry of entries) {
        body.set(entry, at);
        at += entry.length;
      }
      const first = this.#next - entries.length;
      this.#run(
        "INSERT INTO segments (first, count, octets, at, body) VALUES (?, ?, ?, ?, ?)",
        first,
        entries.length,
        octets,
        now,
        body,
      );
      // Whoever reads next is spared reading it; but what is being read must not be pushed out by what comes.
      if (this.#cache.size < CACHED_SEGMENTS) this.#cache.set(first, { first, entries: held });
      held = [];
      entries = [];
      length = 0;
      octets = 0;
    };
    for (const mail of mails) {
      const size = mail.body.length;
      const rows = size > BODY_ROW_OCTETS ? Math.ceil(size / BODY_ROW_OCTETS) : 0;
      for (let n = 0; n < rows; n += 1) {
        const part = mail.body.subarray(n * BODY_ROW_OCTETS, (n + 1) * BODY_ROW_OCTETS);
        this.#run("INSERT INTO bodies (seq, n, body) VALUES (?, ?, ?)", this.#next, n, part);
      }
      const entry = encodeEntry({ mail, size, rows });
      if (length + entry.length > SEGMENT_OCTETS) flush();
      entries.push(entry);
      held.push({ mail: rows === 0 ? mail : { ...mail, body: new Uint8Array(0) }, size, rows });
      length += entry.length;
      octets += size;
      this.#next += 1;
    }
    flush();
  }

  /** Takes messages up to `seq` off the counts, and their rows off the tables. */
  #forget(seq: number): void {
    let whole = false;
    for (let from = this.#position + 1; from <= seq; ) {
      const segment = this.#segmentAt(from);
      if (segment === undefined) break;
      const { first, entries } = segment;
      const end = first + entries.length - 1;
      for (let number = Math.max(from, first); number <= Math.min(end, seq); number += 1) {
        const entry = entries[number - first];
        if (entry === undefined) continue;
        this.#messages -= 1;
        this.#octets -= entry.size;
        if (entry.rows > 0) this.#run("DELETE FROM bodies WHERE seq = ?", number);
      }
      if (end <= seq) {
        whole = true;
        this.#cache.delete(first);
      }
      from = end + 1;
    }
    this.#position = seq;
    if (whole) this.#run("DELETE FROM segments WHERE first + count - 1 <= ?", seq);
    // A position between two segments shows in the one that is left. One inside a segment has to be written down, and so
    // has the last of all: numbers must never come again.
    const [left] = this.#all("SELECT first FROM segments ORDER BY first LIMIT 1");
    if (left === undefined) this.setFact("next", String(this.#next));
    if (left === undefined || Number(left.first) <= seq) this.setFact("position", String(seq));
  }

  /** The segment that holds a number. */
  #segmentAt(seq: number): Segment | undefined {
    for (const cached of this.#cache.values()) {
      if (seq >= cached.first && seq < cached.first + cached.entries.length) return cached;
    }
    const [row] = this.#all(
      "SELECT first, count, body FROM segments WHERE first <= ? ORDER BY first DESC LIMIT 1",
      seq,
    );
    const found = row !== undefined && seq < Number(row.first) + Number(row.count) ? row : this.#following(seq);
    if (found === undefined) return undefined;
    const segment = { first: Number(found.first), entries: decodeSegment(octetsOf(found.body)) };
    this.#cache.set(segment.first, segment);
    for (const oldest of this.#cache.keys()) {
      if (this.#cache.size <= CACHED_SEGMENTS) break;
      this.#cache.delete(oldest);
    }
    return segment;
  }

  #following(seq: number): Record<string, unknown> | undefined {
    return this.#all("SELECT first, count, body FROM segments WHERE first > ? ORDER BY first LIMIT 1", seq)[0];
  }

  #body(seq: number, size: number): Uint8Array {
    const whole = new Uint8Array(size);
    let at = 0;
    for (const row of this.#all("SELECT body FROM bodies WHERE seq = ? ORDER BY n", seq)) {
      const part = octetsOf(row.body);
      whole.set(part, at);
      at += part.length;
    }
    return whole;
  }

  #seen(): Map<string, Set<string>> {
    if (this.#ids === undefined) {
      this.#ids = new Map();
      this.#remembered = 0;
      for (const row of this.#all("SELECT body FROM ids")) {
        for (const [source, id] of JSON.parse(String(row.body)) as [string, string][]) {
          const ids = this.#ids.get(source);
          if (ids === undefined) this.#ids.set(source, new Set([id]));
          else ids.add(id);
          this.#remembered += 1;
        }
      }
    }
    return this.#ids;
  }

  #forgetIds(now: number): void {
    const [kept] = this.#all(
      "SELECT max(n) AS n FROM (SELECT n, sum(count) OVER (ORDER BY n DESC) AS newer FROM ids) WHERE newer > ?",
      REMEMBERED_IDS,
    );
    const tooMany = kept?.n === null || kept?.n === undefined ? 0 : Number(kept.n);
    const deleted = this.#run("DELETE FROM ids WHERE at < ? OR n <= ?", now - REMEMBER_IDS, tooMany);
    if (deleted > 0) this.#ids = undefined;
  }

  #all(query: string, ...bindings: (string | number)[]): Record<string, unknown>[] {
    return this.#sql.exec(query, ...bindings).toArray();
  }

  #run(query: string, ...bindings: (string | number | Uint8Array)[]): number {
    const cursor = this.#sql.exec(query, ...bindings);
    cursor.toArray();
    this.rowsWritten += cursor.rowsWritten;
    return cursor.rowsWritten;
  }
}

/** The platform gives blobs as ArrayBuffer, other SQLites as Uint8Array. */
function octetsOf(blob: unknown): Uint8Array {
  if (blob instanceof Uint8Array) return blob;
  if (blob instanceof ArrayBuffer) return new Uint8Array(blob);
  throw new TypeError("a row of the mailbox has no octets where it should");
}
