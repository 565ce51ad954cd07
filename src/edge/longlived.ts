/**
 * LongLived at the Worker: two pumps, one for each endless body [MS-GRVHENC 3.2].
 *
 * Each has two gears. A quiet connection is parked here: single calls up, the doorbell down. When octets come in bulk a
 * stream to or from the Tunnel carries them until they pause, since a call costs as much as a quarter megabyte.
 *
 * @module
 */
import { ECHO_STRING, type LongLivedTarget, REASON_HEADER } from "../encapsulation/index.ts";
import { CommandWalker, encode, VERSION_1_6 } from "../sstp/index.ts";
import { BODY_TIMEOUT, BULK_IDLE, BULK_OCTETS, LINGER, NOOP_INTERVAL, READ_SIZE } from "./defaults.ts";
import { BELL_CLOSE, type Doorbell, doorbell, type Ring } from "./doorbell.ts";
import { type Context, park, type TunnelStub } from "./parking.ts";
import { answerHeaders, isReason, problem, type Reason } from "./reasons.ts";
import { byteReader, within } from "./streams.ts";
import type { Verdict } from "./tunnel.ts";

export async function longLivedGet(
  target: LongLivedTarget,
  tunnel: TunnelStub,
  request: Request,
  context: Context,
  ends: boolean,
): Promise<Response> {
  const answer = await park(tunnel, request);
  if (answer.webSocket === null) return answer;
  const bell = doorbell(answer.webSocket);
  const gone = () => bell.close(BELL_CLOSE.deviceGone);
  request.signal.addEventListener("abort", gone);
  if (request.signal.aborted) gone();
  // Until the handshake is complete there is nothing to answer: the first ring is the echo string.
  const first = await bell.next();
  if (first.kind !== "octets") {
    return problem(first.kind === "closed" && isReason(first.reason) ? first.reason : "ConnectionLost");
  }
  const { readable, writable } = new FixedLengthStream(target.contentLength);
  const device = writable.getWriter();
  context.waitUntil(pumpDown(bell, first.octets, tunnel, device, ends));
  context.waitUntil(endWith(bell, device));
  return new Response(readable, { headers: answerHeaders() });
}

type DeviceWriter = WritableStreamDefaultWriter<Uint8Array>;

/**
 * Writes what the bell rings for to the device, until either is gone. A device that does not read stops it here.
 *
 * @param ends whether the stream stands at a command's end whenever the bell is silent: then a Noop from here says to an
 * idle device that the edge is there, and wakes nobody
 */
async function pumpDown(
  bell: Doorbell,
  echo: Uint8Array,
  tunnel: TunnelStub,
  device: DeviceWriter,
  ends: boolean,
): Promise<void> {
  try {
    await device.write(echo);
    let said = 0;
    let ring: Promise<Ring> | undefined;
    bell.say("arm");
    for (;;) {
      ring ??= bell.next();
      const rung = ends ? await within(NOOP_INTERVAL, ring) : { value: await ring };
      if (rung === undefined) {
        await device.write(NOOP);
        said += NOOP.length;
        continue;
      }
      ring = undefined;
      if (rung.value.kind === "closed") return;
      if (rung.value.kind === "octets") await device.write(rung.value.octets);
      else await pumpStream(tunnel, device);
      bell.say(said === 0 ? "arm" : `arm ${said}`);
      said = 0;
    }
  } catch {
    bell.close(BELL_CLOSE.deviceGone);
  }
}

/** Ends the GET when the bell is closed, also one that waits for a device that does not read. */
async function endWith(bell: Doorbell, device: DeviceWriter): Promise<void> {
  await linger(await bell.closed);
  // There is no close message: the end of the connection before the end of the body is one [MS-GRVHENC 3.2.4.1].
  await device.abort(new Error("virtual connection closed")).catch(() => undefined);
}

/** When the relay has ended in good order its last octets are still on their way to the device. */
async function linger(reason: string): Promise<void> {
  if (reason === "OriginClosed") await new Promise((resolve) => setTimeout(resolve, LINGER));
}

async function pumpStream(tunnel: TunnelStub, device: DeviceWriter): Promise<void> {
  const { ok, body } = await tunnel.fetch("http://tunnel/pull");
  // A refusal's body is not for the device: the virtual connection is over, and the bell says so.
  if (!ok || body === null) return;
  const read = byteReader(body, READ_SIZE);
  for (;;) {
    const octets = await read();
    if (typeof octets === "string") return;
    await device.write(octets);
  }
}

