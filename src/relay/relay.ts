/**
 * The origin relay: SSTP on TCP [MS-GRVSSTP 3.3], store and forward for devices and identities.
 *
 * @module
 */

import { realpathSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { hostname } from "node:os";
import { dirname } from "node:path";
import { createServer as createSecureServer } from "node:tls";
import { hasKeys, type KeySettings, parseKeySet } from "../auth/key-set.ts";
import { type LinkSecrets, parseLinkSecrets } from "../auth/relay-proof.ts";
import type { TokenSettings } from "../auth/verify-token.ts";
import { DiskWatch } from "../lib/node/disk-watch.ts";
import { FileLock } from "../lib/node/file-lock.ts";
import { ConnectCloseReasonId, relayURL, SSTP_PORT } from "../sstp/index.ts";
import type { DropCounts } from "../store-and-forward/drop-reasons.ts";
import { type Amount, longestIn, QUOTA, type Quota } from "../store-and-forward/share.ts";
import { Hub } from "./hub.ts";
import { LINGER, MESSAGE_LIMIT, PURGE_INTERVAL, TLS_TIMEOUT } from "./limits.ts";
import { PeerConnection } from "./peer-connection.ts";
import { RelayTrust } from "./relay-trust.ts";
import { Store } from "./store.ts";

/** Where SSTP over TLS is looked for by default: the port that firewalls let pass. */
export const TLS_PORT = 443;

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
  /** PEM texts: with them the relay also listens for SSTP over TLS, on a port of its own. */
  readonly tls?: { readonly key: string; readonly cert: string; readonly port?: number };
  /** Listens for SSTP over TLS alone. */
  readonly tlsOnly?: boolean;
  /**
   * Secrets shared with edges and other relays, as parseLinkSecrets reads them. Without it such a peer is believed when it
   * connects from a loopback or private address; with it only those that it names are let in.
   */
  readonly linkSecrets?: string;
  /**
   * The keys that tokens of devices are verified by, a JSON Web Key Set as text, and where to fetch such a set from. Without
   * either anybody is let in. The `aud` of a token is one of the names.
   */
  readonly keys?: string;
  readonly keysURL?: string;
  /** Ids of tokens that are no longer let in, and where to fetch a JSON array of such ids from. */
  readonly revoked?: readonly string[];
  readonly revokedURL?: string;
  /** File for what waits; without it everything is forgotten when the process ends. */
  readonly store?: string;
  /** Octets that have to be free on the disk of the store; below that new messages are refused. Default 64 MiB, or an eighth of a small disk. */
  readonly minFree?: number;
  /** Called when that disk has become full, and when it has room again, with the octets that have to be free. */
  readonly onDisk?: (full: boolean, minFree: number) => void;
  /**
   * What one peer may have waiting, and the part of it that one sender alone may fill (above 0 and below 1). Default 256 MiB,
   * 100,000 messages, and 0.5.
   */
  readonly quota?: Amount & { readonly share?: number };
  /** Longest message in octets; at most what one sender alone may have waiting. Default 16 MiB. */
  readonly messageLimit?: number;
  /** Called with a line for each connection that comes or goes. */
  readonly log?: (line: string) => void;
}

