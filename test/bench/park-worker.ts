/**
 * The floor of parked devices: a worker that holds the requests of devices, and one object for each device, with a table,
 * which rings by a hibernated WebSocket. It has no encapsulation, protocol, tokens or limits.
 *
 *   GET /name with an upgrade   the device's own WebSocket is the object's; a text "ping" is answered by the platform
 *   GET /name?hold=S            is answered with what the object rings, or after S seconds with nothing
 *   GET /name?stream=S          its body begins at once; what the object rings is sent in it, and an octet each S seconds
 *   POST /name                  stores the body as a row, and rings. Answers 204, or 410 if no device is there
 *   POST /name?up               its body is read to its end
 *
 * With mailboxes, a device that connects also has what no edge can do without: a durable queue of its identity and one of
 * its own, each with a table, its consumer and an alarm, and a row for each in a list. The object that rings has no storage
 * then, as on an edge of one machine.
 */
import { DurableObject } from "cloudflare:workers";

interface Env {
  readonly PARK: DurableObjectNamespace<Park>;
  /** Only with mailboxes. */
  readonly QUEUE?: DurableObjectNamespace<Queue>;
  readonly LIST?: DurableObjectNamespace<List>;
}

/** Length of a streamed answer, the largest that LongLived allows. */
const LENGTH = 90 * 1024 * 1024;

const DAY = 24 * 3600_000;

export class Park extends DurableObject<Env> {
  readonly #sql: SqlStorage | undefined;

  constructor(context: DurableObjectState, env: Env) {
    super(context, env);
    context.setWebSocketAutoResponse(new WebSocketRequestResponsePair("ping", "pong"));
    const storage: DurableObjectStorage | undefined = context.storage;
    this.#sql = storage?.sql;
    this.#sql
      ?.exec("CREATE TABLE IF NOT EXISTS log (n INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL)")
      .toArray();
  }

  override async fetch(request: Request): Promise<Response> {
    if (request.method === "POST") {
      const body = await request.arrayBuffer();
      const sockets = this.ctx.getWebSockets();
      if (sockets.length === 0) return new Response(null, { status: 410 });
      this.#sql?.exec("INSERT INTO log (body) VALUES (?)", body).toArray();
      for (const socket of sockets) socket.send(body);
      return new Response(null, { status: 204 });
    }
    const { 0: client, 1: server } = new WebSocketPair();
    this.ctx.acceptWebSocket(server);
    return new Response(null, { status: 101, webSocket: client });
  }

  override webSocketMessage(): void {}

  override webSocketClose(socket: WebSocket): void {
    socket.close();
  }
}

/** The queue of one peer: it is listed, and has a consumer. */
export class Queue extends DurableObject<Env> {
  async attach(consumer: string): Promise<void> {
    await this.env.LIST?.getByName("list").enter(String(this.ctx.id.name));
    this.ctx.storage.sql
      .exec("CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
      .toArray();
    for (const name of ["version", "next", "entered", "generation", "consumer"]) {
      this.ctx.storage.sql.exec("INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)", name, consumer).toArray();
    }
    await this.ctx.storage.setAlarm(Date.now() + DAY);
  }

  override async alarm(): Promise<void> {}
}

export class List extends DurableObject<Env> {
  async enter(name: string): Promise<void> {
    this.ctx.storage.kv.put(name, true);
  }
}

async function attach(name: string, { QUEUE }: Env): Promise<void> {
  if (QUEUE === undefined) return;
  await Promise.all([name, `${name}/pc`].map((peer) => QUEUE.getByName(peer).attach(name)));
}

/** Objects without storage have a namespace that knows names alone. */
function parkNamed({ PARK, QUEUE }: Env, name: string): DurableObjectStub<Park> {
  if (QUEUE === undefined) return PARK.getByName(name);
  const { get } = PARK as unknown as { get(name: string): DurableObjectStub<Park> };
  return get.call(PARK, name);
}

export default {
  async fetch(request: Request, env: Env, context: ExecutionContext): Promise<Response> {
    const { pathname, searchParams } = new URL(request.url);
    if (searchParams.has("up")) {
      const reader = request.body?.getReader();
      while (reader !== undefined && !(await reader.read()).done);
      return new Response(null, { status: 204 });
    }
    const stub = parkNamed(env, pathname);
    // The first GET of one that polls has no hold.
    const begins = request.method === "GET" && (searchParams.get("hold") ?? "0") === "0";
    if (begins) await attach(pathname, env);
    if (request.method === "POST" || request.headers.get("Upgrade") !== null) return stub.fetch(request);
    const { webSocket } = await stub.fetch(request.url, { headers: { Upgrade: "websocket" } });
    if (webSocket === null) return new Response(null, { status: 500 });
    const [hold, interval] = [searchParams.get("hold"), Number(searchParams.get("stream"))];
    return hold === null ? stream(webSocket, interval, context) : held(webSocket, Number(hold));
  },
};

async function held(socket: WebSocket, seconds: number): Promise<Response> {
  const rung = Promise.withResolvers<ArrayBuffer | undefined>();
  socket.binaryType = "arraybuffer";
  socket.addEventListener("message", ({ data }) => rung.resolve(data as ArrayBuffer));
  socket.addEventListener("close", () => rung.resolve(undefined));
  socket.accept();
  const timer = setTimeout(() => rung.resolve(undefined), seconds * 1000);
  const body = await rung.promise;
  clearTimeout(timer);
  socket.close(1000);
  return new Response(body ?? new Uint8Array(0));
}

function stream(socket: WebSocket, seconds: number, context: ExecutionContext): Response {
  const { readable, writable } = new FixedLengthStream(LENGTH);
  const writer = writable.getWriter();
  const over = Promise.withResolvers<void>();
  socket.binaryType = "arraybuffer";
  socket.addEventListener("message", ({ data }) => void write(new Uint8Array(data as ArrayBuffer)));
  socket.addEventListener("close", () => over.resolve());
  socket.accept();
  const timer = setInterval(() => void write(new Uint8Array(1)), seconds * 1000);
  const write = (octets: Uint8Array) => writer.write(octets).catch(() => over.resolve());
  const ended = over.promise.then(() => {
    clearInterval(timer);
    socket.close(1000);
  });
  context.waitUntil(ended);
  void write(new Uint8Array(1));
  return new Response(readable);
}
