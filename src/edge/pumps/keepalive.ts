/**
 * KeepAlive at the Worker: a GET is parked here until the Tunnel has data for it or its hold time is over
 * [MS-GRVHENC 3.4.5.1.2]; a POST is one call.
 *
 * A proxy may repeat a request whose connection broke. If the client numbers its requests, the Tunnel recognizes the
 * repeat, and waits a little for it. Otherwise the data taken for a broken GET is lost, and the virtual connection ends
 * with `DeviceGone`. The Worker cannot notice an answer that is lost beyond a proxy.
 *
 * @module
 */
import { heldFor, type KeepAliveTarget, requestNumber } from "../../encapsulation/index.ts";
import { answerHeaders, problem } from "../problem.ts";
import { isReason, type Reason } from "../reasons.ts";
import { BELL_CLOSE } from "../rpc/doorbell-protocol.ts";
import { tunnelBell } from "./bell.ts";
import { type AdmittedRequest, goneOf } from "./tunnel-client.ts";

export async function keepAliveGet({ target, tunnel, request }: AdmittedRequest<KeepAliveTarget>): Promise<Response> {
  const counted = requestNumber(target) !== undefined;
  const answer = await tunnel.get(target);
  if (answer.webSocket === null) {
    // The data in the answer is lost with its GET, so the virtual connection cannot go on.
    if (request.signal.aborted && !counted) await tunnel.end("DeviceGone", target);
    return answer;
  }
  const bell = tunnelBell(answer.webSocket, request.signal);
  const hold = heldFor(target.hold) * 1000;
  let heard = await bell.next(hold);
  if (heard.type === "late") {
    bell.say("release");
    heard = await bell.next();
  }
  if (heard.type === "ring" && heard.ring.kind === "octets") {
    bell.close(BELL_CLOSE.done);
    // The data of this ring is lost with its GET, so the virtual connection cannot go on.
    if (request.signal.aborted && !counted) await tunnel.end("DeviceGone", target);
    return new Response(heard.ring.octets, { headers: answerHeaders() });
  }
  if (heard.type === "closed" && heard.code === BELL_CLOSE.done) {
    return new Response(new Uint8Array(0), { headers: answerHeaders() });
  }
  return problem(heard.type === "closed" && isReason(heard.reason) ? heard.reason : "ConnectionLost");
}

/** Handles a POST over 32768 bytes of a device that has agreed on longer bodies with its Tunnel. */
export async function keepAliveStream(
  { target, tunnel, request }: AdmittedRequest<KeepAliveTarget>,
  length: number,
): Promise<Response> {
  const gone = goneOf(request).then((reason) => problem(reason));
  const answered = tunnel.exchangeStream(target, length, request.body ?? new Blob([]).stream());
  try {
    return await Promise.race([answered, gone]);
  } finally {
    if (request.signal.aborted) await tunnel.brokeOff(target);
  }
}

/** @param body the POST's whole body, or why it has not come */
export async function keepAlivePost(
  { target, tunnel }: AdmittedRequest<KeepAliveTarget>,
  body: Uint8Array | Reason,
): Promise<Response> {
  if (typeof body === "string") {
    // The body's bytes are missing in the stream. It can go on only if the device may repeat a numbered request.
    if (body === "BodyTooLong" || requestNumber(target) === undefined) await tunnel.end(body, target);
    return problem(body);
  }
  const verdict = await tunnel.exchange(target, body);
  if (!verdict.ok) return problem(verdict.reason, verdict.detail, verdict.retryAfter);
  return new Response(new Uint8Array(0), { headers: answerHeaders() });
}
