/** What a WebSocket device may send besides data. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { SstpEndpoint } from "../../../src/edge/endpoint/sstp-endpoint.ts";
import { EARLY_MESSAGES, HOLD_MESSAGE, HOLD_OCTETS, UNKNOWN_WORDS } from "../../../src/edge/tunnel/limits.ts";
import { WebSocketConnection } from "../../../src/edge/tunnel/websocket-connection.ts";

/** A connection whose endpoint counts what it charges for. */
function started({ connected = true, slow = false } = {}) {
  const seen = { charged: 0, said: [] as string[], ended: "" };
  const never = new Promise<never>(() => undefined);
  const endpoint: SstpEndpoint = {
    connected,
    principal: { id: "mallory" },
    ready: () => never,
    write: async (octets: Uint8Array, least?: number) => endpoint.writeNow(octets, least),
    writeNow(octets: Uint8Array, least = 0) {
      seen.charged += Math.max(octets.length, least);
      return slow ? never : undefined;
    },
  } as unknown as SstpEndpoint;
  const socket = { send: (word: string) => void seen.said.push(word) } as unknown as WebSocket;
  const connection = new WebSocketConnection(socket, endpoint, (reason) => {
    seen.ended = reason;
  });
  const hear = async (word: string | ArrayBuffer, times: number) => {
    for (let time = 0; time < times && seen.ended === ""; time += 1) {
      // The connection frees what it has processed.
      const heard = connection.hear(typeof word === "string" ? word : word.slice());
      if (!slow) await heard;
    }
  };
  return { hear, seen, connection };
}

const words: readonly (readonly [string, string | ArrayBuffer, number])[] = [
  ["text messages that nobody expects", "x", UNKNOWN_WORDS],
  ["answers to marks that were not set", "took 1-2", UNKNOWN_WORDS],
  ["empty messages", new ArrayBuffer(0), 0],
];

describe("a WebSocket device", () => {
  it("is heard without a promise as long as its bytes are taken at once", async () => {
    const { connection, seen } = started();
    assert.equal(connection.hear(new ArrayBuffer(5000)), undefined);
    assert.equal(seen.charged, 5000);
    assert.ok(started({ slow: true }).connection.hear(new ArrayBuffer(5000)) instanceof Promise);
  });

  for (const [what, word, free] of words) {
    it(`is charged for ${what}`, async () => {
      const { hear, seen } = started();
      await hear(word, free + 1000);
      assert.deepEqual([seen.charged, seen.ended], [1000 * HOLD_MESSAGE, ""]);
    });

    it(`gets a hold, and is ended if it ignores it, when it sends too many ${what}`, async () => {
      const { hear, seen } = started({ slow: true });
      const most = free + 2 + HOLD_OCTETS / HOLD_MESSAGE;
      await hear(word, most);
      assert.deepEqual([seen.said, seen.ended], [["hold"], ""]);
      await hear(word, 1);
      assert.equal(seen.ended, "HoldIgnored");
    });

    it(`is ended when it sends ${what} before Connect`, async () => {
      const { hear, seen } = started({ connected: false });
      await hear(word, free);
      assert.equal(seen.ended, "");
      await hear(word, 1);
      assert.equal(seen.ended, "HoldIgnored");
    });
  }

  it("is charged for more than the data of tiny messages", async () => {
    const { hear, seen } = started();
    await hear(new ArrayBuffer(1), 1000);
    assert.equal(seen.charged, 1000 * HOLD_MESSAGE);
  });

  it("is ended when it sends many tiny messages before Connect", async () => {
    const { hear, seen } = started({ connected: false });
    await hear(new ArrayBuffer(1), EARLY_MESSAGES);
    assert.equal(seen.ended, "");
    await hear(new ArrayBuffer(1), 1);
    assert.equal(seen.ended, "HoldIgnored");
  });

  it("may say once that it answers marks, before Connect too", async () => {
    const { hear, seen } = started({ connected: false });
    await hear("marks", 1 + UNKNOWN_WORDS);
    assert.deepEqual([seen.charged, seen.ended], [0, ""]);
  });
});
