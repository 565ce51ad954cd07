/**
 * The server's end of a Polling virtual connection [MS-GRVHENC 3.6]: plain data, and functions that change it.
 * Receiving and answering a request are separate steps, so that the caller may hold a request until there is data.
 *
 * The specification does not cover an exchange whose response was lost. Here the client repeats the request, and the
 * server recognizes it: it repeats the response and does not pass the data up again.
 *
 * Between Grooveway's own ends, which have agreed on larger bodies (`body-size.ts`), a second request may be outstanding,
 * so that data of the client need not wait for a request that is held. Requests and responses keep their order.
 */

import type { BodySize } from "./body-size.ts";
import { agreedBody, confirmationOf, firstSize, sizeAfter } from "./body-size.ts";

import type { Poll, PollParameters } from "./polling-message.ts";
import { checksumOf, formatPoll, pollRoom } from "./polling-message.ts";
import type { Reason, Refusal, Timers } from "./registry.ts";
import { EncapsulationError, HELD_BODY, MAX_BODY, REASONS, refuse, TIMERS } from "./registry.ts";

/** PostSessionState of Polling [MS-GRVHENC 3.6.5]. */
export type PollingSessionState = "Probing" | "Probed" | "Established" | "Closed";

/** What tells a request from all others of its virtual connection. */
type RequestName = Pick<Poll, "sequence" | "checksum"> & { readonly length: number };

/** A response that may be asked for again. `body` is null if it is not kept. */
type KeptResponse = { readonly request: RequestName; readonly body: Uint8Array | null };

/**
 * State of a Polling virtual connection at the server. Plain data: it survives `structuredClone`. It keeps the responses
 * that may be asked for again: the last one, or two that have together at most 1 MiB and 32 KiB.
 */
export type PollingConnection = {
  readonly relay: string;
  readonly guid: string;
  readonly timers: Timers;
  connectionState: "Connecting" | "Established" | "Closed";
  postSessionState: PollingSessionState;
  /** Sequence number expected in the next new request. */
  requestSequenceNum: number;
  /** Sequence number of the last response, or of the one due. */
  responseSequenceNum: number;
  /** Whether a request waits for {@link respond}. */
  requestOutstanding: boolean;
  lastRequest: RequestName | null;
  /** Oldest first. */
  responses: readonly KeptResponse[];
  /** Octets that a body may have: 32768, or what the client has offered (`body-size.ts`). */
  readonly bodyLimit: number;
  /** The size of responses, the octets of the last one with data, and when it was sent. */
  down: BodySize;
  downLength: number;
  downAt: number;
  establishmentDeadline: number;
  receiveDeadline: number;
  closed: Reason | null;
};

/**
 * Creates the state for a new GUID. Then call {@link receivePoll} with the same poll.
 *
 * @param offered octets of a body that the client has offered in the target (`offeredBody`)
 */
export function openPolling(
  poll: Poll,
  now: number,
  timers: Partial<Timers> = {},
  offered?: number,
): PollingConnection {
  const all = { ...TIMERS, ...timers };
  const bodyLimit = agreedBody(offered, HELD_BODY);
  return {
    relay: poll.relay,
    guid: poll.guid,
    timers: all,
    connectionState: "Connecting",
    postSessionState: "Probing",
    requestSequenceNum: 0,
    responseSequenceNum: 0,
    requestOutstanding: false,
    lastRequest: null,
    responses: [],
    bodyLimit,
    down: firstSize(bodyLimit),
    downLength: 0,
    downAt: 0,
    establishmentDeadline: now + all.establishment,
    receiveDeadline: now + all.receive,
    closed: null,
  };
}

/**
 * What to do with a request.
 *
 * - "probe": the first of the handshake; call {@link respond} at once.
 * - "data": pass `data` up (a view, may be empty), then call {@link respond}. With `handshake`, this is the last
 *   request of the handshake, and its response MUST carry data.
 * - "repeat": answer with this body; pass nothing up.
 * - "supersede": the held request came again; drop the older one and hold this one instead.
 * - "overtake": the request after the one that is held; answer that one with {@link respond}, then pass this one again.
 * - "early": the request before it has not arrived; pass it again after that one.
 */
