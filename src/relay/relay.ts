/**
 * The origin relay: SSTP on TCP [MS-GRVSSTP 3.3], store and forward for devices and identities.
 *
 * @module
 */

import { createServer, type Socket } from "node:net";
import { hostname } from "node:os";
import { ConnectCloseReasonId, relayURL, SSTP_PORT } from "../sstp/index.ts";
import type { DropCounts } from "../store-and-forward/drop-reasons.ts";
import { MESSAGE_LIMIT, PURGE_INTERVAL } from "./defaults.ts";
import { Hub } from "./hub.ts";
import { PeerConnection } from "./peer-connection.ts";
import { type Quota, Store } from "./store.ts";

export interface RelayOptions {
  /** TCP port; 2492 by default, 0 for any free one. */
  readonly port?: number;
  /** Address to listen on; 127.0.0.1 by default: give 0.0.0.0 or :: to be reached from elsewhere. */
  readonly host?: string;
  /**
   * Relay-Server-Names, each `host` or `host:port`, that clients may mean by their Connect. By default the host's name,
   * `localhost` and the address listened on, with and without the port.
   */
  readonly names?: readonly string[];
  /** File for what waits; without it everything is forgotten when the process ends. */
  readonly store?: string;
  /** What one peer may have waiting. */
  readonly quota?: Quota;
  /** Longest message in octets. */
  readonly messageLimit?: number;
  /** Called with a line for each connection that comes or goes. */
  readonly log?: (line: string) => void;
}

export interface Relay {
  readonly port: number;
  readonly host: string;
  /** Counters: connections now, and drops by reason since the start. */
  status(): { readonly connections: number; readonly dropped: DropCounts };
  /** What waits for a peer, by the URL of a device or an identity. */
  waiting(peer: string): { readonly octets: number; readonly messages: number };
  /** Tells every peer that the relay rests, and stops. */
  close(): Promise<void>;
}

/**
 * Starts a relay.
 *
 * @throws Error with `code` EADDRINUSE or EACCES when the port cannot be had; Error of node:sqlite when the store cannot
 * be opened.
 *
 * @example
 * const relay = await startRelay({ store: "relay.db" });
 */
export async function startRelay(options: RelayOptions = {}): Promise<Relay> {
  const store = new Store(options.store, options.quota);
  const hub = new Hub(store, options.log ?? (() => undefined));
  const connections = new Map<Socket, PeerConnection>();
  const server = createServer({ noDelay: true, allowHalfOpen: true });
  const host = options.host ?? "127.0.0.1";
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(options.port ?? SSTP_PORT, host, resolve);
    });
  } catch (error) {
    store.close();
    throw error;
  }
  // Such as too many open files: the connections that there are go on.
  server.on("error", (error) => options.log?.(`cannot accept: ${error.message}`));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  const names = options.names ?? [hostname(), "localhost", host.includes(":") ? `[${host}]` : host];
  const localDeviceURLs = [...new Set(names.flatMap((name) => urlsOf(name, port)))];

  server.on("connection", (socket) => {
    connections.set(socket, new PeerConnection(hub, socket, localDeviceURLs, options.messageLimit ?? MESSAGE_LIMIT));
    socket.on("close", () => connections.delete(socket));
  });
  const purging = setInterval(() => {
    hub.drop("Expired", store.purge(Date.now()));
    hub.settle();
  }, PURGE_INTERVAL);
  purging.unref();

  async function close(): Promise<void> {
    clearInterval(purging);
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    hub.settle();
    for (const [socket, connection] of connections) {
      connection.close(ConnectCloseReasonId.Resting);
      socket.destroySoon();
    }
    await closed;
    store.close();
  }
  let closing: Promise<void> | undefined;

  return {
    port,
    host,
    status: () => ({ connections: connections.size, dropped: { ...hub.dropped } }),
    waiting: (peer) => store.waiting(peer),
    close() {
      closing ??= close();
      return closing;
    },
  };
}

/** A name is meant with the port that it was reached by as well: behind an edge the URL of a request has it. */
function urlsOf(name: string, port: number): string[] {
  const bare = /:[0-9]+$/.test(name) && !name.endsWith("]") ? [] : [relayURL(`${name}:${port}`)];
  return [relayURL(name), ...bare];
}
