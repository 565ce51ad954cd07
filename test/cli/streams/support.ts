/** Programs at both ends of streams. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer, type NetConnectOpts, type Socket } from "node:net";
import type { TestContext } from "node:test";
import type { Running } from "../support.ts";

/** A service that echoes. */
export async function echo(t: TestContext): Promise<string> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on("error", () => undefined);
    socket.pipe(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  return `127.0.0.1:${(server.address() as { port: number }).port}`;
}

export function open(t: TestContext, options: NetConnectOpts): Socket {
  const socket = connect(options);
  // A test that asks for the error gets it nevertheless.
  socket.on("error", () => undefined);
  t.after(() => socket.destroy());
  return socket;
}

/** Writes a text, and resolves when it has come back. */
export async function isEchoed(socket: Socket, text: string): Promise<void> {
  socket.write(text);
  let got = "";
  while (got.length < text.length) {
    const [piece] = (await once(socket, "data")) as [Buffer];
    got += piece.toString();
  }
  assert.equal(got, text);
}

/** Asks a SOCKS 5 proxy for an IPv4 address and port; resolves with its reply. */
export async function socksTo(socket: Socket, target: string): Promise<number | undefined> {
  const [host = "", port = ""] = target.split(":");
  const [high, low] = [Number(port) >> 8, Number(port) & 0xff];
  socket.write(Uint8Array.of(5, 1, 0, 5, 1, 0, 1, ...host.split(".").map(Number), high, low));
  let got = Buffer.alloc(0);
  while (got.length < 12) {
    const [piece] = (await once(socket, "data")) as [Buffer];
    got = Buffer.concat([got, piece]);
  }
  return got[3];
}

/** Resolves with the code of the error with which a socket ends. */
export async function errorOf(socket: Socket): Promise<string | undefined> {
  socket.resume();
  const [error] = (await once(socket, "error")) as [NodeJS.ErrnoException];
  return error.code;
}

/** Resolves when standard error has a matching line from now on. */
export function told({ process: { stderr } }: Running, pattern: RegExp): Promise<void> {
  return new Promise((resolve) => {
    let text = "";
    stderr?.on("data", (piece: string) => {
      text += piece;
      if (pattern.test(text)) resolve();
    });
  });
}
