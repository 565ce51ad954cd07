/**
 * The server's end of a LongLived or KeepAlive virtual connection [MS-GRVHENC 3.2, 3.4]: plain data, and functions that
 * change it. The caller holds the requests: it parks and answers them as told, and closes both when the virtual
 * connection is refused.
 *
 * If the client numbers its requests, the server recognizes those that a proxy repeats because the response was lost.
 * This matters in KeepAlive: a response is whole commands and SSTP acknowledges only a count of messages, so a lost
 * response would never be noticed. A repeated request gets the same response, and its body is not read again. Without
 * numbers there is no such protection: a response lost unnoticed between proxy and server is gone if the proxy repeats
 * the GET, and a POST repeated after its response is read twice.
 *
 * A call that ends the virtual connection returns a refusal of scope "connection" and leaves the state 'Closed'. The
 * caller then closes both sessions, with the status of the reason where a request is still unanswered.
 */

import type { BodySize } from "./body-size.ts";
import { agreedBody, confirmationOf, firstSize, sizeAfter } from "./body-size.ts";
import type { Reason, Refusal, Timers } from "./registry.ts";
import { ECHO_STRING, MAX_BODY, REASONS, refuse, STREAMED_BODY, TIMERS } from "./registry.ts";
import { type KeepAliveTarget, type LongLivedTarget, requestNumber } from "./target.ts";

const NOTHING = new Uint8Array(0);

/**
 * ConnectionState [MS-GRVHENC 3.1.1]: 'Connected' when both requests have arrived, 'Established' when both have echoed.
 */
export type ConnectionState = "Connecting" | "Connected" | "Established" | "Closed";
/** GetSessionState and PostSessionState [MS-GRVHENC 3.2.5.1.1]. */
export type SessionState = "Uninitialised" | "Connected" | "Established" | "Closed";

/** A session of a virtual connection. */
export type Session = "get" | "post";

/**
 * State of a virtual connection at the server. Plain data: it survives `structuredClone`. Names follow the
 * specification; times are milliseconds of the caller's clock, `Infinity` for none.
 */
export type VirtualConnection = {
  readonly encapsulation: "LongLived" | "KeepAlive";
  readonly relay: string;
  readonly guid: string;
  /** Octets that each LongLived session may carry, echo string included; `Infinity` for KeepAlive. */
  readonly connectionContentLength: number;
  readonly timers: Timers;
  connectionState: ConnectionState;
  getSessionState: SessionState;
  postSessionState: SessionState;
  /** Whether application data may go down: set by the first data up, or in KeepAlive by the second GET. */
  getSessionReady: boolean;
  /** KeepAlive: whether the current GET may still be answered. Each gets one response. */
  serverOKtoSend: boolean;
  getOutstanding: boolean;
  postOutstanding: boolean;
  /** Octets sent down and received so far, echo string included. */
  getContentLength: number;
  postContentLength: number;
  /** KeepAlive: numbers of the last GET and POST if the client counts them, otherwise 0. */
  getNumber: number;
  postNumber: number;
  /** KeepAlive: the response to that GET; null if there is none yet or it is not kept. */
  answer: Uint8Array | null;
  /** Octets of the echo string received so far. */
  echoed: number;
  /** Octets received in the body of the outstanding POST. */
  bodyLength: number;
  /** KeepAlive: octets that a body may have: 32768, or what the first GET has offered (`body-size.ts`). */
  bodyLimit: number;
  /** KeepAlive: the size of responses to GETs, the octets of the last one, and when it was sent. */
  down: BodySize;
  downLength: number;
  downAt: number;
  establishmentDeadline: number;
  receiveDeadline: number;
  keepAliveDeadline: number;
  /** Why it was closed. */
  closed: Reason | null;
};

/**
 * Creates the state for the first request of a new GUID, GET or POST, and starts the ConnectionEstablishment timer
 * [MS-GRVHENC 3.2.5.1.1, 3.4.5.1.1]. Then call {@link arriveGet} or {@link arrivePost} with the same target.
 */
