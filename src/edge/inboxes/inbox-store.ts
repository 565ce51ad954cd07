/**
 * The store of the inboxes of one peer, in the object's SQLite.
 *
 *   facts         version, URL of the peer, prefix of the ids of messages that are replayed
 *   inboxes       one row each, with the hash of its capability and its secrets
 *   marks         what was signed in requests that were stored, or are about to be
 *   failed        requests that were set aside, without their octets
 *   failed_parts  their octets, in several rows
 *
 * A store that was never written to has no tables, so looking at it leaves nothing behind. Every call is one synchronous
 * turn, and the platform's output gate holds every answer back until its writes are durable.
 *
 * @module
 */
import { encodeBase64url } from "../../lib/base64url.ts";
import { joinOctets } from "../../lib/octets.ts";
import { storedVersion } from "../../store-and-forward/stored-version.ts";
import type { Sql } from "../mailbox/mailbox-store.ts";
import type { CapabilityTrace, ChosenAnswer, FailedRequest, NewInbox, SetAside } from "../rpc/inboxes-rpc.ts";
import { FAILED_OCTETS, FAILED_PAGE, FAILED_REQUESTS, FAILED_ROW, MARKS, MARKS_FORGOTTEN } from "./limits.ts";
import type { Mark } from "./signature.ts";

/** The schema version that this release writes. */
const VERSION = 1;

const SCHEMA = `
  CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE inboxes (
    name TEXT PRIMARY KEY, hash TEXT NOT NULL UNIQUE, last TEXT NOT NULL, verify TEXT NOT NULL, secrets TEXT NOT NULL,
    largest INTEGER NOT NULL, rate INTEGER NOT NULL, answer TEXT NOT NULL, created INTEGER NOT NULL,
    prefix TEXT NOT NULL, next INTEGER NOT NULL, stored INTEGER NOT NULL, latest INTEGER NOT NULL);
  CREATE TABLE marks (
    inbox TEXT NOT NULL, mark TEXT NOT NULL, until INTEGER NOT NULL, number INTEGER NOT NULL, done INTEGER NOT NULL,
    PRIMARY KEY (inbox, mark)) WITHOUT ROWID;
  CREATE INDEX marks_by_end ON marks (inbox, until);
  CREATE TABLE failed (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, inbox TEXT NOT NULL, target TEXT NOT NULL,
    reason TEXT NOT NULL, detail TEXT NOT NULL, tries INTEGER NOT NULL, at INTEGER NOT NULL, octets INTEGER NOT NULL);
  CREATE TABLE failed_parts (failed INTEGER NOT NULL, part INTEGER NOT NULL, octets BLOB NOT NULL);
  CREATE INDEX parts_of_failed ON failed_parts (failed, part);
`;

/** A secret of an inbox. */
export interface Secret {
  readonly text: string;
  /** In milliseconds since 1970; undefined for the one in use. */
  readonly until?: number;
}

export interface StoredInbox extends Omit<NewInbox, "secret">, CapabilityTrace {
  /** The one in use first. */
  readonly secrets: readonly Secret[];
  /** Prefix of the ids of its messages. */
  readonly prefix: string;
  readonly created: number;
  readonly stored: number;
  /** When it has stored the last request; 0 if none. */
  readonly latest: number;
}

interface InboxRow {
  readonly name: string;
  readonly hash: string;
  readonly last: string;
  readonly verify: string;
  /** JSON of {@link Secret}s. */
  readonly secrets: string;
  readonly largest: number;
  readonly rate: number;
  /** JSON of a {@link ChosenAnswer}, or null. */
  readonly answer: string;
  readonly created: number;
  readonly prefix: string;
  /** Number of its next message. */
  readonly next: number;
  readonly stored: number;
  readonly latest: number;
}

interface MarkRow {
  readonly number: number;
  readonly done: number;
}

/** A request that is about to be stored, or was. */
export interface Begun {
  /** Id of its message, before the address. */
  readonly unique: string;
  /** Whether it was stored before. */
  readonly isDone: boolean;
}

/** Bytes of the random prefix of ids, as devices have them. */
const PREFIX_OCTETS = 9;

export class InboxStore {
  readonly #sql: Sql;
  readonly #transaction: <T>(run: () => T) => T;
  #isMade: boolean;
  /** Rows in `marks` of each inbox, as far as they were counted. */
  readonly #marks = new Map<string, number>();

