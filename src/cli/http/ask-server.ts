/**
 * One request to an HTTP server near this machine, on a connection of its own. Redirects are not followed: they would
 * lead elsewhere. The body is sent octet for octet, so that the server's own check of a signature passes.
 *
 * @module
 */
import { type ClientRequest, type IncomingMessage, request as requestByHttp } from "node:http";
import { request as requestByHttps } from "node:https";
import {
  forwardedHeaders,
  type Header,
  type HttpAnswer,
  type HttpRequest,
  type ServerAddress,
  targetBelow,
} from "../../requests/index.ts";

/** What came of a request. */
export type Asked =
  | { readonly type: "answered"; readonly answer: HttpAnswer }
  /** There was no connection, so the server has seen nothing of the request. */
  | { readonly type: "unreachable"; readonly detail: string }
  /** The detail follows "the server". */
  | {
      readonly type: "failed";
      readonly reason: "TimedOut" | "ConnectionBroken" | "AnswerTooLong";
      readonly detail: string;
    }
  /** It was not sent, and never will be. */
  | { readonly type: "unsafe"; readonly reason: "UnsafePath" | "UnsafeMethod"; readonly detail: string };

export interface AskOptions {
  /** Milliseconds for the whole answer to come. */
  readonly timeout: number;
  /** Bytes of the longest answer that is kept; undefined to keep none of it, however long it is. */
  readonly longest?: number;
  /** Sent too, instead of those of the same name. */
  readonly headers?: readonly Header[];
  /** Ends the request, which then has failed by `TimedOut`. */
  readonly signal?: AbortSignal;
}

/** Methods that make a tunnel of a connection, or show the request to the reader of the answer. */
const UNSAFE_METHODS = ["CONNECT", "TRACE"];

/** Methods for which a body is expected, so that an empty one has a length. */
const WITH_BODY = ["POST", "PUT", "PATCH"];

/** Sends a request to a server, below its prefix. */
export async function askServer(server: ServerAddress, request: HttpRequest, options: AskOptions): Promise<Asked> {
  const { method } = request;
  if (UNSAFE_METHODS.includes(method.toUpperCase())) {
    return { type: "unsafe", reason: "UnsafeMethod", detail: `${method} is not passed on` };
  }
  const target = targetBelow(server, request);
  if (!target.ok)
    return { type: "unsafe", reason: "UnsafePath", detail: `the path is not passed on: ${target.problems}` };
  const { timeout, signal } = options;
  const late = AbortSignal.timeout(timeout);
  const ends = signal === undefined ? late : AbortSignal.any([late, signal]);
  let isConnected = false;
  try {
    const sent = send(server, target.value, request, options, ends);
    sent.on("socket", (socket) => {
      const event = server.origin.startsWith("https:") ? "secureConnect" : "connect";
      socket.once(event, () => {
        isConnected = true;
      });
    });
    const response = await responseOf(sent);
    return await answerOf(response, options.longest);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    if (!isConnected && !signal?.aborted) return { type: "unreachable", detail: why };
    if (!ends.aborted) return { type: "failed", reason: "ConnectionBroken", detail: `broke the connection (${why})` };
    return { type: "failed", reason: "TimedOut", detail: `did not answer within ${timeout / 1000} s` };
  }
}

function send(
  { origin }: ServerAddress,
  path: string,
  { method, headers, body }: HttpRequest,
  options: AskOptions,
  signal: AbortSignal,
): ClientRequest {
  const { host, protocol, hostname, port } = new URL(origin);
  const own = options.headers ?? [];
  const names = own.map(([name]) => name.toLowerCase());
  const passed = forwardedHeaders(headers).filter(([name]) => !names.includes(name.toLowerCase()));
  const hasLength = body.length > 0 || WITH_BODY.includes(method);
  const all: readonly Header[] = [
    ["Host", host],
    ["Connection", "close"],
    ...passed,
    ...own,
    ...(hasLength ? [["Content-Length", String(body.length)] as const] : []),
  ];
  const request = protocol === "https:" ? requestByHttps : requestByHttp;
  return request({
    // Without the brackets of an IPv6 address.
    hostname: hostname.replace(/^\[(.*)\]$/, "$1"),
    ...(port !== "" && { port }),
    method,
    path,
    headers: all.flat(),
    agent: false,
    signal,
  }).end(body);
}

function responseOf(sent: ClientRequest): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  sent.on("response", resolve);
  // It stays, for errors after the response has begun.
  sent.on("error", reject);
  sent.on("upgrade", (_, socket) => {
    socket.destroy();
    reject(new Error("it has switched to another protocol"));
  });
  return promise;
}

async function answerOf(response: IncomingMessage, longest: number | undefined): Promise<Asked> {
  const pieces: Buffer[] = [];
  let length = 0;
  for await (const piece of response as AsyncIterable<Buffer>) {
    length += piece.length;
    if (longest === undefined) continue;
    if (length > longest) {
      return { type: "failed", reason: "AnswerTooLong", detail: `has an answer of more than ${longest} bytes` };
    }
    pieces.push(piece);
  }
  const { statusCode = 0, rawHeaders } = response;
  const headers = rawHeaders.flatMap((name, at) => (at % 2 === 0 ? [[name, rawHeaders[at + 1] ?? ""] as const] : []));
  const answer = { status: statusCode, headers: forwardedHeaders(headers), body: Buffer.concat(pieces) };
  return { type: "answered", answer };
}
