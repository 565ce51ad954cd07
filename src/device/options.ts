/**
 * The options of a device, and the settings derived from them.
 *
 * @module
 */
import { SECURE_TUNNEL_PORT } from "../encapsulation/index.ts";
import { type Address, parseAddress, parseRelayName } from "../sstp/index.ts";
import type { Reason } from "../streams/index.ts";
import { DeviceError } from "./device-error.ts";
import { EDGES, MESSAGE_LIMIT } from "./limits.ts";
import { validOption } from "./recipients.ts";
import type { Keyring } from "./streams/keyring.ts";
import type { TokenSource } from "./token-source.ts";
import type { CandidateOptions } from "./transports/candidates.ts";
import type { WayMemory } from "./transports/network-memory.ts";
import type { Proxies } from "./transports/proxy/proxy-settings.ts";
import { edgeRoute } from "./transports/route.ts";
import type { TransportName, Way } from "./transports/transport.ts";

/** Receives a recipient, as given to `send`, and the resource of the waiting messages. */
export type HeldListener = (to: string, resource: string) => void;

/** An edge in a list: its URL, or that and what is for this edge alone. */
export type EdgeOption =
  | string
  | {
      readonly url: string;
      /** Default: the option `token` of the device, unless its `aud` names another edge of the list. */
      readonly token?: TokenSource;
      /** PEM certificates of authorities to trust for this edge, instead of the option `ca` of the device. */
      readonly ca?: string;
    };

/** Options of `Device.connect`. */
export interface DeviceOptions {
  /** This device's address: `identity/device`. */
  readonly address: string;
  /** The relay: `host` or `host:port`, as the edge knows it. Default: the edge itself, by the host name in its URL. */
  readonly relay?: string;
  /**
   * URL of the edge, or a list of up to four edges, the preferred first. Each edge has its own mailboxes: the device
   * receives from all of them, and sends to the first that works. Without an edge it connects to the relay over TCP.
   */
  readonly edge?: string | readonly EdgeOption[];
  /** Default `auto`: the best that works, found anew whenever the network changes. */
  readonly transport?: TransportName | "auto";
  /** Remembers between runs which way works in which network. Default: while the device runs. */
  readonly ways?: WayMemory;
  /**
   * LongLived: bytes that each of its two sessions may carry, at least twice `messageLimit`. Default 90 MiB, and once
   * that is used up 2147479552, where it is accepted.
   */
  readonly contentLength?: number;
  /** Longest message in bytes. Default 16 MiB. */
  readonly messageLimit?: number;
  /**
   * Proxy, or chain of proxies, the nearest first: `http://user:password@proxy.example.com:3128`, `socks5://...`;
   * `pac+http://...`: what that PAC file says; `direct`: none. Or a {@link Proxies}, for more. Default: what the
   * environment or else the operating system says, asked anew for each connection.
   */
  readonly proxy?: string | Proxies;
  /** PEM certificates of the authorities to trust in addition to the system's and Node's. */
  readonly ca?: string;
  /**
   * The operator's token for the edge, or for a relay reached over TCP; or a function that returns one and is called
   * for each new connection.
   */
  readonly token?: TokenSource;
  /** Allows the token to go to any relay over plain TCP. Default false: only to loopback and private addresses. */
  readonly allowPlain?: boolean;
  /**
   * False for a device that only sends: it takes no messages and needs no right to. Any number may run beside a device
   * with the same address. On a relay of an earlier version, or of another make, it replaces that device. "streams" for
   * a device that takes streams, and requests and answers, and leaves messages in its mailbox. Default true.
   */
  readonly receive?: boolean | "streams";
  /** Enables streams: the device's key, and the keys of others that it trusts. */
  readonly keyring?: Keyring;
  /**
   * Leaves streams unsealed, so that the edge can read and change them; devices still prove their keys. A device with the
   * other choice is refused as SuiteRefused, at both ends. Default false.
   */
  readonly plain?: boolean;
  /** How long streams that others have opened outlive their connections, in milliseconds: up to a day. Default 600000. */
  readonly resumeTime?: number;
  /** Called when a device that dials this one is refused, with its address. For logging: anybody can cause it. */
  readonly onStreamsRefused?: (address: string, reason: Reason) => void;
  /**
   * Called with the address of a device that has dialed this one, or sent it a request, and cannot be answered: the relay
   * refuses what goes there (RecipientRefused), most often because this device's token lacks the scope. For logging:
   * anybody who may write to this device can cause it.
   */
  readonly onUnanswered?: (address: string, error: DeviceError) => void;
  /** Closes the device when it aborts. */
  readonly signal?: AbortSignal;
  /** Called for each lost connection, and each refused one that will be retried. For logging. */
  readonly onReconnect?: (error: DeviceError) => void;
  /** Called with the URL of an edge that the device gives up, while there are others. For logging. */
  readonly onEdgeLost?: (edge: string, error: DeviceError) => void;
  /**
   * Called when messages to a recipient start to wait because the relay accepts no more from this sender for now. Other
   * recipients are unaffected, and reconnecting does not help.
   */
  readonly onHeld?: HeldListener;
  /** Called when the relay accepts messages for that recipient again, or none waits any more. */
  readonly onReleased?: HeldListener;
}

