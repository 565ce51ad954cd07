/**
 * What a device is told when it connects, and what follows from it.
 *
 * @module
 */
import { type Address, parseAddress, relayURL } from "../sstp/index.ts";
import { DeviceError } from "./device-error.ts";
import { MESSAGE_LIMIT } from "./limits.ts";
import { checked } from "./recipients.ts";
import type { TokenSource } from "./token-source.ts";
import type { TransportName } from "./transports/transport.ts";

/** Told of a recipient, as it was given to `send`, and of the resource of the messages that wait. */
export type HeldListener = (to: string, resource: string) => void;

export interface DeviceOptions {
  /** This device's address: `identity/device`. */
  readonly address: string;
  /**
   * The relay: `host` or `host:port`, as the edge knows it. Without it the edge itself is the relay, by the host name in
   * its URL.
   */
  readonly relay?: string;
  /** URL of the edge. Without it the device connects to the relay by TCP. */
  readonly edge?: string;
  /** By default `longlived` with an edge and `tcp` without. */
  readonly transport?: TransportName;
  /** LongLived: octets that each of its two sessions may carry, at least twice `messageLimit`. Default 64 MiB. */
  readonly contentLength?: number;
  /** Longest message in octets. Default 16 MiB. */
  readonly messageLimit?: number;
  /** PEM text of the certificate authorities to trust instead of the system's. */
  readonly ca?: string;
  /**
   * Lets the device in at the edge, or at a relay that is connected to by TCP: a token of its operator, or where to get one,
   * which is asked for each new connection.
   */
  readonly token?: TokenSource;
  /** The token may go by TCP in clear to any relay. Default false: only to loopback and private addresses. */
  readonly allowPlain?: boolean;
  /**
   * False for a device that only sends: it does not take what waits for its identity, and needs no right to. Default true.
   */
  readonly receive?: boolean;
  /** Closes the device when it aborts. */
  readonly signal?: AbortSignal;
  /** Told of each connection that is lost or refused for now, and will be made again, for a log. */
  readonly onReconnect?: (error: DeviceError) => void;
  /**
   * Told when messages wait since the relay takes no more of them for a recipient for now: it has as much waiting from this
   * sender as it may. Others are served meanwhile, and reconnecting changes nothing.
   */
  readonly onHeld?: HeldListener;
  /** Told when the relay takes messages for that recipient again, or none waits any more. */
  readonly onReleased?: HeldListener;
}

/** Options that can be used. */
export interface Settings {
  readonly self: Required<Pick<Address, "identity" | "device">>;
  readonly relay: string;
  readonly transport: TransportName;
  /** Longest message in octets. */
  readonly limit: number;
}

/** @throws DeviceError InvalidOption */
export function settingsOf(options: DeviceOptions): Settings {
  const { identity, device, relay: own } = checked("address", () => parseAddress(options.address));
  if (own !== undefined) {
    const cure = `leave out @${own}, and give it as the option relay`;
    throw new DeviceError("InvalidOption", `address ${options.address} names a relay: ${cure}`);
  }
  if (device === undefined) {
    throw new DeviceError(
      "InvalidOption",
      `address ${options.address} names no device: write ${options.address}/laptop`,
    );
  }
  const relay = options.relay ?? hostOf(options.edge);
  checked("relay", () => relayURL(relay));
  const limit = options.messageLimit ?? MESSAGE_LIMIT;
  if (options.contentLength !== undefined && options.contentLength < 2 * limit) {
    throw new DeviceError(
      "InvalidOption",
      `contentLength ${options.contentLength} must be at least twice messageLimit (${limit}), or a message may never fit`,
    );
  }
  const transport = options.transport ?? (options.edge === undefined ? "tcp" : "longlived");
  return { self: { identity, device }, relay, transport, limit };
}

/** The name that the edge goes by when nobody says otherwise: the host in its URL. */
function hostOf(edge: string | undefined): string {
  if (edge === undefined) throw new DeviceError("InvalidOption", "a relay or an edge is needed: give one of them");
  return URL.canParse(edge) ? new URL(edge).hostname : edge;
}
