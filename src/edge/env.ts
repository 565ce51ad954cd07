/**
 * What the platform hands to the edge: the bindings of wrangler.toml, and its variables.
 *
 * @module
 */
import type { Directory } from "./mailbox/directory.ts";
import type { Link } from "./link/link.ts";
import type { Mailbox } from "./mailbox/mailbox.ts";
import type { Meter } from "./admission/meter.ts";
import type { Settings } from "./policy/settings.ts";
import type { Tunnel } from "./tunnel/tunnel.ts";

export interface Env extends Settings {
  /** One object per virtual connection, named by its Virtual-Connection-GUID. */
  readonly TUNNEL: DurableObjectNamespace<Tunnel>;
  /** One object per peer, named by its device URL or identity URL. */
  readonly MAILBOX: DurableObjectNamespace<Mailbox>;
  /** One object that knows which mailboxes there are. */
  readonly DIRECTORY: DurableObjectNamespace<Directory>;
  /** One object per principal with limits, named as meteredName says. */
  readonly METER: DurableObjectNamespace<Meter>;
  /** One object per origin relay, named by the relay's URL. */
  readonly LINK: DurableObjectNamespace<Link>;
}
