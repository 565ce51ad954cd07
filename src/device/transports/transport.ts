/**
 * A transport: a byte stream between a device and a relay, over one virtual connection or one TCP connection. A lost
 * transport is never revived; the device opens a new one.
 *
 * @module
 */
import type { Lost } from "../../encapsulation/index.ts";
import type { DeviceError } from "../device-error.ts";
import type { Dialler } from "./dial.ts";
import type { Endpoint } from "./endpoint.ts";
import type { WayLimits } from "./way-limits.ts";

/** Names of the transports, best first. */
export const TRANSPORTS = [
  /** SSTP to the relay's port 2492. */
  "tcp",
  /** The same to port 443, which more firewalls let out. */
  "tcp443",
  /** SSTP in TLS, to port 443. */
  "tls",
  /** SSTP through an HTTP proxy, by CONNECT. */
  "connect",
  /** SSTP through a SOCKS proxy. */
  "socks",
  "websocket",
  "longlived",
  "keepalive",
  "polling",
] as const;
export type TransportName = (typeof TRANSPORTS)[number];

/** `https` is an HTTP proxy reached over TLS. Proxies resolve names themselves; `socks4` is SOCKS 4a. */
export const PROXY_KINDS = ["http", "https", "socks5", "socks4"] as const;
export type ProxyKind = (typeof PROXY_KINDS)[number];

/** A proxy without its credentials. */
export interface ProxyServer extends Endpoint {
  readonly kind: ProxyKind;
}

/** The proxies on the way, the nearest first. Empty: a direct connection. */
export type ProxyChain = readonly ProxyServer[];

/** One way to a relay as plain data: which transport, through which proxies, to where. */
export interface Way extends Endpoint {
  readonly transport: TransportName;
  /** Whether the connection to `host` is TLS. */
  readonly secure: boolean;
  readonly proxies: ProxyChain;
  /** Where the proxies were found, for the user: `HTTPS_PROXY`. */
  readonly source?: string | undefined;
}

/** How the kinds of transport differ for what uses them. */
export interface Capabilities {
  /** It shows the token to the edge with its own requests. Otherwise the token goes to the relay, in Connect. */
  readonly carriesToken: boolean;
  /**
   * Where both ends detect a dead peer themselves, by pings or by requests with answers: on every virtual connection,
   * on one that ends at the edge itself, or never. Where they do, Noops would only wake the edge, and silence proves
   * nothing.
   */
  readonly detectsLoss: "always" | "at the edge" | "never";
  /** A write is a request of its own, which can delay the next read: small output is worth gathering. */
  readonly requestPerWrite: boolean;
  /** One exchange at a time brings and takes: as long as the edge cannot take more, it brings nothing. */
  readonly takesTurns: boolean;
  /** When a write resolves, the bytes are copied: their memory may be freed. */
  readonly copiesWrites: boolean;
}

const RAW: Capabilities = {
  carriesToken: false,
  detectsLoss: "never",
  requestPerWrite: false,
  takesTurns: false,
  copiesWrites: false,
};

export const CAPABILITIES: Readonly<Record<TransportName, Capabilities>> = {
  tcp: RAW,
  tcp443: RAW,
  tls: RAW,
  connect: RAW,
  socks: RAW,
  websocket: {
    carriesToken: true,
    detectsLoss: "always",
    requestPerWrite: false,
    takesTurns: false,
    copiesWrites: true,
  },
  longlived: {
    carriesToken: true,
    detectsLoss: "never",
    requestPerWrite: false,
    takesTurns: false,
    copiesWrites: false,
  },
  keepalive: {
    carriesToken: true,
    detectsLoss: "at the edge",
    requestPerWrite: true,
    takesTurns: false,
    copiesWrites: false,
  },
  // A poll takes and brings at once, so waiting with an acknowledgement would only delay it.
  polling: {
    carriesToken: true,
    detectsLoss: "at the edge",
    requestPerWrite: false,
    takesTurns: true,
    copiesWrites: false,
  },
};

export interface TransportOptions {
  readonly transport: TransportName;
  /** Exactly how to connect; `transport` must be its transport. Default: the first of `candidates` that establishes. */
  readonly way?: Way | undefined;
  /** Origin relay, `host` or `host:port`: dialled by `tcp`, named to the edge by the others. */
  readonly relay: string;
  /** URL of the edge, `http:` or `https:`. Unused by `tcp`. */
  readonly edge?: string | undefined;
  /** LongLived: bytes that each of its two sessions may carry. Default 90 MiB. */
  readonly contentLength?: number | undefined;
  /** PEM certificates of the authorities to trust in addition to the system's and Node's, for an edge with a private one. */
  readonly ca?: string | undefined;
  /** Sent to the edge with every request; over `tcp`, to the relay in Connect. */
  readonly token?: string | undefined;
  /** Whether this side holds messages that it has not acknowledged. If so, it signals more often that it is alive. */
  readonly isBusy?: (() => boolean) | undefined;
  /** Since when a program waits for data of a stream, on the clock of `performance.now()`; undefined if none does. */
  readonly awaitedSince?: (() => number | undefined) | undefined;
  /** After how many milliseconds idle connections are cut on this way. Default: they are not. */
  readonly idleLimit?: number | undefined;
  /** Allows a token to go to any address over `tcp`. Default false: only to loopback and private addresses. */
  readonly allowPlain?: boolean | undefined;
  /** What is known of what the way to an edge lets through. Default: nothing, and nothing is remembered. */
  readonly wayLimits?: WayLimits | undefined;
  /** Makes the connections, for example through a proxy. Default: directly; only that one enforces `allowPlain`. */
  readonly dialler?: Dialler | undefined;
  /** Called when the first connection is made, before TLS. */
  readonly onConnected?: (() => void) | undefined;
}

export interface Transport {
  readonly name: TransportName;
  readonly capabilities: Capabilities;
  /** Resolves when the transport is established; rejects if that fails. */
  readonly established: Promise<void>;
  /** The same, but Polling, which needs data to be established, resolves after its first exchange. */
  readonly answered: Promise<void>;
  /** When bytes last arrived, on the clock of `performance.now()`. */
  readonly heardAt: number;
  /**
   * The next bytes as received, valid until the next call; undefined when the transport has ended. Do not call again
   * before it resolves.
   */
  read(): Promise<Uint8Array | undefined>;
  /** Sends bytes in order; do not modify them afterwards. Resolves when the transport accepts more. */
  write(octets: readonly Uint8Array[]): Promise<void>;
  /** Bytes that it can still carry, in the direction with less left. Infinity if unlimited. */
  readonly remaining: number;
  /** Resolves when it has ended, be there bytes left to read. */
  readonly ended: Promise<void>;
  /** Why it has ended; undefined while it is open. */
  readonly lost: Lost | undefined;
  /** A more specific error than `lost`, if known. */
  readonly failure?: DeviceError | undefined;
  /** Ends the transport at once. */
  close(): void;
}

/**
 * Opens the transport that the options name.
 *
 * @throws DeviceError InvalidOption
 */
export type OpenTransport = (options: TransportOptions) => Transport;
