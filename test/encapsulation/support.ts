/** A relay on raw octet streams and a client, joined in memory: all state machines, no sockets. */

import type {
  ClientOutput,
  ClientSessionName,
  EncapsulationClient,
  PollingConnection,
  PollParameters,
  Target,
  VirtualConnection,
} from "../../src/encapsulation/index.ts";
import {
  arriveGet,
  arrivePost,
  ECHO_STRING,
  endPost,
  HELD_BODY,
  handshakeAnswer,
  MAX_BODY,
  offeredBody,
  openPolling,
  openVirtualConnection,
  parsePoll,
  parseTarget,
  receive,
  receivePoll,
  releaseGet,
  respond,
  respondRoom,
  room,
  sendDown,
  sessionLost,
} from "../../src/encapsulation/index.ts";
import { formatRefusal, formatResponse, type RequestHead, RequestReader, requestBody } from "./raw-server.ts";

export const GUID = "kicxp8rrgwqdwhf7c6xsgbagmcdnxm9phtvbj5a";
export const DATE = Date.UTC(2007, 11, 26, 19, 50, 26);

const encoder = new TextEncoder();

export function octets(text: string): Uint8Array {
  return encoder.encode(text);
}

export function text(data: Uint8Array | readonly Uint8Array[]): string {
  return Buffer.from(data instanceof Uint8Array ? data : join(data)).toString("latin1");
}

export function join(pieces: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(pieces));
}

/** A small generator of pseudo-random numbers in [0, 1), so that a failure can be reproduced from its seed. */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

export function randomOctets(length: number, random: () => number): Uint8Array {
  return Uint8Array.from({ length }, () => Math.floor(random() * 256));
}

/** Parses a target that must be valid. */
export function target<Kind extends Target["encapsulation"]>(text: string, _kind: Kind) {
  const parsed = parseTarget(text);
  if (parsed.type !== "target" || parsed.target.encapsulation !== _kind) throw new Error(`bad test target ${text}`);
  return parsed.target as Extract<Target, { encapsulation: Kind }>;
}

type Wire = {
  readonly session: ClientSessionName;
  readonly toServer: Uint8Array[];
  readonly toClient: Uint8Array[];
  head: RequestReader | undefined;
  request:
    | { head: RequestHead; target: Target | undefined; body: ReturnType<typeof requestBody>; pieces: Uint8Array[] }
    | undefined;
  closedByServer: boolean;
  closedByClient: boolean;
};

export type WorldOptions = {
  readonly client: EncapsulationClient;
  readonly random: () => number;
  /** Whether the server (or a proxy) closes after each response. */
  readonly closes?: boolean;
  /** Probability that a Polling response is lost. */
  readonly loss?: number;
  readonly parameters?: PollParameters;
};

/** A client and a server; the octets between them are delivered in random order and split at random places. */
export class World {
  now = 1000;
  readonly client: EncapsulationClient;
  readonly up: Uint8Array[] = [];
  readonly down: Uint8Array[] = [];
  readonly events: ClientOutput[] = [];
  connection: VirtualConnection | undefined;
  polling: PollingConnection | undefined;
  losses = 0;
  /** Octets sent by the server itself: the last handshake answer of Polling MUST carry data. */
  filled = 0;
  readonly #options: WorldOptions;
  readonly #wires = new Map<ClientSessionName, Wire>();
  #get: Wire | undefined;
  /** Octets of a body that a Polling client offers. */
  #offered: number | undefined;
  /** A poll that is held, and one that waits for the poll before it. */
  #held: Wire | undefined;
  #early: { readonly wire: Wire; readonly body: Uint8Array } | undefined;
  /** Polls that came while another was held, or before the one before them. */
  overtaken = 0;
  #outbox: Uint8Array[] = [];

  constructor(options: WorldOptions) {
    this.#options = options;
    this.client = options.client;
  }

  start(): void {
    this.#do(this.client.start(this.now));
  }

  /** The application of the client sends. */
  sendUp(data: Uint8Array): void {
    this.#do(this.client.send(data, this.now));
  }

  /** The application of the server sends. */
  sendDown(data: Uint8Array): void {
    if (data.length > 0) this.#outbox.push(data);
    this.#flush();
  }

  get lost(): ClientOutput | undefined {
    return this.events.find((event) => event.type === "lost");
  }

  /** Delivers a few pieces. */
  runABit(steps: number): void {
    for (let step = 0; step < steps; step++) this.#step();
  }

