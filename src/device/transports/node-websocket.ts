/**
 * A WebSocket in Node, by the package `ws`: through proxies, with authorities of one's own, and with the answer of what
 * refuses it.
 *
 * @module
 */
import { randomFillSync } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import { type ClientOptions, WebSocket } from "ws";
import { REASON_HEADER, refusalText, retryAfterOf, TIMERS } from "../../encapsulation/index.ts";
import { adviceOf } from "../../store-and-forward/reason-advice.ts";
import { DeviceError } from "../device-error.ts";
import {
  ANSWER_HEAD,
  ANSWERS_AHEAD,
  CLOSE_TIMEOUT,
  DIAL_TIMEOUT,
  WEBSOCKET_LONGEST,
  WEBSOCKET_MASKS,
} from "../limits.ts";
import { type RefusedToken, tokenRefusal } from "../token-refusal.ts";
import { authorization } from "../token-source.ts";
import { type Dialler, dial } from "./dial.ts";
import { foreignAnswer, noAnswer, notHttp } from "./not-an-edge.ts";
import type { EdgeRoute } from "./route.ts";
import type { OpenMessageSocket } from "./websocket-transport.ts";

/** How to connect to the edge. */
export interface NodeWebSocketWay extends EdgeRoute {
  /** PEM certificates of the authorities to trust in addition to the system's and Node's. */
  readonly ca: string | undefined;
  readonly dialler: Dialler;
  readonly token: string | undefined;
  readonly relay: string;
}

/** Opens WebSockets by `ws`. */
export function nodeWebSockets(way: NodeWebSocketWay): OpenMessageSocket {
  const { edge, token, relay } = way;
  return (url, { onOpen, onMessage, onSent, onClose }) => {
    const dialling = new AbortController();
    let isOpen = false;
    let failure: DeviceError | undefined;
    const socket = new WebSocket(url, {
      perMessageDeflate: false,
      generateMask,
      headers: authorization(token),
      handshakeTimeout: DIAL_TIMEOUT + TIMERS.establishment,
      maxPayload: WEBSOCKET_LONGEST,
      autoPong: false,
      // Another end that does not answer must not keep this process running.
      ...{ closeTimeout: CLOSE_TIMEOUT },
      createConnection: connection(() => dial({ ...way, signal: dialling.signal })),
    });
    socket.binaryType = "nodebuffer";
    socket.on("open", () => {
      isOpen = true;
      onOpen();
    });
    socket.on("message", (data: Buffer, isBinary: boolean) => onMessage(isBinary ? data : data.toString("latin1")));
    socket.on("ping", (data) => {
      // A server that does not read the answers gets no more of them.
      if (socket.bufferedAmount <= ANSWERS_AHEAD) socket.pong(data);
    });
    socket.on("unexpected-response", (_request, response) => {
      const end = () => {
        failure ??= refusal(edge, response, { body: Buffer.concat(body), token, name: relay });
        socket.terminate();
      };
      // Collects the start of an error page, for at most CLOSE_TIMEOUT (2 s).
      const body: Buffer[] = [];
      let octets = 0;
      const late = setTimeout(end, CLOSE_TIMEOUT);
      response.on("data", (piece: Buffer) => {
        body.push(piece);
        octets += piece.length;
        if (octets >= ANSWER_HEAD) end();
      });
      response.on("error", () => undefined);
      response.on("close", () => {
        clearTimeout(late);
        end();
      });
    });
    socket.on("error", (error) => {
      failure ??= isOpen ? brokenBy(error) : failureOf(edge, error);
    });
    socket.on("close", (code, reason) => {
      dialling.abort();
      onClose(code, reason.toString(), failure);
    });
    return {
      get bufferedAmount() {
        return socket.bufferedAmount;
      },
      send: (data) => socket.send(data, { binary: typeof data !== "string" }, onSent),
      pause: () => socket.pause(),
      resume: () => socket.resume(),
      close() {
        socket.close(1000);
        // An edge that is cut off does not answer the close, nor take what is still to be sent.
        setTimeout(() => socket.terminate(), CLOSE_TIMEOUT).unref();
      },
      terminate: () => socket.terminate(),
    };
  };
}

/** Length of a mask [RFC 6455 5.3]. */
const MASK_OCTETS = 4;

/** Random bytes for the next masks. */
const masks = new Uint8Array(WEBSOCKET_MASKS * MASK_OCTETS);
let masksUsed = masks.length;

/** Fills the mask of a message. Each is used once. */
export function generateMask(mask: Uint8Array): void {
  if (masksUsed === masks.length) {
    randomFillSync(masks);
    masksUsed = 0;
  }
  mask.set(masks.subarray(masksUsed, masksUsed + MASK_OCTETS));
  masksUsed += MASK_OCTETS;
  neverZero(mask);
}

/**
 * Changes a mask that is zero. With such a mask `ws` does not copy what it sends, and the caller frees that memory at once.
 */
export function neverZero(mask: Uint8Array): void {
  if (mask.every((octet) => octet === 0)) mask[0] = 1;
}

/** Adapts an asynchronous dial to node:http's `createConnection`. */
function connection(make: () => Promise<Socket>): NonNullable<ClientOptions["createConnection"]> {
  const create = (_: unknown, made: (error: Error | null, socket?: Socket) => void) => {
    make().then((socket) => made(null, socket), made);
  };
  // The declared type is that of net.connect, which returns its socket synchronously.
  return create as unknown as NonNullable<ClientOptions["createConnection"]>;
}

/** Explains an HTTP response received instead of a WebSocket. */
function refusal(
  edge: URL,
  { statusCode: status = 0, statusMessage: phrase = "", headers }: IncomingMessage,
  { body, ...shown }: RefusedToken & { readonly body: Uint8Array },
): DeviceError {
  const header = (name: string) => {
    const value = headers[name.toLowerCase()];
    return typeof value === "string" ? value : value?.[0];
  };
  const retryAfter = retryAfterOf(header("retry-after"), header("date"));
  const code = header(REASON_HEADER);
  if (code === undefined) return foreignAnswer(edge, { status, phrase, header, body }, retryAfter);
  const { detail, cure } = refusalText(header, `${status} ${phrase}`);
  const refused = tokenRefusal(code, { ...shown, detail });
  if (refused !== undefined) return refused;
  const text = `the edge refused websocket: ${detail}${cure === undefined ? "" : ` ${cure}`} [${code}]`;
  return new DeviceError("Refused", text, { advice: adviceOf(code, status), retryAfter });
}

/** Converts an error of a socket, of Node's HTTP parser, or of the dialler. */
function failureOf(edge: URL, error: NodeJS.ErrnoException & { readonly rawPacket?: Uint8Array }): DeviceError {
  if (error instanceof DeviceError) return error;
  if (error.rawPacket !== undefined) return notHttp(edge, error.rawPacket);
  if (error.code === "ECONNRESET") return noAnswer(edge, error);
  const text = `no connection by websocket: ${error.message || (error.code ?? error.name)}`;
  return new DeviceError("ConnectFailed", text, { cause: error });
}

/** Converts an error on an established connection. */
function brokenBy(error: NodeJS.ErrnoException): DeviceError {
  const text = `the connection was lost: ${error.message || (error.code ?? error.name)}`;
  return new DeviceError("ConnectFailed", text, { cause: error });
}
