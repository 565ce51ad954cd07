/** What the WebSocket transport makes of an edge that lies, or does not read. */
import assert from "node:assert/strict";
import type { Socket } from "node:net";
import { describe, it, type TestContext } from "node:test";
import { WebSocketServer } from "ws";
import {
  ANSWERS_AHEAD,
  READ_AHEAD,
  WEBSOCKET_LONGEST,
  WEBSOCKET_MARK,
  WEBSOCKET_MASKS,
  WEBSOCKET_PING,
} from "../../../src/device/limits.ts";
import { direct } from "../../../src/device/transports/dial.ts";
import { generateMask, neverZero, nodeWebSockets } from "../../../src/device/transports/node-websocket.ts";
import { edgeRoute } from "../../../src/device/transports/route.ts";
import type { TransportOptions } from "../../../src/device/transports/transport.ts";
import {
  type MessageSocket,
  type MessageSocketEvents,
  openWebSocket,
} from "../../../src/device/transports/websocket-transport.ts";
import { eventually } from "../../support/watch.ts";

const EDGE = new URL("https://edge.example.com");

/** A transport over a socket of which the test plays the other side. */
function scripted(options: Partial<TransportOptions> = {}) {
  const sent: string[] = [];
  const socket = { bufferedAmount: 0, isPaused: false };
  let events: MessageSocketEvents | undefined;
  const transport = openWebSocket(
    { transport: "websocket", relay: "edge.example.com", ...options },
    {
      edge: EDGE,
      open: (_, given) => {
        events = given;
        return {
          get bufferedAmount() {
            return socket.bufferedAmount;
          },
          send: (data) => void (typeof data === "string" && sent.push(data)),
          pause: () => {
            socket.isPaused = true;
          },
          resume: () => {
            socket.isPaused = false;
          },
          close: () => undefined,
          terminate: () => undefined,
        } satisfies MessageSocket;
      },
    },
  );
  assert.ok(events !== undefined);
  return { transport, sent, socket, events };
}

describe("what was read", () => {
  it("is freed with the next read, unless it is part of other memory", async () => {
    const { transport, events } = scripted();
    events.onOpen();
    const [whole, waiting, memory] = [new Uint8Array(5000), new Uint8Array(6000), new Uint8Array(7000)];
    const reading = transport.read();
    events.onMessage(whole);
    assert.equal((await reading)?.length, 5000);
    events.onMessage(waiting);
    events.onMessage(memory.subarray(0, 6999));
    assert.equal(whole.length, 5000, "it is in use until then");
    assert.equal((await transport.read())?.length, 6000);
    assert.deepEqual([whole.length, waiting.length], [0, 6000]);
    assert.equal((await transport.read())?.length, 6999);
    void transport.read();
    assert.deepEqual([waiting.length, memory.length], [0, 7000]);
    transport.close();
  });
});

describe("the mask of a message", () => {
  it("is never zero: `ws` would send the message's own memory, which is used again", () => {
    const mask = new Uint8Array(4);
    neverZero(mask);
    assert.ok(mask.some((octet) => octet !== 0));
    const other = Uint8Array.of(0, 0, 7, 0);
    neverZero(other);
    assert.deepEqual([...other], [0, 0, 7, 0]);
  });

  it("is another one each time, also when the masks that were made at a time are used up", () => {
    const masks = Array.from({ length: 3 * WEBSOCKET_MASKS }, () => {
      const mask = new Uint8Array(4);
      generateMask(mask);
      return mask.join(".");
    });
    // Of so many random ones two are equal in one of 900 runs, and three never.
    assert.ok(new Set(masks).size > masks.length - 3);
  });
});

