/** The error for bytes that do not decode and commands that do not encode. */

/** What is wrong with the bytes or the command. */
export type WireErrorCode =
  /** CommandId is none of the 18. */
  | "unknown-command"
  /** CommandLength, or the command to encode, exceeds the limit of its kind. */
  | "too-long"
  /** A field runs past CommandLength. */
  | "truncated"
  /** Bytes remain after the last field. */
  | "trailing-octets"
  /** A string contains a non-ASCII character, or (on encode) a NUL. */
  | "not-ascii"
  /** A string that MUST NOT be empty is. */
  | "empty-field"
  /** A number, count or length does not fit its field (encode only). */
  | "out-of-range"
  /** The field does not exist in the connection's version (encode only). */
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