export type PollReceived =
  | { readonly type: "probe" }
  | { readonly type: "data"; readonly data: Uint8Array; readonly handshake: boolean }
  | { readonly type: "repeat"; readonly body: Uint8Array }
  | { readonly type: "supersede" }
  | { readonly type: "overtake" }
  | { readonly type: "early" }
  | Refusal;

/** Handles a request [MS-GRVHENC 3.6.5.1 to 3.6.5.3]. */
export function receivePoll(state: PollingConnection, poll: Poll, now: number): PollReceived {
  if (poll.guid !== state.guid || poll.relay !== state.relay) return refuse("DuplicateConnection", "request");
  if (state.connectionState === "Closed") return refuse("ConnectionClosed", "request");
  if (poll.length > state.bodyLimit) {
    return state.postSessionState === "Probing" ? close(state, "BodyTooLong") : refuse("BodyTooLong", "request");
  }
  const name: RequestName = { sequence: poll.sequence, checksum: poll.checksum, length: poll.length };
  const again = state.responses.find(({ request }) => isSame(request, name));
  if (again !== undefined) {
    state.receiveDeadline = now + state.timers.receive;
    return again.body === null ? close(state, "AnswerForgotten") : { type: "repeat", body: again.body };
  }
  if (state.requestOutstanding && state.lastRequest !== null && isSame(state.lastRequest, name)) {
    state.receiveDeadline = now + state.timers.receive;
    return { type: "supersede" };
  }
  if (state.connectionState === "Established" && state.bodyLimit > MAX_BODY) {
    if (state.requestOutstanding && poll.sequence === state.requestSequenceNum) return { type: "overtake" };
    if (!state.requestOutstanding && poll.sequence === state.requestSequenceNum + 1) return { type: "early" };
  }
  if (state.requestOutstanding) return close(state, "SecondPost");
  if (state.postSessionState === "Probing" && (poll.sequence !== 0 || poll.data.length > 0)) {
    return close(state, "UnknownConnection");
  }
  if (poll.sequence !== state.requestSequenceNum) {
    return close(state, "BadSequence", `The sequence number is ${poll.sequence}, not ${state.requestSequenceNum}.`);
  }
  if (state.postSessionState === "Probed" && poll.data.length === 0) {
    return close(state, "BadSequence", "The last request of the handshake has no application data.");
  }
  if (poll.checksum !== checksumOf([poll.data])) return close(state, "BadChecksum");

  state.receiveDeadline = now + state.timers.receive;
  state.requestOutstanding = true;
  state.lastRequest = name;
  // Our client has at most two requests outstanding, and none beside one without data.
  const isProof = state.bodyLimit === MAX_BODY || state.connectionState === "Connecting" || poll.data.length === 0;
  state.responses = isProof ? [] : state.responses.slice(-1);
  if (state.downLength > 0) state.down = sizeAfter(state.down, state.downLength, now - state.downAt);
  state.downLength = 0;
  if (state.postSessionState === "Probing") {
    state.postSessionState = "Probed";
    return { type: "probe" };
  }
  // Both requests of the handshake, and both responses, carry 0. From then on requests and responses count separately.
  state.requestSequenceNum += 1;
  const handshake = state.connectionState === "Connecting";
  if (handshake) {
    state.connectionState = "Established";
    state.postSessionState = "Established";
  } else {
    state.responseSequenceNum += 1;
  }
  return { type: "data", data: poll.data, handshake };
}

/**
 * Octets of application data that the due response can carry; 0 for the probe or if none is due.
 *
 * @param most octets of the whole body, at least 32768; default: as many as were agreed on
 */
export function respondRoom(
  state: PollingConnection,
  parameters: PollParameters,
  most: number = state.bodyLimit,
): number {
  if (!state.requestOutstanding || state.connectionState !== "Established") return 0;
  const limit = Math.max(MAX_BODY, Math.min(most, state.down.next, state.bodyLimit - keptOctets(state)));
  return pollRoom(state.relay, state.guid, state.responseSequenceNum, parameters, limit);
}

