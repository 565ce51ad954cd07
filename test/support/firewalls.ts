/** What networks put between a device and an edge, scripted. */
import { createServer, request, type Server } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import type { TestContext } from "node:test";
import { sleep } from "../../src/lib/runtime/timeout.ts";
import { listen } from "./sockets.ts";

async function started(t: TestContext, server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

/** A reverse proxy that passes on requests and answers only when they are whole, and knows no Upgrade. */
export function bufferingProxy(t: TestContext, edgePort: number): Promise<number> {
  const server = createServer((asked, answer) => {
    const { upgrade: _, connection: __, ...headers } = asked.headers;
    const body: Buffer[] = [];
    asked.on("data", (piece: Buffer) => body.push(piece));
    asked.on("end", () => {
      const options = { port: edgePort, host: "127.0.0.1", method: asked.method, path: asked.url, headers };
      const forwarded = request(options, (response) => {
        const pieces: Buffer[] = [];
        response.on("data", (piece: Buffer) => pieces.push(piece));
        response.on("error", () => answer.destroy());
        response.on("end", () => {
          answer.writeHead(response.statusCode ?? 502, response.headers).end(Buffer.concat(pieces));
        });
      });
      forwarded.on("error", () => answer.destroy());
      answer.on("close", () => forwarded.destroy());
      forwarded.end(Buffer.concat(body));
    });
    asked.on("error", () => answer.destroy());
  });
  return started(t, server);
}

/** A network that answers every request itself: with a page, or a redirect to one. */
export function captivePortal(
  t: TestContext,
  { page, redirect }: { page: string; redirect?: string },
): Promise<number> {
  const server = createServer((asked, answer) => {
    asked.resume();
    const headers = { "Content-Type": "text/html", "Set-Cookie": `portal=${page}`, "X-Page": page };
    answer.writeHead(redirect === undefined ? 200 : 302, {
      ...headers,
      ...(redirect !== undefined && { Location: redirect }),
    });
    answer.end(`<!doctype html><title>${page}</title><p>${page}`);
  });
  return started(t, server);
}

/** A line that carries 20 KiB a second each way, on each connection. */
export async function thinLine(t: TestContext, edgePort: number): Promise<number> {
  const slowly = async (from: Socket, to: Socket) => {
    for await (const piece of from as AsyncIterable<Buffer>) {
      for (let at = 0; at < piece.length; at += 2048) {
        to.write(piece.subarray(at, at + 2048));
        // What is small passes at once.
        if (piece.length > 2048) await sleep(100);
      }
    }
    to.end();
  };
  const server = await listen((socket) => {
    const there = connect(edgePort, "127.0.0.1");
    there.on("error", () => socket.destroy());
    for (const [from, to] of [
      [socket, there],
      [there, socket],
    ] as const)
      slowly(from, to).catch(() => to.destroy());
  });
  t.after(() => server.close());
  return server.port;
}

/** A port that accepts connections and says nothing. */
export async function silentPort(t: TestContext): Promise<number> {
  const server = await listen((socket) => socket.resume());
  t.after(() => server.close());
  return server.port;
}
