/**
 * A plain stream's store: its log and what else must survive, in the object's SQLite. This is the only file of the
 * folder with SQL.
 *
 *   facts       what the stream is (JSON), how long it lives, what is still to be told to others
 *   log         a row for each append, or several for a long one, keyed by the position of its first byte or message;
 *               messages of JSON are separated by commas, and `ends` tells where each ends if there are several
 *   producers   the last request of each producer, by its writer and Producer-Id
 *   forks       the streams that were made of this one
 *   tickets     hashes of tickets, for whom they stand, and when they were issued and first used
 *
 * A store that was never written to has no tables, so looking at it leaves nothing behind. Tables that few streams need
 * are created when they do.
 *
 * Every call is one synchronous turn. Its writes are one transaction, and the platform's output gate holds every answer
 * back until they are durable.
 *
 * @module
 */
import { ownerOf, type Principal } from "../../auth/principal.ts";
import { roomFor } from "../../store-and-forward/sender-share.ts";
import { storedVersion } from "../../store-and-forward/stored-version.ts";
import type { Lifetime } from "../durable-streams/expiry.ts";
import { type Messages, sliceMessages } from "../durable-streams/json-mode.ts";
import { TICKET_REDEEM_TIME, TICKET_TIME, TICKETS, TICKETS_SHARE } from "../durable-streams/limits.ts";
import { inEpoch, type Lineage } from "../durable-streams/offset.ts";
import type { ProducerClaim, ProducerState } from "../durable-streams/producer.ts";
import { isGood } from "../durable-streams/tickets.ts";
import { PRODUCER_AGE, PRODUCERS, PRODUCERS_SHARE, ROW_OCTETS } from "./limits.ts";

/** The part of the platform's SqlStorage in use, so that tests can run the store on any SQLite. */
export interface Sql {
  exec(
    query: string,
    ...bindings: (string | number | null | ArrayBuffer | Uint8Array)[]
  ): Iterable<Record<string, unknown>> & { toArray(): Record<string, unknown>[] };
}

/** What a stream is. */
export interface Stream {
  readonly contentType: string;
  readonly lifetime: Lifetime;
  readonly lineage: Lineage;
  readonly closed: boolean;
  /** The request that closed it, if its producer has said so; `id` is the key of the producer. */
  readonly closedBy?: ProducerClaim | undefined;
  /** Deleted, but kept for its forks. */
  readonly deleted: boolean;
  /** Whose quota it counts against. */
  readonly owner?: string | undefined;
  /** What it was forked from, and how that was asked for. */
  readonly fork?: Fork | undefined;
  /** The last Stream-Seq. */
  readonly sequence?: string | undefined;
}

export interface Fork {
  readonly name: string;
  /** As asked for, and as found. */
  readonly offsets: readonly string[];
  readonly beyond: number;
}

/** What must still be told to others of a stream that was deleted. */
export interface Leaving {
  readonly source?: { readonly name: string; readonly incarnation: number } | undefined;
  readonly owner?: string | undefined;
}

/** A part of the log. */
export interface Run {
  /** In order: bytes, or messages separated by commas. */
  readonly runs: Uint8Array[];
  readonly octets: number;
  /** The position after it. */
  readonly next: number;
}

/** The version of the tables below. */
const VERSION = 1;

const FACTS = "CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID";
const LOG =
  "CREATE TABLE IF NOT EXISTS log (first INTEGER PRIMARY KEY, count INTEGER NOT NULL, time INTEGER NOT NULL, octets BLOB NOT NULL, ends BLOB)";
const PRODUCER_TABLE =
  "CREATE TABLE IF NOT EXISTS producers (id TEXT PRIMARY KEY, epoch INTEGER NOT NULL, seq INTEGER NOT NULL, time INTEGER NOT NULL) WITHOUT ROWID";
const FORKS = "CREATE TABLE IF NOT EXISTS forks (name TEXT PRIMARY KEY, incarnation INTEGER NOT NULL) WITHOUT ROWID";

const TICKET_TABLE =
  "CREATE TABLE IF NOT EXISTS tickets (hash TEXT PRIMARY KEY, principal TEXT NOT NULL, issued INTEGER NOT NULL, redeemed INTEGER) WITHOUT ROWID";

type Table = "facts" | "log" | "producers" | "forks" | "tickets";

export class StreamStore {
  readonly #sql: Sql;
  readonly #transaction: <T>(run: () => T) => T;
  #tables: Set<string>;
  #stream: Stream | undefined;
  #tail = 0;

