/**
 * The relay's store: each peer's queue, in SQLite. The only file of the relay with SQL.
 *
 * All writes go into one open transaction that `commit` ends, so many messages share one disk write. Acknowledgements
 * go out only after the commit. A killed process loses only messages that were never acknowledged.
 *
 *   messages  one row a message, in order of arrival; a short body is in the row
 *   chunks    the body of a long message, row by row, written while it arrives
 *   seen      ids that a source has used, so that a resent message is stored once
 *
 * @module
 */
import { DatabaseSync } from "node:sqlite";
import { isDiskFull } from "../lib/node/disk-watch.ts";
import { isRelay, joinOctets } from "../sstp/index.ts";
import type { Envelope as Common, Fields } from "../store-and-forward/envelope.ts";
import {
  type Amount,
  QUOTA,
  type Quota,
  type StorageQuota,
  senderOf,
  senderOfMessage,
} from "../store-and-forward/sender-share.ts";
import { storedVersion } from "../store-and-forward/stored-version.ts";
import { IdSums } from "./id-sums.ts";
import { CHUNK_SIZE, PIECES, REMEMBER_IDS, RETENTION, WAITING_QUEUES } from "./limits.ts";
import { WaitingSums } from "./waiting.ts";

/** A message without its body, and whose queue it is in. */
export interface Envelope extends Pick<Common, "source" | "resourceURL" | "identityURL" | "deviceURL"> {
  /** URL of the peer: the device's if device-targeted, the identity's if identity-targeted. */
  readonly peer: string;
  /** The Message command's own fields, as sent on. */
  readonly fields: Fields;
}

/** A stored message. */
export interface Stored extends Envelope {
  readonly seq: number;
  /** Bytes of the body. */
  readonly size: number;
}

/** What the messages of one session have in common. */
export interface Destination extends Pick<Envelope, "peer" | "resourceURL" | "identityURL" | "deviceURL"> {
  /** Set only in another relay's queue, where each sender has its own sessions. */
  readonly sender?: string | undefined;
}

/** A message being received. */
export interface Incoming {
  readonly envelope: Envelope;
  size: number;
  /** Bytes not yet written to a row. */
  held: Uint8Array[];
  heldOctets: number;
  /** Key in `chunks`, if the body is longer than one row. */
  key: number | undefined;
  rows: number;
  /** Value of the failure counter at the beginning. A later failure has rolled back this message's rows. */
  readonly failures: number;
  /** A row could not be written because the disk was full. */
  lost: boolean;
}

export type Outcome = "stored" | "duplicate" | "quota" | "full";

/** Overhead of a row besides its texts and body: numbers, headers and index entries. */
const ROW_OCTETS = 64;

/** Bytes taken by ids of a peer, for each sender. */
const ID_SUMS = `
  SELECT sender, sum(length(peer) + length(source) + length(id) + ${ROW_OCTETS}) AS octets
  FROM seen WHERE peer = ? GROUP BY sender`;

/**
 * Condition for relays' queues, which are searched by sender. SQLite uses the partial index only if a query repeats it.
 */
const OF_RELAYS = "peer >= 'grooveDNS:' AND peer < 'grooveDNS;'";

/** Columns of a message without its body. */
const HEAD = "seq, peer, source, resource, identity, device, fields, size";

const schema = `
  CREATE TABLE IF NOT EXISTS messages (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, peer TEXT NOT NULL, source TEXT NOT NULL, resource TEXT NOT NULL,
    identity TEXT NOT NULL, device TEXT NOT NULL, fields TEXT NOT NULL, size INTEGER NOT NULL, at INTEGER NOT NULL,
    key INTEGER, body BLOB, sender TEXT NOT NULL DEFAULT '', octets INTEGER NOT NULL DEFAULT 0);
  CREATE INDEX IF NOT EXISTS messages_of_peer ON messages (peer, seq);
  CREATE INDEX IF NOT EXISTS messages_of_sender ON messages (peer, sender, seq) WHERE ${OF_RELAYS};
  CREATE TABLE IF NOT EXISTS chunks (key INTEGER NOT NULL, n INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (key, n));
  CREATE TABLE IF NOT EXISTS seen (
    n INTEGER PRIMARY KEY AUTOINCREMENT, peer TEXT NOT NULL, source TEXT NOT NULL, id TEXT NOT NULL, at INTEGER NOT NULL,
    sender TEXT NOT NULL DEFAULT '', UNIQUE (peer, source, id));
`;

