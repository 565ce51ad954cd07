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
    cure: "Compare the fingerprint with its owner, then accept it (grooveway trust ADDRESS FINGERPRINT).",
  },
  ChangedKey: {
    code: 3,
    cause: "The device has another key than the one that was pinned for its address.",
    cure: "Compare the new fingerprint with its owner, then accept it (grooveway trust ADDRESS FINGERPRINT).",
  },
  HandshakeFailed: {
    code: 4,
    cause: "The handshake does not fit the keys and addresses of both devices.",
    cure: "Check the pinned key and the address; the other device may have a new key.",
  },
  HandshakeTimeout: {
    code: 5,
    cause: "The other device did not finish the handshake within 30 s.",
    cure: "Check that the other device is connected, and dial again.",
  },
  SuiteRefused: {
    code: 6,
    cause: "The dialed device does not use the cipher suite that was proposed, or does not want plain records.",
    cure: "Give both devices or neither the option --plain, or upgrade the older one.",
  },
  ChannelUnknown: {
    code: 7,
    cause: "The other device does not know the channel: its program was restarted. The edge says so, unverified.",
    cure: "Dial again.",
  },
  ResumeTimeout: {
    code: 8,
    cause: "Nothing was heard from the other device for the resume time.",
    cure: "Dial again; the exposing device may set a longer resume time.",
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
    cause: "The device has as many streams as it can have.",
    cure: "Close some, and connect again.",
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
