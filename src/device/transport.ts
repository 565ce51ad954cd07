/**
 * Transports: ways for a stream of octets between a device and a relay, all with one face. A transport is one virtual
 * connection (or one TCP connection); when it is lost a new one is made.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import { connect as connectTcp, type LookupFunction, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import {
  type ClientOptions,
  type ClientOutput,
  type EncapsulationClient,
  EncapsulationError,
  guidFrom,
  KeepAliveClient,
  LongLivedClient,
  type Lost,
  PollingClient,
  parseRelay,
  prefixOf,
  SECURE_TUNNEL_PORT,
  type Session,
  SSTP_PORT,
} from "../encapsulation/index.ts";
import { CLOSE_TIMEOUT, READ_AHEAD, WRITE_AHEAD } from "./defaults.ts";
import { DeviceError, tokenRefusal } from "./error.ts";
import { nearOnly } from "./plain-token.ts";
import { rawClient } from "./raw-client.ts";
import { authorization } from "./token.ts";
import { openWebSocket } from "./websocket.ts";

/** Names of the transports, best first. */
export const TRANSPORTS = ["tcp", "websocket", "longlived", "keepalive", "polling"] as const;
export type TransportName = (typeof TRANSPORTS)[number];

export interface TransportOptions {
  readonly transport: TransportName;
  /** Origin relay, `host` or `host:port`: dialled by `tcp`, named to the edge by the others. */
  readonly relay: string;
  /** URL of the edge, `http:` or `https:`. Not used by `tcp`. */
  readonly edge?: string | undefined;
  /** LongLived: octets that each of its two sessions may carry. Default 64 MiB. */
  readonly contentLength?: number | undefined;
  /** PEM text of the certificate authorities to trust instead of the system's, for an edge with its own. */
  readonly ca?: string | undefined;
  /** Sent to the edge with every request; by `tcp` to the relay, in Connect. */
  readonly token?: string | undefined;
  /** Whether this side keeps something that it has not acknowledged: then it shows more often that it is there. */
  readonly isBusy?: (() => boolean) | undefined;
  /** By `tcp` a token may go to any address. Default false: only to loopback and private ones. */
  readonly allowPlain?: boolean | undefined;
}

export interface Transport {
  readonly name: TransportName;
  /** Resolves when the transport is established; rejects when it cannot be. */
  readonly established: Promise<void>;
  /** The next octets, as they came; undefined when the transport has ended. One call at a time. */
  read(): Promise<Uint8Array | undefined>;
  /** Sends octets, in order; they must not be changed afterwards. Resolves when more may be sent. */
  write(octets: readonly Uint8Array[]): Promise<void>;
  /** Octets that it can still carry, in the direction that has least left. Infinity when there is no such limit. */
  readonly remaining: number;
  /** Why it has ended; undefined while it has not. */
  readonly lost: Lost | undefined;
  /** Why it was not even tried. */
  readonly failure?: DeviceError | undefined;
  /** Ends it at once. */
  close(): void;
}

/**
 * Opens a transport.
 *
 * @throws DeviceError InvalidOption
 */
export function openTransport(options: TransportOptions): Transport {
  const route = routeOf(options);
  if (options.transport === "websocket") return openWebSocket(options);
  try {
    const { transport, token, allowPlain, ca } = options;
    const guarded = transport === "tcp" && token !== undefined && allowPlain !== true;
    const lookup = guarded ? nearOnly(route.host) : undefined;
    return new SocketTransport(transport, clientOf(options, route), () => dial(route, ca, lookup));
  } catch (error) {
    // Such as a contentLength above the most that there is.
    if (error instanceof EncapsulationError) throw new DeviceError("InvalidOption", error.message);
    throw error;
  }
}

/** Where the sockets go. */
interface Route {
  readonly host: string;
  readonly port: number;
  readonly secure: boolean;
  /** The path under which the edge stands. */
  readonly prefix: string;
}