export async function longLivedPost(
  target: LongLivedTarget,
  tunnel: TunnelStub,
  request: Request,
  ends: boolean,
): Promise<Response> {
  if (request.body === null) return problem("BadEcho");
  const read = byteReader(request.body, READ_SIZE);
  const first = await read(BODY_TIMEOUT).catch(() => "end" as const);
  if (typeof first === "string") return problem(first === "late" ? "ReceiveTimeout" : "DeviceGone");
  // Only once the Tunnel has taken this POST may its end be the end of the virtual connection: the GUID in the URL may
  // be that of somebody else's.
  const taken = await tunnel.post(target, first);
  if (!taken.ok) return problem(taken.reason, taken.detail);
  const walker = ends ? new CommandWalker(ECHO_STRING.length) : undefined;
  walker?.push(first);
  // What ends elsewhere ends this POST as well, also while its device is silent or nobody takes its octets.
  const over = overOf(tunnel).catch(() => "ConnectionLost" as const);
  const reason = await Promise.race([pumpUp(tunnel, read, walker), over]);
  await tunnel.end(reason, target);
  // A device may take the answer of its POST for the end of both: what the GET still carries comes first.
  await linger(reason);
  return problem(reason);
}

/** Resolves with the reason when the virtual connection is over; meanwhile its object may sleep. */
async function overOf(tunnel: TunnelStub): Promise<Reason> {
  const { webSocket } = await tunnel.fetch("http://tunnel/over", { headers: { Upgrade: "websocket" } });
  if (webSocket === null) return "ConnectionLost";
  const reason = await doorbell(webSocket).closed;
  return isReason(reason) ? reason : "ConnectionLost";
}

type ByteReader = ReturnType<typeof byteReader>;

/**
 * Takes a POST's octets to the Tunnel until one of both ends it, and tells why.
 *
 * @param walker follows the commands when the virtual connection ends here: a Noop that acknowledges nothing, and that
 * stands alone between two commands, says only that the device is there, which this request shows anyway
 */
async function pumpUp(tunnel: TunnelStub, read: ByteReader, walker: CommandWalker | undefined): Promise<Reason> {
  for (;;) {
    const octets = await read(BODY_TIMEOUT).catch(() => "end" as const);
    if (octets === "late") return "ReceiveTimeout";
    if (octets === "end") return "DeviceGone";
    if (walker?.between && isNoop(octets)) continue;
    walker?.push(octets);
    const push = octets.length >= BULK_OCTETS ? pushStream(tunnel, octets, read, walker) : tunnel.push(octets);
    const verdict = await push.catch(() => refused("ConnectionLost"));
    if (!verdict.ok) return verdict.reason;
  }
}

/** Streams a POST's octets to the Tunnel until they pause. */
async function pushStream(
  tunnel: TunnelStub,
  first: Uint8Array,
  read: ByteReader,
  walker: CommandWalker | undefined,
): Promise<Verdict> {
  const { readable, writable } = new IdentityTransformStream();
  const answered = tunnel.fetch("http://tunnel/push", { method: "POST", body: readable });
  const writer = writable.getWriter();
  try {
    for (let octets: Uint8Array | "end" | "late" = first; typeof octets !== "string"; octets = await read(BULK_IDLE)) {
      if (octets !== first) walker?.push(octets);
      await writer.write(octets);
    }
    await writer.close();
  } catch {
    // Either the Tunnel has stopped reading, and says why, or the device is gone, and the Tunnel must not wait for more.
    await writer.abort().catch(() => undefined);
  }
  const answer = await answered;
  if (answer.ok) return { ok: true };
  const reason = answer.headers.get(REASON_HEADER) ?? "";
  return refused(isReason(reason) ? reason : "ConnectionLost");
}

function refused(reason: Reason): Verdict {
  return { ok: false, reason };
}

/** Noop with MessageCount 0 [MS-GRVSSTP 2.2.13]. */
const NOOP = encode({ command: "Noop", messageCount: 0 }, VERSION_1_6);

function isNoop(octets: Uint8Array): boolean {
  return octets.length === NOOP.length && octets.every((octet, index) => octet === NOOP[index]);
}