interface MessageRow {
  readonly seq: number;
  readonly peer: string;
  readonly source: string;
  readonly resource: string;
  readonly identity: string;
  /** Empty if the message is for an identity. */
  readonly device: string;
  /** See {@link fieldsToText}. */
  readonly fields: string;
  readonly size: number;
  readonly at: number;
  /** Key of the body in `chunks`; null if it is in `body`. */
  readonly key: number | null;
  readonly body: Uint8Array | null;
  readonly sender: string;
  readonly octets: number;
}

/** The columns of HEAD. */
type HeadRow = Pick<MessageRow, "seq" | "peer" | "source" | "resource" | "identity" | "device" | "fields" | "size">;

interface ChunkRow {
  readonly key: number;
  readonly n: number;
  readonly body: Uint8Array;
}

interface SeenRow {
  readonly n: number;
  readonly peer: string;
  readonly source: string;
  readonly id: string;
  readonly at: number;
  readonly sender: string;
}

/** A count. */
interface CountRow {
  readonly n: number;
}

/** A row of ID_SUMS. */
interface IdSumRow {
  readonly sender: string;
  readonly octets: number;
}

/** The schema version written by this release. */
const VERSION = 2;

/** Migrates version 1, which had no senders and counted only bodies. */
const migration = `
  ALTER TABLE messages ADD COLUMN sender TEXT NOT NULL DEFAULT '';
  ALTER TABLE messages ADD COLUMN octets INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE seen ADD COLUMN sender TEXT NOT NULL DEFAULT '';
  UPDATE messages SET sender = sender_of(source), octets = size + length(peer) + length(source) + length(resource)
    + length(identity) + length(device) + length(fields) + ${ROW_OCTETS};
  UPDATE seen SET sender = sender_of(source);
  CREATE INDEX messages_of_sender ON messages (peer, sender, seq) WHERE ${OF_RELAYS};
`;

/** Fraction of a sender's ids, oldest first, forgotten at a time. Finding them scans all of them. */
const FORGOTTEN_PART = 8;

export class Store {
  readonly #database: DatabaseSync;
  readonly #waiting: WaitingSums;
  readonly #ids = new IdSums((peer) => this.#all<IdSumRow>(ID_SUMS, peer));
  #key: number;
  #open = false;
  /** Whether new messages are refused, to leave room for the writes that empty the store. */
  full = false;
  /** Called when a write failed because the disk is full. */
  onFailure: () => void = () => undefined;
  /** Set after a failure. Nothing is written until the lost removals have been repeated. */
  #failed = false;
  #failures = 0;
  /** Whether any write since the last commit was lost. */
  #lost = false;
  /** Removals since the last commit, repeated if it fails. */
  #removed: { readonly seq: number; readonly peer: string }[] = [];

  /**
   * @param file path of the database; undefined for one in memory
   * @param mostQueues in how many peers' queues messages of all senders may wait, counted once per sender
   * @throws NewerSchemaError
   * @throws Error of node:sqlite if the file cannot be opened or is not a database
   */
  constructor(file: string | undefined, quota: Quota & Partial<StorageQuota> = QUOTA, mostQueues = WAITING_QUEUES) {
    this.#waiting = new WaitingSums({ ...QUOTA, ...quota }, mostQueues);
    this.#database = new DatabaseSync(file ?? ":memory:");
    // FULL: an acknowledged message must survive a crash of the machine, not only of the process.
    this.#database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;");
    this.#database.function("sender_of", (source) => senderOf(String(source)));
    this.#migrate();
    // Bodies that were incomplete when the process ended. Their senders still have them.
    this.#database.exec("DELETE FROM chunks WHERE key NOT IN (SELECT key FROM messages WHERE key IS NOT NULL)");
    this.#key = this.#one<CountRow>("SELECT coalesce(max(key), 0) AS n FROM messages").n;
    this.#count();
  }

