/**
 * The server's end of a Polling virtual connection [MS-GRVHENC 3.6]: plain data, and functions that change it.
 * Receiving and answering a request are separate steps, so that the caller may hold a request until there is data.
 *
 * The specification does not cover an exchange whose response was lost. Here the client repeats the request, and the
 * server recognizes it by its bytes: it repeats the response and does not pass the data up again.
 */

import type { Poll, PollParameters } from "./polling-message.ts";
import { checksumOf, formatPoll, pollRoom, sameOctets } from "./polling-message.ts";
import type { Reason, Refusal, Timers } from "./registry.ts";
import { EncapsulationError, REASONS, refuse, TIMERS } from "./registry.ts";

/** PostSessionState of Polling [MS-GRVHENC 3.6.5]. */
export type PollingSessionState = "Probing" | "Probed" | "Established" | "Closed";

/**
 * State of a Polling virtual connection at the server. Plain data: it survives `structuredClone`. It keeps the last
 * request body (not copied) and the last response body, together at most 64 KiB.
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
  lastRequest: Uint8Array | null;
  lastResponse: Uint8Array | null;
  establishmentDeadline: number;
  receiveDeadline: number;
  closed: Reason | null;
};

/** Creates the state for a new GUID. Then call {@link receivePoll} with the same poll. */
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
 *
 * - "probe": the first of the handshake; call {@link respond} at once.
 * - "data": pass `data` up (a view, may be empty), then call {@link respond}. With `handshake`, this is the last
 *   request of the handshake, and its response MUST carry data.
 * - "repeat": answer with this body; pass nothing up.
 * - "supersede": the held request came again; drop the older one and hold this one instead.
 */
export type PollReceived =
  | { readonly type: "probe" }
  | { readonly type: "data"; readonly data: Uint8Array; readonly handshake: boolean }
  | { readonly type: "repeat"; readonly body: Uint8Array }
  | { readonly type: "supersede" }
  | Refusal;

/** Handles a request [MS-GRVHENC 3.6.5.1 to 3.6.5.3]. */
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

/** Octets of application data that the due response can carry; 0 for the probe or if none is due. */
export function respondRoom(state: PollingConnection, parameters: PollParameters): number {
  if (!state.requestOutstanding || state.connectionState !== "Established") return 0;
  return pollRoom(state.relay, state.guid, state.responseSequenceNum, parameters);
}

/**
 * The response to the received request. "body": send it with status 200. "hold": this last response of the handshake
 * MUST carry application data [MS-GRVHENC 3.5.5.1.1.1], and there is none yet.
 */
export type PollResponse = { readonly type: "body"; readonly body: Uint8Array } | { readonly type: "hold" } | Refusal;

/**
 * Answers the received request with data for the client, at most {@link respondRoom} octets [MS-GRVHENC 3.6.5.2.1].
 *
 * @throws EncapsulationError if the data is too long or the parameters are not whole numbers
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
    state.lastResponse = null;
    state.establishmentDeadline = Number.POSITIVE_INFINITY;
    state.receiveDeadline = Number.POSITIVE_INFINITY;
    state.closed = reason;
  }
  return refuse(reason, "connection", detail);
}
