/**
 * What a Tunnel and the connection of its device ask of each other, whatever the encapsulation:
 *
 *   HttpConnection        LongLived and KeepAlive: a POST up, and a GET that is parked in its Worker
 *   PollingConnection     Polling: single requests
 *   WebSocketConnection   WebSocket: the device's own socket
 *
 * A connection carries bytes between its device and the far end. When it fails, it tells its Tunnel, which ends the
 * virtual connection: it closes the connection and the far end, once.
 *
 * @module
 */
import type { Judge } from "../../auth/token-recheck.ts";
import type { Encapsulation } from "../../encapsulation/index.ts";
import type { Reason } from "../reasons.ts";
import type { FarEnd } from "./far-end.ts";
import type { SavedConnection } from "./hibernation.ts";

export interface DeviceConnection {
  readonly encapsulation: Encapsulation;
  /** Whether its device sends single requests. Nothing reports the end of such a device, so an alarm must notice it. */
  readonly singleRequests: boolean;
  /** When the first timer of the encapsulation runs out, in milliseconds since 1970; infinite if it has none. */
  readonly deadline: number;
  /** The socket that the platform holds: the device's own, or the bell of its parked GET. */
  readonly socket: WebSocket | undefined;
  /** Ends the virtual connection if a timer has run out. Returns when to check again; infinite if there is no need. */
  expire(now: number): number;
  /** When the device last gave a sign of life, in milliseconds since 1970; 0 if it is gone. */
  lastSign(signs: SignsOfLife): number;
  /** What to save for eviction; "unsettled" while a request is answered; undefined if nothing would wake the object. */
  save(): SavedConnection | "unsettled" | undefined;
  /** Closes the requests or the socket of the device. Only the Tunnel calls it, once. */
  close(reason: Reason): void;
}

/** A connection with a socket. Its Tunnel hands it the socket's events. */
export interface SocketConnection extends DeviceConnection {
  /** Handles a message. Returns undefined if it is handled, else a promise. */
  hear(word: string | ArrayBuffer): Promise<void> | undefined;
  /** The other end has closed the socket. */
  socketClosed(code: number): void;
}

/** What a Tunnel knows of its device's life. Times are milliseconds since 1970. */
export interface SignsOfLife {
  readonly now: number;
  /** The last request or message since the object woke; 0 if there was none. */
  readonly heardAt: number;
  /** When the object woke. */
  readonly wokeAt: number;
  /** The last ping on a socket; undefined if there was none. */
  pingedAt(socket: WebSocket): number | undefined;
}

/** What a connection uses of its Tunnel. */
export interface ConnectionContext {
  readonly far: FarEnd;
  /** Whether the token's bearer may still be served. */
  readonly standing: Judge;
  /** The object's hibernatable sockets. */
  readonly sockets: Pick<DurableObjectState, "acceptWebSocket" | "getWebSockets">;
  /** Ends the virtual connection, if it has not ended. It has closed this connection when it returns. */
  end(reason: Reason): void;
  /** Logs an unexpected error, and ends the virtual connection with `InternalError`. */
  fail(error: unknown): void;
}

/** Tags that tell the object's hibernatable sockets apart. */
export const TAG = { bell: "bell", post: "post", device: "device", egress: "egress", batches: "batches" } as const;