  /** Delivers until nothing moves, then advances to the client's next deadline while `more` is true. */
  run(more: () => boolean = () => false): void {
    for (let steps = 0; steps < 200_000; steps++) {
      if (this.#step()) continue;
      if (!more() || this.lost !== undefined) return;
      if (this.client.deadline === Number.POSITIVE_INFINITY) return;
      this.now = Math.max(this.now, this.client.deadline);
      this.#do(this.client.expire(this.now));
    }
    throw new Error("the world does not come to rest");
  }

  #do(outputs: readonly ClientOutput[]): void {
    for (const output of outputs) {
      if (output.type === "open") {
        if (this.#wires.has(output.session)) throw new Error(`${output.session} is open already`);
        this.#wires.set(output.session, {
          session: output.session,
          toServer: [],
          toClient: [],
          head: new RequestReader(),
          request: undefined,
          closedByServer: false,
          closedByClient: false,
        });
      } else if (output.type === "write") {
        const wire = this.#wires.get(output.session);
        if (wire === undefined) throw new Error(`${output.session} is not open`);
        wire.toServer.push(...output.octets);
      } else if (output.type === "close") {
        const wire = this.#wires.get(output.session);
        if (wire === undefined) throw new Error(`${output.session} is not open`);
        this.#wires.delete(output.session);
        wire.closedByClient = true;
        const { session } = wire;
        if (this.connection !== undefined && wire.request !== undefined && session !== "secondPost") {
          sessionLost(this.connection, session);
        }
      } else if (output.type === "data") {
        this.down.push(output.data.slice());
        this.events.push(output);
      } else {
        this.events.push(output);
      }
    }
  }

  #step(): boolean {
    const ready: (() => void)[] = [];
    for (const wire of this.#wires.values()) {
      // What arrives at a closed connection is lost.
      if (wire.closedByServer) wire.toServer.length = 0;
      if (wire.toServer.length > 0) ready.push(() => this.#serve(wire, this.#piece(wire.toServer)));
      if (wire.toClient.length > 0) {
        ready.push(() => this.#do(this.client.feed(wire.session, this.#piece(wire.toClient), this.now)));
      } else if (wire.closedByServer) {
        ready.push(() => {
          this.#wires.delete(wire.session);
          this.#do(this.client.ended(wire.session, this.now));
        });
      }
    }
    const held = this.#held;
    if (held !== undefined && (ready.length === 0 || this.#options.random() < 0.1)) {
      ready.push(() => this.#answerPoll(held, false));
    }
    if (ready.length === 0) return false;
    ready[Math.floor(this.#options.random() * ready.length)]?.();
    return true;
  }

  #piece(queue: Uint8Array[]): Uint8Array {
    const first = queue[0] as Uint8Array;
    const random = this.#options.random();
    const length = random < 0.3 ? first.length : Math.max(1, Math.floor(first.length * this.#options.random()));
    if (length >= first.length) queue.shift();
    else queue[0] = first.subarray(length);
    return first.subarray(0, length);
  }

  #serve(wire: Wire, piece: Uint8Array): void {
    let rest = piece;
    if (wire.request === undefined) {
      wire.head ??= new RequestReader();
      const read = wire.head.feed(rest);
      if (read === undefined) return;
      wire.head = undefined;
      rest = read.rest;
      const isPoll = /^\/(?:\?|$)/.test(read.head.target);
      if (isPoll) this.#offered ??= offeredBody(read.head.target.slice(1));
      const parsed = isPoll ? undefined : parseTarget(read.head.target);
      if (parsed?.type === "refuse") throw new Error(parsed.detail);
      const longLived = parsed?.target.encapsulation === "LongLived";
      const body = requestBody(read.head, longLived && read.head.method === "POST");
      wire.request = { head: read.head, target: parsed?.target, body, pieces: [] };
      if (parsed !== undefined) this.#arrive(wire, parsed.target);
    }
    const { request } = wire;
    if (request === undefined) return;
    const read = request.body.read(rest);
    if (read.type === "fault") throw new Error(read.detail);
    if (request.target === undefined) {
      request.pieces.push(...read.data);
      if (read.done) this.#poll(wire, join(request.pieces));
      return;
    }
    if (request.head.method === "GET") return;
    for (const data of read.data) this.#receive(wire, data);
    if (read.done && this.connection?.encapsulation === "KeepAlive") {
      const ended = endPost(this.connection, this.now);
      if (ended.type === "refuse") throw new Error(ended.reason);
      this.#answer(wire, [new Uint8Array(0)], 0);
      if (ended.handshake) this.#echo();
    }
    this.#flush();
  }

  #arrive(wire: Wire, at: Target): void {
    if (at.encapsulation === "WebSocket") throw new Error("no WebSocket here");
    this.connection ??= openVirtualConnection(at, this.now);
    // The state is plain data: it may be cloned at any time.
    this.connection = structuredClone(this.connection);
    if (wire.session === "get") {
      this.#get = wire;
      const arrived = arriveGet(this.connection, at, this.now);
      if (arrived.type === "refuse") throw new Error(arrived.reason);
      if (arrived.type === "handshake") this.#echo();
    } else {
      const arrived = arrivePost(this.connection, at, this.now);
      if (arrived.type === "refuse") throw new Error(arrived.reason);
    }
    this.#flush();
  }

  #receive(wire: Wire, data: Uint8Array): void {
    if (this.connection === undefined) return;
    const received = receive(this.connection, data, this.now);
    if (received.type === "refuse") {
      wire.toClient.push(formatRefusal(received.reason, DATE));
      wire.closedByServer = true;
      return;
    }
    if (received.type === "handshake") this.#echo();
    if (received.type !== "wait" && received.data.length > 0) this.up.push(received.data.slice());
  }

  #echo(): void {
    const { connection } = this;
    if (this.#get === undefined || connection === undefined) throw new Error("there is no GET to answer");
    if (connection.encapsulation === "KeepAlive") {
      const echo = handshakeAnswer(connection);
      this.#answer(this.#get, [echo], echo.length);
    } else {
      const contentLength = connection.connectionContentLength;
      this.#get.toClient.push(formatResponse({ status: 200, now: DATE, contentLength }), ECHO_STRING);
    }
  }

  #answer(wire: Wire, body: readonly Uint8Array[], contentLength: number): void {
    const connection = this.#options.closes ? "close" : "Keep-Alive";
    wire.toClient.push(formatResponse({ status: 200, now: DATE, contentLength, connection }));
    wire.toClient.push(...body.filter((part) => part.length > 0));
    wire.request = undefined;
    if (this.#options.closes) wire.closedByServer = true;
  }

  #flush(): void {
    const { connection } = this;
    if (connection === undefined || this.#get === undefined) return;
    const available = this.#outbox.reduce((sum, part) => sum + part.length, 0);
    if (available === 0) {
      // Sometimes the hold time expires.
      if (this.#options.random() < 0.2 && releaseGet(connection).type === "send") this.#answer(this.#get, [], 0);
      return;
    }
    const sent = sendDown(connection, Math.min(available, Math.max(1, room(connection))), this.now);
    if (sent.type !== "send") return;
    const data = this.#take(sent.length);
    if (connection.encapsulation === "KeepAlive") this.#answer(this.#get, data, sent.length);
    else this.#get.toClient.push(...data);
  }

  #take(length: number): Uint8Array[] {
    const all = join(this.#outbox);
    this.#outbox = length < all.length ? [all.subarray(length)] : [];
    return [all.subarray(0, length)];
  }

  #poll(wire: Wire, body: Uint8Array): void {
    const parsed = parsePoll(body, HELD_BODY);
    if (parsed.type === "refuse") throw new Error(parsed.detail);
    this.polling = structuredClone(this.polling ?? openPolling(parsed.poll, this.now, {}, this.#offered));
    const received = receivePoll(this.polling, parsed.poll, this.now);
    if (received.type === "refuse") {
      wire.toClient.push(formatRefusal(received.reason, DATE));
      wire.closedByServer = true;
      return;
    }
    if (received.type === "repeat") {
      this.#respond(wire, received.body);
      return;
    }
    if (received.type === "overtake" || received.type === "early") {
      this.overtaken += 1;
      this.#early = { wire, body };
      if (this.#held !== undefined) this.#answerPoll(this.#held, false);
      return;
    }
    if (received.type === "data" && received.data.length > 0) this.up.push(received.data.slice());
    const handshake = received.type === "data" && received.handshake;
    const mayHold = received.type === "data" && !handshake && this.polling.bodyLimit > MAX_BODY;
    if (mayHold && this.#early === undefined && this.#options.random() < 0.5) this.#held = wire;
    else this.#answerPoll(wire, handshake);
  }

  #answerPoll(wire: Wire, handshake: boolean): void {
    if (this.polling === undefined) throw new Error("there is no poll to answer");
    this.#held = undefined;
    const parameters = this.#options.parameters ?? { minimum: 0, maximum: 2, repetitions: 2 };
    const most = respondRoom(this.polling, parameters);
    if (handshake && this.#outbox.length === 0) {
      this.#outbox.push(octets("!"));
      this.filled += 1;
    }
    const available = this.#outbox.reduce((sum, part) => sum + part.length, 0);
    const made = respond(this.polling, this.#take(Math.min(most, available)), parameters, this.now);
    if (made.type !== "body") throw new Error("no answer");
    this.#respond(wire, made.body);
    const early = this.#early;
    this.#early = undefined;
    if (early !== undefined) this.#poll(early.wire, early.body);
  }

  #respond(wire: Wire, answer: Uint8Array): void {
    wire.request = undefined;
    const isGrown = this.polling !== undefined && this.polling.bodyLimit > MAX_BODY;
    // A connection that is kept may end at any time.
    const kept = isGrown && this.#options.random() < 0.8;
    const isLost = this.#options.random() < (this.#options.loss ?? 0);
    wire.closedByServer = !kept || isLost;
    if (isLost) {
      this.losses += 1;
      return;
    }
    const connection = isGrown ? "Keep-Alive" : "close";
    wire.toClient.push(formatResponse({ status: 200, now: DATE, contentLength: answer.length, connection }));
    wire.toClient.push(answer);
  }
}
