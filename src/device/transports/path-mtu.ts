/**
 * Finds a path MTU black hole: a way on which some link takes no packets of full size, and the word of the router before
 * it (ICMP "packet too big") is dropped by a firewall. Connections are made and small messages go through; then a large
 * one is sent, its packets are lost however often they are repeated, and the connection ends by somebody's timeout.
 *
 * @module
 */

import { DeviceError } from "../device-error.ts";
import { BLACK_HOLE_STALLS, LARGE_MESSAGE, STALL } from "../limits.ts";

/** What to do about it. */
export const LOWER_MTU =
  "lower the MTU of this machine's interface or VPN (ip link set dev NAME mtu 1280), or let ICMP packet-too-big through the firewalls";

/** What a connection that ends has done for the messages. */
export interface EndedConnection {
  /** Octets of the longest message that was being sent, or sent and not acknowledged; 0 when there was none. */
  readonly stuck: number;
  /** Octets of the longest message that was acknowledged since the connection before it ended; 0 when there was none. */
  readonly arrived: number;
  /** Milliseconds for which nothing has moved: no message was acknowledged, no octet of one was taken. */
  readonly still: number;
}

/** Watches the connections of a device, one after another. */
export class PathMtuWatch {
  /** Connections in a row on which a large message got stuck. */
  #stalls = 0;

  /** A connection has ended: PathMtuBlackHole when that looks like the true reason. */
  ended({ stuck, arrived, still }: EndedConnection, why: DeviceError): DeviceError | undefined {
    if (arrived >= LARGE_MESSAGE) this.#stalls = 0;
    if (why.code !== "ConnectFailed" || stuck < LARGE_MESSAGE || still < STALL) return undefined;
    this.#stalls += 1;
    if (this.#stalls < BLACK_HOLE_STALLS) return undefined;
    const found = `on ${this.#stalls} connections in a row small messages went through, and nothing came of one of ${stuck} octets`;
    const text = `large packets are lost on the way (a path MTU black hole): ${found}; ${LOWER_MTU}`;
    return new DeviceError("PathMtuBlackHole", text, { retryable: true, cause: why });
  }
}
