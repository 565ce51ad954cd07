/**
 * The Worker's client of a Tunnel. Every call names its caller, so that the Tunnel can tell its owner from strangers.
 *
 * @module
 */

import { hasToken } from "../../auth/principal.ts";
import {
  type KeepAliveTarget,
  type LongLivedTarget,
  type Poll,
  REASON_HEADER,
  type Target,
} from "../../encapsulation/index.ts";
import { gate, tokenSource } from "../admission/source-gate.ts";
import type { Route } from "../origin/relay-access.ts";
import { problem } from "../problem.ts";
import { isReason, type Reason } from "../reasons.ts";
import {
  CALLER,
  type Caller,
  type Exchange,
  LENGTH,
  STREAM,
  type TunnelRpc,
  targetHeader,
  type Verdict,
} from "../rpc/tunnel-rpc.ts";
import type { Bell, TunnelRing } from "./bell.ts";

/** The execution context of a Worker's invocation. */
export interface Context {
  waitUntil(promise: Promise<unknown>): void;
}

/** An admitted request of a virtual connection. */
export interface AdmittedRequest<T extends Target> {
  readonly target: T;
  readonly route: Route;
  readonly tunnel: TunnelStub;
  readonly request: Request;
  readonly context: Context;
}

/** Resolves when the device aborts a request before its answer is complete. */
export function goneOf({ signal }: Request): Promise<"DeviceGone"> {
  return new Promise((resolve) => {
    signal.addEventListener("abort", () => resolve("DeviceGone"));
    if (signal.aborted) resolve("DeviceGone");
  });
}

/** A LongLived GET whose answer has begun. */
export interface AnsweredGet {
  readonly target: LongLivedTarget;
  readonly tunnel: TunnelStub;
  readonly bell: Bell<TunnelRing>;
  /** The first bytes of the answer. */
  readonly echo: Uint8Array;
  /** Aborts when the virtual connection has ended. */
  readonly over: AbortSignal;
}

/** A Tunnel as one caller sees it. Calls that may open a virtual connection pass the source gate first. */
export interface TunnelStub {
  post(target: LongLivedTarget, octets: Uint8Array): Promise<Verdict>;
  push(octets: Uint8Array): Promise<Verdict>;
  exchange(target: KeepAliveTarget, body: Uint8Array): Promise<Verdict>;
  poll(poll: Poll, offeredBody: number | undefined): Promise<Exchange>;
  /** Hands over a GET. The Tunnel answers it, or parks it and answers with a doorbell. */
  get(target: Target): Promise<Response>;
  /** A KeepAlive POST that was streamed has broken off, and may be repeated. */
  brokeOff(target: KeepAliveTarget): Promise<void>;
  end(reason: Reason, target: LongLivedTarget | KeepAliveTarget): Promise<void>;
  /** Streams the data for the device, until it pauses or ends. */
  pull(): Promise<Response>;
  /** Streams the body of a LongLived POST. */
  pushStream(body: ReadableStream<Uint8Array>): Promise<Response>;
  /** Streams a KeepAlive POST over 32768 bytes. */
  exchangeStream(target: KeepAliveTarget, length: number, body: ReadableStream<Uint8Array>): Promise<Response>;
  /** Answers with a WebSocket that closes with the virtual connection. Waiting for that does not keep the Tunnel awake. */
  watch(): Promise<Response>;
}

export function tunnelFor(stub: DurableObjectStub<TunnelRpc>, guid: string, caller: Caller): TunnelStub {
  const header = encodeURIComponent(JSON.stringify(caller));
  // Many devices may share an address. One that has shown a token answers for itself alone.
  const source = hasToken(caller.principal) ? tokenSource(caller.principal) : caller.source;
  const fetch = (path: string, init: { method?: string; headers?: Record<string, string>; body?: BodyInit } = {}) =>
    stub.fetch(`http://tunnel${path}`, { ...init, headers: { ...init.headers, [CALLER]: header } });
  const ask = <T extends { readonly ok: true } | { readonly ok: false; readonly reason: Reason }>(
    call: () => Promise<T>,
  ): Promise<T | Refusal> =>
    gate.ask<T | Refusal>(source, guid, call, {
      reasonOf: (answer) => (answer.ok ? undefined : answer.reason),
      turn: (turned) => ({ ok: false, scope: "request", ...turned }),
    });
  const askByFetch = (call: () => Promise<Response>): Promise<Response> =>
    gate.ask(source, guid, call, {
      reasonOf(answer) {
        // Reading headers costs more than everything else here.
        if (answer.status < 400) return undefined;
        const reason = answer.headers.get(REASON_HEADER);
        return reason !== null && isReason(reason) ? reason : undefined;
      },
      turn: ({ reason, retryAfter }) => problem(reason, undefined, retryAfter),
    });
  return {
    post: (target, octets) => ask<Verdict>(async () => stub.post(caller, target, octets)),
    push: (octets) => stub.push(caller, octets),
    exchange: (target, body) => ask<Verdict>(async () => stub.exchange(caller, target, body)),
    poll: (poll, offeredBody) => ask<Exchange>(async () => stub.poll(caller, poll, offeredBody)),
    get(target) {
      const headers = { Upgrade: "websocket", ...targetHeader(target) };
      return askByFetch(() => fetch(STREAM.get, { headers }));
    },
    brokeOff: (target) => stub.brokeOff(caller, target),
    end: (reason, target) => stub.end(caller, reason, target),
    pull: () => fetch(STREAM.pull),
    pushStream: (body) => fetch(STREAM.push, { method: "POST", body }),
    exchangeStream(target, length, body) {
      const headers = { ...targetHeader(target), [LENGTH]: String(length) };
      return askByFetch(() => fetch(STREAM.exchange, { method: "POST", headers, body }));
    },
    watch: () => fetch(STREAM.over, { headers: { Upgrade: "websocket" } }),
  };
}

type Refusal = {
  readonly ok: false;
  readonly reason: Reason;
  readonly scope: "request" | "connection";
  readonly detail?: string;
  readonly retryAfter?: number;
};
