/**
 * What the platform hands to the edge: the bindings and variables of wrangler.toml.
 *
 * @module
 */
import type { Tunnel } from "./tunnel.ts";

export interface Env {
  /** One object per virtual connection, named by its Virtual-Connection-GUID. */
  readonly TUNNEL: DurableObjectNamespace<Tunnel>;
  /** This edge's own Relay-Server-Name. Empty until the operator sets it: then no request can name this edge. */
  readonly RELAY_NAME?: string;
  /** Origin relays that a virtual connection may be passed through to. Empty: none. */
  readonly ORIGIN_RELAYS?: string;
}