  /**
   * @param transaction runs a function whose writes happen all or not at all
   * @throws NewerSchemaError
   */
  constructor(sql: Sql, transaction: <T>(run: () => T) => T) {
    this.#sql = sql;
    this.#transaction = transaction;
    this.#isMade = this.#all("SELECT 1 FROM sqlite_master WHERE name = 'facts'").length > 0;
    if (this.#isMade) storedVersion("the inboxes of a peer", this.#fact("version"), VERSION);
  }

  /** URL of the peer; undefined if nothing is stored. */
  get peer(): string | undefined {
    return this.#isMade ? this.#fact("peer") : undefined;
  }

  /** Creates the tables, if there are none. */
  make(peer: string): void {
    if (this.#isMade) return;
    this.#transaction(() => {
      this.#sql.exec(SCHEMA).toArray();
      this.#run("INSERT INTO facts VALUES ('version', ?)", String(VERSION));
      this.#run("INSERT INTO facts VALUES ('peer', ?)", peer);
      this.#run("INSERT INTO facts VALUES ('prefix', ?)", newPrefix());
    });
    this.#isMade = true;
  }

  /** The tables were deleted. */
  forget(): void {
    this.#isMade = false;
    this.#marks.clear();
  }

  /** Whether nothing is stored that anybody may still want. */
  get isEmpty(): boolean {
    return this.inboxes().length === 0 && this.failedTotal().requests === 0;
  }

  inboxes(): StoredInbox[] {
    if (!this.#isMade) return [];
    return this.#all<InboxRow>("SELECT * FROM inboxes ORDER BY name").map(inboxOf);
  }

  inbox(name: string): StoredInbox | undefined {
    return this.#inboxBy("name", name);
  }

  inboxOfCapability(hash: string): StoredInbox | undefined {
    return this.#inboxBy("hash", hash);
  }

  #inboxBy(column: "name" | "hash", value: string): StoredInbox | undefined {
    if (!this.#isMade) return undefined;
    const [row] = this.#all<InboxRow>(`SELECT * FROM inboxes WHERE ${column} = ?`, value);
    return row && inboxOf(row);
  }

  add({ name, verify, secret, largest, rate, answer }: NewInbox, { hash, last }: CapabilityTrace, now: number): void {
    const secrets: Secret[] = secret === undefined ? [] : [{ text: secret }];
    this.#run(
      "INSERT INTO inboxes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, 0, 0)",
      name,
      hash,
      last,
      verify,
      JSON.stringify(secrets),
      largest,
      rate,
      JSON.stringify(answer ?? null),
      now,
      newPrefix(),
    );
  }

