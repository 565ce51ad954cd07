/**
 * Bulk data of a LongLived virtual connection, one stream each way. To and from an origin relay the platform copies the
 * bytes, without running our code for each chunk.
 *
 * @module
 */
import { byteReader, READ_SIZE } from "../../lib/runtime/byte-reader.ts";
import type { ByteChannel } from "../byte-channel.ts";
import { problem } from "../problem.ts";
import type { Reason } from "../reasons.ts";
import type { Refused, Verdict } from "../rpc/tunnel-rpc.ts";
import type { Live } from "./http-connection.ts";

/** The Tunnel, as its bulk streams use it. */
export interface Carrier {
  live(): Live | undefined;
  /** Whether the virtual connection ends at this edge, and not at an origin relay. */
  here(): boolean;
  /** The reason to give for a virtual connection that does not exist. */
  absent(): Reason;
  receive(live: Live, octets: Uint8Array): Promise<Verdict>;
  close(live: Live, reason: Reason): Refused;
}

/** Streams everything that the relay sends from now on. The device counts it against its Content-Length. */
export async function pull(carrier: Carrier): Promise<Response> {
  const reached = await reach(carrier);
  if (reached === undefined) return problem(carrier.absent());
  const { live, origin } = reached;
  const { readable, writable } = new IdentityTransformStream();
  void origin.pipeTo(writable).then(
    () => {
      // An endpoint's stream ends at every pause; its end rings the bell. If the device is gone, the Worker calls
      // `end`.
      if (!carrier.here()) carrier.close(live, "OriginClosed");
    },
    () => carrier.close(live, "OriginReset"),
  );
  return new Response(readable);
}

/** Streams the rest of a LongLived POST to the relay. The Worker enforces its length. */
export async function push(carrier: Carrier, { body }: Request): Promise<Response> {
  const reached = await reach(carrier);
  if (reached === undefined || body === null) return problem(carrier.absent());
  const { live, origin } = reached;
  if (carrier.here()) return take(body, (octets) => carrier.receive(live, octets));
  // From now on the relay detects a silent device: `writing` stays above zero, which stops the receive timer.
  live.writing += 1;
  const whole = await origin.pipeFrom(body).then(
    () => true,
    () => false,
  );
  return whole ? new Response(null) : problem(carrier.close(live, "OriginReset").reason);
}

/** The virtual connection and its far end, if it is still open when the relay has been reached. */
async function reach(carrier: Carrier): Promise<{ readonly live: Live; readonly origin: ByteChannel } | undefined> {
  const live = carrier.live();
  const origin = await live?.origin;
  return live === undefined || origin === undefined || carrier.live() !== live ? undefined : { live, origin };
}

/** Writes a stream to a virtual connection that ends here, and answers when the stream ends or is refused. */
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
