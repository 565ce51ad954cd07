/**
 * The WebSocket transport: our own fourth encapsulation. Binary messages carry the same octets; a text message "ping" is
 * answered by the edge's platform itself, without waking anything. Between "hold" and "go on" the edge wants nothing. Its
 * "mark X" is answered by "took X" when all before it was read, so that the edge knows what it may send; "marks" says that
 * it will be.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import { WebSocket } from "ws";
import {
  formatTarget,
  guidFrom,
  type Lost,
  nameHint,
  prefixOf,
  REASON_HEADER,
  RELAY_HEADER,
  retryAfterOf,
} from "../encapsulation/index.ts";
import { READ_AHEAD, WEBSOCKET_BUSY_PING, WEBSOCKET_MESSAGE, WEBSOCKET_PING, WRITE_AHEAD } from "./defaults.ts";
import { DeviceError, tokenRefusal } from "./error.ts";
import { authorization } from "./token.ts";
import type { Transport, TransportOptions } from "./transport.ts";

/** Opens a virtual connection by WebSocket. */
export function openWebSocket(options: TransportOptions): Transport {
  return new WebSocketTransport(options);
}

class WebSocketTransport implements Transport {
  readonly name = "websocket";
  readonly established: Promise<void>;
  readonly remaining = Number.POSITIVE_INFINITY;
  readonly #socket: WebSocket;
  /** What has come and is not read: octets, and marks between them as text. */
  readonly #inbox: (Uint8Array | string)[] = [];
  #inboxOctets = 0;
  #reader: ((octets: Uint8Array | undefined) => void) | undefined;
  #writers: (() => void)[] = [];
  #lost: Lost | undefined;
  #alive = true;
  /** The edge has said that it wants nothing more for now. */
  #held = false;
  #pinging: NodeJS.Timeout | undefined;
  /** Milliseconds since it was last asked whether the edge is there. */
  #quiet = 0;

  constructor({ edge = "", relay, ca, token, isBusy = () => false }: TransportOptions) {
    const target = formatTarget({ encapsulation: "WebSocket", relay, guid: guidFrom(randomBytes(24)) });
    const url = new URL(`${prefixOf(new URL(edge))}${target}`, edge);
    url.protocol = url.protocol.replace("http", "ws");
    const settled = Promise.withResolvers<void>();
    this.established = settled.promise;
    this.established.catch(() => undefined);
    const socket = new WebSocket(url, {
      perMessageDeflate: false,
      headers: authorization(token),
      ...(ca !== undefined && { ca }),
    });
    socket.binaryType = "nodebuffer";
    this.#socket = socket;
    let failure: DeviceError | undefined;
    socket.on("open", () => {
      socket.send("marks");
      settled.resolve();
      this.#pinging = setInterval(() => this.#tick(isBusy()), WEBSOCKET_BUSY_PING);
    });
    socket.on("message", (data: Buffer, isBinary: boolean) => {
      this.#alive = true;
      if (isBinary) this.#deliver(data);
      else this.#obey(data.toString("latin1"));
    });
    socket.on("unexpected-response", (_request, response) => {
      const reason = response.headers[REASON_HEADER.toLowerCase()];
      const code = typeof reason === "string" ? reason : "unknown";
      const name = response.headers[RELAY_HEADER.toLowerCase()];
      const hint = nameHint(typeof name === "string" ? name : undefined);
      failure =
        tokenRefusal(code) ??
        new DeviceError(
          "Refused",
          `the edge refused websocket: ${response.statusCode}${hint === undefined ? "" : `. ${hint}`} [${code}]`,
          {
            retryable: response.statusCode !== 403,
            retryAfter: retryAfterOf(response.headers["retry-after"], response.headers.date),
          },
        );
      socket.terminate();
    });
    socket.on("error", (error) => {
      failure ??= new DeviceError("ConnectFailed", `no connection by websocket: ${error.message}`, {
        retryable: true,
        cause: error,
      });
    });
    socket.on("close", (code, reason) => {
      const detail = failure?.message ?? `The WebSocket was closed with ${code} ${reason.toString()}.`.trim();
      // Before the end of the transport: who waits for both is to hear why there never was one.
      settled.reject(
        failure ?? new DeviceError("ConnectFailed", `no connection by websocket: ${detail}`, { retryable: true }),
      );
      this.#end({
        type: "lost",
        reason: "SessionEnded",
        detail,
        ...(reason.length > 0 && { code: reason.toString() }),
        ...(failure?.retryAfter !== undefined && { retryAfter: failure.retryAfter }),
      });
    });
  }

  get lost(): Lost | undefined {
    return this.#lost;
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
    await new Promise<void>((resolve) => this.#writers.push(resolve));
  }

  close(): void {
    this.#socket.close(1000);
    this.#end({ type: "lost", reason: "ConnectionClosed", detail: "This side has closed the connection." });
  }

  /** Each time that the device may have to show that it is there. */
  #tick(isBusy: boolean): void {
    this.#quiet += WEBSOCKET_BUSY_PING;
    if (this.#quiet >= WEBSOCKET_PING) {
      this.#quiet = 0;
      this.#ping();
    } else if (isBusy) this.#socket.send("ping");
  }

  #ping(): void {
    if (!this.#alive) {
      this.#socket.terminate();
      return;
    }
    this.#alive = false;
    this.#socket.send("ping");
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

  /** Of the marks that have come those before which everything was read. */
  #answerMarks(): void {
    for (let [mark] = this.#inbox; typeof mark === "string"; [mark] = this.#inbox) {
      this.#inbox.shift();
      this.#socket.send(mark.replace("mark", "took"));
    }
  }

  #written(): void {
    if (this.#held || this.#socket.bufferedAmount > WRITE_AHEAD) return;
    const writers = this.#writers;
    this.#writers = [];
    for (const resolve of writers) resolve();
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
    const writers = this.#writers;
    this.#writers = [];
    for (const resolve of writers) resolve();
  }
}

/** Small pieces become one message: the edge stores what comes together in one write. */
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