  /** Removes an inbox. Requests of it that were set aside stay. */
  remove(name: string): void {
    this.#transaction(() => {
      this.#run("DELETE FROM inboxes WHERE name = ?", name);
      this.#run("DELETE FROM marks WHERE inbox = ?", name);
    });
    this.#marks.delete(name);
  }

  setSecrets(name: string, secrets: readonly Secret[]): void {
    this.#run("UPDATE inboxes SET secrets = ? WHERE name = ?", JSON.stringify(secrets), name);
  }

  setCapability(name: string, { hash, last }: CapabilityTrace): void {
    this.#run("UPDATE inboxes SET hash = ?, last = ? WHERE name = ?", hash, last, name);
  }

  /**
   * Gives a request the id of its message. The same request has the same id until it is forgotten, so that a mailbox
   * stores it once even if it is not known whether it has.
   */
  begin({ name, prefix }: StoredInbox, mark: Mark | undefined, now: number): Begun {
    return this.#transaction(() => {
      const before = mark === undefined ? undefined : this.#markIn(name, mark, now);
      if (before !== undefined) return { unique: `${prefix}-${before.number}`, isDone: before.done === 1 };
      const [{ next } = { next: 1 }] = this.#all<Pick<InboxRow, "next">>(
        "SELECT next FROM inboxes WHERE name = ?",
        name,
      );
      this.#run("UPDATE inboxes SET next = next + 1 WHERE name = ?", name);
      if (mark !== undefined) this.#addMark(name, mark, next);
      return { unique: `${prefix}-${next}`, isDone: false };
    });
  }

  #markIn(name: string, { text }: Mark, now: number): MarkRow | undefined {
    const query = "SELECT number, done FROM marks WHERE inbox = ? AND mark = ? AND until > ?";
    return this.#all<MarkRow>(query, name, text, now)[0];
  }

  #addMark(name: string, { text, until }: Mark, number: number): void {
    const count = this.#marks.get(name) ?? this.#countMarks(name);
    if (count >= MARKS) {
      this.#run(
        "DELETE FROM marks WHERE inbox = ?1 AND mark IN (SELECT mark FROM marks WHERE inbox = ?1 ORDER BY until LIMIT ?2)",
        name,
        MARKS_FORGOTTEN,
      );
    }
    this.#run("INSERT OR REPLACE INTO marks VALUES (?, ?, ?, ?, 0)", name, text, until, number);
    this.#marks.set(name, count >= MARKS ? this.#countMarks(name) : count + 1);
  }

  #countMarks(name: string): number {
    const [row] = this.#all<{ readonly count: number }>("SELECT COUNT(*) AS count FROM marks WHERE inbox = ?", name);
    return row?.count ?? 0;
  }

  /** A request is in the mailbox. */
  finish({ name }: StoredInbox, mark: Mark | undefined, now: number): void {
    this.#transaction(() => {
      if (mark !== undefined) this.#run("UPDATE marks SET done = 1 WHERE inbox = ? AND mark = ?", name, mark.text);
      this.#run("UPDATE inboxes SET stored = stored + 1, latest = ? WHERE name = ?", now, name);
    });
  }

  /** Forgets requests whose time is over. Returns whether any are remembered still. */
  forgetMarks(now: number): boolean {
    if (!this.#isMade) return false;
    this.#run("DELETE FROM marks WHERE until <= ?", now);
    this.#marks.clear();
    return this.#all("SELECT 1 FROM marks LIMIT 1").length > 0;
  }

  /** What is set aside. */
  failedTotal(): { readonly requests: number; readonly octets: number } {
    if (!this.#isMade) return { requests: 0, octets: 0 };
    const query = "SELECT COUNT(*) AS requests, COALESCE(SUM(octets), 0) AS octets FROM failed";
    const [row] = this.#all<{ readonly requests: number; readonly octets: number }>(query);
    return row ?? { requests: 0, octets: 0 };
  }

  /** Sets a request aside, unless it is. Returns false if there is no room. */
  setAside({ inbox, id, reason, detail, tries }: SetAside, target: string, message: Uint8Array, now: number): boolean {
    if (this.#all("SELECT 1 FROM failed WHERE id = ?", id).length > 0) return true;
    const { requests, octets } = this.failedTotal();
    if (requests >= FAILED_REQUESTS || octets + message.length > FAILED_OCTETS) return false;
    this.#transaction(() => {
      this.#run(
        "INSERT INTO failed (id, inbox, target, reason, detail, tries, at, octets) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        id,
        inbox,
        target,
        reason,
        detail,
        tries,
        now,
        message.length,
      );
      const [row] = this.#all<{ readonly number: number }>("SELECT number FROM failed WHERE id = ?", id);
      for (let at = 0, part = 0; at < message.length; at += FAILED_ROW, part += 1) {
        this.#run(
          "INSERT INTO failed_parts VALUES (?, ?, ?)",
          row?.number ?? 0,
          part,
          message.slice(at, at + FAILED_ROW),
        );
      }
    });
    return true;
  }

  /** Requests set aside, one page in order, after a number. */
  failed(after: number): FailedRequest[] {
    if (!this.#isMade) return [];
    return this.#all<FailedRequest>(
      "SELECT * FROM failed WHERE number > ? ORDER BY number LIMIT ?",
      after,
      FAILED_PAGE,
    );
  }

  /** The octets of a request that was set aside. */
  failedMessage(number: number): Uint8Array {
    const query = "SELECT octets FROM failed_parts WHERE failed = ? ORDER BY part";
    const parts = this.#all<{ readonly octets: ArrayBuffer | Uint8Array }>(query, number).map(({ octets }) =>
      octets instanceof Uint8Array ? octets : new Uint8Array(octets),
    );
    return joinOctets(
      parts,
      parts.reduce((sum, part) => sum + part.length, 0),
    );
  }

  /** Unique part of the id under which a request that was set aside is put back. */
  replayId(number: number): string {
    return `${this.#fact("prefix") ?? ""}r-${number}`;
  }

  /** Removes a request that was set aside. Returns whether there was one. */
  removeFailed(number: number): boolean {
    if (!this.#isMade) return false;
    return this.#transaction(() => {
      this.#run("DELETE FROM failed_parts WHERE failed = ?", number);
      return this.#run("DELETE FROM failed WHERE number = ?", number) > 0;
    });
  }

  #fact(name: string): string | undefined {
    return this.#all<{ readonly value: string }>("SELECT value FROM facts WHERE name = ?", name)[0]?.value;
  }

  #all<Row extends object>(query: string, ...bindings: (string | number)[]): Row[] {
    return this.#sql.exec(query, ...bindings).toArray() as Row[];
  }

  /** Returns the number of rows written, those of indexes included. */
  #run(query: string, ...bindings: (string | number | Uint8Array)[]): number {
    const cursor = this.#sql.exec(query, ...bindings);
    cursor.toArray();
    return cursor.rowsWritten;
  }
}

function inboxOf({ secrets, answer, next: _, ...row }: InboxRow): StoredInbox {
  return {
    ...row,
    secrets: JSON.parse(secrets) as Secret[],
    answer: (JSON.parse(answer) as ChosenAnswer | null) ?? undefined,
  };
}

function newPrefix(): string {
  return encodeBase64url(crypto.getRandomValues(new Uint8Array(PREFIX_OCTETS)));
}
