/**
 * The WebSocket transport, a fourth encapsulation of this project. Binary messages carry the same bytes as the others.
 * Text messages are control: the edge's platform answers "ping" itself, without waking an object. Between "hold" and
 * "go on" the device sends nothing. The device answers "mark X" with "took X" once it has read everything before it,
 * which tells the edge how much it may send; "marks" at the start promises that it will.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import { type ClientOptions, WebSocket } from "ws";
import {
  formatTarget,
  guidFrom,
  type Lost,
  prefixOf,
  REASON_HEADER,
  refusalText,
  retryAfterOf,
  TIMERS,
} from "../../encapsulation/index.ts";
import { Condition } from "../../lib/condition.ts";
import { afterInput } from "../../lib/runtime/timeout.ts";
import { adviceOf } from "../../store-and-forward/reason-advice.ts";
import { DeviceError } from "../device-error.ts";
import {
  ANSWER_HEAD,
  CLOSE_TIMEOUT,
  DIAL_TIMEOUT,
  READ_AHEAD,
  WEBSOCKET_BUSY_PING,
  WEBSOCKET_MESSAGE,
  WEBSOCKET_PING,
  WRITE_AHEAD,
} from "../limits.ts";
import { type RefusedToken, tokenRefusal } from "../token-refusal.ts";
import { authorization } from "../token-source.ts";
import { type Dialler, dial } from "./dial.ts";
import { foreignAnswer, noAnswer, notHttp } from "./not-an-edge.ts";
import type { EdgeRoute } from "./route.ts";
import { CAPABILITIES, type Transport, type TransportOptions } from "./transport.ts";

/** How to connect to the edge. */
export interface WebSocketWay extends EdgeRoute {
  /** PEM certificates of the authorities to trust in addition to the system's and Node's. */
  readonly ca: string | undefined;
  readonly dialler: Dialler;
}

/** Opens a virtual connection over WebSocket. */
export function openWebSocket(options: TransportOptions, way: WebSocketWay): Transport {
  return new WebSocketTransport(options, way);
}

class WebSocketTransport implements Transport {
  readonly name = "websocket";
  readonly capabilities = CAPABILITIES.websocket;
  readonly established: Promise<void>;
  readonly answered: Promise<void>;
  readonly remaining = Number.POSITIVE_INFINITY;
  readonly #socket: WebSocket;
  /** Received and unread: bytes, with marks between them as text. */
  readonly #inbox: (Uint8Array | string)[] = [];
  #inboxOctets = 0;
  #reader: ((octets: Uint8Array | undefined) => void) | undefined;
  /** Notified when more may be written, or the transport has ended. */
  readonly #writable = new Condition();
  #lost: Lost | undefined;
  #failure: DeviceError | undefined;
  #heardAt = performance.now();
  #alive = true;
  /** The edge has said "hold". */
  #held = false;
  #pinging: NodeJS.Timeout | undefined;
  /** Milliseconds since the last full ping. */
  #quiet = 0;

