/**
 * What the platform hands to the edge: the bindings and variables of wrangler.toml.
 *
 * @module
 */
import type { Directory } from "./directory.ts";
import type { Mailbox } from "./mailbox.ts";
import type { Meter } from "./meter.ts";
import type { Tunnel } from "./tunnel.ts";

export interface Env {
  /** One object per virtual connection, named by its Virtual-Connection-GUID. */
  readonly TUNNEL: DurableObjectNamespace<Tunnel>;
  /** One object per peer, named by its device URL or identity URL. */
  readonly MAILBOX: DurableObjectNamespace<Mailbox>;
  /** One object that knows which mailboxes there are. */
  readonly DIRECTORY: DurableObjectNamespace<Directory>;
  /** One object per principal with limits, named as meteredName says. */
  readonly METER: DurableObjectNamespace<Meter>;
  /** This edge's own Relay-Server-Name. Empty until the operator sets it: then no request can name this edge. */
  readonly RELAY_NAME?: string;
  /** Origin relays that a virtual connection may be passed through to. Empty: none. */
  readonly ORIGIN_RELAYS?: string;
  /** What one principal may do, as parseRate reads it. Empty: nobody has limits. */
  readonly RATE?: string;
  /** Opens /admin. Empty: there is none. */
  readonly ADMIN_TOKEN?: string;
}
