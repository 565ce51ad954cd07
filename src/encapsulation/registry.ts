/**
 * The registry of the HTTP encapsulations: every fixed octet, number, header and status of [MS-GRVHENC], with its
 * section. Facts whose text could not be read are marked `assumed: true`, and only here. Grooveway's own limits and
 * reasons are at the end and marked as such.
 */

/** One fact of the specification: its value, its section, and whether it is assumed. */
export type Fact<T> = { readonly value: T; readonly section: string; readonly assumed: boolean };

function read<const T>(value: T, section: string): Fact<T> {
  return { value, section, assumed: false };
}

function assumed<const T>(value: T, section: string): Fact<T> {
  return { value, section, assumed: true };
}

/** Every fact with its section. The constants below name these values. */
export const REGISTRY = {
  longLivedVersion: read("2.0", "2.2.2.1.1.1"),
  keepAliveVersion: read("2.0", "2.2.3.1.1.2"),
  pollingVersion: read("1.2", "2.2.4.1.3.1.1"),
  httpVersion: read("HTTP/1.0", "2.2.3.1, 2.2.4.1"),
  httpPort: read(80, "1.9"),
  secureTunnelPort: read(443, "1.9, 3.8.3.1"),
  sstpPort: read(2492, "1.9"),
  echoString: assumed("GroovePing: 1.0,Ping\r\n", "2.2.1.1.3, 4.2"),
  echoInBothDirections: assumed(true, "2.2.2.2.3"),
  keepAlivePostAnswer: assumed({ status: 200, contentLength: 0 }, "2.2.3.4"),
  longLivedPostHeaders: assumed("those of the GET and Content-Length", "2.2.2.2"),
  bodyLimit: read(32768, "3.4.4.3, 3.5.4.3.1"),
  longLivedContentLength: read(0x7ffff000, "3.1"),
  userAgent: read("Mozilla/4.0 (compatible; MSIE 5.5; Win32)", "2.2.1.2.3 <2>"),
  server: assumed("Groove-Relay/12.0", "2.2.1.3.2"),
  pollingPath: assumed("/", "2.2.4.1.1"),
  pollParameters: assumed("minimum NUL maximum NUL repetitions NUL, decimal text", "2.2.4.2"),
  checksum: assumed(
    "sum of (signed octet + 1) * (index from 0 + 1) over all octets, 64-bit wrap, unsigned decimal",
    "2.2.4.1.3.1.3",
  ),
  relayServerUrlScheme: read("grooveDNS://", "2.2.4.1.3.1.4"),
  guidAlphabet: assumed("abcdefghijkmnpqrstuvwxyz23456789", "2.2.1.1.1"),
  guidLength: assumed(39, "2.2.1.1.1"),
  // "SHOULD ignore". Exception: IDs that Grooveway clients count, see COUNTED_ID.
  requestIdIgnored: read(true, "3.2.5.1.1, 3.4.5.1.1, 3.4.5.1.2"),
  establishmentTimer: assumed(30_000, "3.1.2.1, 3.2.2.1, 3.3.2.1, 3.4.2.1, 3.5.2.1"),
  receiveTimer: assumed(60_000, "3.1.2.2, 3.9.2.2"),
  keepAliveTimer: read(45_000, "3.1.2.3, 3.2.2.3, 3.3.2.4, 3.4.2.3"),
} as const;

/** The encapsulations. WebSocket is Grooveway's own: the target grammar of KeepAlive, with data in binary frames. */
export type Encapsulation = "LongLived" | "KeepAlive" | "Polling" | "WebSocket";

export const LONG_LIVED_VERSION = REGISTRY.longLivedVersion.value;
export const KEEP_ALIVE_VERSION = REGISTRY.keepAliveVersion.value;
export const POLLING_VERSION = REGISTRY.pollingVersion.value;
export const HTTP_VERSION = REGISTRY.httpVersion.value;
/** Port of the three HTTP encapsulations without TLS [MS-GRVHENC 1.9]. */
export const HTTP_PORT = REGISTRY.httpPort.value;
/** Port of the Secure Tunnel [MS-GRVHENC 1.9], and of HTTPS. */
export const SECURE_TUNNEL_PORT = REGISTRY.secureTunnelPort.value;
/** Port of plain SSTP and of the last hop of SOCKS [MS-GRVHENC 1.9]. */
export const SSTP_PORT = REGISTRY.sstpPort.value;
/** `grooveDNS://`, the prefix of the Relay-Server-Name in Polling bodies [MS-GRVHENC 2.2.4.1.3.1.4]. */
export const RELAY_URL_SCHEME = REGISTRY.relayServerUrlScheme.value;
/** The request target of Polling without a proxy [MS-GRVHENC 2.2.4.1.1]. */
export const POLLING_PATH = REGISTRY.pollingPath.value;
/** User-Agent of the products. An implementer may send another [MS-GRVHENC 2.2.1.2.3]. */
export const USER_AGENT = REGISTRY.userAgent.value;

