/**
 * Messages as an application sees them.
 *
 * @module
 */
import { type Address, AddressError, formatAddress, recipientOf, type StreamSize } from "../sstp/index.ts";

/** What `send` may be told about a message. */
export interface SendOptions {
  /**
   * The message's id; this device's address is added to it. A message with the id of an earlier one from this device to
   * the same recipient is dropped, so a program that was killed may send again without doubling. By default a new id.
   */
  readonly id?: string;
  /** Names the handler at the recipient; `message` by default. */
  readonly resource?: string;
  /** Do not keep the message when the recipient is not connected (flag D). It may overtake others, and be overtaken. */
  readonly onlyIfOnline?: boolean;
  /** Where the body stands in a longer stream of octets; carried as StreamSize [MS-GRVSSTP 2.2.10.1]. */
  readonly part?: StreamPart;
  /**
   * Takes the message back when it aborts, as long as it has not been sent: `send` rejects with Aborted. One that may have
   * reached the relay goes on.
   */
  readonly signal?: AbortSignal;
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
  /**
   * The sender's address: an answer to it goes back to the sender, also across relays (`alice/laptop@relay.example.com`).
   * It is what the relay vouches for when `vouched` says so, and otherwise what the sender claims. Undefined when the id
   * names nobody who could be sent to.
   */
  readonly from: string | undefined;
  /** Whether the relay vouches for `from`. Of a sender at another relay it vouches for that relay, which does for the rest. */
  readonly vouched: boolean;
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

/** Whether something can be sent to it. Anything may stand in an id. */
export function isRecipient(text: string): boolean {
  // In the place of a URL that is too long to be said.
  if (text.startsWith("!")) return false;
  try {
    recipientOf(text);
    return true;
  } catch (error) {
    if (error instanceof AddressError) return false;
    throw error;
  }
}

/**
 * Whose ids are remembered together, by an address that a relay has written: those of an identity, or of all at another
 * relay, which can make as many as it likes.
 */
export function sourceOf(address: string): string {
  const at = address.indexOf("@");
  return at < 0 ? (address.split("/", 1)[0] ?? "") : address.slice(at);
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
