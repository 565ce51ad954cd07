/** The octets of an HTTP server, as the tests of clients need them: it reads requests and formats responses. */
import {
  arrivePost,
  BodyReader,
  endPost,
  type KeepAliveTarget,
  REASON_HEADER,
  REASONS,
  REGISTRY,
  type Reason,
  type Refusal,
  receive,
  STATUS_PAIRS,
  type StatusCode,
  type VirtualConnection,
} from "../../src/encapsulation/index.ts";

export interface RequestHead {
  readonly method: string;
  readonly target: string;
  /** Undefined if the head has no Content-Length. */
  readonly contentLength: number | undefined;
}

/** Reads the head of a request that a client of ours has written, fed in arbitrary pieces. */
export class RequestReader {
  #text = "";

  /** The head, and what follows it; undefined until it is complete. */
  feed(octets: Uint8Array): { readonly head: RequestHead; readonly rest: Uint8Array } | undefined {
    const before = this.#text.length;
    this.#text += Buffer.from(octets).toString("latin1");
    const end = this.#text.indexOf("\r\n\r\n");
    if (end < 0) return undefined;
    const [first = "", ...headers] = this.#text.slice(0, end).split("\r\n");
    const [method = "", target = "", version] = first.split(" ");
    // GETs whose answers may be streamed are those of HTTP/1.1.
    if (version !== "HTTP/1.0" && version !== "HTTP/1.1") throw new Error(`not a request line of ours: ${first}`);
    const length = headers.find((line) => line.startsWith("Content-Length: "))?.slice("Content-Length: ".length);
    const contentLength = length === undefined ? undefined : Number(length);
    return { head: { method, target, contentLength }, rest: octets.subarray(end + 4 - before) };
  }
}

/** The reader of a request's body. */
export function requestBody({ contentLength = 0 }: RequestHead, isEndless: boolean): BodyReader {
  return new BodyReader(isEndless ? { type: "close" } : { type: "length", length: contentLength });
}

interface ResponseFields {
  readonly status: StatusCode;
  readonly now: number;
  readonly contentLength: number;
  readonly connection?: "Keep-Alive" | "close";
  readonly headers?: readonly string[];
}

/** A response head with the headers of the specification, in its order [MS-GRVHENC 2.2.2.3.2, 2.2.3.3]. */
export function formatResponse(fields: ResponseFields): Uint8Array {
  const { status, now, contentLength, connection = "Keep-Alive", headers = [] } = fields;
  const lines = [
    `HTTP/1.0 ${status} ${STATUS_PAIRS[status]}`,
    `Date: ${new Date(now).toUTCString()}`,
    `Server: ${REGISTRY.server.value}`,
    `Connection: ${connection}`,
    `Content-Length: ${contentLength}`,
    ...headers,
  ];
  return new TextEncoder().encode(`${lines.join("\r\n")}\r\n\r\n`);
}

/** The response that refuses a request. */
export function formatRefusal(reason: Reason, now: number): Uint8Array {
  const status = REASONS[reason].status ?? 500;
  return formatResponse({
    status,
    now,
    contentLength: 0,
    connection: "close",
    headers: [`${REASON_HEADER}: ${reason}`],
  });
}

type Exchanged = { readonly type: "answer"; readonly handshake: boolean; readonly data: Uint8Array } | Refusal;

/** Handles a whole KeepAlive POST, as a server does that reads bodies whole. */
export function exchangePost(
  state: VirtualConnection,
  target: KeepAliveTarget,
  body: Uint8Array,
  now: number,
): Exchanged {
  const nothing = new Uint8Array(0);
  const arrived = arrivePost(state, target, now, body.length);
  if (arrived.type === "refuse") return arrived;
  if (arrived.type === "repeat") return { type: "answer", handshake: false, data: nothing };
  const received = receive(state, body, now);
  if (received.type === "refuse") return received;
  const ended = endPost(state, now);
  if (ended.type === "refuse") return ended;
  return { ...ended, data: received.type === "wait" ? nothing : received.data };
}
