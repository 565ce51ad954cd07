/** What a device has sent, on its way to a TCP connection. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { READ } from "../../../src/edge/egress/limits.ts";
import { OriginConnection } from "../../../src/edge/egress/origin-connection.ts";
import type { StreamChannel } from "../../../src/streams/index.ts";

/** Carries pieces that wait, and the end behind them. Returns what was written. */
async function carried(pieces: readonly Uint8Array[]): Promise<Uint8Array[]> {
  const written: Uint8Array[] = [];
  const waiting = [...pieces];
  let isClosed = false;
  let isEndRead = false;
  const engine = {
    accept: () => undefined,
    room: () => 0,
    unread: () => waiting.reduce((sum, { length }) => sum + length, 0),
    read: (_: number, most: number) => {
      const [first] = waiting;
      if (first === undefined) {
        isEndRead = true;
        return "end";
      }
      const piece = first.subarray(0, most);
      if (piece.length === first.length) waiting.shift();
      else waiting[0] = first.subarray(most);
      return piece;
    },
    reset: () => assert.fail("the connection was reset"),
  } as unknown as StreamChannel;
  const connection: OriginConnection = new OriginConnection(
    {
      engine,
      // As the engine reports a stream that has ended in both directions: from then on nothing is written.
      settle: () => {
        if (isEndRead) connection.end();
      },
    },
    1,
  );
  const socket = {
    readable: new ReadableStream({ type: "bytes" }),
    writable: new WritableStream<Uint8Array>({
      write: (octets) => {
        written.push(octets.slice());
      },
      close: () => {
        isClosed = true;
      },
    }),
    close: async () => undefined,
  } as unknown as Socket;
  await connection.carry(socket);
  assert.ok(isClosed, "the end was not passed on");
  return written;
}

describe("octets for a destination", () => {
  it("that wait in small pieces are written together", async () => {
    const pieces = [1, 2, 3].map((octet) => new Uint8Array(16 * 1024).fill(octet));
    const written = await carried(pieces);
    assert.equal(written.length, 1);
    assert.deepEqual(Buffer.concat(written), Buffer.concat(pieces));
  });

  it("are written in full before the end, at most 64 KiB at a time", async () => {
    const pieces = [40_000, 40_000, 1, 200_000].map((length, at) => new Uint8Array(length).fill(at));
    const written = await carried(pieces);
    assert.ok(written.every(({ length }) => length <= READ));
    assert.deepEqual(Buffer.concat(written), Buffer.concat(pieces));
  });
});
