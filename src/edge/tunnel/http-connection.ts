/**
 * What a Tunnel knows of its virtual connection, and what it answers with.
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

/** The parked GET, whether its Worker is ready for the next ring, and whether the relay is already waited for. */
export interface Bell {
  readonly socket: WebSocket;
  armed: boolean;
  waiting: boolean;
}

export function bellOf(socket: WebSocket, armed: boolean): Bell {
  return { socket, armed, waiting: false };
}

/** A virtual connection that lives. */
export interface Live {
  readonly state: VirtualConnection;
  /** The relay's socket, dialled when the handshake is complete. Undefined in the end: it could not be reached. */
  origin: Promise<ByteChannel | undefined> | undefined;
  /** Why it could not be reached. */
  unreached?: Reason;
  /** Calls that wait for the relay to take octets. */
  writing: number;
  bell: Bell | undefined;
  /** Counts GETs taken, so that one which was sent again knows that it is no longer wanted. */
  turn: number;
  /** The POST that is being taken, for the same one when it is sent again meanwhile. */
  posting?: Promise<Verdict> | undefined;
}

/** The virtual connection that a request is for, or why it gets none. */
export type Found = { readonly ok: true; readonly live: Live } | Refused;

/** @param origin where it ends, when it has been established before */
export function liveOf(state: VirtualConnection, bell?: Bell, origin?: ByteChannel): Live {
  return { state, origin: origin && Promise.resolve(origin), writing: 0, bell, turn: 0 };
}

/** What kind each of the object's hibernatable sockets is. */
export const TAG = { bell: "bell", post: "post", device: "device" } as const;

/** Whether the device has had the answers to its requests, and will send the next when it comes to it. */
export function isBetween({ getOutstanding, postOutstanding }: VirtualConnection): boolean {
  return !getOutstanding && !postOutstanding;
}

/** When the alarm has to look whether the timers of a virtual connection have run out. */
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

/** The end of a virtual connection at this edge: a device may mean any of its names by its Connect. */
export function side(env: { readonly RELAY_NAME?: string }): Side {
  return { localDeviceURLs: ownNames(env.RELAY_NAME).map(relayURL) };
}
