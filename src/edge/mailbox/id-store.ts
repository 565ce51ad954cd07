/**
 * Remembers message ids, to detect duplicates: a table of the mailbox's store, looked up by index and never loaded
 * whole.
 *
 *   ids      ranges of ids that differ only in their number (`low` to `high`), or one id without a number (-1)
 *   senders  bytes that the ids of each sender take
 *
 * A sender with sequential ids costs one row, whose `high` grows. After {@link RANGE_TIME} a new row begins, so that
 * old ids expire while the sender keeps counting.
 *
 * Each sender may use as much as is left free (see `store-and-forward/sender-share.ts`). Beyond that its own oldest ids are
 * forgotten, never those of another sender.
 *
 * A batch is looked up once and then queried message by message, which writes nothing. `flush` writes what was added,
 * and must run in one transaction with the messages. Where ranges have only grown (`hasOnlyGrown`) it may come later, as
 * long as the messages wait: their ids can be learned from them again.
 *
 * @module
 */

import { senderOf } from "../../store-and-forward/sender-share.ts";
import { ID_OCTETS, ID_ROW_OCTETS, KEPT_RANGES, RANGE_TIME, REMEMBER_IDS } from "./limits.ts";
import { type Ids, NONE, type Series } from "./seen-ids.ts";

/** SQL access of a store. */
export interface Statements {
  /** Reads rows; `Row` has the columns that the query names. */
  all<Row extends object>(query: string, ...bindings: (string | number)[]): Row[];
  /** Writes rows, or makes a table. */
  add(query: string, ...bindings: (string | number | Uint8Array)[]): void;
  /** Changes or deletes rows. */
  change(query: string, ...bindings: (string | number | Uint8Array)[]): void;
}

/** Key columns, without the sender's number. */
interface Key {
  readonly tail: string;
  readonly head: string;
}

/** A range of consecutive ids. An empty one has a `high` below any number. */
interface IdRange extends Key {
  readonly low: number;
  high: number;
  readonly at: number;
  /** Numbers above `high` and below this one are not remembered. */
  free: number;
  /** The stored `high`; undefined if there is no row. */
  written: number | undefined;
}

interface Sender {
  readonly name: string;
  /** Undefined until stored. */
  number: number | undefined;
  octets: number;
  writtenOctets: number;
  /** Cached ranges of each series. Each is authoritative from its `low` up to its `free`. */
  readonly ranges: Map<string, IdRange[]>;
  /** Ids without a number, by tail: those found by `lookUp`, and those to be written. */
  readonly plain: Map<string, { readonly known: Set<string>; readonly added: Set<string> }>;
}

export const ID_SCHEMA = `
  CREATE TABLE ids (
    sender INTEGER NOT NULL, tail TEXT NOT NULL, head TEXT NOT NULL, low INTEGER NOT NULL, high INTEGER NOT NULL,
    at INTEGER NOT NULL, PRIMARY KEY (sender, tail, head, low)) WITHOUT ROWID;
  CREATE TABLE senders (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, octets INTEGER NOT NULL);
`;

interface IdRow extends Key {
  /** Number of the sender in `senders`. */
  readonly sender: number;
  readonly low: number;
  readonly high: number;
  /** When it was added, in milliseconds since 1970 times {@link STAMPS}. */
  readonly at: number;
}

interface SenderRow {
  readonly number: number;
  readonly name: string;
  readonly octets: number;
}

/** A sum over rows; null if there are none. */
interface SumRow {
  readonly octets: number | null;
}

/** Steps per millisecond, so that the oldest id of a batch can be told from the newest. */
const STAMPS = 1000;

/** A sender's oldest ids are forgotten an eighth at a time: finding them scans all of its ids. */
const FORGOTTEN_PART = 8;

/** Characters of ids in one bound value. JSON makes them at most six times as long, and the platform allows 2 MB. */
const VALUE_CHARACTERS = 256 * 1024;

/** Where to look for a series. A sender's devices have separate ids, but one share. */
interface Found extends Key {
  readonly series: Series;
  readonly sender: Sender;
  readonly key: string;
  /** The last range used. For a sender with sequential ids it is also the next. */
  range: IdRange | undefined;
}

export class IdTable {
  readonly #sql: Statements;
  readonly #capacity: number;
  readonly #senders = new Map<string, Sender>();
  /** Bytes of all ids; undefined until needed. */
  #octets: number | undefined;
  /** Ranges and senders with unwritten changes. */
  readonly #dirtyRanges = new Map<IdRange, Sender>();
  readonly #dirtySenders = new Set<Sender>();
  #kept = 0;
  #stamp = 0;
  /** The last series, which is often the next one too. */
  #last: Found | undefined;

