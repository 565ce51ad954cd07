/**
 * Messages as an application sees them.
 *
 * @module
 */
import { type Address, formatAddress, type StreamSize } from "../sstp/index.ts";

/** What `send` may be told about a message. */
export interface SendOptions {
  /**
   * The message's id; this device's address is added to it. A message with the id of an earlier one from this device to
   * the same recipient is dropped, so a program that was killed may send again without doubling. By default a new id.
   */
  readonly id?: string;
  /** Names the handler at the recipient; `message` by default. */
  readonly resource?: string;
  /** Do not keep the message when the recipient is not connected (flag D). */
  readonly onlyIfOnline?: boolean;
  /** Where the body stands in a longer stream of octets; carried as StreamSize [MS-GRVSSTP 2.2.10.1]. */
  readonly part?: StreamPart;
}

/** The place of a message's body in a longer stream. */
export interface StreamPart {
  /** Octets before this part. */
  readonly offset: bigint;
  /** Octets of the whole stream; undefined while the sender does not know yet. */
  readonly total: bigint | undefined;
}

/** A message that has arrived whole. */
export interface Message {
  readonly id: string;
  /** The sender's address, as the sender claims it in the id; undefined when the id has none. */
  readonly from: string | undefined;
  readonly resource: string;
  readonly part: StreamPart | undefined;
  readonly body: Uint8Array;
  /** The body as UTF-8. */
  text(): string;
  /** Says that it has been processed: it is acknowledged, and will not come again. */
  done(): void;
}

/** What the ids of messages from an address end with. */
export function idSuffix(from: Address): string {
  return `@${formatAddress(from)}`;
}

/**
 * An id for a message: unique text, an @, and the sender's address, as in mail. With it two senders may use the same
 * text. An id that has the address already stays as it is.
 */
export function idFor(unique: string, suffix: string): string {
  return unique.endsWith(suffix) ? unique : unique + suffix;
}

/** The address in an id made by {@link idFor}. */
export function fromOf(id: string): string | undefined {
  const at = id.lastIndexOf("@");
  return at < 0 ? undefined : id.slice(at + 1);
}

/** No total is known: the largest 64-bit number, since 0 is the total of an empty stream. */
const UNKNOWN = 0xffff_ffff_ffff_ffffn;

/** StreamSize's three numbers: octets of the whole, octets before this part, octets of this part (assumed). */
export function partToWire(part: StreamPart, length: number): StreamSize {
  return [part.total ?? UNKNOWN, part.offset, BigInt(length)];
}

export function partFromWire(size: StreamSize | undefined): StreamPart | undefined {
  return size && { total: size[0] === UNKNOWN ? undefined : size[0], offset: size[1] };
}
