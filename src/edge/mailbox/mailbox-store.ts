/**
 * A mailbox's store: the log of what waits for one peer, in the object's SQLite. Together with `id-store.ts`,
 * `kept-store.ts` and `producer-store.ts`, which are parts of it, this is the only file of the folder with SQL.
 *
 *   segments   one bundle of messages per row, keyed by the sequence number of its first message
 *   done       settled messages of a segment of which others still wait, under the same key
 *   bodies     the body of a message too long for a segment, in rows of its own, keyed by its sequence number
 *   envelopes  long envelopes, stored once for all segments that use them
 *   ids        ids of messages that have arrived, waiting or not, to detect duplicates
 *   facts      what else must survive: version, next sequence number, generation, rule, counters
 *
 * Messages are settled in any order. A segment is deleted when all of its messages are settled, or kept for readers over
 * HTTP. Until then its row stays, and is compacted when most of it is settled.
 *
 * Sizes are what is stored and sent: a message counts with its header, id and body, an envelope once where it is
 * stored.
 *
 * A store that was never written to has no tables, so looking at it leaves nothing behind.
 *
 * A long message may be held in memory instead (held-messages.ts), until it is settled or `spill` writes it. It waits like
 * all others, but it is not durable: its sender must not have an answer.
 *
 * Every call is one synchronous turn. Its writes are one transaction, and the platform's output gate holds every answer
 * back until they are durable. Memory is a cache of the tables, refilled when the object wakes.
 *
 * @module
 */

import { type Range, Ranges } from "../../lib/ranges.ts";
import { sha256 } from "../../lib/sha256.ts";
import { isRelay, joinOctets } from "../../sstp/index.ts";
import type { Envelope, Mail } from "../../store-and-forward/envelope.ts";
import {
  type Amount,
  type Held,
  hasRoom,
  isAtMark,
  isEasy,
  isPlenty,
  longestIn,
  mayGoOn,
  QUOTA,
  type Quota,
  relayOfSender,
  roomFor,
  senderOf,
  senderOfMessage,
} from "../../store-and-forward/sender-share.ts";
import { storedVersion } from "../../store-and-forward/stored-version.ts";
import type { Losses } from "../durable-streams/mailbox-offset.ts";
import { KEEP_SECONDS } from "../policy/keep-time.ts";
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
  unpack,
  withoutBody,
} from "../rpc/message-batch.ts";
import { HeldMessages } from "./held-messages.ts";
import { ID_SCHEMA, IdTable } from "./id-store.ts";
import { type KeepOptions, KeptLog, Taken } from "./kept-store.ts";
import {
  BODY_ROW_OCTETS,
  ENVELOPE_LIMIT,
  FOUND_SEGMENTS,
  LONG_BODY_OCTETS,
  LONG_ENVELOPE,
  LOST_RANGES,
  PURGED_IDS_AGE,
  RANGE_TIME,
  REMEMBER_IDS,
  RESERVED_NUMBERS,
  RETENTION,
  SEGMENT_ENVELOPES,
  SEGMENT_OCTETS,
  UNWRITTEN_OCTETS,
  UNWRITTEN_SEGMENTS,
} from "./limits.ts";
import { ProducerTable } from "./producer-store.ts";
import { eachOf, type Ids, idsOf, NONE, type WrittenIds } from "./seen-ids.ts";
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
  /** When they arrived, in milliseconds since 1970. */
  readonly at: number;
  readonly bundle: MessageBatch;
  /** Whether the store does not need the bundle's bytes any more. */
  readonly given: boolean;
  /** What each message adds to the call that carries the slice, in bytes. An envelope counts with its first message. */
  readonly sizes: readonly number[];
}

/** Messages to be written, with their envelopes as stored. */
interface Batch extends Omit<Segment, "first" | "at" | "octets"> {
  readonly texts: readonly string[];
}

/** The settled messages of a segment of which others wait. */
interface Part {
  readonly ranges: Ranges;
  readonly octets: number;
  /** When the last of them was settled, in milliseconds since 1970. */
  readonly since: number;
  /** Those that readers must not see any more. */
  readonly hidden: Ranges;
}

/** How messages are settled: those that their recipient has are kept for readers over HTTP, others are not. */
interface Settling {
  readonly keep: boolean;
  readonly now: number;
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
  /** Whether a long message may be held: its sender waits until `isHeld` says no. Default false. */
  readonly hold?: boolean;
  /** Further writes of the same transaction, if some message is stored and none refused. */
  readonly beside?: (() => void) | undefined;
}

export interface ReadOptions {
  /** Messages to leave out. */
  readonly excluded?: Ranges | undefined;
  /** Whether to return a first message that is longer than all that may be read. Default true. */
  readonly atLeastOne?: boolean;
}

/** The schema version that this release writes. */
const VERSION = 4;

const FACTS = "CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;";

/**
 * The tables of messages. A mailbox that has never had one has none of them: most mailboxes are made by a device that
 * connects, and these would be three quarters of their time and room.
 *
 * Bodies are in a table with a row number and an index of their own. In one WITHOUT ROWID, SQLite reads whole rows, of
 * half a megabyte each, to compare their keys.
 */
const LOG = `
  CREATE TABLE segments (
    first INTEGER PRIMARY KEY, count INTEGER NOT NULL, octets INTEGER NOT NULL, at INTEGER NOT NULL,
    apart INTEGER NOT NULL, senders TEXT NOT NULL, envelopes TEXT NOT NULL, body BLOB NOT NULL);
  CREATE TABLE done (
    first INTEGER PRIMARY KEY, messages INTEGER NOT NULL, octets INTEGER NOT NULL, ranges TEXT NOT NULL,
    since INTEGER NOT NULL DEFAULT 0, hidden TEXT NOT NULL DEFAULT '');
  CREATE TABLE bodies (seq INTEGER NOT NULL, n INTEGER NOT NULL, body BLOB NOT NULL);
  CREATE INDEX bodies_of_message ON bodies (seq, n);
  CREATE TABLE envelopes (
    number INTEGER PRIMARY KEY, hash TEXT NOT NULL UNIQUE, segments INTEGER NOT NULL, octets INTEGER NOT NULL,
    sender TEXT NOT NULL, text TEXT NOT NULL, kept INTEGER NOT NULL DEFAULT 0);
  ${ID_SCHEMA}
`;