  constructor(sql: Statements, capacity = ID_OCTETS) {
    this.#sql = sql;
    this.#capacity = capacity;
  }

  /** Looks up a batch's ids without numbers in one go. `isKnown` may be called for no other id of that kind. */
  lookUp({ series, numbers }: Ids): void {
    if (this.#kept > KEPT_RANGES) this.#forgetWritten();
    const wanted = new Map<Sender, Map<string, string[]>>();
    for (const [at, one] of series.entries()) {
      if (one === undefined || numbers[at] !== NONE) continue;
      const { sender, tail, head } = this.#find(one);
      let tails = wanted.get(sender);
      if (tails === undefined) {
        tails = new Map();
        wanted.set(sender, tails);
      }
      const heads = tails.get(tail);
      if (heads === undefined) tails.set(tail, [head]);
      else heads.push(head);
    }
    for (const [sender, tails] of wanted) {
      sender.plain.clear();
      for (const [tail, heads] of tails)
        sender.plain.set(tail, { known: this.#known(sender, tail, heads), added: new Set() });
    }
  }

  #known({ number }: Sender, tail: string, heads: readonly string[]): Set<string> {
    const known = new Set<string>();
    if (number === undefined) return known;
    const query =
      "SELECT value FROM json_each(?) AS wanted CROSS JOIN ids ON sender = ? AND tail = ? AND head = wanted.value AND low = ?";
    for (const some of parts(heads)) {
      const rows = this.#sql.all<{ readonly value: string }>(query, JSON.stringify(some), number, tail, NONE);
      for (const { value } of rows) known.add(value);
    }
    return known;
  }

  isKnown(series: Series, number: number): boolean {
    const found = this.#find(series);
    if (number === NONE) {
      const { sender, tail, head } = found;
      const plain = sender.plain.get(tail);
      return plain !== undefined && (plain.known.has(head) || plain.added.has(head));
    }
    const { low, high } = this.#rangeAt(found, number);
    return number >= low && number <= high;
  }

  /** Remembers an unknown id. */
  add(series: Series, number: number, now: number): void {
    const found = this.#find(series);
    const { sender, key, tail, head } = found;
    if (number === NONE) {
      sender.plain.get(tail)?.added.add(head);
      this.#dirtySenders.add(sender);
      return;
    }
    const before = this.#rangeAt(found, number);
    if (before.high === number - 1 && before.at > (now - RANGE_TIME) * STAMPS) {
      before.high = number;
      this.#dirtyRanges.set(before, sender);
      return;
    }
    const { free } = before;
    const range = { tail, head, low: number, high: number, at: this.#age(now), free, written: undefined };
    before.free = number;
    sender.ranges.get(key)?.push(range);
    found.range = range;
    this.#dirtyRanges.set(range, sender);
    this.#dirtySenders.add(sender);
  }

  /** Whether nothing was added but further numbers of ranges that have a row. */
  get hasOnlyGrown(): boolean {
    return this.#dirtySenders.size === 0;
  }

  /** Minimum number of rows that `flush` would write. */
  get pending(): number {
    let plain = 0;
    for (const sender of this.#dirtySenders) plain += 1 + sender.plain.size;
    return this.#dirtyRanges.size + plain;
  }

  /** Writes what was added. */
  flush(now: number): void {
    for (const sender of this.#dirtySenders) {
      for (const [tail, { added }] of sender.plain) this.#insertPlain(sender, tail, [...added], now);
      sender.plain.clear();
    }
    this.flushRanges();
  }

  /** Writes the ids that have a number. There may be no others to write. */
  flushRanges(): void {
    for (const [range, sender] of this.#dirtyRanges) this.#write(range, sender);
    this.#dirtyRanges.clear();
    for (const sender of this.#dirtySenders) this.#bound(sender);
    this.#dirtySenders.clear();
    if (this.#kept > KEPT_RANGES) this.forgetMemory();
  }

  /** Forgets ids older than a time. */
  forgetBefore(time: number): void {
    const before = time * STAMPS;
    const gone = this.#sql.all<{ readonly sender: number; readonly octets: number }>(
      `SELECT sender, sum(${ROW_OCTETS}) AS octets FROM ids WHERE at < ? GROUP BY sender`,
      before,
    );
    if (gone.length === 0) return;
    this.forgetMemory();
    this.#sql.change("DELETE FROM ids WHERE at < ?", before);
    for (const { sender, octets } of gone) {
      this.#sql.change("UPDATE senders SET octets = octets - ? WHERE number = ?", octets, sender);
    }
    this.#sql.change("DELETE FROM senders WHERE NOT EXISTS (SELECT 1 FROM ids WHERE sender = number)");
  }

  /** When the oldest id expires; undefined if there is none. */
  get expiry(): number | undefined {
    const [oldest] = this.#sql.all<{ readonly at: number | null }>("SELECT min(at) AS at FROM ids");
    const at = oldest?.at ?? undefined;
    // A range's newest id is younger than its row.
    return at === undefined ? undefined : Math.floor(at / STAMPS) + 1 + REMEMBER_IDS + RANGE_TIME;
  }

  /** Empties the cache, which the tables refill. Unwritten additions are lost. */
  forgetMemory(): void {
    this.#senders.clear();
    this.#dirtyRanges.clear();
    this.#dirtySenders.clear();
    this.#octets = undefined;
    this.#kept = 0;
    this.#last = undefined;
  }

  /**
   * Empties the cache but for what is not written yet. Ids of refused messages are cached too, and a sender that is
   * locked out may send any number of them.
   */
  #forgetWritten(): void {
    const unwritten = [...this.#dirtyRanges];
    for (const sender of this.#senders.values()) {
      sender.ranges.clear();
      sender.plain.clear();
    }
    this.#senders.clear();
    for (const [range, sender] of unwritten) {
      this.#senders.set(sender.name, sender);
      const key = `${range.tail}\n${range.head}`;
      const kept = sender.ranges.get(key);
      if (kept === undefined) sender.ranges.set(key, [range]);
      else kept.push(range);
    }
    this.#kept = this.#senders.size + unwritten.length;
    this.#last = undefined;
  }

  #find(series: Series): Found {
    if (this.#last?.series === series) return this.#last;
    const name = senderOf(series.source);
    let sender = this.#senders.get(name);
    if (sender === undefined) {
      const [row] = this.#sql.all<Pick<SenderRow, "number" | "octets">>(
        "SELECT number, octets FROM senders WHERE name = ?",
        name,
      );
      const octets = row?.octets ?? 0;
      sender = { name, number: row?.number, octets, writtenOctets: octets, ranges: new Map(), plain: new Map() };
      this.#senders.set(name, sender);
      this.#kept += 1;
    }
    const tail = `${series.source.slice(name.length)}\n${series.tail}`;
    const { head } = series;
    this.#last = { series, sender, tail, head, key: `${tail}\n${head}`, range: undefined };
    return this.#last;
  }

  /** Returns the range that contains a number, or the last one before it. */
  #rangeAt(found: Found, number: number): IdRange {
    const { sender, key, tail, head, range: last } = found;
    if (last !== undefined && number >= last.low && number < last.free) return last;
    let kept = sender.ranges.get(key);
    if (kept === undefined) {
      kept = [];
      sender.ranges.set(key, kept);
    }
    // For sequential ids it is the last one.
    for (let at = kept.length - 1; at >= 0; at -= 1) {
      const range = kept[at];
      if (range !== undefined && number >= range.low && number < range.free) {
        found.range = range;
        return range;
      }
    }
    const range = this.#readRange(sender, { tail, head }, number);
    for (const { low } of kept) if (low > number) range.free = Math.min(range.free, low);
    kept.push(range);
    this.#kept += 1;
    found.range = range;
    return range;
  }

  #readRange({ number: sender }: Sender, { tail, head }: Key, number: number): IdRange {
    const empty = { tail, head, low: 0, high: NONE, at: 0, free: Number.POSITIVE_INFINITY, written: undefined };
    if (sender === undefined) return empty;
    const ofSeries = "SELECT low, high, at FROM ids WHERE sender = ? AND tail = ? AND head = ?";
    const [row] = this.#sql.all<Pick<IdRow, "low" | "high" | "at">>(
      `${ofSeries} AND low BETWEEN 0 AND ? ORDER BY low DESC LIMIT 1`,
      sender,
      tail,
      head,
      number,
    );
    const [after] = this.#sql.all<Pick<IdRow, "low">>(
      `${ofSeries} AND low > ? ORDER BY low LIMIT 1`,
      sender,
      tail,
      head,
      number,
    );
    const free = after?.low ?? Number.POSITIVE_INFINITY;
    if (row === undefined) return { ...empty, free };
    const { low, high, at } = row;
    return { tail, head, low, high, at, free, written: high };
  }

  #write(range: IdRange, sender: Sender): void {
    const { tail, head, low, high } = range;
    if (range.written === undefined) {
      if (!this.#hasRoom(sender)) return;
      this.#insert(sender, range);
    } else if (sender.number !== undefined) {
      this.#sql.change(
        "UPDATE ids SET high = ? WHERE sender = ? AND tail = ? AND head = ? AND low = ?",
        high,
        sender.number,
        tail,
        head,
        low,
      );
    }
    range.written = high;
  }

