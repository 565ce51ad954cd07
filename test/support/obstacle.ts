/** A proxy in front of an edge that treats each connection by what it carries, as firewalls do. */
import { connect, type Socket } from "node:net";
import type { TestContext } from "node:test";
import { listen } from "./sockets.ts";
import { Watch } from "./watch.ts";

/** What a connection carries, by its first request. */
export type Carried = "websocket" | "longlived get" | "longlived post" | "keepalive get" | "keepalive post" | "polling";

/**
 * `refuse`: answers 403 with a page. `hold`: takes the request and never answers. `buffer`: passes nothing on until the
 * sender has ended. A number: passes, and cuts the connection after as many milliseconds.
 */
export type Treatment = "pass" | "refuse" | "hold" | "buffer" | number;

export class Obstacle {
  /** How connections are treated; may be changed at any time. */
  treat: (carried: Carried) => Treatment = () => "pass";
  /** What each connection carried, in order. */
  readonly seen: Carried[] = [];
  readonly watch = new Watch();
  readonly #open = new Map<Socket, Carried>();
  #port = 0;

  /** @param edge URL of the edge, `http:` */
  static async start(t: TestContext, edge: string): Promise<Obstacle> {
    const obstacle = new Obstacle();
    const to = Number(new URL(edge).port);
    const server = await listen((socket) => {
      socket.once("data", (head: Buffer) => obstacle.#serve(socket, head, to));
    });
    obstacle.#port = server.port;
    t.after(() => server.close());
    return obstacle;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** What is carried by the connections that are open. */
  get open(): readonly Carried[] {
    return [...this.#open.values()];
  }

  /** Cuts the connections that carry this. */
  cut(carried: Carried): void {
    for (const [socket, what] of this.#open) if (what === carried) socket.destroy();
  }

  #serve(socket: Socket, head: Buffer, port: number): void {
    const carried = carriedBy(head.toString("latin1"));
    this.seen.push(carried);
    this.#open.set(socket, carried);
    const treatment = this.treat(carried);
    socket.on("close", () => {
      this.#open.delete(socket);
      this.watch.changed();
    });
    this.watch.changed();
    if (treatment === "hold") {
      socket.on("end", () => socket.end());
      socket.resume();
      return;
    }
    if (treatment === "refuse") {
      socket.end("HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nContent-Length: 9\r\n\r\nforbidden");
      return;
    }
    const up = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    const end = () => {
      socket.destroy();
      up.destroy();
    };
    for (const one of [socket, up]) one.on("error", end);
    socket.on("close", end);
    up.on("close", end);
    if (treatment === "buffer") {
      pour(socket, up, [head]);
      pour(up, socket, []);
      return;
    }
    up.write(head);
    socket.pipe(up);
    up.pipe(socket);
    if (typeof treatment === "number") setTimeout(end, treatment).unref();
  }
}

/** Passes on what comes once its end has come. */
function pour(from: Socket, to: Socket, kept: Buffer[]): void {
  from.on("data", (piece: Buffer) => kept.push(piece));
  from.on("end", () => to.end(Buffer.concat(kept)));
}

function carriedBy(head: string): Carried {
  const method = head.startsWith("GET") ? "get" : "post";
  if (head.includes("ConnType=WebSocket")) return "websocket";
  if (head.includes("ConnType=LongLived")) return `longlived ${method}`;
  return head.includes("ConnType=KeepAlive") ? `keepalive ${method}` : "polling";
}