/** What the second schema has not. */
const SINCE_2 = `
  ALTER TABLE done ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE done ADD COLUMN hidden TEXT NOT NULL DEFAULT '';
  ALTER TABLE envelopes ADD COLUMN kept INTEGER NOT NULL DEFAULT 0;
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
  readonly since: number;
  /** JSON of {@link Range}s; empty for none. */
  readonly hidden: string;
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
  /** How many segments with waiting messages use it, and how many that are only kept. */
  readonly segments: number;
  readonly kept: number;
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

/** For messages that did not reach their recipient. */
const DROPPED: Settling = { keep: false, now: 0 };

const NOTHING: Amount = { messages: 0, octets: 0 };

export interface StoreOptions {
  readonly quota?: Quota;
  /** Bytes of ids to remember. */
  readonly idOctets?: number;
  /** The first message's number in a new store: above all numbers used before. */
  readonly firstNumber?: () => number;
  /** What is kept for readers over HTTP. Default: for KEEP_SECONDS. */
  readonly keep?: KeepOptions;
}

export class MailboxStore {
  readonly #sql: Sql;
  readonly #transaction: <T>(run: () => T) => T;
  readonly #quota: Quota;
  readonly #messageLimit: number;
  readonly #firstNumber: () => number;
  /** Whether the table of facts exists, and whether those of messages do. */
  #made = false;
  #hasLog = false;
  /** Whether a transaction is open. */
  #isWriting = false;
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
  readonly #kept: KeptLog;
  readonly producers: ProducerTable;
  /** What was appended since the ids were written. */
  #unwritten = { segments: 0, octets: 0 };
  readonly #cache = new SegmentCache();
  /** The last messages of the log, which are not written. */
  readonly #held = new HeldMessages();
  /** No number below this one is used again, whatever happens. */
  #reserved = 1;
  /** Names what this instance holds: once it is lost, another name is used. */
  #run: string | undefined;
  /** Rows written since the object woke, as the platform bills them. */
  rowsWritten = 0;

  /**
   * @param transaction runs a function whose writes happen all or not at all
   * @throws NewerSchemaError
   */
  constructor(sql: Sql, transaction: <T>(run: () => T) => T, options: StoreOptions = {}) {
    this.#sql = sql;
    this.#transaction = (run) => {
      // Tables may be made within.
      if (this.#isWriting) return run();
      this.#isWriting = true;
      try {
        return transaction(run);
      } catch (error) {
        this.#findTables();
        throw error;
      } finally {
        this.#isWriting = false;
      }
    };
    this.#quota = options.quota ?? QUOTA;
    this.#messageLimit = Math.min(MESSAGE_LIMIT, longestIn(this.#quota));
    this.#firstNumber = options.firstNumber ?? (() => 1);
    const statements = {
      all: <Row extends object>(query: string, ...bindings: (string | number)[]) => this.#all<Row>(query, ...bindings),
      add: (query: string, ...bindings: (string | number | Uint8Array)[]) => this.#add(query, ...bindings),
      change: (query: string, ...bindings: (string | number | Uint8Array)[]) => this.#change(query, ...bindings),
    };
    this.#ids = new IdTable(statements, options.idOctets);
    this.producers = new ProducerTable(statements);
    const facts = { fact: this.fact.bind(this), setFact: this.setFact.bind(this) };
    this.#kept = new KeptLog({ ...statements, ...facts }, options.keep ?? { time: KEEP_SECONDS * 1000 });
    this.#open();
  }

  #open(): void {
    this.#findTables();
    const version = this.#made ? storedVersion("a mailbox", this.fact("version"), VERSION) : VERSION;
    if (version === 1) this.#transaction(() => this.#migrate());
    else if (version < VERSION) {
      this.#transaction(() => {
        if (version === 2) this.#sql.exec(SINCE_2).toArray();
        this.setFact("version", String(VERSION));
      });
    }
    this.#beginEpoch();
    this.#load();
  }

  #findTables(): void {
    const query = "SELECT name FROM sqlite_master WHERE name IN ('facts', 'segments')";
    const names = rowsOf<{ readonly name: string }>(this.#sql, query, []).map(({ name }) => name);
    this.#made = names.includes("facts");
    this.#hasLog = names.includes("segments");
  }

  /** Creates the table of facts. */
  #make(): void {
    this.#transaction(() => {
      this.#next = this.#firstNumber();
      this.#reserved = this.#next;
      this.#position = this.#next - 1;
      const facts = `INSERT INTO facts (name, value) VALUES ('version', '${VERSION}'), ('next', '${this.#next}')`;
      const cursor = this.#sql.exec(`${FACTS} ${facts}`);
      cursor.toArray();
      this.rowsWritten += cursor.rowsWritten;
      this.#made = true;
    });
  }

  /** Creates the tables of messages. */
  #makeLog(): void {
    if (!this.#made) this.#make();
    this.#transaction(() => this.#sql.exec(LOG).toArray());
    this.#hasLog = true;
  }

  /**
   * Migrates from the first schema. There, each segment held its ids and all of its envelopes, ids of settled messages
   * had segments of their own, messages were settled only from the front, and sizes were those of the bodies.
   */
  #migrate(): void {
    for (const table of ["segments", "ids", "bodies"]) {
      this.#sql.exec(`ALTER TABLE ${table} RENAME TO ${table}_1`).toArray();
    }
    this.#sql.exec(LOG).toArray();
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
    this.#removeAll([[this.#position + 1, position]], DROPPED);
  }

  #learn(written: WrittenIds, at: number): void {
    const all = [...eachOf(written)];
    this.#ids.lookUp({ series: all.map(({ series }) => series), numbers: all.map(({ number }) => number) });
    for (const { series, number } of all) {
      if (!this.#ids.isKnown(series, number)) this.#ids.add(series, number, at);
    }
    this.#ids.flush(at);
  }

  /**
   * Begins a new epoch if these tables are from a backup. Numbers that were used after the backup are not used again, and
   * a reader that has seen some of them learns that they are gone.
   */
  #beginEpoch(): void {
    if (this.fact("restored") === undefined) return;
    this.#load();
    const next = Math.max(this.#firstNumber(), this.#next + 1);
    const lost: Range[] = [...this.#lost, [this.#next, next - 1]];
    this.#transaction(() => {
      this.setFact("lost", JSON.stringify(lost.slice(-LOST_RANGES)));
      this.setFact("next", String(next));
      if (this.fact("generation") !== undefined) this.setFact("generation", String(next));
      // Its Tunnel has ended with the edge.
      for (const name of ["consumer", "former", "held", "benched", "restored"]) this.removeFact(name);
    });
  }

  get #lost(): readonly Range[] {
    return JSON.parse(this.fact("lost") ?? "[]") as Range[];
  }

  /** Whether a number may have been that of a message that a restored backup does not have. */
  isLost(seq: number): boolean {
    return this.#lost.some(([from, to]) => seq >= from && seq <= to);
  }

  /** Refills memory from the tables. */
  #load(): void {
    this.#cache.clear();
    this.#held.clear();
    this.#run = undefined;
    this.#ids.forgetMemory();
    this.#kept.load();
    this.producers.forgetMemory();
    this.#parts.clear();
    this.#shares = undefined;
    this.#next = Number(this.fact("next") ?? 1);
    const [last] = this.#all<{ readonly next: number }>(
      "SELECT first + count AS next FROM segments ORDER BY first DESC LIMIT 1",
    );
    if (last !== undefined) this.#next = Math.max(this.#next, last.next);
    this.#reserved = this.#next;
    const [waiting = NOTHING] = this.#all<Amount>(
      "SELECT coalesce(sum(count), 0) AS messages, coalesce(sum(octets), 0) AS octets FROM segments",
    );
    const [apart] = this.#all<{ readonly count: number; readonly octets: number }>(
      "SELECT count(*) AS count, coalesce(sum(octets) FILTER (WHERE segments > 0), 0) AS octets FROM envelopes",
    );
    this.#apart = apart?.count ?? 0;
    this.#messages = waiting.messages;
    this.#octets = waiting.octets + (apart?.octets ?? 0);
    for (const { first, messages, octets, ranges, since, hidden } of this.#all<DoneRow>("SELECT * FROM done")) {
      this.#messages -= messages;
      this.#octets -= octets;
      this.#parts.set(first, { ranges: rangesIn(ranges), octets, since, hidden: rangesIn(hidden) });
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
    const { shutOut = () => false, awaited = true, full = false, over = false, reserve = false, beside } = terms;
    const { hold = false } = terms;
    const batch = batchOf(bundle);
    if (full && !this.#hasLog) return batch.sizes.map(() => "full");
    if (!this.#hasLog) this.#makeLog();
    const { envelopes, octets } = bundle;
    const { starts, sizes, shares } = batch;
    const inline = shares.reduce((sum, share) => sum + share, 0);
    const ids = idsOf(bundle, batch);
    const { series, numbers } = ids;
    return this.#safely(() => {
      const holds = hold && !full && !over && beside === undefined && this.#mayHold(batch, ids);
      // Later messages must not become durable before those.
      if (!holds && !full) this.spill();
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
          if (!room.take(envelopes[number]?.source ?? "", senderAt(bundle, starts[index] ?? 0), counts)) return "quota";
          counted.add(number);
        }
        kept.push(index);
        if (one !== undefined && !holds) this.#ids.add(one, id, now);
        return "stored";
      });
      if (kept.length === 0) return outcomes;
      if (holds) {
        this.#hold(batch, ids, now);
        return outcomes;
      }
      const along = outcomes.every((outcome) => outcome === "stored" || outcome === "duplicate") ? beside : undefined;
      const before = this.#next;
      const write = () => {
        const written = this.#write(batch, kept, now);
        if (!later) {
          this.#ids.flush(now);
          this.#unwritten = { segments: 0, octets: 0 };
        }
        along?.();
        return written;
      };
      this.#unwritten.segments += 1;
      this.#unwritten.octets += octets.length;
      const { segments, octets: unwritten } = this.#unwritten;
      const later = this.#ids.hasOnlyGrown && segments <= UNWRITTEN_SEGMENTS && unwritten <= UNWRITTEN_OCTETS;
      // Usually this is one segment row, if need be with one id row written last. A transaction would cost as much.
      const few = (later || this.#ids.pending <= 1) && octets.length <= LONG_BODY_OCTETS && inline <= LONG_ENVELOPE;
      const written = few && along === undefined ? this.#undoing(before, write) : this.#transaction(write);
      if (awaited) for (const segment of written) this.#cache.offer(segment);
      return outcomes;
    });
  }

  /**
   * Whether a batch is one long message that may be held: one that is not held already, of a kind of which nobody sees that
   * it has no row. An id without a number would have to be looked up again.
   */
  #mayHold({ bundle, sizes, shares }: Batch, { series: [one], numbers: [id = NONE] }: Ids): boolean {
    const [size = 0, another] = sizes;
    if (size <= LONG_BODY_OCTETS || another !== undefined || one === undefined || id === NONE) return false;
    const octets = bundle.octets.length + shares.reduce((sum, share) => sum + share, 0);
    if (size > this.#messageLimit || octets - size > LONG_ENVELOPE || !this.#held.hasRoom(octets)) return false;
    if (this.#kept.isOn || this.#shares !== undefined || bundle.envelopes.length !== 1) return false;
    if (!isPlenty({ messages: this.#messages + 1, octets: this.#octets + octets }, this.#quota)) return false;
    return !this.#held.knows(one, id);
  }

  #hold(batch: Batch, { series: [one], numbers: [id = NONE] }: Ids, at: number): void {
    if (one === undefined) throw new TypeError("a message without an id is held");
    const first = this.#next;
    // Whoever it is sent to knows it by its number, which must not become that of another message.
    if (first >= this.#reserved) this.#reserve(first + RESERVED_NUMBERS);
    const { bundle, starts, sizes, shares } = batch;
    const octets = octetsIn(batch) + shares.reduce((sum, share) => sum + share, 0);
    this.#held.add({ segment: { first, at, bundle, starts, sizes, shares, octets }, id: { series: one, number: id } });
    this.#run ??= crypto.randomUUID();
    this.#next += 1;
    this.#messages += 1;
    this.#octets += octets;
  }

  #reserve(number: number): void {
    this.setFact("next", String(number));
    this.#reserved = number;
  }

  /** Writes what is held. */
  spill(): void {
    if (this.#held.count === 0) return;
    this.#atomically(() => {
      const next = this.#next;
      for (const { segment, id } of this.#held) {
        const { first, at, bundle, octets } = segment;
        this.#messages -= 1;
        this.#octets -= octets;
        this.#next = first;
        this.#write(batchOf(bundle), [0], at);
        this.#ids.add(id.series, id.number, at);
      }
      this.#next = next;
      this.#writeGrownIds();
    });
    this.#held.clear();
  }

  /** What names the messages that are held, as long as none of them is lost. */
  get run(): string | undefined {
    return this.#run;
  }

  /** The first message that is held, and when it came. */
  get held(): { readonly number: number; readonly at: number } | undefined {
    const { first } = this.#held;
    return first === undefined ? undefined : { number: first.first, at: first.at };
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

  /**
   * Reads messages with numbers above `after`, oldest first, for a reader that does not consume them: those that wait,
   * and those that are kept. What the consumer is about to get stays in memory as it is.
   */
  *log(after: number): Generator<{ readonly number: number; readonly time: number; readonly mail: Mail }> {
    this.spill();
    for (let from = after + 1; from < this.#next; ) {
      const found = this.#readableAt(from);
      if (found === undefined) return;
      const { row, unreadable } = found;
      const segment = this.#segmentIn(row);
      const { first, bundle, sizes } = segment;
      for (let number = Math.max(from, first); number < first + sizes.length; number += 1) {
        if (unreadable.has(number)) continue;
        const octets = this.#gathered(segment, number - first, number - first + 1);
        const [mail] = unpack({ envelopes: bundle.envelopes, octets });
        if (mail !== undefined) yield { number, time: row.at, mail };
      }
      from = first + sizes.length;
    }
  }

  /** The segment that contains a number or else the next one, among those that wait and those that are kept. */
  #readableAt(seq: number): { readonly row: WholeRow; readonly unreadable: Ranges } | undefined {
    const columns = "first, count, octets, envelopes, body, at";
    const waiting = this.#rowAt<WholeRow>(columns, seq);
    const kept = this.#kept.isOn ? this.#rowAt<WholeRow & HiddenRow>(`${columns}, hidden`, seq, "kept") : undefined;
    if (kept !== undefined && kept.first < (waiting?.first ?? Number.POSITIVE_INFINITY)) {
      return { row: kept, unreadable: rangesIn(kept.hidden) };
    }
    if (waiting === undefined) return undefined;
    const part = this.#parts.get(waiting.first);
    const gone = this.#kept.keeps(waiting.first) ? part?.hidden : part?.ranges;
    return { row: waiting, unreadable: gone ?? NO_RANGES };
  }

  /** Notes that the mailbox is read over HTTP: from the first time on, messages that are settled are kept. */
  noteRead(now: number): void {
    if (!this.#kept.isToNote(now)) return;
    this.spill();
    let settled = this.#position;
    for (const first of this.#parts.keys()) settled = Math.max(settled, this.#endOf(first));
    this.#atomically(() => this.#kept.noteRead(now, settled));
  }

  /** What readers over HTTP can no longer read. */
  get losses(): Losses {
    return this.#kept.losses(this.#position);
  }

  /** Bytes of settled messages that are kept, but for those in segments with messages that wait. */
  get keptOctets(): number {
    return this.#kept.octets;
  }

  /** Settles messages that their recipient has. They are kept for readers over HTTP, if there are any. */
  settle(ranges: Iterable<Range>, now: number): void {
    this.#atomically(() => {
      this.#removeAll(ranges, { keep: true, now });
      // What is too old is removed by `expire`.
      if (this.#kept.isOver(this.#keptParts.map(([, part]) => part))) this.#removeSurplus(now);
    });
  }

  /** Removes messages. Numbers without a waiting message are ignored. */
  remove(ranges: Iterable<Range>): void {
    this.#atomically(() => this.#removeAll(ranges, DROPPED));
  }

  #removeAll(ranges: Iterable<Range>, how: Settling): void {
    const all = [...ranges];
    // An id may be written only with its message, or once that is settled.
    for (const { segment, id } of this.#held) {
      if (isIn(segment.first, all)) this.#ids.add(id.series, id.number, segment.at);
    }
    this.#writeGrownIds();
    for (const [from, to] of all) this.#forget(Math.max(from, this.#position + 1), Math.min(to, this.#next - 1), how);
    this.#advance();
  }

  /** Removes kept messages that are too old, and the oldest ones that are too many. */
  #removeSurplus(now: number): void {
    const parts = this.#keptParts
      .map(([first, { octets, since }]) => ({ first, count: this.#endOf(first) - first + 1, octets, since }))
      .sort((one, other) => one.first - other.first);
    const end = this.#kept.surplus(parts, now);
    if (end !== undefined) this.#removeKept(end);
  }

  /** Segments of which some messages wait, and the settled ones are kept. */
  get #keptParts(): readonly (readonly [first: number, part: Part])[] {
    return this.#kept.isOn ? [...this.#parts].filter(([first]) => this.#kept.keeps(first)) : [];
  }

  /** Removes what is kept up to the end of a segment. */
  #removeKept(end: number): void {
    const parts = this.#keptParts.filter(([first]) => first <= end);
    this.#kept.raiseTo(end);
    this.#kept.removeBelow((row) => this.#releaseEnvelopes(row, "kept"));
    for (const [first, part] of parts) {
      const segment = this.#segmentAt(first);
      if (segment !== undefined) this.#writePart(first, { ...part, octets: this.#free(segment, part) });
    }
  }

  /** The last number of a segment. */
  #endOf(first: number): number {
    const extent = this.#extentAt(first);
    return extent === undefined ? first : extent.first + extent.count - 1;
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
    this.spill();
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
      if (!countsIn(row).some(([name]) => name === sender || relayOfSender(name) === sender)) continue;
      const [whole] = this.#all<WholeRow>(
        "SELECT first, count, octets, envelopes, body, at FROM segments WHERE first = ?",
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
   * Removes all waiting messages, those that are kept, and the ids that are unlikely to be sent again.
   *
   * @returns the number of messages removed
   */
  purge(now: number): number {
    const messages = this.#messages;
    this.#atomically(() => {
      if (this.#kept.isOn) this.#removeKept(this.#next - 1);
      this.#removeAll([[this.#position + 1, this.#next - 1]], DROPPED);
      // A range goes on growing for a while after its first id.
      this.#ids.forgetBefore(now - PURGED_IDS_AGE - RANGE_TIME);
    });
    return messages;
  }

  /**
   * Removes messages past their retention, what is kept for too long, and ids too old to be sent again.
   *
   * @returns the number of messages removed
   */
  expire(now: number): number {
    const before = this.#messages;
    this.spill();
    // Segments are in order of arrival.
    const [young] = this.#all<Pick<SegmentRow, "first">>(
      "SELECT first FROM segments WHERE at >= ? ORDER BY first LIMIT 1",
      now - RETENTION,
    );
    const last = (young?.first ?? this.#next) - 1;
    this.#atomically(() => {
      if (last > this.#position) {
        // What is older than what has expired is not kept either.
        if (this.#kept.isOn) this.#removeKept(last);
        this.#removeAll([[this.#position + 1, last]], DROPPED);
      }
      if (this.#kept.isForgotten(now)) {
        this.#removeKept(this.#next - 1);
        this.#kept.stop();
      } else if (this.#kept.isOn) this.#removeSurplus(now);
      this.producers.expire(now);
      this.#writeGrownIds();
      this.#ids.forgetBefore(now - REMEMBER_IDS - RANGE_TIME);
    });
    return before - this.#messages;
  }

  /** When `expire` next has work to do; undefined if nothing waits or is kept, and no id is remembered. */
  expiry(): number | undefined {
    const oldest = this.#oldest;
    const times = oldest === undefined ? [] : [oldest + RETENTION + 1];
    const ids = this.#ids.expiry;
    if (ids !== undefined) times.push(ids);
    const kept = this.#kept.expiry;
    if (kept !== undefined) times.push(kept);
    return times.length === 0 ? undefined : Math.min(...times);
  }

  /** Whether nothing waits, no id is remembered, and nobody has read the mailbox over HTTP for long. */
  get empty(): boolean {
    return this.#messages === 0 && !this.#kept.isOn && this.#ids.expiry === undefined;
  }

  /** When kept messages must next be looked at; infinite if nothing is kept. */
  get keptExpiry(): number {
    return this.#kept.expiry ?? Number.POSITIVE_INFINITY;
  }

  /** Whether there is anything stored. */
  get exists(): boolean {
    return this.#made;
  }

  /** Resets memory after all tables were deleted. */
  deleted(): void {
    this.#made = false;
    this.#hasLog = false;
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

  /** Bytes that wait of each sender, exactly or a little more. Those that a relay speaks for count as the relay. */
  octetsBySender(): ReadonlyMap<string, number> {
    const shares = [...this.#loadShares()].filter(([sender]) => relayOfSender(sender) === undefined);
    return new Map(shares.map(([sender, { octets }]) => [sender, Math.min(octets, this.#octets)]));
  }

  /** The one of a relay's identities of which most waits; undefined if it vouches for none. */
  mainIdentityOf(relay: string): string | undefined {
    const own = [...this.#loadShares()].filter(([sender]) => relayOfSender(sender) === relay);
    return own.reduce<(typeof own)[0] | undefined>(
      (most, one) => (one[1].octets > (most?.[1].octets ?? 0) ? one : most),
      undefined,
    )?.[0];
  }

  /** Whether a sender has used up its share. Nearly free while less waits than one sender may have. */
  isAtMark(sender: string): boolean {
    return !isPlenty(this.#waiting, this.#quota) && isAtMark(this.#heldOf(sender), this.#quota);
  }

  /** Those of a batch's senders that a relay speaks for and that have used up their share. */
  atMark(bundle: MessageBatch): string[] {
    if (isPlenty(this.#waiting, this.#quota)) return [];
    const { starts } = contentsOf(bundle.octets);
    const names = new Set(starts.map((start) => senderAt(bundle, start)));
    return [...names].filter((name) => relayOfSender(name) !== undefined && this.isAtMark(name));
  }

  /** Whether a suspended sender may continue. */
  mayGoOn(sender: string): boolean {
    return isEasy(this.#waiting, this.#quota) || mayGoOn(this.#heldOf(sender), this.#quota);
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
    return this.#all<Pick<SegmentRow, "at">>("SELECT at FROM segments ORDER BY first LIMIT 1")[0]?.at ?? this.held?.at;
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
    if (this.#made) this.#execute("DELETE FROM facts WHERE name = ?", name);
  }

  fact(name: string): string | undefined {
    if (!this.#made) return undefined;
    return rowsOf<Pick<FactRow, "value">>(this.#sql, "SELECT value FROM facts WHERE name = ?", [name])[0]?.value;
  }

  setFact(name: string, value: string): void {
    if (!this.#made) this.#make();
    this.#execute(
      "INSERT INTO facts (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
      name,
      value,
    );
  }

  /** Runs several writes as one transaction. If one throws, nothing is written, and memory is as before. */
  together(run: () => void): void {
    this.#atomically(run);
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

  #heldOf(sender: string): Held {
    const relay = relayOfSender(sender);
    const ofRelay = relay === undefined ? undefined : this.#ownOf(relay);
    return { own: this.#ownOf(sender), ofRelay, all: this.#waiting };
  }

  /** Runs a function that writes segments and one other row. If it fails, the segments are deleted. */
  #undoing<T>(before: number, run: () => T): T {
    try {
      return run();
    } catch (error) {
      try {
        this.#change("DELETE FROM segments WHERE first >= ?", before);
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
      const long = size > LONG_BODY_OCTETS;
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
    this.#add(
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
    return { first, at, bundle, starts, sizes, shares, octets };
  }

  /** Stores an envelope once for all segments that use it. Returns its number. */
  #keepEnvelope(text: string, octets: number, source: string): number {
    const hash = sha256(encoder.encode(text)).reduce((hex, octet) => hex + octet.toString(16).padStart(2, "0"), "");
    const sender = senderOf(source);
    const [known] = this.#all<Pick<EnvelopeRow, "number" | "segments">>(
      "SELECT number, segments FROM envelopes WHERE hash = ?",
      hash,
    );
    if (known !== undefined) {
      this.#change("UPDATE envelopes SET segments = segments + 1 WHERE number = ?", known.number);
      if (known.segments === 0) this.#countEnvelope(sender, octets);
      return known.number;
    }
    this.#add(
      "INSERT INTO envelopes (hash, segments, octets, sender, text) VALUES (?, 1, ?, ?, ?)",
      hash,
      octets,
      sender,
      text,
    );
    this.#apart += 1;
    this.#countEnvelope(sender, octets);
    const [stored] = this.#all<Pick<EnvelopeRow, "number">>("SELECT number FROM envelopes WHERE hash = ?", hash);
    if (stored === undefined) throw new TypeError("an envelope of the mailbox was not stored");
    return stored.number;
  }

  /** Counts an envelope among what waits, or no longer. */
  #countEnvelope(sender: string, octets: number): void {
    this.#octets += octets;
    this.#share(sender, 0, octets);
  }

  /**
   * Releases the envelopes of a segment of messages that waited, or were kept.
   *
   * @param keptAs the first number of a segment that waited, and is kept from now on
   */
  #releaseEnvelopes(row: Pick<SegmentRow, "envelopes">, was: "segments" | "kept", keptAs?: number): void {
    for (const number of envelopesIn(row)) {
      if (typeof number !== "number") continue;
      const change = keptAs === undefined ? `${was} = ${was} - 1` : "segments = segments - 1, kept = kept + 1";
      this.#change(`UPDATE envelopes SET ${change} WHERE number = ?`, number);
      const [left] = this.#all<Pick<EnvelopeRow, "octets" | "sender" | "segments" | "kept">>(
        "SELECT octets, sender, segments, kept FROM envelopes WHERE number = ?",
        number,
      );
      if (left === undefined) continue;
      if (keptAs !== undefined) this.#kept.addOctets(keptAs, left.octets);
      if (was === "segments" && left.segments === 0) this.#countEnvelope(left.sender, -left.octets);
      if (left.segments > 0 || left.kept > 0) continue;
      this.#change("DELETE FROM envelopes WHERE number = ?", number);
      this.#apart -= 1;
    }
  }

  /** Adds to what waits of a sender, and of the relay that speaks for it, if that is loaded. */
  #share(sender: string, messages: number, octets: number): void {
    if (this.#shares === undefined) return;
    const relay = relayOfSender(sender);
    if (relay !== undefined) this.#share(relay, messages, octets);
    const share = this.#shares.get(sender) ?? { messages: 0, octets: 0 };
    share.messages += messages;
    share.octets += octets;
    if (share.messages === 0 && share.octets === 0) this.#shares.delete(sender);
    else this.#shares.set(sender, share);
  }

  /**
   * Adds a segment's waiting messages to those of its senders, or subtracts them.
   *
   * @param done the messages of it that are settled
   */
  #shareSegment(row: Pick<SegmentRow, "senders">, done: Part | undefined, sign: 1 | -1): void {
    for (const [sender, count, octets] of countsIn(row)) this.#share(sender, sign * count, sign * octets);
    if (done !== undefined) this.#shareSettled(row, -sign * done.ranges.count, -sign * done.octets);
  }

  /**
   * Adds messages of a segment that are settled or, if negative, subtracts them. If several senders have messages in the
   * segment, it is not known whose are settled. Then they are subtracted from the relay that speaks for all of them, or,
   * if there is none, from nobody until the segment is deleted. What comes by one connection has one sender or one relay.
   */
  #shareSettled(row: Pick<SegmentRow, "senders">, messages: number, octets: number): void {
    const sender = commonSenderOf(countsIn(row));
    if (sender !== undefined) this.#share(sender, messages, octets);
  }

  /** Subtracts messages of a segment that are settled now, if what waits of each sender is loaded. */
  #shareSettledIn(first: number, { messages, octets }: Amount): void {
    if (this.#shares === undefined) return;
    const [row] = this.#all<Pick<SegmentRow, "senders">>("SELECT senders FROM segments WHERE first = ?", first);
    if (row !== undefined) this.#shareSettled(row, -messages, -octets);
  }

  #loadShares(): ReadonlyMap<string, Share> {
    if (this.#shares !== undefined) return this.#shares;
    this.spill();
    const shares = new Map<string, Share>();
    this.#shares = shares;
    for (const row of this.#all<Pick<SegmentRow, "first" | "senders">>("SELECT first, senders FROM segments")) {
      this.#shareSegment(row, this.#parts.get(row.first), 1);
    }
    const apart = this.#all<Pick<EnvelopeRow, "sender" | "octets">>(
      "SELECT sender, octets FROM envelopes WHERE segments > 0",
    );
    for (const { sender, octets } of apart) this.#share(sender, 0, octets);
    return shares;
  }

  #writeBody(seq: number, body: Uint8Array): void {
    for (let n = 0, at = 0; at < body.length; n += 1, at += BODY_ROW_OCTETS) {
      const part = body.subarray(at, at + BODY_ROW_OCTETS);
      this.#add("INSERT INTO bodies (seq, n, body) VALUES (?, ?, ?)", seq, n, part);
    }
  }

  /**
   * Returns messages of a segment with their bodies, wherever stored, in a buffer of nothing else.
   *
   * @param used numbers of the envelopes that they use
   */
  #slice(segment: Segment, begin: number, end: number, used: readonly number[], counts: readonly number[]): Slice {
    const { first, at, bundle, unsent } = segment;
    const { envelopes } = bundle;
    const whole = unsent === undefined ? this.#gathered(segment, begin, end) : cut(unsent, begin, end);
    if (end === segment.sizes.length) this.#cache.sent(first);
    // Otherwise it may be the cached segment.
    const given = unsent === undefined ? whole.buffer !== bundle.octets.buffer : end === segment.sizes.length;
    const isWhole = used.length === envelopes.length;
    const sent = isWhole ? { envelopes, octets: whole } : renumbered({ envelopes, octets: whole.slice() }, used);
    return { first: first + begin, at, bundle: sent, given, sizes: counts };
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

  /** Settles messages: updates the counts, and deletes segments that are settled whole, or has them kept. */
  #forget(from: number, to: number, how: Settling): void {
    // Consecutive segments to delete, by the numbers of their messages, and what of them was settled before.
    let begin: number | undefined;
    let end = from;
    const before = new Map<number, Part>();
    const taken = new Taken();
    let isLost = false;
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
      const isWhole = ranges === undefined || ranges.count === count;
      if (!isWhole && ranges.count === (part?.ranges.count ?? 0)) continue;
      if (this.#held.get(first) !== undefined) {
        this.#held.delete(first);
        this.#messages -= count;
        this.#octets -= octets;
        continue;
      }
      const keeps = this.#kept.keeps(first);
      if (how.keep && !keeps) isLost = true;
      const hidden = keeps ? hiddenAfter(part, [low, high], how) : NO_RANGES;
      if (!isWhole) {
        this.#keepPart(first, { ranges, octets: 0, since: how.now, hidden }, part);
        continue;
      }
      this.#messages -= count - (part?.ranges.count ?? 0);
      this.#octets -= octets - (part?.octets ?? 0);
      if (part !== undefined) {
        before.set(first, part);
        this.#parts.delete(first);
        this.#change("DELETE FROM done WHERE first = ?", first);
      }
      this.#cache.drop(first);
      begin ??= first;
      end = last;
      if (keeps && hidden.count < count) taken.add(first, last, octets, hidden);
      else taken.end();
    }
    if (isLost && this.#kept.isOn) this.#kept.lose();
    if (begin === undefined) return;
    this.#take(taken, how.now);
    this.#release(begin, end, before, taken);
    this.#change("DELETE FROM segments WHERE first BETWEEN ? AND ?", begin, end);
    this.#removeBodies(taken.others([begin, end]));
    // Numbers must never be reused, and after the last segment nothing else records them.
    if (end === this.#next - 1) this.#reserve(this.#next);
    if (isEasy(this.#waiting, this.#quota)) this.#shares = undefined;
  }

  /** Has segments kept. Their rows are deleted by the caller. */
  #take(taken: Taken, now: number): void {
    for (const { from, to, octets } of taken.runs) this.#kept.take(from, to, octets, now);
    for (const [first, hidden] of taken.hidden) {
      this.#kept.hide(first, JSON.stringify([...hidden]));
      this.#removeBodies(hidden);
    }
  }

  #removeBodies(ranges: Iterable<Range>): void {
    for (const [from, to] of ranges) this.#change("DELETE FROM bodies WHERE seq BETWEEN ? AND ?", from, to);
  }

  /**
   * Subtracts segments from what is kept across segments. They are read only if there is such a thing.
   *
   * @param before the messages of them that were settled before
   * @param taken those that are kept
   */
  #release(begin: number, end: number, before: ReadonlyMap<number, Part>, taken?: Taken): void {
    if (this.#shares !== undefined) {
      const query = "SELECT first, senders FROM segments WHERE first BETWEEN ? AND ?";
      const rows = this.#all<Pick<SegmentRow, "first" | "senders">>(query, begin, end);
      for (const row of rows) this.#shareSegment(row, before.get(row.first), -1);
    }
    if (this.#apart === 0) return;
    const query = "SELECT first, envelopes FROM segments WHERE first BETWEEN ? AND ? AND apart > 0";
    const rows = this.#all<Pick<SegmentRow, "first" | "envelopes">>(query, begin, end);
    for (const row of rows) this.#releaseEnvelopes(row, "segments", taken?.has(row.first) ? row.first : undefined);
  }

  /** Stores which messages of a segment are settled. @param part without its bytes */
  #keepPart(first: number, part: Part, before: Part | undefined): void {
    const segment = this.#segmentAt(first);
    if (segment === undefined) return;
    let octets = 0;
    for (const [from, to] of part.ranges) {
      for (let number = from; number <= to; number += 1) {
        octets += lengthOf(segment.bundle.octets, segment, number - first);
      }
    }
    const doneNow = {
      messages: part.ranges.count - (before?.ranges.count ?? 0),
      octets: octets - (before?.octets ?? 0),
    };
    this.#messages -= doneNow.messages;
    this.#octets -= doneNow.octets;
    this.#shareSettledIn(first, doneNow);
    const counted = { ...part, octets };
    if (this.#kept.keeps(first)) {
      this.#removeBodies(part.hidden);
      this.#writePart(first, counted);
    } else {
      this.#writePart(first, { ...counted, octets: this.#free(segment, counted, before) });
    }
  }

  #writePart(first: number, part: Part): void {
    const { ranges, octets, since, hidden } = part;
    this.#add(
      `INSERT INTO done (first, messages, octets, ranges, since, hidden) VALUES (?, ?, ?, ?, ?, ?)
        ON CONFLICT (first) DO UPDATE SET messages = excluded.messages, octets = excluded.octets,
          ranges = excluded.ranges, since = excluded.since, hidden = excluded.hidden`,
      first,
      ranges.count,
      octets,
      JSON.stringify([...ranges]),
      since,
      hidden.count === 0 ? "" : JSON.stringify([...hidden]),
    );
    this.#parts.set(first, part);
  }

  /**
   * Frees the space of settled messages of a segment.
   *
   * @param before those whose space was freed before
   * @returns bytes of the settled messages, as they are counted from now on
   */
  #free(segment: Segment, { ranges, octets }: Part, before?: Part): number {
    const { first, bundle, starts } = segment;
    let inRow = 0;
    for (const [from, to] of ranges) {
      for (let number = from; number <= to; number += 1) {
        const start = starts[number - first] ?? 0;
        inRow += (starts[number - first + 1] ?? start) - start;
        if (before?.ranges.has(number) === true || !isElsewhere(bundle.octets, start)) continue;
        this.#change("DELETE FROM bodies WHERE seq = ?", number);
      }
    }
    return inRow >= LEAST_COMPACTION && inRow * 2 > bundle.octets.length
      ? this.#compact(segment, ranges, octets)
      : octets;
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
    this.#release(first, first, new Map([[first, { ranges, octets: done, since: 0, hidden: NO_RANGES }]]));
    this.#change("DELETE FROM segments WHERE first = ?", first);
    this.#cache.drop(first);
    this.#octets -= before - done;
    const segment = this.#insert(left, first, row.at);
    this.#cache.keep(segment);
    const places = ranges.count * place.length;
    this.#octets -= places;
    this.#shareSettledIn(first, { messages: ranges.count, octets: places });
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
    const row = () => this.#rowAt<Extent>("first, count, octets", seq);
    const kept = this.#cache.find(seq) ?? this.#held.get(seq)?.segment;
    return (
      (kept === undefined && this.#hasWritten ? row() : undefined) ?? extentOf(kept ?? this.#held.segmentFrom(seq))
    );
  }

  /** Whether any message that waits is written. If none is, looking for one is all that an acknowledgement would cost. */
  get #hasWritten(): boolean {
    return this.#held.count === 0 || this.#messages > this.#held.count;
  }

  /** The segment that contains a number, or else the next one. */
  #segmentAt(seq: number): Segment | undefined {
    const kept = this.#cache.find(seq) ?? this.#held.get(seq)?.segment;
    if (kept !== undefined) return kept;
    const columns = "first, count, octets, envelopes, body, at";
    const found = this.#hasWritten ? this.#rowAt<WholeRow>(columns, seq) : undefined;
    if (found === undefined) return this.#held.segmentFrom(seq);
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
    return { first: row.first, at: row.at, octets: row.octets, ...rest };
  }

  /** Columns of the segment that contains a number, or else of the next one. */
  #rowAt<Row extends Extent>(columns: string, seq: number, table: "segments" | "kept" = "segments"): Row | undefined {
    const [row] = this.#all<Row>(`SELECT ${columns} FROM ${table} WHERE first <= ? ORDER BY first DESC LIMIT 1`, seq);
    if (row !== undefined && seq < row.first + row.count) return row;
    return this.#all<Row>(`SELECT ${columns} FROM ${table} WHERE first > ? ORDER BY first LIMIT 1`, seq)[0];
  }

  /** The body of a message that is stored in rows of its own, in parts. */
  #bodyOf(seq: number): Uint8Array[] {
    const rows = this.#all<Pick<BodyRow, "body">>("SELECT body FROM bodies WHERE seq = ? ORDER BY n", seq);
    return rows.map(({ body }) => octetsOf(body));
  }

  /** Reads rows; `Row` has the columns that the query names. */
  #all<Row extends object>(query: string, ...bindings: (string | number)[]): Row[] {
    return this.#hasLog ? rowsOf<Row>(this.#sql, query, bindings) : [];
  }

  /** Writes rows, or makes a table: the first makes the tables of messages too. */
  #add(query: string, ...bindings: (string | number | Uint8Array)[]): void {
    if (!this.#hasLog) this.#makeLog();
    this.#execute(query, ...bindings);
  }

  /** Changes or deletes rows. Without tables there are none. */
  #change(query: string, ...bindings: (string | number | Uint8Array)[]): void {
    if (this.#hasLog) this.#execute(query, ...bindings);
  }

  #execute(query: string, ...bindings: (string | number | Uint8Array)[]): void {
    const cursor = this.#sql.exec(query, ...bindings);
    cursor.toArray();
    this.rowsWritten += cursor.rowsWritten;
  }
}

function extentOf(segment: Segment | undefined): Extent | undefined {
  return segment && { first: segment.first, count: segment.sizes.length, octets: segment.octets };
}

/** What makes a segment. */
type WholeRow = Pick<SegmentRow, "first" | "count" | "octets" | "envelopes" | "body" | "at">;

/** What of a kept segment readers must not see. JSON of {@link Range}s; empty for none. */
interface HiddenRow {
  readonly hidden: string;
}

/**
 * What readers must not see of a segment after more of it was settled: what did not reach its recipient.
 *
 * @param range what is settled now, among it what was before
 */
function hiddenAfter(part: Part | undefined, [from, to]: Range, { keep }: Settling): Ranges {
  if (keep) return part?.hidden ?? NO_RANGES;
  const hidden = new Ranges(part?.hidden);
  for (let number = from; number <= to; number += 1) if (part?.ranges.has(number) !== true) hidden.add(number);
  return hidden;
}

function isIn(number: number, ranges: readonly Range[]): boolean {
  return ranges.some(([from, to]) => number >= from && number <= to);
}

function rangesIn(json: string): Ranges {
  return json === "" ? NO_RANGES : new Ranges(JSON.parse(json) as Range[]);
}

/** Rows get their types here and nowhere else: the schema gives them to the columns. */
function rowsOf<Row extends object>(sql: Sql, query: string, bindings: readonly (string | number)[]): Row[] {
  return sql.exec(query, ...bindings).toArray() as object[] as Row[];
}

function octetsOf(blob: Blob): Uint8Array {
  return blob instanceof Uint8Array ? blob : new Uint8Array(blob);
}

function countsIn({ senders }: Pick<SegmentRow, "senders">): SenderCount[] {
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

  /** @param sender as `senderOfMessage` returns it */
  take(source: string, sender: string, octets: number): boolean {
    // After a refusal, later messages of the source are refused too: they must not overtake it.
    const relay = relayOfSender(sender);
    const line = relay === undefined ? source : sender;
    if (this.#full.has(line)) return false;
    const after = (name: string) => added(this.#own.get(name) ?? this.#ownOf(name), octets);
    const own = after(sender);
    const ofRelay = relay === undefined ? undefined : after(relay);
    const all = added(this.#all, octets);
    if (!hasRoom({ own, ofRelay, all }, this.#quota, this.#reserve)) {
      this.#full.add(line);
      return false;
    }
    Object.assign(this.#all, all);
    this.#own.set(sender, own);
    if (relay !== undefined && ofRelay !== undefined) this.#own.set(relay, ofRelay);
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

/** The sender of all messages, or the relay that speaks for all of their senders; undefined if there is none. */
function commonSenderOf(senders: readonly SenderCount[]): string | undefined {
  const names = senders.flatMap(([name, messages]) => (messages > 0 ? [name] : []));
  const [first, ...others] = names;
  if (first === undefined || others.length === 0) return first;
  const account = relayOfSender(first) ?? first;
  return others.every((name) => (relayOfSender(name) ?? name) === account) ? account : undefined;
}

/** The sender of the message at `start`. */
export function senderAt({ envelopes, octets }: MessageBatch, start: number): string {
  const source = envelopes[envelopeAt(octets, start)]?.source ?? "";
  if (!isRelay(source)) return senderOf(source);
  const begin = start + ID_AT;
  return senderOfMessage(source, decoder.decode(octets.subarray(begin, begin + idLengthAt(octets, start))));
}

/** Messages in a bundle, and where each begins. */
type Located = Pick<Segment, "bundle" | "starts">;

/** The sender of all messages; undefined if there are several. */
function onlySenderOf({ bundle, starts }: Located): string | undefined {
  const [first, ...others] = bundle.envelopes.map(({ source }) => senderOf(source));
  if (first === undefined || others.some((name) => name !== first)) return undefined;
  if (!isRelay(first)) return first;
  const [sender, another] = new Set(sendersIn(bundle, starts));
  return another === undefined ? sender : undefined;
}

/** The sender of each message. Of a relay, what settled messages were replaced by has no id, and counts as the others. */
function sendersIn(bundle: MessageBatch, starts: readonly number[]): string[] {
  const names = starts.map((start) => senderAt(bundle, start));
  const known = new Map(names.map((name) => [relayOfSender(name), name]));
  return names.map((name, index) =>
    idLengthAt(bundle.octets, starts[index] ?? 0) === 0 ? (known.get(name) ?? name) : name,
  );
}

/**
 * What a segment has of each sender: its messages, and the envelopes stored in its row, each with the first message that
 * uses it.
 */
function sendersOf(batch: Batch, apart: readonly boolean[]): SenderCount[] {
  const { bundle, starts, sizes, shares } = batch;
  const only = onlySenderOf(batch);
  if (only !== undefined) {
    const envelopes = shares.reduce((sum, share, number) => sum + (apart[number] === true ? 0 : share), 0);
    return [[only, sizes.length, octetsIn(batch) + envelopes]];
  }
  const sums = new Map<string, { messages: number; octets: number }>();
  const counted = new Set<number>();
  for (const [index, name] of sendersIn(bundle, starts).entries()) {
    const number = envelopeAt(bundle.octets, starts[index] ?? 0);
    const envelope = counted.has(number) || apart[number] === true ? 0 : (shares[number] ?? 0);
    counted.add(number);
    const sum = sums.get(name) ?? { messages: 0, octets: 0 };
    sums.set(name, sum);
    sum.messages += 1;
    sum.octets += lengthOf(bundle.octets, batch, index) + envelope;
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
const decoder = new TextDecoder();

/** Bytes of a text as stored. */
function utf8Length(text: string): number {
  return encoder.encode(text).length;
}
