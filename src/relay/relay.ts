/**
 * The origin relay: SSTP over TCP [MS-GRVSSTP 3.3] with store and forward for devices and identities.
 *
 * @module
 */

import { realpathSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { hostname } from "node:os";
import { dirname } from "node:path";
import { createServer as createSecureServer, type Server as SecureServer } from "node:tls";
import { hasKeys, type KeySettings, parseKeySet } from "../auth/key-set.ts";
import { type LinkSecrets, readLinkSecrets } from "../auth/relay-proof.ts";
import type { TokenSettings } from "../auth/verify-token.ts";
import { bracketed } from "../lib/host-port.ts";
import { DiskWatch } from "../lib/node/disk-watch.ts";
import { FileLock } from "../lib/node/file-lock.ts";
import { problemText } from "../lib/setting.ts";
import { ConnectCloseReasonId, relayURL, SSTP_PORT } from "../sstp/index.ts";
import type { DropCounts } from "../store-and-forward/drop-reasons.ts";
import { type Amount, longestIn, QUOTA, type StorageQuota } from "../store-and-forward/sender-share.ts";
import { Hub } from "./hub.ts";
import { LINGER, MESSAGE_LIMIT, PURGE_INTERVAL, TLS_TIMEOUT } from "./limits.ts";
import { PeerConnection } from "./peer-connection.ts";
import { RelayTrust } from "./relay-trust.ts";
import { Store } from "./store.ts";

/** Default port for SSTP over TLS; firewalls let it pass. */
export const TLS_PORT = 443;

export interface RelayOptions {
  /** TCP port. Default 2492; 0 picks a free one. */
  readonly port?: number;
  /** Address to listen on. Default 127.0.0.1; use 0.0.0.0 or :: to be reachable from other machines. */
  readonly host?: string;
  /**
   * Relay-Server-Names, each `host` or `host:port`, that clients may name in Connect. Default: the host's name,
   * `localhost` and the listening address, with and without the port.
   */
  readonly names?: readonly string[];
  /** PEM texts. If given, the relay also listens for SSTP over TLS, on a separate port. */
  readonly tls?: { readonly key: string; readonly cert: string; readonly port?: number };
  /** Listens for SSTP over TLS only. */
  readonly tlsOnly?: boolean;
  /**
   * Secrets shared with edges and other relays, in the format of readLinkSecrets. With it only listed relays are
   * admitted; without it relays are trusted if they connect from a loopback or private address.
   */
  readonly linkSecrets?: string;
  /**
   * The JSON Web Key Set that verifies devices' tokens, as text, and a URL to fetch one from. Without either, every
   * device is admitted. A token's `aud` is one of the names.
   */
  readonly keys?: string;
  readonly keysURL?: string;
  /** Ids of revoked tokens, and a URL to fetch a JSON array of such ids from. */
  readonly revoked?: readonly string[];
  readonly revokedURL?: string;
  /** Database file. Without it, messages are lost when the process ends. */
  readonly store?: string;
  /** Free bytes required on the store's disk, or new messages are refused. Default 64 MiB, or 1/8 of a small disk. */
  readonly minFree?: number;
  /** Called with the required free bytes when that disk becomes full, and when it has room again. */
  readonly onDisk?: (full: boolean, minFree: number) => void;
  /**
   * Limits of one peer's queue, the share of it that a single sender may fill (above 0 and below 1), and the bytes that
   * one sender may have waiting in all queues. Default 256 MiB, 100,000 messages, 0.5, and 4 GiB.
   */
  readonly quota?: Amount & { readonly share?: number; readonly sender?: number };
  /** Longest message in bytes, at most what a single sender may have queued. Default 16 MiB. */
  readonly messageLimit?: number;
  /** Called with a line for each connection that opens or closes. */
  readonly log?: (line: string) => void;
}

export interface Relay {
  /** Port of SSTP over TCP, or of TLS with `tlsOnly`. */
  readonly port: number;
  /** Port of SSTP over TLS. */
  readonly tlsPort: number | undefined;
  readonly host: string;
  /** Number of open connections, and drops by reason since the start. */
  status(): { readonly connections: number; readonly dropped: DropCounts };
  /** What waits for a peer, given the URL of a device or identity. */
  waiting(peer: string): { readonly octets: number; readonly messages: number };
  /**
   * Serves another certificate to connections from now on.
   *
   * @param tls PEM texts
   * @throws Error of node:tls for an invalid key or certificate
   */
  renew(tls: { readonly key: string; readonly cert: string }): void;
  /** Tells every peer that the relay rests, and stops. */
  close(): Promise<void>;
}

/**
 * Starts a relay.
 *
 * @throws Error with `code` EADDRINUSE or EACCES if the port is not available; LockHeld if another process uses the
 * store; Error of node:sqlite if the store cannot be opened; KeySetError for unusable keys; AddressError for a malformed
 * name; TypeError for malformed linkSecrets; Error of node:tls for an invalid key or certificate.
 *
 * @example
 * const relay = await startRelay({ store: "relay.db" });
 */
export async function startRelay(options: RelayOptions = {}): Promise<Relay> {
  // Validate before opening anything that an error would leave open.
  for (const name of options.names ?? []) relayURL(name);
  const host = options.host ?? "127.0.0.1";
  const machine = ["localhost", bracketed(host)];
  // If devices need tokens, do not trust a relay, which has none, for its address.
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
  /** Open sockets, including those still in the TLS handshake. */
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
    // For example too many open files. Existing connections continue.
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
    // Sockets still in the handshake cannot be told goodbye.
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
    renew: ({ key, cert }) => secure?.setSecureContext({ ...TLS_VERSION, key, cert }),
    close() {
      closing ??= close();
      return closing;
    },
  };
}

