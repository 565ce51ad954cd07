/**
 * A mailbox's store: the log of what waits for one peer, in the object's SQLite. Together with `id-store.ts`, which is
 * part of it, this is the only file of the edge with SQL.
 *
 *   segments   one bundle of messages per row, keyed by the sequence number of its first message
 *   done       settled messages of a segment of which others still wait, under the same key
 *   bodies     the body of a message too long for a row, in several rows, keyed by its sequence number
 *   envelopes  long envelopes, stored once for all segments that use them
 *   ids        ids of messages that have arrived, waiting or not, to detect duplicates
 *   facts      what else must survive: version, next sequence number, generation, rule, counters
 *
 * Messages are settled in any order. A segment is deleted when all of its messages are settled. Until then its row
 * stays, and is compacted when most of it is settled.
 *
 * Sizes are what is stored and sent: a message counts with its header, id and body, an envelope once where it is
 * stored.
 *
 * A store that was never written to has no tables, so looking at it leaves nothing behind.
 *
 * Every call is one synchronous turn. Its writes are one transaction, and the platform's output gate holds every answer
 * back until they are durable. Memory is a cache of the tables, refilled when the object wakes.
 *
 * @module
 */

import { type Range, Ranges } from "../../lib/ranges.ts";
import { sha256 } from "../../lib/sha256.ts";
import { joinOctets } from "../../sstp/index.ts";
import type { Envelope } from "../../store-and-forward/envelope.ts";
import {
  type Amount,
  hasRoom,
  isAtMark,
  isEasy,
  isPlenty,
  longestIn,
  mayGoOn,
  QUOTA,
  type Quota,
  roomFor,
  senderOf,
} from "../../store-and-forward/sender-share.ts";
import { storedVersion } from "../../store-and-forward/stored-version.ts";
import { MESSAGE_LIMIT } from "../policy/limits.ts";
import type { Outcome, Waiting, Wanted } from "../rpc/mailbox-rpc.ts";
import {
  contentsOf,
  emptyMessage,
  envelopeAt,
  followedByBody,
  ID_AT,
  idLengthAt,
  isElsewhere,
  lengthOf,
  type MessageBatch,
  renumbered,
  withoutBody,
} from "../rpc/message-batch.ts";
import { ID_SCHEMA, IdTable } from "./id-store.ts";
import {
  BODY_ROW_OCTETS,
  ENVELOPE_LIMIT,
  FOUND_SEGMENTS,
  LONG_ENVELOPE,
  PURGED_IDS_AGE,
  RANGE_TIME,
  REMEMBER_IDS,
  RETENTION,
  SEGMENT_ENVELOPES,
  SEGMENT_OCTETS,
  UNWRITTEN_OCTETS,
  UNWRITTEN_SEGMENTS,
} from "./limits.ts";
import { eachOf, idsOf, NONE, type WrittenIds } from "./seen-ids.ts";
import { type Segment, SegmentCache } from "./segment-cache.ts";

/** The part of the platform's SqlStorage in use, so that tests can run the store on any SQLite. */
export interface Sql {
  exec(
    query: string,
    ...bindings: (string | number | null | ArrayBuffer | Uint8Array)[]
  ): {
    toArray(): Record<string, unknown>[];
    readonly rowsWritten: number;
  };
}

/** Messages of a mailbox, numbered one by one from `first`. */
export interface Slice {
  readonly first: number;
  readonly bundle: MessageBatch;
  /** What each message adds to the call that carries the slice, in bytes. An envelope counts with its first message. */
  readonly sizes: readonly number[];
}

/** Messages to be written, with their envelopes as stored. */
interface Batch extends Omit<Segment, "first" | "octets"> {
  readonly texts: readonly string[];
}

/** The settled messages of a segment of which others wait. */
interface Part {
  readonly ranges: Ranges;
  octets: number;
}

/** The position and size of a segment, without its messages. */
interface Extent {
  readonly first: number;
  readonly count: number;
  readonly octets: number;
}

/** What waits of one sender, in segments settled in part or not at all. */
interface Share {
  messages: number;
  octets: number;
}

/** Conditions of an append. */
export interface Terms {
  /** Whether messages of an envelope are refused. */
  readonly shutOut?: (envelope: Envelope) => boolean;
  /** Whether a consumer is about to read them. If so they are cached, room permitting. Default true. */
  readonly awaited?: boolean;
  /** Whether the disk is full; then nothing is written. */
  readonly full?: boolean;
  /** Whether the sender has no room in its account; then nothing is written, as on a full disk. */
  readonly over?: boolean;
  /** Whether the sender can be suspended, which grants it the reserve beyond its share. */
  readonly reserve?: boolean;
}

export interface ReadOptions {
  /** Messages to leave out. */
  readonly excluded?: Ranges | undefined;
  /** Whether to return a first message that is longer than all that may be read. Default true. */
  readonly atLeastOne?: boolean;
}

/** The schema version that this release writes. */
const VERSION = 2;

/**
 * Bodies are in a table with a row number and an index of their own. In one WITHOUT ROWID, SQLite reads whole rows, of
 * half a megabyte each, to compare their keys.
 */
const schema = `
  CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE segments (
    first INTEGER PRIMARY KEY, count INTEGER NOT NULL, octets INTEGER NOT NULL, at INTEGER NOT NULL,
    apart INTEGER NOT NULL, senders TEXT NOT NULL, envelopes TEXT NOT NULL, body BLOB NOT NULL);
  CREATE TABLE done (
    first INTEGER PRIMARY KEY, messages INTEGER NOT NULL, octets INTEGER NOT NULL, ranges TEXT NOT NULL);
  CREATE TABLE bodies (seq INTEGER NOT NULL, n INTEGER NOT NULL, body BLOB NOT NULL);
  CREATE INDEX bodies_of_message ON bodies (seq, n);
  CREATE TABLE envelopes (
    number INTEGER PRIMARY KEY, hash TEXT NOT NULL UNIQUE, segments INTEGER NOT NULL, octets INTEGER NOT NULL,
    sender TEXT NOT NULL, text TEXT NOT NULL);
  ${ID_SCHEMA}
`;

/** A blob: the platform returns an ArrayBuffer, other SQLites a Uint8Array. */
type Blob = ArrayBuffer | Uint8Array;

