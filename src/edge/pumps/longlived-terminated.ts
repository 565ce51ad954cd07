/**
 * LongLived at the Worker for virtual connections that end at this edge: pumps in two gears, so that the Tunnel may
 * hibernate.
 *
 * A quiet connection is parked here: single calls up, the doorbell down. Bulk data goes over a stream to or from the
 * Tunnel until it pauses; an open stream keeps the Tunnel awake.
 *
 * @module
 */

import { ECHO_STRING, REASON_HEADER } from "../../encapsulation/index.ts";
import type { ByteReader } from "../../lib/runtime/byte-reader.ts";
import { DeadlinePool } from "../../lib/runtime/deadline-pool.ts";
import { CommandWalker, encode, VERSION_1_6 } from "../../sstp/index.ts";
import { isReason, type Reason } from "../reasons.ts";
import { BELL_CLOSE, BULK_IDLE } from "../rpc/doorbell-protocol.ts";
import { OK, refused, type Verdict } from "../rpc/tunnel-rpc.ts";
import { BODY_TIMEOUT, BULK_OCTETS, NOOP_INTERVAL } from "./limits.ts";
import type { AnsweredGet, TunnelStub } from "./tunnel-client.ts";

/**
 * Writes each ring's data to the device, until either side is gone. A slow device blocks it here. While the bell is
 * silent the stream is between two commands, so this may insert Noops: they tell an idle device that the edge is there,
 * without waking the Tunnel.
 */
export async function driveDown(get: AnsweredGet, body: WritableStream<Uint8Array>): Promise<void> {
  const { bell, echo, over } = get;
  let device = body.getWriter();
  // While the platform copies, it aborts the body itself.
  over.addEventListener("abort", () => void device.abort(over.reason).catch(() => undefined));
  try {
    await device.write(echo);
    let said = 0;
    bell.say("arm");
    for (;;) {
      const heard = await bell.next(NOOP_INTERVAL);
      if (heard.type === "late") {
        await device.write(NOOP);
        said += NOOP.length;
        continue;
      }
      if (heard.type !== "ring") return;
      if (heard.ring.kind === "octets") await device.write(heard.ring.octets);
      else {
        device.releaseLock();
        await pipeStream(get, body);
        device = body.getWriter();
      }
      bell.say(said === 0 ? "arm" : `arm ${said}`);
      said = 0;
    }
  } catch {
    bell.close(BELL_CLOSE.deviceGone);
  }
}

/** Has the platform copy what the Tunnel streams until it pauses, at half the cost of our own code. */
async function pipeStream({ tunnel, over }: AnsweredGet, device: WritableStream<Uint8Array>): Promise<void> {
  const { ok, body } = await tunnel.pull();
  // A refusal's body is not for the device: the virtual connection has ended, and the bell will say so.
  if (ok && body !== null) await body.pipeTo(device, { preventClose: true, signal: over });
}

/**
 * Copies a POST's bytes to the Tunnel until either side ends it, and returns why. A Noop that acknowledges nothing, and
 * that arrives alone between two commands, is dropped: it says only that the device is there, which the open request
 * shows anyway.
 *
 * @param first the bytes that the Tunnel has already
 */
export async function driveUp(tunnel: TunnelStub, read: ByteReader, first: Uint8Array): Promise<Reason> {
  const walker = new CommandWalker(ECHO_STRING.length);
  walker.push(first);
  for (;;) {
    const octets = await read(BODY_TIMEOUT).catch(() => "end" as const);
    if (octets === "late") return "ReceiveTimeout";
    if (octets === "end") return "DeviceGone";
    if (walker.between && isNoop(octets)) continue;
    walker.push(octets);
    const push = octets.length >= BULK_OCTETS ? pushStream(tunnel, octets, read, walker) : tunnel.push(octets);
    const verdict = await push.catch(() => refused("ConnectionLost"));
    if (!verdict.ok) return verdict.reason;
  }
}

/** Streams a POST's bytes to the Tunnel until they pause. */
async function pushStream(
  tunnel: TunnelStub,
  first: Uint8Array,
  read: ByteReader,
  walker: CommandWalker,
): Promise<Verdict> {
  const { readable, writable } = new IdentityTransformStream();
  const answered = tunnel.pushStream(readable);
  const writer = writable.getWriter();
  try {
    const idle = new DeadlinePool(BULK_IDLE);
    for (let octets: Uint8Array | "end" | "late" = first; typeof octets !== "string"; octets = await read(idle)) {
      if (octets !== first) walker.push(octets);
      await writer.write(octets);
    }
    await writer.close();
  } catch {
    // Either the Tunnel has stopped reading, and answers why, or the device is gone, and the Tunnel must not wait for
    // more.
    await writer.abort().catch(() => undefined);
  }
  const answer = await answered;
  if (answer.ok) return OK;
  const reason = answer.headers.get(REASON_HEADER) ?? "";
  return refused(isReason(reason) ? reason : "ConnectionLost");
}

/** Noop with MessageCount 0 [MS-GRVSSTP 2.2.13]. */
const NOOP = encode({ command: "Noop", messageCount: 0 }, VERSION_1_6);

function isNoop(octets: Uint8Array): boolean {
  return octets.length === NOOP.length && octets.every((octet, index) => octet === NOOP[index]);
}
