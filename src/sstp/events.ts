/** The events of a connection, and the error it throws. */

import type { FanoutDeviceEntry, StreamSize, Version } from "./wire.ts";
import type { WireErrorCode } from "./wire-error.ts";

/** Why a call was rejected. */
export type StateErrorCode =
  /** The connection is closed. */
  | "closed"
  /** The call requires an 'established' connection. */
  | "not-established"
  /** Only the side that made the transport connection may call `connect`, and only once. */
  | "cannot-connect"
  /** `acceptConnect` and `refuseConnect` may be called once per `connect` event. */
  | "no-connect"
  /** There is no session with that id, or it is of another kind. */
  | "unknown-session"
  /** The session is not 'ready': the peer accepts no data now. */
  | "not-ready"
  /** A message is in progress on the session. */
  | "message-open"
  /** No message has begun on the session. */
  | "no-message"
  /** The connection has the maximum number of sessions, or has used every session id. */
  | "too-many-sessions"
  /** The protocol forbids an argument. */
  | "invalid-argument"
  /** The state cannot be saved while there is unsent output. */
  | "unsent-output"
  /** Another release wrote the snapshot. */
  | "snapshot-format";

/** Thrown by a call that the connection's state forbids. The connection is unchanged. */
export class StateError extends Error {
  readonly code: StateErrorCode;

  constructor(code: StateErrorCode, message: string) {
    super(message);
    this.name = "StateError";
    this.code = code;
  }
}

/** How a connection ended. */
export interface Closed {
  /** The side that ended it. */
  readonly by: "self" | "peer";
  /**
   * `close`: ConnectClose requested by a higher layer. `refused`: ConnectResponse other than Ok. `violation`:
   * ConnectClose because this side found a protocol violation by the peer. `limit`: ConnectClose because the peer
   * exceeded maxUnprocessed. `timeout`: nothing received within `receiveTimeout`. `transport`: the transport ended
   * without ConnectClose.
   */
  readonly cause: "close" | "refused" | "violation" | "limit" | "timeout" | "transport";
  /** From the ConnectClose, if there was one. */
  readonly reasonId?: number;
  /** From the ConnectResponse, if refused. */
  readonly responseId?: number;
  /** Seconds to wait before reconnecting to that device; with Resting [3.1.5.4] and TryLater. */
  readonly returnTime?: number;
  /** What was wrong with the received bytes, if that was the cause. */
  readonly wireError?: WireErrorCode;
  /** One sentence for a log. */
  readonly detail: string;
  /** Numbers of the messages sent and not acknowledged. Resend them on another connection. */
  readonly unacknowledged: readonly number[];
}

/** Addressing of a session with one destination. An empty `deviceURL` makes it identity-targeted. */
export interface AddressingEntry {
  readonly resourceURL: string;
  readonly identityURL: string;
  readonly deviceURL: string;
}

/** Addressing of a fanout session. SessionStatus indexes refer to the order of the entries [3.1.1.3]. */
export interface FanoutAddressing {
  readonly resourceURL: string;
  readonly entries: readonly FanoutDeviceEntry[];
}

/** The sender's options for a message [2.2.10.1]. Omitted ones are absent or false on the wire. */
export interface MessageFields {
  /** ASCII, at most about 2000 characters. Grooveway puts the message id here. */
  readonly userRef?: string | undefined;
  /** Flag G. */
  readonly track?: boolean | undefined;
  /** Flag A. */
  readonly acknowledgeImmediately?: boolean | undefined;
  /** Flag D. */
  readonly doNotDeliverIfOffline?: boolean | undefined;
  /** Flag E and its field, 32 bits. */
  readonly ephemeral?: number | undefined;
  /** Flag S and its fields, 64 bits each. */
  readonly streamSize?: StreamSize | undefined;
  /** Flag F and its fields, opaque. */
  readonly fragmentation?: Uint8Array | undefined;
}

/** {@link MessageFields} as received. */
export interface ReceivedMessageFields {
  readonly userRef: string;
  readonly track: boolean;
  readonly acknowledgeImmediately: boolean;
  readonly doNotDeliverIfOffline: boolean;
  readonly ephemeral?: number;
  readonly streamSize?: StreamSize;
  readonly fragmentation?: Uint8Array;
}

/** Outbound: opened by this side, which sends on it. Inbound: opened by the peer. The others carry security tokens. */
export type SessionKind = "outbound" | "inbound" | "attach" | "register";

