/** The way of streams to the consumer of a mailbox: calls, and a WebSocket while there is much to carry. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it, mock } from "node:test";
import { ConsumerPath } from "../../../src/edge/endpoint/consumer-path.ts";
import { BATCHES_IDLE, BATCHES_RETRY, BATCHES_SOON } from "../../../src/edge/endpoint/limits.ts";
import { SIGN_TIMEOUT } from "../../../src/edge/rpc/deadlines.ts";
import type { Taken } from "../../../src/edge/rpc/mailbox-rpc.ts";

const BOB = "grooveDevice://bob/pc";

/** A WebSocket whose other end takes every batch, unless it is silent. */
class FakeSocket extends EventTarget {
  batches = 0;
  closed = false;
  isSilent = false;

  send(data: Uint8Array | string): void {
    if (typeof data === "string") {
      if (!this.isSilent) this.dispatchEvent(new MessageEvent("message", { data: "here null" }));
      return;
    }
    this.batches += 1;
    const number = new DataView(data.buffer, data.byteOffset).getUint32(0, true);
    if (!this.isSilent && number > 0) this.dispatchEvent(new MessageEvent("message", { data: `${number} "taken"` }));
  }

  close(): void {
    this.closed = true;
  }
}

class Consumer {
  calls = 0;
  readonly sockets: FakeSocket[] = [];
  opens: () => Promise<FakeSocket> = async () => {
    const socket = new FakeSocket();
    this.sockets.push(socket);
    return socket;
  };
  tries = 0;
  readonly path = new ConsumerPath({
    stub: {
      stream: async (): Promise<Taken> => {
        this.calls += 1;
        return "taken";
      },
    },
    open: () => {
      this.tries += 1;
      return this.opens() as unknown as Promise<WebSocket>;
    },
  });

  /** Passes a batch, after so many milliseconds. */
  async pass(after = 0, octets = 40_000): Promise<Taken> {
    mock.timers.tick(after);
    const taken = await this.path.stream(BOB, 1, { envelopes: [], octets: new Uint8Array(octets) });
    // What was opened is there.
    for (let turn = 0; turn < 5; turn += 1) await Promise.resolve();
    return taken;
  }
}

describe("the way to a consumer", () => {
  let consumer: Consumer;
  beforeEach(() => {
    mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1e12 });
    mock.method(console, "error", () => undefined);
    consumer = new Consumer();
  });
  afterEach(() => {
    consumer.path.close();
    mock.restoreAll();
    mock.timers.reset();
  });

  it("is a WebSocket from the third batch on, if they follow each other soon", async () => {
    for (let batch = 0; batch < 10; batch += 1) assert.equal(await consumer.pass(BATCHES_SOON - 1), "taken");
    assert.equal(consumer.calls, 2);
    assert.deepEqual(
      consumer.sockets.map(({ batches }) => batches),
      [8],
    );
  });

  it("is calls for somebody who types now and then", async () => {
    for (let batch = 0; batch < 10; batch += 1) await consumer.pass(BATCHES_SOON);
    assert.equal(consumer.calls, 10);
    assert.equal(consumer.tries, 0);
  });

  it("is closed when it is idle, so that the object can hibernate, and opened again", async () => {
    for (let batch = 0; batch < 3; batch += 1) await consumer.pass();
    const [socket] = consumer.sockets;
    mock.timers.tick(BATCHES_IDLE);
    assert.equal(socket?.closed, true);
    for (let batch = 0; batch < 3; batch += 1) await consumer.pass();
    assert.equal(consumer.sockets.length, 2);
  });

  it("stays open while it is used", async () => {
    for (let batch = 0; batch < 3; batch += 1) await consumer.pass();
    for (let batch = 0; batch < 10; batch += 1) await consumer.pass(BATCHES_IDLE - 1);
    assert.equal(consumer.sockets[0]?.closed, false);
    assert.equal(consumer.calls, 2);
  });

  it("sends by a call what the WebSocket has not answered when it ends", async () => {
    for (let batch = 0; batch < 3; batch += 1) await consumer.pass();
    const [socket] = consumer.sockets;
    if (socket !== undefined) socket.isSilent = true;
    const passing = consumer.pass();
    socket?.dispatchEvent(new Event("close"));
    assert.equal(await passing, "taken");
    assert.equal(consumer.calls, 3);
    // The next one goes by a call too, or by a new WebSocket.
    assert.equal(await consumer.pass(), "taken");
    assert.equal(consumer.sockets[0]?.batches, 2);
  });

  it("is a call for a keystroke, two seconds after the WebSocket has broken without a word", async () => {
    for (let batch = 0; batch < 3; batch += 1) await consumer.pass();
    const [socket] = consumer.sockets;
    if (socket !== undefined) socket.isSilent = true;
    const tenth = SIGN_TIMEOUT / 10;
    for (let key = 0; key < 20; key += 1) await consumer.pass(tenth, 1);
    const before = consumer.calls;
    await consumer.pass(tenth, 1);
    assert.deepEqual([consumer.calls, socket?.closed], [before + 1, true]);
  });

  it("is calls where no WebSocket can be opened, and tries that again only after a while", async () => {
    consumer.opens = () => Promise.reject(new Error("an object of an earlier release"));
    for (let batch = 0; batch < 5; batch += 1) assert.equal(await consumer.pass(), "taken");
    assert.deepEqual([consumer.calls, consumer.tries], [5, 1]);
    await consumer.pass(BATCHES_RETRY);
    await consumer.pass();
    assert.equal(consumer.tries, 2);
  });

  it("closes the WebSocket with the connection, and still passes batches", async () => {
    for (let batch = 0; batch < 3; batch += 1) await consumer.pass();
    consumer.path.close();
    assert.equal(consumer.sockets[0]?.closed, true);
    for (let batch = 0; batch < 3; batch += 1) assert.equal(await consumer.pass(), "taken");
    assert.equal(consumer.tries, 1);
  });

  it("does not keep a WebSocket that opens after the end", async () => {
    const opening = Promise.withResolvers<FakeSocket>();
    consumer.opens = () => opening.promise;
    for (let batch = 0; batch < 2; batch += 1) await consumer.pass();
    consumer.path.close();
    const socket = new FakeSocket();
    opening.resolve(socket);
    await consumer.pass();
    assert.equal(socket.closed, true);
  });
});
