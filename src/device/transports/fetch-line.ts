/**
 * A line made of `fetch` calls, for platforms without sockets. What the client of KeepAlive writes as bytes of HTTP is
 * a whole request each time; it becomes a call, and the response becomes bytes of HTTP again.
 *
 * A call has no header of ours unless there must be one. So a browser sends it to another origin without asking first
 * by OPTIONS, which it would do for every call, since each has a URL of its own.
 *
 * @module
 */
import { joinOctets } from "../../lib/octets.ts";
import { DeviceError } from "../device-error.ts";
import { CLOSE_TIMEOUT } from "../limits.ts";
import type { LineEvents, OpenLine } from "./client-transport.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** How calls are made. */
export interface FetchWay {
  readonly edge: URL;
  /** Headers of each call. */
  readonly headers: Readonly<Record<string, string>>;
}

/** What this file uses of `fetch` [WHATWG Fetch]. */
type FetchOfPlatform = (
  url: URL,
  options: {
    readonly method: string;
    readonly headers: Readonly<Record<string, string>>;
    readonly signal: AbortSignal;
    readonly body?: Uint8Array<ArrayBuffer>;
    readonly credentials: "omit";
    readonly redirect: "manual";
    readonly cache: "no-store";
    readonly referrerPolicy: "no-referrer";
  },
) => Promise<ResponseOfPlatform>;

interface ResponseOfPlatform {
  readonly type: string;
  readonly status: number;
  readonly statusText: string;
  readonly headers: Iterable<[name: string, value: string]>;
  readonly body: ReadableStream<Uint8Array> | null;
}

/** Opens lines whose requests are calls of `fetch`. */
export function fetchLines(way: FetchWay): OpenLine {
  return (events) => {
    const calls = new Set<Call>();
    const reading = new Gate();
    return {
      // The client has one request at a time, and counts what waits behind it.
      queued: 0,
      write(octets) {
        const call = new Call(octets);
        calls.add(call);
        void run(call, way, events, reading).finally(() => calls.delete(call));
      },
      pause: () => reading.shut(),
      resume: () => reading.open(),
      close() {
        reading.open();
        for (const call of calls) call.end();
      },
    };
  };
}

/** One request, as the client has written it. */
class Call {
  readonly method: string;
  readonly target: string;
  readonly body: Uint8Array<ArrayBuffer> | undefined;
  readonly #ending = new AbortController();

  constructor([head = new Uint8Array(0), ...body]: readonly Uint8Array[]) {
    const [method = "", target = ""] = decoder.decode(head).split(" ", 2);
    this.method = method;
    this.target = target;
    const length = body.reduce((sum, piece) => sum + piece.length, 0);
    this.body = method === "POST" ? joinOctets(body, length) : undefined;
  }

  get signal(): AbortSignal {
    return this.#ending.signal;
  }

  /** Ends the call. A POST may still be on its way, and has CLOSE_TIMEOUT (2 s) to arrive. */
  end(): void {
    if (this.body === undefined) this.#ending.abort();
    else setTimeout(() => this.#ending.abort(), CLOSE_TIMEOUT);
  }
}

/** Holds back a reader while it is shut. */
class Gate {
  #opened: PromiseWithResolvers<void> | undefined;

  shut(): void {
    this.#opened ??= Promise.withResolvers();
  }

  open(): void {
    this.#opened?.resolve();
    this.#opened = undefined;
  }

  async pass(): Promise<void> {
    while (this.#opened !== undefined) await this.#opened.promise;
  }
}

async function run(call: Call, { edge, headers }: FetchWay, events: LineEvents, reading: Gate): Promise<void> {
  const { method, target, body, signal } = call;
  const { fetch } = globalThis as unknown as { readonly fetch: FetchOfPlatform };
  try {
    const response = await fetch(new URL(target, edge), {
      method,
      headers,
      signal,
      ...(body !== undefined && { body }),
      // Tokens are the only credentials, and a redirect is not followed.
      credentials: "omit",
      redirect: "manual",
      cache: "no-store",
      referrerPolicy: "no-referrer",
    });
    events.onConnected();
    events.onData(encoder.encode(headOf(response)));
    const reader = response.body?.getReader();
    for (;;) {
      await reading.pass();
      const piece = await reader?.read();
      if (piece === undefined || piece.done) break;
      if (piece.value.length > 0) feedChunk(events, piece.value);
    }
    events.onData(encoder.encode("0\r\n\r\n"));
  } catch (error) {
    events.onEnd(unreachable(edge, error));
  }
}

function feedChunk({ onData }: LineEvents, octets: Uint8Array): void {
  onData(encoder.encode(`${octets.length.toString(16)}\r\n`));
  onData(octets);
  onData(encoder.encode("\r\n"));
}

/** Headers that describe the body as it was on the way, or the connection. */
const OF_THE_WAY = new Set(["connection", "content-encoding", "content-length", "keep-alive", "transfer-encoding"]);

function headOf({ type, status, statusText, headers }: ResponseOfPlatform): string {
  // The platform hides where a redirect leads to.
  const first = type === "opaqueredirect" ? "302 Found" : `${status} ${statusText}`;
  const lines = [...headers].filter(([name]) => !OF_THE_WAY.has(name)).map(([name, value]) => `${name}: ${value}\r\n`);
  return `HTTP/1.1 ${first}\r\n${lines.join("")}Transfer-Encoding: chunked\r\n\r\n`;
}

/** Browsers do not say why a call has failed. */
function unreachable({ origin }: URL, cause: unknown): DeviceError {
  const cure =
    "check the URL and the network; if the console speaks of CORS, something other than an edge has answered";
  return new DeviceError("ConnectFailed", `no answer from ${origin}, and browsers do not say why: ${cure}`, { cause });
}
