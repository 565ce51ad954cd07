/**
 * The wire registry of SSTP [MS-GRVSSTP 2.2]: the only place that defines command ids, fields, widths, enumerations,
 * masks and limits.
 *
 * All integers are little-endian (assumed, like every fact below marked so: the published text could not be read there,
 * and a better reading is corrected in this file only).
 *
 * A command is CommandId 1, CommandLength 2 (the whole command, these three octets included), then the fields, back to
 * back, without padding. Strings ("z-strings") are ASCII and end with one 0x00 octet.
 *
 * Flow of a connection between device A, which made the transport connection, and B:
 *
 *     A  Connect                                B  ConnectResponse (Ok: established)
 *     A  Open | FanoutOpen                      B  OpenResponse (Ok: ready, OkStopSending: suspended)
 *     A  Message, Data, ..., Data, EndMessage   B  Noop (acknowledges), or a Message of B that acknowledges too
 *     A  Close                                  either  ConnectClose
 *
 * After ConnectResponse either side may do any of this. Sessions of one connection interleave freely.
 */

/** A protocol version. 1.6 includes 1.5; a connection uses the lower version of its two sides [3.1.1.1, 4.1.1]. */
export interface Version {
  readonly major: 1;
  readonly minor: 5 | 6;
}

export const VERSION_1_5: Version = { major: 1, minor: 5 };
export const VERSION_1_6: Version = { major: 1, minor: 6 };

/** TCP port of SSTP, assigned by IANA [3.1.1.1]. */
export const SSTP_PORT = 2492;

/** Maximum octets of application data in one Data command [3.1.4.6]. */
export const MAX_DATA_OCTETS = 2048;

/** Octets before the payload of a Data command: CommandId 1, CommandLength 2, SessionId 4 (assumed) [2.2.11]. */
export const DATA_HEADER_OCTETS = 7;

/** CommandId and CommandLength [2.2]. */
export const COMMAND_HEADER_OCTETS = 3;

/** Maximum octets of most commands [2.2.3, 2.2.5, 2.2.10]. */
export const MAX_SHORT_COMMAND_OCTETS = 2055;

/** Maximum octets that CommandLength can express [2.2.6]. */
export const MAX_COMMAND_OCTETS = 65535;

/** Resource URL reserved for WAN device presence. Only its session may have an empty IdentityURL [2.2.5.1]. */
export const WAN_DPP_RESOURCE_URL = "grooveWanDPP";

/** One recipient of a fanout session [3.1.4.3.3]. */
export interface FanoutDeviceEntry {
  readonly identityURL: string;
  /** Empty for an identity-targeted recipient. */
  readonly deviceURL: string;
  /** Relay of the recipient; empty if the recipient belongs to the relay that receives the command. */
  readonly relayURL: string;
  /** 1.6 only. Empty according to the specification; kept if a peer sends something else. */
  readonly failoverDeviceURLs?: string;
}

/** StreamSize Fields of Message, 24 octets: three 8-octet integers (assumed) [2.2.10.1]. */
export type StreamSize = readonly [bigint, bigint, bigint];

/** Field kinds that are always present, and the type of each in a decoded command. */
interface KindValues {
  /** 1 octet. */
  u8: number;
  /** 4 octets. */
  u32: number;
  /** z-string, possibly empty. */
  zstring: string;
  /** z-string that MUST NOT be empty. */
  filled: string;
  /** Count 1, then that many z-strings. */
  zstrings8: readonly string[];
  /** Length 2, then that many octets. */
  octets16: Uint8Array;
  /** The rest of the command. */
  octets: Uint8Array;
  /** 1 octet of {@link MessageFlag}. The encoder sets the bits that say which fields follow. */
  messageFlags: number;
  /** Count 2, then that many {@link entryLayout}. */
  entries16: readonly FanoutDeviceEntry[];
}

/** Optional field kinds. */
interface OptionalKindValues {
  /** 4 octets, present when flag E is set (width assumed). */
  ephemeral: number;
  /** 24 octets, present when flag S is set. */
  streamSize: StreamSize;
  /** Length 2, then that many octets, present when flag F is set (assumed; opaque here). */
  fragmentation: Uint8Array;
  /** Count 2, then 2 octets each (assumed), present in 1.6 when octets remain. */
  indexes16: readonly number[];
}

