/**
 * What objects have reported of themselves, in the SQLite of a Collector: a row for each, the only SQL of the folder.
 *
 * @module
 */
import type { Report } from "../metrics/object-states.ts";
import type { KindTotal, ObjectQuery, ObjectRow } from "../rpc/collector-rpc.ts";
import { searchText, UNESCAPED } from "../rpc/search-text.ts";

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS objects (
    name TEXT PRIMARY KEY, kind TEXT NOT NULL, label TEXT NOT NULL, count INTEGER NOT NULL, octets INTEGER NOT NULL,
    oldest INTEGER, until INTEGER, who TEXT NOT NULL DEFAULT ''
  ) WITHOUT ROWID`;

/** Tables of earlier releases lack the column. */
const ADD_WHO = "ALTER TABLE objects ADD COLUMN who TEXT NOT NULL DEFAULT ''";
const HAS_WHO = "SELECT 1 FROM pragma_table_info('objects') WHERE name = 'who'";

/** Writes a row only if it differs. */
const UPSERT = `
  INSERT INTO objects (name, kind, label, count, octets, oldest, until, who) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
  ON CONFLICT (name) DO UPDATE SET label = excluded.label, count = excluded.count, octets = excluded.octets,
    oldest = excluded.oldest, until = excluded.until, who = excluded.who
  WHERE label <> excluded.label OR count <> excluded.count OR octets <> excluded.octets
    OR oldest IS NOT excluded.oldest OR until IS NOT excluded.until OR who <> excluded.who`;

const SUMS = `
  SELECT kind, label, COUNT(*) AS objects, SUM(count) AS count, SUM(octets) AS octets, MIN(oldest) AS oldest
  FROM objects WHERE until IS NULL OR until > ? GROUP BY kind, label`;

/** What objects are ordered by, the largest first: `age` has those first that began longest ago. */
const ORDERS: Readonly<Record<ObjectQuery["order"], string>> = {
  count: "count",
  octets: "octets",
  age: "-COALESCE(oldest, 0)",
};

/**
 * One page: what comes after a value of the order and a name, of those whose name, label or whom they are for contains a
 * text.
 */
function pageQuery(order: ObjectQuery["order"]): string {
  const [value, name] = [ORDERS[order], "substr(name, length(kind) + 2)"];
  // As searchText.
  const text = Object.entries(UNESCAPED).reduce(
    (all, [escaped, character]) => `replace(${all}, '${escaped}', '${character}')`,
    `lower(${name} || ' ' || who || ' ' || label)`,
  );
  return `
    SELECT ${name} AS name, label, count, octets, oldest, who, ${value} AS value
    FROM objects
    WHERE kind = ?1 AND (?2 = '' OR instr(${text}, ?2) > 0)
      AND (?3 IS NULL OR ${value} < ?3 OR (${value} = ?3 AND ${name} > ?4))
    ORDER BY value DESC, 1 LIMIT ?5`;
}

export class ObjectStore {
  readonly #sql: SqlStorage;

  /** The table is there only after {@link make}. */
  constructor(sql: SqlStorage) {
    this.#sql = sql;
  }

  make(): void {
    this.#sql.exec(SCHEMA);
  }

  /** Brings a table of an earlier release up to date. */
  migrate(): void {
    if (this.#sql.exec(HAS_WHO).toArray().length === 0) this.#sql.exec(ADD_WHO);
  }

  /** Replaces the row of an object; removes it if there is nothing in the object. */
  set({ kind, name, label, count, octets, oldest, until, who }: Report): void {
    const key = `${kind} ${name}`;
    if (count === 0) this.#sql.exec("DELETE FROM objects WHERE name = ?", key);
    else this.#sql.exec(UPSERT, key, kind, label, count, octets, oldest, until, who);
  }

  /** Removes objects whose time is over. */
  removeEnded(now: number): void {
    this.#sql.exec("DELETE FROM objects WHERE until <= ?", now);
  }

  /** Removes connections and links, which end with the run of a command; mailboxes stay. */
  removeRun(): void {
    this.#sql.exec("DELETE FROM objects WHERE kind <> 'mailbox'");
  }

  sums(now: number): KindTotal[] {
    return this.#sql.exec(SUMS, now).toArray() as object[] as KindTotal[];
  }

  /** One page of the objects of a kind. */
  page({ kind, contains, order, after, limit }: ObjectQuery): ObjectRow[] {
    const [value, name] = after === undefined ? [null, ""] : [after.value, after.name];
    const rows = this.#sql.exec(pageQuery(order), kind, searchText(contains), value, name, limit).toArray();
    return rows as object[] as ObjectRow[];
  }

  /** Names of connections. */
  connections(limit: number): string[] {
    const rows = this.#sql.exec("SELECT name FROM objects WHERE kind = 'connection' LIMIT ?", limit).toArray();
    return rows.map(({ name }) => String(name).slice("connection ".length));
  }
}
