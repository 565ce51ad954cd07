/**
 * LongLived at the Worker when the virtual connection ends at this edge: pumps in two gears, so that its object may sleep.
 *
 * A quiet connection is parked here: single calls up, the doorbell down. When octets come in bulk a stream to or from the
 * Tunnel carries them until they pause.
 *
 * @module
 */

import { REASON_HEADER } from "../../encapsulation/index.ts";
import { type ByteReader, byteReader, READ_SIZE } from "../../lib/runtime/byte-reader.ts";
import { within } from "../../lib/runtime/timeout.ts";
import { type CommandWalker, encode, VERSION_1_6 } from "../../sstp/index.ts";
import { isReason, type Reason } from "../reasons.ts";
import { BELL_CLOSE, BULK_IDLE } from "../rpc/doorbell-protocol.ts";
import { STREAM, type Verdict } from "../rpc/tunnel-rpc.ts";
import type { Doorbell, Ring } from "./doorbell-client.ts";
import { BODY_TIMEOUT, BULK_OCTETS, NOOP_INTERVAL } from "./limits.ts";
import type { TunnelStub } from "./tunnel-client.ts";

type DeviceWriter = WritableStreamDefaultWriter<Uint8Array>;

/**
 * Writes what the bell rings for to the device, until either is gone. A device that does not read stops it here.
 * The stream stands at a command's end whenever the bell is silent: then a Noop from here says to an idle device that the
 * edge is there, and wakes nobody.
 */
export async function driveDown(
  bell: Doorbell,
  echo: Uint8Array,
  tunnel: TunnelStub,
  device: DeviceWriter,
): Promise<void> {
  try {
    await device.write(echo);
    let said = 0;
    let ring: Promise<Ring> | undefined;
    bell.say("arm");
    for (;;) {
      ring ??= bell.next();
      const rung = await within(NOOP_INTERVAL, ring);
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

async function pumpStream(tunnel: TunnelStub, device: DeviceWriter): Promise<void> {
  const { ok, body } = await tunnel.fetch(`http://tunnel${STREAM.pull}`);
  // A refusal's body is not for the device: the virtual connection is over, and the bell says so.
  if (!ok || body === null) return;
  const read = byteReader(body, READ_SIZE);
  for (;;) {
    const octets = await read();
    if (typeof octets === "string") return;
    await device.write(octets);
  }
}

/**
 * Takes a POST's octets to the Tunnel until one of both ends it, and tells why.
 *
 * @param walker follows the commands: a Noop that acknowledges nothing, and that stands alone between two commands, says
 * only that the device is there, which this request shows anyway
 */
export async function driveUp(tunnel: TunnelStub, read: ByteReader, walker: CommandWalker): Promise<Reason> {
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

/** Streams a POST's octets to the Tunnel until they pause. */
async function pushStream(
  tunnel: TunnelStub,
  first: Uint8Array,
  read: ByteReader,
  walker: CommandWalker,
): Promise<Verdict> {
  const { readable, writable } = new IdentityTransformStream();
  const answered = tunnel.fetch(`http://tunnel${STREAM.push}`, { method: "POST", body: readable });
  const writer = writable.getWriter();
  try {
    for (let octets: Uint8Array | "end" | "late" = first; typeof octets !== "string"; octets = await read(BULK_IDLE)) {
      if (octets !== first) walker.push(octets);
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
