/**
 * RPC interface of an Egress.
 *
 * @module
 */
import type { Principal } from "../../auth/principal.ts";
import type { Taken } from "./mailbox-rpc.ts";
import type { MessageBatch } from "./message-batch.ts";

/** Where the packets of a device come from, and where those for it go: its Tunnel, which consumes its mailbox. */
export interface DevicePath {
  /** The Tunnel's name. */
  readonly tunnel: string;
  /** Of the Tunnel's attachment to the mailbox: the highest is the newest. */
  readonly generation: number;
  /** Whose token the device shows now. */
  readonly principal: Principal;
}

/** The object of the TCP connections that the edge has dialled for one device, named by the device's URL. */
export interface EgressRpc extends Rpc.DurableObjectBranded {
  /** Takes packets of the device. What they hold of each stream is bounded by its credit, so this does not wait. */
  stream(path: DevicePath, bundle: MessageBatch): Promise<Taken>;
  /** Whether there is a channel of this route. */
  holds(route: number): Promise<boolean>;
  status(): Promise<EgressStatus>;
}

/** Status for tests and operators. */
export interface EgressStatus {
  readonly channels: number;
  /** TCP connections, and those being dialled. */
  readonly streams: number;
  /** When the object woke, in milliseconds since 1970. */
  readonly since: number;
}
