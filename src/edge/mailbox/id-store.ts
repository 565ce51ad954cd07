/**
 * The ids that a mailbox remembers, to know what is sent again: a table of its store, looked up by index and never loaded.
 *
 *   ids      ranges of ids that differ in their number alone (`low` to `high`), or one without a number (-1)
 *   senders  how many octets the ids of each sender take
 *
 * A sender that counts costs one row, whose `high` grows. After {@link RANGE_TIME} another is begun, so that ids are
 * forgotten by age though their sender goes on counting.
 *
 * Each sender may fill as much as nobody has filled (see `store-and-forward/share.ts`); beyond it its own oldest ids are forgotten,
 * never those of another.
 *
 * A batch is looked up and then asked about message by message. Nothing of that writes: `flush` writes what was added,
 * which must be in one transaction with the messages.
 *
 * @module
 */

import { senderOf } from "../../store-and-forward/share.ts";
import { ID_OCTETS, ID_ROW_OCTETS, KEPT_RANGES, RANGE_TIME, REMEMBER_IDS } from "./limits.ts";
import { type Ids, NONE, type Series } from "./seen-ids.ts";

/** The statements of a store. */
export interface Statements {
  all(query: string, ...bindings: (string | number)[]): Record<string, unknown>[];
  run(query: string, ...bindings: (string | number | Uint8Array)[]): number;
}

/** The columns of the key, with the sender's number. */
interface Key {
  readonly tail: string;
  readonly head: string;
}

/** Ids whose numbers follow each other. In one that stands for none `high` is below any number. */
interface IdRange extends Key {
  readonly low: number;
  high: number;
  readonly at: number;
  /** Numbers above `high` and below this one are not remembered. */
  free: number;
  /** How far it is written down; undefined when its row is not there. */
  written: number | undefined;
}

interface Sender {
  readonly name: string;
  /** Undefined until it is written down. */
  number: number | undefined;
  octets: number;
  writtenOctets: number;
  /** Ranges of each series that were asked for last; from its `low` up to its `free` each tells all. */
  readonly ranges: Map<string, IdRange[]>;
  /** Ids without a number, by tail: those that were looked up and are remembered, and those that are to be written. */
  readonly plain: Map<string, { readonly known: Set<string>; readonly added: Set<string> }>;
}

export const ID_SCHEMA = `
  CREATE TABLE ids (
    sender INTEGER NOT NULL, tail TEXT NOT NULL, head TEXT NOT NULL, low INTEGER NOT NULL, high INTEGER NOT NULL,
    at INTEGER NOT NULL, PRIMARY KEY (sender, tail, head, low)) WITHOUT ROWID;
  CREATE TABLE senders (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, octets INTEGER NOT NULL);
`;

/** Ages are kept finer than the clock, so that the oldest of a batch can be told from the newest. */
const STAMPS = 1000;

/** The part of a sender's oldest ids that are forgotten at once: to find them costs a look at all of them. */
const FORGOTTEN_PART = 8;

/** Characters of ids in one value: written as JSON they are at most six times as long, and the platform allows 2 MB. */
const VALUE_CHARACTERS = 256 * 1024;

/** Where a series is looked for. The devices of a sender have their ids apart, though they have their share together. */
interface Found extends Key {
  readonly series: Series;
  readonly sender: Sender;
  readonly key: string;
  /** The range that was asked for last: for a sender that counts, the one that is asked for next. */
  range: IdRange | undefined;
}

export class IdTable {
  readonly #sql: Statements;
  readonly #capacity: number;
  readonly #senders = new Map<string, Sender>();
  /** Octets of all ids; undefined until somebody has asked. */
  #octets: number | undefined;
  /** Ranges and senders with something to write. */
  readonly #dirtyRanges = new Map<IdRange, Sender>();
  readonly #dirtySenders = new Set<Sender>();
  #kept = 0;
  #stamp = 0;
  /** What was asked for last is often what comes next. */
  #last: Found | undefined;

  constructor(sql: Statements, capacity = ID_OCTETS) {
    this.#sql = sql;
    this.#capacity = capacity;
  }