  /** Computes the totals from the tables. */
  #count(): void {
    this.#waiting.clear();
    this.#ids.clear();
    const sums = "SELECT peer, sender, count(*) AS messages, sum(octets) AS octets FROM messages GROUP BY peer, sender";
    const rows = this.#all<Pick<MessageRow, "peer" | "sender"> & Amount>(sums);
    for (const { peer, sender, messages, octets } of rows) this.#waiting.add(peer, sender, messages, octets);
  }

  #migrate(): void {
    const { user_version: found } = this.#one<{ readonly user_version: number }>("PRAGMA user_version");
    const isNew = this.#all("SELECT 1 FROM sqlite_master WHERE name = 'messages'").length === 0;
    const version = isNew
      ? VERSION
      : storedVersion("the relay's store", found === 0 ? undefined : String(found), VERSION);
    const steps = version < VERSION ? migration : schema;
    this.#database.exec(`BEGIN; ${steps}; PRAGMA user_version = ${VERSION}; COMMIT;`);
  }

  /** Begins a message. It is invisible to readers until `finish`. */
  begin(envelope: Envelope): Incoming {
    return {
      envelope,
      size: 0,
      held: [],
      heldOctets: 0,
      key: undefined,
      rows: 0,
      failures: this.#failures,
      lost: false,
    };
  }

  /** Adds body data. The store keeps the array; do not change it afterwards. */
  append(incoming: Incoming, octets: Uint8Array): void {
    incoming.size += octets.length;
    incoming.held.push(octets);
    incoming.heldOctets += octets.length;
    if (incoming.heldOctets >= CHUNK_SIZE) this.spill(incoming);
    else if (incoming.held.length >= PIECES) incoming.held = [joinOctets(incoming.held, incoming.heldOctets)];
  }

  /** Writes the data held for an unfinished message to disk, as one row. */
  spill(incoming: Incoming): void {
    if (this.full || incoming.lost) {
      incoming.lost = true;
      incoming.held = [];
      incoming.heldOctets = 0;
      return;
    }
    this.#begin();
    if (incoming.key === undefined) {
      this.#key += 1;
      incoming.key = this.#key;
    }
    const body = joinOctets(incoming.held, incoming.heldOctets);
    this.#run("INSERT INTO chunks (key, n, body) VALUES (?, ?, ?)", incoming.key, incoming.rows, body);
    incoming.rows += 1;
    incoming.held = [];
    incoming.heldOctets = 0;
  }

  /**
   * Completes a message and stores it, unless it is a duplicate or there is no room.
   *
   * @param reserve whether its sender can be suspended, and so may use the reserve beyond its share
   * @param awaited whether a consumer is connected
   */
  finish(incoming: Incoming, now: number, { reserve = false, awaited = false } = {}): Outcome {
    const { envelope } = incoming;
    const id = envelope.fields.userRef;
    if (id !== "" && this.#seen(envelope, id)) {
      this.discard(incoming);
      return "duplicate";
    }
    if (this.full || incoming.lost || (incoming.key !== undefined && incoming.failures < this.#failures)) {
      this.discard(incoming);
      return "full";
    }
    const sender = senderOfMessage(envelope.source, id);
    const fields = fieldsToText(envelope.fields);
    const octets = incoming.size + octetsOf(envelope, fields);
    if (!this.#waiting.hasRoom({ peer: envelope.peer, sender, octets, reserve, awaited })) {
      this.discard(incoming);
      return "quota";
    }
    this.#begin();
    if (incoming.key !== undefined && incoming.heldOctets > 0) this.spill(incoming);
    this.#run(
      "INSERT INTO messages (peer, source, resource, identity, device, fields, size, at, key, body, sender, octets) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
      envelope.peer,
      envelope.source,
      envelope.resourceURL,
      envelope.identityURL,
      envelope.deviceURL,
      fields,
      incoming.size,
      now,
      incoming.key ?? null,
      incoming.key === undefined ? joinOctets(incoming.held, incoming.heldOctets) : null,
      sender,
      octets,
    );
    if (id !== "") this.#remember(recipientOf(envelope), envelope.source, sender, id, now);
    if (this.#failed) return "full";
    this.#waiting.add(envelope.peer, sender, 1, octets);
    return "stored";
  }

  /** Whether a sender has used up its share of a peer's queue. */
  isAtMark(peer: string, sender: string): boolean {
    return this.#waiting.isAtMark(peer, sender);
  }

  /** Whether a sender that used up its share may resume. */
  mayGoOn(peer: string, sender: string): boolean {
    return this.#waiting.mayGoOn(peer, sender);
  }

  /** Remembers an id. If the sender has more than its share, its oldest ids are forgotten. */
  #remember(peer: string, source: string, sender: string, id: string, now: number): void {
    const octets = peer.length + source.length + id.length + ROW_OCTETS;
    // No room for ids is left. A resent message would be stored twice, but the receiver drops known ids too.
    if (!this.#ids.hasRoom(peer, sender, octets)) return;
    this.#run("INSERT INTO seen (peer, source, id, at, sender) VALUES (?, ?, ?, ?, ?)", peer, source, id, now, sender);
    if (this.#failed) return;
    this.#ids.add(peer, sender, octets);
    while (!this.#ids.isWithinShare(peer, sender)) {
      const ofSender = "FROM seen WHERE peer = ? AND sender = ?";
      const { n: rows } = this.#one<CountRow>(`SELECT count(*) AS n ${ofSender}`, peer, sender);
      if (rows <= 1) return;
      const { n } = this.#one<Pick<SeenRow, "n">>(
        `SELECT n ${ofSender} ORDER BY n LIMIT 1 OFFSET ?`,
        peer,
        sender,
        Math.floor((rows - 1) / FORGOTTEN_PART),
      );
      this.#run("DELETE FROM seen WHERE peer = ? AND sender = ? AND n <= ?", peer, sender, n);
      if (this.#failed) return;
      const [left] = this.#all<IdSumRow>(`${ID_SUMS} HAVING sender = ?`, peer, sender);
      this.#ids.add(peer, sender, (left?.octets ?? 0) - this.#ids.of(peer, sender));
    }
  }

  /** Discards an unfinished message. */
  discard(incoming: Incoming): void {
    if (incoming.key === undefined) return;
    this.#begin();
    this.#run("DELETE FROM chunks WHERE key = ?", incoming.key);
  }

  /** Senders with messages in a peer's queue. */
  senders(peer: string): Iterable<string> {
    return this.#waiting.senders(peer);
  }

  /** Increases with each message from a sender to a peer; 0 if none waits. */
  arrival(peer: string, sender: string): number {
    return this.#waiting.arrival(peer, sender);
  }

  /**
   * A peer's messages after `seq`, oldest first, without bodies.
   *
   * @param sender restricts the result to this sender, in a relay's queue
   */
  after(peer: string, seq: number, limit: number, sender?: string): Stored[] {
    if (sender !== undefined) {
      return this.#all<HeadRow>(
        `SELECT ${HEAD} FROM messages WHERE ${OF_RELAYS} AND peer = ? AND sender = ? AND seq > ? ORDER BY seq LIMIT ?`,
        peer,
        sender,
        seq,
        limit,
      ).map(storedFrom);
    }
    return this.#all<HeadRow>(
      `SELECT ${HEAD} FROM messages WHERE peer = ? AND seq > ? ORDER BY seq LIMIT ?`,
      peer,
      seq,
      limit,
    ).map(storedFrom);
  }

  /** A destination's messages in a range of sequence numbers, oldest first, without bodies. */
  between(destination: Destination, from: number, to: number, limit: number): Stored[] {
    const { where, values } = whereOf(destination, from, to);
    const query = `SELECT ${HEAD} FROM messages WHERE ${where} ORDER BY seq LIMIT ?`;
    return this.#all<HeadRow>(query, ...values, limit).map(storedFrom);
  }

  /** The number of such messages. */
  countBetween(destination: Destination, from: number, to: number): number {
    const { where, values } = whereOf(destination, from, to);
    return this.#one<CountRow>(`SELECT count(*) AS n FROM messages WHERE ${where}`, ...values).n;
  }

  /** Row `n` of a message's body, from 0; undefined after the last. */
  body(seq: number, n: number): Uint8Array | undefined {
    const [message] = this.#all<Pick<MessageRow, "key" | "body">>(
      "SELECT key, CASE WHEN ? = 0 THEN body END AS body FROM messages WHERE seq = ?",
      n,
      seq,
    );
    if (message === undefined) return undefined;
    if (message.key === null) return message.body ?? undefined;
    const query = "SELECT body FROM chunks WHERE key = ? AND n = ?";
    return this.#all<Pick<ChunkRow, "body">>(query, message.key, n)[0]?.body;
  }

  /** Removes acknowledged messages. */
  remove(messages: Iterable<{ readonly seq: number; readonly peer: string }>): void {
    for (const { seq, peer } of messages) {
      this.#begin();
      this.#run("DELETE FROM chunks WHERE key = (SELECT key FROM messages WHERE seq = ? AND key IS NOT NULL)", seq);
      this.#removed.push({ seq, peer });
      this.#attempt(() => {
        const query = "DELETE FROM messages WHERE seq = ? RETURNING sender, octets";
        const [gone] = this.#all<Pick<MessageRow, "sender" | "octets">>(query, seq);
        if (gone !== undefined) this.#waiting.add(peer, gone.sender, -1, -gone.octets);
      });
    }
  }

  /** What waits for a peer. */
  waiting(peer: string): { readonly octets: number; readonly messages: number } {
    return this.#waiting.of(peer);
  }

  /**
   * Purges expired messages and ids.
   *
   * @returns how many messages were purged
   */
  purge(now: number, retention: number = RETENTION): number {
    const query = "SELECT seq, peer FROM messages WHERE at < ?";
    const old = this.#all<Pick<MessageRow, "seq" | "peer">>(query, now - retention);
    this.remove(old);
    this.#begin();
    this.#run("DELETE FROM seen WHERE at < ?", now - REMEMBER_IDS);
    // The sums are recomputed on demand.
    this.#ids.clear();
    return old.length;
  }

  /**
   * Commits the open transaction: everything before is on disk.
   *
   * @returns false if the disk was full: everything stored since the last commit is lost. Removals are repeated as soon
   * as there is room
   */
  commit(): boolean {
    this.#end();
    const stored = !this.#lost;
    if (this.#failed) this.#removeAgain();
    this.#lost = false;
    return stored;
  }

  #end(): void {
    if (this.#open) this.#attempt(() => this.#database.exec("COMMIT"));
    this.#open = false;
    if (!this.#failed) this.#removed = [];
  }

  /**
   * Repeats removals after a failure, since peers do not acknowledge twice. If it fails again, the next commit retries.
   */
  #removeAgain(): void {
    const removed = this.#removed;
    this.#removed = [];
    this.#failed = false;
    this.remove(removed);
    this.#end();
  }

  /** Runs a write. On a full disk SQLite rolls back the whole transaction; the totals in memory must follow. */
  #attempt(write: () => void): void {
    if (this.#failed) return;
    try {
      write();
    } catch (error) {
      if (!isDiskFull(error)) throw error;
      this.#failed = true;
      this.#lost = true;
      this.#failures += 1;
      try {
        this.#database.exec("ROLLBACK");
      } catch {
        // SQLite has already rolled back.
      }
      this.#open = false;
      this.#count();
      this.onFailure();
    }
  }

  close(): void {
    this.commit();
    this.#database.close();
  }

  #seen(envelope: Envelope, id: string): boolean {
    const { source } = envelope;
    const recipient = recipientOf(envelope);
    return this.#all("SELECT 1 FROM seen WHERE peer = ? AND source = ? AND id = ?", recipient, source, id).length > 0;
  }

  #begin(): void {
    if (this.#open || this.#failed) return;
    this.#database.exec("BEGIN");
    this.#open = true;
  }

  readonly #statements = new Map<string, ReturnType<DatabaseSync["prepare"]>>();

  #prepared(sql: string): ReturnType<DatabaseSync["prepare"]> {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.#database.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  /**
   * Reads rows; `Row` has the columns that the query names. Rows get their types here and nowhere else: the schema gives
   * them to the columns.
   */
  #all<Row extends object>(sql: string, ...values: (string | number)[]): Row[] {
    return this.#prepared(sql).all(...values) as object[] as Row[];
  }

  /** Reads the row of a query that always has one, such as a count. */
  #one<Row extends object>(sql: string, ...values: (string | number)[]): Row {
    const [row] = this.#all<Row>(sql, ...values);
    if (row === undefined) throw new TypeError("a query of the relay's store has no row where it should");
    return row;
  }

  #run(sql: string, ...values: (string | number | null | Uint8Array)[]): number {
    let changes = 0;
    this.#attempt(() => {
      changes = Number(this.#prepared(sql).run(...values).changes);
    });
    return changes;
  }
}

