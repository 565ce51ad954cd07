/**
 * Lines: the ways from the near side to the TCP server of the far side, with a common interface.
 */
import { randomBytes } from "node:crypto";
import { Agent, request } from "node:http";
import { connect, type Socket } from "node:net";
import {
  Device,
  type DeviceOptions,
  MemoryKeyring,
  openTransport,
  type TransportOptions,
} from "../../src/device/index.ts";
import { wayLimits } from "../../src/device/transports/way-limits.ts";
import { ECHO_STRING, formatTarget, guidFrom, MAX_CONTENT_LENGTH } from "../../src/encapsulation/index.ts";
import { SERVICE, type Write, writerOfMessages, writerTo, writerToStream } from "./blocks.ts";
import { openObject, SealedRecords } from "./objects-client.ts";
import { type EngineTransport, engineClient, writerToEngine } from "./peers.ts";
import { openPipes, pipesOf } from "./piping-client.ts";

export type Way =
  /** TCP, to the far side itself or to a peer's entrance. */
  | { readonly kind: "tcp"; readonly port: number }
  /** The minimal worker: POST for upward data, GET for downward data, never both. */
  | { readonly kind: "worker"; readonly port: number; readonly path: "/pipe" | "/loop"; readonly down: boolean }
  /** The worker that is the floor of Polling: one POST after another. */
  | { readonly kind: "exchanges"; readonly port: number }
  /** LongLived at the edge over two bare sockets, so that no client limits the edge. */
  | { readonly kind: "sockets"; readonly port: number; readonly relay: string }
  /** The product's own transports. */
  | { readonly kind: "transport"; readonly options: TransportOptions }
  /** A device that sends messages to another. */
  | { readonly kind: "device"; readonly options: Omit<DeviceOptions, "address">; readonly to: string }
  /** Messages of engine.io. */
  | { readonly kind: "engine"; readonly url: string; readonly transport: EngineTransport }
  /** A stream between two devices. */
  | StreamWay
  /** The worker with two objects. */
  | { readonly kind: "objects" | "sealed objects"; readonly port: number }
  /** Two pipes of piping-server. */
  | { readonly kind: "piping"; readonly port: number };

export interface StreamWay {
  readonly kind: "stream";
  /** Of the device that dials. Its streams share one connection. */
  readonly options: DeviceOptions;
  /** Its secret key, as hexadecimal digits. */
  readonly secretKey: string;
  readonly to: string;
}

/** How long a device may look for its way, in milliseconds. */
const DEVICE_PATIENCE = 6_000;

export interface Line {
  readonly write: Write;
  /** Why the line has ended; undefined while it is there. */
  readonly lost: () => string | undefined;
  close(): void;
}

/**
 * Opens a line, gives the far side its command, and from then on passes downward data to `take`. `take` must finish
 * with the octets before it returns: the next ones arrive in the same buffer.
 */
export function openLine(way: Way, command: Uint8Array, take: (octets: Uint8Array) => void): Promise<Line> {
  switch (way.kind) {
    case "tcp":
      return tcp(way.port, command, take);
    case "worker":
      return worker(way.port, way.path, way.down, command, take);
    case "exchanges":
      return exchanges(way.port, command, take);
    case "sockets":
      return sockets(way.port, way.relay, command, take);
    case "transport":
      return transport(way.options, command, take);
    case "device":
      return device(way.options, way.to, command, take);
    case "engine":
      return engine(way.url, way.transport, command, take);
    case "stream":
      return stream(way, command, take);
    case "objects":
    case "sealed objects":
      return objects(way, command, take);
    case "piping":
      return piping(way.port, command, take);
  }
}

async function tcp(port: number, command: Uint8Array, take: (octets: Uint8Array) => void): Promise<Line> {
  const socket = await dial(port, take);
  socket.write(command);
  return lineOf(socket, [socket]);
}

async function worker(
  port: number,
  path: string,
  down: boolean,
  command: Uint8Array,
  take: (octets: Uint8Array) => void,
): Promise<Line> {
  const socket = await dial(port, down ? afterHead(take) : () => undefined);
  if (down) {
    socket.write(head("GET", `${path}?command=${Buffer.from(command).toString("hex")}`, port));
  } else {
    socket.write(head("POST", path, port, MAX_CONTENT_LENGTH));
    socket.write(command);
  }
  return lineOf(socket, [socket]);
}