  /** Looks up the ids of a batch that have no number, together. `isKnown` may be asked about no others of that kind. */
  lookUp({ series, numbers }: Ids): void {
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
      for (const { value } of this.#sql.all(query, JSON.stringify(some), number, tail, NONE)) known.add(String(value));
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

  /** Remembers an id that is not known. */
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

  /** How many rows `flush` would write at least. */
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
    for (const [range, sender] of this.#dirtyRanges) this.#write(range, sender);
    this.#dirtyRanges.clear();
    for (const sender of this.#dirtySenders) this.#bound(sender);
    this.#dirtySenders.clear();
    if (this.#kept > KEPT_RANGES) this.forgetMemory();
  }

  /** Forgets ids that came before a time. */
  forgetBefore(time: number): void {
    const before = time * STAMPS;
    const gone = this.#sql.all(
      `SELECT sender, sum(${ROW_OCTETS}) AS octets FROM ids WHERE at < ? GROUP BY sender`,
      before,
    );
    if (gone.length === 0) return;
    this.forgetMemory();
    this.#sql.run("DELETE FROM ids WHERE at < ?", before);
    for (const { sender, octets } of gone) {
      this.#sql.run("UPDATE senders SET octets = octets - ? WHERE number = ?", Number(octets), Number(sender));
    }
    this.#sql.run("DELETE FROM senders WHERE NOT EXISTS (SELECT 1 FROM ids WHERE sender = number)");
  }

  /** When the oldest id is old enough to be forgotten; undefined when there is none. */
  get expiry(): number | undefined {
    const [row] = this.#sql.all("SELECT min(at) AS at FROM ids");
    // The newest of a range is younger than its row.
    return row?.at === null || row?.at === undefined
      ? undefined
      : Math.floor(Number(row.at) / STAMPS) + 1 + REMEMBER_IDS + RANGE_TIME;
  }

  /** Memory is a cache of what is written: it is filled again. What was added and not written is forgotten. */
  forgetMemory(): void {
    this.#senders.clear();
    this.#dirtyRanges.clear();
    this.#dirtySenders.clear();
    this.#octets = undefined;
    this.#kept = 0;
    this.#last = undefined;
  }

  #find(series: Series): Found {
    if (this.#last?.series === series) return this.#last;
    const name = senderOf(series.source);
    let sender = this.#senders.get(name);
    if (sender === undefined) {
      const [row] = this.#sql.all("SELECT number, octets FROM senders WHERE name = ?", name);
      const octets = Number(row?.octets ?? 0);
      const number = row === undefined ? undefined : Number(row.number);
      sender = { name, number, octets, writtenOctets: octets, ranges: new Map(), plain: new Map() };
      this.#senders.set(name, sender);
      this.#kept += 1;
    }
    const tail = `${series.source.slice(name.length)}\n${series.tail}`;
    const { head } = series;
    this.#last = { series, sender, tail, head, key: `${tail}\n${head}`, range: undefined };
    return this.#last;
  }

  /** The range that a number is in, or else the last one before it. */
  #rangeAt(found: Found, number: number): IdRange {
    const { sender, key, tail, head, range: last } = found;
    if (last !== undefined && number >= last.low && number < last.free) return last;
    let kept = sender.ranges.get(key);
    if (kept === undefined) {
      kept = [];
      sender.ranges.set(key, kept);
    }
    // Of a sender that counts it is the last one.
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
    const [row] = this.#sql.all(
      `${ofSeries} AND low BETWEEN 0 AND ? ORDER BY low DESC LIMIT 1`,
      sender,
      tail,
      head,
      number,
    );
    const [after] = this.#sql.all(`${ofSeries} AND low > ? ORDER BY low LIMIT 1`, sender, tail, head, number);
    const free = after === undefined ? Number.POSITIVE_INFINITY : Number(after.low);
    if (row === undefined) return { ...empty, free };
    const high = Number(row.high);
    return { tail, head, low: Number(row.low), high, at: Number(row.at), free, written: high };
  }

  #write(range: IdRange, sender: Sender): void {
    const { tail, head, low, high } = range;
    if (range.written === undefined) {
      if (!this.#hasRoom(sender)) return;
      this.#insert(sender, range);
    } else if (sender.number !== undefined) {
      this.#sql.run(
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
      this.#sql.run(
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
    this.#sql.run(
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

  /** Whether a sender may have another id. One that has none yet is not entered when nothing is left. */
  #hasRoom(sender: Sender): boolean {
    return sender.number !== undefined || this.#all() < this.#capacity;
  }

  #numberOf(sender: Sender): number {
    if (sender.number !== undefined) return sender.number;
    this.#sql.run("INSERT INTO senders (name, octets) VALUES (?, 0)", sender.name);
    const [row] = this.#sql.all("SELECT number FROM senders WHERE name = ?", sender.name);
    sender.number = Number(row?.number);
    sender.octets = sender.name.length + ID_ROW_OCTETS;
    this.#octets = this.#all() + sender.octets;
    return sender.number;
  }

  /** Forgets the oldest ids of a sender that has more than is left to others, and writes down what it has. */
  #bound(sender: Sender): void {
    const { number } = sender;
    if (number === undefined) return;
    while (sender.octets > this.#capacity - this.#all()) {
      const [rows] = this.#sql.all("SELECT count(*) AS count FROM ids WHERE sender = ?", number);
      const count = Number(rows?.count ?? 0);
      if (count === 0) break;
      const [oldest] = this.#sql.all(
        "SELECT at FROM ids WHERE sender = ? ORDER BY at LIMIT 1 OFFSET ?",
        number,
        Math.floor((count - 1) / FORGOTTEN_PART),
      );
      const upTo = Number(oldest?.at);
      const [gone] = this.#sql.all(
        `SELECT sum(${ROW_OCTETS}) AS octets FROM ids WHERE sender = ? AND at <= ?`,
        number,
        upTo,
      );
      this.#sql.run("DELETE FROM ids WHERE sender = ? AND at <= ?", number, upTo);
      sender.octets -= Number(gone?.octets ?? 0);
      this.#octets = this.#all() - Number(gone?.octets ?? 0);
      sender.ranges.clear();
      this.#last = undefined;
    }
    if (sender.octets === sender.writtenOctets) return;
    sender.writtenOctets = sender.octets;
    this.#sql.run("UPDATE senders SET octets = ? WHERE number = ?", sender.octets, number);
  }

  #all(): number {
    if (this.#octets === undefined) {
      const [sum] = this.#sql.all("SELECT coalesce(sum(octets), 0) AS octets FROM senders");
      this.#octets = Number(sum?.octets ?? 0);
    }
    return this.#octets;
  }

  #age(now: number): number {
    this.#stamp = Math.max(this.#stamp + 1, now * STAMPS);
    return this.#stamp;
  }
}

const ROW_OCTETS = `length(tail) + length(head) + ${ID_ROW_OCTETS}`;

/** Texts in parts that are small enough for a value of a statement. */
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