interface SegmentRow {
  readonly first: number;
  readonly count: number;
  readonly octets: number;
  /** When the messages arrived, milliseconds since 1970. */
  readonly at: number;
  /** How many of the envelopes are stored in `envelopes`. */
  readonly apart: number;
  /** JSON of {@link SenderCount}s. */
  readonly senders: string;
  /** JSON of {@link KeptEnvelope}s. */
  readonly envelopes: string;
  readonly body: Blob;
}

/** An envelope, or its number in `envelopes`. */
type KeptEnvelope = Envelope | number;

interface DoneRow {
  readonly first: number;
  readonly messages: number;
  readonly octets: number;
  /** JSON of {@link Range}s. */
  readonly ranges: string;
}

/** A part of a body. */
interface BodyRow {
  readonly seq: number;
  readonly n: number;
  readonly body: Blob;
}

interface EnvelopeRow {
  readonly number: number;
  readonly hash: string;
  /** How many segments use it. */
  readonly segments: number;
  readonly octets: number;
  readonly sender: string;
  /** JSON of the envelope. */
  readonly text: string;
}

interface FactRow {
  readonly name: string;
  readonly value: string;
}

/** Rows of the first schema, read only to migrate them. */
type SegmentRow1 = Pick<SegmentRow, "first" | "at" | "body"> & IdRow1 & { readonly envelopes: string };
interface IdRow1 {
  readonly first: number;
  readonly at: number;
  /** JSON of {@link WrittenIds}. */
  readonly ids: string;
}

/** Smaller savings are not worth a rewrite: SQLite would not free a page for them. */
const LEAST_COMPACTION = 4096;

const NO_RANGES = new Ranges();

const NOTHING: Amount = { messages: 0, octets: 0 };

export interface StoreOptions {
  readonly quota?: Quota;
  /** Bytes of ids to remember. */
  readonly idOctets?: number;
  /** The first message's number in a new store: above all numbers used before. */
  readonly firstNumber?: () => number;
}

export class MailboxStore {
  readonly #sql: Sql;
  readonly #transaction: <T>(run: () => T) => T;
  readonly #quota: Quota;
  readonly #messageLimit: number;
  readonly #firstNumber: () => number;
  /** Whether the tables exist. */
  #made = false;
  /** The number before the first waiting message. */
  #position = 0;
  #next = 1;
  #messages = 0;
  #octets = 0;
  /** Segments settled in part, by their first number. */
  readonly #parts = new Map<number, Part>();
  /** Number of rows in `envelopes`. */
  #apart = 0;
  /** What waits of each sender; undefined while too little waits for it to matter. */
  #shares: Map<string, Share> | undefined;
  readonly #ids: IdTable;
  /** What was appended since the ids were written. */
  #unwritten = { segments: 0, octets: 0 };
  readonly #cache = new SegmentCache();
  /** Rows written since the object woke, as the platform bills them. */
  rowsWritten = 0;

