/**
 * The WebSocket transport, a fourth encapsulation of this project. Binary messages carry the same bytes as the others.
 * Text messages are control: the edge's platform answers "ping" itself, without waking an object. Between "hold" and
 * "go on" the device sends nothing. The device answers "mark X" with "took X" once it has read everything before it,
 * which tells the edge how much it may send; "marks" at the start promises that it will.
 *
 * @module
 */
import { formatTarget, guidFrom, type Lost, prefixOf } from "../../encapsulation/index.ts";
import { Condition } from "../../lib/condition.ts";
import { joinOctets, release } from "../../lib/octets.ts";
import { Queue } from "../../lib/queue.ts";
import { afterInput } from "../../lib/runtime/timeout.ts";
import { DeviceError } from "../device-error.ts";
import {
  ANSWERS_AHEAD,
  READ_AHEAD,
  WEBSOCKET_BUSY_PING,
  WEBSOCKET_MARK,
  WEBSOCKET_MESSAGE,
  WEBSOCKET_PING,
  WRITE_AHEAD,
} from "../limits.ts";
import { keptAlive } from "./idle-cuts.ts";
import { LifeSigns } from "./life-signs.ts";
import { CAPABILITIES, type Capabilities, type Transport, type TransportOptions } from "./transport.ts";

/** A WebSocket as a transport uses it. */
export interface MessageSocket {
  /** Bytes that were sent and have not left yet. */
  readonly bufferedAmount: number;
  send(data: Uint8Array | string): void;
  /** Stops reading until `resume`, where the platform can. */
  pause(): void;
  resume(): void;
  /** Closes as the protocol has it, once everything is sent. */
  close(): void;
  /** Ends the connection at once. */
  terminate(): void;
}

export interface MessageSocketEvents {
  onOpen(): void;
  onMessage(data: Uint8Array | string): void;
  /** Less than before waits to be sent. */
  onSent(): void;
  /**
   * Called once, at the end.
   *
   * @param why a more specific error than code and reason, if known
   */
  onClose(code: number, reason: string, why: DeviceError | undefined): void;
}

/** Opens a WebSocket to a URL of `ws:` or `wss:`. Reports nothing before it has returned. */
export type OpenMessageSocket = (url: URL, events: MessageSocketEvents) => MessageSocket;

/** How to connect to the edge. */
export interface WebSocketWay {
  readonly edge: URL;
  readonly open: OpenMessageSocket;
  readonly capabilities?: Capabilities | undefined;
}

/** Opens a virtual connection over WebSocket. */
export function openWebSocket(options: TransportOptions, way: WebSocketWay): Transport {
  return new WebSocketTransport(options, way);
}

class WebSocketTransport implements Transport {
  readonly name = "websocket";
  readonly capabilities: Capabilities;
  readonly established: Promise<void>;
  readonly answered: Promise<void>;
  readonly ended: Promise<void>;
  readonly remaining = Number.POSITIVE_INFINITY;
  readonly #over = Promise.withResolvers<void>();
  readonly #socket: MessageSocket;
  /** Received and unread: bytes, with marks between them as text, which count as WEBSOCKET_MARK bytes each. */
  readonly #inbox = new Queue<Uint8Array | string>();
  #inboxOctets = 0;
  #reader: ((octets: Uint8Array | undefined) => void) | undefined;
  /** What was read last: its memory is freed with the next read. */
  #given: Uint8Array | undefined;
  /** Notified when more may be written, or the transport has ended. */
  readonly #writable = new Condition();
  #isOpen = false;
  #lost: Lost | undefined;
  #failure: DeviceError | undefined;
  #heardAt = performance.now();
  readonly #signs = new LifeSigns();
  /** Nothing is read until what has arrived is taken, and what was answered has left. */
  #isPaused = false;
  /** It was ended because the edge has not answered. */
  #isSilent = false;
  /** The edge has said "hold". */
  #held = false;
  #looking: ReturnType<typeof setInterval> | undefined;
  /** Pings between those, where idle connections are cut. Their answers are awaited by nobody. */
  #beating: ReturnType<typeof setInterval> | undefined;