export interface Relay {
  /** Of SSTP over TCP; with tlsOnly that of TLS. */
  readonly port: number;
  /** Of SSTP over TLS. */
  readonly tlsPort: number | undefined;
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
 * @throws Error with `code` EADDRINUSE or EACCES when the port cannot be had; LockHeld when another process uses the
 * store; Error of node:sqlite when the store cannot be opened; KeySetError for keys that cannot be used; TypeError for
 * linkSecrets that cannot be read; Error of node:tls for a key or certificate that is none.
 *
 * @example
 * const relay = await startRelay({ store: "relay.db" });
 */
export async function startRelay(options: RelayOptions = {}): Promise<Relay> {
  // Before anything is opened that an error would leave behind.
  for (const name of options.names ?? []) relayURL(name);
  const host = options.host ?? "127.0.0.1";
  const machine = ["localhost", host.includes(":") ? `[${host}]` : host];
  // Where devices are asked for tokens a relay, which has none, is not believed for the address that it comes from.
  const trust = new RelayTrust(
    secretsOf(options.linkSecrets) ?? (hasKeys(keySettings(options)) ? new Map() : undefined),
    options.names === undefined ? machine.map(relayURL) : [],
  );
  if (options.keys) await parseKeySet(options.keys);
  const log = options.log ?? (() => undefined);
  const secure = options.tls && secureServer(options.tls);
  const { store, lock } = openStore(options);
  const hub = new Hub(store, log, trust);
  const disk = watchDisk(options, store, hub);
  const connections = new Map<Socket, PeerConnection>();
  const plain = options.tlsOnly === true ? undefined : createServer({ noDelay: true, allowHalfOpen: true });
  const servers = [plain, secure].filter((server) => server !== undefined);
  /** What has connected and not ended, also within the handshake of TLS. */
  const sockets = new Set<Socket>();
  try {
    if (plain !== undefined) await listen(plain, options.port ?? SSTP_PORT, host);
    if (secure !== undefined) await listen(secure, options.tls?.port ?? TLS_PORT, host);
  } catch (error) {
    for (const server of servers) server.close();
    await disk?.close();
    store.close();
    lock?.release();
    throw error;
  }
  const tlsPort = secure && portOf(secure);
  const port = plain === undefined ? (tlsPort ?? 0) : portOf(plain);
  const names = options.names ?? [hostname(), ...machine];
  const ports = [...new Set([port, ...(tlsPort === undefined ? [] : [tlsPort])])];
  const all = names.flatMap((name) => ports.flatMap((one) => namesOf(name, one)));
  const localDeviceURLs = [...new Set(all.map(relayURL))];

  const settings = {
    localDeviceURLs,
    messageLimit: Math.min(options.messageLimit ?? MESSAGE_LIMIT, longestIn(quotaOf(options))),
    tokens: tokensOf(options, all),
  };
  const serve = (socket: Socket) => {
    connections.set(socket, new PeerConnection(hub, socket, settings));
    socket.on("close", () => connections.delete(socket));
  };
  for (const server of servers) {
    // Such as too many open files: the connections that there are go on.
    server.on("error", (error) => log(`cannot accept: ${error.message}`));
    server.on("connection", (socket: Socket) => {
      sockets.add(socket);
      socket.on("close", () => sockets.delete(socket));
    });
  }
  plain?.on("connection", serve);
  secure?.on("secureConnection", serve);
  secure?.on("tlsClientError", (error, socket) => {
    log(`no TLS with ${socket.remoteAddress}: ${(error as NodeJS.ErrnoException).code ?? "it has failed"}`);
    socket.destroy();
  });
  const purging = setInterval(() => {
    hub.drop("Expired", store.purge(Date.now()));
    hub.settle();
  }, PURGE_INTERVAL);
  purging.unref();

  async function close(): Promise<void> {
    clearInterval(purging);
    const closed = Promise.all(servers.map((server) => new Promise<void>((resolve) => server.close(() => resolve()))));
    hub.settle();
    for (const [socket, connection] of connections) {
      connection.close(ConnectCloseReasonId.Resting);
      socket.destroySoon();
    }
    // Those within a handshake have nobody to say goodbye to.
    const handshaking = sockets.size > connections.size;
    if (handshaking) setTimeout(() => sockets.forEach((socket) => void socket.destroy()), LINGER).unref();
    await closed;
    await disk?.close();
    store.close();
    lock?.release();
  }
  let closing: Promise<void> | undefined;

  return {
    port,
    tlsPort,
    host,
    status: () => ({ connections: connections.size, dropped: { ...hub.dropped } }),
    waiting: (peer) => store.waiting(peer),
    close() {
      closing ??= close();
      return closing;
    },
  };
}

function keySettings({ keys = "", keysURL = "" }: RelayOptions): KeySettings {
  return { KEYS: keys, JWKS_URL: keysURL };
}

/** What tokens are verified by; undefined when nobody needs one. */
function tokensOf(options: RelayOptions, names: readonly string[]): TokenSettings | undefined {
  const keys = keySettings(options);
  if (!hasKeys(keys)) return undefined;
  const { revoked = [], revokedURL = "" } = options;
  return { ...keys, REVOKED: revoked.join(","), REVOKED_URL: revokedURL, RELAY_NAME: names.join(" ") };
}

/** @throws TypeError */
function secretsOf(text: string | undefined): LinkSecrets | undefined {
  if (text === undefined) return undefined;
  const parsed = parseLinkSecrets(text);
  if (!("problem" in parsed)) return parsed;
  throw new TypeError(`linkSecrets: ${parsed.entry === "" ? "it" : parsed.entry} ${parsed.problem}`);
}

function secureServer({ key, cert }: { readonly key: string; readonly cert: string }): Server {
  return createSecureServer({ key, cert, noDelay: true, minVersion: "TLSv1.2", handshakeTimeout: TLS_TIMEOUT });
}

function listen(server: Server, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, () => {
      server.off("error", reject);
      resolve();
    });
  });
}

function portOf(server: Server): number {
  const address = server.address();
  return typeof address === "object" && address !== null ? address.port : 0;
}

function quotaOf({ quota }: RelayOptions): Quota {
  return { ...QUOTA, ...quota };
}

/** Two relays on one store would both deliver what waits in it. */
function openStore(options: RelayOptions): {
  readonly store: Store;
  readonly lock: FileLock | undefined;
} {
  const { store: file } = options;
  const lock = file === undefined ? undefined : new FileLock(`${realPath(file)}-lock`);
  try {
    return { store: new Store(file, quotaOf(options)), lock };
  } catch (error) {
    lock?.release();
    throw error;
  }
}

/** While the disk is full the store takes nothing new; when it has failed to write, the ballast is given up. */
function watchDisk({ store: file, minFree, onDisk }: RelayOptions, store: Store, hub: Hub): DiskWatch | undefined {
  if (file === undefined) return undefined;
  const disk = new DiskWatch({
    folder: dirname(realPath(file)),
    ballast: `${realPath(file)}-ballast`,
    minFree,
    changed(full, least) {
      store.full = full;
      // What could not be removed before is now.
      if (!full) setImmediate(() => hub.settle());
      onDisk?.(full, least);
    },
  });
  store.full = disk.full;
  store.onFailure = () => disk.failed();
  return disk;
}

/** By whatever name the file is given, it has one lock. */
function realPath(file: string): string {
  try {
    return realpathSync(file);
  } catch {
    return file;
  }
}

/** A name is meant with the port that it was reached by as well: behind an edge the URL of a request has it. */
function namesOf(name: string, port: number): string[] {
  const hasPort = /:[0-9]+$/.test(name) && !name.endsWith("]");
  return hasPort ? [name] : [name, `${name}:${port}`];
}