  /**
   * @param transaction runs a function whose writes happen all or not at all
   * @throws NewerSchemaError
   */
  constructor(sql: Sql, transaction: <T>(run: () => T) => T, options: StoreOptions = {}) {
    this.#sql = sql;
    this.#transaction = transaction;
    this.#quota = options.quota ?? QUOTA;
    this.#messageLimit = Math.min(MESSAGE_LIMIT, longestIn(this.#quota));
    this.#firstNumber = options.firstNumber ?? (() => 1);
    this.#ids = new IdTable(
      {
        all: <Row extends object>(query: string, ...bindings: (string | number)[]) =>
          this.#all<Row>(query, ...bindings),
        run: (query, ...bindings) => this.#run(query, ...bindings),
      },
      options.idOctets,
    );
    this.#open();
  }

  #open(): void {
    this.#made = rowsOf(this.#sql, "SELECT 1 FROM sqlite_master WHERE name = 'facts'", []).length > 0;
    if (this.#made && storedVersion("a mailbox", this.fact("version"), VERSION) === 1) {
      this.#transaction(() => this.#migrate());
    }
    this.#load();
  }

  /** Creates the tables. */
  #make(): void {
    this.#transaction(() => {
      this.#sql.exec(schema).toArray();
      this.#made = true;
      this.#next = this.#firstNumber();
      this.#position = this.#next - 1;
      this.setFact("version", String(VERSION));
      this.setFact("next", String(this.#next));
    });
  }

  /**
   * Migrates from the first schema. There, each segment held its ids and all of its envelopes, ids of settled messages
   * had segments of their own, messages were settled only from the front, and sizes were those of the bodies.
   */
  #migrate(): void {
    for (const table of ["segments", "ids", "bodies"]) {
      this.#sql.exec(`ALTER TABLE ${table} RENAME TO ${table}_1`).toArray();
    }
    this.#sql.exec(schema).toArray();
    this.#sql.exec("INSERT INTO bodies SELECT seq, n, body FROM bodies_1").toArray();
    for (let after = -1; ; ) {
      const [row] = this.#all<IdRow1>("SELECT * FROM ids_1 WHERE first > ? ORDER BY first LIMIT 1", after);
      if (row === undefined) break;
      after = row.first;
      this.#learn(JSON.parse(row.ids) as WrittenIds, row.at);
    }
    for (let after = -1; ; ) {
      const [row] = this.#all<SegmentRow1>("SELECT * FROM segments_1 WHERE first > ? ORDER BY first LIMIT 1", after);
      if (row === undefined) break;
      after = row.first;
      const envelopes = JSON.parse(row.envelopes) as Envelope[];
      this.#insert(batchOf({ envelopes, octets: octetsOf(row.body) }), after, row.at);
      this.#learn(JSON.parse(row.ids) as WrittenIds, row.at);
    }
    const position = Number(this.fact("position") ?? 0);
    this.#sql
      .exec(`
        DROP TABLE segments_1; DROP TABLE ids_1; DROP TABLE bodies_1;
        DELETE FROM facts WHERE name IN ('position', 'entered');`)
      .toArray();
    this.setFact("version", String(VERSION));
    this.#load();
    this.#removeAll([[this.#position + 1, position]]);
  }

  #learn(written: WrittenIds, at: number): void {
    const all = [...eachOf(written)];
    this.#ids.lookUp({ series: all.map(({ series }) => series), numbers: all.map(({ number }) => number) });
    for (const { series, number } of all) {
      if (!this.#ids.isKnown(series, number)) this.#ids.add(series, number, at);
    }
    this.#ids.flush(at);
  }

  /** Refills memory from the tables. */
  #load(): void {
    this.#cache.clear();
    this.#ids.forgetMemory();
    this.#parts.clear();
    this.#shares = undefined;
    this.#next = Number(this.fact("next") ?? 1);
    const [last] = this.#all<{ readonly next: number }>(
      "SELECT first + count AS next FROM segments ORDER BY first DESC LIMIT 1",
    );
    if (last !== undefined) this.#next = Math.max(this.#next, last.next);
    const [waiting = NOTHING] = this.#all<Amount>(
      "SELECT coalesce(sum(count), 0) AS messages, coalesce(sum(octets), 0) AS octets FROM segments",
    );
    const [apart] = this.#all<{ readonly count: number; readonly octets: number }>(
      "SELECT count(*) AS count, coalesce(sum(octets), 0) AS octets FROM envelopes",
    );
    this.#apart = apart?.count ?? 0;
    this.#messages = waiting.messages;
    this.#octets = waiting.octets + (apart?.octets ?? 0);
    for (const { first, messages, octets, ranges } of this.#all<DoneRow>("SELECT * FROM done")) {
      this.#messages -= messages;
      this.#octets -= octets;
      this.#parts.set(first, { ranges: new Ranges(JSON.parse(ranges) as Range[]), octets });
    }
    this.#position = 0;
    this.#advance();
    this.#learnUnwritten();
  }

  /** Learns the ids that were not written: they are in the last segments. */
  #learnUnwritten(): void {
    this.#unwritten = { segments: 0, octets: 0 };
    const lengths = "SELECT first, at, length(body) AS length FROM segments ORDER BY first DESC LIMIT ?";
    const last: Pick<SegmentRow, "first" | "at">[] = [];
    for (const row of this.#all<Pick<SegmentRow, "first" | "at"> & { readonly length: number }>(
      lengths,
      UNWRITTEN_SEGMENTS,
    )) {
      this.#unwritten.octets += row.length;
      if (this.#unwritten.octets > UNWRITTEN_OCTETS) break;
      this.#unwritten.segments += 1;
      last.push(row);
    }
    for (const { first, at } of last.reverse()) {
      const segment = this.#segmentAt(first);
      if (segment === undefined) continue;
      const { series, numbers } = idsOf(segment.bundle, segment);
      for (const [index, one] of series.entries()) {
        const number = numbers[index] ?? NONE;
        // An id without a number is always written with its message.
        if (one === undefined || number === NONE || this.#ids.isKnown(one, number)) continue;
        this.#ids.add(one, number, at);
      }
    }
  }

  /**
   * Appends messages in order.
   *
   * @returns the outcome of each message
   */
  append(bundle: MessageBatch, now: number, terms: Terms = {}): Outcome[] {
    const { shutOut = () => false, awaited = true, full = false, over = false, reserve = false } = terms;
    const batch = batchOf(bundle);
    if (full && !this.#made) return batch.sizes.map(() => "full");
    if (!this.#made) this.#make();
    const { envelopes, octets } = bundle;
    const { starts, sizes, shares } = batch;
    const inline = shares.reduce((sum, share) => sum + share, 0);
    const ids = idsOf(bundle, batch);
    const { series, numbers } = ids;
    return this.#safely(() => {
      this.#ids.lookUp(ids);
      const shut = envelopes.map(shutOut);
      const room = this.#roomFor({ messages: sizes.length, octets: octets.length + inline }, reserve);
      const counted = new Set<number>();
      const kept: number[] = [];
      const outcomes = sizes.map((size, index): Outcome => {
        const one = series[index];
        const id = numbers[index] ?? NONE;
        // A stored message is acknowledged even if its sender has lost the right to send meanwhile.
        if (one !== undefined && this.#ids.isKnown(one, id)) return "duplicate";
        const number = envelopeAt(octets, starts[index] ?? 0);
        if (shut[number] ?? true) return "locked";
        if (full) return "full";
        if (over) return "quota";
        const share = shares[number] ?? 0;
        if (size > this.#messageLimit || share > ENVELOPE_LIMIT) return "tooLong";
        // There is nearly always plenty of room, and nothing to count.
        if (room !== undefined) {
          const counts = lengthOf(octets, batch, index) + (counted.has(number) ? 0 : share);
          if (!room.take(envelopes[number]?.source ?? "", counts)) return "quota";
          counted.add(number);
        }
        kept.push(index);
        if (one !== undefined) this.#ids.add(one, id, now);
        return "stored";
      });
      if (kept.length === 0) return outcomes;
      const before = this.#next;
      const write = () => {
        const written = this.#write(batch, kept, now);
        if (!later) {
          this.#ids.flush(now);
          this.#unwritten = { segments: 0, octets: 0 };
        }
        return written;
      };
      this.#unwritten.segments += 1;
      this.#unwritten.octets += octets.length;
      const { segments, octets: unwritten } = this.#unwritten;
      const later = this.#ids.hasOnlyGrown && segments <= UNWRITTEN_SEGMENTS && unwritten <= UNWRITTEN_OCTETS;
      // Usually this is one segment row, if need be with one id row written last. A transaction would cost as much.
      const few = (later || this.#ids.pending <= 1) && octets.length <= BODY_ROW_OCTETS && inline <= LONG_ENVELOPE;
      const written = few ? this.#undoing(before, write) : this.#transaction(write);
      if (awaited) for (const segment of written) this.#cache.offer(segment);
      return outcomes;
    });
  }

  /**
   * Reads waiting messages with numbers above `after`, oldest first, up to `octets` bytes or `count` messages.
   * Consecutive messages of one segment share a slice. What is read is expected to be sent: long bodies are then no longer
   * kept in memory.
   */
  read(after: number, octets: number, count: number, options: ReadOptions = {}): Slice[] {
    const { excluded = NO_RANGES, atLeastOne = true } = options;
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
      // Up to the next settled or excluded message.
      const stop = Math.min(end, done.next(from) ?? end, excluded.next(from) ?? end);
      const begin = from;
      const counted: number[] = [];
      const counts: number[] = [];
      for (; from < stop && found < count; from += 1) {
        const index = from - first;
        const number = envelopeAt(bundle.octets, starts[index] ?? 0);
        const isFirst = !counted.includes(number);
        const size = lengthOf(bundle.octets, segment, index) + (isFirst ? (shares[number] ?? 0) : 0);
        if ((found > 0 || !atLeastOne) && taken + size > octets) break;
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

  /** Settles messages. Numbers without a waiting message are ignored. */
  remove(ranges: Iterable<Range>): void {
    this.#atomically(() => this.#removeAll(ranges));
  }

  #removeAll(ranges: Iterable<Range>): void {
    this.#writeGrownIds();
    for (const [from, to] of ranges) this.#forget(Math.max(from, this.#position + 1), Math.min(to, this.#next - 1));
    this.#advance();
  }

  /** Writes the ids of which waiting messages have been the record so far. */
  #writeGrownIds(): void {
    this.#ids.flushRanges();
    this.#unwritten = { segments: 0, octets: 0 };
  }

  /**
   * Finds messages that a sender may withdraw, in a limited number of segments: scanning all of them at once could
   * block other calls.
   *
   * @param from the number to start at
   * @returns their numbers; where to continue, undefined when all were scanned; and what was read for it
   */
  find(
    wanted: Wanted,
    from: number,
  ): { readonly found: readonly Range[]; readonly next: number | undefined; readonly read: Amount } {
    const rows = this.#all<Pick<SegmentRow, "first" | "count" | "senders">>(
      "SELECT first, count, senders FROM segments WHERE first + count > ? ORDER BY first LIMIT ?",
      from,
      FOUND_SEGMENTS,
    );
    const sender = senderOf(wanted.source);
    const begin = encoder.encode(wanted.idPrefix);
    const found = new Ranges();
    const read = { octets: 0, messages: rows.length };
    for (const row of rows) {
      if (!sendersIn(row).some(([name]) => name === sender)) continue;
      const [whole] = this.#all<WholeRow>(
        "SELECT first, count, octets, envelopes, body FROM segments WHERE first = ?",
        row.first,
      );
      if (whole === undefined) continue;
      const { first, bundle, starts, sizes } = this.#segmentIn(whole);
      read.octets += bundle.octets.length;
      read.messages += sizes.length;
      const isTheirs = bundle.envelopes.map((envelope) => isWanted(envelope, wanted));
      if (!isTheirs.includes(true)) continue;
      const done = this.#parts.get(first)?.ranges ?? NO_RANGES;
      for (const index of sizes.keys()) {
        const start = starts[index] ?? 0;
        const theirs = isTheirs[envelopeAt(bundle.octets, start)] === true && !done.has(first + index);
        if (theirs && idBegins(bundle.octets, start, begin)) found.add(first + index);
      }
    }
    const last = rows.at(-1);
    const isEnd = last === undefined || rows.length < FOUND_SEGMENTS;
    return { found: [...found], next: isEnd ? undefined : last.first + last.count, read };
  }

  /** Returns those of the given numbers, up to the last one used, that have no waiting message. */
  gone(ranges: Iterable<Range>): Range[] {
    const gone = new Ranges();
    for (const [from, to] of ranges) {
      const end = Math.min(to, this.#next - 1);
      for (let at = from; at <= end; ) {
        const extent = this.#extentAt(at);
        const first = extent?.first ?? end + 1;
        gone.add(at, Math.min(end, first - 1));
        if (extent === undefined || first > end) break;
        const last = Math.min(end, first + extent.count - 1);
        for (const [low, high] of this.#parts.get(first)?.ranges ?? NO_RANGES) {
          gone.add(Math.max(low, at), Math.min(high, last));
        }
        at = last + 1;
      }
    }
    return [...gone];
  }

  /**
   * Removes all waiting messages, and the ids that are unlikely to be sent again.
   *
   * @returns the number of messages removed
   */
  purge(now: number): number {
    const messages = this.#messages;
    this.#atomically(() => {
      this.#removeAll([[this.#position + 1, this.#next - 1]]);
      // A range goes on growing for a while after its first id.
      this.#ids.forgetBefore(now - PURGED_IDS_AGE - RANGE_TIME);
    });
    return messages;
  }

  /**
   * Removes messages past their retention, and ids too old to be sent again.
   *
   * @returns the number of messages removed
   */
  expire(now: number): number {
    const before = this.#messages;
    // Segments are in order of arrival.
    const [young] = this.#all<Pick<SegmentRow, "first">>(
      "SELECT first FROM segments WHERE at >= ? ORDER BY first LIMIT 1",
      now - RETENTION,
    );
    const last = (young?.first ?? this.#next) - 1;
    if (last > this.#position) this.remove([[this.#position + 1, last]]);
    this.#atomically(() => {
      this.#writeGrownIds();
      this.#ids.forgetBefore(now - REMEMBER_IDS - RANGE_TIME);
    });
    return before - this.#messages;
  }

  /** When `expire` next has work to do; undefined if nothing waits and no id is remembered. */
  expiry(): number | undefined {
    const oldest = this.#oldest;
    const times = oldest === undefined ? [] : [oldest + RETENTION + 1];
    const ids = this.#ids.expiry;
    if (ids !== undefined) times.push(ids);
    return times.length === 0 ? undefined : Math.min(...times);
  }

  /** Whether nothing waits and no id is remembered. */
  get empty(): boolean {
    return this.#messages === 0 && this.#ids.expiry === undefined;
  }

  /** Resets memory after all tables were deleted. */
  deleted(): void {
    this.#made = false;
    this.#load();
  }

  /** Number of waiting messages. */
  get messages(): number {
    return this.#messages;
  }

  /** Bytes of the waiting messages. */
  get octets(): number {
    return this.#octets;
  }

  /** Bytes that wait of a sender, exactly or a little more. */
  octetsOf(sender: string): number {
    return this.#ownOf(sender).octets;
  }

  /** Bytes that wait of each sender, exactly or a little more. */
  octetsBySender(): ReadonlyMap<string, number> {
    return new Map(Array.from(this.#loadShares(), ([sender, { octets }]) => [sender, Math.min(octets, this.#octets)]));
  }

  /** Whether a sender has used up its share. Nearly free while less waits than one sender may have. */
  isAtMark(sender: string): boolean {
    if (isPlenty(this.#waiting, this.#quota)) return false;
    return isAtMark(this.#ownOf(sender), this.#waiting, this.#quota);
  }

  /** Whether a suspended sender may continue. */
  mayGoOn(sender: string): boolean {
    return isEasy(this.#waiting, this.#quota) || mayGoOn(this.#ownOf(sender), this.#waiting, this.#quota);
  }

  /** What a sender may add before it has used up its share. */
  roomFor(sender: string): Amount {
    return roomFor(this.#ownOf(sender), this.#waiting, this.#quota);
  }

  waiting(): Waiting {
    return { messages: this.#messages, octets: this.#octets, oldest: this.#oldest };
  }

  /** Whether a message has waited since this time, or longer. */
  waitsSince(time: number): boolean {
    return (this.#oldest ?? Number.POSITIVE_INFINITY) <= time;
  }

  /** When the oldest waiting message arrived. */
  get #oldest(): number | undefined {
    return this.#all<Pick<SegmentRow, "at">>("SELECT at FROM segments ORDER BY first LIMIT 1")[0]?.at;
  }

  /** The number before the first waiting message: all messages up to it are settled. */
  get position(): number {
    return this.#position;
  }

  /** The number of the last message that has arrived. */
  get last(): number {
    return this.#next - 1;
  }

  /** Returns the facts whose names begin with `prefix`, with the prefix removed. */
  facts(prefix: string): [name: string, value: string][] {
    // The prefix ends with a blank, and "!" is the next character.
    const after = `${prefix.slice(0, -1)}!`;
    const query = "SELECT name, value FROM facts WHERE name > ? AND name < ? ORDER BY name";
    return this.#all<FactRow>(query, prefix, after).map(({ name, value }) => [name.slice(prefix.length), value]);
  }

  removeFact(name: string): void {
    this.#run("DELETE FROM facts WHERE name = ?", name);
  }

  fact(name: string): string | undefined {
    return this.#all<Pick<FactRow, "value">>("SELECT value FROM facts WHERE name = ?", name)[0]?.value;
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

  /** Reloads memory if the writes fail. An id that is only in memory would drop its message as a duplicate. */
  #safely<T>(run: () => T): T {
    try {
      return run();
    } catch (error) {
      this.#load();
      throw error;
    }
  }

  /** Decides which messages of a batch have room; undefined if all have. */
  #roomFor(batch: Amount, reserve: boolean): Room | undefined {
    const after = { messages: this.#messages + batch.messages, octets: this.#octets + batch.octets };
    if (isPlenty(after, this.#quota)) return undefined;
    return new Room(this.#quota, this.#waiting, this.#ownOf.bind(this), reserve);
  }

  get #waiting(): Amount {
    return { messages: this.#messages, octets: this.#octets };
  }

  /** What waits of a sender; at most what waits, since some of it may be settled (see `#shareSegment`). */
  #ownOf(sender: string): Amount {
    const own = this.#loadShares().get(sender) ?? NOTHING;
    return { messages: Math.min(own.messages, this.#messages), octets: Math.min(own.octets, this.#octets) };
  }

  /** Runs a function that writes segments and one other row. If it fails, the segments are deleted. */
  #undoing<T>(before: number, run: () => T): T {
    try {
      return run();
    } catch (error) {
      try {
        this.#run("DELETE FROM segments WHERE first >= ?", before);
      } catch {
        // On a full disk SQLite has already rolled everything back.
      }
      throw error;
    }
  }

  /** Writes some messages of a bundle; the bundle as it is if none is left out and no body is stored elsewhere. */
  #write(batch: Batch, kept: readonly number[], now: number): Segment[] {
    const { bundle, starts, sizes } = batch;
    const { envelopes, octets } = bundle;
    const written: Segment[] = [];
    let pieces: Uint8Array[] = [];
    let held = 0;
    let length = 0;
    // Adjacent messages are one piece.
    let runStart = 0;
    let runEnd = 0;
    const endRun = () => {
      if (runEnd > runStart) pieces.push(octets.subarray(runStart, runEnd));
      runStart = runEnd;
    };
    const flush = () => {
      endRun();
      const [first] = pieces;
      if (first !== undefined) {
        const part = pieces.length === 1 ? first : joinOctets(pieces, length);
        const whole = length === octets.length ? batch : partOf(batch, { envelopes, octets: part });
        const segment = this.#insert(whole, this.#next, now);
        this.#next += segment.sizes.length;
        this.#messages += segment.sizes.length;
        written.push(segment);
      }
      pieces = [];
      held = 0;
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
        this.#writeBody(this.#next + held, octets.subarray(end - size, end));
        pieces.push(withoutBody(octets.subarray(start, end), size));
      } else {
        if (runEnd !== start) {
          endRun();
          runStart = start;
        }
        runEnd = end;
      }
      held += 1;
      length += octetsHere;
    }
    flush();
    const [only] = written;
    const isAll = kept.length === sizes.length && only?.sizes.length === kept.length;
    // Its long bodies need not be read back.
    if (isAll && only.bundle.octets !== octets && only.bundle.envelopes.length === envelopes.length) {
      return [{ ...only, unsent: octets }];
    }
    return written;
  }

  /** Writes a segment, and counts its bytes. */
  #insert(batch: Batch, first: number, at: number): Segment {
    const { bundle, starts, sizes, texts, shares } = batch;
    const { envelopes } = bundle;
    const inline = shares.reduce((sum, share) => sum + share, 0);
    const apart = shares.map((share) => inline > SEGMENT_ENVELOPES || share > LONG_ENVELOPE);
    let octets = octetsIn(batch);
    const column = texts.map((text, number) => {
      const share = shares[number] ?? 0;
      if (apart[number] === true) return this.#keepEnvelope(text, share, envelopes[number]?.source ?? "");
      octets += share;
      return text;
    });
    const senders = sendersOf(batch, apart);
    this.#run(
      "INSERT INTO segments (first, count, octets, at, apart, senders, envelopes, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
      first,
      sizes.length,
      octets,
      at,
      apart.filter((one) => one).length,
      JSON.stringify(senders),
      `[${column.join()}]`,
      bundle.octets,
    );
    this.#octets += octets;
    for (const [sender, count, taken] of senders) this.#share(sender, count, taken);
    return { first, bundle, starts, sizes, shares, octets };
  }

  /** Stores an envelope once for all segments that use it. Returns its number. */
  #keepEnvelope(text: string, octets: number, source: string): number {
    const hash = sha256(encoder.encode(text)).reduce((hex, octet) => hex + octet.toString(16).padStart(2, "0"), "");
    const known = this.#envelopeNumber(hash);
    if (known !== undefined) {
      this.#run("UPDATE envelopes SET segments = segments + 1 WHERE number = ?", known);
      return known;
    }
    const sender = senderOf(source);
    this.#run(
      "INSERT INTO envelopes (hash, segments, octets, sender, text) VALUES (?, 1, ?, ?, ?)",
      hash,
      octets,
      sender,
      text,
    );
    this.#apart += 1;
    this.#octets += octets;
    this.#share(sender, 0, octets);
    const number = this.#envelopeNumber(hash);
    if (number === undefined) throw new TypeError("an envelope of the mailbox was not stored");
    return number;
  }

  #envelopeNumber(hash: string): number | undefined {
    return this.#all<Pick<EnvelopeRow, "number">>("SELECT number FROM envelopes WHERE hash = ?", hash)[0]?.number;
  }

  /** Releases the envelopes of a deleted segment. */
  #releaseEnvelopes(row: Pick<SegmentRow, "envelopes">): void {
    for (const number of envelopesIn(row)) {
      if (typeof number !== "number") continue;
      this.#run("UPDATE envelopes SET segments = segments - 1 WHERE number = ?", number);
      const [unused] = this.#all<Pick<EnvelopeRow, "octets" | "sender">>(
        "SELECT octets, sender FROM envelopes WHERE number = ? AND segments = 0",
        number,
      );
      if (unused === undefined) continue;
      this.#run("DELETE FROM envelopes WHERE number = ?", number);
      this.#apart -= 1;
      this.#octets -= unused.octets;
      this.#share(unused.sender, 0, -unused.octets);
    }
  }

  /** Adds to what waits of a sender, if that is loaded. */
  #share(sender: string, messages: number, octets: number): void {
    if (this.#shares === undefined) return;
    const share = this.#shares.get(sender) ?? { messages: 0, octets: 0 };
    share.messages += messages;
    share.octets += octets;
    if (share.messages === 0 && share.octets === 0) this.#shares.delete(sender);
    else this.#shares.set(sender, share);
  }

  /**
   * Adds a segment's waiting messages to those of its senders, or subtracts them. If it has several senders, it is not
   * known whose messages are settled, so all count until the segment is deleted. What comes by one connection has one
   * sender.
   */
  #shareSegment(row: Pick<SegmentRow, "senders">, done: Part | undefined, sign: 1 | -1): void {
    const senders = sendersIn(row);
    const part = senders.length === 1 ? done : undefined;
    for (const [sender, count, octets] of senders) {
      this.#share(sender, sign * (count - (part?.ranges.count ?? 0)), sign * (octets - (part?.octets ?? 0)));
    }
  }

  #loadShares(): ReadonlyMap<string, Share> {
    if (this.#shares !== undefined) return this.#shares;
    const shares = new Map<string, Share>();
    this.#shares = shares;
    for (const row of this.#all<Pick<SegmentRow, "first" | "senders">>("SELECT first, senders FROM segments")) {
      this.#shareSegment(row, this.#parts.get(row.first), 1);
    }
    const apart = this.#all<Pick<EnvelopeRow, "sender" | "octets">>("SELECT sender, octets FROM envelopes");
    for (const { sender, octets } of apart) this.#share(sender, 0, octets);
    return shares;
  }

  #writeBody(seq: number, body: Uint8Array): void {
    for (let n = 0, at = 0; at < body.length; n += 1, at += BODY_ROW_OCTETS) {
      const part = body.subarray(at, at + BODY_ROW_OCTETS);
      this.#run("INSERT INTO bodies (seq, n, body) VALUES (?, ?, ?)", seq, n, part);
    }
  }

  /**
   * Returns messages of a segment with their bodies, wherever stored, in a buffer of nothing else.
   *
   * @param used numbers of the envelopes that they use
   */
  #slice(segment: Segment, begin: number, end: number, used: readonly number[], counts: readonly number[]): Slice {
    const { first, bundle, unsent } = segment;
    const { envelopes } = bundle;
    const whole = unsent === undefined ? this.#gathered(segment, begin, end) : cut(unsent, begin, end);
    if (end === segment.sizes.length) this.#cache.sent(first);
    const isWhole = used.length === envelopes.length;
    const sent = isWhole ? { envelopes, octets: whole } : renumbered({ envelopes, octets: whole.slice() }, used);
    return { first: first + begin, bundle: sent, sizes: counts };
  }

  /** Reads the bodies of a segment's messages that are stored elsewhere. */
  #gathered({ first, bundle, starts }: Segment, begin: number, end: number): Uint8Array {
    const { octets } = bundle;
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
      add(followedByBody(octets.subarray(start, after)));
      for (const part of this.#bodyOf(first + index)) add(part);
      from = after;
    }
    add(octets.subarray(from, starts[end] ?? from));
    const [only] = pieces;
    return pieces.length === 1 && only !== undefined ? owned(only) : joinOctets(pieces, length);
  }

  /** Settles messages: updates the counts, and deletes segments that are settled whole. */
  #forget(from: number, to: number): void {
    // Consecutive segments to delete, by the numbers of their messages, and what of them was settled before.
    let begin: number | undefined;
    let end = from;
    const before = new Map<number, Part>();
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
          before.set(first, part);
          this.#parts.delete(first);
          this.#run("DELETE FROM done WHERE first = ?", first);
        }
        this.#cache.drop(first);
        begin ??= first;
        end = last;
      } else if (ranges.count > (part?.ranges.count ?? 0)) {
        this.#keepPart(first, ranges, part);
      }
    }
    if (begin === undefined) return;
    this.#release(begin, end, before);
    this.#run("DELETE FROM segments WHERE first BETWEEN ? AND ?", begin, end);
    this.#run("DELETE FROM bodies WHERE seq BETWEEN ? AND ?", begin, end);
    // Numbers must never be reused, and after the last segment nothing else records them.
    if (end === this.#next - 1) this.setFact("next", String(this.#next));
    if (isEasy(this.#waiting, this.#quota)) this.#shares = undefined;
  }

  /**
   * Subtracts segments from what is kept across segments. They are read only if there is such a thing.
   *
   * @param before the messages of them that were settled before
   */
  #release(begin: number, end: number, before: ReadonlyMap<number, Part>): void {
    if (this.#shares !== undefined) {
      const query = "SELECT first, senders FROM segments WHERE first BETWEEN ? AND ?";
      const rows = this.#all<Pick<SegmentRow, "first" | "senders">>(query, begin, end);
      for (const row of rows) this.#shareSegment(row, before.get(row.first), -1);
    }
    if (this.#apart === 0) return;
    const query = "SELECT envelopes FROM segments WHERE first BETWEEN ? AND ? AND apart > 0";
    const rows = this.#all<Pick<SegmentRow, "envelopes">>(query, begin, end);
    for (const row of rows) this.#releaseEnvelopes(row);
  }

  /** Stores which messages of a segment are settled. */
  #keepPart(first: number, ranges: Ranges, before: Part | undefined): void {
    const segment = this.#segmentAt(first);
    if (segment === undefined) return;
    const { bundle, starts } = segment;
    let octets = 0;
    let inRow = 0;
    for (const [from, to] of ranges) {
      for (let number = from; number <= to; number += 1) {
        const start = starts[number - first] ?? 0;
        octets += lengthOf(bundle.octets, segment, number - first);
        inRow += (starts[number - first + 1] ?? start) - start;
        if (before?.ranges.has(number) === true || !isElsewhere(bundle.octets, start)) continue;
        this.#run("DELETE FROM bodies WHERE seq = ?", number);
      }
    }
    const doneNow = { messages: ranges.count - (before?.ranges.count ?? 0), octets: octets - (before?.octets ?? 0) };
    this.#messages -= doneNow.messages;
    this.#octets -= doneNow.octets;
    const sender = onlySenderOf(bundle.envelopes);
    if (sender !== undefined) this.#share(sender, -doneNow.messages, -doneNow.octets);
    if (inRow >= LEAST_COMPACTION && inRow * 2 > bundle.octets.length) octets = this.#compact(segment, ranges, octets);
    this.#run(
      "INSERT INTO done (first, messages, octets, ranges) VALUES (?, ?, ?, ?) ON CONFLICT (first) DO UPDATE SET messages = excluded.messages, octets = excluded.octets, ranges = excluded.ranges",
      first,
      ranges.count,
      octets,
      JSON.stringify([...ranges]),
    );
    this.#parts.set(first, { ranges, octets });
  }

  /**
   * Rewrites a segment with settled messages reduced to empty ones, so that one message that waits long does not hold
   * the space of all that came with it.
   *
   * @returns bytes of the empty messages, which are subtracted from those of the segment
   */
  #compact({ first, bundle, starts, sizes, octets: before }: Segment, ranges: Ranges, done: number): number {
    const live = sizes.findIndex((_, index) => !ranges.has(first + index));
    const place = emptyMessage(envelopeAt(bundle.octets, starts[live] ?? 0));
    const pieces = sizes.map((_, index) =>
      ranges.has(first + index) ? place : bundle.octets.subarray(starts[index], starts[index + 1]),
    );
    const octets = joinOctets(
      pieces,
      pieces.reduce((sum, piece) => sum + piece.length, 0),
    );
    const left = partOf(batchOf(bundle), { envelopes: bundle.envelopes, octets });
    const [row] = this.#all<Pick<SegmentRow, "at">>("SELECT at FROM segments WHERE first = ?", first);
    if (row === undefined) throw new TypeError("a segment of the mailbox is cached and not stored");
    // As counted so far.
    this.#release(first, first, new Map([[first, { ranges, octets: done }]]));
    this.#run("DELETE FROM segments WHERE first = ?", first);
    this.#cache.drop(first);
    this.#octets -= before - done;
    const segment = this.#insert(left, first, row.at);
    this.#cache.keep(segment);
    const places = ranges.count * place.length;
    this.#octets -= places;
    const sender = onlySenderOf(left.bundle.envelopes);
    if (sender !== undefined) this.#share(sender, -ranges.count, -places);
    return places;
  }

  /** Moves the position up to the first waiting message. */
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

  /** The extent of the segment that contains a number, or else of the next one. */
  #extentAt(seq: number): Extent | undefined {
    if (seq >= this.#next) return undefined;
    const kept = this.#cache.find(seq);
    if (kept !== undefined) return { first: kept.first, count: kept.sizes.length, octets: kept.octets };
    return this.#rowAt<Extent>("first, count, octets", seq);
  }

  /** The segment that contains a number, or else the next one. */
  #segmentAt(seq: number): Segment | undefined {
    const kept = this.#cache.find(seq);
    if (kept !== undefined) return kept;
    const found = this.#rowAt<WholeRow>("first, count, octets, envelopes, body", seq);
    if (found === undefined) return undefined;
    const segment = this.#segmentIn(found);
    this.#cache.keep(segment);
    return segment;
  }

  /** Decodes the segment in a row. */
  #segmentIn(row: WholeRow): Segment {
    const envelopes = envelopesIn(row).map((envelope) => {
      if (typeof envelope !== "number") return envelope;
      const [kept] = this.#all<Pick<EnvelopeRow, "text">>("SELECT text FROM envelopes WHERE number = ?", envelope);
      if (kept === undefined) throw new TypeError("a segment of the mailbox names an envelope that is not stored");
      return JSON.parse(kept.text) as Envelope;
    });
    const { texts: _, ...rest } = batchOf({ envelopes, octets: octetsOf(row.body) });
    return { first: row.first, octets: row.octets, ...rest };
  }

  /** Columns of the segment that contains a number, or else of the next one. */
  #rowAt<Row extends Extent>(columns: string, seq: number): Row | undefined {
    const [row] = this.#all<Row>(`SELECT ${columns} FROM segments WHERE first <= ? ORDER BY first DESC LIMIT 1`, seq);
    if (row !== undefined && seq < row.first + row.count) return row;
    return this.#all<Row>(`SELECT ${columns} FROM segments WHERE first > ? ORDER BY first LIMIT 1`, seq)[0];
  }

  /** The body of a message that is stored in rows of its own, in parts. */
  #bodyOf(seq: number): Uint8Array[] {
    const rows = this.#all<Pick<BodyRow, "body">>("SELECT body FROM bodies WHERE seq = ? ORDER BY n", seq);
    return rows.map(({ body }) => octetsOf(body));
  }

  /** Reads rows; `Row` has the columns that the query names. */
  #all<Row extends object>(query: string, ...bindings: (string | number)[]): Row[] {
    return this.#made ? rowsOf<Row>(this.#sql, query, bindings) : [];
  }

  #run(query: string, ...bindings: (string | number | Uint8Array)[]): number {
    if (!this.#made) this.#make();
    const cursor = this.#sql.exec(query, ...bindings);
    cursor.toArray();
    this.rowsWritten += cursor.rowsWritten;
    return cursor.rowsWritten;
  }
}

