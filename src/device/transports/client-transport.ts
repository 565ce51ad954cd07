/**
 * A transport that drives the client of one encapsulation: opens and closes lines as the client asks, and pauses them
 * while the reader is behind. A line is a socket, or in a browser a series of `fetch` calls.
 *
 * @module
 */

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
import { joinOctets } from "../../lib/octets.ts";
import { atTime } from "../../lib/runtime/timeout.ts";
import { adviceOf } from "../../store-and-forward/reason-advice.ts";
import { DeviceError } from "../device-error.ts";
import { ANSWER_HEAD, READ_AHEAD, WRITE_AHEAD } from "../limits.ts";
import { tokenRefusal } from "../token-refusal.ts";
import { foreignAnswer, noAnswer, notHttp } from "./not-an-edge.ts";
import type { ForwardingProxy } from "./proxy/forwarding-proxy.ts";
import { CAPABILITIES, type Capabilities, type Transport, type TransportName } from "./transport.ts";
import type { WayLimits } from "./way-limits.ts";

/** The connection of one session, pending or open. */
export interface Line {
  /** Bytes that were written and are not sent yet. */
  readonly queued: number;
  /** Sends bytes, once connected. Do not modify them afterwards. */
  write(octets: readonly Uint8Array[]): void;
  /** Stops reading a line that is connected, until `resume`. */
  pause(): void;
  resume(): void;
  /** Ends the connection once its output is sent. */
  close(): void;
}

/** What a line reports. After its end, or its `close`, nothing counts. */
export interface LineEvents {
  onConnected(): void;
  onData(octets: Uint8Array): void;
  /** Everything that was written is sent. */
  onDrain(): void;
  /** The other side has ended the connection, or it could not be made, or it broke. May be called twice. */
  onEnd(error: Error | undefined): void;
}

/** Opens a line. Reports nothing before it has returned. */
export type OpenLine = (events: LineEvents) => Line;

/** A line in use. */
interface OpenedLine {
  readonly line: Line;
  isConnected: boolean;
  /** The first bytes received since the last request, to identify what answers. */
  answer: Uint8Array[];
  answerOctets: number;
}

/** What a transport's lines lead to. */
export interface ClientWay {
  /** URL of the edge; undefined for a relay without one. */
  readonly edge?: URL | undefined;
  readonly open: OpenLine;
  readonly token: string | undefined;
  readonly relay: string;
  readonly capabilities?: Capabilities | undefined;
  /** The HTTP proxy that forwards the requests, if one does. */
  readonly forwarding?: ForwardingProxy | undefined;
  readonly wayLimits?: WayLimits | undefined;
}

/** Drives an encapsulation client over lines. */
export class ClientTransport implements Transport {
  readonly name: TransportName;
  readonly capabilities: Capabilities;
  readonly established: Promise<void>;
  readonly answered: Promise<void>;
  readonly ended: Promise<void>;
  readonly #answer = Promise.withResolvers<void>();
  readonly #over = Promise.withResolvers<void>();
  readonly #client: EncapsulationClient;
  readonly #way: ClientWay;
  readonly #lines = new Map<ClientSessionName, OpenedLine>();
  #settle: { resolve: () => void; reject: (error: DeviceError) => void };
  #isEstablished = false;
  readonly #inbox = new OctetQueue();
  #reader: ((octets: Uint8Array | undefined) => void) | undefined;
  /** Notified when more may be written, or the transport has ended. */
  readonly #writable = new Condition();
  #lost: Lost | undefined;
  #failure: DeviceError | undefined;
  #lineError: Error | undefined;
  #heardAt = performance.now();
  /** Since when the lines are paused. */
  #pausedAt: number | undefined;
  /** How long they were paused before, in milliseconds. */
  #clockDelay = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #timerAt = Number.POSITIVE_INFINITY;