/** Bodies of up to 16 blocks, as many as fit into one of Polling. */
const EXCHANGED_BLOCKS = 16;

/** Sends what is written in one POST after another, and asks again at once after an answer with data. */
async function exchanges(port: number, command: Uint8Array, take: (octets: Uint8Array) => void): Promise<Line> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const url = `http://127.0.0.1:${port}/${randomBytes(8).toString("hex")}`;
  let waiting: Uint8Array[] = [];
  let isBusy = false;
  let goOn: () => void = () => undefined;
  let lost: string | undefined;
  const begin = (body: readonly Uint8Array[]) => {
    isBusy = true;
    const length = body.reduce((sum, block) => sum + block.length, 0);
    const asked = request(url, { method: "POST", agent, headers: { "Content-Length": length } }, (answer) => {
      let came = 0;
      answer.on("data", (octets: Buffer) => {
        came += octets.length;
        take(octets);
      });
      answer.on("end", () => next(came > 0));
    });
    asked.on("error", (error) => {
      lost ??= error.message;
      goOn();
    });
    for (const block of body) asked.write(block);
    asked.end();
  };
  const next = (hasMore: boolean) => {
    isBusy = false;
    if (waiting.length > 0 || hasMore) begin(waiting.splice(0, EXCHANGED_BLOCKS));
    goOn();
  };
  begin([command]);
  return {
    write(block) {
      waiting.push(block);
      if (!isBusy) begin(waiting.splice(0, EXCHANGED_BLOCKS));
      if (waiting.length < EXCHANGED_BLOCKS || lost !== undefined) return undefined;
      return new Promise((resolve) => {
        goOn = resolve;
      });
    },
    lost: () => lost,
    close() {
      lost ??= "closed";
      waiting = [];
      agent.destroy();
    },
  };
}

async function sockets(
  port: number,
  relay: string,
  command: Uint8Array,
  take: (octets: Uint8Array) => void,
): Promise<Line> {
  const guid = guidFrom(randomBytes(24));
  const target = formatTarget({ encapsulation: "LongLived", relay, guid, contentLength: MAX_CONTENT_LENGTH });
  let echoed = 0;
  let establish = (): void => undefined;
  const established = new Promise<void>((resolve) => {
    establish = resolve;
  });
  const get = await dial(
    port,
    afterHead((octets) => {
      const echo = Math.min(ECHO_STRING.length - echoed, octets.length);
      echoed += echo;
      if (echoed === ECHO_STRING.length) establish();
      if (echo < octets.length) take(octets.subarray(echo));
    }),
  );
  const post = await dial(port, () => undefined);
  get.write(head("GET", target, port));
  post.write(head("POST", target, port, MAX_CONTENT_LENGTH));
  post.write(ECHO_STRING);
  await established;
  post.write(command);
  return lineOf(post, [get, post]);
}

/** What the ways from this process have refused, as a device remembers it. */
const learned = wayLimits(() => "here");

async function transport(
  options: TransportOptions,
  command: Uint8Array,
  take: (octets: Uint8Array) => void,
): Promise<Line> {
  const opened = openTransport({ ...options, wayLimits: learned });
  // Polling is established by its first octets, so they are not held until then.
  void opened.write([command]);
  void (async () => {
    for (;;) {
      const octets = await opened.read();
      if (octets === undefined) return;
      take(octets);
    }
  })();
  if (options.transport !== "polling") await opened.established;
  return {
    write: (block) => opened.write([block]),
    lost: () => opened.lost?.detail,
    close: () => opened.close(),
  };
}

async function device(
  options: Omit<DeviceOptions, "address">,
  to: string,
  command: Uint8Array,
  take: (octets: Uint8Array) => void,
): Promise<Line> {
  const address = `near/${randomBytes(8).toString("hex")}`;
  const giving = new AbortController();
  const late = setTimeout(() => giving.abort(), DEVICE_PATIENCE);
  let failure: Error | undefined;
  const onReconnect = (error: Error) => {
    failure ??= error;
  };
  const own = await Device.connect({ ...options, address, signal: giving.signal, onReconnect }).catch(
    (error: unknown) => {
      throw failure ?? error;
    },
  );
  clearTimeout(late);
  let lost: string | undefined;
  const receive = async () => {
    for await (const message of own.messages()) {
      take(message.body);
      message.done();
    }
  };
  receive().catch((error: unknown) => {
    lost = String(error);
  });
  await own.send(to, command);
  return {
    write: writerOfMessages((block) => own.send(to, block)),
    lost: () => lost,
    close: () => void own.close(),
  };
}

