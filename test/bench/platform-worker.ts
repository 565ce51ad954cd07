/**
 * The floor of mailboxes: a worker with one kind of object, which writes each request or WebSocket message as one row
 * and answers. The output gate holds the answer until the row is durable, as it does for the edge.
 *
 *   POST /name      stores the body as a row
 *   GET /name       returns the total octets of the rows, DELETE removes them
 *   GET /name with an upgrade: each message is a row and is answered; ?reader: is sent each message that arrives
 */
import { DurableObject } from "cloudflare:workers";

interface Env {
  readonly LOG: DurableObjectNamespace<Log>;
}

export class Log extends DurableObject<Env> {
  readonly #sql: SqlStorage;

  constructor(context: DurableObjectState, env: Env) {
    super(context, env);
    this.#sql = context.storage.sql;
    this.#sql
      .exec("CREATE TABLE IF NOT EXISTS log (n INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL)")
      .toArray();
  }

  override async fetch(request: Request): Promise<Response> {
    if (request.headers.get("Upgrade") === "websocket") {
      const { 0: client, 1: server } = new WebSocketPair();
      this.ctx.acceptWebSocket(server, new URL(request.url).search === "?reader" ? ["reader"] : []);
      return new Response(null, { status: 101, webSocket: client });
    }
    if (request.method === "POST") {
      this.#append(await request.arrayBuffer());
      return new Response(null, { status: 204 });
    }
    if (request.method === "DELETE") this.#sql.exec("DELETE FROM log").toArray();
    const [row] = this.#sql.exec("SELECT coalesce(sum(length(body)), 0) AS octets FROM log").toArray();
    return new Response(String(row?.octets));
  }

  override webSocketMessage(socket: WebSocket, message: ArrayBuffer | string): void {
    if (typeof message === "string") return;
    this.#append(message);
    for (const reader of this.ctx.getWebSockets("reader")) reader.send(message);
    socket.send("");
  }

  #append(body: ArrayBuffer): void {
    this.#sql.exec("INSERT INTO log (body) VALUES (?)", body).toArray();
  }
}

export default {
  fetch(request: Request, env: Env): Promise<Response> {
    return env.LOG.getByName(new URL(request.url).pathname).fetch(request);
  },
};
