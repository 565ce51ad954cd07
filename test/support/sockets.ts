/** Raw sockets for tests: a scripted client, and a server that can be inspected. */
import { connect, createServer, type Server, type Socket } from "node:net";

/** How long a test waits, in milliseconds, before it fails and names what it waited for: far above what is needed. */
export const PATIENCE = 60_000;

/** A raw connection whose received octets can be awaited. */
export class RawSocket {
  readonly socket: Socket;
  received = Buffer.alloc(0);
  ended = false;
  #wake: (() => void) | undefined;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", (chunk: Buffer) => {
      this.received = Buffer.concat([this.received, chunk]);
      this.#wake?.();
    });
    const end = () => {
      this.ended = true;
      this.#wake?.();
    };
    socket.on("end", end);
    socket.on("error", end);
    socket.on("close", end);
  }

  static async open(port: number): Promise<RawSocket> {
    const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
    await new Promise((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
    });
    return new RawSocket(socket);
  }

  write(octets: string | Uint8Array): void {
    this.socket.write(octets);
  }

  /** Waits until what was received satisfies `enough`, or the connection ends; fails after `patience` ms. */
  async until(enough: (received: Buffer) => boolean, patience = PATIENCE): Promise<Buffer> {
    const late = setTimeout(() => this.#wake?.(), patience);
    const limit = Date.now() + patience;
    try {
      while (!enough(this.received) && !this.ended) {
        if (Date.now() >= limit) throw new Error(`waited in vain; received ${excerpt(this.received)}`);
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
      return this.received;
    } finally {
      clearTimeout(late);
    }
  }

  /** Removes and returns `count` received octets. */
  async take(count: number): Promise<Buffer> {
    await this.until((received) => received.length >= count);
    const taken = this.received.subarray(0, count);
    this.received = this.received.subarray(count);
    return taken;
  }

  /** Removes and returns the head of one HTTP response; its body stays. */
  async head(patience = PATIENCE): Promise<{ status: string; headers: string }> {
    await this.until((received) => received.includes("\r\n\r\n"), patience);
    const end = this.received.indexOf("\r\n\r\n");
    if (end < 0) throw new Error(`no HTTP response; received ${excerpt(this.received)}`);
    const [status = "", ...headers] = this.received.subarray(0, end).toString("latin1").split("\r\n");
    this.received = this.received.subarray(end + 4);
    return { status, headers: headers.join("\r\n") };
  }

  /** Removes and returns one HTTP response with a Content-Length. */
  async response(patience = PATIENCE): Promise<{ status: string; headers: string; body: Buffer }> {
    const { status, headers } = await this.head(patience);
    const length = Number(/^content-length: *([0-9]+)/im.exec(headers)?.[1] ?? 0);
    return { status, headers, body: await this.take(length) };
  }

  /** Waits for the other side's end of the connection. */
  async closed(patience = PATIENCE): Promise<void> {
    await this.until(() => false, patience);
  }

  fin(): void {
    this.socket.end();
  }

  reset(): void {
    this.socket.resetAndDestroy();
  }
}

/** The beginning of some octets, for an error message. */
export function excerpt(octets: Uint8Array): string {
  return JSON.stringify(Buffer.from(octets.subarray(0, 300)).toString("latin1"));
}

export interface TestServer {
  readonly port: number;
  readonly connections: Set<Socket>;
  close(): Promise<void>;
}

/** A TCP server on a free port of 127.0.0.1. */
export async function listen(serve: (socket: Socket) => void): Promise<TestServer> {
  const connections = new Set<Socket>();
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    connections.add(socket);
    socket.on("close", () => connections.delete(socket));
    socket.on("error", () => undefined);
    serve(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return {
    port: address.port,
    connections,
    close: () =>
      new Promise((resolve) => {
        for (const socket of connections) socket.destroy();
        server.close(() => resolve());
      }),
  };
}
