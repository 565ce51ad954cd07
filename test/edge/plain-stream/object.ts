/** A PlainStream in this process, whose storage fails as the test says. */
import { registerHooks } from "node:module";
import type { Env } from "../../../src/edge/env.ts";
import type { PlainStream } from "../../../src/edge/plain-stream/plain-stream.ts";
import { ORDER, packHeader, type ReadAnswer, STATE, unpackHeader } from "../../../src/edge/rpc/plain-stream-rpc.ts";
import { database, type TestDatabase } from "../mailbox/sqlite.ts";

/** What the platform provides. */
const PLATFORM = "export class DurableObject { constructor(ctx, env) { this.ctx = ctx; this.env = env; } }";

registerHooks({
  resolve(specifier, context, next) {
    if (specifier !== "cloudflare:workers") return next(specifier, context);
    return { url: `data:text/javascript,${encodeURIComponent(PLATFORM)}`, shortCircuit: true };
  },
});
// What is counted is sent after a while, which never passes here.
Object.assign(globalThis, { scheduler: { wait: () => new Promise(() => undefined) } });
const { PlainStream: Real } = await import("../../../src/edge/plain-stream/plain-stream.ts");

export interface DrivenStream {
  readonly stream: PlainStream;
  readonly db: TestDatabase;
  /** The object loses its memory. */
  wake(): void;
  /** All that a reader finds, as text. */
  text(): Promise<string>;
}

/** @param name of the stream, whose creator has no account */
export function driveStream(name = "app/test/driven"): DrivenStream {
  const db = database();
  let alarm: number | null = null;
  const storage = {
    sql: {
      databaseSize: 0,
      exec(query: string, ...bindings: (string | number | null | Uint8Array)[]) {
        const rows = db.sql.exec(query, ...bindings).toArray();
        return Object.assign(rows, { toArray: () => rows });
      },
    },
    transactionSync: db.transaction,
    getAlarm: async () => alarm,
    setAlarm: async (at: number) => {
      alarm = at;
    },
    deleteAll: async () => {
      for (const table of db.sql.exec("SELECT name FROM sqlite_master WHERE type = 'table'").toArray()) {
        db.sql.exec(`DROP TABLE ${String(table.name)}`);
      }
    },
  };
  const context = { storage, id: { name }, waitUntil: () => undefined, getWebSockets: () => [] };
  const make = () => new Real(context as unknown as DurableObjectState, {} as Env);
  let stream = make();
  return {
    get stream() {
      return stream;
    },
    db,
    wake() {
      stream = make();
    },
    async text() {
      let text = "";
      for (let offset = "-1"; ; ) {
        const order = { offset, resumes: false, live: false, events: false, etag: undefined };
        const headers = { [ORDER]: packHeader(order) };
        const answer = await stream.fetch(new Request("http://stream/", { headers }));
        const said = unpackHeader<ReadAnswer>(answer.headers.get(STATE));
        if (!said.ok) throw new Error(`reading is refused: ${said.reason}`);
        text += await answer.text();
        offset = said.state.next;
        if (said.state.upToDate) return text;
      }
    },
  };
}
