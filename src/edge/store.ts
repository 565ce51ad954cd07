/**
 * A mailbox's store: the log of what waits for one peer, in the SQLite of its object. The only file of the edge with SQL.
 *
 *   segments  a bundle of messages in a row with their ids, keyed by the sequence number of its first
 *   bodies    the body of a message longer than a row, row by row, keyed by its sequence number
 *   ids       ids of segments that are done with, to know what is sent again, under the same keys
 *   facts     what else must survive: position, next sequence number, generation, rule, counters
 *
 * Every call is one synchronous turn: what it writes is one transaction, and the platform's output gate keeps every
 * answer back until that is durable. Memory is a cache of the tables, filled again when the object wakes.
 *
 * @module
 */
import { joinOctets } from "../sstp/index.ts";
import type { Envelope } from "../store-and-forward/envelope.ts";
import { type Bundle, type Contents, contentsOf, envelopeAt, isElsewhere, withBody, withoutBody } from "./bundle.ts";
import {
  BODY_ROW_OCTETS,
  QUOTA_MESSAGES,
  QUOTA_OCTETS,
  REMEMBER_IDS,
  REMEMBERED_IDS,
  REMEMBERED_SLACK,
  RETENTION,
  SEGMENT_OCTETS,
} from "./defaults.ts";
import { countOf, type Ids, idsOf, KnownIds, NONE, type Written, writtenOf } from "./ids.ts";
import { type Segment, Segments } from "./segments.ts";

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

/** Messages of a mailbox, numbered one by one from `first` on. */
export interface Slice {
  readonly first: number;
  readonly bundle: Bundle;
  /** Lengths of their bodies. */
  readonly sizes: readonly number[];
}

/** What waits. */
export interface Waiting {
  readonly messages: number;
  readonly octets: number;
  /** When the oldest came, in milliseconds since 1970; undefined when nothing waits. */
  readonly oldest: number | undefined;
}

/** A segment, whether it waits or is done with, and how many ids came in it. */
interface Remembered {
  readonly first: number;
  readonly at: number;
  readonly count: number;
}

