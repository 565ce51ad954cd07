/**
 * What a connection tells its owner, and the one error it throws.
 */

import type { FanoutDeviceEntry, StreamSize, Version } from "./wire.ts";
import type { WireErrorCode } from "./wire-error.ts";

/** Why a call was refused. */
export type StateErrorCode =
  /** The connection is over. */
  | "closed"
  /** The call needs a connection that is 'established'. */
  | "not-established"
  /** `connect` is for the side that made the transport connection, once. */
  | "cannot-connect"
  /** `acceptConnect` and `refuseConnect` answer a `connect` event, once. */
  | "no-connect"
  /** No session of that id, or not of the kind that the call is for. */
  | "unknown-session"
  /** The session is not 'ready', so the peer does not want data now. */
  | "not-ready"
  /** The session is in the middle of a message. */
  | "message-open"
  /** The session has no message begun. */
  | "no-message"
  /** The connection has as many sessions as it may, or has used every session id. */
  | "too-many-sessions"
  /** An argument that the protocol forbids. */
  | "invalid-argument"
  /** The state cannot be saved while output waits to be taken. */
  | "unsent-output"
  /** The snapshot was written by another release. */
  | "snapshot-format";

/** Thrown by a call that the state of the connection forbids; the connection is as it was. */
export class StateError extends Error {
  readonly code: StateErrorCode;

  constructor(code: StateErrorCode, message: string) {
    super(message);
    this.name = "StateError";
    this.code = code;
  }
}

/** What became of a connection. */
export interface Closed {
  /** The side that ended it. */
  readonly by: "self" | "peer";
  /**
   * `close`: ConnectClose because a higher layer wanted it. `refused`: ConnectResponse other than Ok.
   * `violation`: ConnectClose because this side found the peer breaking a rule. `limit`: ConnectClose because the peer
   * has sent more than is allowed to wait here. `timeout`: nothing came within `receiveTimeout`. `transport`: the
   * transport ended without ConnectClose.
   */
  readonly cause: "close" | "refused" | "violation" | "limit" | "timeout" | "transport";
  /** Of the ConnectClose, when there was one. */
  readonly reasonId?: number;
  /** Of the ConnectResponse, when refused. */
  readonly responseId?: number;
  /** Seconds to wait before connecting to that device again; with Resting [3.1.5.4] and TryLater. */
  readonly returnTime?: number;
  /** What was wrong with the octets, when that was it. */
  readonly wireError?: WireErrorCode;
  /** One sentence for a log. */
  readonly detail: string;
  /** Numbers of the messages sent and not acknowledged: to be sent again on another connection. */
  readonly unacknowledged: readonly number[];
}

/** The addressing of a session with one destination; an empty `deviceURL` makes it identity-targeted. */
export interface AddressingEntry {
  readonly resourceURL: string;
  readonly identityURL: string;
  readonly deviceURL: string;
}

/** The addressing of a fanout session. The order of the entries is that of SessionStatus indexes [3.1.1.3]. */
export interface FanoutAddressing {
  readonly resourceURL: string;
  readonly entries: readonly FanoutDeviceEntry[];
}

/** What a sender chooses about a message [2.2.10.1]; everything left out is absent or false on the wire. */
export interface MessageFields {
  /** ASCII, at most about 2000 characters; Grooveway puts the message id here. */
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

/** Outbound: opened by this side, which sends on it. Inbound: opened by the peer. The rest carry security tokens. */
export type SessionKind = "outbound" | "inbound" | "attach" | "register";

/** Tells what came in. Every token is opaque, and empty when the peer sent none. */
export type ConnectionEvent =
  /** The peer wants to connect: answer with `acceptConnect` or `refuseConnect`. */
  | {
      readonly type: "connect";
      readonly targetDeviceURL: string;
      readonly sourceDeviceURLs: readonly string[];
      /** The version that the connection will have. */
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
      /** The highest version that the peer supports; not necessarily one of ours. */
      readonly peerVersion: { readonly major: number; readonly minor: number };
      readonly token: Uint8Array;
    }
  | { readonly type: "connectAuthenticate"; readonly token: Uint8Array }
  /** The peer opens a session: answer with `setAvailability`. */
  | ({ readonly type: "open"; readonly sessionId: number } & AddressingEntry)
  /** The peer opens a fanout session that passes the checks of [3.3.5.6]: answer with `setAvailability`. */
  | ({ readonly type: "fanoutOpen"; readonly sessionId: number } & FanoutAddressing)
  /** A session of ours may send ('ready'), or must not for now ('suspended'). */
  | { readonly type: "sessionState"; readonly sessionId: number; readonly state: "ready" | "suspended" }
  /** A session of ours was refused, at once or later, and is gone. */
  | {
      readonly type: "sessionRefused";
      readonly sessionId: number;
      readonly responseId: number;
      /** Messages sent on it that will never be acknowledged. */
      readonly unacknowledged: readonly number[];
    }
  /** A session is gone. */
  | {
      readonly type: "sessionClosed";
      readonly sessionId: number;
      readonly kind: SessionKind;
      readonly by: "self" | "peer";
      readonly reasonId: number;
      /** Messages sent on it that will never be acknowledged. */
      readonly unacknowledged: readonly number[];
      /** An inbound message had begun and will not end: discard its data. */
      readonly unfinished: boolean;
    }
  /** Entries of a fanout session of ours are out of reach for good. */
  | {
      readonly type: "sessionStatus";
      readonly sessionId: number;
      readonly statusId: number;
      readonly deviceURL: string;
      readonly identityURL: string;
      /** Indexes into `entries` of `openFanout` that were lost by this. */
      readonly indexes: readonly number[];
      /** How many entries are left; at 0 the session was closed [3.2.5.8]. */
      readonly remaining: number;
    }
  /** A message begins on an inbound session. */
  | { readonly type: "message"; readonly sessionId: number; readonly fields: ReceivedMessageFields }
  /** Part of it. `octets` is usually a view of the chunk given to `receive`: copy what must outlive that chunk. */
  | { readonly type: "data"; readonly sessionId: number; readonly octets: Uint8Array }
  /** It is whole: when it has been processed (stored, delivered), give `message` to `complete`. */
  | { readonly type: "endMessage"; readonly sessionId: number; readonly message: number }
  /** Messages of ours that the peer has processed, oldest first; numbers as `endMessage` returned them. */
  | { readonly type: "acknowledged"; readonly messages: readonly number[] }
  /** The peer wants an account attached: answer with `acceptAttach`, or `closeSession(eventId, reasonId)`. */
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
  /** Answer to `attach` with a ResponseId other than Ok; the attach session is gone. */
  | {
      readonly type: "attachRefused";
      readonly eventId: number;
      readonly responseId: number;
      readonly token: Uint8Array;
    }
  /** The peer registers: answer with `acceptRegister`, or `closeSession(eventId, reasonId)`. */
  | { readonly type: "register"; readonly eventId: number; readonly token: Uint8Array }
  /** Answer to `register`; the meaning of `responseId` other than Ok (0) is unknown. */
  | { readonly type: "registered"; readonly eventId: number; readonly responseId: number; readonly token: Uint8Array }
  /** The connection is over. The last event, and the only one of its type. */
  | ({ readonly type: "closed" } & Closed);
