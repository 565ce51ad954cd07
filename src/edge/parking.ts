/**
 * How a Worker speaks with a Tunnel: each call says for whom, so that a Tunnel knows its owner from strangers.
 *
 * @module
 */
import type { KeepAliveTarget, LongLivedTarget } from "../encapsulation/index.ts";
import type { Verdict } from "./live.ts";
import type { Reason } from "./reasons.ts";
import type { Principal } from "./tokens.ts";
import type { Tunnel } from "./tunnel.ts";

/** What a Worker's invocation lives in. */
export interface Context {
  waitUntil(promise: Promise<unknown>): void;
}

/** A Tunnel, spoken to for one principal. */
export interface TunnelStub {
  post(target: LongLivedTarget, octets: Uint8Array): Promise<Verdict>;
  push(octets: Uint8Array): Promise<Verdict>;
  exchange(target: KeepAliveTarget, body: Uint8Array): Promise<Verdict>;
  end(reason: Reason, target: LongLivedTarget | KeepAliveTarget): Promise<void>;
  fetch(url: string, init?: { method?: string; headers?: Record<string, string>; body?: BodyInit }): Promise<Response>;
}

/** The header of a request to a Tunnel that says for whom it is. Requests are made anew here: nobody else can set it. */
const PRINCIPAL = "Grooveway-Principal";

export function tunnelFor(stub: DurableObjectStub<Tunnel>, principal: Principal): TunnelStub {
  const header = encodeURIComponent(JSON.stringify(principal));
  return {
    post: (target, octets) => stub.post(principal, target, octets),
    push: (octets) => stub.push(principal, octets),
    exchange: (target, body) => stub.exchange(principal, target, body),
    end: (reason, target) => stub.end(principal, reason, target),
    fetch: (url, init = {}) => stub.fetch(url, { ...init, headers: { ...init.headers, [PRINCIPAL]: header } }),
  };
}

/** For whom a request to a Tunnel is. */
export function principalOf(request: Request): Principal {
  const header = request.headers.get(PRINCIPAL);
  if (header === null) throw new Error("a request to a Tunnel says for whom it is");
  return JSON.parse(decodeURIComponent(header)) as Principal;
}

/**
 * Hands a GET to its Tunnel. The answer has a `webSocket`, the doorbell, when the GET is to be parked, or the device's own;
 * otherwise it is what the device is to be answered.
 */
export function park(tunnel: TunnelStub, request: Request): Promise<Response> {
  return tunnel.fetch(`http://tunnel${new URL(request.url).pathname}`, { headers: { Upgrade: "websocket" } });
}
