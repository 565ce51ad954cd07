/**
 * A mailbox's store: the log of what waits for one peer, in the SQLite of its object. The only file of the edge with SQL.
 *
 *   segments  a bundle of messages in a row with their ids, keyed by the sequence number of its first
 *   done      which messages of a segment are done with, while others of it wait, under the same key
 *   bodies    the body of a message longer than a row, row by row, keyed by its sequence number
 *   ids       ids of segments that are done with, to know what is sent again, under the same keys
 *   facts     what else must survive: next sequence number, generation, rule, counters
 *
 * Messages are done with in any order. A segment goes when all of its messages are; until then its row keeps them.
 *
 * Sizes are what is stored and sent: a message counts with its header, id and body, an envelope once in each segment.
 *
 * Every call is one synchronous turn: what it writes is one transaction, and the platform's output gate keeps every
 * answer back until that is durable. Memory is a cache of the tables, filled again when the object wakes.
 *
 * @module
 */
import { type Range, Ranges } from "../lib/ranges.ts";
import { joinOctets } from "../sstp/index.ts";
import type { Envelope } from "../store-and-forward/envelope.ts";
import {
  type Bundle,
  contentsOf,
  envelopeAt,
  isElsewhere,
  lengthOf,
  renumbered,
  withBody,
  withoutBody,
} from "./bundle.ts";
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
  /** By how much each counts: what it adds to the call that carries the slice, its envelope with the first that has it. */
  readonly sizes: readonly number[];
}

/** What waits. */
export interface Waiting {
  readonly messages: number;
  readonly octets: number;
  /** When the oldest came, in milliseconds since 1970; undefined when nothing waits. */
  readonly oldest: number | undefined;
}

/** Messages that are written down, with their envelopes as they are stored. */
interface Batch extends Omit<Segment, "first"> {
  readonly texts: readonly string[];
}

/** What is done with of a segment of which some messages wait. */
interface Part {
  readonly ranges: Ranges;
  octets: number;
}