export function openVirtualConnection(
  target: LongLivedTarget | KeepAliveTarget,
  now: number,
  timers: Partial<Timers> = {},
): VirtualConnection {
  const all = { ...TIMERS, ...timers };
  return {
    encapsulation: target.encapsulation,
    relay: target.relay,
    guid: target.guid,
    connectionContentLength: target.encapsulation === "LongLived" ? target.contentLength : Number.POSITIVE_INFINITY,
    timers: all,
    connectionState: "Connecting",
    getSessionState: "Uninitialised",
    postSessionState: "Uninitialised",
    getSessionReady: false,
    serverOKtoSend: false,
    getOutstanding: false,
    postOutstanding: false,
    getContentLength: 0,
    postContentLength: 0,
    getNumber: 0,
    postNumber: 0,
    answer: null,
    echoed: 0,
    bodyLength: 0,
    bodyLimit: MAX_BODY,
    down: firstSize(MAX_BODY),
    downLength: 0,
    downAt: 0,
    establishmentDeadline: now + all.establishment,
    receiveDeadline: now + all.receive,
    keepAliveDeadline: Number.POSITIVE_INFINITY,
    closed: null,
  };
}

/**
 * What to do with a GET.
 *
 * - "park": do not answer yet.
 * - "handshake": the virtual connection is established; answer 200 with the echo string as the first octets of the
 *   body, in KeepAlive {@link handshakeAnswer} as the whole body. The Content-Length of LongLived is
 *   ConnectionContentLength.
 * - "repeat": the GET was answered before; send this answer again.
 * - "supersede": the parked GET came again; refuse the older one with RepeatedRequest and park this one instead.
 */
export type GetArrived =
  | { readonly type: "park" }
  | { readonly type: "handshake" }
  | { readonly type: "repeat"; readonly answer: Uint8Array }
  | { readonly type: "supersede" }
  | Refusal;

/** Handles a GET request [MS-GRVHENC 3.2.5.1.1, 3.4.5.1.1, 3.4.5.1.2]. After "park" in KeepAlive, call {@link room}. */
export function arriveGet(
  state: VirtualConnection,
  target: LongLivedTarget | KeepAliveTarget,
  now: number,
): GetArrived {
  const wrong = mismatch(state, target);
  if (wrong !== undefined) return wrong;
  const number = numberOf(target);
  const order = orderOf(state.getNumber, number);
  if (order === "old") return refuse("OldRequest", "request");
  if (order === "again") {
    touch(state, now);
    if (state.getOutstanding) return { type: "supersede" };
    return state.answer === null ? close(state, "AnswerForgotten") : { type: "repeat", answer: state.answer };
  }
  if (order === "gap") return close(state, "BadSequence");
  if (state.getOutstanding || (state.encapsulation === "LongLived" && state.getSessionState !== "Uninitialised")) {
    return close(state, "SecondGet");
  }
  touch(state, now);
  state.getOutstanding = true;
  state.getNumber = number ?? state.getNumber;
  // The next request proves that the previous response arrived.
  state.answer = null;
  if (state.getSessionState === "Established") {
    // A GET after the handshake proves that the handshake's response arrived.
    state.getSessionReady = true;
    state.serverOKtoSend = true;
    // The next GET follows as soon as the response has arrived.
    if (state.downLength > 0) state.down = sizeAfter(state.down, state.downLength, now - state.downAt);
    state.downLength = 0;
    return { type: "park" };
  }
  state.getSessionState = "Connected";
  if (target.encapsulation === "KeepAlive") {
    state.bodyLimit = agreedBody(target.bodyLimit, STREAMED_BODY);
    state.down = firstSize(state.bodyLimit);
  }
  if (state.postSessionState === "Connected") state.connectionState = "Connected";
  return establish(state, now) ? { type: "handshake" } : { type: "park" };
}

/** The whole answer of the first KeepAlive GET: the echo string, and the body size granted if one was offered. */
export function handshakeAnswer(state: VirtualConnection): Uint8Array {
  const confirmation = confirmationOf(state.bodyLimit);
  const answer = new Uint8Array(ECHO_STRING.length + confirmation.length);
  answer.set(ECHO_STRING);
  answer.set(confirmation, ECHO_STRING.length);
  return answer;
}

/**
 * What to do with a POST. "read": pass its body to {@link receive}, then call {@link endPost}. "repeat": it came
 * before; ignore its body and give it the same answer as the first. If `postOutstanding`, the first may have broken off:
 * go on with what follows the `bodyLength` octets that have been received.
 */
export type PostArrived = { readonly type: "read" } | { readonly type: "repeat" } | Refusal;

/**
 * Handles a POST request [MS-GRVHENC 3.2.5.2.1, 3.4.5.2]. `contentLength` is its Content-Length if known. Only
 * KeepAlive uses it: a LongLived server MUST NOT find the length of a message by it [3.2.5].
 */
