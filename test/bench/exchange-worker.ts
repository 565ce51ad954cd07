/**
 * The floor of Polling: a worker that reads whole bodies and hands each to an object, which passes it on to a TCP socket
 * and returns what has come from there. The same exchanges without an encapsulation.
 *
 *   POST /name   the body goes to the socket of that object; the answer is what has come, or nothing after a full body
 */
import { connect } from "cloudflare:sockets";
import { DurableObject } from "cloudflare:workers";

interface Env {
  /** `host:port` of the far side. */
  readonly TARGET: string;
  readonly END: DurableObjectNamespace<End>;
}

/** The most that an answer carries: the longest Polling body. */
const ANSWER = 1024 * 1024;

/** After a longer body the client has more to send, and is not made to wait. */
const FULL = 32 * 1024;

export class End extends DurableObject<Env> {
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reader: ReadableStreamBYOBReader;

  constructor(context: DurableObjectState, env: Env) {
    super(context, env);
    const socket = connect(env.TARGET, { secureTransport: "off", allowHalfOpen: true });
    this.#writer = socket.writable.getWriter();
    this.#reader = socket.readable.getReader({ mode: "byob" });
  }

  async exchange(body: Uint8Array): Promise<Uint8Array> {
    if (body.length > 0) await this.#writer.write(body);
    if (body.length > FULL) return new Uint8Array(0);
    const { value } = await this.#reader.read(new Uint8Array(ANSWER));
    return value ?? new Uint8Array(0);
  }
}

export default {
  async fetch(request: Request, env: Env): Promise<Response> {
    const body = new Uint8Array(await request.arrayBuffer());
    return new Response(await env.END.getByName(new URL(request.url).pathname).exchange(body));
  },
};
