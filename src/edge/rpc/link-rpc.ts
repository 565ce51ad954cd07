/**
 * RPC interface of a Link.
 *
 * @module
 */
import type { Reason } from "../reasons.ts";
import type { ConsumerRpc, SenderRpc, StreamRpc } from "./mailbox-rpc.ts";

/** Whether the relay is connected, or why not, as a name of SessionStatus [MS-GRVSSTP 2.2.8.1]. */
export type Reach = "connected" | "DNSLookupFailed" | "HostNotReachable" | "ConnectionClosed";

/** Status of a link, for operators. */
export interface LinkStatus {
  readonly relay: string;
  readonly connected: boolean;
  /** When the connection began, in milliseconds since 1970. */
  readonly since: number | undefined;
  /** Host and port that worked last. */
  readonly way: string | undefined;
  /** Consecutive failed tries. `why` is that of the last. */
  readonly failures: number;
  readonly why: Reach | undefined;
  /** The edge's own reason for `why`, if there is one. */
  readonly reason: Reason | undefined;
}

/** The object of one origin relay, named by the relay's URL. */
export interface LinkRpc extends Rpc.DurableObjectBranded, ConsumerRpc, SenderRpc, StreamRpc {
  wake(): Promise<void>;
  reach(): Promise<Reach>;
  renew(): Promise<Reach>;
  status(): Promise<LinkStatus>;
  /** As `status`. A link that is down is tried again soon. */
  look(): Promise<LinkStatus>;
}