  constructor(
    { relay, idleLimit, isBusy = () => false }: TransportOptions,
    { edge, open, capabilities }: WebSocketWay,
  ) {
    this.capabilities = capabilities ?? CAPABILITIES.websocket;
    const guid = guidFrom(crypto.getRandomValues(new Uint8Array(24)));
    const url = new URL(`${prefixOf(edge)}${formatTarget({ encapsulation: "WebSocket", relay, guid })}`, edge.href);
    url.protocol = url.protocol.replace("http", "ws");
    const settled = Promise.withResolvers<void>();
    this.established = settled.promise;
    this.answered = settled.promise;
    this.ended = this.#over.promise;
    this.established.catch(() => undefined);
    this.#socket = open(url, {
      onOpen: () => {
        this.#isOpen = true;
        this.#socket.send("marks");
        settled.resolve();
        this.#looking = setInterval(() => this.#look(isBusy()), WEBSOCKET_BUSY_PING);
        if (idleLimit !== undefined) {
          const interval = keptAlive(WEBSOCKET_PING, idleLimit);
          this.#beating = setInterval(() => this.#socket.send("ping"), interval);
        }
      },
      onMessage: (data) => {
        if (this.#lost !== undefined) return;
        this.#signs.heard(data !== "pong");
        this.#heardAt = performance.now();
        if (typeof data === "string") this.#obey(data);
        else this.#deliver(data);
      },
      onSent: () => this.#written(),
      onClose: (code, reason, why) => {
        this.#failure ??= why;
        const detail = this.#failure?.message ?? `The WebSocket was closed with ${`${code} ${reason}`.trim()}.`;
        // Reject before ending the transport, so that a caller waiting for both learns why it was never established.
        settled.reject(this.#failure ?? new DeviceError("ConnectFailed", `no connection by websocket: ${detail}`));
        this.#end({
          type: "lost",
          reason: this.#isSilent ? "ReceiveTimeout" : "SessionEnded",
          detail,
          ...(reason !== "" && { code: reason }),
          ...(this.#failure?.retryAfter !== undefined && { retryAfter: this.#failure.retryAfter }),
        });
      },
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
    if (this.#given !== undefined) release(this.#given);
    this.#given = undefined;
    const octets = this.#inbox.shift();
    if (octets instanceof Uint8Array) {
      this.#inboxOctets -= octets.length;
      this.#answerMarks();
      this.#given = octets;
      return Promise.resolve(octets);
    }
    if (this.#lost !== undefined) return Promise.resolve(undefined);
    return new Promise((resolve) => {
      this.#reader = resolve;
    });
  }

  async write(octets: readonly Uint8Array[]): Promise<void> {
    if (!this.#isOpen) await this.established.catch(() => undefined);
    if (this.#lost !== undefined) return;
    for (const piece of joined(octets)) {
      this.#signs.sent(piece.length);
      this.#socket.send(piece);
    }
    if (!this.#held && this.#socket.bufferedAmount <= WRITE_AHEAD) return;
    await this.#writable.wait();
  }

  close(): void {
    this.#socket.close();
    this.#end({ type: "lost", reason: "ConnectionClosed", detail: "This side has closed the connection." });
  }

  /** Runs every WEBSOCKET_BUSY_PING (5 s). */
  #look(isBusy: boolean): void {
    const due = this.#signs.look(this.#inboxOctets >= READ_AHEAD);
    if (due === "ask" || isBusy) this.#socket.send("ping");
    // A process that was starved has not read the answer yet.
    if (due === "gone") afterInput(() => this.#judge());
  }

  #judge(): void {
    if (this.#signs.hasHeard || this.#lost !== undefined) return;
    const text = "the connection was lost: the edge has not answered, although it was asked for a sign of life";
    this.#failure = new DeviceError("ConnectFailed", text);
    this.#isSilent = true;
    this.#socket.terminate();
  }

  #obey(word: string): void {
    // An edge makes no longer mark.
    if (word.startsWith("mark ") && word.length <= WEBSOCKET_MARK) {
      this.#inbox.push(word);
      this.#inboxOctets += WEBSOCKET_MARK;
      this.#answerMarks();
    }
    if (word === "hold") this.#held = true;
    if (word !== "go on") return;
    this.#held = false;
    this.#written();
  }

  /** Answers each mark before which everything was read. */
  #answerMarks(): void {
    for (let mark = this.#inbox.first; typeof mark === "string"; mark = this.#inbox.first) {
      this.#inbox.shift();
      this.#inboxOctets -= WEBSOCKET_MARK;
      this.#socket.send(mark.replace("mark", "took"));
    }
    this.#regulate();
  }

  /** Stops reading while too much is unread, or the edge leaves too many answers unread. */
  #regulate(): void {
    const isFull = this.#inboxOctets >= READ_AHEAD || this.#socket.bufferedAmount > ANSWERS_AHEAD;
    if (isFull === this.#isPaused) return;
    this.#isPaused = isFull;
    if (isFull) this.#socket.pause();
    else this.#socket.resume();
  }

  #written(): void {
    this.#regulate();
    if (this.#held || this.#socket.bufferedAmount > WRITE_AHEAD) return;
    this.#writable.notifyAll();
  }

  #deliver(octets: Uint8Array): void {
    if (this.#reader !== undefined) {
      const reader = this.#reader;
      this.#reader = undefined;
      this.#given = octets;
      reader(octets);
      return;
    }
    this.#inbox.push(octets);
    this.#inboxOctets += octets.length;
    this.#regulate();
  }

  #end(lost: Lost): void {
    if (this.#lost !== undefined) return;
    this.#lost = lost;
    clearInterval(this.#looking);
    clearInterval(this.#beating);
    this.#reader?.(undefined);
    this.#reader = undefined;
    this.#writable.notifyAll();
    this.#over.resolve();
  }
}

/** Joins small pieces into one message: the edge stores each message with one write. */
function joined(pieces: readonly Uint8Array[]): readonly Uint8Array[] {
  const groups: { pieces: Uint8Array[]; length: number }[] = [];
  for (const piece of pieces) {
    const group = groups.at(-1);
    if (group === undefined || group.length + piece.length > WEBSOCKET_MESSAGE) {
      groups.push({ pieces: [piece], length: piece.length });
    } else {
      group.pieces.push(piece);
      group.length += piece.length;
    }
  }
  return groups.map(({ pieces, length }) =>
    pieces.length === 1 && pieces[0] !== undefined ? pieces[0] : joinOctets(pieces, length),
  );
}