/**
 * The response to the received request. "body": send it with status 200. "hold": this last response of the handshake
 * MUST carry application data [MS-GRVHENC 3.5.5.1.1.1], and there is none yet.
 */
export type PollResponse = { readonly type: "body"; readonly body: Uint8Array } | { readonly type: "hold" } | Refusal;

/**
 * Answers the received request with data for the client, at most {@link respondRoom} octets [MS-GRVHENC 3.6.5.2.1].
 *
 * The response to the probe carries the body size that is granted, if one was offered.
 *
 * @throws EncapsulationError if the data is too long or the parameters are not whole numbers
 */
export function respond(
  state: PollingConnection,
  data: readonly Uint8Array[],
  parameters: PollParameters,
  now: number,
): PollResponse {
  if (state.connectionState === "Closed" || !state.requestOutstanding) return refuse("ConnectionClosed", "request");
  const length = data.reduce((sum, octets) => sum + octets.length, 0);
  const most = respondRoom(state, parameters);
  if (length > most) throw new EncapsulationError(`this answer can carry ${most} octets; ask respondRoom()`);
  const lastOfHandshake = state.connectionState === "Established" && state.requestSequenceNum === 1;
  if (lastOfHandshake && length === 0) return { type: "hold" };
  const body = formatPoll({
    relay: state.relay,
    guid: state.guid,
    sequence: state.responseSequenceNum,
    data: state.connectionState === "Established" ? data : [confirmationOf(state.bodyLimit)],
    parameters,
    limit: state.bodyLimit,
  });
  if (state.connectionState === "Established") state.establishmentDeadline = Number.POSITIVE_INFINITY;
  state.requestOutstanding = false;
  if (state.lastRequest !== null) state.responses = [...state.responses, { request: state.lastRequest, body }];
  // Our client asks again at once when it has received data.
  state.downLength = length === 0 ? 0 : body.length;
  state.downAt = now;
  return { type: "body", body };
}

/** Forgets responses over 32768 octets: a request that is repeated nevertheless ends the virtual connection. */
export function forgetGrown(state: PollingConnection): void {
  state.responses = state.responses.map((kept) =>
    (kept.body?.length ?? 0) > MAX_BODY ? { ...kept, body: null } : kept,
  );
}

/** Octets of the responses that are kept. */
export function keptOctets(state: PollingConnection): number {
  return state.responses.reduce((sum, { body }) => sum + (body?.length ?? 0), 0);
}

/** When to call {@link expirePolling}; `Infinity` for never. */
export function pollingDeadline(state: PollingConnection): number {
  return Math.min(state.establishmentDeadline, state.receiveDeadline);
}

/** Checks the timers. A refusal is EstablishmentTimeout or ReceiveTimeout. */
export function expirePolling(state: PollingConnection, now: number): Refusal | { readonly type: "none" } {
  if (state.connectionState === "Closed") return { type: "none" };
  if (now >= state.establishmentDeadline) return close(state, "EstablishmentTimeout");
  // If the caller lets idle clients poll less often than this, it must raise `timers.receive` above their interval.
  if (now >= state.receiveDeadline) return close(state, "ReceiveTimeout");
  return { type: "none" };
}

/** Closes the virtual connection. The caller must forget the GUID [MS-GRVHENC 3.6.4.1]. */
export function closePolling(state: PollingConnection, reason: Reason = "ConnectionClosed"): Refusal {
  return close(state, reason);
}

function close(state: PollingConnection, reason: Reason, detail: string = REASONS[reason].cause): Refusal {
  if (state.connectionState !== "Closed") {
    state.connectionState = "Closed";
    state.postSessionState = "Closed";
    state.requestOutstanding = false;
    state.lastRequest = null;
    state.responses = [];
    state.establishmentDeadline = Number.POSITIVE_INFINITY;
    state.receiveDeadline = Number.POSITIVE_INFINITY;
    state.closed = reason;
  }
  return refuse(reason, "connection", detail);
}

function isSame(a: RequestName, b: RequestName): boolean {
  return a.sequence === b.sequence && a.checksum === b.checksum && a.length === b.length;
}
