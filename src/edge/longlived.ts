/**
 * LongLived at the Worker: two pumps, one for each endless body [MS-GRVHENC 3.2].
 *
 * Each has two gears. A quiet connection is parked here: single calls up, the doorbell down. When octets come in bulk a
 * stream to or from the Tunnel carries them until they pause, since a call costs as much as a quarter megabyte.
 *
 * @module
 */
import { type LongLivedTarget, REASON_HEADER } from "../encapsulation/index.ts";
import { BODY_TIMEOUT, BULK_IDLE, BULK_OCTETS, READ_SIZE } from "./defaults.ts";
import { BELL_CLOSE, type Doorbell, doorbell } from "./doorbell.ts";
import { type Context, park, type TunnelStub } from "./parking.ts";
import { answerHeaders, isReason, problem, type Reason } from "./reasons.ts";
import { byteReader } from "./streams.ts";

export async function longLivedGet(
  target: LongLivedTarget,
  tunnel: TunnelStub,
  request: Request,
  context: Context,
): Promise<Response> {
  const answer = await park(tunnel, request);
  if (answer.webSocket === null) return answer;
  const bell = doorbell(answer.webSocket);
  const gone = () => bell.close(BELL_CLOSE.deviceGone);
  request.signal.addEventListener("abort", gone);
  // Until the handshake is complete there is nothing to answer: the first ring is the echo string.
  const first = await bell.next();
  if (first.kind !== "octets") {
    return problem(first.kind === "closed" && isReason(first.reason) ? first.reason : "ConnectionLost");
  }
  const { readable, writable } = new FixedLengthStream(target.contentLength);
  context.waitUntil(pumpDown(bell, first.octets, tunnel, writable.getWriter()));
  return new Response(readable, { headers: answerHeaders() });
}

/** Writes what the bell rings for to the device, until either is gone. A device that does not read stops it here. */
async function pumpDown(
  bell: Doorbell,
  echo: Uint8Array,
  tunnel: TunnelStub,
  device: WritableStreamDefaultWriter<Uint8Array>,
): Promise<void> {
  try {
    await device.write(echo);
    for (;;) {
      bell.say("arm");
      const ring = await bell.next();
      if (ring.kind === "closed") break;
      if (ring.kind === "octets") await device.write(ring.octets);
      else await pumpStream(tunnel, device);
    }
  } catch {
    bell.close(BELL_CLOSE.deviceGone);
  }
  // There is no close message: the end of the connection before the end of the body is one [MS-GRVHENC 3.2.4.1].
  await device.abort(new Error("virtual connection closed")).catch(() => undefined);
}

async function pumpStream(tunnel: TunnelStub, device: WritableStreamDefaultWriter<Uint8Array>): Promise<void> {
  const { body } = await tunnel.fetch("http://tunnel/pull");
  if (body === null) return;
  const read = byteReader(body, READ_SIZE);
  for (;;) {
    const octets = await read();
    if (typeof octets === "string") return;
    await device.write(octets);
  }
}

export async function longLivedPost(target: LongLivedTarget, tunnel: TunnelStub, request: Request): Promise<Response> {
  if (request.body === null) return problem("BadEcho");
  return problem(await pumpUp(target, tunnel, byteReader(request.body, READ_SIZE)));
}

type ByteReader = ReturnType<typeof byteReader>;

/** Takes a POST's octets to the Tunnel until one of both ends it, and tells why. */
async function pumpUp(target: LongLivedTarget, tunnel: TunnelStub, read: ByteReader): Promise<Reason> {
  // Only once the Tunnel has taken this POST may its end be the end of the virtual connection: the GUID in the URL may
  // be that of somebody else's.
  let taken = false;
  const over = async (reason: Reason) => {
    if (taken) await tunnel.end(reason);
    return reason;
  };
  try {
    for (;;) {
      const octets = await read(BODY_TIMEOUT);
      if (octets === "late") return over("ReceiveTimeout");
      if (octets === "end") return over("DeviceGone");
      if (taken && octets.length >= BULK_OCTETS) {
        const refusal = await pushStream(tunnel, octets, read);
        if (refusal !== undefined) return refusal;
      } else {
        const verdict = await (taken ? tunnel.push(octets) : tunnel.post(target, octets));
        if (!verdict.ok) return verdict.reason;
        taken = true;
      }
    }
  } catch {
    return over("DeviceGone");
  }
}

/** Streams a POST's octets to the Tunnel until they pause. Gives the reason when the Tunnel refuses them. */
async function pushStream(tunnel: TunnelStub, first: Uint8Array, read: ByteReader): Promise<Reason | undefined> {
  const { readable, writable } = new IdentityTransformStream();
  const answered = tunnel.fetch("http://tunnel/push", { method: "POST", body: readable });
  const writer = writable.getWriter();
  try {
    for (let octets: Uint8Array | "end" | "late" = first; typeof octets !== "string"; octets = await read(BULK_IDLE)) {
      await writer.write(octets);
    }
    await writer.close();
  } catch {
    // Either the Tunnel has stopped reading, and says why, or the device is gone, and the Tunnel must not wait for more.
    await writer.abort().catch(() => undefined);
  }
  const answer = await answered;
  if (answer.ok) return undefined;
  const reason = answer.headers.get(REASON_HEADER) ?? "";
  return isReason(reason) ? reason : "ConnectionLost";
}
