/**
 * Shared by the clients of the three encapsulations: their options, their output to the transport, and one session with
 * its requests and responses.
 *
 * The transport carries out the outputs in order. "open": make a TCP connection for the session, to the proxy if there
 * is one. "write": send the bytes, or keep them until the connection is open. "close": close the connection and feed
 * nothing more from it. The transport calls `ended` when a connection ends by itself or cannot be made, and `expire` at
 * `deadline`.
 */

import { visible, withoutCredentials } from "../lib/printable.ts";
import type { ResponseEvent } from "./http-body.ts";
import { ResponseReader } from "./http-body.ts";
import type { Header, ResponseHead } from "./http-head.ts";
import { formatRequest, headerOf, keepsConnection } from "./http-head.ts";
import type { Encapsulation, Reason, Timers } from "./registry.ts";
import {
  AUTHENTICATION_ROUNDS,
  CURE_HEADER,
  DETAIL_HEADER,
  EncapsulationError,
  HTTP_PORT,
  REASON_HEADER,
  REASONS,
  RELAY_HEADER,
  SECURE_TUNNEL_PORT,
  TIMERS,
} from "./registry.ts";
import { parseRelay } from "./target.ts";
import type { Session } from "./virtual-connection-server.ts";

/**
 * A session of a client: one request at a time. Polling between Grooveway's own ends has a second one, so that data need
 * not wait for an exchange that is held.
 */
export type ClientSessionName = Session | "secondPost";

/** A 401 or 407 that needs an answer [MS-GRVHENC 3.3.5.2.3]. */
export type Challenge = {
  readonly session: ClientSessionName;
  readonly status: 401 | 407;
  /** The values of WWW-Authenticate or Proxy-Authenticate, in order. */
  readonly challenges: readonly string[];
  /** 1 for the first challenge of this request; NTLM and Negotiate take several. */
  readonly round: number;
  /** Whether the repeated request goes over the same connection. */
  readonly isKept: boolean;
  readonly method: "GET" | "POST";
  readonly target: string;
};

/** The answer to a challenge. */
export type Authorization = {
  readonly headers: readonly Header[];
  /**
   * Whether the answer is the first of two on one connection, as in NTLM. The request then goes without its body, since
   * another challenge follows, and asks to keep the connection.
   */
  readonly isUnfinished?: boolean;
};

/** Options common to all clients. */
export type ClientOptions = {
  /** Host of the HTTP server: a name, an IPv4 address, or an IPv6 address in brackets. */
  readonly serverHost: string;
  /** Default 80, or 443 when `secure`. */
  readonly serverPort?: number;
  /** Whether the session runs inside TLS to the server. Only sets the default port. */
  readonly secure?: boolean;
  /** Path of the server, such as `/groove`; see `prefixOf`. Default: the root. */
  readonly prefix?: string;
  /** Relay-Server-Name in targets and messages. Default: `serverHost`. */
  readonly relay?: string;
  /** Virtual-Connection-GUID. Use a new one for each client; see `guidFrom`. */
  readonly guid: string;
  /** Whether requests go to an HTTP proxy, which takes absolute targets [MS-GRVHENC 2.2.2.1.1]. Default false. */
  readonly proxy?: boolean;
  readonly userAgent?: string;
  /** Extra headers of every request, such as a token. */
  readonly headers?: readonly Header[];
  readonly timers?: Partial<Timers>;
  /**
   * KeepAlive and Polling: octets of a body to offer to the server, up to 4 MiB, of which Polling offers 1 MiB. Default:
   * no offer, and bodies of 32768 octets.
   */
  readonly bodyLimit?: number | undefined;
  /** KeepAlive: seconds for which a Grooveway server may hold a GET, 1 to 99. Default: what the way lets through. */
  readonly hold?: number | undefined;
  /**
   * Polling: returns since when a program waits for data, as a time like those given to the client; undefined if none
   * does. Default: none does.
   */
  readonly awaitedSince?: (() => number | undefined) | undefined;
  /** Returns the `ID=` of each request. Default: KeepAlive counts its requests, LongLived sends none. */
  readonly requestId?: () => string;
  /** Returns how to repeat a request after 401 or 407, or undefined to give up. */
  readonly authorize?: (challenge: Challenge) => Authorization | undefined;
};

/** The virtual connection is lost and its sessions are closed. A new one needs a new client and GUID. */
export type Lost = {
  readonly type: "lost";
  readonly reason: Reason;
  readonly detail: string;
  /** Status of the response that ended it. */
  readonly status?: number;
  /** The server's own reason, from its `Grooveway-Reason` header. */
  readonly code?: string;
  /** The server's advice. */
  readonly cure?: string;
  /** Seconds until the server may be asked again, from its `Retry-After` header [RFC 9110 10.2.3]. */
  readonly retryAfter?: number;
  /** The challenges, with AuthenticationRequired. */
  readonly challenges?: readonly string[];
};

