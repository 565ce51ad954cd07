/** What is thrown for octets that are no commands, and for commands that cannot be octets. */

/** What is wrong with octets that do not decode, or with a command that does not encode. */
export type WireErrorCode =
  /** CommandId is none of the 18. */
  | "unknown-command"
  /** CommandLength, or the command to encode, is above the limit of its kind. */
  | "too-long"
  /** A field runs past CommandLength. */
  | "truncated"
  /** Octets are left after the last field. */
  | "trailing-octets"
  /** A string has a character outside ASCII, or (on encode) a NUL. */
  | "not-ascii"
  /** A string that MUST NOT be empty is. */
  | "empty-field"
  /** A number, count or length does not fit its field (encode only). */
  | "out-of-range"
  /** A field that the version of the connection does not have (encode only). */
  | "not-in-version";

/** The only error that encoding and decoding throw. */
export class WireError extends Error {
  readonly code: WireErrorCode;

  constructor(code: WireErrorCode, message: string) {
    super(message);
    this.name = "WireError";
    this.code = code;
  }
}
