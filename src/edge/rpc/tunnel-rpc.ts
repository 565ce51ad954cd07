/**
 * RPC interface of a Tunnel: calls of a Worker, each naming its caller, and streams by `fetch`.
 *
 * @module
 */
import type { Principal } from "../../auth/principal.ts";
import type { KeepAliveTarget, LongLivedTarget, Poll, Target } from "../../encapsulation/index.ts";
import type { Reason } from "../reasons.ts";
import type { AlarmRpc } from "./clock-rpc.ts";
import type { ConsumerRpc, SenderRpc, StreamRpc } from "./mailbox-rpc.ts";

/** The sender of a request that a Worker brings to a Tunnel. */
export interface Caller {
  readonly principal: Principal;
  /** When its token was judged, in milliseconds since 1970. */
  readonly asOf: number;
  /** Source of the request, as `sourceOf` returns it. */
  readonly source: string;
}

/**
 * Header that names the caller of a request to a Tunnel. A device cannot forge it, because the Worker builds these
 * requests anew.
 */
export const CALLER = "Grooveway-Caller";

/** Nearly all requests of a virtual connection have the same caller, so the last one is cached. */
let last: { readonly header: string; readonly caller: Caller } | undefined;

/** The caller of a request to a Tunnel. */
export function callerOf(request: Request): Caller {
  const header = request.headers.get(CALLER);
  if (header === null) throw new Error("a request to a Tunnel says for whom it is");
  if (last?.header !== header) last = { header, caller: JSON.parse(decodeURIComponent(header)) as Caller };
  return last.caller;
}

/** Header with the parsed target of a GET. */
const TARGET = "Grooveway-Target";

export function targetHeader(target: Target): Record<string, string> {
  return { [TARGET]: encodeURIComponent(JSON.stringify(target)) };
}

/** The target of a GET, as its Worker has parsed it. */
export function targetOf(request: Request): Target {
  return JSON.parse(decodeURIComponent(request.headers.get(TARGET) ?? "")) as Target;
}

/** Header with the length of a streamed KeepAlive POST. */
export const LENGTH = "Grooveway-Length";

/** Paths of a Tunnel's streams. */
export const STREAM = {
  /** A device's GET, whose target is in a header: the Tunnel answers it, or with a doorbell. */
  get: "/get",
  /** Data of the relay or endpoint, until it pauses or ends. */
  pull: "/pull",
  /** The body of a LongLived POST. */
  push: "/push",
  /** A KeepAlive POST over 32768 bytes, whose target and length are in headers. */
  exchange: "/exchange",
  /** A WebSocket that closes with the virtual connection. */
  over: "/over",
  /** A WebSocket of the device's Egress, for batches. Its end tells each of the two of the end of the other. */
  egress: "/egress",
  /** A WebSocket for batches, from the Tunnel of another device or from a Link. */
  batches: "/batches",
} as const;

/** Where a batch on a WebSocket to a Tunnel goes, as the arguments of `stream` say it. */
export interface BatchTarget {
  readonly peer: string;
  readonly generation: number;
}

/** Whether a Tunnel took the bytes that a Worker brought. */
export type Verdict =
  | { readonly ok: true }
  | { readonly ok: false; readonly reason: Reason; readonly detail?: string; readonly retryAfter?: number };

export type Refused = Extract<Verdict, { ok: false }>;

export const OK: Verdict = { ok: true };

export function refused(reason: Reason): Refused {
  return { ok: false, reason };
}

/**
 * Result of a Polling exchange: the body of its answer, or why there is none. `scope` says whether that ends the whole
 * virtual connection.
 */
export type Exchange =
  | { readonly ok: true; readonly body: Uint8Array }
  | {
      readonly ok: false;
      readonly reason: Reason;
      readonly scope: "request" | "connection";
      readonly detail?: string;
      readonly retryAfter?: number;
    };

/** The object of one virtual connection, named by its GUID. */
export interface TunnelRpc extends Rpc.DurableObjectBranded, ConsumerRpc, SenderRpc, StreamRpc, AlarmRpc {
  fetch(request: Request): Promise<Response>;
  post(caller: Caller, target: LongLivedTarget, octets: Uint8Array): Promise<Verdict>;
  push(caller: Caller, octets: Uint8Array): Promise<Verdict>;
  exchange(caller: Caller, target: KeepAliveTarget, body: Uint8Array): Promise<Verdict>;
  /** @param offeredBody octets of a body that the device offers, in the probe */
  poll(caller: Caller, poll: Poll, offeredBody: number | undefined): Promise<Exchange>;
  /** A streamed KeepAlive POST has broken off, and may be repeated. */
  brokeOff(caller: Caller, target: KeepAliveTarget): Promise<void>;
  end(caller: Caller, reason: Reason, target: LongLivedTarget | KeepAliveTarget): Promise<void>;
  /** The Worker has refused a request because its token was revoked. */
  judge(): Promise<void>;
  /** @param returnTime in how many seconds the device should come back */
  rest(returnTime: number): Promise<void>;
  status(): Promise<TunnelStatus>;
}

/** Status for tests and operators. `since` is when the object woke, in milliseconds since 1970. */
export interface TunnelStatus {
  readonly live: boolean;
  readonly ended: Reason | undefined;
  readonly since: number;
}
