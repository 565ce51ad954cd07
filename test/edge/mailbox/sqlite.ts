/** The store's `Sql` on Node's SQLite, with rows counted as the platform bills them. */
import { DatabaseSync } from "node:sqlite";
import type { Sql } from "../../../src/edge/mailbox/mailbox-store.ts";

export interface TestDatabase {
  readonly sql: Sql;
  readonly transaction: <T>(run: () => T) => T;
  /** The statement at which SQLite fails next, by a part of its text; undefined for none. */
  failAt: string | undefined;
}

/** An in-memory database that outlives the stores opened on it. */
export function database(): TestDatabase {
  const db = new DatabaseSync(":memory:");
  const test: TestDatabase = {
    sql: {
      exec(query, ...bindings) {
        if (test.failAt !== undefined && query.includes(test.failAt)) throw new Error("the disk is full");
        if (bindings.length === 0 && query.includes(";")) {
          db.exec(query);
          return { toArray: () => [], rowsWritten: 0 };
        }
        const statement = db.prepare(query);
        const values = bindings.map((value) => (value instanceof ArrayBuffer ? new Uint8Array(value) : value));
        if (/^\s*SELECT/i.test(query)) {
          const rows = statement.all(...values);
          return { toArray: () => rows, rowsWritten: 0 };
        }
        const { changes } = statement.run(...values);
        return { toArray: () => [], rowsWritten: Number(changes) };
      },
    },
    transaction(run) {
      db.exec("BEGIN");
      try {
        const result = run();
        db.exec("COMMIT");
        return result;
      } catch (error) {
        db.exec("ROLLBACK");
        throw error;
      }
    },
    failAt: undefined,
  };
  return test;
}
