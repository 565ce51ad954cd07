/**
 * LongLived at the Worker: two pumps, one for each endless body [MS-GRVHENC 3.2].
 *
 * Each has two gears. A quiet connection is parked here: single calls up, the doorbell down. The first bulk data shifts
 * up for good: from then on the platform copies between device and relay, without our code, at several times the rate.
 * Staying in high gear costs nothing, since the relay's socket keeps the object in memory anyway. Virtual connections
 * that end at this edge use longlived-terminated.ts instead.
 *
 * @module
 */

import { ECHO_STRING, type LongLivedTarget, REASON_HEADER } from "../../encapsulation/index.ts";
import { type ByteReader, byteReader, READ_SIZE } from "../../lib/runtime/byte-reader.ts";
import { sleep } from "../../lib/runtime/timeout.ts";
import { CommandWalker } from "../../sstp/index.ts";
import { answerHeaders, problem } from "../problem.ts";
import { isReason, type Reason } from "../reasons.ts";
import { BELL_CLOSE } from "../rpc/doorbell-protocol.ts";
import { STREAM, type Verdict } from "../rpc/tunnel-rpc.ts";
import { type Doorbell, doorbell } from "./doorbell-client.ts";
import { BODY_TIMEOUT, BULK_OCTETS, FAREWELL, LINGER } from "./limits.ts";
import { driveDown, driveUp } from "./longlived-terminated.ts";
import type { Context, TunnelStub } from "./tunnel-client.ts";

export async function longLivedGet(
  target: LongLivedTarget,
  tunnel: TunnelStub,
  request: Request,
  context: Context,
  ends: boolean,
): Promise<Response> {
  const answer = await tunnel.get(target);
  if (answer.webSocket === null) return answer;
  const bell = doorbell(answer.webSocket);
  const gone = goneOf(request);
  void gone.then(() => bell.close(BELL_CLOSE.deviceGone));
  // The answer waits for the end of the handshake: the first ring is the echo string.
  const first = await bell.next();
  if (first.kind !== "octets") {
    return problem(first.kind === "closed" && isReason(first.reason) ? first.reason : "ConnectionLost");
  }
  const { readable, writable } = new FixedLengthStream(target.contentLength);
  const over = new AbortController();
  context.waitUntil(
    ends
      ? driveHere(bell, first.octets, tunnel, writable, over.signal)
      : pumpDown(bell, first.octets, target, tunnel, writable, over.signal),
  );
  context.waitUntil(endWith(bell, over, ends, gone));
  return new Response(readable, { headers: answerHeaders() });
}

/** Writes each ring's data to the device, until either side is gone. A slow device blocks it here. */
async function pumpDown(
  bell: Doorbell,
  echo: Uint8Array,
  target: LongLivedTarget,
  tunnel: TunnelStub,
  device: WritableStream<Uint8Array>,
  over: AbortSignal,
): Promise<void> {
  const writer = device.getWriter();
  const end = () => {
    // There is no close message: ending the HTTP connection before the end of the body closes it [MS-GRVHENC 3.2.4.1].
    writer.abort(new Error("virtual connection closed")).catch(() => undefined);
  };
  over.addEventListener("abort", end);
  try {
    await writer.write(echo);
    for (;;) {
      bell.say("arm");
      const ring = await bell.next();
      if (ring.kind === "closed") return;
      if (ring.kind === "pull") break;
      await writer.write(ring.octets);
    }
    over.removeEventListener("abort", end);
    writer.releaseLock();
    await pipeDown(target, tunnel, device, over);
  } catch {
    bell.close(BELL_CLOSE.deviceGone);
  }
}

/** Ends the GET when the bell closes, even while a slow device blocks it. */
async function endWith(bell: Doorbell, over: AbortController, ends: boolean, gone: Promise<unknown>): Promise<void> {
  const reason = await bell.closed;
  // Only the POST's answer can carry these reasons, so it goes first.
  if (reason === "TokenExpired" || reason === "TokenRevoked") await sleep(LINGER);
  else await linger(reason, ends, gone);
  over.abort(new Error("virtual connection closed"));
}

/** After an orderly end of the relay, its last bytes are still in flight to the device. */
async function linger(reason: string, ends: boolean, gone: Promise<unknown>): Promise<void> {
  if (reason === "OriginClosed") await Promise.race([sleep(ends ? FAREWELL : LINGER), gone]);
}

/** Resolves when the device aborts a request before its answer is complete. */
function goneOf({ signal }: Request): Promise<"DeviceGone"> {
  return new Promise((resolve) => {
    signal.addEventListener("abort", () => resolve("DeviceGone"));
    if (signal.aborted) resolve("DeviceGone");
  });
}

