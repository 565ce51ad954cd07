/**
 * The journal of `grooveway send`: by which transfer each file goes, and how far it is, so that a send that was interrupted
 * and is repeated goes on where it was. A file is recognised by whom it goes to, its path, its name there, its size, its
 * time and its inode.
 *
 * A transfer stands here before its first message leaves. So whatever kills the process, the repeated send takes the same
 * ids, and what was sent twice is dropped by its id. After the machine itself has failed the last rows may be missing:
 * then a file may go a second time, by another transfer.
 *
 * Several commands may send at the same time, to the same recipient too. A file that another one is sending is none
 * of this one's, and goes by a transfer of its own.
 *
 * @module
 */
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { isRunning, type ProcessId, processId } from "../../lib/node/process-id.ts";

/** How long an interrupted send can be gone on with, in milliseconds: mailboxes keep what waits, and ids, for 14 days. */
const KEPT = 14 * 24 * 3600_000;

/** Another command that writes at the same moment is waited for, in milliseconds: its transactions take a few. */
const BUSY_TIMEOUT = 5000;

/** By what a file is recognised. */
export interface FileIdentity {
  /** Absolute, as bytes. */
  readonly path: Uint8Array;
  /** At the recipient. */
  readonly name: string;
  readonly size: number;
  /** Milliseconds since 1970, with their fraction. */
  readonly modified: number;
  readonly inode: number;
}

/** A transfer of this run, and how far it is. */
export interface Claim {
  readonly transfer: string;
  /** The relay has the bytes before this one safe. */
  readonly acknowledged: number;
  /** SHA-256 of these bytes in hex, of all when it is done: they are read again, and must be the same. Undefined when there are none. */
  readonly sha256: string | undefined;
  /** The relay has all of it safe. */
  readonly isDone: boolean;
  /** It stands in the journal: a repeated run finds it. */
  readonly isJournaled: boolean;
  /** Transfers by which the file was going before it was changed, or before it was to begin anew. They never end. */
  readonly superseded: readonly string[];
}

const SCHEMA = `
PRAGMA busy_timeout = ${BUSY_TIMEOUT};
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS transfer (
  id TEXT PRIMARY KEY,
  destination TEXT NOT NULL,
  path BLOB NOT NULL,
  name TEXT NOT NULL,
  size REAL NOT NULL,
  modified REAL NOT NULL,
  inode REAL NOT NULL,
  acknowledged REAL NOT NULL DEFAULT 0,
  sha256 TEXT,
  done INTEGER NOT NULL DEFAULT 0,
  at REAL NOT NULL,
  pid INTEGER NOT NULL,
  started TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS transfer_file ON transfer (destination, path, name);
`;

interface TransferRow {
  readonly id: string;
  readonly size: number;
  readonly modified: number;
  readonly inode: number;
  readonly acknowledged: number;
  readonly sha256: string | null;
  readonly done: number;
  readonly pid: number;
  readonly started: string;
}

export class SendJournal {
  readonly #database: DatabaseSync;
  readonly #destination: string;
  readonly #self: ProcessId;
  readonly #onFailure: (error: unknown) => void;
  readonly #find: StatementSync;
  readonly #insert: StatementSync;
  readonly #adopt: StatementSync;
  readonly #progress: StatementSync;
  readonly #done: StatementSync;
  readonly #delete: StatementSync;
  /** What the next transaction writes. */
  #writes: { readonly write: () => void; readonly written: () => void }[] = [];
  #isFailed = false;
  /** Processes that were looked at. */
  readonly #running = new Map<string, boolean>();

