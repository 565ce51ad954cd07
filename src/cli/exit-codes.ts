/**
 * Exit statuses, one per kind of failure, so that scripts and service managers can tell them apart. `grooveway --help`
 * and the README print this table.
 *
 * @module
 */

interface ExitCode {
  readonly status: number;
  readonly meaning: string;
  /** Error codes that exit with this status. Every code is listed once. */
  readonly errors: readonly string[];
}

/** Keyed by name, ordered by status. The meaning of a status never changes: scripts rely on it. */
export const EXIT_CODES = {
  Done: { status: 0, meaning: "done", errors: [] },
  Failed: {
    status: 1,
    meaning: "it failed for a reason without a status of its own, which the message gives",
    errors: [
      "Aborted",
      "AnsweredOther",
      "Closed",
      "Corrupted",
      "EdgeCrashed",
      "EdgeFailed",
      "NameTooLong",
      "NodeTooOld",
      "NotInstalled",
      "TooManyOpenFiles",
    ],
  },
  // The status that shells and option parsers use. A service manager need not retry.
  Usage: {
    status: 2,
    meaning: "the command line is wrong, or the contents of a file that it names are unusable",
    errors: [
      "Usage",
      "ConfigUnusable",
      "InvalidOption",
      "InsecureEdge",
      "InsecureRelay",
      "KeysUnusable",
      "LinkSecretsUnusable",
      "MixedContent",
      "NoConfigFolder",
      "NoProfile",
      "TlsUnusable",
      "TokenInClear",
      "WrongEdge",
    ],
  },
  ConnectFailed: {
    status: 3,
    meaning: "the edge or the relay cannot be reached, or the connection was lost",
    errors: [
      "CertificateRefused",
      "ConnectFailed",
      "NoAnswer",
      "NotAnEdge",
      "PathMtuBlackHole",
      "ProxyFailed",
      "ProxyNeedsCredentials",
      "ProxyRefuses",
      "ProxyRefusesCredentials",
      "RelayUnreachable",
      "TlsFailed",
    ],
  },
  Refused: {
    status: 4,
    meaning: "the edge, the relay or the recipient's mailbox refused",
    errors: [
      "AddressInUse",
      "MessageTooLong",
      "OutboxFull",
      "QuotaWouldBeExceeded",
      "RecipientRefused",
      "Refused",
      "RelayRefused",
      "StreamReset",
      "TokenInvalid",
      "TokenRefused",
    ],
  },
  CannotRead: { status: 5, meaning: "a file cannot be read", errors: ["CannotRead"] },
  CannotWrite: {
    status: 6,
    meaning: "a file, a folder or standard output cannot be written",
    errors: ["CannotWrite", "StoreFailed"],
  },
  InUse: {
    status: 7,
    meaning: "a port is not available, or another process uses the state folder or the store",
    errors: ["CannotListen", "PortTaken", "StateInUse", "StoreInUse"],
  },
  SomeFailed: {
    status: 8,
    meaning: "some of several files failed, each with a line of its own; the others succeeded",
    errors: ["SomeFailed"],
  },
  WaitedTooLong: { status: 9, meaning: "the recipient made no room within --wait", errors: ["WaitedTooLong"] },
  // EX_SOFTWARE in sysexits.h.
  InternalError: { status: 70, meaning: "a bug in this program; please report it", errors: ["InternalError"] },
  // A shell reports a program killed by a signal as 128 plus the signal number. The command exits the same way.
  HungUp: { status: 129, meaning: "ended by SIGHUP before it was done", errors: [] },
  Interrupted: { status: 130, meaning: "ended by SIGINT (Ctrl-C) before it was done", errors: ["Interrupted"] },
  Quit: { status: 131, meaning: "ended by SIGQUIT before it was done", errors: [] },
  OutputClosed: {
    status: 141,
    meaning: "the reader of its output has gone, such as head -1 at the end of a pipe",
    errors: ["OutputClosed"],
  },
  Terminated: { status: 143, meaning: "ended by SIGTERM before it was done", errors: [] },
} as const satisfies Record<string, ExitCode>;

export type ExitName = keyof typeof EXIT_CODES;

/** Code of an error, the command's own or of the device library; the README has their causes and cures. */
export type ErrorCode = (typeof EXIT_CODES)[ExitName]["errors"][number];

const BY_ERROR = Object.fromEntries(
  Object.values(EXIT_CODES).flatMap(({ status, errors }) => errors.map((error) => [error, status])),
) as Readonly<Record<ErrorCode, number>>;

/** Returns the exit status for an error: that of its `ending` if set, otherwise that of its code. */
export function statusOfError(error: { readonly code: ErrorCode; readonly ending?: ExitName | undefined }): number {
  return error.ending === undefined ? BY_ERROR[error.code] : EXIT_CODES[error.ending].status;
}

const BY_SIGNAL = { SIGHUP: "HungUp", SIGINT: "Interrupted", SIGQUIT: "Quit", SIGTERM: "Terminated" } as const;

/** Signals that ask the command to end. */
export type EndSignal = keyof typeof BY_SIGNAL;

export const END_SIGNALS = Object.keys(BY_SIGNAL) as EndSignal[];

/** Returns the exit status of a command that a signal ended early. */
export function statusOfSignal(signal: EndSignal): number {
  return EXIT_CODES[BY_SIGNAL[signal]].status;
}

/** Returns the ending of a command that a signal ended early. */
export function endingOfSignal(signal: EndSignal): ExitName {
  return BY_SIGNAL[signal];
}

/** Formats the table for the help text, one line per status. */
export function describeExitCodes(): string {
  return Object.values(EXIT_CODES)
    .map(({ status, meaning }) => `  ${String(status).padEnd(3)}  ${meaning}`)
    .join("\n");
}
