/**
 * The Tunnel's end of a Polling virtual connection: one exchange at a time between a request and the origin relay.
 *
 * @module
 */

import { type Poll, type PollingConnection, receivePoll, respond, respondRoom } from "../../encapsulation/index.ts";
import { within } from "../../lib/runtime/timeout.ts";
import type { ByteChannel } from "../byte-channel.ts";
import type { Reason } from "../reasons.ts";
import type { Exchange } from "../rpc/tunnel-rpc.ts";
import { FULL_POLL, POLL_HOLD, POLL_TIMES } from "./limits.ts";

/** An open Polling virtual connection. */
export interface Polling {
  readonly state: PollingConnection;
  /** The relay's socket, dialled when the handshake is complete. Resolves to undefined if the relay is unreachable. */
  origin: Promise<ByteChannel | undefined> | undefined;
  /** Why the relay is unreachable. */
  unreached?: Reason;
  /** The last write to the relay. */
  written: Promise<void>;
  /** Counts requests, so that a request can tell that a repeat has replaced it. */
  turn: number;
}

/** @param origin its far end, if it was established before eviction */
export function pollingOf(state: PollingConnection, origin?: ByteChannel): Polling {
  return { state, origin: origin && Promise.resolve(origin), written: Promise.resolve(), turn: 0 };
}

/** Handles one poll: writes its data to the relay, and answers with what the relay has sent. */
export async function exchangePoll(
  polling: Polling,
  poll: Poll,
  dialRelay: () => Promise<ByteChannel | undefined>,
): Promise<Exchange> {
  const received = receivePoll(polling.state, poll, Date.now());
  if (received.type === "refuse") return failed(received.reason, received.scope, received.detail);
  if (received.type === "repeat") return { ok: true, body: received.body };
  polling.turn += 1;
  const turn = polling.turn;
  if (received.type === "probe") return answer(polling, []) ?? failed("InternalError", "connection");

  if (received.type === "data" && received.handshake) polling.origin = dialRelay();
  const origin = await polling.origin;
  if (origin === undefined) return failed(polling.unreached ?? "OriginUnreachable", "connection");
  if (received.type === "data" && received.data.length > 0) polling.written = origin.write(received.data);
  try {
    // A repeat waits too: its answer would invite more data while the relay takes none.
    await polling.written;
  } catch {
    return failed("OriginReset", "connection");
  }
  // A full body is one of many. The device does not expect an answer yet, and holding the poll would only slow it down.
  const bulk = received.type === "data" && !received.handshake && received.data.length > FULL_POLL;
  for (;;) {
    const something = origin.ready();
    if (!bulk) await within(POLL_HOLD, something);
    if (polling.turn !== turn)
      return failed("SecondPost", "request", "The request was sent again, and the later one is answered.");
    const waiting = origin.take(respondRoom(polling.state, POLL_TIMES));
    if (waiting?.kind === "ended") return failed(waiting.reason, "connection");
    const exchange = answer(polling, waiting === undefined ? [] : [waiting.octets]);
    if (exchange !== undefined) return exchange;
  }
}

/** Returns undefined if the answer must wait for data, because it completes the handshake [MS-GRVHENC 3.5.5.1.1.1]. */
function answer(polling: Polling, data: readonly Uint8Array[]): Exchange | undefined {
  const response = respond(polling.state, data, POLL_TIMES);
  if (response.type === "body") return { ok: true, body: response.body };
  return response.type === "hold" ? undefined : failed(response.reason, response.scope, response.detail);
}

function failed(reason: Reason, scope: "request" | "connection", detail?: string): Exchange {
  return { ok: false, reason, scope, ...(detail !== undefined && { detail }) };
}
