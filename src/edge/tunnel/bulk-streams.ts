/**
 * Bulk: the two streams of a LongLived virtual connection on which octets go through no code of ours.
 *
 * @module
 */
import { byteReader, READ_SIZE } from "../../lib/runtime/byte-reader.ts";
import type { ByteChannel } from "../byte-channel.ts";
import { problem } from "../problem.ts";
import type { Reason } from "../reasons.ts";
import type { Refused, Verdict } from "../rpc/tunnel-rpc.ts";
import type { Live } from "./http-connection.ts";

/** The Tunnel whose virtual connection has bulk to carry. */
export interface Carrier {
  live(): Live | undefined;
  /** Whether it ends at this edge, and not at an origin relay. */
  here(): boolean;
  /** What a request is told for which there is no virtual connection. */
  absent(): Reason;
  receive(live: Live, octets: Uint8Array): Promise<Verdict>;
  close(live: Live, reason: Reason): Refused;
}

/** All that the relay sends from now on, as a stream. The device counts it. */
export async function pull(carrier: Carrier): Promise<Response> {
  const reached = await reach(carrier);
  if (reached === undefined) return problem(carrier.absent());
  const { live, origin } = reached;
  const { readable, writable } = new IdentityTransformStream();
  void origin.pipeTo(writable).then(
    () => {
      // An endpoint only pauses; when it ends it rings. When it is the device that is gone, the Worker was first to say
      // so.
      if (!carrier.here()) carrier.close(live, "OriginClosed");
    },
    () => carrier.close(live, "OriginReset"),
  );
  return new Response(readable);
}

/** The rest of a LongLived POST, as a stream. The Worker has seen to its length. */
export async function push(carrier: Carrier, { body }: Request): Promise<Response> {
  const reached = await reach(carrier);
  if (reached === undefined || body === null) return problem(carrier.absent());
  const { live, origin } = reached;
  if (carrier.here()) return take(body, (octets) => carrier.receive(live, octets));
  // It may pause for as long as the relay allows: a silent device is the relay's to notice now.
  live.writing += 1;
  const whole = await origin.pipeFrom(body).then(
    () => true,
    () => false,
  );
  return whole ? new Response(null) : problem(carrier.close(live, "OriginReset").reason);
}

/** What carries bulk, if it still lives when its relay has been reached. */
async function reach(carrier: Carrier): Promise<{ readonly live: Live; readonly origin: ByteChannel } | undefined> {
  const live = carrier.live();
  const origin = await live?.origin;
  return live === undefined || origin === undefined || carrier.live() !== live ? undefined : { live, origin };
}

/** Takes a stream of octets to the end of a virtual connection that is here, and answers when it ends or is refused. */
async function take(
  stream: ReadableStream<Uint8Array>,
  receive: (octets: Uint8Array) => Promise<Verdict>,
): Promise<Response> {
  const read = byteReader(stream, READ_SIZE);
  for (;;) {
    const octets = await read();
    if (typeof octets === "string") return new Response(null);
    const verdict = await receive(octets);
    if (!verdict.ok) return problem(verdict.reason, verdict.detail);
  }
}
