/**
 * How a Worker asks a Tunnel to take a GET.
 *
 * @module
 */
import { REASON_HEADER } from "../encapsulation/index.ts";
import { Gate } from "./gate.ts";
import { sourceOf } from "./policy/rate.ts";
import { isReason, problem, type Reason } from "./reasons.ts";
import type { Tunnel } from "./tunnel.ts";

export type TunnelStub = DurableObjectStub<Tunnel>;

/** What a Worker's invocation lives in. */
export interface Context {
  waitUntil(promise: Promise<unknown>): void;
}

const gate = new Gate();

/** Asks a Tunnel something that may be the first that it hears, when its source's turn has come. */
export function askPost<T extends { readonly ok: true } | Refusal>(
  guid: string,
  source: string,
  call: () => Promise<T>,
): Promise<T | Refusal> {
  return gate.ask<T | Refusal>(source, guid, call, {
    reasonOf: (answer) => (answer.ok ? undefined : answer.reason),
    turn: (turned) => ({ ok: false, ...turned }),
  });
}

type Refusal = {
  readonly ok: false;
  readonly reason: Reason;
  readonly detail?: string;
  readonly retryAfter?: number;
};

/** The same of a GET. */
export function askGet(guid: string, headers: Headers, call: () => Promise<Response>): Promise<Response> {
  return gate.ask(sourceOf(headers), guid, call, {
    reasonOf(answer) {
      const reason = answer.headers.get(REASON_HEADER);
      return reason !== null && isReason(reason) ? reason : undefined;
    },
    turn: ({ reason, retryAfter }) => problem(reason, undefined, retryAfter),
  });
}

/** By which header the platform says where a request comes from. */
const SOURCE = "CF-Connecting-IP";

/**
 * Hands a GET to its Tunnel. The answer has a `webSocket`, the doorbell, when the GET is to be parked; otherwise it is
 * what the device is to be answered.
 */
export function park(guid: string, tunnel: TunnelStub, request: Request): Promise<Response> {
  const source = request.headers.get(SOURCE);
  const headers = { Upgrade: "websocket", ...(source !== null && { [SOURCE]: source }) };
  const path = new URL(request.url).pathname;
  return askGet(guid, request.headers, () => tunnel.fetch(`http://tunnel${path}`, { headers }));
}