const schema = `
  CREATE TABLE IF NOT EXISTS segments (
    first INTEGER PRIMARY KEY, count INTEGER NOT NULL, octets INTEGER NOT NULL, at INTEGER NOT NULL,
    envelopes TEXT NOT NULL, ids TEXT NOT NULL, body BLOB NOT NULL);
  CREATE TABLE IF NOT EXISTS bodies (seq INTEGER NOT NULL, n INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (seq, n)) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS ids (first INTEGER PRIMARY KEY, at INTEGER NOT NULL, ids TEXT NOT NULL);
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
  /** Ids, loaded when the first message comes; the segments that they came in, oldest first; their number. */
  #ids: KnownIds | undefined;
  #idSegments: Remembered[] = [];
  #remembered = 0;
  readonly #cache = new Segments();
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
    for (const size of first?.sizes.slice(0, Math.max(0, this.#position + 1 - first.first)) ?? []) {
      this.#messages -= 1;
      this.#octets -= size;
    }
  }

  /**
   * Takes messages, in order.
   *
   * @param shutOut whether messages of an envelope may not come in
   * @param awaited whether somebody is about to read them: then they stay in memory, as far as there is room
   * @returns for each what became of it
   */
  append(
    bundle: Bundle,
    now: number,
    shutOut: (envelope: Envelope) => boolean = () => false,
    awaited = true,
  ): Outcome[] {
    const { envelopes, octets } = bundle;
    const contents = contentsOf(octets);
    const ids = idsOf(bundle, contents);
    return this.#safely(() => {
      const seen = this.#seen(now);
      const shut = envelopes.map(shutOut);
      const kept: number[] = [];
      let room = this.#quota.octets - this.#octets;
      let full = false;
      const outcomes = contents.sizes.map((size, index): Outcome => {
        const number = envelopeAt(octets, contents.starts[index] ?? 0);
        if (shut[number] ?? true) return "locked";
        // What follows one that is refused must not overtake it.
        const fits = !full && this.#messages + kept.length + 1 <= this.#quota.messages && size <= room;
        if (!isNew(seen, ids, index, fits)) return "duplicate";
        full = !fits;
        if (full) return "quota";
        kept.push(index);
        room -= size;
        return "stored";
      });
      const write = () => this.#write(bundle, contents, ids, kept, now);
      // One row happens or does not: to begin a transaction would cost half as much as to write it.
      const written = octets.length <= BODY_ROW_OCTETS ? write() : this.#transaction(write);
      if (awaited) for (const segment of written) this.#cache.offer(segment);
      return outcomes;
    });
  }

  /**
   * Messages after `seq`, oldest first, until there are `octets` of them or `count`; one is given however long it is.
   *
   * @param before only messages before this one
   */
  read(seq: number, octets: number, count: number, before = Number.POSITIVE_INFINITY): Slice[] {
    const slices: Slice[] = [];
    let taken = 0;
    let found = 0;
    for (let from = Math.max(seq, this.#position) + 1; found < count && from < this.#next; ) {
      const segment = this.#segmentAt(from);
      if (segment === undefined) break;
      const begin = Math.max(from - segment.first, 0);
      let end = begin;
      for (; end < segment.sizes.length && found < count && segment.first + end < before; end += 1) {
        const size = segment.sizes[end] ?? 0;
        if (found > 0 && taken + size > octets) break;
        taken += size;
        found += 1;
      }
      if (end > begin) slices.push(this.#slice(segment, begin, end));
      if (end < segment.sizes.length) break;
      from = segment.first + end;
    }
    return slices;
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
    this.#atomically(() => {
      // Memory is not filled with ids only to forget some.
      if (this.#ids !== undefined) this.#seen(now);
      this.#run("DELETE FROM ids WHERE at < ?", now - REMEMBER_IDS);
    });
    return before - this.#messages;
  }

  /** When `expire` will have something to do; undefined when nothing waits and no id of what is done with is kept. */
  expiry(): number | undefined {
    const [segment] = this.#all("SELECT at FROM segments ORDER BY first LIMIT 1");
    const [ids] = this.#all("SELECT at FROM ids ORDER BY first LIMIT 1");
    const times = [
      ...(segment === undefined ? [] : [Number(segment.at) + RETENTION]),
      ...(ids === undefined ? [] : [Number(ids.at) + REMEMBER_IDS]),
    ];
    return times.length === 0 ? undefined : Math.min(...times) + 1;
  }

  /** How many messages wait. */
  get messages(): number {
    return this.#messages;
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

  /** The number of the last message that has come. */
  get last(): number {
    return this.#next - 1;
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

  #atomically<T>(run: () => T): T {
    return this.#safely(() => this.#transaction(run));
  }

  /** When the writes fail none of them has happened, and memory must not be ahead: an id in it would drop its message. */
  #safely<T>(run: () => T): T {
    try {
      return run();
    } catch (error) {
      this.#load();
      throw error;
    }
  }

  /** Writes some messages of a bundle, as they are where nothing is left out of it and nothing stands elsewhere. */
  #write(bundle: Bundle, contents: Contents, ids: Ids, kept: readonly number[], now: number): Segment[] {
    const { envelopes, octets } = bundle;
    const { starts, sizes } = contents;
    const written: Segment[] = [];
    let pieces: Uint8Array[] = [];
    let held: number[] = [];
    let length = 0;
    // Messages that stand behind each other are one piece.
    let runStart = 0;
    let runEnd = 0;
    const endRun = () => {
      if (runEnd > runStart) pieces.push(octets.subarray(runStart, runEnd));
      runStart = runEnd;
    };
    const flush = () => {
      endRun();
      const [first] = pieces;
      if (first !== undefined && length === octets.length) {
        written.push(this.#insert(bundle, contents, writtenOf(ids, held), now));
      } else if (first !== undefined) {
        const part = pieces.length === 1 ? first : joinOctets(pieces, length);
        written.push(this.#insert({ envelopes, octets: part }, contentsOf(part), writtenOf(ids, held), now));
      }
      pieces = [];
      held = [];
      length = 0;
    };
    for (const index of kept) {
      const start = starts[index] ?? 0;
      const end = starts[index + 1] ?? start;
      const size = sizes[index] ?? 0;
      const long = size > BODY_ROW_OCTETS;
      const octetsHere = long ? end - start - size : end - start;
      if (length + octetsHere > SEGMENT_OCTETS) flush();
      if (long) {
        endRun();
        this.#writeBody(this.#next + held.length, octets.subarray(end - size, end));
        pieces.push(withoutBody(octets.subarray(start, end), size));
      } else {
        if (runEnd !== start) {
          endRun();
          runStart = start;
        }
        runEnd = end;
      }
      held.push(index);
      length += octetsHere;
    }
    flush();
    return written;
  }

  #insert(bundle: Bundle, contents: Contents, ids: Written, now: number): Segment {
    const { sizes } = contents;
    const octets = sizes.reduce((sum, size) => sum + size, 0);
    const first = this.#next;
    this.#run(
      "INSERT INTO segments (first, count, octets, at, envelopes, ids, body) VALUES (?, ?, ?, ?, ?, ?, ?)",
      first,
      sizes.length,
      octets,
      now,
      JSON.stringify(bundle.envelopes),
      JSON.stringify(ids),
      bundle.octets,
    );
    this.#noteIds({ first, at: now, count: countOf(ids) });
    this.#next += sizes.length;
    this.#messages += sizes.length;
    this.#octets += octets;
    return { first, bundle, ...contents };
  }

  #writeBody(seq: number, body: Uint8Array): void {
    for (let n = 0, at = 0; at < body.length; n += 1, at += BODY_ROW_OCTETS) {
      const part = body.subarray(at, at + BODY_ROW_OCTETS);
      this.#run("INSERT INTO bodies (seq, n, body) VALUES (?, ?, ?)", seq, n, part);
    }
  }

  /** Messages of a segment, with their bodies, wherever those stand, in memory of its own. */
  #slice({ first, bundle, starts, sizes }: Segment, begin: number, end: number): Slice {
    const { envelopes, octets } = bundle;
    const pieces: Uint8Array[] = [];
    let length = 0;
    let from = starts[begin] ?? 0;
    const add = (piece: Uint8Array) => {
      pieces.push(piece);
      length += piece.length;
    };
    for (let index = begin; index < end; index += 1) {
      const start = starts[index] ?? 0;
      if (!isElsewhere(octets, start)) continue;
      const after = starts[index + 1] ?? start;
      add(octets.subarray(from, start));
      add(withBody(octets.subarray(start, after), this.#body(first + index, sizes[index] ?? 0)));
      from = after;
    }
    add(octets.subarray(from, starts[end] ?? from));
    const [only] = pieces;
    const whole = pieces.length === 1 && only !== undefined ? only.slice() : joinOctets(pieces, length);
    return { first: first + begin, bundle: { envelopes, octets: whole }, sizes: sizes.slice(begin, end) };
  }

  /** Takes messages up to `seq` off the counts, and their rows off the tables. */
  #forget(seq: number): void {
    let whole = false;
    for (let from = this.#position + 1; from <= seq; ) {
      const segment = this.#segmentAt(from);
      if (segment === undefined) break;
      const { first, bundle, starts, sizes } = segment;
      const end = first + sizes.length - 1;
      for (let number = Math.max(from, first); number <= Math.min(end, seq); number += 1) {
        this.#messages -= 1;
        this.#octets -= sizes[number - first] ?? 0;
        const elsewhere = isElsewhere(bundle.octets, starts[number - first] ?? 0);
        if (elsewhere) this.#run("DELETE FROM bodies WHERE seq = ?", number);
      }
      if (end <= seq) {
        whole = true;
        this.#cache.drop(first);
      }
      from = end + 1;
    }
    this.#position = seq;
    if (whole) {
      this.#run(
        "INSERT INTO ids SELECT first, at, ids FROM segments WHERE first + count - 1 <= ? AND ids <> '[]'",
        seq,
      );
      this.#run("DELETE FROM segments WHERE first + count - 1 <= ?", seq);
    }
    // A position between two segments shows in the one that is left. One inside a segment has to be written down, and so
    // has the last of all: numbers must never come again.
    const [left] = this.#all("SELECT first FROM segments ORDER BY first LIMIT 1");
    if (left === undefined) this.setFact("next", String(this.#next));
    if (left === undefined || Number(left.first) <= seq) this.setFact("position", String(seq));
  }

  /** The segment that holds a number. */
  #segmentAt(seq: number): Segment | undefined {
    const kept = this.#cache.find(seq);
    if (kept !== undefined) return kept;
    const [row] = this.#all(
      "SELECT first, count, envelopes, body FROM segments WHERE first <= ? ORDER BY first DESC LIMIT 1",
      seq,
    );
    const found = row !== undefined && seq < Number(row.first) + Number(row.count) ? row : this.#following(seq);
    if (found === undefined) return undefined;
    const octets = octetsOf(found.body);
    const bundle = { envelopes: JSON.parse(String(found.envelopes)) as Envelope[], octets };
    const segment = { first: Number(found.first), bundle, ...contentsOf(octets) };
    this.#cache.keep(segment);
    return segment;
  }

  #following(seq: number): Record<string, unknown> | undefined {
    return this.#all(
      "SELECT first, count, envelopes, body FROM segments WHERE first > ? ORDER BY first LIMIT 1",
      seq,
    )[0];
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

  /** The ids that are remembered. */
  #seen(now: number): KnownIds {
    if (this.#ids === undefined) {
      this.#ids = new KnownIds();
      this.#idSegments = [];
      this.#remembered = 0;
      for (const { first, at, ids } of this.#readIds("at >= ?", now - REMEMBER_IDS)) {
        this.#noteIds({ first, at, count: countOf(ids) });
        this.#ids.learn(ids);
      }
    }
    const tooOld = (this.#idSegments[0]?.at ?? now) < now - REMEMBER_IDS;
    if (tooOld || this.#remembered > REMEMBERED_IDS + REMEMBERED_SLACK) this.#forgetIds(this.#ids, now);
    return this.#ids;
  }

  #noteIds(segment: Remembered): void {
    if (segment.count === 0) return;
    this.#idSegments.push(segment);
    this.#remembered += segment.count;
  }

  /** Forgets ids that are too old, and the oldest of those that are too many. They are read again only to be forgotten. */
  #forgetIds(seen: KnownIds, now: number): void {
    const found = this.#idSegments.findIndex(({ at, count }) => {
      if (at >= now - REMEMBER_IDS && this.#remembered <= REMEMBERED_IDS) return true;
      this.#remembered -= count;
      return false;
    });
    const gone = this.#idSegments.splice(0, found < 0 ? this.#idSegments.length : found);
    const [oldest] = gone;
    const newest = gone.at(-1);
    if (oldest === undefined || newest === undefined) return;
    for (const { ids } of this.#readIds("first BETWEEN ? AND ?", oldest.first, newest.first)) seen.forget(ids);
    this.#run("DELETE FROM ids WHERE first <= ?", newest.first);
  }

  /** Ids as they are written down, oldest first. */
  #readIds(where: string, ...bindings: number[]): { first: number; at: number; ids: Written }[] {
    const rows = this.#all(
      `SELECT * FROM (SELECT first, at, ids FROM ids UNION ALL SELECT first, at, ids FROM segments) WHERE ${where} ORDER BY first`,
      ...bindings,
    );
    return rows.map(({ first, at, ids }) => ({
      first: Number(first),
      at: Number(at),
      ids: JSON.parse(String(ids)) as Written,
    }));
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

/** Whether a message is none that has come before; one without an id never is. It has come from now on, if it is taken. */
function isNew(seen: KnownIds, { series, numbers }: Ids, index: number, taken: boolean): boolean {
  const one = series[index];
  if (one === undefined) return true;
  const number = numbers[index] ?? NONE;
  return taken ? seen.add(one, number) : !seen.has(one, number);
}