  constructor({ relay, token, isBusy = () => false }: TransportOptions, way: WebSocketWay) {
    const { edge } = way;
    const target = formatTarget({ encapsulation: "WebSocket", relay, guid: guidFrom(randomBytes(24)) });
    const url = new URL(`${prefixOf(edge)}${target}`, edge.href);
    url.protocol = url.protocol.replace("http", "ws");
    const settled = Promise.withResolvers<void>();
    this.established = settled.promise;
    this.answered = settled.promise;
    this.established.catch(() => undefined);
    const dialling = new AbortController();
    const socket = new WebSocket(url, {
      perMessageDeflate: false,
      headers: authorization(token),
      handshakeTimeout: DIAL_TIMEOUT + TIMERS.establishment,
      createConnection: connection(() => dial({ ...way, signal: dialling.signal })),
    });
    socket.binaryType = "nodebuffer";
    this.#socket = socket;
    socket.on("open", () => {
      socket.send("marks");
      settled.resolve();
      this.#pinging = setInterval(() => this.#tick(isBusy()), WEBSOCKET_BUSY_PING);
    });
    socket.on("message", (data: Buffer, isBinary: boolean) => {
      this.#alive = true;
      this.#heardAt = performance.now();
      if (isBinary) this.#deliver(data);
      else this.#obey(data.toString("latin1"));
    });
    socket.on("unexpected-response", (_request, response) => {
      const end = () => {
        this.#failure ??= refusal(edge, response, { body: Buffer.concat(body), token, name: relay });
        socket.terminate();
      };
      // Collects the start of an error page, for at most CLOSE_TIMEOUT (2 s).
      const body: Buffer[] = [];
      let octets = 0;
      const late = setTimeout(end, CLOSE_TIMEOUT);
      response.on("data", (piece: Buffer) => {
        body.push(piece);
        octets += piece.length;
        if (octets >= ANSWER_HEAD) end();
      });
      response.on("error", () => undefined);
      response.on("close", () => {
        clearTimeout(late);
        end();
      });
    });
    socket.on("error", (error) => {
      this.#failure ??= this.#pinging === undefined ? failureOf(edge, error) : brokenBy(error);
    });
    socket.on("close", (code, reason) => {
      dialling.abort();
      const detail = this.#failure?.message ?? `The WebSocket was closed with ${code} ${reason.toString()}.`.trim();
      // Reject before ending the transport, so that a caller waiting for both learns why it was never established.
      settled.reject(this.#failure ?? new DeviceError("ConnectFailed", `no connection by websocket: ${detail}`));
      this.#end({
        type: "lost",
        reason: "SessionEnded",
        detail,
        ...(reason.length > 0 && { code: reason.toString() }),
        ...(this.#failure?.retryAfter !== undefined && { retryAfter: this.#failure.retryAfter }),
      });
    });
  }

  get lost(): Lost | undefined {
    return this.#lost;
  }

  get failure(): DeviceError | undefined {
    return this.#failure;
  }

  get heardAt(): number {
    return this.#heardAt;
  }

