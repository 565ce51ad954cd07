/**
 * The journal of `grooveway send`: the transfer and progress of each file, so that an interrupted command resumes when
 * it is repeated. A file is recognised by destination, path, name at the recipient, size, modification time and inode.
 *
 * A transfer is recorded before its first message leaves. However the process dies, the repeated command uses the same
 * ids, and duplicates are dropped by id. If the machine itself crashes, the last rows may be lost; then a file may be
 * sent a second time, as another transfer.
 *
 * Several commands may send at the same time, even to the same recipient. A file that another command is sending is
 * ignored here, and gets a transfer of its own.
 *
 * @module
 */
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { isRunning, type ProcessId, processId } from "../../lib/node/process-id.ts";

/** How long an interrupted send can be resumed, in milliseconds: mailboxes keep messages and ids for 14 days. */
const KEPT = 14 * 24 * 3600_000;

/** How long to wait for another writer, in milliseconds: its transactions take only a few. */
const BUSY_TIMEOUT = 5000;

/** What identifies a file. */
export interface FileIdentity {
  /** Absolute, as bytes. */
  readonly path: Uint8Array;
  /** Name at the recipient. */
  readonly name: string;
  readonly size: number;
  /** Milliseconds since 1970, including the fraction. */
  readonly modified: number;
  readonly inode: number;
}

/** A transfer of this run, and its progress. */
export interface Claim {
  readonly transfer: string;
  /** Number of leading bytes that the relay has stored. */
  readonly acknowledged: number;
  /**
   * SHA-256 in hex of the acknowledged bytes, or of the whole file if `isDone`. They are read again and must match.
   * Undefined if there are none.
   */
  readonly sha256: string | undefined;
  /** The relay has stored the whole file. */
  readonly isDone: boolean;
  /** Recorded in the journal: a repeated run will find it. */
  readonly isJournaled: boolean;
  /** Earlier transfers of this file, abandoned because it changed or `isFresh` was given. */
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
  /** Writes for the next transaction. */
  #writes: { readonly write: () => void; readonly written: () => void }[] = [];
  #isFailed = false;
  /** Cache: whether a process is running. */
  readonly #running = new Map<string, boolean>();

  /**
   * @param file path of the database; created if missing
   * @param destination recipient, sender and route: ids are valid only for this combination
   * @param onFailure called once if the journal can no longer be written; a repeated command then starts over
   * @throws Error of node:sqlite if the file cannot be used
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
   * Returns the transfer for a file: that of an earlier run, or a new one.
   *
   * @param newId id for a new transfer
   * @param isFresh start from the beginning, whatever was sent before
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
    // A transfer of the same file in this run is not an earlier one: the file was named twice.
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

  /** Records progress: the relay has stored more of a transfer. */
  progress(transfer: string, acknowledged: number, sha256: string): void {
    this.#enqueue(() => this.#progress.run(acknowledged, sha256, transfer));
  }

  /** Records that the relay has stored the whole file. */
  done(transfer: string, sha256: string): void {
    this.#enqueue(() => this.#done.run(sha256, transfer));
  }

  /** Removes a transfer that was cancelled. */
  forget(transfer: string): void {
    this.#enqueue(() => this.#delete.run(transfer));
  }

  /**
   * Ends the run successfully: if repeated, it sends everything again. To be called just before the process exits,
   * because a run that is killed after this call sends everything twice when it is repeated. The database stays open:
   * closing it takes two syncs, during which the process could be killed.
   */
  finish(): void {
    this.#enqueue(() =>
      this.#database
        .prepare("DELETE FROM transfer WHERE destination = ? AND pid = ? AND started = ?")
        .run(this.#destination, this.#self.pid, this.#self.started),
    );
    this.#flush();
  }

  /** Writes pending changes. Unfinished transfers can be resumed. */
  close(): void {
    this.#flush();
    this.#isFailed = true;
    if (this.#database.isOpen) this.#database.close();
  }

  /** Groups all writes of one turn of the event loop into one transaction. */
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