/** A client's output to its transport. */
export type ClientOutput =
  | { readonly type: "open"; readonly session: ClientSessionName }
  | { readonly type: "write"; readonly session: ClientSessionName; readonly octets: readonly Uint8Array[] }
  | { readonly type: "close"; readonly session: ClientSessionName }
  /** Polling only: the first exchange succeeded; the second, which establishes, needs data to send. */
  | { readonly type: "probed" }
  | { readonly type: "established" }
  /** Application data, as a view of the bytes fed. */
  | { readonly type: "data"; readonly data: Uint8Array }
  /** The KeepAlive timer ran out: SSTP SHOULD send a Noop [MS-GRVHENC 3.1.6.3]. */
  | { readonly type: "keepAlive" }
  /** The way does not take bodies as large as were offered: offer this many octets next time. */
  | { readonly type: "bodyRefused"; readonly bodyLimit: number }
  /** KeepAlive: the way does not let a GET be held as long as was asked: ask for this many seconds at most next time. */
  | { readonly type: "holdCut"; readonly hold: number }
  | Lost;

/** The interface of all three clients. Times are milliseconds of one monotonic clock. */
export type EncapsulationClient = {
  /** Bytes given to `send` and not yet written. */
  readonly pending: number;
  /** Bytes that the next request can carry; undefined if data is written as it comes. */
  readonly bodySize?: number;
  /** Bytes that the virtual connection can still carry, in the direction with less left. Infinity if unlimited. */
  readonly remaining: number;
  /** When to call `expire`; `Infinity` for never. */
  readonly deadline: number;
  /** Starts the handshake. Call once. */
  start(now: number): ClientOutput[];
  /** Handles bytes received on a session. */
  feed(session: ClientSessionName, octets: Uint8Array, now: number): ClientOutput[];
  /** Handles the end of a session's TCP connection, or the failure to make it. */
  ended(session: ClientSessionName, now: number): ClientOutput[];
  /**
   * Queues data for the server. The arrays are kept, not copied, until they are written; pieces of one call stay
   * together where they fit. May be called before "established".
   */
  send(octets: Uint8Array | readonly Uint8Array[], now: number): ClientOutput[];
  expire(now: number): ClientOutput[];
  /** Closes both sessions. No output follows. */
  close(): ClientOutput[];
};

/** Normalizes the argument of `send` to an array of pieces. */
export function piecesOf(octets: Uint8Array | readonly Uint8Array[]): readonly Uint8Array[] {
  return octets instanceof Uint8Array ? [octets] : octets;
}

/** `host`, or `host:port` unless the port is the scheme's default. */
export function authorityOf(options: ClientOptions): string {
  const port = options.secure ? SECURE_TUNNEL_PORT : HTTP_PORT;
  const authority =
    (options.serverPort ?? port) === port ? options.serverHost : `${options.serverHost}:${options.serverPort}`;
  if (parseRelay(authority) === undefined) {
    throw new EncapsulationError(`serverHost ${JSON.stringify(authority)} must be a host name, IPv4 or [IPv6] address`);
  }
  return authority;
}

/** Relay-Server-Name: the option, or the server's host. */
export function relayOf(options: ClientOptions): string {
  return (options.relay ?? authorityOf(options)).toLowerCase();
}

/** Scheme and authority for absolute targets, and the path of the server. */
export function baseOf(options: ClientOptions): { readonly origin?: string; readonly prefix: string } {
  const { proxy, secure, prefix = "" } = options;
  if (prefix !== "" && !/^\/[!-~]*[!-.0-~]$/.test(prefix)) {
    throw new EncapsulationError(`prefix ${JSON.stringify(prefix)} must be a path such as /groove`);
  }
  return { prefix, ...(proxy ? { origin: `${secure ? "https" : "http"}://${authorityOf(options)}` } : {}) };
}

/** The path of an edge's URL, without trailing slashes; empty for the root. */
export function prefixOf({ pathname }: { readonly pathname: string }): string {
  return pathname.replace(/\/+$/, "");
}

export function timersOf(options: ClientOptions): Timers {
  return { ...TIMERS, ...options.timers };
}

export function lost(reason: Reason, detail: string = REASONS[reason].cause): Lost {
  return { type: "lost", reason, detail };
}

/** Advice if the server gives its own name. */
function nameHint(name: string | undefined): string | undefined {
  if (name === undefined || parseRelay(name) === undefined) return undefined;
  return `To use this edge itself, name it ${name}: --relay ${name}, or the option relay.`;
}

