/**
 * The far side, in its own process: what is behind the edge. A TCP server that is sink, source and echo, an origin
 * relay with a device that answers, and engine.io's server.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Device, type DeviceOptions, type DeviceStream, MemoryKeyring } from "../../src/device/index.ts";
import { startRelay } from "../../src/relay/index.ts";
import { serve } from "../support/rpc.ts";
import { SERVICE, writerOfMessages, writerTo, writerToStream } from "./blocks.ts";
import { answer, followMessages, progressOf, receivedBy } from "./callers.ts";
import { openObject, SealedRecords } from "./objects-client.ts";
import { engineServer, octetsOf, writerToEngine } from "./peers.ts";
import { openPipes, pipesOf } from "./piping-client.ts";

/** A device that takes streams: the addresses and keys in it are those of devices that may dial. */
export interface Exposing {
  readonly options: DeviceOptions;
  /** Its secret key, as hexadecimal digits. */
  readonly secretKey: string;
  readonly dialer: { readonly address: string; readonly key: string };
}

const server = createServer({ noDelay: true }, (socket) => {
  socket.on("error", () => socket.destroy());
  const { take, ended } = answer({
    write: writerTo(socket),
    gone: () => socket.destroyed,
    destroy: () => socket.destroy(),
  });
  socket.on("data", (octets) => {
    const pause = take(octets);
    if (pause === 0) return;
    socket.pause();
    setTimeout(() => socket.resume(), pause);
  });
  socket.on("close", ended);
});

async function answerStream(stream: DeviceStream): Promise<void> {
  let isOver = false;
  const { take, ended } = answer({
    write: writerToStream(stream.writable),
    gone: () => isOver,
    destroy: () => stream.reset(),
  });
  try {
    for await (const octets of stream.readable) take(octets);
  } finally {
    isOver = true;
    ended();
  }
}

/** Waits for the call of a number at the piping server, and after it for the next. */
function answerPipes(port: number, number: number): void {
  const { up, down } = pipesOf(number);
  const pipes = openPipes({
    port,
    send: down,
    receive: up,
    take: (octets) => answerer.take(octets),
    onCall: () => answerPipes(port, number + 1),
    onEnd: () => answerer.ended(),
  });
  const answerer = answer({ write: pipes.write, gone: pipes.isOver, destroy: () => pipes.close() });
}

/** Takes the call of a number at the worker with two objects, and after it the next. */
async function answerObject(port: number, number: number, isSealed: boolean): Promise<void> {
  let isCalled = false;
  const open = (given: (octets: Uint8Array) => void) => openObject({ port, side: "far", number }, given);
  const take = (octets: Uint8Array) => {
    if (!isCalled) void answerObject(port, number + 1, isSealed);
    isCalled = true;
    answerer.take(octets);
  };
  const end = isSealed ? new SealedRecords().around(open, take) : open(take);
  const answerer = answer({ write: end.write, gone: end.isOver, destroy: () => end.close() });
  await end.opened;
}

const folder = mkdtempSync(join(tmpdir(), "grooveway-bench-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));

serve({
  listen: () =>
    new Promise<number>((resolve) => {
      server.listen(0, "127.0.0.1", () => {
        const address = server.address();
        resolve(typeof address === "object" && address !== null ? address.port : 0);
      });
    }),

  /** What a sink has received by its end. */
  received: (id: number) => receivedBy(id),

  /** What a sink has received so far. */
  progress: (id: number) => progressOf(id),

  /** An origin relay with its store in a file, as an operator would run it. */
  relay: async () => (await startRelay({ port: 0, store: join(folder, "relay.db") })).port,

  /** A device that sends every message back to its sender. */
  async answerer(options: DeviceOptions) {
    const device = await Device.connect(options);
    void (async () => {
      for await (const message of device.messages()) {
        message.done();
        if (message.from !== undefined) void device.send(message.from, message.body);
      }
    })();
  },

  /** engine.io's server, which sends every message back. */
  engine: () =>
    engineServer("127.0.0.1", ["polling"], (socket) => {
      socket.on("message", (data) => socket.send(data));
    }),

  /** engine.io's server on all addresses, whose messages are commands and blocks, or text that it sends back. */
  engineBlocks: () =>
    engineServer("0.0.0.0", ["polling", "websocket"], (socket) => {
      const take = followMessages(writerToEngine(socket), () => socket.readyState !== "open");
      socket.on("message", (data) => {
        if (typeof data === "string") socket.send(data);
        else take(octetsOf(data));
      });
    }),

  /** A device whose messages are commands and blocks, which it takes from any number of senders. */
  async deviceBlocks(options: DeviceOptions) {
    const device = await Device.connect(options);
    const senders = new Map<string, (message: Uint8Array) => void>();
    void (async () => {
      for await (const message of device.messages()) {
        const { from = "", body } = message;
        const take =
          senders.get(from) ??
          followMessages(
            writerOfMessages((block) => device.send(from, block)),
            () => false,
          );
        senders.set(from, take);
        take(body);
        message.done();
      }
    })();
  },

  /** A device that answers the streams of another. */
  async expose({ options, secretKey, dialer }: Exposing) {
    const keyring = new MemoryKeyring({ secretKey: Buffer.from(secretKey, "hex") });
    keyring.accept(dialer.address, Buffer.from(dialer.key, "hex"));
    const device = await Device.connect({ ...options, keyring, receive: "streams" });
    device.serve(SERVICE, answerStream);
  },

  /** Answers calls at piping-server. */
  answerPipes: (port: number) => answerPipes(port, 0),

  /** Answers calls at the worker with two objects. */
  answerObjects: (port: number) => answerObject(port, 0, false),

  /** The same with what is sealed on its way. */
  answerSealedObjects: (port: number) => answerObject(port, 0, true),
});
