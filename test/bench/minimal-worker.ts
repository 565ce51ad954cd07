/**
 * The floor of the edge's throughput: a worker that only copies between one HTTP body and one TCP socket.
 *
 *   POST /pipe, /loop            the body goes to the socket
 *   GET /pipe, /loop ?command=   the octets of the command go to the socket, and its answer is the body
 */
import { connect } from "cloudflare:sockets";

interface Env {
  /** `host:port` of the far side. */
  readonly TARGET: string;
  /** Content-Length of the answers, the largest that LongLived allows. */
  readonly LENGTH: string;
}

interface Context {
  waitUntil(promise: Promise<unknown>): void;
}

/** The size of the edge's own reads. */
const READ_SIZE = 256 * 1024;

export default {
  async fetch(request: Request, env: Env, context: Context): Promise<Response> {
    const url = new URL(request.url);
    const copy = url.pathname === "/loop" ? loop : pipe;
    const socket = connect(env.TARGET, { secureTransport: "off", allowHalfOpen: true });
    if (request.method === "POST") {
      if (request.body !== null) await copy(request.body, socket.writable);
      return new Response(null);
    }
    const writer = socket.writable.getWriter();
    await writer.write(octetsOf(url.searchParams.get("command") ?? ""));
    writer.releaseLock();
    const { readable, writable } = new FixedLengthStream(Number(env.LENGTH));
    // The client disconnects in the middle of the body: this ends a round.
    context.waitUntil(copy(socket.readable, writable).catch(() => undefined));
    return new Response(readable);
  },
};

function pipe(from: ReadableStream<Uint8Array>, to: WritableStream<Uint8Array>): Promise<void> {
  return from.pipeTo(to);
}

async function loop(from: ReadableStream<Uint8Array>, to: WritableStream<Uint8Array>): Promise<void> {
  const reader = from.getReader({ mode: "byob" });
  const writer = to.getWriter();
  let buffer = new ArrayBuffer(READ_SIZE);
  for (;;) {
    const { value, done } = await reader.read(new Uint8Array(buffer));
    if (done || value === undefined) break;
    await writer.write(value);
    buffer = value.buffer as ArrayBuffer;
  }
  await writer.close();
}

function octetsOf(hex: string): Uint8Array {
  return Uint8Array.from(hex.match(/../g) ?? [], (octet) => Number.parseInt(octet, 16));
}
