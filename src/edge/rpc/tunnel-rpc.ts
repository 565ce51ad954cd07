/**
 * What a Tunnel answers to: calls of a Worker, each of which says for whom, and streams by `fetch`.
 *
 * @module
 */
import type { Principal } from "../../auth/principal.ts";
import type { KeepAliveTarget, LongLivedTarget } from "../../encapsulation/index.ts";
import type { Reason } from "../reasons.ts";
import type { ConsumerRpc, SenderRpc } from "./mailbox-rpc.ts";

/** For whom a Worker speaks with a Tunnel. */
export interface Caller {
  readonly principal: Principal;
  /** The moment that the judgement about its token dates from, milliseconds since 1970. */
  readonly asOf: number;
  /** Where the request comes from, as sourceOf tells it. */
  readonly source: string;
}

/** The header of a request to a Tunnel that says for whom it is. Requests are made anew here: nobody else can set it. */
export const CALLER = "Grooveway-Caller";

/** Requests of a virtual connection are for the same caller nearly always. */
let last: { readonly header: string; readonly caller: Caller } | undefined;

/** For whom a request to a Tunnel is. */
export function callerOf(request: Request): Caller {
  const header = request.headers.get(CALLER);
  if (header === null) throw new Error("a request to a Tunnel says for whom it is");
  if (last?.header !== header) last = { header, caller: JSON.parse(decodeURIComponent(header)) as Caller };
  return last.caller;
}

/** Paths of the streams of a Tunnel. Any other path is a target, of which the Tunnel takes the GET. */
export const STREAM = {
  /** What the origin sends, until it pauses or ends. */
  pull: "/pull",
  /** The body of a POST. */
  push: "/push",
  /** A WebSocket that closes with the virtual connection. */
  over: "/over",
} as const;

/** What became of octets that a Worker brought. */
export type Verdict =
  | { readonly ok: true }
  | { readonly ok: false; readonly reason: Reason; readonly detail?: string; readonly retryAfter?: number };

export type Refused = Extract<Verdict, { ok: false }>;

export const OK: Verdict = { ok: true };

export function refused(reason: Reason): Refused {
  return { ok: false, reason };
}

/** What became of an exchange: the body of its answer, or why there is none and whether the virtual connection goes with it. */
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
export interface TunnelRpc extends Rpc.DurableObjectBranded, ConsumerRpc, SenderRpc {
  fetch(request: Request): Promise<Response>;
  post(caller: Caller, target: LongLivedTarget, octets: Uint8Array): Promise<Verdict>;
  push(caller: Caller, octets: Uint8Array): Promise<Verdict>;
  exchange(caller: Caller, target: KeepAliveTarget, body: Uint8Array): Promise<Verdict>;
  poll(caller: Caller, body: Uint8Array): Promise<Exchange>;
  end(caller: Caller, reason: Reason, target: LongLivedTarget | KeepAliveTarget): Promise<void>;
  status(): Promise<TunnelStatus>;
}

/** What there is, for tests and for an operator's look: `since` is when the object woke, in milliseconds since 1970. */
export interface TunnelStatus {
  readonly live: boolean;
  readonly ended: Reason | undefined;
  readonly since: number;
}