/**
 * Describes a refusal for a person, with the detail and cure if an edge sent them.
 *
 * @param status status and phrase of the response
 */
export function refusalText(
  header: (name: string) => string | undefined,
  status: string,
): { readonly detail: string; readonly cure?: string } {
  // Untrusted text that may be printed to a terminal.
  const detail = header(DETAIL_HEADER);
  const cure = header(CURE_HEADER);
  if (detail !== undefined) return { detail: told(detail), ...(cure !== undefined && { cure: told(cure) }) };
  const hint = nameHint(header(RELAY_HEADER));
  return { detail: `The response is ${told(status)}.${hint === undefined ? "" : ` ${hint}`}` };
}

function told(text: string): string {
  return visible(withoutCredentials(text));
}

/** Losses that a body too large for the way may cause. Some proxies end the connection in the middle of one. */
const BY_BODY: ReadonlySet<Reason> = new Set(["SessionEnded", "ReceiveTimeout", "ExchangeFailed"]);

/** Whether a body that was too large for the way may have caused a loss. */
export function isByBody({ reason, status, code }: Lost): boolean {
  if (code === "ReceiveTimeout" || code === "BodyTooLong") return true;
  return BY_BODY.has(reason) || (status !== undefined && reason === "UnexpectedStatus" && code === undefined);
}

/** Interprets a response other than 200. The phrase is ignored, since proxies write their own. */
export function lostByStatus(head: ResponseHead): Lost {
  const code = headerOf(head.headers, REASON_HEADER);
  const retryAfter = retryAfterOf(headerOf(head.headers, "Retry-After"), headerOf(head.headers, "Date"));
  const unauthorized = head.status === 401 || head.status === 407;
  return {
    type: "lost",
    reason: unauthorized ? "AuthenticationRequired" : "UnexpectedStatus",
    ...refusalText((name) => headerOf(head.headers, name), `${head.status} ${head.phrase}`),
    status: head.status,
    ...(code === undefined ? {} : { code }),
    ...(retryAfter === undefined ? {} : { retryAfter }),
    ...(unauthorized ? { challenges: challengesOf(head) } : {}),
  };
}

const HTTP_DATE = /^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/;

/**
 * The seconds of a `Retry-After` header; undefined if unknown. A date is compared with the response's own `Date`, since
 * the local clock may be wrong.
 */
export function retryAfterOf(value: string | undefined, date?: string): number | undefined {
  if (value === undefined) return undefined;
  if (/^\d{1,9}$/.test(value)) return Number(value);
  if (date === undefined || !HTTP_DATE.test(value) || !HTTP_DATE.test(date)) return undefined;
  const seconds = (Date.parse(value) - Date.parse(date)) / 1000;
  return Number.isNaN(seconds) ? undefined : Math.max(0, seconds);
}

/** A request of a session, kept until its response is complete so that it can be repeated with credentials. */
export type SessionRequest = {
  readonly method: "GET" | "POST";
  readonly target: string;
  readonly contentLength: number;
  readonly body: readonly Uint8Array[];
  /** Whether to ask for a connection that is kept open. Default: in KeepAlive. */
  readonly keepAlive?: boolean;
  /** Whether the response may be chunked. Default: no. */
  readonly chunks?: boolean;
};

/** Result of feeding a session: parts of a 200, output for the transport, or the loss of the connection. */
export type SessionEvent =
  | { readonly type: "body"; readonly data: Uint8Array }
  | { readonly type: "end" }
  | { readonly type: "head"; readonly head: ResponseHead }
  | { readonly type: "repeated"; readonly outputs: readonly ClientOutput[] }
  | Lost;

/** One session: one request at a time, over one TCP connection or several in succession. */
export class ClientSession {
  readonly name: ClientSessionName;
  readonly #encapsulation: Exclude<Encapsulation, "WebSocket">;
  readonly #options: ClientOptions;
  readonly #reader = new ResponseReader();
  #open = false;
  #kept = true;
  /** Whether the request went over a connection that had carried another. */
  #isReused = false;
  /** Whether anything has come since the request. */
  #isHeard = false;
  #head: ResponseHead | undefined;
  #request: SessionRequest | undefined;
  #credentials: readonly Header[] = [];
  /** Whether the request was sent without its body. */
  #isBare = false;
  #rounds = 0;

  constructor(name: ClientSessionName, encapsulation: Exclude<Encapsulation, "WebSocket">, options: ClientOptions) {
    this.name = name;
    this.#encapsulation = encapsulation;
    this.#options = options;
  }

  get open(): boolean {
    return this.#open;
  }

  get outstanding(): boolean {
    return this.#reader.outstanding;
  }

