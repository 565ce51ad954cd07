/**
 * What an endpoint uses of the object around it: mailboxes, other relays, authorization and metering.
 *
 * @module
 */
import type { Authenticator } from "../../auth/permissions.ts";
import type { Principal } from "../../auth/principal.ts";
import type { LinkTrust } from "../../auth/relay-proof.ts";
import type { Judge } from "../../auth/token-recheck.ts";
import type { Throttle } from "../admission/throttle.ts";
import type { BatchSender } from "../rpc/batch-socket.ts";
import type { DevicePath, EgressRpc } from "../rpc/egress-rpc.ts";
import type { MailboxRpc } from "../rpc/mailbox-rpc.ts";
import type { ConsumerAccess } from "./consumer-path.ts";

/** How TCP connections to destinations are reached. */
export interface EgressAccess {
  /** The object of a device, given by its URL. */
  object(device: string): DurableObjectStub<EgressRpc>;
  /** The WebSocket that the device's Egress has opened, while there is one. */
  socket(): BatchSender<DevicePath> | undefined;
  /** The principal whose token the device shows now. */
  bearer(): Principal;
}

/** What an endpoint needs from its object. */
export interface EndpointContext {
  /** The object's name, by which mailboxes call it back. */
  readonly name: string;
  mailbox(peer: string): DurableObjectStub<MailboxRpc>;
  /** The consumer of a mailbox, to stream to: a Tunnel, or the Link of a relay, which has the relay's URL as its name. */
  consumer(name: string): ConsumerAccess;
  /** The way to destinations; absent if the edge dials none. */
  readonly egress?: EgressAccess | undefined;
  /** The meter of a device's share; undefined if it has no limits. */
  throttle(source: string, who: Principal): Throttle | undefined;
  /** The canonical URL of an origin relay that messages may be sent to; undefined if that is not allowed. */
  remote(relayURL: string): string | undefined;
  /** How to trust a relay that connects to this edge; undefined if the operator has not configured it. */
  trust(relayURL: string): LinkTrust | undefined;
  /** Called when a peer has connected. It checks the links that the operator wants kept. */
  arrived(): void;
  /** Keeps the object alive until the promise settles. */
  waitUntil(promise: Promise<unknown>): void;
  /** Maximum recipients of one session. */
  readonly recipients: number;
  /** The longest message that a mailbox takes, in bytes. */
  readonly messageLimit: number;
  /** Decides what the device may do. */
  readonly authenticator: Authenticator;
  /** The principal that opened the virtual connection. */
  readonly owner: Principal;
  /** Whether the token's bearer may still be served. Asked before anything is taken or handed over. */
  readonly standing: Judge;
}