  /** @throws NewerSchema if a later release has written the tables */
  constructor(sql: Sql, transaction: <T>(run: () => T) => T) {
    this.#sql = sql;
    this.#transaction = transaction;
    this.#tables = this.#existing();
    if (!this.#tables.has("facts")) return;
    storedVersion("a stream", this.fact("version"), VERSION);
    this.#beginEpoch();
    const text = this.fact("stream");
    if (text === undefined) return;
    const stream: Stream = JSON.parse(text);
    this.#stream = stream;
    const [last] = this.#sql.exec("SELECT first, count FROM log ORDER BY first DESC LIMIT 1").toArray();
    const { from = 0 } = stream.lineage[stream.lineage.length - 1] ?? {};
    this.#tail = last === undefined ? from : Number(last.first) + Number(last.count);
  }

  /**
   * Begins a new epoch if these tables are from a backup: what was appended after it is gone, and its offsets must never
   * name other data. All streams were restored at the same time, so forks and their sources still know each other.
   */
  #beginEpoch(): void {
    const text = this.fact("restored");
    if (text === undefined) return;
    const restored = Number(text);
    this.#transaction(() => {
      const stream = this.fact("stream");
      if (stream !== undefined) {
        const { lineage, ...rest }: Stream = JSON.parse(stream);
        const moved = { ...rest, lineage: lineage.map((stretch) => inEpoch(stretch, restored)) };
        this.setFact("stream", JSON.stringify(moved));
      }
      const { leaving } = this;
      if (leaving?.source !== undefined) {
        this.setFact("leaving", JSON.stringify({ ...leaving, source: inEpoch(leaving.source, restored) }));
      }
      for (const [name, incarnation] of this.forks())
        this.addFork(name, inEpoch({ incarnation }, restored).incarnation);
      this.#sql.exec("DELETE FROM facts WHERE name = 'restored'");
    });
  }

  /** Undefined if there is none. */
  get stream(): Stream | undefined {
    return this.#stream;
  }

  /** The position after the last byte or message. */
  get tail(): number {
    return this.#tail;
  }

  /** Runs several writes as one transaction. If one throws, nothing is written, and memory is as before. */
  together<T>(run: () => T): T {
    const [stream, tail] = [this.#stream, this.#tail];
    try {
      return this.#transaction(run);
    } catch (error) {
      [this.#stream, this.#tail] = [stream, tail];
      this.#tables = this.#existing();
      throw error;
    }
  }

  create(stream: Stream): void {
    this.#table("facts", FACTS);
    this.#table("log", LOG);
    if (this.fact("version") === undefined) this.setFact("version", String(VERSION));
    this.#stream = stream;
    this.#tail = stream.lineage[stream.lineage.length - 1]?.from ?? 0;
    this.#keep();
  }

  change(changes: Partial<Stream>): void {
    if (this.#stream === undefined) throw new Error("there is no stream to change");
    this.#stream = { ...this.#stream, ...changes };
    this.#keep();
  }

  #keep(): void {
    this.setFact("stream", JSON.stringify(this.#stream));
  }

  /** Deletes everything but what must still be told to others. */
  clear(leaving: Leaving): void {
    for (const table of ["log", "producers", "forks", "tickets"] as const) {
      if (this.#tables.delete(table)) this.#sql.exec(`DROP TABLE ${table}`);
    }
    this.#sql.exec("DELETE FROM facts");
    this.setFact("version", String(VERSION));
    if (leaving.owner !== undefined || leaving.source !== undefined) this.setFact("leaving", JSON.stringify(leaving));
    this.#stream = undefined;
    this.#tail = 0;
  }

  /** What must still be told to others; undefined if nothing is. */
  get leaving(): Leaving | undefined {
    const text = this.fact("leaving");
    return text === undefined ? undefined : JSON.parse(text);
  }

  /** After the storage was deleted as a whole. */
  forget(): void {
    this.#tables = new Set();
    this.#stream = undefined;
    this.#tail = 0;
  }

  fact(name: string): string | undefined {
    if (!this.#tables.has("facts")) return undefined;
    const [row] = this.#sql.exec("SELECT value FROM facts WHERE name = ?", name).toArray();
    return row === undefined ? undefined : String(row.value);
  }

  setFact(name: string, value: string): void {
    this.#sql.exec("INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)", name, value);
  }

  removeFact(name: string): void {
    if (this.#tables.has("facts")) this.#sql.exec("DELETE FROM facts WHERE name = ?", name);
  }

  /** Appends bytes. @param now milliseconds since 1970 */
  appendOctets(octets: Uint8Array, now: number): void {
    for (let at = 0; at < octets.length; at += ROW_OCTETS) {
      const row = octets.subarray(at, at + ROW_OCTETS);
      this.#insert(row, row.length, null, now);
    }
  }

  /** Appends messages, as many to a row as fit. */
  appendMessages(messages: Messages, now: number): void {
    const { ends } = messages;
    for (let first = 0; first < ends.length; ) {
      const start = first === 0 ? 0 : (ends[first - 1] ?? 0) + 1;
      let next = first + 1;
      while (next < ends.length && (ends[next] ?? 0) - start <= ROW_OCTETS) next += 1;
      const own = ends.slice(first, next).map((end) => end - start);
      this.#insert(sliceMessages(messages, first, next), next - first, own.length > 1 ? packEnds(own) : null, now);
      first = next;
    }
  }

  #insert(octets: Uint8Array, count: number, ends: ArrayBuffer | null, now: number): void {
    this.#sql.exec(
      "INSERT INTO log (first, count, time, octets, ends) VALUES (?, ?, ?, ?, ?)",
      this.#tail,
      count,
      now,
      octets,
      ends,
    );
    this.#tail += count;
  }

  /**
   * Reads what the stream itself has stored, in whole rows until they have `limit` bytes or more.
   *
   * @param from position, not before the first row
   * @param end position before which the read ends
   */
  read(from: number, end: number, limit: number, isJson: boolean): Run {
    const runs: Uint8Array[] = [];
    let [octets, next] = [0, from];
    if (from < Math.min(end, this.#tail)) {
      const query =
        "SELECT first, count, octets, ends FROM log WHERE first >= (SELECT MAX(first) FROM log WHERE first <= ?) AND first < ? ORDER BY first";
      for (const row of this.#sql.exec(query, from, end)) {
        const [first, count] = [Number(row.first), Number(row.count)];
        const run = part(octetsOf(row.octets), row.ends, count, {
          from: Math.max(0, from - first),
          to: Math.min(count, end - first),
          isJson,
        });
        runs.push(run);
        octets += run.length;
        next = Math.min(first + count, end);
        if (octets >= limit) break;
      }
    }
    return { runs, octets, next };
  }

  /** Where the row ends that contains what follows a position; undefined at the tail. */
  boundaryAfter(position: number): number | undefined {
    if (position >= this.#tail) return undefined;
    const query = "SELECT first, count FROM log WHERE first <= ? ORDER BY first DESC LIMIT 1";
    const [row] = this.#sql.exec(query, position).toArray();
    return row === undefined ? undefined : Number(row.first) + Number(row.count);
  }

  /** What is known of a producer. @param writer whose it is: each writer's ids are its own */
  producer(writer: string, id: string): ProducerState | undefined {
    if (!this.#tables.has("producers")) return undefined;
    const key = producerKey(writer, id);
    const [row] = this.#sql.exec("SELECT epoch, seq FROM producers WHERE id = ?", key).toArray();
    return row === undefined ? undefined : { epoch: Number(row.epoch), seq: Number(row.seq) };
  }

  /**
   * Whether another producer of a writer may be remembered: each writer has a share of what is free. If need be, all that
   * were silent for long enough are forgotten.
   */
  hasRoomForProducer(writer: string, now: number): boolean {
    if (!this.#tables.has("producers") || this.#hasShareForProducer(writer)) return true;
    this.#sql.exec("DELETE FROM producers WHERE time <= ?", now - PRODUCER_AGE);
    return this.#hasShareForProducer(writer);
  }

  #hasShareForProducer(writer: string): boolean {
    const [all] = this.#sql.exec("SELECT COUNT(*) AS count FROM producers").toArray();
    // Keys of the writer are those between the line feed that ends its name and the next character.
    const ofWriter = "SELECT COUNT(*) AS count FROM producers WHERE id > ? AND id < ?";
    const [own] = this.#sql.exec(ofWriter, `${writer}\n`, `${writer}\v`).toArray();
    return hasShare(Number(own?.count), Number(all?.count), PRODUCERS, PRODUCERS_SHARE);
  }

  setProducer(writer: string, id: string, { epoch, seq }: ProducerState, now: number): void {
    this.#table("producers", PRODUCER_TABLE);
    const insert = "INSERT OR REPLACE INTO producers (id, epoch, seq, time) VALUES (?, ?, ?, ?)";
    this.#sql.exec(insert, producerKey(writer, id), epoch, seq, now);
  }

  /**
   * Keeps a ticket, by its hash. Forgets those that are no longer valid. Each reader has a share of what is free.
   *
   * @returns whether there was room for it
   */
  addTicket(hash: string, principal: Principal, now: number): boolean {
    this.#table("tickets", TICKET_TABLE);
    this.#sql.exec(
      "DELETE FROM tickets WHERE issued <= ? OR (redeemed IS NULL AND issued <= ?)",
      now - TICKET_TIME,
      now - TICKET_REDEEM_TIME,
    );
    const held = this.#sql.exec("SELECT principal ->> 'id' AS id, principal ->> 'subject' AS subject FROM tickets");
    const owners = held.toArray().map(({ id, subject }) => ownerOf({ id: String(id), subject: String(subject) }));
    const own = owners.filter((owner) => owner === ownerOf(principal)).length;
    if (!hasShare(own, owners.length, TICKETS, TICKETS_SHARE)) return false;
    this.#sql.exec(
      "INSERT INTO tickets (hash, principal, issued) VALUES (?, ?, ?)",
      hash,
      JSON.stringify(principal),
      now,
    );
    return true;
  }

  /** Whom a ticket stands for, and notes its first use; undefined if it is not valid. */
  redeemTicket(hash: string, now: number): Principal | undefined {
    if (!this.#tables.has("tickets")) return undefined;
    const [row] = this.#sql.exec("SELECT principal, issued, redeemed FROM tickets WHERE hash = ?", hash).toArray();
    if (row === undefined) return undefined;
    const redeemed = row.redeemed === null ? undefined : Number(row.redeemed);
    if (!isGood({ issued: Number(row.issued), redeemed }, now)) return undefined;
    if (row.redeemed === null) this.#sql.exec("UPDATE tickets SET redeemed = ? WHERE hash = ?", now, hash);
    return JSON.parse(String(row.principal));
  }

  /** The forks of this stream, and their incarnations. */
  forks(): [name: string, incarnation: number][] {
    if (!this.#tables.has("forks")) return [];
    const rows = this.#sql.exec("SELECT name, incarnation FROM forks").toArray();
    return rows.map(({ name, incarnation }) => [String(name), Number(incarnation)]);
  }

  addFork(name: string, incarnation: number): void {
    this.#table("forks", FORKS);
    this.#sql.exec("INSERT OR REPLACE INTO forks (name, incarnation) VALUES (?, ?)", name, incarnation);
  }

  removeFork(name: string, incarnation: number): void {
    if (!this.#tables.has("forks")) return;
    this.#sql.exec("DELETE FROM forks WHERE name = ? AND incarnation = ?", name, incarnation);
  }

  #existing(): Set<string> {
    const rows = this.#sql.exec("SELECT name FROM sqlite_master WHERE type = 'table'").toArray();
    return new Set(rows.map(({ name }) => String(name)));
  }

  #table(name: Table, create: string): void {
    if (this.#tables.has(name)) return;
    this.#sql.exec(create);
    this.#tables.add(name);
  }
}

/** The key of a producer's state. A Producer-Id, being a header, has no line feed, so two writers never share one. */
export function producerKey(writer: string, id: string): string {
  return `${writer}\n${id}`;
}

/**
 * Whether one of several may have another of something.
 *
 * @param own how many it has
 * @param all how many all have
 * @param most how many there may be
 * @param share the part of what is free that one alone may have
 */
function hasShare(own: number, all: number, most: number, share: number): boolean {
  const amount = (count: number) => ({ octets: 0, messages: count });
  return roomFor(amount(own), amount(all), { ...amount(most), share }).messages > 0;
}

/** A part of a row: of its bytes, or of its messages. */
function part(
  octets: Uint8Array,
  ends: unknown,
  count: number,
  { from, to, isJson }: { readonly from: number; readonly to: number; readonly isJson: boolean },
): Uint8Array {
  if (from === 0 && to === count) return octets;
  if (!isJson) return octets.subarray(from, to);
  return sliceMessages({ octets, ends: ends === null ? [octets.length] : unpackEnds(octetsOf(ends)) }, from, to);
}

function packEnds(ends: readonly number[]): ArrayBuffer {
  const packed = new DataView(new ArrayBuffer(ends.length * 4));
  for (const [at, end] of ends.entries()) packed.setUint32(at * 4, end);
  return packed.buffer;
}

function unpackEnds(packed: Uint8Array): number[] {
  const view = new DataView(packed.buffer, packed.byteOffset, packed.length);
  return Array.from({ length: packed.length / 4 }, (_, at) => view.getUint32(at * 4));
}

/** A BLOB, as the platform or Node reads it. */
function octetsOf(value: unknown): Uint8Array {
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  if (value instanceof Uint8Array) return value;
  throw new Error("the row has no octets");
}
