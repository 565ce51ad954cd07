/**
 * Error codes of the device library.
 *
 * @module
 */

/** Codes of {@link DeviceError}; the README lists each with its cause and cure. */
export type DeviceErrorCode =
  /** No connection to the relay could be made, or an established one was lost. */
  | "ConnectFailed"
  /** The edge's certificate is for another name, expired, or from an untrusted authority. */
  | "CertificateRefused"
  /** The TLS handshake with the edge failed; usually only one side speaks TLS. */
  | "TlsFailed"
  /** Something else answered at the edge's URL: a network's login page, a proxy, another server. */
  | "NotAnEdge"
  /** Large packets are lost on the way while small ones arrive, and no router reports a smaller MTU. */
  | "PathMtuBlackHole"
  /** The edge refused a request; the message gives its reason. */
  | "Refused"
  /** The edge refused the token or an action beyond its scopes; the message gives the reason. */
  | "TokenRefused"
  /** The token would travel the internet unencrypted. */
  | "TokenInClear"
  /** The relay refused Connect or Attach. */
  | "RelayRefused"
  /** The recipient's own relay, named after the @ of its address, cannot be reached. */
  | "RelayUnreachable"
  /** Another connection with the same address has replaced this one. */
  | "AddressInUse"
  /** The recipient's queue for this sender is full, or the disk of the edge or relay is. */
  | "QuotaWouldBeExceeded"
  /** The relay accepts no messages for this recipient. */
  | "RecipientRefused"
  /** The message exceeds the limit of this device or of its relay. */
  | "MessageTooLong"
  /** Too many bytes wait for acknowledgement. */
  | "OutboxFull"
  /** The message was withdrawn by its `signal` before it was sent. */
  | "Aborted"
  /** The device was closed. */
  | "Closed"
  /** A bug in this library; see `cause`. */
  | "InternalError"
  /** An option is invalid. */
  | "InvalidOption";

/** An error with a stable code. `retryable` says whether the same call may succeed later. */
export class DeviceError extends Error {
  readonly code: DeviceErrorCode;
  readonly retryable: boolean;
  /** Seconds to wait before trying again; undefined if the edge or relay did not say. */
  readonly retryAfter: number | undefined;

  constructor(
    code: DeviceErrorCode,
    message: string,
    options: { retryable?: boolean; retryAfter?: number | undefined; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "DeviceError";
    this.code = code;
    this.retryable = options.retryable ?? false;
    this.retryAfter = options.retryAfter;
  }
}
