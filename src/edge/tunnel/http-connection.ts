/**
 * State of a LongLived or KeepAlive virtual connection in its Tunnel.
 *
 * @module
 */

import { ownNames } from "../../auth/own-names.ts";
import type { VirtualConnection } from "../../encapsulation/index.ts";
import { relayURL } from "../../sstp/index.ts";
import type { ByteChannel } from "../byte-channel.ts";
import type { Side } from "../endpoint/sstp-endpoint.ts";
import { answerHeaders } from "../problem.ts";
import type { Reason } from "../reasons.ts";
import type { Refused, Verdict } from "../rpc/tunnel-rpc.ts";

/** A parked GET. `armed`: its Worker is ready for a ring. `waiting`: a call already waits for data of the relay. */
export interface Bell {
  readonly socket: WebSocket;
  armed: boolean;
  waiting: boolean;
}

export function bellOf(socket: WebSocket, armed: boolean): Bell {
  return { socket, armed, waiting: false };
}

/** An open LongLived or KeepAlive virtual connection. */
export interface Live {
  readonly state: VirtualConnection;
  /** The relay's socket, dialled when the handshake is complete. Resolves to undefined if the relay is unreachable. */
  origin: Promise<ByteChannel | undefined> | undefined;
  /** Why the relay is unreachable. */
  unreached?: Reason;
  /** Calls that wait for the relay to take data. */
  writing: number;
  bell: Bell | undefined;
  /** Counts GETs, so that a GET can tell that a repeat has replaced it. */
  turn: number;
  /** The POST in progress; a repeat of it gets the same verdict. */
  posting?: Promise<Verdict> | undefined;
}

/** The virtual connection that a request is for, or its refusal. */
export type Found = { readonly ok: true; readonly live: Live } | Refused;

/** @param origin its far end, if it was established before eviction */
export function liveOf(state: VirtualConnection, bell?: Bell, origin?: ByteChannel): Live {
  return { state, origin: origin && Promise.resolve(origin), writing: 0, bell, turn: 0 };
}

/** Tags that tell the object's hibernatable sockets apart. */
export const TAG = { bell: "bell", post: "post", device: "device" } as const;

/** Whether every request of the device is answered. */
export function isBetween({ getOutstanding, postOutstanding }: VirtualConnection): boolean {
  return !getOutstanding && !postOutstanding;
}

/** When the first timer of a virtual connection runs out, in milliseconds since 1970. */
export function deadlineOf(state: {
  readonly establishmentDeadline: number;
  readonly receiveDeadline: number;
}): number {
  return Math.min(state.establishmentDeadline, state.receiveDeadline);
}

/** A KeepAlive GET response with a body [MS-GRVHENC 3.4.4.3]. */
export function answer(octets: Uint8Array): Response {
  return new Response(octets, { headers: answerHeaders() });
}

/** The edge's side of SSTP: a device's Connect may name any of the edge's own names. */
export function side(env: { readonly RELAY_NAME?: string }): Side {
  return { localDeviceURLs: ownNames(env.RELAY_NAME).map(relayURL) };
}
