/**
 * Remembers what the way to an edge lets through: how large the bodies of KeepAlive and Polling may be, since some proxies
 * refuse large ones, and others end the connection in the middle; and how long a GET of KeepAlive may be held.
 *
 * @module
 */
import { LONGEST_HOLD, STREAMED_BODY } from "../../encapsulation/index.ts";
import { WAY_LIMIT_TIME, WAY_LIMITS } from "../limits.ts";

export interface WayLimit {
  /** The most to ask for on the way to an edge, given by its origin. */
  limit(origin: string): number;
  /** The way has refused more; from now on ask for at most this. */
  shrink(origin: string, limit: number): void;
}

/** What a way lets through. */
export interface WayLimits {
  /** Bytes of a body. */
  readonly body: WayLimit;
  /** Seconds for which a GET is held. */
  readonly hold: WayLimit;
}

/**
 * Makes a memory that lasts as long as its device. It forgets a limit after an hour: a proxy may be mended.
 *
 * @param network a key of the network that the device is in: each has proxies of its own
 * @param now milliseconds of a monotonic clock
 */
export function wayLimits(network: () => string, now: () => number = () => performance.now()): WayLimits {
  return { body: wayLimit(STREAMED_BODY, network, now), hold: wayLimit(LONGEST_HOLD, network, now) };
}

function wayLimit(most: number, network: () => string, now: () => number): WayLimit {
  const keyOf = (origin: string) => `${network()} ${origin}`;
  const limits = new Map<string, { readonly limit: number; readonly until: number }>();
  return {
    limit(origin) {
      const known = limits.get(keyOf(origin));
      return known === undefined || known.until <= now() ? most : known.limit;
    },
    shrink(origin, limit) {
      // The newest are kept.
      const key = keyOf(origin);
      limits.delete(key);
      limits.set(key, { limit, until: now() + WAY_LIMIT_TIME });
      const [oldest] = limits.keys();
      if (limits.size > WAY_LIMITS && oldest !== undefined) limits.delete(oldest);
    },
  };
}