/** What makes a segment. */
type WholeRow = Pick<SegmentRow, "first" | "count" | "octets" | "envelopes" | "body">;

/** Rows get their types here and nowhere else: the schema gives them to the columns. */
function rowsOf<Row extends object>(sql: Sql, query: string, bindings: readonly (string | number)[]): Row[] {
  return sql.exec(query, ...bindings).toArray() as object[] as Row[];
}

function octetsOf(blob: Blob): Uint8Array {
  return blob instanceof Uint8Array ? blob : new Uint8Array(blob);
}

function sendersIn({ senders }: Pick<SegmentRow, "senders">): SenderCount[] {
  return JSON.parse(senders) as SenderCount[];
}

function envelopesIn({ envelopes }: Pick<SegmentRow, "envelopes">): KeptEnvelope[] {
  return JSON.parse(envelopes) as KeptEnvelope[];
}

/** Decides for the messages of a batch, in order, whether there is room for them. */
class Room {
  readonly #quota: Quota;
  readonly #ownOf: (sender: string) => Amount;
  readonly #reserve: boolean;
  readonly #all: Share;
  /** What each sender has, with its messages admitted so far. */
  readonly #own = new Map<string, Share>();
  readonly #full = new Set<string>();

  /**
   * @param all what waits
   * @param ownOf what waits of a sender
   * @param reserve whether a sender may use the reserve beyond its share
   */
  constructor(quota: Quota, all: Amount, ownOf: (sender: string) => Amount, reserve: boolean) {
    this.#quota = quota;
    this.#all = { ...all };
    this.#ownOf = ownOf;
    this.#reserve = reserve;
  }

