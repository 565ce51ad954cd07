/**
 * The bindings of wrangler.toml, and the settings.
 *
 * @module
 */

import type { Settings } from "./policy/settings.ts";
import type { ClockRpc } from "./rpc/clock-rpc.ts";
import type { CollectorRpc } from "./rpc/collector-rpc.ts";
import type { DirectoryRpc } from "./rpc/directory-rpc.ts";
import type { EgressRpc } from "./rpc/egress-rpc.ts";
import type { InboxesRpc } from "./rpc/inboxes-rpc.ts";
import type { LinkRpc } from "./rpc/link-rpc.ts";
import type { MailboxRpc } from "./rpc/mailbox-rpc.ts";
import type { MeterRpc } from "./rpc/meter-rpc.ts";
import type { OperatorSessionsRpc } from "./rpc/operator-sessions-rpc.ts";
import type { PlainStreamRpc } from "./rpc/plain-stream-rpc.ts";
import type { TunnelRpc } from "./rpc/tunnel-rpc.ts";

export interface Env extends Settings {
  /** One object per virtual connection, named by its Virtual-Connection-GUID. */
  readonly TUNNEL: DurableObjectNamespace<TunnelRpc>;
  /** One object per peer, named by its device URL or identity URL. */
  readonly MAILBOX: DurableObjectNamespace<MailboxRpc>;
  /** One object per peer that has inboxes, named by their locator; see inboxes/capability.ts. */
  readonly INBOXES: DurableObjectNamespace<InboxesRpc>;
  /** One object that knows which mailboxes exist. */
  readonly DIRECTORY: DurableObjectNamespace<DirectoryRpc>;
  /** One object per limited principal or source, and per account of a sender; `meteredName` gives the names of principals. */
  readonly METER: DurableObjectNamespace<MeterRpc>;
  /** One object per plain stream, named by its name. */
  readonly PLAIN_STREAM: DurableObjectNamespace<PlainStreamRpc>;
  /** One object per origin relay, named by the relay's URL. */
  readonly LINK: DurableObjectNamespace<LinkRpc>;
  /** One object per device that has TCP connections to destinations, named by its device URL. */
  readonly EGRESS: DurableObjectNamespace<EgressRpc>;
  /** Objects that keep what the others have counted; `collectorName` names them. */
  readonly COLLECTOR: DurableObjectNamespace<CollectorRpc>;
  /** One object that knows who has signed in to the status page. */
  readonly OPERATOR_SESSIONS: DurableObjectNamespace<OperatorSessionsRpc>;
  /** Where counts are written to as well, if it is bound. */
  readonly ANALYTICS?: AnalyticsEngineDataset;
  /** The Meters of principals and sources where they have no storage; see volatile/object-named.ts. Unset elsewhere. */
  readonly CONNECTION_METER?: DurableObjectNamespace<MeterRpc>;
  /** One object that rings the alarms of objects without storage, named as theirs are. Unset elsewhere. */
  readonly CLOCK?: { get(name: string): DurableObjectStub<ClockRpc> };
  /** Names the run of the command that runs the edge on this machine. Unset elsewhere. */
  readonly LOCAL_RUN?: string;
  /** Identifies the command that runs the edge on this machine. Unset elsewhere. */
  readonly LOCAL_SECRET?: string;
}