  read(): Promise<Uint8Array | undefined> {
    const octets = this.#inbox.shift();
    if (octets instanceof Uint8Array) {
      this.#inboxOctets -= octets.length;
      if (this.#inboxOctets < READ_AHEAD) this.#socket.resume();
      this.#answerMarks();
      return Promise.resolve(octets);
    }
    if (this.#lost !== undefined) return Promise.resolve(undefined);
    return new Promise((resolve) => {
      this.#reader = resolve;
    });
  }

  async write(octets: readonly Uint8Array[]): Promise<void> {
    await this.established.catch(() => undefined);
    if (this.#lost !== undefined) return;
    for (const piece of joined(octets)) this.#socket.send(piece, { binary: true }, () => this.#written());
    if (!this.#held && this.#socket.bufferedAmount <= WRITE_AHEAD) return;
    await this.#writable.wait();
  }

  close(): void {
    this.#socket.close(1000);
    this.#end({ type: "lost", reason: "ConnectionClosed", detail: "This side has closed the connection." });
  }

  /** Runs every WEBSOCKET_BUSY_PING (5 s) and pings if due. */
  #tick(isBusy: boolean): void {
    this.#quiet += WEBSOCKET_BUSY_PING;
    if (this.#quiet >= WEBSOCKET_PING) {
      this.#quiet = 0;
      this.#ping();
    } else if (isBusy) this.#socket.send("ping");
  }

  #ping(): void {
    // A process that was starved has not read the answer yet.
    if (!this.#alive) afterInput(() => this.#judge());
    else {
      this.#alive = false;
      this.#socket.send("ping");
    }
  }

  #judge(): void {
    if (this.#alive || this.#lost !== undefined) return;
    const silent = `the edge has not answered for ${WEBSOCKET_PING / 1000} s`;
    this.#failure = new DeviceError("ConnectFailed", `the connection was lost: ${silent}`);
    this.#socket.terminate();
  }

  #obey(word: string): void {
    if (word.startsWith("mark ")) {
      this.#inbox.push(word);
      this.#answerMarks();
    }
    if (word === "hold") this.#held = true;
    if (word !== "go on") return;
    this.#held = false;
    this.#written();
  }

  /** Answers each mark before which everything was read. */
  #answerMarks(): void {
    for (let [mark] = this.#inbox; typeof mark === "string"; [mark] = this.#inbox) {
      this.#inbox.shift();
      this.#socket.send(mark.replace("mark", "took"));
    }
  }

  #written(): void {
    if (this.#held || this.#socket.bufferedAmount > WRITE_AHEAD) return;
    this.#writable.notifyAll();
  }

  #deliver(octets: Uint8Array): void {
    if (this.#reader !== undefined) {
      const reader = this.#reader;
      this.#reader = undefined;
      reader(octets);
      return;
    }
    this.#inbox.push(octets);
    this.#inboxOctets += octets.length;
    if (this.#inboxOctets >= READ_AHEAD) this.#socket.pause();
  }

  #end(lost: Lost): void {
    if (this.#lost !== undefined) return;
    this.#lost = lost;
    clearInterval(this.#pinging);
    this.#reader?.(undefined);
    this.#reader = undefined;
    this.#writable.notifyAll();
  }
}

/** Adapts an asynchronous dial to node:http's `createConnection`. */
function connection(make: () => Promise<Socket>): NonNullable<ClientOptions["createConnection"]> {
  const create = (_: unknown, made: (error: Error | null, socket?: Socket) => void) => {
    make().then((socket) => made(null, socket), made);
  };
  // The declared type is that of net.connect, which returns its socket synchronously.
  return create as unknown as NonNullable<ClientOptions["createConnection"]>;
}

/** Explains an HTTP response received instead of a WebSocket. */
function refusal(
  edge: URL,
  { statusCode: status = 0, statusMessage: phrase = "", headers }: IncomingMessage,
  { body, ...shown }: RefusedToken & { readonly body: Uint8Array },
): DeviceError {
  const header = (name: string) => {
    const value = headers[name.toLowerCase()];
    return typeof value === "string" ? value : value?.[0];
  };
  const retryAfter = retryAfterOf(header("retry-after"), header("date"));
  const code = header(REASON_HEADER);
  if (code === undefined) return foreignAnswer(edge, { status, phrase, header, body }, retryAfter);
  const { detail, cure } = refusalText(header, `${status} ${phrase}`);
  const refused = tokenRefusal(code, { ...shown, detail });
  if (refused !== undefined) return refused;
  const text = `the edge refused websocket: ${detail}${cure === undefined ? "" : ` ${cure}`} [${code}]`;
  return new DeviceError("Refused", text, { advice: adviceOf(code, status), retryAfter });
}

/** Converts an error of a socket, of Node's HTTP parser, or of the dialler. */
function failureOf(edge: URL, error: NodeJS.ErrnoException & { readonly rawPacket?: Uint8Array }): DeviceError {
  if (error instanceof DeviceError) return error;
  if (error.rawPacket !== undefined) return notHttp(edge, error.rawPacket);
  if (error.code === "ECONNRESET") return noAnswer(edge, error);
  const text = `no connection by websocket: ${error.message || (error.code ?? error.name)}`;
  return new DeviceError("ConnectFailed", text, { cause: error });
}

/** Converts an error on an established connection. */
function brokenBy(error: NodeJS.ErrnoException): DeviceError {
  const text = `the connection was lost: ${error.message || (error.code ?? error.name)}`;
  return new DeviceError("ConnectFailed", text, { cause: error });
}

/** Joins small pieces into one message: the edge stores each message with one write. */
function joined(pieces: readonly Uint8Array[]): readonly Uint8Array[] {
  const groups: Uint8Array[][] = [];
  let length = 0;
  for (const piece of pieces) {
    const group = groups.at(-1);
    if (group === undefined || length + piece.length > WEBSOCKET_MESSAGE) {
      groups.push([piece]);
      length = piece.length;
    } else {
      group.push(piece);
      length += piece.length;
    }
  }
  return groups.map((group) => (group.length === 1 && group[0] !== undefined ? group[0] : Buffer.concat(group)));
}
