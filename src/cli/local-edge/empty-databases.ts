/**
 * Removes what workerd leaves in a state folder: a file for each object that was only named, or has deleted its data,
 * and write-ahead logs of up to 4 MiB that are not checkpointed at exit. Cloudflare leaves neither. Also removes Meters
 * of the first release, which set no alarm: if a principal never returned, nothing would wake its Meter to clean up; and
 * Tunnels of releases that kept them on disk: their virtual connections have ended with the process.
 *
 * Call this only while no workerd uses the state folder.
 *
 * @module
 */
import { closeSync, type Dirent, openSync, readdirSync, readSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";

/** File name of an object: its id, then .sqlite. metadata.sqlite beside it holds the alarms of the class. */
const OBJECT = /^([0-9a-f]{64})\.sqlite$/;
const METADATA = "metadata.sqlite";

/** Suffix of the folder that holds Meters. */
const METER = "-Meter";

/** A database with more bytes in use is no left-over, and is not opened. */
const LARGEST = 256 * 1024;

/** Suffix of the folder that held Tunnels. */
const TUNNEL = "-Tunnel";

/** Key of the alarm in workerd's own table. */
const ALARM = 1;

/**
 * Removes databases of objects that have no row, key or alarm, and of Meters without an alarm. Checkpoints the logs of
 * all others.
 *
 * @param state folder where Miniflare keeps its state
 * @returns number of databases removed
 */
export function sweepEmptyDatabases(state: string): number {
  let removed = 0;
  for (const folder of entriesOf(join(state, "do"))) {
    if (!folder.isDirectory()) continue;
    const path = join(state, "do", folder.name);
    if (folder.name.endsWith(TUNNEL)) {
      removed += entriesOf(path).filter(({ name }) => OBJECT.test(name)).length;
      rmSync(path, { recursive: true, force: true });
      continue;
    }
    const alarms = alarmsOf(join(path, METADATA));
    // If the alarms cannot be read, keep all objects.
    if (alarms === undefined) continue;
    for (const { name } of entriesOf(path)) {
      const id = OBJECT.exec(name)?.[1];
      if (id === undefined) continue;
      const file = join(path, name);
      foldLog(file);
      if (alarms.has(id) || !(isEmpty(file) || (folder.name.endsWith(METER) && isForgottenMeter(file)))) continue;
      // Remove the log last: without it, the database would be an older version of itself.
      for (const suffix of ["", "-shm", "-wal"]) rmSync(join(path, `${name}${suffix}`), { force: true });
      removed += 1;
    }
    foldLog(join(path, METADATA));
  }
  return removed;
}

function entriesOf(path: string): Dirent[] {
  try {
    return readdirSync(path, { withFileTypes: true });
  } catch {
    return [];
  }
}

/** Checkpoints a write-ahead log into its database and truncates the log. */
function foldLog(path: string): void {
  if ((statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0) === 0) return;
  try {
    const database = new DatabaseSync(path);
    try {
      database.exec("PRAGMA wal_checkpoint(TRUNCATE)");
    } finally {
      database.close();
    }
  } catch {
    // Harmless: workerd reads the log when it opens the object. Until then it only takes space.
  }
}

/** Returns the ids of objects with an alarm, or undefined if they cannot be read. */
function alarmsOf(path: string): Set<string> | undefined {
  if (statSync(path, { throwIfNoEntry: false }) === undefined) return new Set();
  return looking(path, (database) => {
    const tables = database.prepare("SELECT name FROM sqlite_master WHERE name = '_cf_ALARM'").all();
    if (tables.length === 0) return new Set<string>();
    return new Set(
      database
        .prepare("SELECT actor_id FROM _cf_ALARM")
        .all()
        .map(({ actor_id }) => String(actor_id)),
    );
  });
}

function isEmpty(path: string): boolean {
  const { size } = statSync(path);
  if (size === 0) return true;
  const head = headOf(path);
  if (head === undefined) return false;
  // With an unfolded log, the header is out of date.
  const isFolded = (statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0) === 0;
  if (isFolded && size <= PAGE && head.hasNoTable) return true;
  // Deleted rows leave free pages behind.
  if (size - head.freePages * PAGE > LARGEST) return false;
  return looking(path, hasNoRow) ?? false;
}

/** Page size in bytes. A database starts with one page. */
const PAGE = 4096;
/** Offsets in the first page: the count of free pages, and the schema table, with its entry count if it is a leaf. */
const FREE_PAGES = 36;
const TREE = 100;
const LEAF = 0x0d;

/**
 * Reads the header of a database. Most left-overs are a single page with an empty schema table; opening each as a
 * database would take ten times as long.
 */
function headOf(path: string): { readonly hasNoTable: boolean; readonly freePages: number } | undefined {
  const page = Buffer.alloc(TREE + 8);
  const file = openSync(path, "r");
  try {
    if (readSync(file, page, 0, page.length, 0) < page.length) return undefined;
  } finally {
    closeSync(file);
  }
  if (page.subarray(0, 15).toString("latin1") !== "SQLite format 3") return undefined;
  return {
    hasNoTable: page[TREE] === LEAF && page.readUInt16BE(TREE + 3) === 0,
    freePages: page.readUInt32BE(FREE_PAGES),
  };
}

/**
 * Reports whether a Meter without an alarm holds only its counters. Meters of later releases have an alarm while
 * anything counts, and connections that survive a restart are counted again when they report.
 */
function isForgottenMeter(path: string): boolean {
  return looking(path, (database) => hasNoRow(database, ["connects", "connection:*"])) ?? false;
}

/** @param known glob patterns of keys that do not count as rows */
function hasNoRow(database: DatabaseSync, known: readonly string[] = []): boolean {
  const tables = database.prepare("SELECT name FROM sqlite_master WHERE type = 'table'").all();
  return tables.every(({ name }) => {
    const table = `"${String(name).replaceAll('"', '""')}"`;
    const conditions = name === "_cf_METADATA" ? [`key = ${ALARM} AND value IS NOT NULL`] : [];
    if (name === "_cf_KV") conditions.push(...known.map(() => "key NOT GLOB ?"));
    const where = conditions.length === 0 ? "" : `WHERE ${conditions.join(" AND ")}`;
    const values = name === "_cf_KV" ? known : [];
    return database.prepare(`SELECT 1 FROM ${table} ${where} LIMIT 1`).all(...values).length === 0;
  });
}

/** Opens a database read-only. Returns undefined if it cannot be read. */
function looking<T>(path: string, look: (database: DatabaseSync) => T): T | undefined {
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(path, { readOnly: true });
    return look(database);
  } catch {
    return undefined;
  } finally {
    database?.close();
  }
}
