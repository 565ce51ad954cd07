/**
 * LongLived at the Worker for virtual connections that are passed through to an origin relay: pumps in two gears.
 *
 * A quiet connection is parked here: single calls up, the doorbell down. The first bulk data shifts up for good: from
 * then on the platform copies between device and relay, without our code, at several times the rate. Staying in high
 * gear costs nothing, since the relay's socket keeps the object in memory anyway.
 *
 * @module
 */

import { type LongLivedTarget, REASON_HEADER } from "../../encapsulation/index.ts";
import { EARLY_END } from "../../lib/early-end.ts";
import type { ByteReader } from "../../lib/runtime/byte-reader.ts";
import { isReason, type Reason } from "../reasons.ts";
import { BELL_CLOSE } from "../rpc/doorbell-protocol.ts";
import { refused } from "../rpc/tunnel-rpc.ts";
import { BODY_TIMEOUT, BULK_OCTETS } from "./limits.ts";
import type { AnsweredGet, TunnelStub } from "./tunnel-client.ts";

/** Writes each ring's data to the device, until either side is gone. A slow device blocks it here. */
export async function pumpDown(get: AnsweredGet, device: WritableStream<Uint8Array>): Promise<void> {
  const { bell, echo, over } = get;
  const writer = device.getWriter();
  const end = () => {
    // There is no close message: ending the HTTP connection before the end of the body closes it [MS-GRVHENC 3.2.4.1].
    writer.abort(new Error(EARLY_END)).catch(() => undefined);
  };
  over.addEventListener("abort", end);
  try {
    await writer.write(echo);
    for (;;) {
      bell.say("arm");
      const heard = await bell.next();
      if (heard.type !== "ring") return;
      if (heard.ring.kind === "pull") break;
      await writer.write(heard.ring.octets);
    }
    over.removeEventListener("abort", end);
    writer.releaseLock();
    await pipeDown(get, device);
  } catch {
    bell.close(BELL_CLOSE.deviceGone);
  }
}

async function pipeDown({ target, tunnel, over }: AnsweredGet, device: WritableStream<Uint8Array>): Promise<void> {
  const { ok, body } = await tunnel.pull();
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

/** A POST whose first bytes the Tunnel has taken. */
export interface TakenPost {
  readonly target: LongLivedTarget;
  readonly request: Request;
  readonly body: ReadableStream<Uint8Array>;
  /** Reads the body. */
  readonly read: ByteReader;
}

/** Copies a POST's bytes to the Tunnel until either side ends it, and returns why. */
export async function pumpUp(tunnel: TunnelStub, { target, request, body, read }: TakenPost): Promise<Reason> {
  // A body whose Content-Length is within the target's may be piped uncounted.
  const bounded = Number(request.headers.get("content-length") ?? Number.NaN) <= target.contentLength;
  for (;;) {
    const octets = await read(BODY_TIMEOUT).catch(() => "end" as const);
    if (octets === "late") return "ReceiveTimeout";
    if (octets === "end") return "DeviceGone";
    const verdict = await tunnel.push(octets).catch(() => refused("ConnectionLost"));
    if (!verdict.ok) return verdict.reason;
    if (!bounded || octets.length < BULK_OCTETS) continue;
    read.release();
    return pipeUp(tunnel, body);
  }
}

async function pipeUp(tunnel: TunnelStub, body: ReadableStream<Uint8Array>): Promise<Reason> {
  try {
    // The platform does not forward a body that is partly read, so it goes through a new stream.
    const { readable, writable } = new IdentityTransformStream();
    const answered = tunnel.pushStream(readable);
    await body.pipeTo(writable).catch(() => undefined);
    const answer = await answered;
    if (answer.ok) return "DeviceGone";
    const reason = answer.headers.get(REASON_HEADER) ?? "";
    return isReason(reason) ? reason : "ConnectionLost";
  } catch {
    return "DeviceGone";
  }
}