async function engine(
  url: string,
  transport: EngineTransport,
  command: Uint8Array,
  take: (octets: Uint8Array) => void,
): Promise<Line> {
  const socket = await engineClient(url, transport, take);
  socket.send(command);
  return {
    write: writerToEngine(socket),
    lost: () => (socket.readyState === "open" ? undefined : "engine.io has closed its socket"),
    close: () => socket.close(),
  };
}

/** Devices that dial, by their address. */
const dialers = new Map<string, Promise<Device>>();

async function stream(
  { options, secretKey, to }: StreamWay,
  command: Uint8Array,
  take: (octets: Uint8Array) => void,
): Promise<Line> {
  const connecting =
    dialers.get(options.address) ??
    Device.connect({
      ...options,
      keyring: new MemoryKeyring({ secretKey: Buffer.from(secretKey, "hex") }),
      receive: "streams",
    });
  dialers.set(options.address, connecting);
  const device = await connecting;
  const opened = await device.dial(to, SERVICE);
  let lost: string | undefined;
  opened.closed.then(
    () => {
      lost ??= "the stream has ended";
    },
    (error: Error) => {
      lost ??= error.message;
    },
  );
  const reading = async () => {
    for await (const octets of opened.readable) take(octets);
  };
  reading().catch(() => undefined);
  const write = writerToStream(opened.writable);
  void write(command);
  return { write, lost: () => lost, close: () => opened.reset() };
}

/** Calls of this process: the far side counts them too. */
const calls = { objects: 0, "sealed objects": 0, piping: 0 };

async function objects(
  { kind, port }: Extract<Way, { kind: "objects" | "sealed objects" }>,
  command: Uint8Array,
  take: (octets: Uint8Array) => void,
): Promise<Line> {
  const number = calls[kind]++;
  const open = (given: (octets: Uint8Array) => void) => openObject({ port, side: "near", number }, given);
  const { opened, write, isOver, close } = kind === "objects" ? open(take) : new SealedRecords().around(open, take);
  await opened;
  void write(command);
  return { write, lost: () => (isOver() ? "a WebSocket has ended" : undefined), close };
}

async function piping(port: number, command: Uint8Array, take: (octets: Uint8Array) => void): Promise<Line> {
  const { up, down } = pipesOf(calls.piping++);
  const { write, isOver, close } = openPipes({ port, send: up, receive: down, take });
  void write(command);
  return { write, lost: () => (isOver() ? "a pipe has ended" : undefined), close };
}

function lineOf(up: Socket, all: readonly Socket[]): Line {
  return {
    write: writerTo(up),
    lost: () => (all.some((socket) => socket.destroyed) ? "a socket has ended" : undefined),
    close() {
      for (const socket of all) socket.destroy();
    },
  };
}

/** One buffer for all reads of a socket: Node's cost of allocating new ones is not part of any figure. */
function dial(port: number, take: (octets: Uint8Array) => void): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const buffer = new Uint8Array(256 * 1024);
    const socket = connect({
      port,
      host: "127.0.0.1",
      noDelay: true,
      onread: {
        buffer,
        callback(length) {
          take(buffer.subarray(0, length));
          return true;
        },
      },
    });
    socket.once("connect", () => resolve(socket));
    socket.on("error", reject);
  });
}

function head(method: string, target: string, port: number, length?: number): string {
  const contentLength = length === undefined ? "" : `Content-Length: ${length}\r\n`;
  return `${method} ${target} HTTP/1.0\r\nHost: 127.0.0.1:${port}\r\n${contentLength}\r\n`;
}

/** Passes on what follows the head of a response. */
function afterHead(take: (octets: Uint8Array) => void): (octets: Uint8Array) => void {
  let seen = "";
  let body = false;
  return (octets) => {
    if (body) return take(octets);
    const before = seen.length;
    seen += Buffer.from(octets.buffer, octets.byteOffset, octets.byteLength).toString("latin1");
    const end = seen.indexOf("\r\n\r\n");
    if (end < 0) return;
    if (!/^HTTP\/1\.[01] 200 /.test(seen)) throw new Error(`the answer is ${seen.slice(0, 200)}`);
    body = true;
    const from = end + 4 - before;
    if (from < octets.length) take(octets.subarray(from));
  };
}
