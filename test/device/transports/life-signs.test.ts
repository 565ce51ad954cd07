/** How a WebSocket is asked for signs of life, and when it is taken for lost. Time is driven. */
import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { BUFFER_SECOND, BUFFERED, READ_AHEAD, STALL, WEBSOCKET_BUSY_PING } from "../../../src/device/limits.ts";
import { LifeSigns } from "../../../src/device/transports/life-signs.ts";
import { type MessageSocketEvents, openWebSocket } from "../../../src/device/transports/websocket-transport.ts";

/** After how many seconds a connection does what is expected of it, looked at every 5 s. */
function secondsUntil(signs: LifeSigns, due: "ask" | "gone"): number {
  for (let seconds = 5; seconds < 1000; seconds += 5) if (signs.look(false) === due) return seconds;
  throw new Error(`it never says ${due}`);
}

describe("a connection", () => {
  it("that is idle is asked every 25 s, and is gone 15 s after a question", () => {
    const signs = new LifeSigns();
    for (let round = 0; round < 3; round += 1) {
      assert.equal(secondsUntil(signs, "ask"), 25);
      signs.heard(false);
    }
    assert.equal(secondsUntil(signs, "ask"), 25);
    assert.equal(secondsUntil(signs, "gone"), 15);
  });

  it("that falls silent in use is asked within 10 s, once", () => {
    const signs = new LifeSigns();
    for (const use of [() => signs.heard(true), () => signs.sent(10)]) {
      use();
      assert.ok(secondsUntil(signs, "ask") <= 10);
      signs.heard(false);
      assert.equal(secondsUntil(signs, "ask"), 25);
      signs.heard(false);
    }
  });

  it("has longer to answer behind what was sent", () => {
    for (const [bytes, seconds] of [
      [BUFFER_SECOND * 10, 25],
      [BUFFERED, 35],
      [100 * BUFFERED, 35],
    ] as const) {
      const signs = new LifeSigns();
      signs.sent(bytes);
      assert.equal(secondsUntil(signs, "ask"), 5);
      assert.equal(secondsUntil(signs, "gone"), seconds);
    }
  });

  it("is not gone while anything comes, or while nothing is read", () => {
    const signs = new LifeSigns();
    signs.sent(1);
    for (let looks = 0; looks < 100; looks += 1) {
      assert.notEqual(signs.look(true), "gone");
    }
    for (let looks = 0; looks < 100; looks += 1) {
      if (looks % 3 === 0) signs.heard(true);
      assert.notEqual(signs.look(false), "gone");
    }
  });
});

/** A transport over a scripted socket. */
function scripted(t: TestContext) {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const sent: (Uint8Array | string)[] = [];
  let events: MessageSocketEvents | undefined;
  const transport = openWebSocket(
    { transport: "websocket", relay: "edge.test", edge: "http://edge.test" },
    {
      edge: new URL("http://edge.test"),
      open(_, given) {
        events = given;
        return {
          bufferedAmount: 0,
          send: (data) => void sent.push(data),
          pause: () => undefined,
          resume: () => undefined,
          close: () => undefined,
          terminate: () => given.onClose(1006, "", undefined),
        };
      },
    },
  );
  if (events === undefined) throw new Error("no socket was opened");
  events.onOpen();
  return { transport, events, sent };
}

describe("a WebSocket", () => {
  it("is lost when a question has had no answer", async (t) => {
    const { transport, sent } = scripted(t);
    t.mock.timers.tick(25_000);
    assert.deepEqual(sent, ["marks", "ping"]);
    t.mock.timers.tick(STALL);
    await turn();
    assert.match(transport.lost?.detail ?? "", /has not answered/);
  });

  it("is not lost by a process that was stopped, since its answer has arrived meanwhile", async (t) => {
    const { transport, events } = scripted(t);
    t.mock.timers.tick(25_000);
    t.mock.timers.tick(STALL);
    events.onMessage("pong");
    await turn();
    assert.equal(transport.lost, undefined);
  });

  it("is not lost while the application is slow, so that the answer is not read", async (t) => {
    const { transport, events } = scripted(t);
    events.onMessage(new Uint8Array(READ_AHEAD));
    for (let time = 0; time < 600_000; time += WEBSOCKET_BUSY_PING) {
      t.mock.timers.tick(WEBSOCKET_BUSY_PING);
      await turn();
    }
    assert.equal(transport.lost, undefined);
    assert.equal((await transport.read())?.length, READ_AHEAD);
    t.mock.timers.tick(30_000 + STALL);
    await turn();
    assert.notEqual(transport.lost, undefined);
  });
});
