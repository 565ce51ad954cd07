/**
 * The floor of streams between two devices: a worker with two objects, each with one WebSocket, that pass messages to
 * each other. No encapsulation, no protocol, no keys.
 *
 *   GET /name?to=other with an upgrade: what is sent here arrives at the WebSocket of the other object, and is then
 *   answered by an empty text
 *
 * And the floor of streams to TCP: one object that dials.
 *
 *   GET /name?dial=host:port with an upgrade: what is sent here is written to that, and is then answered by an empty text
 *   GET /name?dial=host:port&by=other  the same, but the other object dials, and the two have a WebSocket: a connection
 *   that is to outlive that of its device cannot be held by the object that ends with it
 */
import { connect } from "cloudflare:sockets";
import { DurableObject } from "cloudflare:workers";

/** Where more gains nothing. */
const READ = 64 * 1024;

interface Env {
  readonly END: DurableObjectNamespace<End>;
}

export class End extends DurableObject<Env> {
  readonly #connected = Promise.withResolvers<void>();
  #other: DurableObjectStub<End> | undefined;

  #writer: WritableStreamDefaultWriter<Uint8Array> | undefined;
  /** To the object that dials. */
  #beyond: WebSocket | undefined;

  override async fetch(request: Request): Promise<Response> {
    const { 0: client, 1: server } = new WebSocketPair();
    const { searchParams } = new URL(request.url);
    const by = searchParams.get("by");
    if (by !== null) await this.#carry(by, request.url, server);
    this.ctx.acceptWebSocket(server, [searchParams.get("to") ?? ""]);
    const dial = searchParams.get("dial");
    if (dial !== null && by === null) this.#dial(dial, server);
    this.#connected.resolve();
    return new Response(null, { status: 101, webSocket: client });
  }

  override async webSocketMessage(socket: WebSocket, message: ArrayBuffer | string): Promise<void> {
    if (typeof message === "string") return;
    if (this.#beyond !== undefined) {
      this.#beyond.send(message);
      return;
    }
    if (this.#writer !== undefined) {
      await this.#writer.write(new Uint8Array(message));
      socket.send("");
      return;
    }
    this.#other ??= this.env.END.getByName(this.ctx.getTags(socket)[0] ?? "");
    await this.#other.take(new Uint8Array(message));
    socket.send("");
  }

  override webSocketClose(): void {
    this.#beyond?.close();
    this.#writer?.close().catch(() => undefined);
  }

  /** Passes on what comes from the other object. */
  async #carry(by: string, url: string, device: WebSocket): Promise<void> {
    const there = new URL(url);
    there.searchParams.delete("by");
    const { webSocket } = await this.env.END.getByName(by).fetch(there.href, { headers: { Upgrade: "websocket" } });
    if (webSocket === null) throw new Error("the other object has not answered with a WebSocket");
    webSocket.binaryType = "arraybuffer";
    webSocket.accept();
    webSocket.addEventListener("message", ({ data }) => device.send(data as ArrayBuffer | string));
    webSocket.addEventListener("close", () => device.close());
    this.#beyond = webSocket;
  }

  #dial(to: string, device: WebSocket): void {
    const socket = connect(to, { allowHalfOpen: true });
    this.#writer = socket.writable.getWriter();
    const reader = socket.readable.getReader({ mode: "byob" });
    const read = async () => {
      for (;;) {
        const { value, done } = await reader.read(new Uint8Array(READ));
        if (done || value === undefined) break;
        device.send(value);
      }
      device.close();
    };
    this.ctx.waitUntil(read().catch(() => device.close()));
  }

  async take(octets: Uint8Array): Promise<void> {
    if (this.ctx.getWebSockets().length === 0) await this.#connected.promise;
    for (const socket of this.ctx.getWebSockets()) socket.send(octets);
  }
}

export default {
  fetch(request: Request, env: Env): Promise<Response> {
    return env.END.getByName(new URL(request.url).pathname.slice(1)).fetch(request);
  },
};