describe("marks of an edge", () => {
  it("are answered when all before them is read", async () => {
    const { transport, sent, events } = scripted();
    events.onMessage("mark 1");
    events.onMessage(new Uint8Array(10));
    events.onMessage("mark 2");
    events.onMessage("mark 3");
    assert.deepEqual(sent, ["took 1"]);
    await transport.read();
    assert.deepEqual(sent, ["took 1", "took 2", "took 3"]);
  });

  it("that are longer than an edge's are ignored", async () => {
    const { transport, sent, events } = scripted();
    events.onMessage(new Uint8Array(1));
    events.onMessage(`mark ${"x".repeat(WEBSOCKET_MARK)}`);
    await transport.read();
    assert.deepEqual(sent, []);
  });

  it("count as unread bytes", async () => {
    const { transport, socket, events } = scripted();
    events.onMessage(new Uint8Array(1));
    const most = READ_AHEAD / WEBSOCKET_MARK;
    for (let n = 0; n < most - 1; n += 1) events.onMessage(`mark ${n}`);
    assert.equal(socket.isPaused, false);
    events.onMessage("mark");
    events.onMessage("mark last");
    assert.equal(socket.isPaused, true);
    await transport.read();
    assert.equal(socket.isPaused, false);
  });

  it("stop the reading while the edge does not read the answers", () => {
    const { socket, events } = scripted();
    socket.bufferedAmount = ANSWERS_AHEAD + 1;
    events.onMessage("mark 1");
    assert.equal(socket.isPaused, true);
    socket.bufferedAmount = 0;
    events.onSent();
    assert.equal(socket.isPaused, false);
  });

  it("after the end are not kept", async () => {
    const { transport, socket, events } = scripted();
    transport.close();
    events.onMessage(new Uint8Array(READ_AHEAD));
    assert.equal(socket.isPaused, false);
    assert.equal(await transport.read(), undefined);
  });
});

describe("pings", () => {
  it("come in half the time after which idle connections are cut", (t) => {
    t.mock.timers.enable({ apis: ["setInterval"] });
    for (const [idleLimit, pings] of [
      [undefined, 1],
      [10_000, 5],
      [4000, 12],
    ] as const) {
      const { transport, sent, events } = scripted({ idleLimit });
      events.onOpen();
      for (let now = 0; now < WEBSOCKET_PING; now += 1000) {
        t.mock.timers.tick(1000);
        events.onMessage("pong");
      }
      const count = sent.filter((word) => word === "ping").length;
      assert.ok(count >= pings && count <= pings + 1, `${count} pings`);
      transport.close();
      t.mock.timers.tick(60_000);
      assert.equal(sent.filter((word) => word === "ping").length, count);
    }
  });
});

describe("a WebSocket of Node", () => {
  /** A server whose sockets the test has, and a transport to it with its own. */
  async function connected(t: TestContext) {
    const server = new WebSocketServer({ port: 0, host: "127.0.0.1", perMessageDeflate: false });
    t.after(() => {
      for (const client of server.clients) client.terminate();
      server.close();
    });
    await new Promise((resolve) => server.once("listening", resolve));
    const accepted = new Promise<import("ws").WebSocket>((resolve) => server.once("connection", resolve));
    const { port } = server.address() as { port: number };
    const edge = `http://127.0.0.1:${port}`;
    const dialled: Socket[] = [];
    const reach = direct();
    const dialler: typeof reach = async (to, patience) => {
      const socket = await reach(to, patience);
      dialled.push(socket);
      return socket;
    };
    const route = edgeRoute(edge);
    const open = nodeWebSockets({ ...route, ca: undefined, token: undefined, relay: "127.0.0.1", dialler });
    const transport = openWebSocket({ transport: "websocket", relay: "127.0.0.1" }, { edge: route.edge, open });
    t.after(() => transport.close());
    await transport.established;
    const [socket] = dialled;
    assert.ok(socket !== undefined);
    return { transport, peer: await accepted, socket };
  }

  it("answers pings, but few to an edge that does not read the answers", { timeout: 300_000 }, async (t) => {
    const { peer, socket } = await connected(t);
    const ponged = new Promise((resolve) => peer.once("pong", resolve));
    peer.ping("hello");
    await ponged;
    peer.pause();
    let sent = 0;
    const payload = Buffer.alloc(125);
    while (sent < 30_000_000) {
      await new Promise<void>((resolve) => peer.ping(payload, false, () => resolve()));
      for (let n = 0; n < 1000; n += 1) peer.ping(payload);
      sent += 1001 * payload.length;
    }
    await eventually(() => peer.bufferedAmount === 0, "the pings to be sent");
    assert.ok(socket.writableLength < ANSWERS_AHEAD + 256 * 1024, `${socket.writableLength} bytes wait`);
  });

  it("takes no message longer than the platform sends", { timeout: 300_000 }, async (t) => {
    const { transport, peer } = await connected(t);
    const socket = (peer as unknown as { readonly _socket: Socket })._socket;
    // The head of a binary message of that length.
    const head = Buffer.from([0x82, 127, 0, 0, 0, 0, 0, 0, 0, 0]);
    head.writeBigUInt64BE(BigInt(WEBSOCKET_LONGEST + 1), 2);
    socket.write(head);
    await transport.ended;
    assert.match(transport.lost?.detail ?? "", /Max payload size exceeded/);
  });
});