/** Where a segment stands, without its messages; `octets` are those of all of them and of its envelopes. */
interface Extent {
  readonly first: number;
  readonly count: number;
  readonly octets: number;
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
  CREATE TABLE IF NOT EXISTS done (
    first INTEGER PRIMARY KEY, messages INTEGER NOT NULL, octets INTEGER NOT NULL, ranges TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS bodies (seq INTEGER NOT NULL, n INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (seq, n)) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS ids (first INTEGER PRIMARY KEY, at INTEGER NOT NULL, ids TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
`;

const NO_RANGES = new Ranges();

export class MailboxStore {
  readonly #sql: Sql;
  readonly #transaction: <T>(run: () => T) => T;
  readonly #quota: Quota;
  /** The last number before the first message that waits. */
  #position = 0;
  #next = 1;
  #messages = 0;
  #octets = 0;
  /** Segments that are done with in part, by their first number. */
  readonly #parts = new Map<number, Part>();
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
    this.#next = Number(this.fact("next") ?? 1);
    const [last] = this.#all("SELECT first + count AS next FROM segments ORDER BY first DESC LIMIT 1");
    if (last !== undefined) this.#next = Math.max(this.#next, Number(last.next));
    const [sums] = this.#all(
      "SELECT coalesce(sum(count), 0) AS messages, coalesce(sum(octets), 0) AS octets FROM segments",
    );
    this.#messages = Number(sums?.messages ?? 0);
    this.#octets = Number(sums?.octets ?? 0);
    this.#parts.clear();
    for (const { first, messages, octets, ranges } of this.#all("SELECT first, messages, octets, ranges FROM done")) {
      this.#messages -= Number(messages);
      this.#octets -= Number(octets);
      const done = new Ranges(JSON.parse(String(ranges)) as Range[]);
      this.#parts.set(Number(first), { ranges: done, octets: Number(octets) });
    }
    this.#position = 0;
    this.#advance();
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
    const texts = envelopes.map((envelope) => JSON.stringify(envelope));
    const shares = texts.map(utf8Length);
    return this.#safely(() => {
      const seen = this.#seen(now);
      const shut = envelopes.map(shutOut);
      const kept: number[] = [];
      let room = this.#quota.octets - this.#octets;
      let full = false;
      const counted = new Set<number>();
      const outcomes = contents.sizes.map((_, index): Outcome => {
        const number = envelopeAt(octets, contents.starts[index] ?? 0);
        if (shut[number] ?? true) return "locked";
        const size = lengthOf(octets, contents, index) + (counted.has(number) ? 0 : (shares[number] ?? 0));
        // What follows one that is refused must not overtake it.
        const fits = !full && this.#messages + kept.length + 1 <= this.#quota.messages && size <= room;
        if (!isNew(seen, ids, index, fits)) return "duplicate";
        full = !fits;
        if (full) return "quota";
        kept.push(index);
        counted.add(number);
        room -= size;
        return "stored";
      });
      const write = () => this.#write({ bundle, ...contents, texts, shares }, ids, kept, now);
      // One row happens or does not: to begin a transaction would cost half as much as to write it.
      const written = octets.length <= BODY_ROW_OCTETS ? write() : this.#transaction(write);
      if (awaited) for (const segment of written) this.#cache.offer(segment);
      return outcomes;
    });
  }

  /**
   * Messages that wait, with numbers above `after`, oldest first, until there are `octets` of them or `count`; one is given
   * however long it is. Those that follow each other by number come in one slice, as far as they stand in one segment.
   *
   * @param excluded messages that are left out
   */
  read(after: number, octets: number, count: number, excluded: Ranges = NO_RANGES): Slice[] {
    const slices: Slice[] = [];
    let taken = 0;
    let found = 0;
    let from = Math.max(after, this.#position) + 1;
    while (found < count) {
      from = excluded.nextMissing(from);
      if (from >= this.#next) break;
      const segment = this.#segmentAt(from);
      if (segment === undefined) break;
      const { first, starts, sizes, bundle, shares } = segment;
      const end = first + sizes.length;
      const done = this.#parts.get(first)?.ranges ?? NO_RANGES;
      from = done.nextMissing(Math.max(from, first));
      if (from >= end || excluded.has(from)) continue;
      // Up to the next that is done with or left out.
      const stop = Math.min(end, done.next(from) ?? end, excluded.next(from) ?? end);
      const begin = from;
      const counted: number[] = [];
      const counts: number[] = [];
      for (; from < stop && found < count; from += 1) {
        const index = from - first;
        const number = envelopeAt(bundle.octets, starts[index] ?? 0);
        const isFirst = !counted.includes(number);
        const size = lengthOf(bundle.octets, segment, index) + (isFirst ? (shares[number] ?? 0) : 0);
        if (found > 0 && taken + size > octets) break;
        if (isFirst) counted.push(number);
        counts.push(size);
        taken += size;
        found += 1;
      }
      if (from > begin) slices.push(this.#slice(segment, begin - first, from - first, counted, counts));
      if (from < stop) break;
    }
    return slices;
  }

  /** These messages are done with. Numbers of none that waits change nothing. */
  remove(ranges: Iterable<Range>): void {
    this.#atomically(() => {
      for (const [from, to] of ranges) this.#forget(Math.max(from, this.#position + 1), Math.min(to, this.#next - 1));
      this.#advance();
    });
  }

  /** Removes all that waits. Returns how many messages that were. */
  purge(): number {
    const messages = this.#messages;
    this.remove([[this.#position + 1, this.#next - 1]]);
    return messages;
  }

  /**
   * Removes what came too long ago, and ids that nobody will use again.
   *
   * @returns how many messages were removed
   */
  expire(now: number): number {
    const before = this.#messages;
    // They stand in the order in which they came.
    const [young] = this.#all("SELECT first FROM segments WHERE at >= ? ORDER BY first LIMIT 1", now - RETENTION);
    const last = young === undefined ? this.#next - 1 : Number(young.first) - 1;
    if (last > this.#position) this.remove([[this.#position + 1, last]]);
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

  /** The last number before the first message that waits: all up to it are done with. */
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
  #write(batch: Batch, ids: Ids, kept: readonly number[], now: number): Segment[] {
    const { bundle, starts, sizes } = batch;
    const { envelopes, octets } = bundle;
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
        written.push(this.#insert(batch, writtenOf(ids, held), now));
      } else if (first !== undefined) {
        const part = pieces.length === 1 ? first : joinOctets(pieces, length);
        const { texts, shares } = batch;
        const rest = { bundle: { envelopes, octets: part }, ...contentsOf(part), texts, shares };
        written.push(this.#insert(rest, writtenOf(ids, held), now));
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

  #insert({ bundle, starts, sizes, texts, shares }: Batch, ids: Written, now: number): Segment {
    const segment = { first: this.#next, bundle, starts, sizes, shares };
    const { first, octets } = extentOf(segment);
    this.#run(
      "INSERT INTO segments (first, count, octets, at, envelopes, ids, body) VALUES (?, ?, ?, ?, ?, ?, ?)",
      first,
      sizes.length,
      octets,
      now,
      `[${texts.join()}]`,
      JSON.stringify(ids),
      bundle.octets,
    );
    this.#noteIds({ first, at: now, count: countOf(ids) });
    this.#next += sizes.length;
    this.#messages += sizes.length;
    this.#octets += octets;
    return segment;
  }

  #writeBody(seq: number, body: Uint8Array): void {
    for (let n = 0, at = 0; at < body.length; n += 1, at += BODY_ROW_OCTETS) {
      const part = body.subarray(at, at + BODY_ROW_OCTETS);
      this.#run("INSERT INTO bodies (seq, n, body) VALUES (?, ?, ?)", seq, n, part);
    }
  }

  /**
   * Messages of a segment, with their bodies, wherever those stand, in memory of its own.
   *
   * @param used the envelopes that they have, by number
   */
  #slice(segment: Segment, begin: number, end: number, used: readonly number[], counts: readonly number[]): Slice {
    const { first, bundle, starts, sizes } = segment;
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
    const mine = { envelopes, octets: whole };
    const sent = used.length === envelopes.length ? mine : renumbered(mine, used);
    return { first: first + begin, bundle: sent, sizes: counts };
  }

  /** Takes messages off the counts, and rows off the tables of which all messages are done with. */
  #forget(from: number, to: number): void {
    // Segments behind each other that go whole.
    let begin = 0;
    let end = 0;
    for (let at = from; at <= to; ) {
      const extent = this.#extentAt(at);
      if (extent === undefined || extent.first > to) break;
      const { first, count, octets } = extent;
      const last = first + count - 1;
      const part = this.#parts.get(first);
      const low = Math.max(at, first);
      const high = Math.min(to, last);
      at = last + 1;
      const whole = low === first && high === last;
      const ranges = whole ? undefined : new Ranges(part?.ranges);
      ranges?.add(low, high);
      if (ranges === undefined || ranges.count === count) {
        this.#messages -= count - (part?.ranges.count ?? 0);
        this.#octets -= octets - (part?.octets ?? 0);
        if (part !== undefined) {
          this.#parts.delete(first);
          this.#run("DELETE FROM done WHERE first = ?", first);
        }
        this.#cache.drop(first);
        if (begin === 0) begin = first;
        end = last;
      } else if (ranges.count > (part?.ranges.count ?? 0)) {
        this.#keepPart(first, ranges, part);
      }
    }
    if (begin === 0) return;
    this.#run(
      "INSERT INTO ids SELECT first, at, ids FROM segments WHERE first BETWEEN ? AND ? AND ids <> '[]'",
      begin,
      end,
    );
    this.#run("DELETE FROM segments WHERE first BETWEEN ? AND ?", begin, end);
    this.#run("DELETE FROM bodies WHERE seq BETWEEN ? AND ?", begin, end);
    // Numbers must never come again: once the last segment has gone, nothing else tells which they were.
    if (end === this.#next - 1) this.setFact("next", String(this.#next));
  }

  /** Writes down which messages of a segment are done with. */
  #keepPart(first: number, ranges: Ranges, before: Part | undefined): void {
    const segment = this.#segmentAt(first);
    if (segment === undefined) return;
    const { bundle, starts } = segment;
    let octets = 0;
    for (const [from, to] of ranges) {
      for (let number = from; number <= to; number += 1) {
        octets += lengthOf(bundle.octets, segment, number - first);
        if (before?.ranges.has(number) === true || !isElsewhere(bundle.octets, starts[number - first] ?? 0)) continue;
        this.#run("DELETE FROM bodies WHERE seq = ?", number);
      }
    }
    this.#run(
      "INSERT INTO done (first, messages, octets, ranges) VALUES (?, ?, ?, ?) ON CONFLICT (first) DO UPDATE SET messages = excluded.messages, octets = excluded.octets, ranges = excluded.ranges",
      first,
      ranges.count,
      octets,
      JSON.stringify([...ranges]),
    );
    this.#messages -= ranges.count - (before?.ranges.count ?? 0);
    this.#octets -= octets - (before?.octets ?? 0);
    this.#parts.set(first, { ranges, octets });
  }

  /** Moves the position up to the first message that waits. */
  #advance(): void {
    for (let next = this.#position + 1; ; ) {
      const extent = this.#extentAt(next);
      next = extent === undefined ? this.#next : Math.max(next, extent.first);
      const waiting = extent && (this.#parts.get(extent.first)?.ranges.nextMissing(next) ?? next);
      if (extent === undefined || waiting === undefined || waiting < extent.first + extent.count) {
        this.#position = (waiting ?? next) - 1;
        return;
      }
      next = extent.first + extent.count;
    }
  }

  /** Where the segment stands that holds a number, or else the next. */
  #extentAt(seq: number): Extent | undefined {
    if (seq >= this.#next) return undefined;
    const kept = this.#cache.find(seq);
    if (kept !== undefined) return extentOf(kept);
    const row = this.#rowAt("first, count, octets", seq);
    return row && { first: Number(row.first), count: Number(row.count), octets: Number(row.octets) };
  }

  /** The segment that holds a number, or else the next. */
  #segmentAt(seq: number): Segment | undefined {
    const kept = this.#cache.find(seq);
    if (kept !== undefined) return kept;
    const found = this.#rowAt("first, count, envelopes, body", seq);
    if (found === undefined) return undefined;
    const octets = octetsOf(found.body);
    const envelopes = JSON.parse(String(found.envelopes)) as Envelope[];
    const shares = envelopes.map((envelope) => utf8Length(JSON.stringify(envelope)));
    const segment = { first: Number(found.first), bundle: { envelopes, octets }, ...contentsOf(octets), shares };
    this.#cache.keep(segment);
    return segment;
  }

  #rowAt(columns: string, seq: number): Record<string, unknown> | undefined {
    const [row] = this.#all(`SELECT ${columns} FROM segments WHERE first <= ? ORDER BY first DESC LIMIT 1`, seq);
    if (row !== undefined && seq < Number(row.first) + Number(row.count)) return row;
    return this.#all(`SELECT ${columns} FROM segments WHERE first > ? ORDER BY first LIMIT 1`, seq)[0];
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

/** Octets of a segment's messages, and of its envelopes once. */
function extentOf(segment: Segment): Extent {
  const { first, bundle, starts, sizes, shares } = segment;
  let octets = shares.reduce((sum, share) => sum + share, bundle.octets.length);
  for (const [index, size] of sizes.entries()) if (isElsewhere(bundle.octets, starts[index] ?? 0)) octets += size;
  return { first, count: sizes.length, octets };
}

const encoder = new TextEncoder();

/** Octets of a text where it is stored. */
function utf8Length(text: string): number {
  return encoder.encode(text).length;
}
