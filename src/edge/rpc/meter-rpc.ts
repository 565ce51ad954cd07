/**
 * RPC interface of a Meter.
 *
 * @module
 */

import type { AlarmRpc } from "./clock-rpc.ts";

/** Whether one more virtual connection is allowed; if not, `retryAfter` seconds until another try may succeed. */
export type Entrance =
  | { readonly ok: true }
  | { readonly ok: false; readonly retryAfter: number; readonly limit: "connections" | "connects" | "halfOpen" };

/** Amounts of what is metered per second. */
export interface Amount {
  readonly octets: number;
  readonly messages: number;
}

/** An amount that may be used after `wait` milliseconds, and within the `holds` milliseconds that follow. */
export interface Lease extends Amount {
  readonly wait: number;
  readonly holds: number;
}

/** What is left of each rate, and the current counts of virtual connections. */
export interface MeterStatus extends Amount {
  readonly connections: number;
  readonly connects: number;
  readonly halfOpen: number;
  /** Bytes reserved by mailboxes for messages of a sender. */
  readonly reserved: number;
  /** TCP connections reserved for destinations. */
  readonly streams: number;
}

/** What a mailbox asks for, in bytes. */
export interface Reservation {
  /** The least that is of use. It may be granted less than `wanted`, but not less than this. */
  readonly needed: number;
  readonly wanted: number;
  /** Whether the messages are stored already, so that there is nothing to refuse. */
  readonly stored: boolean;
  /** The identity that needs it, if the account is that of a relay that vouches: as `senderOfMessage` names it. */
  readonly identity?: string | undefined;
}

/** What a mailbox has reserved now. */
export interface Reserved {
  readonly octets: number;
  /** Whether the account has so much left that mailboxes need not ask before they store a little. */
  readonly isAmple: boolean;
  /** Whether so much is stored that messages for connected recipients must be reserved too. */
  readonly isSpent: boolean;
}

/** Names the channel of a device, by which its Meter asks whether it still exists. */
export function holderName(device: string, route: number): string {
  return `${route} ${device}`;
}

/** The device and the route in a name. */
export function holderIn(name: string): { readonly device: string; readonly route: number } {
  const at = name.indexOf(" ");
  return { device: name.slice(at + 1), route: Number(name.slice(0, at)) };
}

/** Name of the Meter that has the account of a sender; see `senderOf`. */
export function accountName(sender: string): string {
  return `sender:${sender}`;
}

/** The object of one principal, source or sender; `meteredName` gives the name of a principal. */
export interface MeterRpc extends Rpc.DurableObjectBranded, AlarmRpc {
  enter(connection: string): Promise<Entrance>;
  leave(connection: string): Promise<void>;
  begin(connection: string): Promise<Entrance>;
  begun(connection: string): Promise<void>;
  /**
   * Replaces what a mailbox has reserved for messages of this sender. Returns what it has reserved now; undefined if
   * there is no room.
   */
  reserve(mailbox: string, reservation: Reservation): Promise<Reserved | undefined>;
  lease(connection: string, wanted: Amount, unused: Amount): Promise<Lease>;
  /**
   * Replaces how many TCP connections an Egress has reserved, by a name that `holderName` gives. Returns false, and
   * changes nothing, if the principal would have too many.
   */
  hold(holder: string, streams: number): Promise<boolean>;
  status(): Promise<MeterStatus>;
}
