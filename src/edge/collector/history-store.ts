/**
 * What was counted in the last hours, in the SQLite of a Collector: a ring with a row for each interval in which something
 * was counted. The current interval is not here but with the totals, so that counting costs no row of its own.
 *
 * @module
 */
import type { Increments } from "../metrics/counters.ts";
import { HISTORY_SLOTS } from "../metrics/limits.ts";
import type { HistoryInterval } from "../rpc/collector-rpc.ts";

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS history (
    slot INTEGER PRIMARY KEY, interval INTEGER NOT NULL, increments TEXT NOT NULL
  )`;

export class HistoryStore {
  readonly #sql: SqlStorage;
  #made = false;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
  }

  /** Keeps what was counted in an interval. It replaces what was counted one turn of the ring ago. */
  keep({ interval, increments }: HistoryInterval): void {
    this.#make();
    const slot = interval % HISTORY_SLOTS;
    const [row] = this.#sql.exec("SELECT interval, increments FROM history WHERE slot = ?", slot).toArray();
    // A clock that was set back comes to an interval again.
    const before = row?.interval === interval ? (JSON.parse(String(row.increments)) as Increments) : {};
    const text = JSON.stringify(sum(before, increments));
    this.#sql.exec(
      "INSERT OR REPLACE INTO history (slot, interval, increments) VALUES (?, ?, ?)",
      slot,
      interval,
      text,
    );
  }

  /** The intervals that end less than a turn of the ring before `now`, the number of the current one. */
  intervals(now: number): HistoryInterval[] {
    this.#make();
    const oldest = now - HISTORY_SLOTS;
    const rows = this.#sql.exec(
      "SELECT interval, increments FROM history WHERE interval > ? AND interval <= ?",
      oldest,
      now,
    );
    return rows.toArray().map(({ interval, increments }) => ({
      interval: Number(interval),
      increments: JSON.parse(String(increments)) as Increments,
    }));
  }

  #make(): void {
    if (!this.#made) this.#sql.exec(SCHEMA);
    this.#made = true;
  }
}

/** Adds up increments by series. */
export function sum(one: Increments, other: Increments): Increments {
  const all: Record<string, number> = { ...one };
  for (const [id, more] of Object.entries(other)) all[id] = (all[id] ?? 0) + more;
  return all;
}
