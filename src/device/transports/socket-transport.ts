/**
 * A transport over TCP sockets. It drives the client of one encapsulation: opens and closes sockets as the client asks,
 * and pauses them while the reader is behind.
 *
 * @module
 */

import type { Socket } from "node:net";
import {
  type ClientOutput,
  type ClientSessionName,
  type EncapsulationClient,
  headerOf,
  type Lost,
  REASONS,
  ResponseHeadReader,
} from "../../encapsulation/index.ts";
import { Condition } from "../../lib/condition.ts";
import { OctetQueue } from "../../lib/octet-queue.ts";
import { atTime } from "../../lib/runtime/timeout.ts";
import { adviceOf } from "../../store-and-forward/reason-advice.ts";
import { DeviceError } from "../device-error.ts";
import { ANSWER_HEAD, CLOSE_TIMEOUT, READ_AHEAD, WRITE_AHEAD } from "../limits.ts";
import { tokenRefusal } from "../token-refusal.ts";
import type { BodyLimits } from "./body-limits.ts";
import { type Dialler, dial } from "./dial.ts";
import { foreignAnswer, noAnswer, notHttp } from "./not-an-edge.ts";
import type { ForwardingProxy } from "./proxy/forwarding-proxy.ts";
import type { EdgeRoute, Route } from "./route.ts";
import { CAPABILITIES, type Capabilities, type Transport, type TransportName } from "./transport.ts";

/** Closes a socket once its output is sent, or after CLOSE_TIMEOUT (2 s) if the peer does not read. */
function endSoon(socket: Socket): void {
  socket.destroySoon();
  if (socket.destroyed) return;
  const timer = setTimeout(() => socket.destroy(), CLOSE_TIMEOUT);
  timer.unref();
  socket.once("close", () => clearTimeout(timer));
}

/** The connection of one session, pending or open. */
interface Line {
  readonly dialling: AbortController;
  socket: Socket | undefined;
  /** Output that waits for the connection. */
  waiting: Uint8Array[];
  waitingOctets: number;
  /** The first bytes received since the last request, to identify what answers. */
  answer: Uint8Array[];
  answerOctets: number;
}

/** How a transport's lines connect. */
export interface SocketWay {
  readonly route: Route | EdgeRoute;
  readonly ca: string | undefined;
  readonly dialler: Dialler;
  readonly token: string | undefined;
  readonly relay: string;
  /** The HTTP proxy that forwards the requests, if one does. */
  readonly forwarding?: ForwardingProxy | undefined;
  readonly bodyLimits?: BodyLimits | undefined;
}

/** Drives an encapsulation client over Node sockets. */
export class SocketTransport implements Transport {
  readonly name: TransportName;
  readonly capabilities: Capabilities;
  readonly established: Promise<void>;
  readonly answered: Promise<void>;
  readonly #answer = Promise.withResolvers<void>();
  readonly #client: EncapsulationClient;
  readonly #way: SocketWay;
  readonly #lines = new Map<ClientSessionName, Line>();
  #settle: { resolve: () => void; reject: (error: DeviceError) => void };
  #isEstablished = false;
  readonly #inbox = new OctetQueue();
  #reader: ((octets: Uint8Array | undefined) => void) | undefined;
  /** Notified when more may be written, or the transport has ended. */
  readonly #writable = new Condition();
  #lost: Lost | undefined;
  #failure: DeviceError | undefined;
  #socketError: Error | undefined;
  #heardAt = performance.now();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #timerAt = Number.POSITIVE_INFINITY;

