/**
 * The floors of files: a worker whose object stores bodies as rows until its reader has them, and no more of them than
 * a mailbox has in flight.
 *
 *   POST /name?n=0   stores the body as a row, and answers when it is durable
 *   GET /name        one endless body: the rows in order, each removed once it is delivered
 *
 * Under `/via/name` the same passes through an object at each end, as needed for a device's connection that may
 * hibernate: the sender's object calls the store, which calls the reader's. There a row is removed only when the reader
 * has it on its disk:
 *
 *   PUT /via/name?n=0   the reader has the rows up to this one
 *
 * Under `/stream/name` a whole file comes as one body, as a LongLived device's POST does, and takes the same way. The
 * platform copies the bodies between the Worker and the objects, and the sender's object cuts them into rows:
 *
 *   POST /stream/name   answers when the last row is durable
 *
 * This is all that a transfer by LongLived must do, without a protocol.
 */
import { DurableObject } from "cloudflare:workers";

interface Env {
  readonly STORE: DurableObjectNamespace<Store>;
  readonly END: DurableObjectNamespace<End>;
}

/** Rows waiting for the reader. Bodies are 1 MiB, so that equals what a device has in flight. */
const ROWS = 32;

/** Bytes of a row that is cut from a stream: what the sender's bodies have. */
const ROW = 1024 * 1024;

/** Calls of a sender's object to the store: enough that reading and storing overlap. */
const CALLS = 4;

export class Store extends DurableObject<Env> {
  readonly #sql: SqlStorage;
  /** The first row that is not removed. */
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
      await this.append(n, body);
      return new Response(null, { status: 204 });
    }
    this.#next = 0;
    const { readable, writable } = new IdentityTransformStream();
    const writer = writable.getWriter();
    const write = async (body: Uint8Array) => {
      await writer.write(body);
      this.remove(this.#next);
    };
    this.ctx.waitUntil(this.#read(write).catch(() => undefined));
    return new Response(readable);
  }

  async append(n: number, body: ArrayBuffer): Promise<void> {
    while (n >= this.#next + ROWS) await this.#changed();
    this.#sql.exec("INSERT INTO rows (n, body) VALUES (?, ?)", n, body).toArray();
    this.#wake();
  }

  /** From now on sends the rows to a reader's object. */
  attach(reader: string): void {
    this.#next = 0;
    const end = this.env.END.getByName(reader);
    this.ctx.waitUntil(this.#read((body) => end.deliver(body)).catch(() => undefined));
  }

  /** Removes the rows up to this one. */
  remove(n: number): void {
    this.#sql.exec("DELETE FROM rows WHERE n <= ?", n).toArray();
    this.#next = n + 1;
    this.#wake();
  }

  async #read(write: (body: Uint8Array) => Promise<void>): Promise<void> {
    for (let n = 0; ; ) {
      const [row] = this.#sql.exec<{ body: ArrayBuffer }>("SELECT body FROM rows WHERE n = ?", n).toArray();
      if (row === undefined) {
        await this.#changed();
        continue;
      }
      await write(new Uint8Array(row.body));
      n += 1;
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

export class End extends DurableObject<Env> {
  #writer: WritableStreamDefaultWriter<Uint8Array> | undefined;

  override async fetch(request: Request): Promise<Response> {
    const { pathname, searchParams } = new URL(request.url);
    const store = this.env.STORE.getByName(pathname);
    if (request.method === "POST" && pathname.startsWith("/stream/") && request.body !== null) {
      await appendAll(store, request.body);
      return new Response(null, { status: 204 });
    }
    if (request.method === "POST") {
      await store.append(Number(searchParams.get("n")), await request.arrayBuffer());
      return new Response(null, { status: 204 });
    }
    if (request.method === "PUT") {
      await store.remove(Number(searchParams.get("n")));
      return new Response(null, { status: 204 });
    }
    const { readable, writable } = new IdentityTransformStream();
    this.#writer = writable.getWriter();
    await store.attach(this.ctx.id.name ?? "");
    return new Response(readable);
  }

  async deliver(body: Uint8Array): Promise<void> {
    await this.#writer?.write(body);
  }
}

/** Stores a stream as rows. */
async function appendAll(store: DurableObjectStub<Store>, stream: ReadableStream<Uint8Array>): Promise<void> {
  const reader = stream.getReader({ mode: "byob" }) as unknown as ByobReader;
  const calls = new Set<Promise<void>>();
  for (let n = 0; ; n += 1) {
    // Each row has a buffer of its own, which is not copied until it is sent.
    const { value, done } = await reader.read(new Uint8Array(ROW), { min: ROW });
    if (value !== undefined && value.length > 0) {
      const body = value.length === ROW ? value.buffer : value.slice().buffer;
      const call: Promise<void> = store.append(n, body as ArrayBuffer).finally(() => calls.delete(call));
      calls.add(call);
    }
    if (done) break;
    if (calls.size >= CALLS) await Promise.race(calls);
  }
  await Promise.all(calls);
}

/** The part of the reader used here, with an option that the platform supports but its types lack. */
interface ByobReader {
  read(
    view: Uint8Array<ArrayBuffer>,
    options: { readonly min: number },
  ): Promise<{ readonly done: boolean; readonly value?: Uint8Array | undefined }>;
}

export default {
  fetch(request: Request, env: Env): Promise<Response> {
    const { pathname } = new URL(request.url);
    if (!/^\/(via|stream)\//.test(pathname)) return env.STORE.getByName(pathname).fetch(request);
    const end = request.method === "POST" ? "sender" : "reader";
    return env.END.getByName(`${end} ${pathname}`).fetch(request);
  },
};
