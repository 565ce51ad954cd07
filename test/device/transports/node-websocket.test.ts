/** The end of a WebSocket in Node. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import type { Socket } from "node:net";
import { describe, it } from "node:test";
import { openTransport } from "../../../src/device/index.ts";
import { CLOSE_TIMEOUT } from "../../../src/device/limits.ts";
import { listen } from "../../support/sockets.ts";

/** Accepts a WebSocket [RFC 6455 4.2.2], and nothing after it. */
async function accept(socket: Socket): Promise<void> {
  const [head] = (await once(socket, "data")) as [Buffer];
  const [, key = ""] = /^Sec-WebSocket-Key: *(.*)\r$/im.exec(head.toString("latin1")) ?? [];
  const answer = createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
  const upgrade = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade";
  socket.write(`${upgrade}\r\nSec-WebSocket-Accept: ${answer}\r\n\r\n`);
}

describe("a WebSocket that is closed", () => {
  it("is gone soon, also where nothing answers", async (t) => {
    let ended: Promise<unknown> | undefined;
    const server = await listen((socket) => {
      ended = once(socket, "end");
      void accept(socket);
    });
    t.after(() => server.close());
    const edge = `http://127.0.0.1:${server.port}`;
    const transport = openTransport({ transport: "websocket", relay: "127.0.0.1", edge });
    await transport.established;
    const since = performance.now();
    transport.close();
    await ended;
    const took = performance.now() - since;
    assert.ok(took < 2 * CLOSE_TIMEOUT, `it was open for ${took} ms more`);
  });
});