/** Field kinds without a value: written as zeros, ignored on receipt. */
type ReservedKind = "reserved8" | "reserved16";

/** How a field is encoded. The comments of the kinds above give the widths. */
export type FieldKind = keyof KindValues | keyof OptionalKindValues | ReservedKind;

/** One command: its id, maximum octets in all, and the fields after CommandId and CommandLength, in order. */
export interface Layout {
  readonly id: number;
  readonly maxLength: number;
  readonly fields: readonly (readonly [name: string, kind: FieldKind])[];
}

const SHORT = MAX_SHORT_COMMAND_OCTETS;
const LONG = MAX_COMMAND_OCTETS;

/** The 18 commands. */
export const layouts = {
  Connect: {
    id: 0x01, // [2.2.1.1]
    maxLength: LONG, // assumed
    fields: [
      ["majorVersionNumber", "u8"],
      ["minorVersionNumber", "u8"],
      ["reserved", "reserved8"],
      ["targetDeviceURL", "zstring"],
      ["sourceDeviceURLs", "zstrings8"], // NumSourceDeviceURLs 1, SourceDeviceURLs
      ["authenticationToken", "octets16"], // AuthenticationTokenLength 2, AuthenticationToken [MS-GRVSSTPS]
      ["peerProductVersion", "zstring"], // `<vendor> <product> <version> <build>`
      ["peerProductCapabilities", "zstring"], // assumed: words separated by spaces; unknown ones are ignored
    ],
  },
  ConnectResponse: {
    id: 0x02, // assumed [2.2.2]
    maxLength: LONG, // assumed, as is the layout; the fields themselves are named in [3.1.5.1, 3.3.5.1]
    fields: [
      ["responseId", "u8"], // ConnectResponseId
      ["majorVersionNumber", "u8"],
      ["minorVersionNumber", "u8"], // of the connection if Ok, otherwise the highest that the sender supports
      ["retryTime", "u32"], // seconds, with TryLater
      ["authenticationToken", "octets16"],
      ["peerProductVersion", "zstring"],
      ["peerProductCapabilities", "zstring"],
    ],
  },
  ConnectAuthenticate: {
    id: 0x03, // assumed [2.2.3]
    maxLength: SHORT,
    fields: [["authenticationToken", "octets16"]], // assumed
  },
  ConnectClose: {
    id: 0x04, // assumed [2.2.4]
    maxLength: SHORT, // assumed, as are order and widths
    fields: [
      ["messageCount", "u32"], // messages acknowledged by this command
      ["reasonId", "u8"], // ConnectCloseReasonId
      ["returnTime", "u32"], // seconds, with Resting
    ],
  },
  Open: {
    id: 0x05, // [2.2.5.1]
    maxLength: SHORT,
    fields: [
      ["sessionId", "u32"],
      ["resourceURL", "filled"],
      ["identityURL", "zstring"], // empty only for WAN_DPP_RESOURCE_URL
      ["deviceURL", "zstring"], // empty: identity-targeted
      ["flags", "reserved8"], // r1..r7 are 0; I is 0 and MUST be ignored
      ["reserved", "reserved16"],
    ],
  },
  FanoutOpen: {
    id: 0x06, // [2.2.6.1]
    maxLength: LONG,
    fields: [
      ["sessionId", "u32"],
      ["resourceURL", "filled"],
      ["flags", "reserved8"], // r1..r7 are 0; I is 0 and MUST be ignored
      ["fanoutDeviceEntries", "entries16"], // NumFanoutDeviceEntries 2, FanoutDeviceEntries
      ["reserved", "reserved16"], // width assumed
    ],
  },
  OpenResponse: {
    id: 0x07, // assumed [2.2.7]
    maxLength: SHORT, // assumed, as are the widths
    fields: [
      ["sessionId", "u32"],
      ["responseId", "u8"], // OpenResponseId; sent again when the state of the session changes (assumed)
    ],
  },
  Attach: {
    id: 0x08, // [2.2.14.1]
    maxLength: LONG, // assumed
    fields: [
      ["eventId", "u32"],
      ["resourceURL", "zstring"], // relay that authenticates the account; may be empty
      ["accountURL", "filled"],
      ["authenticationToken", "octets16"],
    ],
  },
  AttachResponse: {
    id: 0x09, // assumed [2.2.15]
    maxLength: LONG, // assumed, as is the layout
    fields: [
      ["eventId", "u32"],
      ["responseId", "u8"], // AttachResponseId
      ["authenticationToken", "octets16"],
    ],
  },
  AttachAuthenticate: {
    id: 0x0a, // assumed [2.2.16]
    maxLength: LONG, // assumed, as is the layout
    fields: [
      ["eventId", "u32"],
      ["authenticationToken", "octets16"],
    ],
  },
  Register: {
    id: 0x0b, // assumed [2.2.17]
    maxLength: LONG, // assumed, as is the layout
    fields: [
      ["eventId", "u32"],
      ["authenticationToken", "octets16"],
    ],
  },
  RegisterResponse: {
    id: 0x0c, // assumed [2.2.18]
    maxLength: LONG, // assumed, as is the layout
    fields: [
      ["eventId", "u32"],
      ["responseId", "u8"], // RegisterResponseId
      ["authenticationToken", "octets16"],
    ],
  },
  Message: {
    id: 0x0d, // [2.2.10.1]
    maxLength: SHORT,
    fields: [
      ["sessionId", "u32"],
      ["messageCount", "u32"], // messages acknowledged, of the whole connection
      ["flags", "messageFlags"],
      ["userRef", "zstring"], // form assumed
      ["ephemeral", "ephemeral"],
      ["streamSize", "streamSize"],
      ["fragmentation", "fragmentation"],
    ],
  },
  Data: {
    id: 0x0e, // assumed [2.2.11]
    maxLength: SHORT, // 7 + 2048
    fields: [
      ["sessionId", "u32"],
      ["data", "octets"], // at most MAX_DATA_OCTETS [3.1.4.6]
    ],
  },
  EndMessage: {
    id: 0x0f, // assumed [2.2.12]
    maxLength: SHORT, // assumed
    fields: [["sessionId", "u32"]],
  },
  Noop: {
    id: 0x10, // assumed [2.2.13]
    maxLength: SHORT, // assumed
    fields: [["messageCount", "u32"]], // 0: acknowledges nothing, keeps the connection alive
  },
  Close: {
    id: 0x11, // [2.2.9.1]
    maxLength: 8, // exactly
    fields: [
      ["sessionId", "u32"],
      ["reasonId", "u8"], // CloseReasonId
    ],
  },
  SessionStatus: {
    id: 0x12, // [2.2.8.1]
    maxLength: LONG, // assumed
    fields: [
      ["sessionId", "u32"],
      ["statusId", "u8"], // SessionStatusId
      ["reserved", "reserved8"],
      ["deviceURL", "zstring"], // statuses 1 to 3: URL of the remote relay
      ["identityURL", "zstring"],
      ["fanoutDeviceIndexes", "indexes16"], // only in 1.6, for several entries of the FanoutOpen; from 0
    ],
  },
} as const satisfies Record<string, Layout>;

