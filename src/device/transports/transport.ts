/**
 * A transport: a way for a stream of octets between a device and a relay. Each is one virtual connection, or one TCP
 * connection; when it is lost a new one is made.
 *
 * @module
 */
import type { Lost } from "../../encapsulation/index.ts";
import type { DeviceError } from "../device-error.ts";
import type { Dialler } from "./dial.ts";

/** Names of the transports, best first. */
export const TRANSPORTS = ["tcp", "websocket", "longlived", "keepalive", "polling"] as const;
export type TransportName = (typeof TRANSPORTS)[number];

export interface TransportOptions {
  readonly transport: TransportName;
  /** Origin relay, `host` or `host:port`: dialled by `tcp`, named to the edge by the others. */
  readonly relay: string;
  /** URL of the edge, `http:` or `https:`. Not used by `tcp`. */
  readonly edge?: string | undefined;
  /** LongLived: octets that each of its two sessions may carry. Default 64 MiB. */
  readonly contentLength?: number | undefined;
  /** PEM text of the certificate authorities to trust instead of the system's, for an edge with its own. */
  readonly ca?: string | undefined;
  /** Sent to the edge with every request; by `tcp` to the relay, in Connect. */
  readonly token?: string | undefined;
  /** Whether this side keeps something that it has not acknowledged: then it shows more often that it is there. */
  readonly isBusy?: (() => boolean) | undefined;
  /** By `tcp` a token may go to any address. Default false: only to loopback and private ones. */
  readonly allowPlain?: boolean | undefined;
  /** Makes the connections, for example through a proxy. Default: directly, which alone heeds `allowPlain`. */
  readonly dialler?: Dialler | undefined;
}

export interface Transport {
  readonly name: TransportName;
  /** Resolves when the transport is established; rejects when it cannot be. */
  readonly established: Promise<void>;
  /** The next octets, as they came; undefined when the transport has ended. One call at a time. */
  read(): Promise<Uint8Array | undefined>;
  /** Sends octets, in order; they must not be changed afterwards. Resolves when more may be sent. */
  write(octets: readonly Uint8Array[]): Promise<void>;
  /** Octets that it can still carry, in the direction that has least left. Infinity when there is no such limit. */
  readonly remaining: number;
  /** Why it has ended; undefined while it has not. */
  readonly lost: Lost | undefined;
  /** Why it has ended or was never established, when more is known than `lost` says. */
  readonly failure?: DeviceError | undefined;
  /** Ends it at once. */
  close(): void;
}
