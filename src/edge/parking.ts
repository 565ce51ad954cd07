/**
 * How a Worker asks a Tunnel to take a GET.
 *
 * @module
 */
import type { Tunnel } from "./tunnel.ts";

export type TunnelStub = DurableObjectStub<Tunnel>;

/** What a Worker's invocation lives in. */
export interface Context {
  waitUntil(promise: Promise<unknown>): void;
}

/** By which header the platform says where a request comes from. */
const SOURCE = "CF-Connecting-IP";

/**
 * Hands a GET to its Tunnel. The answer has a `webSocket`, the doorbell, when the GET is to be parked; otherwise it is
 * what the device is to be answered.
 */
export function park(tunnel: TunnelStub, request: Request): Promise<Response> {
  const source = request.headers.get(SOURCE);
  const headers = { Upgrade: "websocket", ...(source !== null && { [SOURCE]: source }) };
  return tunnel.fetch(`http://tunnel${new URL(request.url).pathname}`, { headers });
}