  take(source: string, octets: number): boolean {
    // After a refusal, later messages of the source are refused too: they must not overtake it.
    if (this.#full.has(source)) return false;
    const sender = senderOf(source);
    const own = this.#own.get(sender) ?? this.#ownOf(sender);
    const ownAfter = added(own, octets);
    const allAfter = added(this.#all, octets);
    if (!hasRoom(ownAfter, allAfter, this.#quota, this.#reserve)) {
      this.#full.add(source);
      return false;
    }
    Object.assign(this.#all, allAfter);
    this.#own.set(sender, ownAfter);
    return true;
  }
}

function added(amount: Amount, octets: number): Amount {
  return { messages: amount.messages + 1, octets: amount.octets + octets };
}

type SenderCount = readonly [sender: string, messages: number, octets: number];

/** Whether an envelope's messages are those that a sender withdraws. */
function isWanted({ source, entries }: Envelope, { source: wanted, to }: Wanted): boolean {
  if (source !== wanted) return false;
  if (to === undefined) return true;
  const [only, ...others] = entries ?? [];
  return others.length === 0 && only?.identityURL === to.identityURL && only.deviceURL === to.deviceURL;
}

function idBegins(octets: Uint8Array, start: number, begin: Uint8Array): boolean {
  if (idLengthAt(octets, start) < begin.length) return false;
  return begin.every((octet, at) => octets[start + ID_AT + at] === octet);
}

/** The sender of all envelopes; undefined if there are several. */
function onlySenderOf(envelopes: readonly Envelope[]): string | undefined {
  const [first, ...others] = envelopes;
  if (first === undefined) return undefined;
  const sender = senderOf(first.source);
  return others.every(({ source }) => senderOf(source) === sender) ? sender : undefined;
}

/** What a segment has of each sender: its messages, and the envelopes stored in its row. */
function sendersOf(batch: Batch, apart: readonly boolean[]): SenderCount[] {
  const { bundle, starts, sizes, shares } = batch;
  const names = bundle.envelopes.map(({ source }) => senderOf(source));
  const [only] = names;
  if (only !== undefined && names.every((name) => name === only)) {
    const envelopes = shares.reduce((sum, share, number) => sum + (apart[number] === true ? 0 : share), 0);
    return [[only, sizes.length, octetsIn(batch) + envelopes]];
  }
  const sums = new Map<string, { messages: number; octets: number }>();
  const sumOf = (name: string) => {
    const sum = sums.get(name) ?? { messages: 0, octets: 0 };
    sums.set(name, sum);
    return sum;
  };
  for (const [number, name] of names.entries()) if (apart[number] !== true) sumOf(name).octets += shares[number] ?? 0;
  for (const index of sizes.keys()) {
    const sum = sumOf(names[envelopeAt(bundle.octets, starts[index] ?? 0)] ?? "");
    sum.messages += 1;
    sum.octets += lengthOf(bundle.octets, batch, index);
  }
  return [...sums].map(([name, { messages, octets }]) => [name, messages, octets]);
}

/** Bytes of the messages of a batch, with their bodies, wherever stored. */
function octetsIn({ bundle, starts, sizes }: Omit<Batch, "texts" | "shares">): number {
  let { length } = bundle.octets;
  for (let at = 0; at < sizes.length; at += 1) {
    if (isElsewhere(bundle.octets, starts[at] ?? 0)) length += sizes[at] ?? 0;
  }
  return length;
}

function batchOf(bundle: MessageBatch): Batch {
  const texts = bundle.envelopes.map((envelope) => JSON.stringify(envelope));
  return { bundle, ...contentsOf(bundle.octets), texts, shares: texts.map(utf8Length) };
}

/** Extracts some messages of a batch, with only the envelopes that they use. */
function partOf({ texts, shares }: Batch, { envelopes, octets }: MessageBatch): Batch {
  const contents = contentsOf(octets);
  const used = [...new Set(contents.sizes.map((_, index) => envelopeAt(octets, contents.starts[index] ?? 0)))];
  if (used.length === envelopes.length) return { bundle: { envelopes, octets }, ...contents, texts, shares };
  return {
    bundle: renumbered({ envelopes, octets: octets.slice() }, used),
    ...contents,
    texts: used.map((number) => texts[number] ?? ""),
    shares: used.map((number) => shares[number] ?? 0),
  };
}

/** Some messages of a batch, in a buffer of nothing else. */
function cut(octets: Uint8Array, begin: number, end: number): Uint8Array {
  const { starts } = contentsOf(octets);
  return owned(octets.subarray(starts[begin], starts[end]));
}

/** The same bytes in a buffer of nothing else. It may be a cached one: calls copy what they send. */
function owned(octets: Uint8Array): Uint8Array {
  return octets.length === octets.buffer.byteLength ? octets : octets.slice();
}

const encoder = new TextEncoder();

/** Bytes of a text as stored. */
function utf8Length(text: string): number {
  return encoder.encode(text).length;
}
