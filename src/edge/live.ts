/**
 * What a Tunnel knows of its virtual connection, and what it answers with.
 *
 * @module
 */
import type { PollingConnection, VirtualConnection } from "../encapsulation/index.ts";
import { relayURL } from "../sstp/index.ts";
import { READ_SIZE } from "./defaults.ts";
import type { Origin } from "./origin.ts";
import { answerHeaders, problem, type Reason } from "./reasons.ts";
import { byteReader } from "./streams.ts";
import type { Side } from "./terminal.ts";
import type { Principal } from "./tokens.ts";

/** What became of octets that a Worker brought. */
export type Verdict =
  | { readonly ok: true }
  | { readonly ok: false; readonly reason: Reason; readonly detail?: string; readonly retryAfter?: number };

export type Refused = Extract<Verdict, { ok: false }>;

export const OK: Verdict = { ok: true };

/** A virtual connection that lives. */
export interface Live {
  readonly state: VirtualConnection;
  /** The relay's socket, dialled when the handshake is complete. Undefined in the end: it could not be reached. */
  origin: Promise<Origin | undefined> | undefined;
  /** Why it could not be reached. */
  unreached?: Reason;
  /** Calls that wait for the relay to take octets. */
  writing: number;
  bell: Bell | undefined;
}

/** The parked GET, whether its Worker is ready for the next ring, and whether the relay is already waited for. */
export interface Bell {
  readonly socket: WebSocket;
  armed: boolean;
  waiting: boolean;
}

/** What kind each of the object's hibernatable sockets is. */
export const TAG = { bell: "bell", post: "post", device: "device" } as const;

/**
 * What is written down of a virtual connection's beginning: nothing keeps its object in memory until the handshake is
 * complete. Afterwards only that it was, so that an object which has lost its memory knows that it has.
 */
export interface Opening {
  readonly live?: VirtualConnection;
  readonly polling?: PollingConnection;
  readonly established?: true;
  /** Who has opened it. */
  readonly owner: Principal;
}

export const OPENING = "opening";

export function refused(reason: Reason): Refused {
  return { ok: false, reason };
}

/** Takes a stream of octets to the end of a virtual connection that is here, and answers when it ends or is refused. */
export async function answerOf(
  stream: ReadableStream<Uint8Array>,
  receive: (octets: Uint8Array) => Promise<Verdict>,
): Promise<Response> {
  const read = byteReader(stream, READ_SIZE);
  for (;;) {
    const octets = await read();
    if (typeof octets === "string") return new Response(null);
    const verdict = await receive(octets);
    if (!verdict.ok) return problem(verdict.reason, verdict.detail);
  }
}

/** A KeepAlive GET response with a body [MS-GRVHENC 3.4.4.3]. */
export function answer(octets: Uint8Array): Response {
  return new Response(octets, { headers: answerHeaders() });
}

/** The end of a virtual connection by this name of the edge: what a device may mean by its Connect. */
export function side(name: string): Side {
  return { localDeviceURLs: [relayURL(name)] };
}

/** All that a relay sends from now on, as the body of a response, and how its side ended. */
export function pouring(origin: Origin, ended: (reason: "OriginClosed" | "OriginReset") => void): Response {
  const { readable, writable } = new IdentityTransformStream();
  void origin.pipeTo(writable).then(
    () => ended("OriginClosed"),
    () => ended("OriginReset"),
  );
  return new Response(readable);
}