export function arrivePost(
  state: VirtualConnection,
  target: LongLivedTarget | KeepAliveTarget,
  now: number,
  contentLength = 0,
): PostArrived {
  const wrong = mismatch(state, target);
  if (wrong !== undefined) return wrong;
  const number = numberOf(target);
  const order = orderOf(state.postNumber, number);
  if (order === "old") return refuse("OldRequest", "request");
  if (order === "again") {
    touch(state, now);
    // A client that cuts a body after more of it was read would send the rest twice.
    const isOther = state.postOutstanding ? contentLength < state.bodyLength : contentLength !== state.bodyLength;
    return isOther ? close(state, "BadSequence", "A POST was repeated with another body.") : { type: "repeat" };
  }
  if (order === "gap") return close(state, "BadSequence");
  if (state.postOutstanding || (state.encapsulation === "LongLived" && state.postSessionState !== "Uninitialised")) {
    return close(state, "SecondPost");
  }
  if (state.encapsulation === "KeepAlive" && contentLength > state.bodyLimit) return close(state, "BodyTooLong");
  touch(state, now);
  state.postOutstanding = true;
  state.postNumber = number ?? state.postNumber;
  state.bodyLength = 0;
  if (state.postSessionState === "Uninitialised") {
    state.postSessionState = "Connected";
    if (state.getSessionState === "Connected") state.connectionState = "Connected";
  }
  return { type: "read" };
}

/**
 * The meaning of POST body data. "wait": nothing yet. "handshake": answer the parked GET with 200 and the echo string;
 * `data` (may be empty) is what followed the echo. "data": application data to pass up. `data` is a view of the input.
 */
export type Received =
  | { readonly type: "wait" }
  | { readonly type: "handshake"; readonly data: Uint8Array }
  | { readonly type: "data"; readonly data: Uint8Array }
  | Refusal;

/** Handles body data of the outstanding POST, cut anywhere [MS-GRVHENC 3.2.5.2.2]. */
export function receive(state: VirtualConnection, octets: Uint8Array, now: number): Received {
  if (state.connectionState === "Closed") return refuse("ConnectionClosed", "request");
  if (!state.postOutstanding) return close(state, "DataBeforeEstablished", "Data arrived without a POST.");
  if (octets.length === 0) return { type: "wait" };
  touch(state, now);
  state.bodyLength += octets.length;
  state.postContentLength += octets.length;
  if (state.encapsulation === "KeepAlive" && state.bodyLength > state.bodyLimit) return close(state, "BodyTooLong");
  if (state.postContentLength > state.connectionContentLength) return close(state, "ContentLengthExceeded");

  let from = 0;
  while (state.echoed < ECHO_STRING.length && from < octets.length) {
    if (octets[from] !== ECHO_STRING[state.echoed]) return close(state, "BadEcho");
    state.echoed += 1;
    from += 1;
  }
  const echoCame = from > 0;
  const data = octets.subarray(from);
  if (echoCame && state.encapsulation === "KeepAlive") {
    // In KeepAlive the echo string is a whole body; the end of the body completes the handshake.
    return data.length > 0
      ? close(state, "BadEcho", "The first body is longer than the echo string.")
      : { type: "wait" };
  }
  const established = echoCame && establish(state, now);
  if (data.length === 0) return established ? { type: "handshake", data } : { type: "wait" };
  if (state.connectionState !== "Established") return close(state, "DataBeforeEstablished");
  if (state.encapsulation === "LongLived") state.getSessionReady = true;
  return { type: established ? "handshake" : "data", data };
}

/**
 * What to do at the end of a POST body. "answer": answer the POST with 200 and Content-Length 0 [MS-GRVHENC 2.2.3.4];
 * with `handshake`, also answer the parked GET with 200 and {@link handshakeAnswer}.
 */
export type PostEnded = { readonly type: "answer"; readonly handshake: boolean } | Refusal;

/**
 * Handles the end of the outstanding POST's body. KeepAlive's handshake POST is answered at once, whether or not a GET
 * is parked. A LongLived POST should never end, so its end ends the virtual connection.
 */
export function endPost(state: VirtualConnection, now: number): PostEnded {
  if (state.connectionState === "Closed") return refuse("ConnectionClosed", "request");
  if (state.encapsulation === "LongLived" || !state.postOutstanding) return lose(state);
  if (state.echoed < ECHO_STRING.length) return close(state, "BadEcho", "The first body is not the echo string.");
  touch(state, now);
  state.postOutstanding = false;
  return { type: "answer", handshake: establish(state, now) };
}

