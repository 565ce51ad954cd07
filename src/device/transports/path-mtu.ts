/**
 * Detects a path MTU black hole: a link on the path drops full-size packets, and a firewall drops the router's ICMP
 * "packet too big". Connections succeed and small messages pass; then the packets of a large message are lost on every
 * retransmission, until some timeout ends the connection.
 *
 * @module
 */

import { DeviceError } from "../device-error.ts";
import { BLACK_HOLE_STALLS, LARGE_MESSAGE, STALL } from "../limits.ts";

/** Advice for the user. */
export const LOWER_MTU =
  "lower the MTU of this machine's interface or VPN (ip link set dev NAME mtu 1280), or let ICMP packet-too-big through the firewalls";

/** What a connection had achieved when it ended. */
export interface EndedConnection {
  /** Bytes of the longest message partly sent or unacknowledged; 0 if none. */
  readonly stuck: number;
  /** Bytes of the longest message acknowledged since the previous connection ended; 0 if none. */
  readonly arrived: number;
  /** Milliseconds without progress: no acknowledgement, and no bytes of a message sent. */
  readonly still: number;
}

/** Watches the successive connections of a device. */
export class PathMtuWatch {
  /** Consecutive connections on which a large message got stuck. */
  #stalls = 0;

  /** Call when a connection ends. Returns PathMtuBlackHole if that is the likely cause. */
  ended({ stuck, arrived, still }: EndedConnection, why: DeviceError): DeviceError | undefined {
    if (arrived >= LARGE_MESSAGE) this.#stalls = 0;
    if (why.code !== "ConnectFailed" || stuck < LARGE_MESSAGE || still < STALL) return undefined;
    this.#stalls += 1;
    if (this.#stalls < BLACK_HOLE_STALLS) return undefined;
    const found = `on ${this.#stalls} connections in a row small messages got through and one of ${stuck} bytes did not`;
    const text = `large packets are lost in transit (a path MTU black hole): ${found}; ${LOWER_MTU}`;
    return new DeviceError("PathMtuBlackHole", text, { cause: why });
  }
}
