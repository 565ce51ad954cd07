/**
 * What can go wrong for a device, by name.
 *
 * @module
 */

/** Codes of {@link DeviceError}; the README lists each with its cause and cure. */
export type DeviceErrorCode =
  /** The way to the relay could not be had, or a connection was lost and `reconnect` is off. */
  | "ConnectFailed"
  /** The edge refused a request; its own reason is in the message. */
  | "Refused"
  /** The relay refused the Connect or the Attach. */
  | "RelayRefused"
  /** The recipient's own relay, named behind the @ of its address, cannot be reached. */
  | "RelayUnreachable"
  /** Another connection with the same address has taken the place of this one. */
  | "AddressInUse"
  /** The recipient's quota is used up, or the message is longer than the relay takes. */
  | "QuotaWouldBeExceeded"
  /** The relay takes no messages for this recipient. */
  | "RecipientRefused"
  /** The message is longer than this device sends. */
  | "MessageTooLong"
  /** More is waiting to be acknowledged than this device keeps. */
  | "OutboxFull"
  /** The device was closed. */
  | "Closed"
  /** An option cannot be used. */
  | "InvalidOption";

/** An error with a stable code. `retryable` says whether the same call may succeed later. */
export class DeviceError extends Error {
  readonly code: DeviceErrorCode;
  readonly retryable: boolean;

  constructor(code: DeviceErrorCode, message: string, options: { retryable?: boolean; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "DeviceError";
    this.code = code;
    this.retryable = options.retryable ?? false;
  }
}
