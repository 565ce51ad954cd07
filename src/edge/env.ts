/**
 * The bindings of wrangler.toml, and the settings.
 *
 * @module
 */

import type { Settings } from "./policy/settings.ts";
import type { DirectoryRpc } from "./rpc/directory-rpc.ts";
import type { LinkRpc } from "./rpc/link-rpc.ts";
import type { MailboxRpc } from "./rpc/mailbox-rpc.ts";
import type { MeterRpc } from "./rpc/meter-rpc.ts";
import type { TunnelRpc } from "./rpc/tunnel-rpc.ts";

export interface Env extends Settings {
  /** One object per virtual connection, named by its Virtual-Connection-GUID. */
  readonly TUNNEL: DurableObjectNamespace<TunnelRpc>;
  /** One object per peer, named by its device URL or identity URL. */
  readonly MAILBOX: DurableObjectNamespace<MailboxRpc>;
  /** One object that knows which mailboxes exist. */
  readonly DIRECTORY: DurableObjectNamespace<DirectoryRpc>;
  /** One object per limited principal or source; `meteredName` gives the names of principals. */
  readonly METER: DurableObjectNamespace<MeterRpc>;
  /** One object per origin relay, named by the relay's URL. */
  readonly LINK: DurableObjectNamespace<LinkRpc>;
  /** Identifies the command that runs the edge on this machine. Unset elsewhere. */
  readonly LOCAL_SECRET?: string;
}