async function pipeDown(
  target: LongLivedTarget,
  tunnel: TunnelStub,
  device: WritableStream<Uint8Array>,
  over: AbortSignal,
): Promise<void> {
  const { ok, body } = await tunnel.fetch(`http://tunnel${STREAM.pull}`);
  // A refusal's body is not for the device: the virtual connection has ended, and the bell will say so.
  if (ok && body !== null) {
    await body.pipeTo(device, { preventClose: true, signal: over }).catch(async (error: unknown) => {
      // The stream takes no more than the declared Content-Length [MS-GRVHENC 3.2.4.2].
      if (error instanceof TypeError) await tunnel.end("ContentLengthReached", target);
      throw error;
    });
  }
  // When the relay ends, the bell closes too, and ends the GET.
  over.addEventListener("abort", () => void device.abort(over.reason).catch(() => undefined));
  if (over.aborted) await device.abort(over.reason).catch(() => undefined);
}

/** Drives a GET whose virtual connection ends at this edge. */
async function driveHere(
  bell: Doorbell,
  echo: Uint8Array,
  tunnel: TunnelStub,
  device: WritableStream<Uint8Array>,
  over: AbortSignal,
): Promise<void> {
  const writer = device.getWriter();
  over.addEventListener("abort", () => void writer.abort(over.reason).catch(() => undefined));
  await driveDown(bell, echo, tunnel, writer);
}

export async function longLivedPost(
  target: LongLivedTarget,
  tunnel: TunnelStub,
  request: Request,
  ends: boolean,
): Promise<Response> {
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
  const bounded = Number(request.headers.get("content-length") ?? Number.NaN) <= target.contentLength;
  const pumped = ends ? driveUp(tunnel, read, follow(first)) : pumpUp(tunnel, read, bounded ? body : undefined);
  // A reset of the POST counts at once, even while a blocked relay has not taken the bytes before it.
  const gone = goneOf(request);
  const reason = await Promise.race([pumped, over, gone]);
  // This fails if the object has lost its memory, and then it is not needed.
  await tunnel.end(reason, target).catch(() => undefined);
  // A device may take the POST's answer for the end of both requests, so the GET's last bytes go first.
  await linger(reason, ends, gone);
  return problem(reason);
}

/**
 * Copies a POST's bytes to the Tunnel until either side ends it, and returns why.
 *
 * @param body the POST's body, if its Content-Length is within the target's: then it may be piped uncounted
 */
async function pumpUp(
  tunnel: TunnelStub,
  read: ByteReader,
  body: ReadableStream<Uint8Array> | undefined,
): Promise<Reason> {
  for (;;) {
    const octets = await read(BODY_TIMEOUT).catch(() => "end" as const);
    if (octets === "late") return "ReceiveTimeout";
    if (octets === "end") return "DeviceGone";
    const verdict = await tunnel.push(octets).catch(() => refused("ConnectionLost"));
    if (!verdict.ok) return verdict.reason;
    if (body === undefined || octets.length < BULK_OCTETS) continue;
    read.release();
    return pipeUp(tunnel, body);
  }
}

async function pipeUp(tunnel: TunnelStub, body: ReadableStream<Uint8Array>): Promise<Reason> {
  try {
    // The platform does not forward a body that is partly read, so it goes through a new stream.
    const { readable, writable } = new IdentityTransformStream();
    const answered = tunnel.fetch(`http://tunnel${STREAM.push}`, { method: "POST", body: readable });
    await body.pipeTo(writable).catch(() => undefined);
    const answer = await answered;
    if (answer.ok) return "DeviceGone";
    const reason = answer.headers.get(REASON_HEADER) ?? "";
    return isReason(reason) ? reason : "ConnectionLost";
  } catch {
    return "DeviceGone";
  }
}

function refused(reason: Reason): Verdict {
  return { ok: false, reason };
}

/** Resolves with the reason when the virtual connection ends. Waiting does not keep the Tunnel awake. */
async function overOf(tunnel: TunnelStub): Promise<Reason> {
  const { webSocket } = await tunnel.fetch(`http://tunnel${STREAM.over}`, { headers: { Upgrade: "websocket" } });
  if (webSocket === null) return "ConnectionLost";
  const reason = await doorbell(webSocket).closed;
  return isReason(reason) ? reason : "ConnectionLost";
}

/** Follows the commands of a POST from its first bytes on, which begin with the echo string. */
function follow(first: Uint8Array): CommandWalker {
  const walker = new CommandWalker(ECHO_STRING.length);
  walker.push(first);
  return walker;
}