/** FanoutDeviceEntry: three z-strings, and a fourth only in 1.6 (order assumed) [3.1.4.3.3]. */
export const entryLayout = ["identityURL", "deviceURL", "relayURL", "failoverDeviceURLs"] as const;

/** Flags of Message. The leftmost bit of the diagram is taken as the most significant (assumed) [2.2.10.1]. */
export const MessageFlag = {
  /** D: asks a relay to discard the message if the destination device is offline. */
  DoNotDeliverIfOffline: 0x01,
  /** E: Ephemeral Fields are present. */
  Ephemeral: 0x02,
  /** A: asks for immediate acknowledgement. */
  AcknowledgeImmediately: 0x04,
  /** S: StreamSize Fields are present. */
  StreamSize: 0x10,
  /** G: the receiver should track the message and report its status to the resource handler. */
  Track: 0x20,
  /** F: Fragmentation Fields are present. */
  Fragmentation: 0x40,
} as const;

/** Flags that the sender chooses. The others follow from the fields present. */
export const MESSAGE_CHOICE_FLAGS =
  MessageFlag.DoNotDeliverIfOffline | MessageFlag.AcknowledgeImmediately | MessageFlag.Track;

/** ConnectResponse.ResponseId [3.1.5.1, 3.3.5.1]. The meanings of 0x07, 0x08 and values above 0x09 are unknown. */
export const ConnectResponseId = {
  Ok: 0x00,
  WrongDevice: 0x01,
  TryLater: 0x02,
  WillUpgrade: 0x03,
  WontUpgrade: 0x04,
  NewVersionRequired: 0x05,
  AuthenticationFailed: 0x06,
  ConnectRejected: 0x09,
} as const;

