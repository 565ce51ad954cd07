/** What a WebSocket virtual connection keeps of the messages that its device has sent. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { SstpEndpoint } from "../../../src/edge/endpoint/sstp-endpoint.ts";
import { HOLD_IGNORED_OCTETS } from "../../../src/edge/tunnel/limits.ts";
import { WebSocketConnection } from "../../../src/edge/tunnel/websocket-connection.ts";

const MESSAGE = 65_536;

/** A connection whose endpoint takes bytes when the test says so. */
function connected() {
  const written = Promise.withResolvers<void>();
  let taken = 0;
  const endpoint: SstpEndpoint = {
    connected: true,
    principal: { id: "a" },
    ended: false,
    over: new Promise(() => undefined),
    ready: () => new Promise(() => undefined),
    write: (octets: Uint8Array) => endpoint.writeNow(octets),
    writeNow(octets: Uint8Array) {
      taken += octets.length;
      return written.promise;
    },
  } as unknown as SstpEndpoint;
  const reasons: string[] = [];
  const socket = { send: () => undefined } as unknown as WebSocket;
  const connection = new WebSocketConnection(socket, endpoint, (reason) => reasons.push(reason));
  return { connection, reasons, take: () => written.resolve(), taken: () => taken };
}

describe("the messages of a WebSocket", () => {
  it("are freed as soon as they are processed", async () => {
    const { connection, take, taken } = connected();
    const messages = Array.from({ length: 3 }, () => new ArrayBuffer(MESSAGE));
    const heard = messages.map((message) => connection.hear(message));
    assert.deepEqual(
      messages.map(({ byteLength }) => byteLength),
      [MESSAGE, MESSAGE, MESSAGE],
    );
    take();
    await Promise.all(heard);
    assert.equal(taken(), 3 * MESSAGE);
    assert.ok(messages.every(({ detached }) => detached));
  });

  it("are freed when the device ignores hold and its connection ends, those that come later too", async () => {
    const { connection, reasons } = connected();
    const messages = Array.from({ length: HOLD_IGNORED_OCTETS / MESSAGE + 3 }, () => new ArrayBuffer(MESSAGE));
    for (const message of messages) void connection.hear(message);
    assert.deepEqual(reasons, ["HoldIgnored"]);
    // The first is still being processed.
    assert.deepEqual(
      messages.filter(({ detached }) => !detached),
      messages.slice(0, 1),
    );
  });
});