/** Events of a connection. Tokens are opaque, and empty if the peer sent none. */
export type ConnectionEvent =
  /** The peer wants to connect: answer with `acceptConnect` or `refuseConnect`. */
  | {
      readonly type: "connect";
      readonly targetDeviceURL: string;
      readonly sourceDeviceURLs: readonly string[];
      /** The version that the connection will use. */
      readonly version: Version;
      readonly token: Uint8Array;
      readonly productVersion: string;
      readonly productCapabilities: string;
    }
  /** The peer accepted `connect`: the connection is 'established'. */
  | {
      readonly type: "connected";
      readonly version: Version;
      readonly token: Uint8Array;
      readonly productVersion: string;
      readonly productCapabilities: string;
    }
  /** The peer refused `connect`; `closed` follows. */
  | {
      readonly type: "refused";
      readonly responseId: number;
      /** Seconds. */
      readonly retryTime: number;
      /** The highest version that the peer supports; not necessarily known to this side. */
      readonly peerVersion: { readonly major: number; readonly minor: number };
      readonly token: Uint8Array;
    }
  | { readonly type: "connectAuthenticate"; readonly token: Uint8Array }
  /** The peer opens a session: answer with `setAvailability`. */
  | ({ readonly type: "open"; readonly sessionId: number } & AddressingEntry)
  /** The peer opens a fanout session that passes the checks of [3.3.5.6]: answer with `setAvailability`. */
  | ({ readonly type: "fanoutOpen"; readonly sessionId: number } & FanoutAddressing)
  /** A session of ours may send ('ready') or must not for now ('suspended'). */
  | { readonly type: "sessionState"; readonly sessionId: number; readonly state: "ready" | "suspended" }
  /** A session of ours was refused, immediately or later, and is gone. */
  | {
      readonly type: "sessionRefused";
      readonly sessionId: number;
      readonly responseId: number;
      /** Messages sent on it that will not be acknowledged. */
      readonly unacknowledged: readonly number[];
    }
  /** A session is gone. */
  | {
      readonly type: "sessionClosed";
      readonly sessionId: number;
      readonly kind: SessionKind;
      readonly by: "self" | "peer";
      readonly reasonId: number;
      /** Messages sent on it that will not be acknowledged. */
      readonly unacknowledged: readonly number[];
      /** Whether an inbound message was in progress: discard its data. */
      readonly unfinished: boolean;
    }
  /** Entries of a fanout session of ours are permanently unreachable. */
  | {
      readonly type: "sessionStatus";
      readonly sessionId: number;
      readonly statusId: number;
      readonly deviceURL: string;
      readonly identityURL: string;
      /** Indexes into `entries` of `openFanout` that this event removes. */
      readonly indexes: readonly number[];
      /** How many entries remain; at 0 the session was closed [3.2.5.8]. */
      readonly remaining: number;
    }
  /** A message begins on an inbound session. */
  | { readonly type: "message"; readonly sessionId: number; readonly fields: ReceivedMessageFields }
  /** Part of the message. `octets` is usually a view of the chunk passed to `receive`: copy what must outlive it. */
  | { readonly type: "data"; readonly sessionId: number; readonly octets: Uint8Array }
  /** The message is complete. When it has been processed (stored, delivered), pass `message` to `complete`. */
  | { readonly type: "endMessage"; readonly sessionId: number; readonly message: number }
  /** The peer has processed these messages of ours, oldest first. Numbers are those returned by `endMessage`. */
  | { readonly type: "acknowledged"; readonly messages: readonly number[] }
  /** The peer wants to attach an account: answer with `acceptAttach` or `closeSession(eventId, reasonId)`. */
  | {
      readonly type: "attach";
      readonly eventId: number;
      readonly accountURL: string;
      readonly resourceURL: string;
      readonly token: Uint8Array;
    }
  | { readonly type: "attachAuthenticate"; readonly eventId: number; readonly token: Uint8Array }
  /** Answer to `attach`. */
  | { readonly type: "attached"; readonly eventId: number; readonly token: Uint8Array }
  /** Response to `attach` with a ResponseId other than Ok. The attach session is gone. */
  | {
      readonly type: "attachRefused";
      readonly eventId: number;
      readonly responseId: number;
      readonly token: Uint8Array;
    }
  /** The peer registers: answer with `acceptRegister` or `closeSession(eventId, reasonId)`. */
  | { readonly type: "register"; readonly eventId: number; readonly token: Uint8Array }
  /** Response to `register`. The meaning of a `responseId` other than Ok (0) is unknown. */
  | { readonly type: "registered"; readonly eventId: number; readonly responseId: number; readonly token: Uint8Array }
  /** The connection is closed. Always the last event, and sent once. */
  | ({ readonly type: "closed" } & Closed);
