/**
 * What an endpoint finds around it in its object: mailboxes, other relays, who decides and who is metered.
 *
 * @module
 */
import type { Authenticator } from "../../auth/permissions.ts";
import type { Principal } from "../../auth/principal.ts";
import type { LinkTrust } from "../../auth/relay-proof.ts";
import type { Judge } from "../../auth/standing.ts";
import type { Throttle } from "../admission/throttle.ts";
import type { MailboxRpc } from "../rpc/mailbox-rpc.ts";

/** What an endpoint needs of the object that it lives in. */
export interface EndpointContext {
  /** The object's name, by which mailboxes call it back. */
  readonly name: string;
  mailbox(peer: string): DurableObjectStub<MailboxRpc>;
  /** What a device's share is metered by; undefined when it has no limits. */
  throttle(source: string, who: Principal): Throttle | undefined;
  /** The one URL of an origin relay that messages may be sent to, or undefined when that is not allowed. */
  remote(relayURL: string): string | undefined;
  /** By what a relay that connects to this edge is trusted; undefined when the operator has said nothing of it. */
  trust(relayURL: string): LinkTrust | undefined;
  /** A peer has connected: links that the operator wants kept are looked after. */
  arrived(): void;
  /** Keeps the object alive until the promise settles. */
  waitUntil(promise: Promise<unknown>): void;
  /** How many recipients one session may have. */
  readonly recipients: number;
  /** The longest message that a mailbox takes, in octets. */
  readonly messageLimit: number;
  /** Decides what the device may do. */
  readonly authenticator: Authenticator;
  /** Who has opened the virtual connection. */
  readonly owner: Principal;
  /** Whether the bearer of its token may still be served: it is asked before anything is taken or handed over. */
  readonly standing: Judge;
}
