/**
 * LongLived at the Worker: two pumps, one for each endless body [MS-GRVHENC 3.2].
 *
 * Each has two gears. A quiet connection is parked here: single calls up, the doorbell down. The first octets that come
 * in bulk shift it up for good: from then on the platform copies between device and relay, through no code of ours,
 * at several times the rate. The relay's socket keeps the object in memory in any case.
 *
 * @module
 */

import { ECHO_STRING, type LongLivedTarget, REASON_HEADER } from "../../encapsulation/index.ts";
import { type ByteReader, byteReader, READ_SIZE } from "../../lib/runtime/byte-reader.ts";
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
  // Until the handshake is complete there is nothing to answer: the first ring is the echo string.
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

/** Writes what the bell rings for to the device, until either is gone. A device that does not read stops it here. */
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
    // There is no close message: the end of the connection before the end of the body is one [MS-GRVHENC 3.2.4.1].
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

/** Ends the GET when the bell is closed, also one that waits for a device that does not read. */
async function endWith(bell: Doorbell, over: AbortController, ends: boolean, gone: Promise<unknown>): Promise<void> {
  const reason = await bell.closed;
  // Only the answer of the POST can say why: it comes first.
  if (reason === "TokenExpired" || reason === "TokenRevoked") await pause(LINGER);
  else await linger(reason, ends, gone);
  over.abort(new Error("virtual connection closed"));
}

/** When the relay has ended in good order its last octets are still on their way to the device. */
async function linger(reason: string, ends: boolean, gone: Promise<unknown>): Promise<void> {
  if (reason === "OriginClosed") await Promise.race([pause(ends ? FAREWELL : LINGER), gone]);
}

/** Resolves when the device has ended a request before its answer was complete. */
function goneOf({ signal }: Request): Promise<"DeviceGone"> {
  return new Promise((resolve) => {
    signal.addEventListener("abort", () => resolve("DeviceGone"));
    if (signal.aborted) resolve("DeviceGone");
  });
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

async function pipeDown(
  target: LongLivedTarget,
  tunnel: TunnelStub,
  device: WritableStream<Uint8Array>,
  over: AbortSignal,
): Promise<void> {
  const { ok, body } = await tunnel.fetch(`http://tunnel${STREAM.pull}`);
  // A refusal's body is not for the device: the virtual connection is over, and the bell says so.
  if (ok && body !== null) {
    await body.pipeTo(device, { preventClose: true, signal: over }).catch(async (error: unknown) => {
      // The body that was declared cannot take more than was declared [MS-GRVHENC 3.2.4.2].
      if (error instanceof TypeError) await tunnel.end("ContentLengthReached", target);
      throw error;
    });
  }
  // At the relay's end the bell is closed as well, and after it the GET.
  over.addEventListener("abort", () => void device.abort(over.reason).catch(() => undefined));
  if (over.aborted) await device.abort(over.reason).catch(() => undefined);
}

/** A GET whose virtual connection ends at this edge. */
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
  // Only once the Tunnel has taken this POST may its end be the end of the virtual connection: the GUID in the URL may
  // be that of somebody else's.
  const taken = await tunnel.post(target, first);
  if (!taken.ok) return problem(taken.reason, taken.detail, taken.retryAfter);
  // What ends elsewhere ends this POST as well, also while its device is silent or the relay takes nothing.
  const over = overOf(tunnel).catch(() => "ConnectionLost" as const);
  const bounded = Number(request.headers.get("content-length") ?? Number.NaN) <= target.contentLength;
  const pumped = ends ? driveUp(tunnel, read, follow(first)) : pumpUp(tunnel, read, bounded ? body : undefined);
  // Nor does its reset wait until the relay, which may have stopped reading, has taken what came before.
  const gone = goneOf(request);
  const reason = await Promise.race([pumped, over, gone]);
  // An object that has lost its memory need not be told, and cannot.
  await tunnel.end(reason, target).catch(() => undefined);
  // A device may take the answer of its POST for the end of both: what the GET still carries comes first.
  await linger(reason, ends, gone);
  return problem(reason);
}

/**
 * Takes a POST's octets to the Tunnel until one of both ends it, and tells why.
 *
 * @param body the POST's body when it cannot be longer than the target says: then it may go uncounted
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
    // A body of which something was read cannot be handed on as it is.
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

/** Resolves with the reason when the virtual connection is over; meanwhile its object may sleep. */
async function overOf(tunnel: TunnelStub): Promise<Reason> {
  const { webSocket } = await tunnel.fetch(`http://tunnel${STREAM.over}`, { headers: { Upgrade: "websocket" } });
  if (webSocket === null) return "ConnectionLost";
  const reason = await doorbell(webSocket).closed;
  return isReason(reason) ? reason : "ConnectionLost";
}

/** Follows the commands of a POST from its first octets on. */
function follow(first: Uint8Array): CommandWalker {
  const walker = new CommandWalker(ECHO_STRING.length);
  walker.push(first);
  return walker;
}