function routeOf({ transport, relay, edge }: TransportOptions): Route {
  const parsed = parseRelay(relay);
  if (parsed === undefined) {
    throw new DeviceError("InvalidOption", `relay ${JSON.stringify(relay)} must be host, host:port or [IPv6]:port`);
  }
  if (transport === "tcp")
    return { host: unbracketed(parsed.host), port: parsed.port ?? SSTP_PORT, secure: false, prefix: "" };
  if (edge === undefined) {
    throw new DeviceError("InvalidOption", `transport ${transport} goes through an edge: give its URL, or use tcp`);
  }
  if (!URL.canParse(edge) || !/^https?:$/.test(new URL(edge).protocol)) {
    throw new DeviceError(
      "InvalidOption",
      `edge ${JSON.stringify(edge)} must be a URL such as https://edge.example.com`,
    );
  }
  const url = new URL(edge);
  const secure = url.protocol === "https:";
  const port = url.port === "" ? (secure ? SECURE_TUNNEL_PORT : 80) : Number(url.port);
  return { host: unbracketed(url.hostname), port, secure, prefix: prefixOf(url) };
}

function clientOf(options: TransportOptions, { host, port, secure, prefix }: Route): EncapsulationClient {
  const { transport, relay, contentLength } = options;
  if (transport === "tcp" || transport === "websocket") return rawClient();
  const common: ClientOptions = {
    serverHost: host.includes(":") ? `[${host}]` : host,
    serverPort: port,
    secure,
    prefix,
    relay,
    guid: guidFrom(randomBytes(24)),
    headers: Object.entries(authorization(options.token)),
  };
  switch (transport) {
    case "longlived":
      return new LongLivedClient({ ...common, ...(contentLength !== undefined && { contentLength }) });
    case "keepalive":
      return new KeepAliveClient(common);
    case "polling":
      return new PollingClient(common);
  }
}

function dial({ host, port, secure }: Route, ca: string | undefined, lookup: LookupFunction | undefined): Socket {
  const socket = secure
    ? connectTls({
        host,
        port,
        ...(/^[\d.]+$|:/.test(host) ? {} : { servername: host }),
        ...(ca !== undefined && { ca }),
      })
    : connectTcp({ host, port, ...(lookup && { lookup }) });
  socket.setNoDelay(true);
  return socket;
}

/** Ends a socket when what was written to it has gone; one whose peer does not read must not stay for ever. */
function endSoon(socket: Socket): void {
  socket.destroySoon();
  if (socket.destroyed) return;
  const timer = setTimeout(() => socket.destroy(), CLOSE_TIMEOUT);
  timer.unref();
  socket.once("close", () => clearTimeout(timer));
}

function unbracketed(host: string): string {
  return host.startsWith("[") ? host.slice(1, -1) : host;
}

/** Drives one encapsulation's client over Node sockets. */
class SocketTransport implements Transport {
  readonly name: TransportName;
  readonly established: Promise<void>;
  readonly #client: EncapsulationClient;
  readonly #dial: () => Socket;
  readonly #sockets = new Map<Session, Socket>();
  #settle: { resolve: () => void; reject: (error: DeviceError) => void };
  readonly #inbox: Uint8Array[] = [];
  #inboxOctets = 0;
  #reader: ((octets: Uint8Array | undefined) => void) | undefined;
  #writers: (() => void)[] = [];
  #lost: Lost | undefined;
  #socketError: Error | undefined;
  #timer: NodeJS.Timeout | undefined;
  #timerAt = Number.POSITIVE_INFINITY;

  constructor(name: TransportName, client: EncapsulationClient, dial: () => Socket) {
    this.name = name;
    this.#client = client;
    this.#dial = dial;
    let settle = { resolve: () => {}, reject: (_: DeviceError) => {} };
    this.established = new Promise((resolve, reject) => {
      settle = { resolve, reject };
    });
    this.established.catch(() => undefined);
    this.#settle = settle;
    this.#apply(client.start(performance.now()));
  }

  get lost(): Lost | undefined {
    return this.#lost;
  }

  get failure(): DeviceError | undefined {
    return this.#socketError instanceof DeviceError ? this.#socketError : undefined;
  }

  get remaining(): number {
    const client = this.#client;
    if (!(client instanceof LongLivedClient)) return Number.POSITIVE_INFINITY;
    return Math.min(client.remainingUp, client.remainingDown);
  }

