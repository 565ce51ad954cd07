/**
 * The Worker's client of a Tunnel. Every call names its caller, so that the Tunnel can tell its owner from strangers.
 *
 * @module
 */

import {
  formatTarget,
  type KeepAliveTarget,
  type LongLivedTarget,
  REASON_HEADER,
  type Target,
} from "../../encapsulation/index.ts";
import { gate } from "../admission/source-gate.ts";
import { problem } from "../problem.ts";
import { isReason, type Reason } from "../reasons.ts";
import { CALLER, type Caller, type Exchange, type TunnelRpc, type Verdict } from "../rpc/tunnel-rpc.ts";

/** The execution context of a Worker's invocation. */
export interface Context {
  waitUntil(promise: Promise<unknown>): void;
}

/** A Tunnel as one caller sees it. Calls that may open a virtual connection pass the source gate first. */
export interface TunnelStub {
  post(target: LongLivedTarget, octets: Uint8Array): Promise<Verdict>;
  push(octets: Uint8Array): Promise<Verdict>;
  exchange(target: KeepAliveTarget, body: Uint8Array): Promise<Verdict>;
  poll(body: Uint8Array): Promise<Exchange>;
  /** Hands over a GET. The Tunnel answers it, or parks it and answers with a doorbell. */
  get(target: Target): Promise<Response>;
  end(reason: Reason, target: LongLivedTarget | KeepAliveTarget): Promise<void>;
  fetch(url: string, init?: { method?: string; headers?: Record<string, string>; body?: BodyInit }): Promise<Response>;
}

export function tunnelFor(stub: DurableObjectStub<TunnelRpc>, guid: string, caller: Caller): TunnelStub {
  const header = encodeURIComponent(JSON.stringify(caller));
  const fetch: TunnelStub["fetch"] = (url, init = {}) =>
    stub.fetch(url, { ...init, headers: { ...init.headers, [CALLER]: header } });
  const ask = <T extends { readonly ok: true } | { readonly ok: false; readonly reason: Reason }>(
    call: () => Promise<T>,
  ): Promise<T | Refusal> =>
    gate.ask<T | Refusal>(caller.source, guid, call, {
      reasonOf: (answer) => (answer.ok ? undefined : answer.reason),
      turn: (turned) => ({ ok: false, scope: "request", ...turned }),
    });
  return {
    post: (target, octets) => ask<Verdict>(async () => stub.post(caller, target, octets)),
    push: (octets) => stub.push(caller, octets),
    exchange: (target, body) => ask<Verdict>(async () => stub.exchange(caller, target, body)),
    poll: (body) => ask<Exchange>(async () => stub.poll(caller, body)),
    get(target) {
      const url = `http://tunnel${formatTarget(target)}`;
      return gate.ask(caller.source, guid, () => fetch(url, { headers: { Upgrade: "websocket" } }), {
        reasonOf(answer) {
          // Reading headers costs more than everything else here.
          if (answer.status < 400) return undefined;
          const reason = answer.headers.get(REASON_HEADER);
          return reason !== null && isReason(reason) ? reason : undefined;
        },
        turn: ({ reason, retryAfter }) => problem(reason, undefined, retryAfter),
      });
    },
    end: (reason, target) => stub.end(caller, reason, target),
    fetch,
  };
}

type Refusal = {
  readonly ok: false;
  readonly reason: Reason;
  readonly scope: "request" | "connection";
  readonly detail?: string;
  readonly retryAfter?: number;
};