/**
 * Octets of application data that may go down now; 0 while they must be buffered. Requires 'Established' and
 * GetSessionReady [MS-GRVHENC 3.2.4.2], in KeepAlive also ServerOKtoSend [3.4.4.3]. In LongLived it is the rest of
 * ConnectionContentLength.
 */
export function room(state: VirtualConnection): number {
  if (!mayMoveDown(state)) return 0;
  return state.encapsulation === "KeepAlive" ? state.down.next : state.connectionContentLength - state.getContentLength;
}

/**
 * What to do with data for the client. "hold": buffer it in order. "send": write the first `length` octets to the GET;
 * in KeepAlive as the whole body of a 200, with the rest waiting for the next GET.
 */
export type Down = { readonly type: "hold" } | { readonly type: "send"; readonly length: number } | Refusal;

/**
 * Call with `available` octets to send down. In LongLived, exceeding ConnectionContentLength MUST close the virtual
 * connection (ContentLengthReached) [MS-GRVHENC 3.2.4.2]; use {@link room} to write less.
 */
export function sendDown(state: VirtualConnection, available: number, now: number): Down {
  if (state.connectionState === "Closed") return refuse("ConnectionClosed", "request");
  if (available === 0 || !mayMoveDown(state)) return { type: "hold" };
  if (state.encapsulation === "LongLived" && available > room(state)) return close(state, "ContentLengthReached");
  const length = Math.min(available, room(state));
  state.getContentLength += length;
  state.keepAliveDeadline = now + state.timers.keepAlive;
  if (state.encapsulation === "KeepAlive") {
    state.serverOKtoSend = false;
    state.getOutstanding = false;
    state.downLength = length;
    state.downAt = now;
  }
  return { type: "send", length };
}

/** Counts octets that the caller has written to the LongLived GET by itself, such as a Noop on an idle connection. */
export function countSent(state: VirtualConnection, octets: number): void {
  state.getContentLength += octets;
}

/**
 * Counts octets that follow those of {@link sendDown} in the same KeepAlive response, which the caller streams. Such a
 * response is not kept. Returns how many more it may have; 0 if the virtual connection is closed.
 */
export function continueDown(state: VirtualConnection, octets: number, now: number): number {
  if (state.connectionState === "Closed") return 0;
  // It reads.
  touch(state, now);
  state.getContentLength += octets;
  state.downLength += octets;
  state.downAt = now;
  return Math.max(0, state.down.next - state.downLength);
}

/** Restarts the receive timer: the client is not silent, this side does not take its data. */
export function postponeReceive(state: VirtualConnection, now: number): void {
  if (state.connectionState !== "Closed") touch(state, now);
}

/**
 * Keeps the body sent after {@link sendDown} in case the same KeepAlive GET is repeated. Nothing is kept for clients
 * that do not count. The body is copied if it is a small part of a large buffer; do not change it afterwards.
 */
export function keepAnswer(state: VirtualConnection, octets: Uint8Array): void {
  if (state.getNumber === 0 || state.connectionState === "Closed") return;
  state.answer = octets.length * 2 < octets.buffer.byteLength ? octets.slice() : octets;
}

/**
 * Call when a parked KeepAlive GET has been held long enough. "send" with length 0: answer 200 with an empty body.
 * "hold": no GET is parked, or it is the handshake's, which only the echo string or a refusal may answer.
 */
export function releaseGet(state: VirtualConnection): Down {
  if (state.connectionState === "Closed") return refuse("ConnectionClosed", "request");
  if (state.encapsulation !== "KeepAlive" || !mayMoveDown(state)) return { type: "hold" };
  state.serverOKtoSend = false;
  state.getOutstanding = false;
  keepAnswer(state, NOTHING);
  return { type: "send", length: 0 };
}

/**
 * Handles the end of a session's TCP connection. A KeepAlive session may end between requests [MS-GRVHENC 3.3.4.3]; any
 * other end closes the virtual connection, because data may be lost.
 */
export function sessionLost(state: VirtualConnection, session: Session): Refusal | { readonly type: "none" } {
  if (state.connectionState === "Closed") return refuse("ConnectionClosed", "request");
  const outstanding = session === "get" ? state.getOutstanding : state.postOutstanding;
  return outstanding ? lose(state) : { type: "none" };
}

/** When to call {@link expire}; `Infinity` for never. */
export function deadline(state: VirtualConnection): number {
  return Math.min(state.establishmentDeadline, state.receiveDeadline, state.keepAliveDeadline);
}

