/**
 * Why a channel ends, and why a stream is reset: one enumeration for code, wire, logs and documentation. Codes are
 * stable; a code from the wire that is not listed here becomes `ConnectionReset`.
 *
 * @module
 */

interface Rule {
  /** On the wire, from 1 to 255. */
  readonly code: number;
  readonly cause: string;
  readonly cure: string;
}

export const REASONS = {
  Closed: { code: 1, cause: "The channel was closed.", cure: "Dial again." },
  UnknownKey: {
    code: 2,
    cause: "The key of the dialing device is not accepted by the device that it dials.",
    cure: "Accept it there, with the fingerprint that grooveway id prints here: grooveway trust ADDRESS FINGERPRINT.",
  },
  ChangedKey: {
    code: 3,
    cause: "The device has another key than the one that was pinned for its address.",
    cure: "Compare the new fingerprint with its owner, then pin it (grooveway trust --pin ADDRESS FINGERPRINT).",
  },
  HandshakeFailed: {
    code: 4,
    cause: "The handshake does not fit the keys and addresses of both devices.",
    cure: "Check the pinned key and the address; the other device may have a new key.",
  },
  HandshakeTimeout: {
    code: 5,
    cause: "The other device did not finish the handshake within 45 s.",
    cure: "Check that the other device is connected, and dial again.",
  },
  SuiteRefused: {
    code: 6,
    cause: "One of the two devices wants plain records and the other does not, or they have no cipher suite in common.",
    cure: "Give both devices or neither the option --plain, or upgrade the older one.",
  },
  ChannelUnknown: {
    code: 7,
    cause: "The other end does not know the channel: it was restarted. The edge says so, unverified.",
    cure: "Connect again.",
  },
  ResumeTimeout: {
    code: 8,
    cause: "Nothing was heard from the other end for the resume time.",
    cure: "Connect again; the exposing device, or the operator of the edge, may set a longer resume time.",
  },
  ForgedRecord: {
    code: 9,
    cause: "A record was not sealed by the other device, or was changed on its way.",
    cure: "Find out who changes records between the devices; dial again.",
  },
  MalformedFrame: {
    code: 10,
    cause: "A sealed record holds a frame that is cut off, or has an impossible value.",
    cure: "Upgrade the older device.",
  },
  UnknownFrame: {
    code: 11,
    cause: "A sealed record holds a frame of an unknown type.",
    cure: "Upgrade the older device.",
  },
  UnknownStream: {
    code: 12,
    cause: "A frame names a stream that was never opened, or opens one out of turn.",
    cure: "Upgrade the older device.",
  },
  CreditExceeded: {
    code: 13,
    cause: "More data was sent on a stream than was granted.",
    cure: "Upgrade the older device.",
  },
  CreditWithdrawn: {
    code: 14,
    cause: "The credit of a stream was lowered.",
    cure: "Upgrade the older device.",
  },
  DataAfterEnd: {
    code: 15,
    cause: "Data or an end followed the end of a stream.",
    cure: "Upgrade the older device.",
  },
  AcknowledgedUnsent: {
    code: 16,
    cause: "Records were acknowledged that were never sealed.",
    cure: "Upgrade the older device.",
  },
  TooManyResets: {
    code: 17,
    cause: "The other device opened streams without reading that they were refused.",
    cure: "Wait for refusals before opening more streams.",
  },
  ConnectionReset: {
    code: 32,
    cause: "The application at the other end reset the connection.",
    cure: "Connect again.",
  },
  ServiceUnknown: {
    code: 33,
    cause: "The device exposes no service of this name to the dialing device.",
    cure: "List what it exposes (grooveway ls ADDRESS).",
  },
  ServiceUnreachable: {
    code: 34,
    cause: "The exposed service refused the connection, or did not answer.",
    cure: "Start the service, or correct its host and port (grooveway expose NAME=HOST:PORT).",
  },
  NotPermitted: {
    code: 35,
    cause: "The rule of the exposing device does not admit the dialing device, or no longer does.",
    cure: "Ask the owner of the exposing device.",
  },
  TooManyStreams: {
    code: 36,
    cause: "The device, or the edge for it, has as many streams as it can have, or as one peer can have there.",
    cure: "Close some, and connect again.",
  },
  OriginNotAllowed: {
    code: 48,
    cause: "The edge does not dial this destination: it is not on the list of its operator.",
    cure: "Correct the destination, or ask the operator to list it (STREAM_ORIGINS, --stream-allow).",
  },
  OriginScopeMissing: {
    code: 49,
    cause: "The token does not allow this destination.",
    cure: "Get a token with the scope origin:HOST:PORT.",
  },
  OriginUnreachable: {
    code: 50,
    cause: "The destination refused the connection, did not answer in time, or its name has no address.",
    cure: "Check that it runs, and its host and port; the log of the edge says more.",
  },
  TokenEnded: {
    code: 51,
    cause: "The token of this device, or of the one at the other end, has expired or was revoked.",
    cure: "Get another token for it, and connect again.",
  },
} as const satisfies Record<string, Rule>;

/** Name of a reason: stable. */
export type Reason = keyof typeof REASONS;

const NAMES = new Map<number, Reason>(Object.entries(REASONS).map(([name, { code }]) => [code, name as Reason]));

/** The reason of a code from the wire. */
export function reasonOf(code: number): Reason {
  return NAMES.get(code) ?? "ConnectionReset";
}

/** A peer's violation of the protocol; it ends the channel. The engine catches it: no call of a channel throws it. */
export class Violation extends Error {
  readonly reason: Reason;

  constructor(reason: Reason) {
    super(REASONS[reason].cause);
    this.name = "Violation";
    this.reason = reason;
  }
}