/** The Encapsulation-Echo-String, as text and as octets (22) [MS-GRVHENC 2.2.1.1.3]. */
export const ECHO_TEXT = REGISTRY.echoString.value;
export const ECHO_STRING: Uint8Array = new TextEncoder().encode(ECHO_TEXT);

/** Maximum octets in a KeepAlive or Polling body, Polling message included [MS-GRVHENC 3.4.4.3, 3.5.4.3.1]. */
export const MAX_BODY = REGISTRY.bodyLimit.value;
/** Maximum octets that a LongLived session may declare and carry; the products declare this many [MS-GRVHENC 3.1]. */
export const MAX_CONTENT_LENGTH = REGISTRY.longLivedContentLength.value;

/** Timers of a virtual connection, in milliseconds; `Infinity` disables one. */
export type Timers = {
  /** ConnectionEstablishment: from the first request to 'Established' [MS-GRVHENC 3.1.2.1]. */
  readonly establishment: number;
  /** NetworkReceiveIO: longest silence of the peer [MS-GRVHENC 3.1.2.2]. */
  readonly receive: number;
  /** KeepAlive: silence after which SSTP is asked to send a Noop [MS-GRVHENC 3.1.2.3]. */
  readonly keepAlive: number;
};

/** 30 s (assumed), 60 s (assumed from SOCKS), 45 s. */
export const TIMERS: Timers = {
  establishment: REGISTRY.establishmentTimer.value,
  receive: REGISTRY.receiveTimer.value,
  keepAlive: REGISTRY.keepAliveTimer.value,
};

/** The only pairs of status code and reason phrase that a server may send [MS-GRVHENC 2.2.1.4]. */
export const STATUS_PAIRS = {
  200: "OK",
  302: "Moved Temporarily",
  304: "Not Modified",
  400: "Bad Request",
  401: "Unauthorized",
  403: "Not Valid",
  404: "Not Found",
  407: "ProxyAuthentication Required",
  408: "Request Time-out",
  500: "Internal Server Error",
  501: "Not Implemented",
  505: "HTTP Version Not Supported",
} as const;

export type StatusCode = keyof typeof STATUS_PAIRS;

/** One request header. `value` is null if it differs per request. */
export type HeaderRule = { readonly name: string; readonly value: string | null; readonly section: string };

const accept: HeaderRule = { name: "Accept", value: "*/*", section: "2.2.1.2.1" };
const contentType: HeaderRule = { name: "Content-Type", value: "application/octet-stream", section: "2.2.1.2.2" };
const userAgent: HeaderRule = { name: "User-Agent", value: null, section: "2.2.1.2.3" };
const pragma: HeaderRule = { name: "Pragma", value: "no-cache", section: "2.2.1.2.4" };
const expires: HeaderRule = { name: "Expires", value: "0", section: "2.2.1.2.5" };
const connection: HeaderRule = { name: "Connection", value: "Keep-Alive", section: "2.2.1.2.6" };
const host: HeaderRule = { name: "Host", value: null, section: "2.2.1.2.7" };
const contentLength: HeaderRule = { name: "Content-Length", value: null, section: "2.2.3.2.1" };
// Two headers, since some proxies honour only one of the directives.
const noCache: HeaderRule = { name: "Cache-Control", value: "no-cache", section: "2.2.1.2.8" };
const maxAge: HeaderRule = { name: "Cache-Control", value: "max-age=0", section: "2.2.1.2.8" };

/**
 * Request headers in the order of the example [MS-GRVHENC 4.2]. Only KeepAlive sends `Connection`; the other
 * encapsulations do not define it for requests [2.2.2.1, 2.2.4.1].
 *
 * In the POST the example prints `UserAgent: server.domain.net` where `Host` belongs. This is taken for an error:
 * Grooveway sends a real `Host`, which servers on shared hosting need.
 */
export const REQUEST_HEADERS: { readonly GET: readonly HeaderRule[]; readonly POST: readonly HeaderRule[] } = {
  GET: [accept, contentType, userAgent, host, pragma, noCache, expires, connection, maxAge],
  POST: [accept, contentType, userAgent, host, connection, contentLength, pragma, noCache, expires, maxAge],
};

/** Sent only in KeepAlive requests to a proxy [MS-GRVHENC 2.2.1.2.9, 2.2.3.1]. */
export const PROXY_CONNECTION: HeaderRule = { name: "Proxy-Connection", value: "Keep-Alive", section: "2.2.1.2.9" };

// Grooveway's own limits. Each bounds what a stranger can make a server or client keep.

