/**
 * RPC interface of a Mailbox, and the interfaces that it calls on the Tunnels and Links that consume it or send to it.
 *
 * @module
 */
import type { Range } from "../../lib/ranges.ts";
import type { DropCounts } from "../../store-and-forward/drop-reasons.ts";
import type { Recipient } from "../../store-and-forward/envelope.ts";
import type { Lifetime } from "../durable-streams/expiry.ts";
import type { ProducerClaim } from "../durable-streams/producer.ts";
import type { DeliveryReport } from "./delivery-report.ts";
import type { MessageBatch } from "./message-batch.ts";
import type { Created, Metadata, Stored, TicketRpc } from "./plain-stream-rpc.ts";

/**
 * Outcome of a message.
 *
 * - `locked`: its sender may not send to this mailbox.
 * - `tooLong`: it can never be stored.
 * - `quota`, `full` (the disk), `notEntered` (a new mailbox that the Directory cannot enter now), `newer` (a mailbox that
 *   a newer release has written): try later.
 * - `DNSLookupFailed`, `HostNotReachable`, `ConnectionClosed`: a message with flag D whose origin relay is unreachable.
 */
export type Outcome =
  | "stored"
  | "duplicate"
  | "quota"
  | "tooLong"
  | "full"
  | "locked"
  | "notEntered"
  | "newer"
  | "DNSLookupFailed"
  | "HostNotReachable"
  | "ConnectionClosed";

/** Why an origin relay cannot be reached. */
export type Unreachable = Extract<Outcome, "DNSLookupFailed" | "HostNotReachable" | "ConnectionClosed">;

/** Messages for delivery, numbered consecutively from `first`. */
export interface Delivery {
  /** {@link NO_NUMBERS} for messages with flag D. A number, not a union: objects of other releases read it too. */
  readonly first: number;
  readonly bundle: MessageBatch;
}

export const NO_NUMBERS = 0;

/** A refused message, by its index in its batch. */
export interface Refusal {
  readonly at: number;
  readonly outcome: Exclude<Outcome, "stored" | "duplicate">;
}

/**
 * What a Mailbox holds without having written it: what was appended last, up to a number. It is durable when `whenDurable`
 * says so, and lost if that fails.
 */
export interface Held {
  /** Changes when something that was held is lost. */
  readonly run: string;
  readonly upTo: number;
}

/** How a caller of `append` can wait. */
export interface AppendTerms {
  /** The caller awaits `whenDurable` before it answers for messages that are held. */
  readonly hold?: boolean;
  /** What was held of the caller's earlier messages and may not be durable yet. If it is lost, these are not taken. */
  readonly after?: string | undefined;
}

/** Result of appending messages. */
export interface Appended {
  readonly refusals: readonly Refusal[];
  /** Set if the messages are held. None of them is refused. */
  readonly held?: Held;
  /**
   * Set if the sender has used up its share: suspend the sessions that brought the messages, until `room` is called
   * with this number or a later one.
   */
  readonly suspend?: number;
  /** Whose sessions to suspend, as `senderOfMessage` names them. Not from objects of earlier releases: then all. */
  readonly suspended?: readonly string[];
}

/** An append over HTTP. */
export interface PostOrder {
  /** Undefined if the mailbox is only closed. */
  readonly bundle: MessageBatch | undefined;
  /** URL of the sending device, whose producers' ids and Stream-Seq are its own; empty if the mailbox is only closed. */
  readonly source: string;
  readonly producer: ProducerClaim | undefined;
  readonly sequence: string | undefined;
  readonly closes: boolean;
}

/** The answer to an append over HTTP; `refused` if the mailbox has not stored all of its messages. */
export type Posted = Stored | { readonly ok: false; readonly reason: "refused"; readonly refused: Refusal };

/** What a PUT asks for. */
export interface MailboxTerms {
  readonly lifetime: Lifetime;
  readonly closed: boolean;
}

/**
 * A consumer's answer to a delivery: it has all messages; it has dropped some with flag D, for which it had no room, or
 * whose recipient behind a relay has refused the last ones; or it does not consume the mailbox (any more).
 */
export type Taken = "taken" | { readonly dropped: number; readonly refused?: "locked" } | "gone";

/**
 * The recipient of streams to a mailbox's peer: its consumer, which is a Tunnel, or the Link of a relay under the relay's
 * URL; none; none because the relay cannot be reached; or none for this sender.
 */
export type Attached =
  | { readonly type: "attached"; readonly tunnel: string; readonly generation: number }
  | { readonly type: "offline" }
  | { readonly type: "unreachable"; readonly outcome: Unreachable }
  | { readonly type: "locked" };

/** What an object that streams to a mailbox's peer tells the mailbox. */
export interface Streaming {
  /** Messages that wait for the answer, and are lost if nobody is attached. */
  readonly messages: number;
  /** Messages lost since the last question because the peer was slow. */
  readonly slow: number;
  /** Generation of a consumer that has said that it no longer consumes the mailbox. */
  readonly gone?: number | undefined;
}