  constructor(name: TransportName, client: EncapsulationClient, way: SocketWay) {
    this.name = name;
    this.capabilities = CAPABILITIES[name];
    this.#client = client;
    this.#way = way;
    let settle = { resolve: () => {}, reject: (_: DeviceError) => {} };
    this.established = new Promise((resolve, reject) => {
      settle = { resolve, reject };
    });
    this.answered = this.#answer.promise;
    this.answered.catch(() => undefined);
    this.established.then(this.#answer.resolve, this.#answer.reject);
    this.#settle = settle;
    this.#apply(client.start(performance.now()));
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

  get remaining(): number {
    return this.#client.remaining;
  }

  read(): Promise<Uint8Array | undefined> {
    const octets = this.#inbox.takePiece();
    if (octets !== undefined) {
      if (this.#inbox.length < READ_AHEAD) for (const { socket } of this.#lines.values()) socket?.resume();
      return Promise.resolve(octets);
    }
    if (this.#lost !== undefined) return Promise.resolve(undefined);
    return new Promise((resolve) => {
      this.#reader = resolve;
    });
  }

  async write(octets: readonly Uint8Array[]): Promise<void> {
    this.#apply(this.#client.send(octets, performance.now()));
    if (this.#queued() <= this.#writeAhead || this.#lost !== undefined) return;
    await this.#writable.wait();
  }

  close(): void {
    this.#apply(this.#client.close());
    this.#end({ type: "lost", reason: "ConnectionClosed", detail: "This side has closed the connection." });
  }

  /** Where data goes in bodies, the next one fills while the last is on its way. */
  get #writeAhead(): number {
    return Math.max(WRITE_AHEAD, this.#client.bodySize ?? 0);
  }

  #queued(): number {
    let octets = this.#client.pending;
    for (const { socket, waitingOctets } of this.#lines.values()) octets += socket?.writableLength ?? waitingOctets;
    return octets;
  }

  /** Carries out the client's commands. `line` is the line whose data or end caused them. */
  #apply(outputs: readonly ClientOutput[], line?: Line): void {
    for (const output of outputs) {
      switch (output.type) {
        case "open":
          this.#open(output.session);
          break;
        case "write":
          this.#write(output.session, output.octets);
          break;
        case "close": {
          const closing = this.#lines.get(output.session);
          this.#lines.delete(output.session);
          if (closing !== undefined) closeLine(closing);
          break;
        }
        case "established":
          this.#establish();
          break;
        case "data":
          this.#deliver(output.data);
          break;
        case "bodyRefused":
          if ("edge" in this.#way.route) this.#way.bodyLimits?.shrink(this.#way.route.edge.origin, output.bodyLimit);
          break;
        case "lost":
          this.#end(output, line);
          break;
        case "probed":
          this.#answer.resolve();
          break;
        case "keepAlive":
          // The SSTP engine above always sends first and has its own keep-alive.
          break;
      }
    }
    if (this.#writable.isAwaited && this.#queued() <= this.#writeAhead) this.#writable.notifyAll();
    this.#setTimer();
  }

  #establish(): void {
    this.#isEstablished = true;
    this.#settle.resolve();
  }

  #open(session: ClientSessionName): void {
    const line: Line = {
      dialling: new AbortController(),
      socket: undefined,
      waiting: [],
      waitingOctets: 0,
      answer: [],
      answerOctets: 0,
    };
    this.#lines.set(session, line);
    const isCurrent = () => this.#lines.get(session) === line;
    const { route, ca, dialler } = this.#way;
    dial({ ...route, ca, dialler, signal: line.dialling.signal }).then(
      (socket) => {
        if (isCurrent()) this.#connected(session, line, socket);
        else socket.on("error", () => undefined).destroy();
      },
      (error) => {
        if (!isCurrent()) return;
        this.#socketError = error;
        this.#ended(session, line);
      },
    );
  }

  #connected(session: ClientSessionName, line: Line, socket: Socket): void {
    line.socket = socket;
    this.#socketError = undefined;
    const isCurrent = () => this.#lines.get(session) === line;
    socket.on("data", (octets: Buffer) => {
      if (!isCurrent()) return;
      this.#heardAt = performance.now();
      if (line.answerOctets < ANSWER_HEAD) {
        line.answer.push(octets);
        line.answerOctets += octets.length;
      }
      this.#apply(this.#client.feed(session, octets, performance.now()), line);
    });
    socket.on("drain", () => this.#apply([]));
    socket.on("error", (error) => {
      if (isCurrent()) this.#socketError = error;
    });
    const onEnd = () => {
      if (isCurrent()) this.#ended(session, line);
    };
    socket.on("end", onEnd);
    socket.on("close", onEnd);
    // Polling may make a new connection for each exchange; a slow reader must pause these too.
    if (this.#inbox.length >= READ_AHEAD) socket.pause();
    const { waiting } = line;
    line.waiting = [];
    line.waitingOctets = 0;
    writeAll(socket, waiting);
    // Without an edge, being connected is enough.
    if (!("edge" in this.#way.route)) this.#establish();
    this.#apply([]);
  }

  #ended(session: ClientSessionName, line: Line): void {
    this.#lines.delete(session);
    this.#apply(this.#client.ended(session, performance.now()), line);
  }

  #write(session: ClientSessionName, octets: readonly Uint8Array[]): void {
    const line = this.#lines.get(session);
    if (line === undefined) return;
    if (line.answerOctets > 0) {
      line.answer = [];
      line.answerOctets = 0;
    }
    if (line.socket !== undefined) {
      writeAll(line.socket, octets);
      return;
    }
    for (const piece of octets) {
      line.waiting.push(piece);
      line.waitingOctets += piece.length;
    }
  }

  #deliver(octets: Uint8Array): void {
    if (this.#reader !== undefined) {
      const reader = this.#reader;
      this.#reader = undefined;
      reader(octets);
      return;
    }
    this.#inbox.push(octets);
    if (this.#inbox.length >= READ_AHEAD) for (const { socket } of this.#lines.values()) socket?.pause();
  }

  #end(lost: Lost, line?: Line): void {
    if (this.#lost !== undefined) return;
    this.#failure = this.#explain(lost, line);
    const why = this.#failure?.message ?? (this.#socketError && textOf(this.#socketError));
    this.#lost = why === undefined ? lost : { ...lost, detail: `${lost.detail} (${why})` };
    clearTimeout(this.#timer);
    for (const open of this.#lines.values()) closeLine(open);
    this.#lines.clear();
    this.#settle.reject(this.#failure ?? failure(this.name, this.#lost, this.#way));
    this.#reader?.(undefined);
    this.#reader = undefined;
    this.#writable.notifyAll();
  }

  /** What is known about a loss beyond the client's report: the dialler's error, or what answered instead. */
  #explain({ code, retryAfter, status, challenges }: Lost, line: Line | undefined): DeviceError | undefined {
    if (this.#socketError instanceof DeviceError) return this.#socketError;
    const { route, forwarding } = this.#way;
    if (status === 407 && forwarding !== undefined) return forwarding.refusal(challenges);
    if (!("edge" in route) || code !== undefined || line?.socket === undefined) return undefined;
    if (line.answer.length > 0) return foreign(route.edge, line.answer, this.#isEstablished, retryAfter);
    return this.#isEstablished ? undefined : noAnswer(route.edge, this.#socketError);
  }

  /** A timer that fires early just rearms. That is cheaper than a new timer for every piece of data. */
  #setTimer(): void {
    const { deadline } = this.#client;
    if (this.#timerAt <= deadline || this.#lost !== undefined) return;
    clearTimeout(this.#timer);
    this.#timerAt = deadline;
    this.#timer = atTime(deadline, () => {
      this.#timerAt = Number.POSITIVE_INFINITY;
      if (this.#lost === undefined) this.#apply(this.#client.expire(performance.now()));
    });
  }
}

function writeAll(socket: Socket, octets: readonly Uint8Array[]): void {
  socket.cork();
  for (const piece of octets) socket.write(piece);
  socket.uncork();
}

function closeLine({ dialling, socket }: Line): void {
  if (socket === undefined) dialling.abort();
  else endSoon(socket);
}

/** Describes what answered, if it was not an edge. */
function foreign(
  edge: URL,
  pieces: readonly Uint8Array[],
  isEstablished: boolean,
  retryAfter: number | undefined,
): DeviceError | undefined {
  const octets = Buffer.concat(pieces);
  const read = new ResponseHeadReader().feed(octets);
  if (read.type !== "head") {
    const isCutOff = read.type === "more" && octets.subarray(0, 5).toString("latin1") === "HTTP/";
    return isEstablished || isCutOff ? undefined : notHttp(edge, octets);
  }
  const { status, phrase, headers } = read.head;
  const header = (name: string) => headerOf(headers, name);
  // Groove's own relays give no reason and are legitimate.
  if (/^groove/i.test(header("server") ?? "")) return undefined;
  const type = header("content-type") ?? "";
  if (status === 200 && (/octet-stream/i.test(type) || (isEstablished && !/html/i.test(type)))) return undefined;
  return foreignAnswer(edge, { status, phrase, header, body: read.rest }, retryAfter);
}

function textOf(error: NodeJS.ErrnoException): string {
  return error.message || (error.code ?? error.name);
}

/** Converts the failure of a transport to an error. */
function failure(name: TransportName, lost: Lost, { token, relay, route }: SocketWay): DeviceError {
  const { code, reason, detail, cure, status, retryAfter } = lost;
  // An edge answers, also when the device names a relay behind it.
  const own = "edge" in route && route.edge.hostname === relay ? relay : undefined;
  const refused = tokenRefusal(code, { detail, token, name: own });
  // What this side has made of the bytes may be a fault of the way, so it is no cause to give up.
  const advice = adviceOf(reason) === "another transport" ? "another transport" : "retry";
  if (refused !== undefined) return refused;
  return code === undefined
    ? new DeviceError("ConnectFailed", `no connection by ${name}: ${detail} ${REASONS[reason].cure} [${reason}]`, {
        advice,
        retryAfter,
      })
    : new DeviceError(
        "Refused",
        `the edge refused ${name}: ${detail}${cure === undefined ? "" : ` ${cure}`} [${code}]`,
        {
          advice: adviceOf(code, status),
          retryAfter,
        },
      );
}