/** Bytes of a request or response head: twice what common proxies allow. */
export const HEAD_LIMIT = 16384;
/** Headers in one head. */
export const HEADERS_LIMIT = 100;
/** Characters of a request target. A longer one is refused unread. */
export const TARGET_LIMIT = 2048;
/** Characters of a Virtual-Connection-GUID. The minimum holds at least 80 bits, so that it cannot be guessed. */
export const GUID_LIMITS = { least: 16, most: 128 } as const;
/** Characters of a request ID. */
export const REQUEST_ID_LIMIT = 128;
/**
 * Grooveway clients number the requests of each KeepAlive session `ID=gw-1`, `ID=gw-2` and so on. A proxy may repeat a
 * request whose response it did not get [RFC 9110 9.2.2]; the server recognizes it by its number and repeats the
 * response.
 */
export const COUNTED_ID = { prefix: "gw-", digits: 9 } as const;
/** Largest poll interval accepted, in seconds: one day. */
export const POLL_INTERVAL_LIMIT = 86_400;
/** Largest repetition count accepted. */
export const POLL_REPETITIONS_LIMIT = 1_000_000;
/** Shortest pause between idle polls, in milliseconds, whatever the server says. Prevents a busy loop. */
export const POLL_FLOOR = 100;
/**
 * How long after data in either direction our client polls our edge without pauses, in milliseconds: a program that
 * has said something is likely to be answered. The edge holds each of these polls for a while, and they are at least
 * {@link POLL_FLOOR} apart.
 */
export const POLL_EAGER = 3000;
/**
 * While a program waits for data, our client polls our edge at least this often, in milliseconds: what comes first after
 * a pause, such as a key that is pressed, is not noticed as late.
 */
export const POLL_AWAITED = 1000;
/**
 * After a long pause less often: what comes is late by a 300th of the pause. Every second for five minutes, every two for
 * ten. After 40 it is as without a program, when the keep-alives of a channel bring a poll every 8 s at the latest: 1,730
 * polls until then instead of 1,320, as calculated. That is as near as nothing, because the object of a connection that
 * is polled every few seconds never leaves memory, which costs more than its polls.
 */
export const POLL_AWAITED_SHARE = 300;
/** Attempts of a Polling exchange before the virtual connection counts as lost. */
export const POLLING_TRIES = 4;
/** Pause before the first retry of a Polling exchange, in milliseconds; doubled each time. */
export const POLLING_RETRY_DELAY = 500;
/** Rounds of 401 or 407 on one session before the client gives up. NTLM needs two, a stale Digest nonce one more. */
export const AUTHENTICATION_ROUNDS = 5;
/**
 * Octets of a body that is held whole between Grooveway's own ends (`body-size.ts`): every Polling body, and a KeepAlive
 * response that may be asked for again. Large enough that the exchanges cost less than the octets.
 */
export const HELD_BODY = 1024 * 1024;
/** Octets of a KeepAlive body between Grooveway's own ends. One over 1 MiB is streamed, so that nothing waits for its end. */
export const STREAMED_BODY = 4 * 1024 * 1024;
/**
 * Default content length of a LongLived client: 90 MiB, because the platform refuses request bodies over 100 MB. Each
 * renewal stops a transfer for some tens of milliseconds, and what is in flight to a device that receives comes again.
 * So a device that has used up one asks for {@link MAX_CONTENT_LENGTH}.
 */
export const DEFAULT_CONTENT_LENGTH = 90 * 1024 * 1024;
/** Response header with the name of a refusal. */
export const REASON_HEADER = "Grooveway-Reason";
/** Response headers with the refusal's detail and cure, for clients that do not read the problem document. */
export const DETAIL_HEADER = "Grooveway-Detail";
export const CURE_HEADER = "Grooveway-Cure";
/** Response header of a refusal with the Relay-Server-Name that means this edge. */
export const RELAY_HEADER = "Grooveway-Relay";

/** The meaning of a refusal or loss. `status` is null if only the client notices it. */
export type ReasonRule = { readonly status: StatusCode | null; readonly cause: string; readonly cure: string };

function reason(status: StatusCode | null, cause: string, cure: string): ReasonRule {
  return { status, cause, cure };
}