/** SQL condition for a destination's messages, with its values. */
function whereOf(
  { peer, resourceURL, identityURL, deviceURL, sender }: Destination,
  from: number,
  to: number,
): { readonly where: string; readonly values: readonly (string | number)[] } {
  const where = "peer = ? AND seq BETWEEN ? AND ? AND resource = ? AND identity = ? AND device = ?";
  const values = [peer, from, to, resourceURL, identityURL, deviceURL];
  if (sender === undefined) return { where, values };
  return { where: `${OF_RELAYS} AND ${where} AND sender = ?`, values: [...values, sender] };
}

/** Bytes of a stored message besides its body. */
function octetsOf({ peer, source, resourceURL, identityURL, deviceURL }: Envelope, fields: string): number {
  const texts = [peer, source, resourceURL, identityURL, deviceURL, fields];
  return texts.reduce((sum, text) => sum + text.length, ROW_OCTETS);
}

/** The recipient that an id belongs to: in another relay's queue the same message may wait for several recipients. */
function recipientOf({ peer, identityURL, deviceURL }: Envelope): string {
  return isRelay(peer) ? `${peer} ${deviceURL || identityURL}` : peer;
}

function storedFrom({ seq, peer, source, resource, identity, device, fields, size }: HeadRow): Stored {
  return {
    seq,
    peer,
    source,
    resourceURL: resource,
    identityURL: identity,
    deviceURL: device,
    fields: fieldsFromText(fields),
    size,
  };
}

/** JSON has neither 64-bit integers nor byte arrays. */
function fieldsToText(fields: Fields): string {
  return JSON.stringify({
    userRef: fields.userRef,
    track: fields.track,
    ephemeral: fields.ephemeral,
    streamSize: fields.streamSize?.map(String),
    fragmentation: fields.fragmentation && Buffer.from(fields.fragmentation).toString("base64"),
  });
}

function fieldsFromText(text: string): Fields {
  const { userRef, track, ephemeral, streamSize, fragmentation } = JSON.parse(text) as {
    userRef: string;
    track: boolean;
    ephemeral?: number;
    streamSize?: [string, string, string];
    fragmentation?: string;
  };
  return {
    userRef,
    track,
    ephemeral,
    streamSize: streamSize && [BigInt(streamSize[0]), BigInt(streamSize[1]), BigInt(streamSize[2])],
    fragmentation: fragmentation === undefined ? undefined : new Uint8Array(Buffer.from(fragmentation, "base64")),
  };
}
