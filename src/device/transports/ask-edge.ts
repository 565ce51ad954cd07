/**
 * One HTTP request to an edge with a JSON answer, for what operators and devices ask outside a transport. It connects
 * through the dialler and follows no redirect: an edge never sends one, and the token would follow it.
 *
 * @module
 */
import { type IncomingMessage, request } from "node:http";
import type { Socket } from "node:net";
import { parseRelay, prefixOf, REASON_HEADER, RELAY_HEADER, retryAfterOf } from "../../encapsulation/index.ts";
import { visible, withoutCredentials } from "../../lib/printable.ts";
import { DeviceError } from "../device-error.ts";
import { ANSWER_OCTETS, ANSWER_TIMEOUT } from "../limits.ts";
import { authorization } from "../token-source.ts";
import { type Dialler, dial } from "./dial.ts";
import { seconds } from "./dial-error.ts";
import { type ForeignAnswer, foreignAnswer, noAnswer, notHttp } from "./not-an-edge.ts";
import { edgeRoute } from "./route.ts";

export interface Question {
  /** URL of the edge, `http:` or `https:`, including its path. */
  readonly edge: URL;
  /** Default GET. */
  readonly method?: string | undefined;
  /** Appended to the edge's path: `/admin/mailboxes?after=...`. */
  readonly path: string;
  readonly token?: string | undefined;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Sent as they are, instead. */
  readonly octets?: Uint8Array | undefined;
  /** Whether a value can be an edge's answer. */
  readonly expects: (value: unknown) => boolean;
  /** PEM certificates of the authorities to trust in addition to the system's and Node's. */
  readonly ca?: string | undefined;
  /** Default: connects directly. */
  readonly dialler?: Dialler | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Names the whole URL in the request, for a proxy that forwards it [RFC 9112 3.2.2]. Default false. */
  readonly isAbsolute?: boolean | undefined;
}

/** A request on a connection that exists. */
export type Exchange = Pick<Question, "edge" | "method" | "path" | "token" | "body" | "octets" | "isAbsolute">;

/** The value, or the edge's reason for refusing. */
export type EdgeAnswer =
  | { readonly ok: true; readonly value: unknown }
  | {
      readonly ok: false;
      readonly status: number;
      /** The edge's reason; the README lists them. */
      readonly code: string;
      readonly detail: string;
      readonly cure: string;
      /** Seconds. */
      readonly retryAfter: number | undefined;
      /** The edge's own name, if the request named a relay and may have meant the edge. */
      readonly edgeName: string | undefined;
    };

/**
 * Sends a request to an edge.
 *
 * @throws DeviceError ConnectFailed, CertificateRefused, TlsFailed, NotAnEdge; the reason of an aborted signal
 */
export async function askEdge(question: Question): Promise<EdgeAnswer> {
  const { edge, expects } = question;
  const answer = await exchange(question);
  const value = jsonOf(answer);
  const code = answer.header(REASON_HEADER.toLowerCase());
  const retryAfter = retryAfterOf(answer.header("retry-after"), answer.header("date"));
  if (code !== undefined) {
    const edgeName = answer.header(RELAY_HEADER.toLowerCase());
    const { detail = answer.phrase, cure = "" } = (value ?? {}) as { detail?: unknown; cure?: unknown };
    return {
      ok: false,
      status: answer.status,
      code,
      detail: visible(withoutCredentials(String(detail))),
      cure: visible(withoutCredentials(String(cure))),
      retryAfter,
      edgeName: edgeName === undefined || parseRelay(edgeName) === undefined ? undefined : edgeName,
    };
  }
  if (answer.status === 200 && value !== undefined && expects(value)) return { ok: true, value };
  throw foreignAnswer(edge, answer, retryAfter);
}

function jsonOf({ body }: ForeignAnswer): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(body));
  } catch {
    return undefined;
  }
}

async function exchange(question: Question): Promise<ForeignAnswer> {
  const { edge, ca, dialler, signal } = question;
  const socket = await dial({ ...edgeRoute(edge.href), ca, dialler, signal });
  const late = AbortSignal.timeout(ANSWER_TIMEOUT);
  try {
    return await converse(socket, question, signal === undefined ? late : AbortSignal.any([signal, late]));
  } catch (error) {
    signal?.throwIfAborted();
    if (!late.aborted) throw told(edge, error as WireError);
    const text = `${edge.origin} connected, but did not answer within ${seconds(ANSWER_TIMEOUT)}; try again later`;
    throw new DeviceError("ConnectFailed", text);
  } finally {
    socket.destroy();
  }
}

/** Sends a request over a connected socket. Resolves with any HTTP response; rejects with errors of node:http. */
export function converse(
  socket: Socket,
  { edge, method, path, token, body, octets, isAbsolute = false }: Exchange,
  signal: AbortSignal,
): Promise<ForeignAnswer> {
  const { promise, resolve, reject } = Promise.withResolvers<ForeignAnswer>();
  const sent = body === undefined ? octets : Buffer.from(JSON.stringify(body));
  const type = body === undefined ? "application/octet-stream" : "application/json";
  const asked = request({
    createConnection: () => socket,
    method,
    path: `${isAbsolute ? edge.origin : ""}${prefixOf(edge)}${path}`,
    headers: {
      Host: edge.host,
      Connection: "close",
      ...authorization(token),
      ...(sent !== undefined && { "Content-Type": type, "Content-Length": sent.length }),
    },
    signal,
  });
  asked.on("error", reject);
  asked.on("response", (response) => {
    whole(response).then(resolve, reject);
  });
  // An answer with 101, which nobody has asked for, is none.
  asked.on("upgrade", ({ statusCode = 0, statusMessage = "" }, upgraded) => {
    upgraded.destroy();
    resolve({ status: statusCode, phrase: statusMessage, header: () => undefined });
  });
  asked.end(sent);
  return promise;
}

async function whole(response: IncomingMessage): Promise<ForeignAnswer> {
  const { statusCode = 0, statusMessage = "", headers } = response;
  const pieces: Buffer[] = [];
  let length = 0;
  for await (const piece of response as AsyncIterable<Buffer>) {
    length += piece.length;
    // No edge sends this much. The beginning is enough to identify the sender.
    if (length > ANSWER_OCTETS) break;
    pieces.push(piece);
  }
  const header = (name: string) => {
    const value = headers[name];
    return typeof value === "string" ? value : value?.[0];
  };
  return { status: statusCode, phrase: statusMessage, header, body: Buffer.concat(pieces) };
}

/** An error of a socket or of Node's HTTP parser, which attaches the bytes it could not parse. */
interface WireError extends Error {
  readonly code?: string;
  readonly rawPacket?: Uint8Array;
}

function told(edge: URL, error: WireError): Error {
  if (error.rawPacket !== undefined) return notHttp(edge, error.rawPacket);
  if (error.message !== "aborted") return noAnswer(edge, error);
  const text = `${edge.origin} cut its answer off; look for a proxy or firewall in between, and try again`;
  return new DeviceError("ConnectFailed", text, { cause: error });
}
