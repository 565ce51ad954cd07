/**
 * What a device needs of the platform that it runs on: Node, or a browser.
 *
 * @module
 */
import type { ConnectionOptions } from "./options.ts";
import type { StreamHost, StreamHostOptions } from "./streams/stream-host.ts";
import type { OpenTransport, Way } from "./transports/transport.ts";

export interface Platform {
  /** How to open each transport. */
  readonly open: OpenTransport;
  /** The ways that the options and the proxies of this moment allow, best first. */
  readonly ways: (options: ConnectionOptions) => Promise<readonly Way[]>;
  /** The key of the network that this machine is in; see `networkKey`. Empty without one. */
  readonly network: () => string;
  /** Makes what carries streams. */
  readonly streams: (options: Omit<StreamHostOptions, "suites">) => StreamHost;
}
