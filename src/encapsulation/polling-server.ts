/**
 * The server's end of a Polling virtual connection [MS-GRVHENC 3.6]: plain data and functions that change it. Taking a
 * request and answering it are two steps, so that the caller may hold the request for a while to wait for data.
 *
 * The specification has no rule for an exchange whose answer was lost. Here the client repeats the request, and the
 * server knows it by its octets: the same answer is given again and no data is passed up twice.
 */

import type { Poll, PollParameters } from "./polling-message.ts";
import { checksumOf, formatPoll, pollRoom, sameOctets } from "./polling-message.ts";
import type { Reason, Refusal, Timers } from "./registry.ts";
import { EncapsulationError, REASONS, refuse, TIMERS } from "./registry.ts";

/** PostSessionState of Polling [MS-GRVHENC 3.6.5]. */
export type PollingSessionState = "Probing" | "Probed" | "Established" | "Closed";

/**
 * State of one Polling virtual connection at the server. Plain data: it survives `structuredClone`. It keeps the body
 * of the last request (as given, not copied) and of the last response, together at most 64 KiB.
 */
export type PollingConnection = {
  readonly relay: string;
  readonly guid: string;
  readonly timers: Timers;
  connectionState: "Connecting" | "Established" | "Closed";
  postSessionState: PollingSessionState;
  /** Sequence number expected in the next request that is not a repetition. */
  requestSequenceNum: number;
  /** Sequence number of the last response, or of the one that is due. */
  responseSequenceNum: number;
  /** Whether a request waits for {@link respond}. */
  requestOutstanding: boolean;
  lastRequest: Uint8Array | null;
  lastResponse: Uint8Array | null;
  establishmentDeadline: number;
  receiveDeadline: number;
  closed: Reason | null;
};

/** Makes the state for a GUID that is not known yet. Follow it with {@link receivePoll} of the same poll. */
export function openPolling(poll: Poll, now: number, timers: Partial<Timers> = {}): PollingConnection {
  const all = { ...TIMERS, ...timers };
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
    lastResponse: null,
    establishmentDeadline: now + all.establishment,
    receiveDeadline: now + all.receive,
    closed: null,
  };
}

/**
 * What to do with a request.
 * - "probe": the first of the handshake; {@link respond} at once.
 * - "data": pass `data` (a view, may be empty) up, then {@link respond}; with `handshake` it is the last of the
 *   handshake, and its answer MUST carry data.
 * - "repeat": answer with these octets; pass nothing up.
 * - "supersede": the request that is being held came again; drop the older one and hold this one in its place.
 */
export type PollReceived =
  | { readonly type: "probe" }
  | { readonly type: "data"; readonly data: Uint8Array; readonly handshake: boolean }
  | { readonly type: "repeat"; readonly body: Uint8Array }
  | { readonly type: "supersede" }
  | Refusal;

/** A request came [MS-GRVHENC 3.6.5.1 to 3.6.5.3]. */
export function receivePoll(state: PollingConnection, poll: Poll, now: number): PollReceived {
  if (poll.guid !== state.guid || poll.relay !== state.relay) return refuse("DuplicateConnection", "request");
  if (state.connectionState === "Closed") return refuse("ConnectionClosed", "request");
  if (state.lastRequest !== null && sameOctets(state.lastRequest, poll.body)) {
    state.receiveDeadline = now + state.timers.receive;
    if (state.requestOutstanding) return { type: "supersede" };
    if (state.lastResponse !== null) return { type: "repeat", body: state.lastResponse };
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
  state.lastRequest = poll.body;
  if (state.postSessionState === "Probing") {
    state.postSessionState = "Probed";
    return { type: "probe" };
  }
  // Both requests of the handshake, and both their answers, carry 0; from then on each counts by itself.
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

/** Octets of application data the answer that is due can carry, 0 for the probe's or when none is due. */
export function respondRoom(state: PollingConnection, parameters: PollParameters): number {
  if (!state.requestOutstanding || state.connectionState !== "Established") return 0;
  return pollRoom(state.relay, state.guid, state.responseSequenceNum, parameters);
}

/**
 * The answer to the request taken. "body": answer it with status 200 and these octets. "hold": this is the last answer
 * of the handshake, which MUST carry application data [MS-GRVHENC 3.5.5.1.1.1], and there is none yet.
 */
export type PollResponse = { readonly type: "body"; readonly body: Uint8Array } | { readonly type: "hold" } | Refusal;

/**
 * Answers the request taken with what is buffered for the client, at most {@link respondRoom} octets
 * [MS-GRVHENC 3.6.5.2.1].
 * @throws EncapsulationError when the data is too long or the parameters are no whole numbers.
 */
export function respond(
  state: PollingConnection,
  data: readonly Uint8Array[],
  parameters: PollParameters,
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
    data,
    parameters,
  });
  if (state.connectionState === "Established") state.establishmentDeadline = Number.POSITIVE_INFINITY;
  state.requestOutstanding = false;
  state.lastResponse = body;
  return { type: "body", body };
}

/** The earliest time at which {@link expirePolling} has something to do, `Infinity` for never. */
export function pollingDeadline(state: PollingConnection): number {
  return Math.min(state.establishmentDeadline, state.receiveDeadline);
}

/** The time has come to look at the timers; a refusal is EstablishmentTimeout or ReceiveTimeout. */
export function expirePolling(state: PollingConnection, now: number): Refusal | { readonly type: "none" } {
  if (state.connectionState === "Closed") return { type: "none" };
  if (now >= state.establishmentDeadline) return close(state, "EstablishmentTimeout");
  // An idle client may be told to poll less often than this; the caller sets `timers.receive` above that interval.
  if (now >= state.receiveDeadline) return close(state, "ReceiveTimeout");
  return { type: "none" };
}

/** Closes the virtual connection; the caller forgets the GUID [MS-GRVHENC 3.6.4.1]. */
export function closePolling(state: PollingConnection, reason: Reason = "ConnectionClosed"): Refusal {
  return close(state, reason);
}

function close(state: PollingConnection, reason: Reason, detail: string = REASONS[reason].cause): Refusal {
  if (state.connectionState !== "Closed") {
    state.connectionState = "Closed";
    state.postSessionState = "Closed";
    state.requestOutstanding = false;
    state.lastRequest = null;
    state.lastResponse = null;
    state.establishmentDeadline = Number.POSITIVE_INFINITY;
    state.receiveDeadline = Number.POSITIVE_INFINITY;
    state.closed = reason;
  }
  return refuse(reason, "connection", detail);
}