/** ConnectClose.ReasonId [3.1.5]. The meanings of other values are unknown. */
export const ConnectCloseReasonId = {
  Resting: 0x01,
  ProtocolError: 0x03,
  CrossedConnections: 0x0c,
  TooManyUnknownSessionCmds: 0x0f,
} as const;

/** OpenResponse.ResponseId [3.1.5.5, 3.3.5.6]. The meanings of other values are unknown. */
export const OpenResponseId = {
  Ok: 0x00,
  NoResource: 0x04,
  Unknown: 0x05,
  NoFanoutEntries: 0x08,
  OkStopSending: 0x0b,
  FanoutNotSupported: 0x0c,
} as const;

/** Close.ReasonId, complete [2.2.9.1]. */
export const CloseReasonId = {
  NoReason: 0x00,
  Idle: 0x02,
  ProtocolError: 0x03,
  DeviceAuthenticationFailed: 0x04,
  UserAuthenticationFailed: 0x05,
  StaleAttachAuthenticate: 0x07,
  QuotaWouldBeExceeded: 0x0b,
  InternalError: 0x0d,
  EmptySession: 0x15,
} as const;

/** SessionStatus.StatusId, complete [2.2.8.1]. */
export const SessionStatusId = {
  DNSLookupFailed: 0x01,
  HostNotReachable: 0x02,
  ConnectionClosed: 0x03,
  QuotaWouldBeExceeded: 0x04,
  LockedOut: 0x05,
} as const;

/** AttachResponse.ResponseId (assumed) [2.2.15]. */
export const AttachResponseId = { Ok: 0x00 } as const;

/** RegisterResponse.ResponseId (assumed) [2.2.18]. */
export const RegisterResponseId = { Ok: 0x00 } as const;

/** Name of a command, as in the specification. */
export type CommandName = keyof typeof layouts;

type FieldOf<N extends CommandName> = (typeof layouts)[N]["fields"][number];
type Flat<T> = { [K in keyof T]: T[K] };

/** The decoded form of command `N`, derived from its layout. Fields are named as in the specification. */
export type CommandOf<N extends CommandName> = Flat<
  { readonly command: N } & {
    readonly [F in FieldOf<N> as F[1] extends keyof KindValues ? F[0] : never]: F[1] extends keyof KindValues
      ? KindValues[F[1]]
      : never;
  } & {
    readonly [F in FieldOf<N> as F[1] extends keyof OptionalKindValues
      ? F[0]
      : never]?: F[1] extends keyof OptionalKindValues ? OptionalKindValues[F[1]] : never;
  }
>;

export type Connect = CommandOf<"Connect">;
export type ConnectResponse = CommandOf<"ConnectResponse">;
export type ConnectAuthenticate = CommandOf<"ConnectAuthenticate">;
export type ConnectClose = CommandOf<"ConnectClose">;
export type Open = CommandOf<"Open">;
export type FanoutOpen = CommandOf<"FanoutOpen">;
export type OpenResponse = CommandOf<"OpenResponse">;
export type Attach = CommandOf<"Attach">;
export type AttachResponse = CommandOf<"AttachResponse">;
export type AttachAuthenticate = CommandOf<"AttachAuthenticate">;
export type Register = CommandOf<"Register">;
export type RegisterResponse = CommandOf<"RegisterResponse">;
export type Message = CommandOf<"Message">;
export type Data = CommandOf<"Data">;
export type EndMessage = CommandOf<"EndMessage">;
export type Noop = CommandOf<"Noop">;
export type Close = CommandOf<"Close">;
export type SessionStatus = CommandOf<"SessionStatus">;

/** Any SSTP command, discriminated by `command`. */
export type Command = { [N in CommandName]: CommandOf<N> }[CommandName];
