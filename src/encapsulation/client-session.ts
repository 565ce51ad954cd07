/**
 * What the clients of the three encapsulations share: their options, what they tell the transport, and one session
 * with its requests and responses.
 *
 * The transport does what the outputs say, in order. "open": make a TCP connection for the session (to the proxy, if
 * there is one); "write": write the octets to it, or keep them until it is open; "close": end it and feed nothing of it
 * any more. When a connection ends by itself, or cannot be made, it calls `ended`. It calls `expire` at `deadline`.
 */

import { visible } from "../lib/printable.ts";
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

/** A 401 or 407 to be answered [MS-GRVHENC 3.3.5.2.3]. */
export type Challenge = {
  readonly session: Session;
  readonly status: 401 | 407;
  /** The values of WWW-Authenticate or Proxy-Authenticate, in order. */
  readonly challenges: readonly string[];
  /** 1 for the first challenge of this request; NTLM and Negotiate have several. */
  readonly round: number;
  readonly method: "GET" | "POST";
  readonly target: string;
};

/** Options of all clients. */
export type ClientOptions = {
  /** Host of the HTTP server: name, IPv4 address or IPv6 address in brackets. */
  readonly serverHost: string;
  /** Default 80, or 443 when `secure`. */
  readonly serverPort?: number;
  /** Whether the session runs inside TLS to the server; decides the default port only. */
  readonly secure?: boolean;
  /** The path under which the server stands, such as `/groove`; see `prefixOf`. By default the root. */
  readonly prefix?: string;
  /** Relay-Server-Name in targets and messages, by default `serverHost`. */
  readonly relay?: string;
  /** Virtual-Connection-GUID: new for each client, see `guidFrom`. */
  readonly guid: string;
  /** Whether requests go to an HTTP proxy; targets are absolute then [MS-GRVHENC 2.2.2.1.1]. Default false. */
  readonly proxy?: boolean;
  readonly userAgent?: string;
  /** Further headers of every request, such as a token. */
  readonly headers?: readonly Header[];
  readonly timers?: Partial<Timers>;
  /** Makes the `ID=` of each request; without it KeepAlive counts its requests, and LongLived has none. */
  readonly requestId?: () => string;
  /** Headers with which a refused request is repeated on 401/407, or undefined to give up. */
  readonly authorize?: (challenge: Challenge) => readonly Header[] | undefined;
};

/** The virtual connection is lost; its sessions are closed, and a new one needs a new client and GUID. */
export type Lost = {
  readonly type: "lost";
  readonly reason: Reason;
  readonly detail: string;
  /** Status of the response that ended it. */
  readonly status?: number;
  /** The server's own reason, from its `Grooveway-Reason` header. */
  readonly code?: string;
  /** What to do about it, in the server's words. */
  readonly cure?: string;
  /** Seconds after which the server would be asked again, from its `Retry-After` header [RFC 9110 10.2.3]. */
  readonly retryAfter?: number;
  /** With AuthenticationRequired: the challenges. */
  readonly challenges?: readonly string[];
};

/** What a client tells its transport. */
export type ClientOutput =
  | { readonly type: "open"; readonly session: Session }
  | { readonly type: "write"; readonly session: Session; readonly octets: readonly Uint8Array[] }
  | { readonly type: "close"; readonly session: Session }
  /** Polling only: the first exchange succeeded; the second, which establishes, needs data to send. */
  | { readonly type: "probed" }
  | { readonly type: "established" }
  /** Application data, as a view of octets fed. */
  | { readonly type: "data"; readonly data: Uint8Array }
  /** The KeepAlive timer ran out: SSTP SHOULD send a Noop [MS-GRVHENC 3.1.6.3]. */
  | { readonly type: "keepAlive" }
  | Lost;

/** The part all three clients have in common. Times are milliseconds of one clock that does not go back. */
export type EncapsulationClient = {
  /** Octets given to `send` and not yet written. */
  readonly pending: number;
  /** Time at which to call `expire`, `Infinity` for never. */
  readonly deadline: number;
  /** Begins the handshake; once. */
  start(now: number): ClientOutput[];
  /** Octets came on a session. */
  feed(session: Session, octets: Uint8Array, now: number): ClientOutput[];
  /** The TCP connection of a session ended or could not be made. */
  ended(session: Session, now: number): ClientOutput[];
  /**
   * Octets for the server; kept, not copied, until they are written. Pieces that are given together go together where they
   * fit. May be called before "established".
   */
  send(octets: Uint8Array | readonly Uint8Array[], now: number): ClientOutput[];
  expire(now: number): ClientOutput[];
  /** Closes both sessions; nothing comes after. */
  close(): ClientOutput[];
};