  /** Sends a request, reusing the connection if both sides keep it open. */
  request(request: SessionRequest): ClientOutput[] {
    // What was said on another connection would be a wrong password here.
    if (!this.#open || !this.#kept) this.#forgetConnection();
    this.#request = request;
    this.#isBare = false;
    return this.#send(request);
  }

  #send(request: SessionRequest): ClientOutput[] {
    const outputs: ClientOutput[] = [];
    if (!this.#kept) outputs.push(...this.close());
    if (!this.#open) outputs.push({ type: "open", session: this.name });
    this.#isReused = this.#open;
    this.#isHeard = false;
    this.#open = true;
    this.#kept = true;
    this.#head = undefined;
    this.#reader.expect();
    const { userAgent, proxy, headers = [] } = this.#options;
    const head = formatRequest({
      method: request.method,
      encapsulation: this.#encapsulation,
      target: request.target,
      host: authorityOf(this.#options),
      contentLength: request.contentLength,
      ...(userAgent === undefined ? {} : { userAgent }),
      ...(proxy === undefined ? {} : { proxy }),
      ...(request.keepAlive === undefined ? {} : { keepAlive: request.keepAlive }),
      ...(request.chunks === undefined ? {} : { chunks: request.chunks }),
      headers: [...headers, ...this.#credentials],
    });
    outputs.push({ type: "write", session: this.name, octets: [head, ...request.body] });
    return outputs;
  }

  feed(octets: Uint8Array): SessionEvent[] {
    this.#isHeard = true;
    return this.#take(this.#reader.feed(octets));
  }

  /**
   * Handles the end of the connection. Returns "end" if that completes the response, nothing if it is cut off; then
   * `outstanding` stays true.
   */
  ended(): SessionEvent[] {
    this.#open = false;
    return this.#take(this.#reader.ended());
  }

  /**
   * Sends the outstanding request again, after its connection has ended: a server may close a connection that was kept
   * while the request is on its way [RFC 9112 9.3.1]. Undefined if there is another reason for the end, since an answer
   * has begun, or the connection was made for this request.
   *
   * @param target of the same request, which may ask for something else now
   */
  again(target: string): ClientOutput[] | undefined {
    const request = this.#request;
    if (this.#open || request === undefined || !this.outstanding || !this.#isReused || this.#isHeard) return undefined;
    return this.request({ ...request, target });
  }

  close(): ClientOutput[] {
    if (!this.#open) return [];
    this.#open = false;
    return [{ type: "close", session: this.name }];
  }

  #take(read: readonly ResponseEvent[]): SessionEvent[] {
    const events: SessionEvent[] = [];
    for (const event of read) {
      if (event.type === "fault") return [...events, lost(event.reason, event.detail)];
      if (event.type === "head") {
        this.#head = event.head;
        this.#kept = keepsConnection(event.head);
        if (!this.#challenged()) {
          this.#forgetConnection();
          events.push(event);
        }
      } else if (event.type === "data") {
        if (!this.#challenged()) events.push({ type: "body", data: event.data });
      } else if (this.#challenged()) {
        events.push(this.#repeat());
      } else {
        events.push(event);
      }
    }
    return events;
  }

  /** NTLM and Negotiate authenticate a connection, so what they say is for one connection and, once it counts, over. */
  #forgetConnection(): void {
    this.#rounds = 0;
    if (this.#credentials.some(([, value]) => /^(?:NTLM|Negotiate) /i.test(value))) this.#credentials = [];
  }

  #challenged(): boolean {
    return this.#options.authorize !== undefined && (this.#head?.status === 401 || this.#head?.status === 407);
  }

  #repeat(): SessionEvent {
    const head = this.#head as ResponseHead;
    const request = this.#request as SessionRequest;
    // The body of a LongLived POST is incomplete, so no other request can follow on that connection.
    if (this.#encapsulation === "LongLived" && this.name === "post" && !this.#isBare) this.#kept = false;
    this.#rounds += 1;
    const authorization =
      this.#rounds > AUTHENTICATION_ROUNDS
        ? undefined
        : this.#options.authorize?.({
            session: this.name,
            status: head.status === 401 ? 401 : 407,
            challenges: challengesOf(head),
            round: this.#rounds,
            isKept: this.#kept,
            method: request.method,
            target: request.target,
          });
    if (authorization === undefined) return lostByStatus(head);
    const { headers, isUnfinished = false } = authorization;
    this.#credentials = headers;
    this.#isBare = isUnfinished;
    const repeated = isUnfinished ? { ...request, contentLength: 0, body: [], keepAlive: true } : request;
    return { type: "repeated", outputs: this.#send(repeated) };
  }
}

function challengesOf(head: ResponseHead): string[] {
  const name = head.status === 401 ? "www-authenticate" : "proxy-authenticate";
  return head.headers.filter(([found]) => found === name).map(([, value]) => value);
}