  read(): Promise<Uint8Array | undefined> {
    const octets = this.#inbox.shift();
    if (octets !== undefined) {
      this.#inboxOctets -= octets.length;
      if (this.#inboxOctets < READ_AHEAD) for (const socket of this.#sockets.values()) socket.resume();
      return Promise.resolve(octets);
    }
    if (this.#lost !== undefined) return Promise.resolve(undefined);
    return new Promise((resolve) => {
      this.#reader = resolve;
    });
  }

  async write(octets: readonly Uint8Array[]): Promise<void> {
    this.#apply(this.#client.send(octets, performance.now()));
    if (this.#queued() <= WRITE_AHEAD || this.#lost !== undefined) return;
    await new Promise<void>((resolve) => this.#writers.push(resolve));
  }

  close(): void {
    this.#apply(this.#client.close());
    this.#end({ type: "lost", reason: "ConnectionClosed", detail: "This side has closed the connection." });
  }

  #queued(): number {
    let octets = this.#client.pending;
    for (const socket of this.#sockets.values()) octets += socket.writableLength;
    return octets;
  }

  #apply(outputs: readonly ClientOutput[]): void {
    for (const output of outputs) {
      switch (output.type) {
        case "open":
          this.#open(output.session);
          break;
        case "write": {
          const socket = this.#sockets.get(output.session);
          socket?.cork();
          for (const octets of output.octets) socket?.write(octets);
          socket?.uncork();
          break;
        }
        case "close": {
          const socket = this.#sockets.get(output.session);
          this.#sockets.delete(output.session);
          if (socket !== undefined) endSoon(socket);
          break;
        }
        case "established":
          this.#settle.resolve();
          break;
        case "data":
          this.#deliver(output.data);
          break;
        case "lost":
          this.#end(output);
          break;
        case "probed":
        case "keepAlive":
          // The engine above sends first in any case, and has a keep-alive of its own.
          break;
      }
    }
    if (this.#writers.length > 0 && this.#queued() <= WRITE_AHEAD) this.#releaseWriters();
    this.#setTimer();
  }

  #open(session: Session): void {
    const socket = this.#dial();
    this.#sockets.set(session, socket);
    const current = () => this.#sockets.get(session) === socket;
    socket.on("data", (octets: Buffer) => {
      if (current()) this.#apply(this.#client.feed(session, octets, performance.now()));
    });
    socket.on("drain", () => this.#apply([]));
    socket.on("error", (error) => {
      if (current()) this.#socketError = error;
    });
    const ended = () => {
      if (!current()) return;
      this.#sockets.delete(session);
      this.#apply(this.#client.ended(session, performance.now()));
    };
    socket.on("end", ended);
    socket.on("close", ended);
    // Polling has a new connection for each exchange: a reader that is behind must stop these, too.
    if (this.#inboxOctets >= READ_AHEAD) socket.pause();
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
    if (this.#inboxOctets >= READ_AHEAD) for (const socket of this.#sockets.values()) socket.pause();
  }

  #end(lost: Lost): void {
    if (this.#lost !== undefined) return;
    const cause = this.#socketError;
    this.#lost = cause === undefined ? lost : { ...lost, detail: `${lost.detail} (${cause.message})` };
    clearTimeout(this.#timer);
    for (const socket of this.#sockets.values()) endSoon(socket);
    this.#sockets.clear();
    this.#settle.reject(failure(this.name, this.#lost, cause));
    this.#reader?.(undefined);
    this.#reader = undefined;
    this.#releaseWriters();
  }

  #releaseWriters(): void {
    const writers = this.#writers;
    this.#writers = [];
    for (const resolve of writers) resolve();
  }

  /** A timer that fires too early only looks and is set again: cheaper than a new one for every piece of data. */
  #setTimer(): void {
    const { deadline } = this.#client;
    if (this.#timerAt <= deadline || this.#lost !== undefined) return;
    clearTimeout(this.#timer);
    this.#timerAt = deadline;
    this.#timer = setTimeout(
      () => {
        this.#timerAt = Number.POSITIVE_INFINITY;
        this.#apply(this.#client.expire(performance.now()));
      },
      Math.max(0, deadline - performance.now()),
    );
  }
}

/** Why a transport could not be established, as an error. */
function failure(name: TransportName, lost: Lost, cause: Error | undefined): DeviceError {
  if (cause instanceof DeviceError) return cause;
  if (cause !== undefined) {
    return new DeviceError("ConnectFailed", `no connection by ${name}: ${cause.message}`, { retryable: true, cause });
  }
  const refused = tokenRefusal(lost.code);
  if (refused !== undefined) return refused;
  const reason = lost.code ?? lost.reason;
  return lost.code === undefined
    ? new DeviceError("ConnectFailed", `no connection by ${name}: ${lost.detail} [${reason}]`, {
        retryable: true,
        retryAfter: lost.retryAfter,
      })
    : new DeviceError("Refused", `the edge refused ${name}: ${lost.detail} [${reason}]`, {
        retryable: lost.status !== 403,
        retryAfter: lost.retryAfter,
      });
}
