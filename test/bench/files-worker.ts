/**
 * The floor of files: a worker with one kind of object, which keeps bodies as rows until its reader has them, and no more
 * of them than a mailbox has in flight.
 *
 *   POST /name?n=0   a row with the body; it is answered when the row is durable
 *   GET /name        one endless body: the rows in order, each removed when it was handed over
 */
import { DurableObject } from "cloudflare:workers";

interface Env {
  readonly STORE: DurableObjectNamespace<Store>;
}

/** Rows that wait for the reader. Bodies have 1 MiB, so that is what a device has in flight. */
const ROWS = 32;

export class Store extends DurableObject<Env> {
  readonly #sql: SqlStorage;
  #next = 0;
  #waiting: (() => void)[] = [];

  constructor(context: DurableObjectState, env: Env) {
    super(context, env);
    this.#sql = context.storage.sql;
    this.#sql.exec("CREATE TABLE IF NOT EXISTS rows (n INTEGER PRIMARY KEY, body BLOB NOT NULL)").toArray();
  }

  override async fetch(request: Request): Promise<Response> {
    if (request.method === "POST") {
      const n = Number(new URL(request.url).searchParams.get("n"));
      const body = await request.arrayBuffer();
      while (n >= this.#next + ROWS) await this.#changed();
      this.#sql.exec("INSERT INTO rows (n, body) VALUES (?, ?)", n, body).toArray();
      this.#wake();
      return new Response(null, { status: 204 });
    }
    this.#next = 0;
    const { readable, writable } = new IdentityTransformStream();
    this.ctx.waitUntil(this.#read(writable.getWriter()).catch(() => undefined));
    return new Response(readable);
  }

  async #read(writer: WritableStreamDefaultWriter<Uint8Array>): Promise<void> {
    for (;;) {
      const [row] = this.#sql.exec<{ body: ArrayBuffer }>("SELECT body FROM rows WHERE n = ?", this.#next).toArray();
      if (row === undefined) {
        await this.#changed();
        continue;
      }
      await writer.write(new Uint8Array(row.body));
      this.#sql.exec("DELETE FROM rows WHERE n = ?", this.#next).toArray();
      this.#next += 1;
      this.#wake();
    }
  }

  #changed(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }
}

export default {
  fetch(request: Request, env: Env): Promise<Response> {
    return env.STORE.getByName(new URL(request.url).pathname).fetch(request);
  },
};
