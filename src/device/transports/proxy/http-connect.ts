/**
 * Asking an HTTP proxy for a tunnel, over one connection [RFC 9110 9.3.6]. Pure: bytes in, bytes and events out.
 *
 *   request() ─► CONNECT ─► 2xx ─► accepted, with what already came through the tunnel
 *                       └─► 407 ─► challenged ─► request(authorization) on the same connection, or on a new one
 *
 * The answers of a proxy are read as they come in practice: the body of a 407 by length, chunked or missing, in
 * HTTP/1.0 or 1.1, with interim responses before.
 *
 * @module
 */
import {
  BodyReader,
  framingOf,
  hasMember,
  keepsConnection,
  type ResponseHead,
  ResponseHeadReader,
} from "../../../encapsulation/index.ts";

/** The longest body of a 407 that is read to keep the connection. Error pages of proxies have a few KiB. */
export const DRAINED_BODY = 64 * 1024;

export type ConnectEvent =
  /** The tunnel is open; `rest` has come through it. For a question, the proxy has passed it on. */
  | { readonly type: "accepted"; readonly rest: Uint8Array }
  /** 407. Unless the connection `isOpen` for the next request, it must be closed. */
  | { readonly type: "challenged"; readonly challenges: readonly string[]; readonly isOpen: boolean }
  | { readonly type: "refused"; readonly head: ResponseHead }
  /** The connection ended before any byte of an answer. */
  | { readonly type: "closed" }
  /** No HTTP response, or half of one. */
  | { readonly type: "invalid"; readonly detail: string };

/** `CONNECT host:port`, or a GET by which the proxy only checks credentials: any answer but 407 accepts them. */
export interface ConnectRequest {
  readonly method: "CONNECT" | "GET";
  readonly target: string;
  /** `host:port` of the destination. */
  readonly host: string;
}

/** One connection to a proxy. Make a new one for each. */
export class HttpConnect {
  readonly #request: ConnectRequest;
  #heads = new ResponseHeadReader();
  /** The head and body of a 407 that is being read. */
  #challenge: { readonly challenges: readonly string[]; readonly body: BodyReader; octets: number } | undefined;

  constructor(request: ConnectRequest) {
    this.#request = request;
  }

  /** Returns the request to send. Call again after "challenged" with `isOpen`. */
  request(authorization?: string): Uint8Array {
    const { method, target, host } = this.#request;
    this.#heads = new ResponseHeadReader();
    this.#challenge = undefined;
    const lines = [
      `${method} ${target} HTTP/1.1`,
      `Host: ${host}`,
      // Older proxies close after a 407 otherwise, and NTLM needs the same connection.
      "Proxy-Connection: Keep-Alive",
      ...(authorization === undefined ? [] : [`Proxy-Authorization: ${authorization}`]),
    ];
    return new TextEncoder().encode(`${lines.join("\r\n")}\r\n\r\n`);
  }

  /** Handles received bytes. Returns undefined while more are needed. */
  receive(octets: Uint8Array): ConnectEvent | undefined {
    let rest = octets;
    while (this.#challenge === undefined) {
      const read = this.#heads.feed(rest);
      if (read.type === "more") return undefined;
      if (read.type === "fault")
        return { type: "invalid", detail: "It does not answer in HTTP, or not as HTTP has it." };
      rest = read.rest;
      const event = this.#judge(read.head, rest);
      if (event !== "interim" && event !== "body") return event;
      this.#heads = new ResponseHeadReader();
    }
    return this.#drain(rest);
  }

  /** Handles the end of the connection. */
  ended(): ConnectEvent {
    if (this.#challenge !== undefined) return { ...challenged(this.#challenge), isOpen: false };
    return this.#heads.begun ? { type: "invalid", detail: "Its answer is cut off." } : { type: "closed" };
  }

  #judge(head: ResponseHead, rest: Uint8Array): ConnectEvent | "interim" | "body" {
    const { status } = head;
    if (status < 200 && status !== 101) return "interim";
    if (status === 407) {
      const challenges = head.headers.filter(([name]) => name === "proxy-authenticate").map(([, value]) => value);
      const framing = framingOf(head);
      // A proxy that promises to keep the connection but announces no body sends none.
      const isEmpty = framing.type === "close" && promisesToKeep(head);
      if (framing.type === "fault" || !keepsConnection(head) || (framing.type === "close" && !isEmpty)) {
        return { type: "challenged", challenges, isOpen: false };
      }
      const body = new BodyReader(isEmpty ? { type: "length", length: 0 } : framing);
      this.#challenge = { challenges, body, octets: 0 };
      return "body";
    }
    // A Content-Length of the answer means nothing: what follows is the tunnel [RFC 9110 9.3.6].
    const isAccepted = this.#request.method === "GET" || (status >= 200 && status < 300);
    return isAccepted ? { type: "accepted", rest } : { type: "refused", head };
  }

  /** Reads the rest of a 407, so that the next request can follow on the same connection. */
  #drain(octets: Uint8Array): ConnectEvent | undefined {
    const challenge = this.#challenge;
    if (challenge === undefined) return undefined;
    const read = challenge.body.read(octets);
    challenge.octets += octets.length;
    const isBroken = read.type === "fault" || read.rest.length > 0 || challenge.octets > DRAINED_BODY;
    if (isBroken) return { ...challenged(challenge), isOpen: false };
    return challenge.body.done ? { ...challenged(challenge), isOpen: true } : undefined;
  }
}

function challenged({ challenges }: { readonly challenges: readonly string[] }) {
  return { type: "challenged", challenges } as const;
}

function promisesToKeep({ headers }: ResponseHead): boolean {
  return hasMember(headers, "connection", "keep-alive") || hasMember(headers, "proxy-connection", "keep-alive");
}