function keySettings({ keys = "", keysURL = "" }: RelayOptions): KeySettings {
  return { KEYS: keys, JWKS_URL: keysURL };
}

/** How tokens are verified; undefined if none are required. */
function tokensOf(options: RelayOptions, names: readonly string[]): TokenSettings | undefined {
  const keys = keySettings(options);
  if (!hasKeys(keys)) return undefined;
  const { revoked = [], revokedURL = "" } = options;
  return { ...keys, REVOKED: revoked.join(","), REVOKED_URL: revokedURL, RELAY_NAME: names.join(" ") };
}

/** @throws TypeError */
function secretsOf(text: string | undefined): LinkSecrets | undefined {
  if (text === undefined) return undefined;
  const read = readLinkSecrets(text);
  if (read.ok) return read.value;
  const all = read.problems.map((problem) => problemText({ ...problem, setting: "linkSecrets" }));
  throw new TypeError(all.join("; "));
}

const TLS_VERSION = { minVersion: "TLSv1.2" } as const;

function secureServer({ key, cert }: { readonly key: string; readonly cert: string }): SecureServer {
  return createSecureServer({ key, cert, noDelay: true, ...TLS_VERSION, handshakeTimeout: TLS_TIMEOUT });
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

function quotaOf({ quota }: RelayOptions): StorageQuota {
  return { ...QUOTA, ...quota };
}

/** Opens the store under a lock: two relays on one store would both deliver its messages. */
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

/** Watches the disk. While it is full the store accepts no messages; a failed write releases the ballast file. */
function watchDisk({ store: file, minFree, onDisk }: RelayOptions, store: Store, hub: Hub): DiskWatch | undefined {
  if (file === undefined) return undefined;
  const disk = new DiskWatch({
    folder: dirname(realPath(file)),
    ballast: `${realPath(file)}-ballast`,
    minFree,
    changed(full, least) {
      store.full = full;
      // Retry the removals that failed.
      if (!full) setImmediate(() => hub.settle());
      onDisk?.(full, least);
    },
  });
  store.full = disk.full;
  store.onFailure = () => disk.failed();
  return disk;
}

/** Resolves links, so that one file has one lock. */
function realPath(file: string): string {
  try {
    return realpathSync(file);
  } catch {
    return file;
  }
}

/** A name, alone and with the port: behind an edge the URL of a request includes it. */
function namesOf(name: string, port: number): string[] {
  const hasPort = /:[0-9]+$/.test(name) && !name.endsWith("]");
  return hasPort ? [name] : [name, `${name}:${port}`];
}
