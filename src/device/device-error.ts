/**
 * Error codes of the device library.
 *
 * @module
 */

import type { Advice } from "../store-and-forward/reason-advice.ts";

/** Codes of {@link DeviceError}, and what to do about each unless the error says otherwise; the README has causes and cures. */
export const DEVICE_ERRORS = {
  /** No connection to the relay could be made, or an established one was lost. */
  ConnectFailed: "retry",
  /** The edge's certificate is for another name, expired, or from an untrusted authority. */
  CertificateRefused: "retry",
  /** The TLS handshake with the edge failed; usually only one side speaks TLS. */
  TlsFailed: "retry",
  /** A page that came by HTTPS names an edge by plain HTTP, which browsers forbid. */
  MixedContent: "give up",
  /** Something else answered at the edge's URL: a network's login page, a proxy, another server. */
  NotAnEdge: "retry",
  /** A proxy on the way does not answer as one, or not in time. */
  ProxyFailed: "another transport",
  /** A proxy does not connect to this host and port. */
  ProxyRefuses: "another transport",
  /** A proxy requires credentials, and none were given, or none that it can take. */
  ProxyNeedsCredentials: "another transport",
  /** A proxy refuses the user name or password. They are not sent to it again. */
  ProxyRefusesCredentials: "another transport",
  /** Large packets are lost on the way while small ones arrive, and no router reports a smaller MTU. */
  PathMtuBlackHole: "retry",
  /** The edge refused a request; the message gives its reason. */
  Refused: "retry",
  /** The edge refused the token or an action beyond its scopes; the message gives the reason. */
  TokenRefused: "give up",
  /** The token would travel the internet unencrypted. */
  TokenInClear: "give up",
  /** The relay refused Connect or Attach. */
  RelayRefused: "give up",
  /** The recipient's own relay, named after the @ of its address, cannot be reached. */
  RelayUnreachable: "retry",
  /** Another connection with the same address has replaced this one. */
  AddressInUse: "give up",
  /** The recipient's queue for this sender is full, or the disk of the edge or relay is. */
  QuotaWouldBeExceeded: "retry",
  /** The relay accepts no messages for this recipient. */
  RecipientRefused: "give up",
  /** The message exceeds the limit of this device or of its relay. */
  MessageTooLong: "give up",
  /** Too many bytes wait for acknowledgement. */
  OutboxFull: "retry",
  /** The message was withdrawn by its `signal` before it was sent. */
  Aborted: "give up",
  /** No answer to a request came before its deadline. */
  NoAnswer: "retry",
  /** A stream was reset, or never opened; the message gives the reason. */
  StreamReset: "give up",
  /** The device was closed. */
  Closed: "give up",
  /** A bug in this library; see `cause`. */
  InternalError: "give up",
  /** An option is invalid. */
  InvalidOption: "give up",
} as const satisfies Readonly<Record<string, Advice>>;

export type DeviceErrorCode = keyof typeof DEVICE_ERRORS;

/** An error with a stable code. `advice` says what to do about it. */
export class DeviceError extends Error {
  readonly code: DeviceErrorCode;
  readonly advice: Advice;
  /** Seconds to wait before trying again; undefined if the edge or relay did not say. */
  readonly retryAfter: number | undefined;

  constructor(
    code: DeviceErrorCode,
    message: string,
    options: { advice?: Advice; retryAfter?: number | undefined; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "DeviceError";
    this.code = code;
    this.advice = options.advice ?? DEVICE_ERRORS[code];
    this.retryAfter = options.retryAfter;
  }

  /** Whether the same call may succeed later. */
  get retryable(): boolean {
    return this.advice !== "give up";
  }
}
