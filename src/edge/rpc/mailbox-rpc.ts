/**
 * What a Mailbox answers to, and what it asks of the Tunnels and Links that consume it or send to it.
 *
 * @module
 */
import type { Range } from "../../lib/ranges.ts";
import type { DropCounts } from "../../store-and-forward/drop-reasons.ts";
import type { Recipient } from "../../store-and-forward/envelope.ts";
import type { DeliveryReport } from "./delivery-report.ts";
import type { MessageBatch } from "./message-batch.ts";

/**
 * What became of a message. One that is locked came from somebody who may not send to this mailbox. One that is too long
 * can never be stored, one over the quota later, and so one for which the disk is too full, or whose mailbox is new and
 * cannot be entered in the directory now. The last three are of one that cannot wait for an origin relay that is out of
 * reach.
 */
export type Outcome =
  | "stored"
  | "duplicate"
  | "quota"
  | "tooLong"
  | "full"
  | "locked"
  | "notEntered"
  | "DNSLookupFailed"
  | "HostNotReachable"
  | "ConnectionClosed";

/** Messages as they are delivered, numbered one by one from `first` on; with flag D they have no numbers, and 0 stands here. */
export interface Delivery {
  readonly first: number;
  readonly bundle: MessageBatch;
}

/** A message that did not come in, by its place in its bundle. */
export interface Refusal {
  readonly at: number;
  readonly outcome: Exclude<Outcome, "stored" | "duplicate">;
}

/** What became of messages. */
export interface Appended {
  readonly refusals: readonly Refusal[];
  /**
   * The sender has used up its share: the sessions on which they came are to be suspended until `room` is called with this
   * number or a later one. Undefined when they may go on.
   */
  readonly suspend?: number;
}

/**
 * What its consumer says: it has them, it has them but for some that nobody keeps and that are too many, or it does not
 * consume the mailbox (any more).
 */
export type Taken = "taken" | { readonly dropped: number } | "gone";

/** What is told to a consumer of what it has said. */
export interface Acknowledged {
  /** Everything up to this message has left the mailbox. */
  readonly position: number;
  /** Of what it has asked for again, what has left the mailbox as well: it is not waited for. */
  readonly gone: readonly Range[];
}

/** What a sender may add to a mailbox before it is suspended, or that it may not send there. */
export type Room =
  | {
      readonly type: "room";
      readonly octets: number;
      readonly messages: number;
      /** Whether somebody consumes it. */
      readonly attached: boolean;
    }
  | { readonly type: "locked" };

/** What waits. */
export interface Waiting {
  readonly messages: number;
  readonly octets: number;
  /** When the oldest came, in milliseconds since 1970; undefined when nothing waits. */
  readonly oldest: number | undefined;
}

/** What an operator sees of a mailbox. */
export interface MailboxStatus extends Waiting {
  readonly peer: string;
  /** The Tunnel that consumes it, by its GUID; undefined when nobody does. */
  readonly consumer: string | undefined;
  readonly generation: number;
  /** How many messages the consumer has set aside: refused, or meant for a session that is not ready. */
  readonly aside: number;
  /** How many connections are suspended until their sender has less waiting. */
  readonly suspended: number;
  /** Whether an operator has shut all senders out, whatever the rule says. */
  readonly locked: boolean;
  /** The owner's rule of who may send. */
  readonly senders: string;
  readonly dropped: DropCounts;
  /** Rows written since the object woke. */
  readonly rowsWritten: number;
  /** Calls to a consumer that failed since then. */
  readonly failedDeliveries: number;
}

/** Messages that a sender asks for. */
export interface Wanted {
  /** Device URL of the sender. */
  readonly source: string;
  /** What their ids begin with, as they are stored. */
  readonly idPrefix: string;
  /** Only those for this one recipient: in the mailbox of an origin relay there are those for others. */
  readonly to?: Recipient;
}

/** The object of one peer, named by the peer's URL. */
export interface MailboxRpc extends Rpc.DurableObjectBranded {
  append(bundle: MessageBatch, from?: string): Promise<Appended>;
  pass(bundle: MessageBatch): Promise<Refusal[]>;
  attach(): Promise<{ readonly generation: number }>;
  ready(tunnel: string, generation: number): Promise<boolean>;
  detach(generation: number): Promise<void>;
  acknowledge(generation: number, report: DeliveryReport): Promise<Acknowledged | undefined>;
  room(source: string): Promise<Room>;
  withdraw(wanted: Wanted): Promise<number>;
  status(): Promise<MailboxStatus>;
  purge(): Promise<number>;
  setLocked(locked: boolean): Promise<void>;
  setSenders(text: string): Promise<void>;
}

/** What a Mailbox asks of the Tunnel or Link that consumes it. */
export interface ConsumerRpc {
  deliver(peer: string, generation: number, deliveries: readonly Delivery[], position: number): Promise<Taken>;
  fenced(peer: string, generation: number): Promise<boolean>;
  recall(peer: string): Promise<boolean>;
  lastSign(): Promise<number>;
}

/** What it asks of one that sends to it. */
export interface SenderRpc {
  room(peer: string, upTo: number): Promise<void>;
}
