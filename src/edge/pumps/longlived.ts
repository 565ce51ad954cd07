/**
 * LongLived at the Worker: a GET and a POST with an endless body each [MS-GRVHENC 3.2]. What pumps the bodies depends on
 * the route: longlived-passthrough.ts, or longlived-terminated.ts for virtual connections that end at this edge.
 *
 * @module
 */

import { TOKEN_PROBLEMS } from "../../auth/token-problems.ts";
import type { LongLivedTarget } from "../../encapsulation/index.ts";
import { EARLY_END } from "../../lib/early-end.ts";
import { byteReader, READ_SIZE } from "../../lib/runtime/byte-reader.ts";
import { sleep } from "../../lib/runtime/timeout.ts";
import type { Route } from "../origin/relay-access.ts";
import { answerHeaders, problem } from "../problem.ts";
import { isReason, type Reason } from "../reasons.ts";
import { type Bell, tunnelBell } from "./bell.ts";
import { BODY_TIMEOUT, FAREWELL, LINGER } from "./limits.ts";
import { pumpDown, pumpUp } from "./longlived-passthrough.ts";
import { driveDown, driveUp } from "./longlived-terminated.ts";
import { type AdmittedRequest, goneOf, type TunnelStub } from "./tunnel-client.ts";

export async function longLivedGet(admitted: AdmittedRequest<LongLivedTarget>): Promise<Response> {
  const { target, route, tunnel, request, context } = admitted;
  const answer = await tunnel.get(target);
  if (answer.webSocket === null) return answer;
  const bell = tunnelBell(answer.webSocket, request.signal);
  // The answer waits for the end of the handshake: the first ring is the echo string.
  const first = await bell.next();
  if (first.type !== "ring" || first.ring.kind !== "octets") {
    return problem(first.type === "closed" && isReason(first.reason) ? first.reason : "ConnectionLost");
  }
  const { readable, writable } = new FixedLengthStream(target.contentLength);
  const over = new AbortController();
  const get = { target, tunnel, bell, echo: first.ring.octets, over: over.signal };
  context.waitUntil(route === "mailbox" ? driveDown(get, writable) : pumpDown(get, writable));
  context.waitUntil(endWith(bell, over, route, goneOf(request)));
  return new Response(readable, { headers: answerHeaders() });
}

export async function longLivedPost(admitted: AdmittedRequest<LongLivedTarget>): Promise<Response> {
  const { target, route, tunnel, request } = admitted;
  if (request.body === null) return problem("BadEcho");
  const { body } = request;
  const read = byteReader(body, READ_SIZE);
  const first = await read(BODY_TIMEOUT).catch(() => "end" as const);
  if (typeof first === "string") return problem(first === "late" ? "ReceiveTimeout" : "DeviceGone");
  // Until the Tunnel has accepted this POST, its end must not end the virtual connection: the GUID in the URL may
  // belong to another principal.
  const taken = await tunnel.post(target, first);
  if (!taken.ok) return problem(taken.reason, taken.detail, taken.retryAfter);
  // If the virtual connection ends elsewhere, so does this POST, even while its device is silent or the relay blocks.
  const over = overOf(tunnel).catch(() => "ConnectionLost" as const);
  const pumped = route === "mailbox" ? driveUp(tunnel, read, first) : pumpUp(tunnel, { target, request, body, read });
  // A reset of the POST counts at once, even while a blocked relay has not taken the bytes before it.
  const gone = goneOf(request);
  const reason = await Promise.race([pumped, over, gone]);
  // This fails if the object has lost its memory, and then it is not needed.
  await tunnel.end(reason, target).catch(() => undefined);
  // A device may take the POST's answer for the end of both requests, so the GET's last bytes go first.
  await linger(reason, route, gone);
  return problem(reason);
}

/** Ends the GET when the bell closes, even while a slow device blocks it. */
async function endWith(
  { closed }: Pick<Bell<unknown>, "closed">,
  over: AbortController,
  route: Route,
  gone: Promise<unknown>,
): Promise<void> {
  const reason = await closed;
  // Only the POST's answer can carry these reasons, so it goes first.
  if (Object.hasOwn(TOKEN_PROBLEMS, reason)) await sleep(LINGER);
  else await linger(reason, route, gone);
  over.abort(new Error(EARLY_END));
}

/** How the far end ends in order, and how long its last bytes may take to the device after that. */
const ORDERLY_END: Readonly<Record<Route, { readonly reason: Reason; readonly time: number }>> = {
  mailbox: { reason: "EdgeClosed", time: FAREWELL },
  origin: { reason: "OriginClosed", time: LINGER },
};

/** After an orderly end of the far end, its last bytes are still in flight to the device. */
async function linger(reason: string, route: Route, gone: Promise<unknown>): Promise<void> {
  const end = ORDERLY_END[route];
  if (reason === end.reason) await Promise.race([sleep(end.time), gone]);
}

/** Resolves with the reason when the virtual connection ends. */
async function overOf(tunnel: TunnelStub): Promise<Reason> {
  const { webSocket } = await tunnel.watch();
  if (webSocket === null) return "ConnectionLost";
  const reason = await tunnelBell(webSocket).closed;
  return isReason(reason) ? reason : "ConnectionLost";
}
