/**
 * The file of a backup: a SQLite database with the databases of an edge's objects in pieces, and their checksums.
 *
 *   about   name, value: format, time (milliseconds since 1970)
 *   files   path, size, sha256
 *   pieces  path, n, bytes: up to 1 MiB each
 *
 * @module
 */
import { createHash } from "node:crypto";
import { closeSync, fsyncSync, mkdirSync, openSync, readSync, renameSync, rmSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";

/** The format that this release writes, and reads. */
const FORMAT = 1;

/** A piece is in memory while it is copied. */
const PIECE = 1024 * 1024;

/** Databases of objects below the folder `do`, as workerd names them. Nothing else is restored. */
const PATH = /^[\w-]+\/[\w-]+\.sqlite$/;

/** Why a file cannot be restored, as the end of a sentence. */
export class BadBackup extends Error {}

/** Writes a backup. It has its name only when it is complete. */
export class BackupWriter {
  readonly #file: string;
  readonly #part: string;
  readonly #database: DatabaseSync;

  /** @throws the file system's error */
  constructor(file: string, now: number) {
    this.#file = file;
    this.#part = `${file}.part`;
    rmSync(this.#part, { force: true });
    // Only for its owner: it has messages, and the secrets of inboxes.
    closeSync(openSync(this.#part, "wx", 0o600));
    this.#database = new DatabaseSync(this.#part);
    this.#database.exec(`
      PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
      CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
      CREATE TABLE files (path TEXT PRIMARY KEY, size INTEGER NOT NULL, sha256 TEXT NOT NULL);
      CREATE TABLE pieces (path TEXT NOT NULL, n INTEGER NOT NULL, bytes BLOB NOT NULL, PRIMARY KEY (path, n));
      BEGIN`);
    const about = this.#database.prepare("INSERT INTO about (name, value) VALUES (?, ?)");
    about.run("format", String(FORMAT));
    about.run("time", String(now));
  }

  /** Adds a copy of a database. @param path below the folder `do` */
  add(path: string, from: string): number {
    const insert = this.#database.prepare("INSERT INTO pieces (path, n, bytes) VALUES (?, ?, ?)");
    const hash = createHash("sha256");
    const file = openSync(from, "r");
    let size = 0;
    try {
      const piece = new Uint8Array(PIECE);
      for (let n = 0; ; n += 1) {
        const read = readSync(file, piece, 0, PIECE, null);
        if (read === 0) break;
        const bytes = piece.subarray(0, read);
        hash.update(bytes);
        insert.run(path, n, bytes);
        size += read;
      }
    } finally {
      closeSync(file);
    }
    const files = this.#database.prepare("INSERT INTO files (path, size, sha256) VALUES (?, ?, ?)");
    files.run(path, size, hash.digest("hex"));
    return size;
  }

  /** Completes it on disk, and gives it its name. */
  finish(): void {
    this.#database.exec("COMMIT");
    this.#database.close();
    const part = openSync(this.#part, "r+");
    fsyncSync(part);
    closeSync(part);
    renameSync(this.#part, this.#file);
    syncFolder(dirname(this.#file));
  }

  /** Removes what was written. */
  abandon(): void {
    if (this.#database.isOpen) this.#database.close();
    rmSync(this.#part, { force: true });
  }
}

/**
 * Writes the files of a backup into a new folder, and compares their checksums.
 *
 * @returns their paths in the folder, and when the backup began
 * @throws BadBackup if the file is no backup, is damaged, or is of a later release
 */
export function unpackBackup(file: string, folder: string): { readonly paths: string[]; readonly time: number } {
  const database = openBackup(file);
  try {
    const about = new Map(rows(database, "SELECT name, value FROM about").map(({ name, value }) => [name, value]));
    const format = Number(about.get("format"));
    if (format !== FORMAT) throw new BadBackup(`has format ${about.get("format")}, which this release cannot read`);
    const found = rows(database, "SELECT path, size, sha256 FROM files ORDER BY path");
    for (const { path, size, sha256 } of found) {
      const name = String(path);
      if (!PATH.test(name)) throw new BadBackup(`has a file with the path ${JSON.stringify(name.slice(0, 80))}`);
      const to = join(folder, name);
      mkdirSync(dirname(to), { recursive: true, mode: 0o700 });
      const written = writePieces(database, name, to);
      if (written.size !== Number(size) || written.sha256 !== sha256) throw new BadBackup(`is damaged at ${name}`);
    }
    return { paths: found.map(({ path }) => String(path)), time: Number(about.get("time")) };
  } catch (error) {
    if (error instanceof BadBackup || !isSqlite(error)) throw error;
    throw new BadBackup(`cannot be read: ${error.message}`);
  } finally {
    database.close();
  }
}

function openBackup(file: string): DatabaseSync {
  // SQLite would say of a file that does not exist only that it cannot be opened.
  closeSync(openSync(file, "r"));
  return new DatabaseSync(file, { readOnly: true });
}

function writePieces(database: DatabaseSync, path: string, to: string): { size: number; sha256: string } {
  const hash = createHash("sha256");
  const file = openSync(to, "wx", 0o600);
  let size = 0;
  try {
    const pieces = database.prepare("SELECT bytes FROM pieces WHERE path = ? ORDER BY n").iterate(path);
    for (const { bytes } of pieces) {
      if (!(bytes instanceof Uint8Array)) throw new BadBackup(`is damaged at ${path}`);
      for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at);
      hash.update(bytes);
      size += bytes.length;
    }
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  return { size, sha256: hash.digest("hex") };
}

function rows(database: DatabaseSync, query: string): Record<string, unknown>[] {
  return database.prepare(query).all() as Record<string, unknown>[];
}

function isSqlite(error: unknown): error is Error {
  return error instanceof Error && (error as NodeJS.ErrnoException).code === "ERR_SQLITE_ERROR";
}

/** Makes a new name in a folder durable, where the system can. */
export function syncFolder(folder: string): void {
  try {
    const open = openSync(folder, "r");
    fsyncSync(open);
    closeSync(open);
  } catch {
    // Windows opens no folder.
  }
}