/**
 * Result of the timers. "keepAlive": ask SSTP to send a Noop on the GET session (SHOULD) [MS-GRVHENC 3.2.6.3]. A
 * refusal is EstablishmentTimeout or ReceiveTimeout.
 */
export type Expired = { readonly type: "none" } | { readonly type: "keepAlive" } | Refusal;

/** Checks the timers [MS-GRVHENC 3.2.6, 3.4.6]. */
export function expire(state: VirtualConnection, now: number): Expired {
  if (state.connectionState === "Closed") return { type: "none" };
  if (now >= state.establishmentDeadline) return close(state, "EstablishmentTimeout");
  if (now >= state.receiveDeadline) return close(state, "ReceiveTimeout");
  if (now < state.keepAliveDeadline) return { type: "none" };
  state.keepAliveDeadline = now + state.timers.keepAlive;
  return { type: "keepAlive" };
}

/** Closes the virtual connection. The caller must close both sessions and forget the GUID [MS-GRVHENC 3.2.4.1]. */
export function closeVirtualConnection(state: VirtualConnection, reason: Reason = "ConnectionClosed"): Refusal {
  return close(state, reason);
}

/** The number of a KeepAlive request. LongLived has only one request per session. */
function numberOf(target: LongLivedTarget | KeepAliveTarget): number | undefined {
  return target.encapsulation === "KeepAlive" ? requestNumber(target) : undefined;
}

/** Compares a request's number with the last of its session. */
function orderOf(last: number, number: number | undefined): "next" | "again" | "old" | "gap" {
  if (number === undefined || number === last + 1) return "next";
  if (number === last) return "again";
  return number < last ? "old" : "gap";
}

function mismatch(state: VirtualConnection, target: LongLivedTarget | KeepAliveTarget): Refusal | undefined {
  const contentLength = target.encapsulation === "LongLived" ? target.contentLength : Number.POSITIVE_INFINITY;
  if (
    target.guid !== state.guid ||
    target.encapsulation !== state.encapsulation ||
    target.relay !== state.relay ||
    contentLength !== state.connectionContentLength
  ) {
    // The request is not from the owner, so the virtual connection must not suffer.
    return refuse("DuplicateConnection", "request");
  }
  if (state.connectionState === "Closed") return refuse("ConnectionClosed", "request");
  if (contentLength < ECHO_STRING.length) return close(state, "ContentLengthExceeded");
  return undefined;
}

function mayMoveDown(state: VirtualConnection): boolean {
  return (
    state.connectionState === "Established" &&
    state.getOutstanding &&
    state.getSessionReady &&
    (state.encapsulation === "LongLived" || state.serverOKtoSend)
  );
}

/** Completes the handshake if both sides have arrived. True if it does so now. */
function establish(state: VirtualConnection, now: number): boolean {
  const postComplete =
    state.echoed === ECHO_STRING.length && (state.encapsulation === "LongLived" || !state.postOutstanding);
  if (state.connectionState !== "Connected" || !postComplete || state.getSessionState !== "Connected") return false;
  state.connectionState = "Established";
  state.getSessionState = "Established";
  state.postSessionState = "Established";
  state.getContentLength += ECHO_STRING.length;
  if (state.encapsulation === "KeepAlive") {
    state.getOutstanding = false;
    keepAnswer(state, handshakeAnswer(state));
  }
  state.establishmentDeadline = Number.POSITIVE_INFINITY;
  state.keepAliveDeadline = now + state.timers.keepAlive;
  return true;
}

function lose(state: VirtualConnection): Refusal {
  const carried = Math.max(state.getContentLength, state.postContentLength);
  return close(state, carried >= state.connectionContentLength ? "ContentLengthReached" : "SessionEnded");
}

function touch(state: VirtualConnection, now: number): void {
  state.receiveDeadline = now + state.timers.receive;
}

function close(state: VirtualConnection, reason: Reason, detail: string = REASONS[reason].cause): Refusal {
  if (state.connectionState !== "Closed") {
    state.connectionState = "Closed";
    state.getSessionState = "Closed";
    state.postSessionState = "Closed";
    state.getSessionReady = false;
    state.serverOKtoSend = false;
    state.getOutstanding = false;
    state.postOutstanding = false;
    state.answer = null;
    state.establishmentDeadline = Number.POSITIVE_INFINITY;
    state.receiveDeadline = Number.POSITIVE_INFINITY;
    state.keepAliveDeadline = Number.POSITIVE_INFINITY;
    state.closed = reason;
  }
  return refuse(reason, "connection", detail);
}
