/**
 * What the runtime leaves in a state folder beside what objects hold: a file for each object that is merely named or has
 * deleted all it had, and write-ahead logs of up to 4 MiB that nobody folds into their databases when it stops. On
 * Cloudflare there is neither. And what the first release left in Meters: it set no alarm, so that of a principal who does
 * not come again nothing would wake the object to clear up.
 *
 * Only for a state folder that no runtime uses.
 *
 * @module
 */
import { closeSync, type Dirent, openSync, readdirSync, readSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";

/** An object's file: its id and this. Beside them stands metadata.sqlite, with the alarms of a class. */
const OBJECT = /^([0-9a-f]{64})\.sqlite$/;
const METADATA = "metadata.sqlite";

/** What the name of the folder of Meters ends with. */
const METER = "-Meter";

/** A database with more octets in use than this is no leftover: it is not even looked into. */
const LARGEST = 256 * 1024;

/** The key of the alarm in the runtime's own table. */
const ALARM = 1;

/**
 * Removes the databases of objects without a row, a key or an alarm, and of Meters without an alarm, and folds the logs of
 * all others.
 *
 * @param state folder that miniflare keeps its state in
 * @returns how many were removed
 */
export function sweepEmptyDatabases(state: string): number {
  let removed = 0;
  for (const folder of entriesOf(join(state, "do"))) {
    if (!folder.isDirectory()) continue;
    const path = join(state, "do", folder.name);
    const alarms = alarmsOf(join(path, METADATA));
    // When it cannot be told which objects have alarms, all stay.
    if (alarms === undefined) continue;
    for (const { name } of entriesOf(path)) {
      const id = OBJECT.exec(name)?.[1];
      if (id === undefined) continue;
      const file = join(path, name);
      foldLog(file);
      if (alarms.has(id) || !(isEmpty(file) || (folder.name.endsWith(METER) && isForgottenMeter(file)))) continue;
      // The log last: a database without its log would be an older state of itself.
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

/** Writes what is in a write-ahead log into its database, so that the log takes no room. */
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
    // The runtime reads the log itself when it opens the object: it only takes room until then.
  }
}

/** Ids of objects with an alarm; undefined when that cannot be told. */
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
  // A log that could not be folded has what the head does not say.
  const isFolded = (statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0) === 0;
  if (isFolded && size <= PAGE && head.hasNoTable) return true;
  // What was deleted leaves its pages free.
  if (size - head.freePages * PAGE > LARGEST) return false;
  return looking(path, hasNoRow) ?? false;
}

/** Octets of a page, which is what a database begins with. */
const PAGE = 4096;
/** Where the first page says how many pages are free, and how many entries the list of tables has when it has no branches. */
const FREE_PAGES = 36;
const TREE = 100;
const LEAF = 0x0d;

/**
 * What the head of a database says. Most leftovers are one page with an empty list of tables: to open each as a database
 * would take ten times as long.
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
 * Whether a Meter without an alarm has nothing but what it counts. Those of later releases have an alarm as long as something
 * counts, and what a restart has left alive counts anew when it is heard of.
 */
function isForgottenMeter(path: string): boolean {
  return looking(path, (database) => hasNoRow(database, ["connects", "connection:*"])) ?? false;
}

/** @param known patterns of keys that do not count as rows */
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

/** Undefined when the database cannot be read: then nothing is said of it. */
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
