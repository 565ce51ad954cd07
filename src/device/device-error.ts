/**
 * What can go wrong for a device, by name.
 *
 * @module
 */

/** Codes of {@link DeviceError}; the README lists each with its cause and cure. */
export type DeviceErrorCode =
  /** The way to the relay could not be had, or a connection was lost and `reconnect` is off. */
  | "ConnectFailed"
  /** The certificate of the edge is not for its name, expired, or of an authority that is not trusted. */
  | "CertificateRefused"
  /** The TLS handshake with the edge failed: most often one side speaks TLS and the other does not. */
  | "TlsFailed"
  /** What answered at the URL of the edge is no edge: a login page of the network, a proxy, another server. */
  | "NotAnEdge"
  /** Large packets are lost on the way and small ones arrive: no router says that they are too large for the next link. */
  | "PathMtuBlackHole"
  /** The edge refused a request; its own reason is in the message. */
  | "Refused"
  /** The edge did not let the token in, or what was asked is beyond what it allows; the reason is in the message. */
  | "TokenRefused"
  /** The token would go to the relay in clear, over the internet. */
  | "TokenInClear"
  /** The relay refused the Connect or the Attach. */
  | "RelayRefused"
  /** The recipient's own relay, named behind the @ of its address, cannot be reached. */
  | "RelayUnreachable"
  /** Another connection with the same address has taken the place of this one. */
  | "AddressInUse"
  /** The recipient has as much waiting from this sender as it may, or the disk of the edge or relay is full. */
  | "QuotaWouldBeExceeded"
  /** The relay takes no messages for this recipient. */
  | "RecipientRefused"
  /** The message is longer than this device sends, or its relay takes. */
  | "MessageTooLong"
  /** More is waiting to be acknowledged than this device keeps. */
  | "OutboxFull"
  /** The message was taken back, by its `signal`, before it was sent. */
  | "Aborted"
  /** The device was closed. */
  | "Closed"
  /** Something unexpected happened in this library; the error's cause says what. */
  | "InternalError"
  /** An option cannot be used. */
  | "InvalidOption";

/** An error with a stable code. `retryable` says whether the same call may succeed later. */
export class DeviceError extends Error {
  readonly code: DeviceErrorCode;
  readonly retryable: boolean;
  /** Seconds after which whoever refused would hear of it again; undefined when that was not said. */
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
