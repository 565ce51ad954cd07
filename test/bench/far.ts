/**
 * The far side, in its own process: what is behind the edge. A TCP server that is sink, source and echo, an origin
 * relay with a device that answers, and engine.io's server.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Device, type DeviceOptions } from "../../src/device/index.ts";
import { startRelay } from "../../src/relay/index.ts";
import { serve } from "../support/rpc.ts";
import {
  COMMAND,
  type Command,
  parseCommand,
  pour,
  READY,
  type Received,
  Receiver,
  type Write,
  writerOfMessages,
  writerTo,
} from "./blocks.ts";
import { engineServer, octetsOf, writerToEngine } from "./peers.ts";

interface Sink {
  readonly receiver: Receiver;
  readonly finished: PromiseWithResolvers<Received>;
}

const sinks = new Map<number, Sink>();

function sinkOf(id: number): Sink {
  const known = sinks.get(id);
  if (known !== undefined) return known;
  const sink = { receiver: new Receiver(), finished: Promise.withResolvers<Received>() };
  sink.finished.promise.catch(() => undefined);
  sinks.set(id, sink);
  return sink;
}

const server = createServer({ noDelay: true }, (socket) => {
  socket.on("error", () => socket.destroy());
  let begin: Buffer = Buffer.alloc(0);
  const first = (octets: Buffer) => {
    begin = begin.length === 0 ? octets : Buffer.concat([begin, octets]);
    if (begin.length < COMMAND) return;
    socket.off("data", first);
    const command = parseCommand(begin);
    // A tunnel that has lost octets, for example.
    if (command === undefined) socket.destroy();
    else follow(socket, command, begin.subarray(COMMAND));
  };
  socket.on("data", first);
});

function follow(socket: Socket, command: Command, rest: Buffer): void {
  // Polling is established by an answer with data: a silent far side would stall its handshake.
  if (command.wish !== "source") socket.write(READY);
  switch (command.wish) {
    case "sink":
      sink(socket, command.id, command.rate, rest);
      break;
    case "source":
      void pour(writerTo(socket), command.size, command.milliseconds, () => socket.destroyed);
      socket.resume();
      break;
    case "echo":
      if (rest.length > 0) socket.write(rest);
      socket.on("data", (octets) => socket.write(octets));
      break;
  }
}

function sink(socket: Socket, id: number, rate: number, rest: Buffer): void {
  const { receiver, finished } = sinkOf(id);
  const began = performance.now();
  const take = (octets: Buffer) => {
    try {
      receiver.push(octets);
    } catch (error) {
      finished.reject(error);
      socket.destroy();
      return;
    }
    if (receiver.done) finished.resolve(receiver.result());
    if (rate === 0) return;
    const ahead = receiver.result().octets / rate - (performance.now() - began) / 1000;
    if (ahead <= 0) return;
    socket.pause();
    setTimeout(() => socket.resume(), ahead * 1000);
  };
  if (rest.length > 0) take(rest);
  socket.on("data", take);
  socket.on("close", () => finished.resolve(receiver.result()));
}

/** Follows the command that is the first message of a sender; the next ones are blocks. */
function followMessages(write: Write, gone: () => boolean): (message: Uint8Array) => void {
  let command: Command | undefined;
  return (message) => {
    if (command === undefined) {
      command = parseCommand(Buffer.from(message));
      if (command?.wish === "source") void pour(write, command.size, command.milliseconds, gone);
      return;
    }
    const { receiver, finished } = sinkOf(command.id);
    try {
      receiver.push(message);
    } catch (error) {
      finished.reject(error);
    }
    if (receiver.done) finished.resolve(receiver.result());
  };
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
  received: (id: number) => sinkOf(id).finished.promise.finally(() => sinks.delete(id)),

  /** What a sink has received so far. */
  progress: (id: number) => sinkOf(id).receiver.result(),

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
});