/** A mailbox's answer to a delivery report. */
export interface Acknowledged {
  /** Everything up to this message has left the mailbox. */
  readonly position: number;
  /** Messages that the consumer asked for again, and that have left the mailbox: they will not come. */
  readonly gone: readonly Range[];
}

/** How much a sender may add to a mailbox before it is suspended; `locked` if it may not send there. */
export type Room =
  | {
      readonly type: "room";
      readonly octets: number;
      readonly messages: number;
      /** The part of it that is reserved in the sender's account, in bytes. */
      readonly reserved: number;
      /** Whether a connection consumes the mailbox. */
      readonly attached: boolean;
    }
  | { readonly type: "locked" };

/** The messages that wait in a mailbox. */
export interface Waiting {
  readonly messages: number;
  readonly octets: number;
  /** When the oldest arrived, in milliseconds since 1970; undefined if none waits. */
  readonly oldest: number | undefined;
}

/** Status of a mailbox, for operators. */
export interface MailboxStatus extends Waiting {
  readonly peer: string;
  /** GUID of the Tunnel that consumes it; undefined if none does. */
  readonly consumer: string | undefined;
  readonly generation: number;
  /** Messages that the consumer has set aside: refused, or for a session that is not ready. */
  readonly aside: number;
  /** Connections that are suspended until their sender has fewer messages waiting. */
  readonly suspended: number;
  /** Whether an operator has shut out all senders, whatever the owner's rule says. */
  readonly locked: boolean;
  /** The owner's rule for senders. */
  readonly senders: string;
  readonly dropped: DropCounts;
  /** Bytes of acknowledged messages that are kept for readers over HTTP. Not from objects of earlier releases. */
  readonly kept?: number;
  /** SQLite rows written since the object woke. */
  readonly rowsWritten: number;
  /** Failed calls to a consumer since the object woke. */
  readonly failedDeliveries: number;
  /** Why nothing is known of it. */
  readonly reason?: "NewerSchema" | "InternalError";
}

/** Selects the messages that a sender withdraws. */
export interface Wanted {
  /** The sender's device URL. */
  readonly source: string;
  /** Prefix of their ids, as stored. */
  readonly idPrefix: string;
  /** Their recipient, in the mailbox of an origin relay, which also holds messages for others. */
  readonly to?: Recipient;
}

/** What a withdrawal has removed, and what it has read for that: messages, and their bytes. */
export interface Withdrawal {
  readonly removed: number;
  readonly read: { readonly octets: number; readonly messages: number };
}

/** The object of one peer, named by the peer's URL. */
export interface MailboxRpc extends Rpc.DurableObjectBranded, TicketRpc {
  /** Reads what waits, as a plain stream is read (plain-stream-rpc.ts). Removes nothing. */
  fetch(request: Request): Promise<Response>;
  append(bundle: MessageBatch, from?: string, terms?: AppendTerms): Promise<Appended>;
  /**
   * Resolves when messages that were held are durable: written, or acknowledged by their recipient. Returns the number up
   * to which that holds. Rejects if they are lost.
   */
  whenDurable(held: Held): Promise<number>;
  /** Appends over HTTP: all messages, or none that a repeat would store twice. */
  post(order: PostOrder): Promise<Posted>;
  /** Creates the mailbox if there is none, and sets when it ends and whether it is closed. */
  create(terms: MailboxTerms): Promise<Created>;
  metadata(): Promise<Metadata>;
  /** Removes all messages, as `purge` does, and what PUT and producers have set. */
  remove(): Promise<void>;
  pass(bundle: MessageBatch): Promise<Refusal[]>;
  attached(source: string, streaming: Streaming): Promise<Attached>;
  /**
   * Assigns a generation. A mailbox where nothing waits, and that has no consumer, takes the Tunnel or Link of this name at
   * once: then `ready` need not be called.
   */
  attach(name?: string): Promise<{ readonly generation: number; readonly isReady?: boolean }>;
  ready(tunnel: string, generation: number): Promise<boolean>;
  detach(generation: number): Promise<void>;
  acknowledge(generation: number, report: DeliveryReport): Promise<Acknowledged | undefined>;
  room(source: string): Promise<Room>;
  withdraw(wanted: Wanted): Promise<Withdrawal>;
  status(): Promise<MailboxStatus>;
  purge(): Promise<number>;
  setLocked(locked: boolean): Promise<void>;
  setSenders(text: string): Promise<void>;
}

/** What a Mailbox calls on the Tunnel or Link that consumes it. */
export interface ConsumerRpc {
  deliver(peer: string, generation: number, deliveries: readonly Delivery[], position: number): Promise<Taken>;
  fenced(peer: string, generation: number): Promise<boolean>;
  recall(peer: string): Promise<boolean>;
  lastSign(): Promise<number>;
}

/** What a Tunnel or Link calls on the consumer of a mailbox to whose peer it streams. */
export interface StreamRpc {
  /** Resolves when there is room for the messages, or when they are dropped for want of it. */
  stream(peer: string, generation: number, bundle: MessageBatch): Promise<Taken>;
}

/** What a Mailbox calls on a Tunnel or Link that sends to it. */
export interface SenderRpc {
  room(peer: string, upTo: number, sender?: string): Promise<void>;
}