  #insertPlain(sender: Sender, tail: string, heads: readonly string[], now: number): void {
    for (const some of parts(heads)) {
      if (!this.#hasRoom(sender)) return;
      const number = this.#numberOf(sender);
      const from = this.#age(now);
      this.#stamp += some.length;
      this.#sql.add(
        "INSERT INTO ids (sender, tail, head, low, high, at) SELECT ?, ?, value, ?, ?, ? + key FROM json_each(?)",
        number,
        tail,
        NONE,
        NONE,
        from,
        JSON.stringify(some),
      );
      this.#addOctets(
        sender,
        some.reduce((sum, head) => sum + tail.length + head.length + ID_ROW_OCTETS, 0),
      );
      this.#bound(sender);
    }
  }

  #addOctets(sender: Sender, octets: number): void {
    sender.octets += octets;
    this.#octets = this.#all() + octets;
    this.#dirtySenders.add(sender);
  }

  #insert(sender: Sender, { tail, head, low, high, at }: Omit<IdRange, "free" | "written">): void {
    this.#sql.add(
      "INSERT INTO ids (sender, tail, head, low, high, at) VALUES (?, ?, ?, ?, ?, ?)",
      this.#numberOf(sender),
      tail,
      head,
      low,
      high,
      at,
    );
    this.#addOctets(sender, tail.length + head.length + ID_ROW_OCTETS);
  }

  /** Whether a sender may store another id. A new sender is not added if nothing is free. */
  #hasRoom(sender: Sender): boolean {
    return sender.number !== undefined || this.#all() < this.#capacity;
  }

  #numberOf(sender: Sender): number {
    if (sender.number !== undefined) return sender.number;
    this.#sql.add("INSERT INTO senders (name, octets) VALUES (?, 0)", sender.name);
    const [row] = this.#sql.all<Pick<SenderRow, "number">>("SELECT number FROM senders WHERE name = ?", sender.name);
    if (row === undefined) throw new TypeError("a sender of the mailbox was not stored");
    sender.number = row.number;
    sender.octets = sender.name.length + ID_ROW_OCTETS;
    this.#octets = this.#all() + sender.octets;
    return row.number;
  }

  /** Forgets a sender's oldest ids until it has no more than is free, and stores its size. */
  #bound(sender: Sender): void {
    const { number } = sender;
    if (number === undefined) return;
    while (sender.octets > this.#capacity - this.#all()) {
      const [rows] = this.#sql.all<{ readonly count: number }>(
        "SELECT count(*) AS count FROM ids WHERE sender = ?",
        number,
      );
      const [upTo] = this.#sql.all<Pick<IdRow, "at">>(
        "SELECT at FROM ids WHERE sender = ? ORDER BY at LIMIT 1 OFFSET ?",
        number,
        Math.max(0, Math.floor(((rows?.count ?? 0) - 1) / FORGOTTEN_PART)),
      );
      if (upTo === undefined) break;
      const [sum] = this.#sql.all<SumRow>(
        `SELECT sum(${ROW_OCTETS}) AS octets FROM ids WHERE sender = ? AND at <= ?`,
        number,
        upTo.at,
      );
      const gone = sum?.octets ?? 0;
      this.#sql.change("DELETE FROM ids WHERE sender = ? AND at <= ?", number, upTo.at);
      sender.octets -= gone;
      this.#octets = this.#all() - gone;
      sender.ranges.clear();
      this.#last = undefined;
    }
    if (sender.octets === sender.writtenOctets) return;
    sender.writtenOctets = sender.octets;
    this.#sql.change("UPDATE senders SET octets = ? WHERE number = ?", sender.octets, number);
  }

  #all(): number {
    if (this.#octets === undefined) {
      const [sum] = this.#sql.all<SumRow>("SELECT sum(octets) AS octets FROM senders");
      this.#octets = sum?.octets ?? 0;
    }
    return this.#octets;
  }

  #age(now: number): number {
    this.#stamp = Math.max(this.#stamp + 1, now * STAMPS);
    return this.#stamp;
  }
}

const ROW_OCTETS = `length(tail) + length(head) + ${ID_ROW_OCTETS}`;

/** Splits texts into parts small enough for one bound value. */
function* parts(texts: readonly string[]): Generator<readonly string[]> {
  let begin = 0;
  let length = 0;
  for (const [at, text] of texts.entries()) {
    if (length + text.length > VALUE_CHARACTERS) {
      yield texts.slice(begin, at);
      begin = at;
      length = 0;
    }
    length += text.length;
  }
  if (begin < texts.length) yield texts.slice(begin);
}