  constructor(name: TransportName, client: EncapsulationClient, way: ClientWay) {
    this.name = name;
    this.capabilities = way.capabilities ?? CAPABILITIES[name];
    this.#client = client;
    this.#way = way;
    let settle = { resolve: () => {}, reject: (_: DeviceError) => {} };
    this.established = new Promise((resolve, reject) => {
      settle = { resolve, reject };
    });
    this.ended = this.#over.promise;
    this.answered = this.#answer.promise;
    this.answered.catch(() => undefined);
    this.established.then(this.#answer.resolve, this.#answer.reject);
    this.#settle = settle;
    this.#apply(client.start(this.#now));
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
      if (this.#pausedAt !== undefined && this.#inbox.length < READ_AHEAD) this.#resume();
      return Promise.resolve(octets);
    }
    if (this.#lost !== undefined) return Promise.resolve(undefined);
    return new Promise((resolve) => {
      this.#reader = resolve;
    });
  }

  async write(octets: readonly Uint8Array[]): Promise<void> {
    this.#apply(this.#client.send(octets, this.#now));
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
    for (const { line } of this.#lines.values()) octets += line.queued;
    return octets;
  }

  /** Carries out the client's commands. `line` is the line whose data or end caused them. */
  #apply(outputs: readonly ClientOutput[], line?: OpenedLine): void {
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
          closing?.line.close();
          break;
        }
        case "established":
          this.#establish();
          break;
        case "data":
          this.#deliver(output.data);
          break;
        case "bodyRefused":
          if (this.#way.edge !== undefined) this.#way.wayLimits?.body.shrink(this.#way.edge.origin, output.bodyLimit);
          break;
        case "holdCut":
          if (this.#way.edge !== undefined) this.#way.wayLimits?.hold.shrink(this.#way.edge.origin, output.hold);
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
    const isCurrent = () => this.#lines.get(session) === opened;
    const line = this.#way.open({
      onConnected: () => {
        if (isCurrent()) this.#connected(opened);
      },
      onData: (octets) => {
        if (!isCurrent()) return;
        const before = this.#heardAt;
        this.#heardAt = performance.now();
        if (opened.answerOctets < ANSWER_HEAD) {
          opened.answer.push(octets);
          opened.answerOctets += octets.length;
        }
        this.#apply(this.#client.feed(session, octets, this.#now), opened);
        // Its end is no sign of life.
        if (this.#lost !== undefined) this.#heardAt = before;
      },
      onDrain: () => this.#apply([]),
      onEnd: (error) => {
        if (!isCurrent()) return;
        this.#lineError = error ?? this.#lineError;
        this.#lines.delete(session);
        this.#apply(this.#client.ended(session, this.#now), opened);
      },
    });
    const opened: OpenedLine = { line, isConnected: false, answer: [], answerOctets: 0 };
    this.#lines.set(session, opened);
  }

  #connected(opened: OpenedLine): void {
    opened.isConnected = true;
    this.#lineError = undefined;
    // Polling may make a new connection for each exchange; a slow reader must pause these too.
    if (this.#pausedAt !== undefined) opened.line.pause();
    // Without an edge, being connected is enough.
    if (this.#way.edge === undefined) this.#establish();
    this.#apply([]);
  }

  #write(session: ClientSessionName, octets: readonly Uint8Array[]): void {
    const opened = this.#lines.get(session);
    if (opened === undefined) return;
    if (opened.answerOctets > 0) {
      opened.answer = [];
      opened.answerOctets = 0;
    }
    opened.line.write(octets);
  }

  #deliver(octets: Uint8Array): void {
    if (this.#reader !== undefined) {
      const reader = this.#reader;
      this.#reader = undefined;
      reader(octets);
      return;
    }
    this.#inbox.push(octets);
    if (this.#pausedAt === undefined && this.#inbox.length >= READ_AHEAD) this.#pause();
  }

  #pause(): void {
    for (const { line } of this.#lines.values()) line.pause();
    this.#pausedAt = performance.now();
  }

  #resume(): void {
    this.#clockDelay += performance.now() - (this.#pausedAt ?? 0);
    this.#pausedAt = undefined;
    for (const { line } of this.#lines.values()) line.resume();
    this.#setTimer();
  }

  /** The client's time. It stands still while nothing is read: then silence says nothing about the other side. */
  get #now(): number {
    return (this.#pausedAt ?? performance.now()) - this.#clockDelay;
  }

  #end(lost: Lost, line?: OpenedLine): void {
    if (this.#lost !== undefined) return;
    this.#failure = this.#explain(lost, line);
    const why = this.#failure?.message ?? (this.#lineError && textOf(this.#lineError));
    this.#lost = why === undefined ? lost : { ...lost, detail: `${lost.detail} (${why})` };
    clearTimeout(this.#timer);
    for (const open of this.#lines.values()) open.line.close();
    this.#lines.clear();
    this.#settle.reject(this.#failure ?? failure(this.name, this.#lost, this.#way));
    this.#reader?.(undefined);
    this.#reader = undefined;
    this.#writable.notifyAll();
    this.#over.resolve();
  }

  /** What is known about a loss beyond the client's report: the line's error, or what answered instead. */
  #explain({ code, retryAfter, status, challenges }: Lost, opened: OpenedLine | undefined): DeviceError | undefined {
    if (this.#lineError instanceof DeviceError) return this.#lineError;
    const { edge, forwarding } = this.#way;
    if (status === 407 && forwarding !== undefined) return forwarding.refusal(challenges);
    if (edge === undefined || code !== undefined || opened?.isConnected !== true) return undefined;
    if (opened.answer.length > 0) return foreign(edge, opened, this.#isEstablished, retryAfter);
    return this.#isEstablished ? undefined : noAnswer(edge, this.#lineError);
  }

  /** A timer that fires early just rearms. That is cheaper than a new timer for every piece of data. */
  #setTimer(): void {
    if (this.#lost !== undefined || this.#pausedAt !== undefined) return;
    const deadline = this.#client.deadline + this.#clockDelay;
    if (this.#timerAt <= deadline) return;
    clearTimeout(this.#timer);
    this.#timerAt = deadline;
    this.#timer = atTime(deadline, () => {
      this.#timerAt = Number.POSITIVE_INFINITY;
      if (this.#lost === undefined) this.#apply(this.#client.expire(this.#now));
    });
  }
}

/** Describes what answered, if it was not an edge. */
function foreign(
  edge: URL,
  { answer, answerOctets }: OpenedLine,
  isEstablished: boolean,
  retryAfter: number | undefined,
): DeviceError | undefined {
  const octets = joinOctets(answer, answerOctets);
  const read = new ResponseHeadReader().feed(octets);
  if (read.type !== "head") {
    const isCutOff = read.type === "more" && String.fromCharCode(...octets.subarray(0, 5)) === "HTTP/";
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

function textOf(error: Error & { readonly code?: string }): string {
  return error.message || (error.code ?? error.name);
}

/** Converts the failure of a transport to an error. */
function failure(name: TransportName, lost: Lost, { token, relay, edge }: ClientWay): DeviceError {
  const { code, reason, detail, cure, status, retryAfter } = lost;
  // An edge answers, also when the device names a relay behind it.
  const own = edge?.hostname === relay ? relay : undefined;
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
