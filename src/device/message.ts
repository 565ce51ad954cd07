/**
 * Messages as the application sees them.
 *
 * @module
 */
import { type Address, formatAddress, recipientOf, type StreamSize } from "../sstp/index.ts";

/** Options of `send`. */
export interface SendOptions {
  /**
   * The message's id; this device's address is appended. The recipient gets one of several messages with the same id
   * from the same device, so a restarted program can send again without duplicates. Default: a new id.
   */
  readonly id?: string;
  /** The handler at the recipient. Default `message`. */
  readonly resource?: string;
  /** Drops the message if the recipient is not connected (flag D). It may overtake other messages and be overtaken. */
  readonly onlyIfOnline?: boolean;
  /** Position of the body in a longer stream, carried as StreamSize [MS-GRVSSTP 2.2.10.1]. */
  readonly part?: StreamPart;
  /** Withdraws an unsent message: `send` rejects with Aborted. A message that may have reached the relay goes on. */
  readonly signal?: AbortSignal;
}

/** Position of a message's body in a longer stream. */
export interface StreamPart {
  /** Bytes before this part. */
  readonly offset: bigint;
  /** Bytes of the whole stream; undefined while the sender does not know. */
  readonly total: bigint | undefined;
}

/** A complete incoming message. */
export interface Message {
  readonly id: string;
  /**
   * The sender's address, to which an answer can be sent, also across relays (`alice/laptop@relay.example.com`). The
   * relay vouches for it if `vouched` is true; otherwise it is the sender's claim. Undefined if the id contains no
   * valid address.
   */
  readonly from: string | undefined;
  /**
   * Whether the relay vouches for `from`. For a sender at another relay it vouches for that relay only, which vouches
   * for the rest.
   */
  readonly vouched: boolean;
  readonly resource: string;
  readonly part: StreamPart | undefined;
  readonly body: Uint8Array;
  /** The body as UTF-8. */
  text(): string;
  /** Acknowledges the message as processed. It will not come again. */
  done(): void;
}

/** The suffix of ids of messages from an address. */
export function idSuffix(from: Address): string {
  return `@${formatAddress(from)}`;
}

/**
 * Makes a message id: unique text, an @ and the sender's address, as in mail, so two senders may use the same text. An
 * id that already ends with the address stays as it is.
 */
export function idFor(unique: string, suffix: string): string {
  return unique.endsWith(suffix) ? unique : unique + suffix;
}

/** Whether a message can be sent to this address. An id may contain anything. */
export function isRecipient(text: string): boolean {
  // Placeholder for a URL too long to write.
  return !text.startsWith("!") && recipientOf(text).ok;
}

/**
 * The group whose ids are remembered together, given an address written by a relay: an identity, or everything at
 * another relay, which can invent any number of identities.
 */
export function sourceOf(address: string): string {
  const at = address.indexOf("@");
  return at < 0 ? (address.split("/", 1)[0] ?? "") : address.slice(at);
}

/** Marks an unknown total: the largest 64-bit number, since 0 is the total of an empty stream. */
const UNKNOWN = 0xffff_ffff_ffff_ffffn;

/** The three numbers of StreamSize: octets of the whole, octets before this part, octets of this part (assumed). */
export function partToWire(part: StreamPart, length: number): StreamSize {
  return [part.total ?? UNKNOWN, part.offset, BigInt(length)];
}

export function partFromWire(size: StreamSize | undefined): StreamPart | undefined {
  return size && { total: size[0] === UNKNOWN ? undefined : size[0], offset: size[1] };
}
