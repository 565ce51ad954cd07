/**
 * Bulk data of a LongLived virtual connection, one stream each way. To and from an origin relay the platform copies the
 * bytes, without running our code for each chunk.
 *
 * @module
 */
import { byteReader, READ_SIZE } from "../../lib/runtime/byte-reader.ts";
import { problem } from "../problem.ts";
import type { HttpConnection } from "./http-connection.ts";

/** Streams everything that the relay sends from now on. The device counts it against its Content-Length. */
export async function pull(connection: HttpConnection): Promise<Response> {
  const channel = await connection.channel();
  if (channel === undefined) return absent(connection);
  const { readable, writable } = new IdentityTransformStream();
  void channel.pipeTo(writable).then(
    () => {
      // An endpoint's stream ends at every pause; its end rings the bell. If the device is gone, the Worker calls
      // `end`.
      if (connection.passedThrough) connection.end("OriginClosed");
    },
    () => connection.end("OriginReset"),
  );
  return new Response(readable);
}

/** Streams the rest of a LongLived POST to the relay. The Worker enforces its length. */
export async function push(connection: HttpConnection, { body }: Request): Promise<Response> {
  const channel = await connection.channel();
  if (channel === undefined || body === null) return absent(connection);
  if (!connection.passedThrough) return receiveAll(connection, body);
  connection.stopReceiveTimer();
  const whole = await channel.pipeFrom(body).then(
    () => true,
    () => false,
  );
  return whole ? new Response(null) : problem(connection.end("OriginReset").reason);
}

/** Writes a stream to a virtual connection that ends here, and answers when the stream ends or is refused. */
async function receiveAll(connection: HttpConnection, stream: ReadableStream<Uint8Array>): Promise<Response> {
  const read = byteReader(stream, READ_SIZE);
  for (;;) {
    const octets = await read();
    if (typeof octets === "string") return new Response(null);
    const verdict = await connection.receive(octets);
    if (!verdict.ok) return problem(verdict.reason, verdict.detail);
  }
}

function absent({ ended }: HttpConnection): Response {
  return problem(ended ?? "ConnectionLost");
}
