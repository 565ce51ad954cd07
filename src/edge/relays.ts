/**
 * Which origin relays may be dialled: the allow list `ORIGIN_RELAYS`, default deny.
 *
 * @module
 */
import { parseRelay, SSTP_PORT } from "../encapsulation/index.ts";
import { AddressError, parseURL, relayURL } from "../sstp/index.ts";

/** Where one origin relay listens. */
export interface RelayEndpoint {
  /** Host name in lower case, IPv4 address, or IPv6 address in brackets. */
  readonly hostname: string;
  readonly port: number;
}

/**
 * The origin relay that `name` stands for, or undefined when the allow list does not hold it. Without a port it
 * listens on SSTP's own, 2492 [MS-GRVSSTP 2.1].
 *
 * @param name Relay-Server-Name of the request [MS-GRVHENC 2.2.1.1.2]
 * @param allowList names with optional ports, parted by commas or blanks; an empty list allows nothing
 *
 * @example
 * allowedRelay("relay.example.com", "relay.example.com, 10.0.0.7:443"); // { hostname: "relay.example.com", port: 2492 }
 */
export function allowedRelay(name: string, allowList: string): RelayEndpoint | undefined {
  const wanted = endpoint(name);
  if (wanted === undefined) return undefined;
  return allowList
    .split(/[\s,]+/)
    .map(endpoint)
    .find((allowed) => allowed?.hostname === wanted.hostname && allowed.port === wanted.port);
}

/**
 * The one URL of an origin relay that the edge may connect to: the name of its mailbox and of the Link to it. Undefined
 * when the allow list does not hold it.
 */
export function remoteRelay(url: string, allowList: string): string | undefined {
  try {
    const named = parseURL(url);
    if (named.kind !== "relay" || allowedRelay(named.relay, allowList) === undefined) return undefined;
    return relayURL(named.relay);
  } catch (error) {
    if (error instanceof AddressError) return undefined;
    throw error;
  }
}

/** Whether a Relay-Server-Name is this edge's own: then the virtual connection ends here. */
export function isOwnName(name: string, env: { readonly RELAY_NAME?: string }): boolean {
  return env.RELAY_NAME !== undefined && env.RELAY_NAME !== "" && name === env.RELAY_NAME.toLowerCase();
}

function endpoint(name: string): RelayEndpoint | undefined {
  const relay = parseRelay(name);
  return relay && { hostname: relay.host, port: relay.port ?? SSTP_PORT };
}
