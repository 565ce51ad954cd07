/**
 * What a Link answers to.
 *
 * @module
 */
import type { Reason } from "../reasons.ts";
import type { ConsumerRpc, SenderRpc } from "./mailbox-rpc.ts";

/** Whether the relay can be had now, or in the words of SessionStatus why not [MS-GRVSSTP 2.2.8.1]. */
export type Reach = "connected" | "DNSLookupFailed" | "HostNotReachable" | "ConnectionClosed";

/** What an operator sees of a link. */
export interface LinkStatus {
  readonly relay: string;
  readonly connected: boolean;
  /** When it was connected, in milliseconds since 1970. */
  readonly since: number | undefined;
  /** Where it was reached last: host and port. */
  readonly way: string | undefined;
  /** Tries in a row that have failed, and why the last did. */
  readonly failures: number;
  readonly why: Reach | undefined;
  /** Why exactly, when there is a name for it. */
  readonly reason: Reason | undefined;
}

/** The object of one origin relay, named by the relay's URL. */
export interface LinkRpc extends Rpc.DurableObjectBranded, ConsumerRpc, SenderRpc {
  wake(): Promise<void>;
  reach(): Promise<Reach>;
  renew(): Promise<Reach>;
  status(): Promise<LinkStatus>;
}