/** Octets waiting to be sent, in the pieces they came in. */
export class OctetQueue {
  #pieces: Uint8Array[] = [];
  #first = 0;
  #length = 0;

  get length(): number {
    return this.#length;
  }

  push(octets: Uint8Array | readonly Uint8Array[]): void {
    for (const piece of piecesOf(octets)) {
      if (piece.length === 0) continue;
      this.#pieces.push(piece);
      this.#length += piece.length;
    }
  }

  /** Removes up to `most` octets from the front; the pieces are views. */
  take(most: number): Uint8Array[] {
    const taken: Uint8Array[] = [];
    let left = Math.min(most, this.#length);
    this.#length -= left;
    while (left > 0) {
      const piece = this.#pieces[this.#first] as Uint8Array;
      if (piece.length > left) {
        taken.push(piece.subarray(0, left));
        this.#pieces[this.#first] = piece.subarray(left);
        break;
      }
      taken.push(piece);
      left -= piece.length;
      this.#first += 1;
    }
    if (this.#first > 64 && this.#first * 2 > this.#pieces.length) {
      this.#pieces = this.#pieces.slice(this.#first);
      this.#first = 0;
    }
    if (this.#length === 0) this.clear();
    return taken;
  }

  clear(): void {
    this.#pieces = [];
    this.#first = 0;
    this.#length = 0;
  }
}

/** What was given to `send`, in any case in pieces. */
export function piecesOf(octets: Uint8Array | readonly Uint8Array[]): readonly Uint8Array[] {
  return octets instanceof Uint8Array ? [octets] : octets;
}

/** `host`, or `host:port` when the port is not the default of the scheme. */
export function authorityOf(options: ClientOptions): string {
  const port = options.secure ? SECURE_TUNNEL_PORT : HTTP_PORT;
  const authority =
    (options.serverPort ?? port) === port ? options.serverHost : `${options.serverHost}:${options.serverPort}`;
  if (parseRelay(authority) === undefined) {
    throw new EncapsulationError(`serverHost ${JSON.stringify(authority)} must be a host name, IPv4 or [IPv6] address`);
  }
  return authority;
}

/** Relay-Server-Name: what the options say, else the host of the server. */
export function relayOf(options: ClientOptions): string {
  return (options.relay ?? authorityOf(options)).toLowerCase();
}

/** Scheme and authority of absolute targets, and the path under which the server stands. */
export function baseOf(options: ClientOptions): { readonly origin?: string; readonly prefix: string } {
  const { proxy, secure, prefix = "" } = options;
  if (prefix !== "" && !/^\/[!-~]*[!-.0-~]$/.test(prefix)) {
    throw new EncapsulationError(`prefix ${JSON.stringify(prefix)} must be a path such as /groove`);
  }
  return { prefix, ...(proxy ? { origin: `${secure ? "https" : "http"}://${authorityOf(options)}` } : {}) };
}

/** The path under which an edge stands, from its URL: without a slash at the end, empty for the root. */
export function prefixOf({ pathname }: { readonly pathname: string }): string {
  return pathname.replace(/\/+$/, "");
}

export function timersOf(options: ClientOptions): Timers {
  return { ...TIMERS, ...options.timers };
}

export function lost(reason: Reason, detail: string = REASONS[reason].cause): Lost {
  return { type: "lost", reason, detail };
}

/** What to do when the server says by which name it is meant. */
export function nameHint(name: string | undefined): string | undefined {
  if (name === undefined || parseRelay(name) === undefined) return undefined;
  return `To use this edge itself name it ${name}: --relay ${name}, or the option relay.`;
}

/**
 * What a refusal says of itself, for a person: its detail and cure when the server is an edge.
 *
 * @param status the answer's status and phrase
 */
export function refusalText(
  header: (name: string) => string | undefined,
  status: string,
): { readonly detail: string; readonly cure?: string } {
  // All this comes from a stranger, and goes to a terminal.
  const detail = header(DETAIL_HEADER);
  const cure = header(CURE_HEADER);
  if (detail !== undefined) return { detail: visible(detail), ...(cure !== undefined && { cure: visible(cure) }) };
  const hint = nameHint(header(RELAY_HEADER));
  return { detail: `The response is ${visible(status)}.${hint === undefined ? "" : ` ${hint}`}` };
}

/** What a response that is not 200 means. The phrase is not looked at, because proxies write their own. */
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
 * The seconds of a `Retry-After` header. When it has a date they are counted from the answer's own `Date`: the clock here
 * may be wrong. Undefined when they cannot be told.
 */
export function retryAfterOf(value: string | undefined, date?: string): number | undefined {
  if (value === undefined) return undefined;
  if (/^\d{1,9}$/.test(value)) return Number(value);
  if (date === undefined || !HTTP_DATE.test(value) || !HTTP_DATE.test(date)) return undefined;
  const seconds = (Date.parse(value) - Date.parse(date)) / 1000;
  return Number.isNaN(seconds) ? undefined : Math.max(0, seconds);
}

/** One request of a session, kept until its response is complete, so that it can be repeated with credentials. */
export type SessionRequest = {
  readonly method: "GET" | "POST";
  readonly target: string;
  readonly contentLength: number;
  readonly body: readonly Uint8Array[];
};

/** What a session made of octets: parts of a 200, or what has to be told the transport, or that all is lost. */
export type SessionEvent =
  | { readonly type: "body"; readonly data: Uint8Array }
  | { readonly type: "end" }
  | { readonly type: "head"; readonly head: ResponseHead }
  | { readonly type: "repeated"; readonly outputs: readonly ClientOutput[] }
  | Lost;

/** One session: a TCP connection, or one after another, and on it one request at a time. */
export class ClientSession {
  readonly name: Session;
  readonly #encapsulation: Exclude<Encapsulation, "WebSocket">;
  readonly #options: ClientOptions;
  readonly #reader = new ResponseReader();
  #open = false;
  #kept = true;
  #head: ResponseHead | undefined;
  #request: SessionRequest | undefined;
  #credentials: readonly Header[] = [];
  #rounds = 0;

  constructor(name: Session, encapsulation: Exclude<Encapsulation, "WebSocket">, options: ClientOptions) {
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

  /** Sends a request, on the connection there is if both sides keep it, else on a new one. */
  request(request: SessionRequest): ClientOutput[] {
    const outputs: ClientOutput[] = [];
    if (!this.#kept) outputs.push(...this.close());
    if (!this.#open) outputs.push({ type: "open", session: this.name });
    this.#open = true;
    this.#kept = true;
    this.#request = request;
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
      headers: [...headers, ...this.#credentials],
    });
    outputs.push({ type: "write", session: this.name, octets: [head, ...request.body] });
    return outputs;
  }

  feed(octets: Uint8Array): SessionEvent[] {
    return this.#take(this.#reader.feed(octets));
  }

  /** The connection ended. "end" if that completes the response; nothing if it is cut off: see `outstanding`. */
  ended(): SessionEvent[] {
    this.#open = false;
    return this.#take(this.#reader.ended());
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
        if (event.head.status === 200) this.#rounds = 0;
        if (!this.#challenged()) events.push(event);
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

  #challenged(): boolean {
    return this.#options.authorize !== undefined && (this.#head?.status === 401 || this.#head?.status === 407);
  }

  #repeat(): SessionEvent {
    const head = this.#head as ResponseHead;
    const request = this.#request as SessionRequest;
    this.#rounds += 1;
    const credentials =
      this.#rounds > AUTHENTICATION_ROUNDS
        ? undefined
        : this.#options.authorize?.({
            session: this.name,
            status: head.status === 401 ? 401 : 407,
            challenges: challengesOf(head),
            round: this.#rounds,
            method: request.method,
            target: request.target,
          });
    if (credentials === undefined) return lostByStatus(head);
    this.#credentials = credentials;
    // The body of a LongLived POST is not at its end, so nothing else can follow it on that connection.
    if (this.#encapsulation === "LongLived" && this.name === "post") this.#kept = false;
    return { type: "repeated", outputs: this.request(request) };
  }
}

function challengesOf(head: ResponseHead): string[] {
  const name = head.status === 401 ? "www-authenticate" : "proxy-authenticate";
  return head.headers.filter(([found]) => found === name).map(([, value]) => value);
}