/** The options of a device for one of its edges, or for its relay. */
export interface ConnectionOptions extends Omit<DeviceOptions, "edge"> {
  readonly edge?: string;
}

/** Validated options. */
export interface Settings {
  readonly self: Required<Pick<Address, "identity" | "device">>;
  readonly relay: string;
  /** Undefined for the best that works. */
  readonly transport: TransportName | undefined;
  /** Longest message in bytes. */
  readonly limit: number;
}

/**
 * The options for each edge, in order; one without an edge too.
 *
 * @throws DeviceError InvalidOption
 */
export function connectionOptions({
  edge,
  ...options
}: DeviceOptions): readonly [ConnectionOptions, ...ConnectionOptions[]] {
  if (edge === undefined) return [options];
  if (typeof edge === "string") {
    edgeRoute(edge);
    return [{ ...options, edge }];
  }
  const [first, ...others] = edge.map((each) => {
    const { url, token = options.token, ca = options.ca } = typeof each === "string" ? { url: each } : each;
    return { ...options, edge: url, ...(token !== undefined && { token }), ...(ca !== undefined && { ca }) };
  });
  if (first === undefined)
    throw new DeviceError("InvalidOption", "edge is an empty list: name an edge, or leave the option out");
  const problem = listProblem([first, ...others]);
  if (problem !== undefined) throw new DeviceError("InvalidOption", problem);
  return [first, ...others];
}

function listProblem(connections: readonly ConnectionOptions[]): string | undefined {
  if (connections.length > EDGES) return `there are ${connections.length} edges: name at most ${EDGES}`;
  if (connections.length > 1 && connections.some(({ relay }) => relay !== undefined))
    return "a relay has one mailbox for a device, so it cannot be used through several edges: name one edge, or leave out the relay";
  const places = connections.map(({ edge = "" }) => edgeRoute(edge).edge.href.replace(/\/+$/, ""));
  const again = places.findIndex((place, index) => places.indexOf(place) !== index);
  return again < 0 ? undefined : `edge ${again + 1} in the list is listed twice: name it once`;
}

/** @throws DeviceError InvalidOption */
export function settingsOf(options: ConnectionOptions): Settings {
  const { identity, device, relay: own } = validOption("address", parseAddress(options.address));
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
  validOption("relay", parseRelayName(relay));
  const limit = options.messageLimit ?? MESSAGE_LIMIT;
  if (options.contentLength !== undefined && options.contentLength < 2 * limit) {
    throw new DeviceError(
      "InvalidOption",
      `contentLength ${options.contentLength} must be at least twice messageLimit (${limit}), or a message may never fit`,
    );
  }
  const transport = options.transport === "auto" ? undefined : options.transport;
  return { self: { identity, device }, relay, transport, limit };
}

/** Which ways to the relay the options allow. */
export function wayOptions({ edge, relay, allowPlain }: ConnectionOptions): CandidateOptions {
  // Past an edge, the token of the edge would be shown to the relay.
  return { edge, relay: edge === undefined || allowPlain === true ? relay : undefined, allowPlain };
}

/** Whether a way can work. */
export function isUsable({ transport, port }: Way, { edge, relay }: ConnectionOptions): boolean {
  switch (transport) {
    case "websocket":
      // It ends at the edge itself.
      return relay === undefined || (edge !== undefined && relay === hostOf(edge));
    case "tls":
      // A port speaks either TLS or not, and a relay with a port of its own is reached by TCP.
      return port === SECURE_TUNNEL_PORT;
    default:
      return true;
  }
}

/** The default name of the edge: the host in its URL. */
function hostOf(edge: string | undefined): string {
  if (edge === undefined)
    throw new DeviceError("InvalidOption", "neither a relay nor an edge is given: give one of them");
  return URL.canParse(edge) ? new URL(edge).hostname : edge;
}