  /**
   * @param file of the database; it is made when it is not there
   * @param destination whom the files go to, by whom and by which way: ids are good for that alone
   * @param onFailure told once when nothing can be written any more; what is sent then begins anew when it is repeated
   * @throws Error of node:sqlite when the file cannot be used
   */
  constructor(file: string, destination: string, onFailure: (error: unknown) => void) {
    this.#destination = destination;
    this.#onFailure = onFailure;
    this.#self = processId(process.pid) ?? { pid: process.pid, started: "" };
    this.#database = new DatabaseSync(file);
    try {
      this.#database.exec(SCHEMA);
      const prepare = (sql: string) => this.#database.prepare(sql);
      prepare("DELETE FROM transfer WHERE at < ?").run(Date.now() - KEPT);
      this.#find = prepare("SELECT * FROM transfer WHERE destination = ? AND path = ? AND name = ?");
      this.#insert = prepare(
        "INSERT INTO transfer (id, destination, path, name, size, modified, inode, at, pid, started) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
      );
      this.#adopt = prepare("UPDATE transfer SET pid = ?, started = ? WHERE id = ?");
      this.#progress = prepare("UPDATE transfer SET acknowledged = ?, sha256 = ? WHERE id = ?");
      this.#done = prepare("UPDATE transfer SET done = 1, sha256 = ? WHERE id = ?");
      this.#delete = prepare("DELETE FROM transfer WHERE id = ?");
    } catch (error) {
      this.#database.close();
      throw error;
    }
  }

  /**
   * The transfer by which a file goes: the one by which an earlier run was sending it, or a new one.
   *
   * @param newId the id of a new transfer
   * @param isFresh begin anew, whatever was sent before
   */
  claim(file: FileIdentity, newId: string, isFresh = false): Promise<Claim> {
    return new Promise((resolve) => {
      let claim: Claim = {
        transfer: newId,
        acknowledged: 0,
        sha256: undefined,
        isDone: false,
        isJournaled: false,
        superseded: [],
      };
      this.#enqueue(
        () => {
          claim = this.#claim(file, newId, isFresh);
        },
        () => resolve(claim),
      );
    });
  }

  #claim({ path, name, size, modified, inode }: FileIdentity, newId: string, isFresh: boolean): Claim {
    const { pid, started } = this.#self;
    const rows = (this.#find.all(this.#destination, path, name) as unknown as TransferRow[]).filter(
      (row) => !this.#isOfAnother(row),
    );
    // One by which the same file went in this run already is no earlier one: the file was named twice.
    const left = rows.filter((row) => row.pid !== pid || row.started !== started);
    const isSame = (row: TransferRow) =>
      !isFresh && row.size === size && row.modified === modified && row.inode === inode;
    const same = left.find(isSame);
    const superseded = left.filter((row) => !isSame(row));
    for (const { id } of superseded) this.#delete.run(id);
    const others = superseded.filter(({ done }) => done === 0).map(({ id }) => id);
    if (same === undefined) {
      this.#insert.run(newId, this.#destination, path, name, size, modified, inode, Date.now(), pid, started);
      return {
        transfer: newId,
        acknowledged: 0,
        sha256: undefined,
        isDone: false,
        isJournaled: true,
        superseded: others,
      };
    }
    this.#adopt.run(pid, started, same.id);
    return {
      transfer: same.id,
      acknowledged: same.acknowledged,
      sha256: same.sha256 ?? undefined,
      isDone: same.done === 1,
      isJournaled: true,
      superseded: others,
    };
  }

  #isOfAnother({ pid, started }: ProcessId): boolean {
    if (pid === this.#self.pid && started === this.#self.started) return false;
    const key = `${pid} ${started}`;
    const known = this.#running.get(key) ?? isRunning({ pid, started });
    this.#running.set(key, known);
    return known;
  }

  /** The relay has more of a transfer safe. */
  progress(transfer: string, acknowledged: number, sha256: string): void {
    this.#enqueue(() => this.#progress.run(acknowledged, sha256, transfer));
  }

  /** The relay has all of it safe. */
  done(transfer: string, sha256: string): void {
    this.#enqueue(() => this.#done.run(sha256, transfer));
  }

  /** A transfer that will not be gone on with: it was cancelled. */
  forget(transfer: string): void {
    this.#enqueue(() => this.#delete.run(transfer));
  }

  /** The run has come to its end: repeated, it sends everything anew. */
  finish(): void {
    this.#enqueue(() =>
      this.#database
        .prepare("DELETE FROM transfer WHERE destination = ? AND pid = ? AND started = ?")
        .run(this.#destination, this.#self.pid, this.#self.started),
    );
    this.close();
  }

  /** Writes what is to be written. What was not finished can be gone on with. */
  close(): void {
    this.#flush();
    this.#isFailed = true;
    if (this.#database.isOpen) this.#database.close();
  }

  /** What comes in one turn of the event loop is one transaction. */
  #enqueue(write: () => void, written: () => void = () => undefined): void {
    if (this.#isFailed) {
      written();
      return;
    }
    if (this.#writes.length === 0) setImmediate(() => this.#flush());
    this.#writes.push({ write, written });
  }

  #flush(): void {
    const writes = this.#writes;
    this.#writes = [];
    if (writes.length === 0) return;
    try {
      if (!this.#isFailed) {
        this.#database.exec("BEGIN IMMEDIATE");
        for (const { write } of writes) write();
        this.#database.exec("COMMIT");
      }
    } catch (error) {
      this.#isFailed = true;
      this.#onFailure(error);
    }
    for (const { written } of writes) written();
  }
}
