/**
 * KeepAlive at the Worker: a GET is parked here until the Tunnel has octets for it or its hold time is over
 * [MS-GRVHENC 3.4.5.1.2]; a POST is one call.
 *
 * A request that is cut off may come again, from a proxy. Of a client that counts its requests the Tunnel knows that one
 * again, and waits for it a little. Of one that does not, what was taken for a GET is lost with it when that is noticed here,
 * and the virtual connection ends by name. An answer that is lost beyond a proxy, which says nothing, cannot be noticed.
 *
 * @module
 */
import { type KeepAliveTarget, requestNumber } from "../../encapsulation/index.ts";
import { answerHeaders, problem } from "../problem.ts";
import { isReason, type Reason } from "../reasons.ts";
import { BELL_CLOSE } from "../rpc/doorbell-protocol.ts";
import { doorbell } from "./doorbell-client.ts";
import { HOLD_TIME } from "./limits.ts";
import type { TunnelStub } from "./tunnel-client.ts";

export async function keepAliveGet(target: KeepAliveTarget, tunnel: TunnelStub, request: Request): Promise<Response> {
  const counted = requestNumber(target) !== undefined;
  const answer = await tunnel.get(target);
  if (answer.webSocket === null) {
    // What was taken for it is lost with its GET, and the virtual connection with it.
    if (request.signal.aborted && !counted) await tunnel.end("DeviceGone", target);
    return answer;
  }
  const bell = doorbell(answer.webSocket);
  const gone = () => bell.close(BELL_CLOSE.deviceGone);
  request.signal.addEventListener("abort", gone);
  if (request.signal.aborted) gone();
  const held = setTimeout(() => bell.say("release"), HOLD_TIME);
  try {
    const ring = await bell.next();
    if (ring.kind === "octets") {
      bell.close(BELL_CLOSE.done);
      // What was rung for is lost with its GET, and the virtual connection with it.
      if (request.signal.aborted && !counted) await tunnel.end("DeviceGone", target);
      return new Response(ring.octets, { headers: answerHeaders() });
    }
    if (ring.kind === "closed" && ring.code === BELL_CLOSE.done) {
      return new Response(new Uint8Array(0), { headers: answerHeaders() });
    }
    return problem(ring.kind === "closed" && isReason(ring.reason) ? ring.reason : "ConnectionLost");
  } finally {
    clearTimeout(held);
    request.signal.removeEventListener("abort", gone);
  }
}

export async function keepAlivePost(
  target: KeepAliveTarget,
  tunnel: TunnelStub,
  body: Uint8Array | Reason,
): Promise<Response> {
  if (typeof body === "string") {
    // The octets of a body that was not taken are missing in the stream: it cannot go on, unless they may come again.
    if (body === "BodyTooLong" || requestNumber(target) === undefined) await tunnel.end(body, target);
    return problem(body);
  }
  const verdict = await tunnel.exchange(target, body);
  if (!verdict.ok) return problem(verdict.reason, verdict.detail, verdict.retryAfter);
  return new Response(new Uint8Array(0), { headers: answerHeaders() });
}