/** Every reason for which this layer refuses a request or ends a virtual connection. */
export const REASONS = {
  MalformedTarget: reason(400, "The request target does not follow the grammar.", "Correct the URL."),
  WrongVersion: reason(400, "The encapsulation version is not supported.", "Use version 2.0 (Polling: 1.2)."),
  WrongEncapsulation: reason(400, "ConnType is unknown.", "Use LongLived, KeepAlive or WebSocket."),
  WrongRelay: reason(
    403,
    "This server does not serve the relay that the request names.",
    "Name a relay that this server serves.",
  ),
  DuplicateConnection: reason(
    400,
    "The GUID belongs to a virtual connection with other properties.",
    "Use a new GUID for each virtual connection.",
  ),
  SecondGet: reason(400, "A GET arrived while another was outstanding.", "Send one GET at a time."),
  SecondPost: reason(400, "A POST arrived while another was outstanding.", "Send one POST at a time."),
  DataBeforeEstablished: reason(
    400,
    "Application data arrived before the virtual connection was established.",
    "Wait for the echo string on the GET before sending data.",
  ),
  BodyTooLong: reason(
    400,
    "A body is longer than 32768 bytes, or than the ends have agreed on.",
    "Split data into bodies of at most 32768 bytes.",
  ),
  GrownBodyRefused: reason(
    400,
    "The server has no memory for a body over 32768 bytes at the moment.",
    "Send the same data in bodies of at most 32768 bytes.",
  ),
  ContentLengthExceeded: reason(
    400,
    "A session carried more bytes than its ContentLength, or its ContentLength is too short for the echo string.",
    "Open a new virtual connection before ContentLength is used up.",
  ),
  ContentLengthReached: reason(200, "A session has used up its ContentLength.", "Open a new virtual connection."),
  BadEcho: reason(
    400,
    "The echo string did not arrive first: a proxy changed it, or the other side no longer knows the virtual connection.",
    "Open a new virtual connection; if that fails too, use another encapsulation (--transport).",
  ),
  UnknownConnection: reason(404, "No virtual connection has this GUID.", "Open a new virtual connection."),
  ConnectionClosed: reason(404, "The virtual connection is closed.", "Open a new virtual connection."),
  SessionEnded: reason(404, "The other session was lost.", "Open a new virtual connection."),
  EstablishmentTimeout: reason(
    408,
    "The virtual connection was not established in time.",
    "Check that the proxy passes both GET and POST, or use another encapsulation (--transport).",
  ),
  ReceiveTimeout: reason(408, "The other side was silent for too long.", "Open a new virtual connection."),
  RepeatedRequest: reason(
    400,
    "The same request arrived again over another connection, and is answered there.",
    "Wait for the answer on the other connection.",
  ),
  OldRequest: reason(
    400,
    "The request is older than one that arrived before it: a proxy delayed or repeated it.",
    "Look for a proxy that repeats requests; the virtual connection continues.",
  ),
  AnswerForgotten: reason(
    404,
    "A request was repeated after its answer had been discarded.",
    "Open a new virtual connection; unacknowledged messages are sent again.",
  ),
  MalformedPoll: reason(400, "The Polling message does not follow the grammar.", "Correct the body."),
  BadChecksum: reason(400, "The Polling checksum does not match the data.", "Look for a proxy that changes bodies."),
  BadSequence: reason(
    400,
    "The sequence number of a poll, or the number in a request ID, is not the next one.",
    "Open a new virtual connection.",
  ),
  MalformedHead: reason(400, "The HTTP head does not follow the grammar.", "Look for a proxy that changes heads."),
  HeadTooLong: reason(400, "The HTTP head is over 16 KiB or has over 100 headers.", "Send fewer headers."),
  MalformedBody: reason(400, "The framing of an HTTP body is invalid.", "Look for a proxy that changes bodies."),
  MethodNotImplemented: reason(501, "The method is neither GET nor POST.", "Use GET and POST."),
  UnexpectedStatus: reason(null, "The response status is not 200.", "See the status, and the code next to it."),
  AuthenticationRequired: reason(
    null,
    "A proxy requires credentials.",
    "Configure the proxy's user name and password.",
  ),
  ExchangeFailed: reason(
    null,
    "A Polling exchange failed too many times.",
    "Check the network between here and the server.",
  ),
} as const satisfies Record<string, ReasonRule>;

/** Name of a refusal or loss. Stable: used in code, logs, metrics and the `Grooveway-Reason` header. */
export type Reason = keyof typeof REASONS;

/**
 * A refusal. Scope "request": only this request is refused; the virtual connection of that GUID lives on. Scope
 * "connection": close the virtual connection and discard its state.
 */
export type Refusal = {
  readonly type: "refuse";
  readonly reason: Reason;
  readonly scope: "request" | "connection";
  /** What was found, for a log or problem document. */
  readonly detail: string;
};

/** Creates a refusal. `detail` defaults to the cause of the reason. */
export function refuse(reason: Reason, scope: Refusal["scope"], detail: string = REASONS[reason].cause): Refusal {
  return { type: "refuse", reason, scope, detail };
}

/** Thrown when a caller of this folder breaks a contract, never because of received data. */
export class EncapsulationError extends Error {
  override readonly name = "EncapsulationError";
}
